//! Flags of the commands of the local bridge.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// The commands that edit the configuration file and manage stored credentials.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Bridge {
    /// Create the configuration file, the data directory, the keys and a password, if missing
    Init {
        /// The name of the user of the generated password [default: gateway]
        #[arg(long, env = "MCP_GATEWAY_USERNAME", value_name = "NAME")]
        username: Option<String>,
        /// The files, and the form of the output.
        #[command(flatten)]
        common: CommonFlags,
    },
    /// Add an MCP server: find its authorization server, sign in, store the tokens, write the service
    Add(Box<AddFlags>),
    /// Sign in again at the MCP server of a service
    Login {
        /// The service.
        name: String,
        /// The flags of the sign-in.
        #[command(flatten)]
        login: LoginFlags,
        /// Read an API key from standard input, instead of signing in
        #[arg(long, conflicts_with_all = ["no_browser", "no_device"])]
        key: bool,
        /// The files, and the form of the output.
        #[command(flatten)]
        common: CommonFlags,
    },
    /// Revoke the tokens of a service at its upstream, and remove them; the service stays
    Logout {
        /// The service.
        name: String,
        /// The files, and the form of the output.
        #[command(flatten)]
        common: CommonFlags,
    },
    /// List the configured services
    List {
        /// The files, and the form of the output.
        #[command(flatten)]
        common: CommonFlags,
    },
    /// Show whether the gateway runs, and the state of each stored credential
    Status {
        /// The files, and the form of the output.
        #[command(flatten)]
        common: CommonFlags,
    },
    /// Remove a service from the file; revoke and remove its tokens
    Remove {
        /// The service.
        name: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        /// The files, and the form of the output.
        #[command(flatten)]
        common: CommonFlags,
    },
    /// Refresh the tokens of a service now; sign in again if the upstream refuses
    Refresh {
        /// The service.
        name: String,
        /// The flags of the sign-in, if one is necessary.
        #[command(flatten)]
        login: LoginFlags,
        /// The files, and the form of the output.
        #[command(flatten)]
        common: CommonFlags,
    },
    /// Print shell lines that make programs for the OpenAI and Anthropic APIs use this gateway
    Env {
        /// The files, and the form of the output.
        #[command(flatten)]
        common: CommonFlags,
    },
    /// Manage the local key, with which programs of this machine call the gateway
    LocalKey {
        /// The action.
        #[command(subcommand)]
        action: LocalKey,
    },
}

/// Actions of `local-key`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum LocalKey {
    /// Replace the local key and the adapter key; a running gateway notices within seconds
    Rotate {
        /// The files, and the form of the output.
        #[command(flatten)]
        common: CommonFlags,
    },
}

/// The flags of `add`.
#[derive(Clone, Debug, Args)]
pub struct AddFlags {
    /// The name of the service: 1 to 40 characters of a-z, 0-9 and -
    pub name: String,
    /// The URL of the MCP server
    pub url: String,
    /// The client id at the upstream; without it, the gateway registers itself
    #[arg(long, value_name = "ID")]
    pub client_id: Option<String>,
    /// The file with the client secret
    #[arg(long, value_name = "FILE", requires = "client_id")]
    pub client_secret_file: Option<PathBuf>,
    /// Scopes to request, separated by spaces [default: the scopes that the upstream names]
    #[arg(long, value_name = "SCOPES")]
    pub scopes: Option<String>,
    /// A header for every forwarded request; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE")]
    pub headers: Vec<String>,
    /// Read an API key from standard input, instead of signing in
    #[arg(long, conflicts_with_all = ["client_id", "scopes", "no_browser", "no_device"])]
    pub key: bool,
    /// The rule for tool calls: sets `default` in the table `tools`
    #[arg(long, value_enum)]
    pub policy: Option<PolicyChoice>,
    /// Replace a service of the same name without asking
    #[arg(long)]
    pub replace: bool,
    /// The flags of the sign-in.
    #[command(flatten)]
    pub login: LoginFlags,
    /// The files, and the form of the output.
    #[command(flatten)]
    pub common: CommonFlags,
}

/// The flags of a sign-in at an upstream.
#[derive(Clone, Debug, Args)]
pub struct LoginFlags {
    /// Open no browser: print the address, and read the address of the last page from standard input
    #[arg(long)]
    pub no_browser: bool,
    /// Do not use the device flow, even if the upstream offers it
    #[arg(long)]
    pub no_device: bool,
    /// The timeout of the sign-in, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub timeout: u64,
}

/// The flags that all these commands have: the files, and the form of the output.
#[derive(Clone, Debug, Args)]
pub struct CommonFlags {
    /// The configuration file [default: $XDG_CONFIG_HOME/mcp-oauth-gateway/gateway.toml]
    #[arg(long, env = "MCP_GATEWAY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One directory for the configuration file (gateway.toml) and the data
    #[arg(long, env = "MCP_GATEWAY_CONFIG_DIR", value_name = "DIR")]
    pub config_dir: Option<PathBuf>,
    /// The directory for keys, certificates and the store
    #[arg(long, env = "MCP_GATEWAY_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Print JSON, one object on each line
    #[arg(long)]
    pub json: bool,
}

/// The values of `--policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PolicyChoice {
    /// Every tool may be called
    Allow,
    /// A person decides about each call
    Ask,
    /// No tool may be called
    Deny,
}

impl PolicyChoice {
    /// The value in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
        }
    }
}
