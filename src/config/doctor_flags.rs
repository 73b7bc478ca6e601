//! Flags of `doctor`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::config::bridge_flags::CommonFlags;

/// The server to examine, and how to examine it.
#[derive(Clone, Debug, Args)]
pub struct DoctorFlags {
    /// The URL of an MCP server; without it, the services of the configuration file are examined at
    /// their public URLs, through any reverse proxy
    pub url: Option<String>,
    /// The configuration file, and the form of the output.
    #[command(flatten)]
    pub common: CommonFlags,
    /// Simulate only this client; may be repeated
    #[arg(long = "client", value_name = "NAME")]
    pub clients: Vec<String>,
    /// List the known clients, with the sources of their behaviour
    #[arg(long, conflicts_with_all = ["url", "clients", "register"])]
    pub list_clients: bool,
    /// Register the first client that must register, and continue to the sign-in page
    ///
    /// The registration remains at the server. At the services of the configuration file, clients
    /// register without this flag: the gateway does not store registrations.
    #[arg(long)]
    pub register: bool,
    /// Register nothing; the default for a URL
    #[arg(long, conflicts_with = "register")]
    pub no_register: bool,
    /// The expected kind of access
    #[arg(long, value_enum, default_value = "any")]
    pub intent: Intent,
    /// A further CA (PEM) to trust
    #[arg(long, value_name = "FILE")]
    pub ca: Vec<PathBuf>,
}

/// The values of `--intent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Intent {
    /// The kind that the server shows
    Any,
    /// Users sign in: missing metadata is an error
    Oauth,
    /// Callers send a key: OAuth metadata on the host is ignored
    Key,
}
