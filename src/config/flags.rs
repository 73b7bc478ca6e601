//! Flags and variables, with the dual-token gateway's names (`docs/coming-from.md`).

use std::path::PathBuf;

use clap::{Arg, Args, Parser, ValueEnum};

use crate::config::api_key_flags::ApiKeys;
use crate::config::approval_flags::ApprovalCommand;
use crate::config::bridge_flags::Bridge;
use crate::config::doctor_flags::DoctorFlags;
use crate::config::server_flags::{AdminKeys, Servers};
use crate::config::storage_flags::StorageFlags;

/// An OAuth 2.1 gateway for MCP: clients sign in here, the gateway signs in upstream.
#[derive(Debug, Parser)]
#[command(name = "mcp-oauth-gateway", version, about, args_conflicts_with_subcommands = true)]
pub struct Command {
    /// A command other than serving.
    #[command(subcommand)]
    pub other: Option<Subcommand>,
    /// The flags for serving.
    #[command(flatten)]
    pub serve: Serve,
}

/// The commands other than serving.
#[derive(Debug, clap::Subcommand)]
pub enum Subcommand {
    /// Serve, with the configuration file of `init` unless another one is named
    Start {
        /// The flags for serving.
        #[command(flatten)]
        serve: Box<Serve>,
    },
    /// The commands for one's own machine.
    #[command(flatten)]
    Bridge(Bridge),
    /// Play known MCP clients at a server, up to the sign-in page, and say what each would refuse
    ///
    /// Sends no credential, and registers nothing without a flag. Exit status 0: no problem; 1: something
    /// must be mended; 2: the server could not be tried.
    Doctor(Box<DoctorFlags>),
    /// Print the state machines as a Mermaid diagram
    Flow,
    /// Manage the keys that encrypt tokens and records
    #[command(mut_args(global))]
    Keyring {
        /// The action.
        #[command(subcommand)]
        action: Keyring,
        /// The storage of the keys.
        #[command(flatten)]
        storage: StorageFlags,
    },
    /// Check configuration and upstreams, and print which callback URLs to register; does not serve
    Check {
        /// The flags that the gateway has when it serves.
        #[command(flatten)]
        serve: Box<Serve>,
        /// Send no request to an upstream
        #[arg(long)]
        offline: bool,
    },
    /// Manage API keys for services with access = "key", also while the gateway runs
    #[command(mut_args(global))]
    ApiKeys {
        /// The action.
        #[command(subcommand)]
        action: ApiKeys,
        /// The storage of the keys.
        #[command(flatten)]
        storage: StorageFlags,
    },
    /// Manage MCP servers that the gateway does not proxy (access = "introspect")
    #[command(mut_args(global))]
    Servers {
        /// The action.
        #[command(subcommand)]
        action: Servers,
        /// The storage of the keys.
        #[command(flatten)]
        storage: StorageFlags,
    },
    /// Manage the keys of programs that use the management API
    #[command(mut_args(global))]
    AdminKeys {
        /// The action.
        #[command(subcommand)]
        action: AdminKeys,
        /// The storage of the keys.
        #[command(flatten)]
        storage: StorageFlags,
    },
    /// List, show and end grants: who gave which client access to which service
    ///
    /// Works while the gateway runs, with every store except `memory` and `none`.
    #[command(mut_args(global))]
    Grants {
        /// The action.
        #[command(subcommand)]
        action: Grants,
        /// The storage of the grants.
        #[command(flatten)]
        storage: StorageFlags,
    },
    /// The commands for tool calls and tool definitions.
    #[command(flatten)]
    Approvals(ApprovalCommand),
    /// List the users who have grants
    #[command(mut_args(global))]
    Users {
        /// The action.
        #[command(subcommand)]
        action: Users,
        /// The storage of the grants.
        #[command(flatten)]
        storage: StorageFlags,
    },
    /// Check an audit log: whether a record was changed, removed or inserted
    Audit {
        /// The action.
        #[command(subcommand)]
        action: Audit,
    },
    /// Export or import all records, still encrypted: to move to another store, or for a backup
    #[command(mut_args(global))]
    Store {
        /// The action.
        #[command(subcommand)]
        action: StoreCommand,
        /// The storage.
        #[command(flatten)]
        storage: StorageFlags,
    },
    /// Check whether the gateway on this machine is ready; exit status 0 if it is
    ///
    /// Sends a request to loopback, or to the listen address in the file, by http or https as the
    /// gateway serves. Accepts any certificate, because it sends no secret.
    Healthcheck {
        /// The gateway's configuration file, for its listen addresses
        #[arg(long, env = "MCP_GATEWAY_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        /// The port of the gateway on this machine; overrides the file [default: 8002]
        #[arg(long, env = "MCP_GATEWAY_PORT")]
        port: Option<u16>,
    },
}

/// Actions of `keyring`.
#[derive(Clone, Copy, Debug, clap::Subcommand)]
pub enum Keyring {
    /// List the keys, and whether each encrypts yet
    List,
    /// Add a key; it decrypts immediately and encrypts after five minutes; no user is signed out
    Rotate,
    /// Lock the key file by a passphrase from standard input; an empty line removes the lock
    Passphrase,
}

/// Actions of `grants`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Grants {
    /// List grants, the oldest first
    List {
        /// The selection of grants.
        #[command(flatten)]
        filter: GrantFilter,
        /// Print JSON, one object on each line
        #[arg(long)]
        json: bool,
    },
    /// Show one grant, with the branches of its refresh token
    Show {
        /// The id that `list` or the log shows
        id: String,
        /// Print JSON, one object on each line
        #[arg(long)]
        json: bool,
    },
    /// End grants: every process refuses their tokens within two seconds
    ///
    /// The user must sign in again. The upstream is not notified: revoke the gateway's access there too
    /// if the upstream's own token may have leaked.
    End {
        /// The ids that `list` or the log shows
        #[arg(value_name = "ID")]
        ids: Vec<String>,
        /// The same as a flag; may be repeated
        #[arg(long = "id", value_name = "ID")]
        more_ids: Vec<String>,
        /// The selection of grants, instead of ids or in addition to them.
        #[command(flatten)]
        filter: GrantFilter,
        /// End all grants
        #[arg(long, conflicts_with_all = ["ids", "more_ids", "user", "client", "service"])]
        all: bool,
        /// Print JSON, one object on each line
        #[arg(long)]
        json: bool,
    },
}

/// A selection of grants. All conditions must hold.
#[derive(Clone, Debug, Args)]
pub struct GrantFilter {
    /// Only grants of this user: a user name, `provider:id`, or an e-mail address
    #[arg(long)]
    pub user: Option<String>,
    /// Only grants for this client: its id or its name
    #[arg(long)]
    pub client: Option<String>,
    /// Only grants at this service
    #[arg(long)]
    pub service: Option<String>,
}

/// Actions of `users`.
#[derive(Clone, Copy, Debug, clap::Subcommand)]
pub enum Users {
    /// List the users who have grants, with the number of their grants
    List {
        /// Print JSON, one object on each line
        #[arg(long)]
        json: bool,
    },
}

/// Actions of `audit`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Audit {
    /// Check the chain of digests; exit status 0 if it is whole
    Verify {
        /// The files in the order in which they were written
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

/// Actions of `store`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum StoreCommand {
    /// Write all records to standard output; useless without the keys, which are not included
    ///
    /// Works while the gateway runs, but misses later writes; to move the store, stop it first.
    Export,
    /// Add the records of an export from standard input that the store does not have
    ///
    /// Needs the keys of the exporting gateway: its keys.json, or its MCP_GATEWAY_KEY.
    Import,
}

/// Accepts a flag before and after the action.
fn global(flag: Arg) -> Arg {
    flag.global(true)
}

/// The flags for serving.
#[derive(Clone, Debug, Args)]
pub struct Serve {
    /// The store and the keys.
    #[command(flatten)]
    pub storage: StorageFlags,
    /// The upstream MCP server, for instance https://api.githubcopilot.com/mcp/
    #[arg(long, env = "MCP_GATEWAY_UPSTREAM_RS", value_name = "URL")]
    pub upstream_rs: Option<String>,
    /// The upstream's authorization server; discovered if left out
    #[arg(long, env = "MCP_GATEWAY_UPSTREAM_AS", value_name = "URL")]
    pub upstream_as: Option<String>,
    /// The gateway's client id at the upstream; if left out, the gateway registers itself
    #[arg(long, env = "MCP_GATEWAY_UPSTREAM_CLIENT_ID", value_name = "ID")]
    pub upstream_client_id: Option<String>,
    /// The gateway's client secret there (better in the variable: the process list shows flags)
    #[arg(long, env = "MCP_GATEWAY_UPSTREAM_CLIENT_SECRET", value_name = "SECRET", hide_env_values = true)]
    pub upstream_client_secret: Option<String>,
    /// The upstream's authorization endpoint, if not discoverable; needs --upstream-token-endpoint
    #[arg(long, env = "MCP_GATEWAY_UPSTREAM_AUTHORIZE_ENDPOINT", value_name = "URL")]
    pub upstream_authorize_endpoint: Option<String>,
    /// The upstream's token endpoint; needs --upstream-authorize-endpoint
    #[arg(long, env = "MCP_GATEWAY_UPSTREAM_TOKEN_ENDPOINT", value_name = "URL")]
    pub upstream_token_endpoint: Option<String>,
    /// Scopes to request, space-separated; by default those that the upstream names
    #[arg(long, env = "MCP_GATEWAY_UPSTREAM_SCOPES", value_name = "SCOPES")]
    pub upstream_scopes: Option<String>,
    /// The address to listen on; localhost is 127.0.0.1 and ::1 [default: localhost]
    #[arg(long, env = "MCP_GATEWAY_HOST")]
    pub host: Option<String>,
    /// The port to listen on [default: 8002]
    #[arg(long, env = "MCP_GATEWAY_PORT")]
    pub port: Option<u16>,
    /// The address that clients use; the base of every link
    #[arg(long, env = "MCP_GATEWAY_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// Further host names of the gateway (host or host:port), comma-separated
    #[arg(long, env = "MCP_GATEWAY_ALLOWED_HOSTS", value_delimiter = ',', value_name = "HOST")]
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages that may call the MCP endpoint, comma-separated
    #[arg(long, env = "MCP_GATEWAY_CORS_ORIGINS", value_delimiter = ',', value_name = "ORIGIN")]
    pub cors_origins: Vec<String>,
    /// Whether a client id may be the URL of a metadata document, which the gateway fetches
    /// [default: true]
    #[arg(long, env = "MCP_GATEWAY_CLIENT_DOCUMENTS", value_name = "BOOL")]
    pub client_documents: Option<bool>,
    /// Proxies whose X-Forwarded-For or Forwarded header is believed, for limits only: addresses or
    /// networks like 10.0.0.0/8, comma-separated
    #[arg(long, env = "MCP_GATEWAY_TRUSTED_PROXIES", value_delimiter = ',', value_name = "NETWORK")]
    pub trusted_proxies: Vec<String>,
    /// The protection of tokens [default: sealed]
    #[arg(long, env = "MCP_GATEWAY_TOKEN_MODE", value_enum)]
    pub token_mode: Option<TokenMode>,
    /// Allow tokens in which the client can read the upstream's token (--token-mode plain)
    #[arg(long, env = "MCP_GATEWAY_ALLOW_TOKEN_PASSTHROUGH")]
    pub allow_token_passthrough: bool,
    /// The longest life of an access token, in seconds [default: 3600]
    #[arg(long, env = "MCP_GATEWAY_ACCESS_TTL", value_name = "SECONDS")]
    pub access_ttl: Option<u64>,
    /// The life of an unused refresh token, in seconds [default: 2592000]
    #[arg(long, env = "MCP_GATEWAY_REFRESH_TTL", value_name = "SECONDS")]
    pub refresh_ttl: Option<u64>,
    /// Seconds a superseded refresh token works; 0: only if the response with its successor was lost
    /// [default: 7200 for native clients, 60 for others]
    #[arg(long, env = "MCP_GATEWAY_REFRESH_GRACE", value_name = "SECONDS")]
    pub refresh_grace: Option<u64>,
    /// Seconds for which two holders of one grant's tokens may both refresh; 0: no limit
    /// [default: 2592000; 0 where the public URL is loopback]
    #[arg(long, env = "MCP_GATEWAY_PARALLEL_LIMIT", value_name = "SECONDS")]
    pub parallel_limit: Option<u64>,
    /// Serve https with a certificate that the gateway makes
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
    /// The private key of --tls-cert (PEM)
    #[arg(long, env = "MCP_GATEWAY_TLS_KEY", requires = "tls_cert", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// A further CA (PEM) to trust for calls to the upstream
    #[arg(long, env = "MCP_GATEWAY_UPSTREAM_CA", value_name = "FILE")]
    pub upstream_ca: Vec<PathBuf>,
    /// Listen beyond this machine without TLS, because a proxy in front does it
    #[arg(long, env = "MCP_GATEWAY_INSECURE_HTTP")]
    pub insecure_http: bool,
    /// The user who may sign in [default: gateway]
    #[arg(long, env = "MCP_GATEWAY_USERNAME", value_name = "NAME")]
    pub username: Option<String>,
    /// Write an audit log to this file, as JSON lines; - for standard output
    #[arg(long, env = "MCP_GATEWAY_AUDIT_LOG", value_name = "FILE")]
    pub audit_log: Option<PathBuf>,
    /// Write the audit log to standard output, also beside a file
    #[arg(long, env = "MCP_GATEWAY_AUDIT_STDOUT")]
    pub audit_stdout: bool,
    /// The log level [default: info]
    #[arg(long, env = "MCP_GATEWAY_LOG", value_parser = ["error", "warn", "info", "debug", "trace"])]
    pub log: Option<String>,
}

/// The values of `--token-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TokenMode {
    /// Only the gateway can read the upstream's token
    Sealed,
    /// The client can read the upstream's token; for old set-ups
    Plain,
}

/// The values of `--tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tls {
    /// A CA and a certificate that the gateway makes in the data directory
    SelfSigned,
}
