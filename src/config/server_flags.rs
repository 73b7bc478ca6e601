//! Flags of the commands for MCP servers that the gateway does not proxy.

use clap::builder::RangedU64ValueParser;

/// Actions of `servers`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Servers {
    /// List the servers of the configuration file and of the management API
    List {
        /// Print JSON, one object on each line
        #[arg(long)]
        json: bool,
    },
    /// Show one server: the settings that its owner needs
    Show {
        /// The name that `list` shows
        service: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Register a server, as the management API does; a gateway that runs serves it within two seconds
    Add(NewServer),
    /// Remove a registered server: its keys and tokens are refused within two seconds
    Remove {
        /// The id, `srv_…`
        server: String,
    },
    /// Manage the keys with which servers introspect tokens, even while the gateway runs
    #[command(subcommand)]
    Keys(ServerKeys),
}

/// Actions of `servers keys`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ServerKeys {
    /// Create a key and print it once; all other output goes to standard error
    Add {
        /// The name of the server's service
        service: String,
        /// The properties of the key.
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
    /// Create a key and print it once; all other output goes to standard error
    Add {
        /// The owner; the key manages only the servers of this owner
        #[arg(long, conflicts_with = "all", required_unless_present = "all")]
        owner: Option<String>,
        /// The key manages the servers of every owner
        #[arg(long)]
        all: bool,
        /// The properties of the key.
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

/// The properties of a new server.
#[derive(Clone, Debug, clap::Args)]
pub struct NewServer {
    /// The URL that clients use, which is the audience of the tokens
    pub url: String,
    /// The name that users see
    #[arg(long)]
    pub name: String,
    /// A description, for owners only
    #[arg(long)]
    pub description: Option<String>,
    /// A scope that clients may request; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    pub scopes: Vec<String>,
    /// The owner of the server, for the management API [default: operator]
    #[arg(long)]
    pub owner: Option<String>,
    /// Issue tokens that only the gateway can read, instead of JWTs
    #[arg(long)]
    pub opaque: bool,
    /// Print the id as JSON
    #[arg(long)]
    pub json: bool,
}

/// The properties of a new key.
#[derive(Clone, Debug, clap::Args)]
pub struct NewKey {
    /// The name of the key [default: key- and the date]
    #[arg(long)]
    pub name: Option<String>,
    /// The lifetime of the key in days; without it, the key does not expire
    #[arg(long, value_name = "DAYS", allow_negative_numbers = true, value_parser = RangedU64ValueParser::<u32>::new().range(1..=36_500))]
    pub expires: Option<u32>,
    /// Print id and key as JSON
    #[arg(long)]
    pub json: bool,
}
