//! Flags of the commands that set up the gateway on one's own machine.

use std::path::PathBuf;

use clap::Args;

/// The commands that edit the configuration file and manage stored credentials.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Bridge {
    /// Create the configuration file, the data directory, the keys and a password, if missing
    Init {
        /// The name of the user of the generated password [default: gateway]
        #[arg(long, env = "MCP_GATEWAY_USERNAME", value_name = "NAME")]
        username: Option<String>,
        /// Where the files are.
        #[command(flatten)]
        place: PlaceFlags,
    },
    /// List the configured services
    List {
        /// Where the files are.
        #[command(flatten)]
        place: PlaceFlags,
    },
}

/// Where the configuration file and the data are, and how to print.
#[derive(Clone, Debug, Args)]
pub struct PlaceFlags {
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
