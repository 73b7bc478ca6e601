//! Flags of the commands for MCP servers that the gateway does not proxy.

use clap::builder::RangedU64ValueParser;

/// Actions of `servers`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Servers {
    /// List the servers of the configuration file
    List {
        /// Print JSON, one object on each line
        #[arg(long)]
        json: bool,
    },
    /// Show one server: what its owner configures there
    Show {
        /// The name that `list` shows
        service: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Manage the keys with which servers introspect tokens, also while the gateway runs
    #[command(subcommand)]
    Keys(ServerKeys),
}

/// Actions of `servers keys`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ServerKeys {
    /// Make a key and print it once; all other output goes to standard error
    Add {
        /// The service that the server is
        service: String,
        /// The key.
        #[command(flatten)]
        key: NewKey,
    },
    /// List keys and their states, but never the keys themselves
    List {
        /// The service; without it, all
        service: Option<String>,
        /// Print JSON, one object on each line
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key: the next request with it is refused
    Revoke {
        /// The id that `list` shows
        id: String,
    },
}

/// Actions of `admin-keys`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum AdminKeys {
    /// Make a key and print it once; all other output goes to standard error
    Add {
        /// The owner, who manages only servers of this name
        #[arg(long, conflicts_with = "all", required_unless_present = "all")]
        owner: Option<String>,
        /// The key manages the servers of every owner
        #[arg(long)]
        all: bool,
        /// The key.
        #[command(flatten)]
        key: NewKey,
    },
    /// List keys and their states, but never the keys themselves
    List {
        /// Print JSON, one object on each line
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key: the next request with it is refused
    Revoke {
        /// The id that `list` shows
        id: String,
    },
}

/// What a new key has.
#[derive(Clone, Debug, clap::Args)]
pub struct NewKey {
    /// The name of the key; made up if left out
    #[arg(long)]
    pub name: Option<String>,
    /// The life of the key in days; without it the key does not expire
    #[arg(long, value_name = "DAYS", allow_negative_numbers = true, value_parser = RangedU64ValueParser::<u32>::new().range(1..=36_500))]
    pub expires: Option<u32>,
    /// Print id and key as JSON
    #[arg(long)]
    pub json: bool,
}
