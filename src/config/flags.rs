//! The flags and variables, with the names of the first dual-token gateway where it had them.

use std::path::PathBuf;

use clap::{Arg, Args, Parser, ValueEnum};

/// An OAuth 2.1 gateway for MCP: clients sign in here, the gateway signs in upstream.
#[derive(Debug, Parser)]
#[command(name = "mcp-oauth-gateway", version, about, args_conflicts_with_subcommands = true)]
pub struct Command {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub other: Option<Subcommand>,
    /// How to serve.
    #[command(flatten)]
    pub serve: Serve,
}

/// What can be done besides serving.
#[derive(Debug, clap::Subcommand)]
pub enum Subcommand {
    /// Print the state machines as a Mermaid diagram
    Flow,
    /// The keys that seal tokens and records
    #[command(mut_args(global))]
    Keyring {
        /// What to do with them.
        #[command(subcommand)]
        action: Keyring,
        /// Where they are.
        #[command(flatten)]
        kept: StorageFlags,
    },
    /// Look whether the configuration is good and the upstreams answer, and say what to register where; serve nothing
    Check {
        /// How it would serve.
        #[command(flatten)]
        serve: Box<Serve>,
        /// Ask no upstream
        #[arg(long)]
        offline: bool,
    },
    /// The API keys of callers that cannot sign in, for services with access = "key"; works while the gateway runs
    #[command(mut_args(global))]
    ApiKeys {
        /// What to do with them.
        #[command(subcommand)]
        action: ApiKeys,
        /// Where they are.
        #[command(flatten)]
        kept: StorageFlags,
    },
    /// Everything that the gateway has kept, as it lies sealed: from one kind of store to another, or to a backup
    #[command(mut_args(global))]
    Store {
        /// What to do with it.
        #[command(subcommand)]
        action: StoreCommand,
        /// Where it is.
        #[command(flatten)]
        kept: StorageFlags,
    },
    /// Ask the gateway on this machine whether it is ready, over http or https; exit status 0 if it is
    ///
    /// It asks on loopback, or at the address of this machine that the file says, in http, and in https if that is what is
    /// spoken there. Any certificate will do: nothing secret is sent, and the answer is only the exit status.
    Healthcheck {
        /// The gateway's configuration file, which says where it listens
        #[arg(long, env = "MCP_GATEWAY_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        /// The port of this machine on which it listens, whatever the file says [default: 8002]
        #[arg(long, env = "MCP_GATEWAY_PORT")]
        port: Option<u16>,
    },
}

/// What can be done with keys.
#[derive(Clone, Copy, Debug, clap::Subcommand)]
pub enum Keyring {
    /// Show each key's name and since when it seals
    List,
    /// Add a key; it opens at once and seals after five minutes, and nobody is signed out
    Rotate,
}

/// What can be done with API keys.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ApiKeys {
    /// Make a key, and print it once; everything else is said on standard error
    Add {
        /// The service that it opens
        service: String,
        /// A scope that it has there; may be given again
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// Who uses it; made up when left out
        #[arg(long)]
        name: Option<String>,
        /// After so many days it ends; never when left out
        #[arg(long, value_name = "DAYS", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        expires: Option<u32>,
    },
    /// Show all keys, and whether each works; never the keys themselves
    List,
    /// Take a key back: it is refused everywhere within two seconds
    Revoke {
        /// What `list` calls it
        id: String,
    },
}

/// What can be done with everything.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum StoreCommand {
    /// Write all records to standard output; worth nothing without the keys, which are not among them
    ///
    /// Works while the gateway runs, but misses what is written meanwhile: to move for good, stop the gateway first.
    Export,
    /// Put all records of an export, read from standard input, where there are none; what is there stays as it is
    ///
    /// With the keys of the gateway that the export is from: its keys.json, or its MCP_GATEWAY_KEY.
    Import,
}

/// Where keys and records are: the same flags for every command that opens them.
#[derive(Clone, Debug, Args)]
pub struct StorageFlags {
    /// A configuration file (TOML) instead of flags, for several services; a gateway that runs reads it again on SIGHUP
    #[arg(long, env = "MCP_GATEWAY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where sign-ins and registrations are kept [default: sqlite]
    #[arg(long, env = "MCP_GATEWAY_STORE", value_enum)]
    pub store: Option<StoreKind>,
    /// The Redis of --store redis: redis://, rediss://, redis+unix://, redis-sentinel:// or
    /// redis-cluster:// (better in the variable: flags are visible in the process list)
    #[arg(long, env = "MCP_GATEWAY_REDIS_URL", hide_env_values = true, value_name = "URL")]
    pub redis_url: Option<String>,
    /// What every key of ours in Redis begins with [default: mcp-gateway]
    #[arg(long, env = "MCP_GATEWAY_REDIS_PREFIX", value_name = "PREFIX")]
    pub redis_prefix: Option<String>,
    /// The CA to trust when connecting to Redis (PEM), instead of the machine's
    #[arg(long, env = "MCP_GATEWAY_REDIS_CA", value_name = "FILE")]
    pub redis_ca: Option<PathBuf>,
    /// A key file that every instance gets, instead of the one in the data directory; read again when it changes
    #[arg(long, env = "MCP_GATEWAY_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Where keys, certificates and the store are kept
    #[arg(long, env = "MCP_GATEWAY_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// A flag that may stand before and after the word that says what to do.
fn global(flag: Arg) -> Arg {
    flag.global(true)
}

/// Serving.
#[derive(Clone, Debug, Args)]
pub struct Serve {
    /// Where everything is kept.
    #[command(flatten)]
    pub kept: StorageFlags,
    /// The upstream MCP server, for instance https://api.githubcopilot.com/mcp/
    #[arg(long, env = "MCP_GATEWAY_UPSTREAM_RS", value_name = "URL")]
    pub upstream_rs: Option<String>,
    /// The upstream's authorization server; discovered when left out
    #[arg(long, env = "MCP_GATEWAY_UPSTREAM_AS", value_name = "URL")]
    pub upstream_as: Option<String>,
    /// Our client id at the upstream; when left out we register there by ourselves
    #[arg(long, env = "MCP_GATEWAY_UPSTREAM_CLIENT_ID", value_name = "ID")]
    pub upstream_client_id: Option<String>,
    /// Our client secret at the upstream (better in the variable: flags are visible in the process list)
    #[arg(long, env = "MCP_GATEWAY_UPSTREAM_CLIENT_SECRET", value_name = "SECRET", hide_env_values = true)]
    pub upstream_client_secret: Option<String>,
    /// The upstream's authorization endpoint, when discovery cannot work; needs --upstream-token-endpoint
    #[arg(long, env = "MCP_GATEWAY_UPSTREAM_AUTHORIZE_ENDPOINT", value_name = "URL")]
    pub upstream_authorize_endpoint: Option<String>,
    /// The upstream's token endpoint; needs --upstream-authorize-endpoint
    #[arg(long, env = "MCP_GATEWAY_UPSTREAM_TOKEN_ENDPOINT", value_name = "URL")]
    pub upstream_token_endpoint: Option<String>,
    /// Scopes to ask of the upstream, space-separated; what it says it needs when left out
    #[arg(long, env = "MCP_GATEWAY_UPSTREAM_SCOPES", value_name = "SCOPES")]
    pub upstream_scopes: Option<String>,
    /// The address to listen on; localhost, which holds where this is left out, listens on 127.0.0.1 and ::1
    #[arg(long, env = "MCP_GATEWAY_HOST")]
    pub host: Option<String>,
    /// The port to listen on [default: 8002]
    #[arg(long, env = "MCP_GATEWAY_PORT")]
    pub port: Option<u16>,
    /// The address that clients use; every link is made from it
    #[arg(long, env = "MCP_GATEWAY_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// Further hosts under which clients may call us (host or host:port), comma-separated
    #[arg(long, env = "MCP_GATEWAY_ALLOWED_HOSTS", value_delimiter = ',', value_name = "HOST")]
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages that may call the MCP endpoint, comma-separated
    #[arg(long, env = "MCP_GATEWAY_CORS_ORIGINS", value_delimiter = ',', value_name = "ORIGIN")]
    pub cors_origins: Vec<String>,
    /// Proxies in front of us whose X-Forwarded-For or Forwarded header is believed, for limits only: addresses or
    /// networks like 10.0.0.0/8, comma-separated
    #[arg(long, env = "MCP_GATEWAY_TRUSTED_PROXIES", value_delimiter = ',', value_name = "NETWORK")]
    pub trusted_proxies: Vec<String>,
    /// How tokens are protected [default: sealed]
    #[arg(long, env = "MCP_GATEWAY_TOKEN_MODE", value_enum)]
    pub token_mode: Option<TokenMode>,
    /// Allow tokens in which the client can read the upstream's token (--token-mode plain)
    #[arg(long, env = "MCP_GATEWAY_ALLOW_TOKEN_PASSTHROUGH")]
    pub allow_token_passthrough: bool,
    /// How long an access token of ours lives at most, in seconds [default: 3600]
    #[arg(long, env = "MCP_GATEWAY_ACCESS_TTL", value_name = "SECONDS")]
    pub access_ttl: Option<u64>,
    /// How long an unused refresh token lives, in seconds [default: 2592000]
    #[arg(long, env = "MCP_GATEWAY_REFRESH_TTL", value_name = "SECONDS")]
    pub refresh_ttl: Option<u64>,
    /// How long a refresh token that was rotated away still works, in seconds; with 0 only while its successor has not been used [default: 7200]
    #[arg(long, env = "MCP_GATEWAY_REFRESH_GRACE", value_name = "SECONDS")]
    pub refresh_grace: Option<u64>,
    /// Serve https with a certificate of our own making
    #[arg(long, env = "MCP_GATEWAY_TLS", value_enum)]
    pub tls: Option<Tls>,
    /// Serve https with this certificate chain (PEM); read again when it changes
    #[arg(
        long,
        env = "MCP_GATEWAY_TLS_CERT",
        requires = "tls_key",
        conflicts_with = "tls",
        value_name = "FILE"
    )]
    pub tls_cert: Option<PathBuf>,
    /// The key of --tls-cert (PEM)
    #[arg(long, env = "MCP_GATEWAY_TLS_KEY", requires = "tls_cert", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// A further CA to trust when calling the upstream (PEM)
    #[arg(long, env = "MCP_GATEWAY_UPSTREAM_CA", value_name = "FILE")]
    pub upstream_ca: Vec<PathBuf>,
    /// Listen beyond this machine without TLS, because something in front of us does it
    #[arg(long, env = "MCP_GATEWAY_INSECURE_HTTP")]
    pub insecure_http: bool,
    /// The user who may sign in [default: gateway]
    #[arg(long, env = "MCP_GATEWAY_USERNAME", value_name = "NAME")]
    pub username: Option<String>,
    /// How much to say [default: info]
    #[arg(long, env = "MCP_GATEWAY_LOG", value_parser = ["error", "warn", "info", "debug", "trace"])]
    pub log: Option<String>,
}

/// `--token-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TokenMode {
    /// Nobody but the gateway can read the upstream's token
    Sealed,
    /// The client can read the upstream's token; for old set-ups
    Plain,
}

/// `--store`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StoreKind {
    /// Lost at a restart
    Memory,
    /// A file in the data directory
    Sqlite,
    /// A Redis that several instances may share; needs --redis-url and keys given by you
    #[cfg_attr(not(feature = "redis"), value(skip))]
    Redis,
    /// Nothing is kept: sign-ins travel sealed, and any instance with your keys can take any step
    None,
}

/// `--tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tls {
    /// A CA and a certificate of our own making, kept in the data directory
    SelfSigned,
}
