//! Flags of `doctor`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::config::bridge_flags::PlaceFlags;

/// What to examine, and how to print.
#[derive(Clone, Debug, Args)]
pub struct DoctorFlags {
    /// The MCP server, ours or not; without it, the services of the configuration file are examined at
    /// their public URLs, with what is in between
    pub url: Option<String>,
    /// Where the configuration file is, and how to print.
    #[command(flatten)]
    pub place: PlaceFlags,
    /// Play only this client; may be repeated
    #[arg(long = "client", value_name = "NAME")]
    pub clients: Vec<String>,
    /// List the known clients, and where it is written what they do
    #[arg(long, conflicts_with_all = ["url", "clients", "register"])]
    pub list_clients: bool,
    /// Register the first client that has to register, and go on to the sign-in page
    ///
    /// The registration remains at the server. At the services of the configuration file, clients
    /// register without this flag: the gateway does not store registrations.
    #[arg(long)]
    pub register: bool,
    /// Register nothing; the default for a URL
    #[arg(long, conflicts_with = "register")]
    pub no_register: bool,
    /// What the server is meant to be
    #[arg(long, value_enum, default_value = "any")]
    pub intent: Intent,
    /// A further CA (PEM) to trust
    #[arg(long, value_name = "FILE")]
    pub ca: Vec<PathBuf>,
}

/// The values of `--intent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Intent {
    /// Whatever it seems to be
    Any,
    /// Users sign in: missing metadata is an error
    Oauth,
    /// Callers bring a key: what is left of metadata on the host is not looked at
    Key,
}
