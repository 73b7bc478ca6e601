//! The flags that say where the store and the keys are.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// The store and the keys: the same flags for every command that opens them.
#[derive(Clone, Debug, Args)]
pub struct StorageFlags {
    /// A configuration file (TOML) instead of flags, for several services; read again on SIGHUP
    #[arg(long, env = "MCP_GATEWAY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One directory for the configuration file (gateway.toml) and the data
    #[arg(long, env = "MCP_GATEWAY_CONFIG_DIR", value_name = "DIR")]
    pub config_dir: Option<PathBuf>,
    /// The store of grants and registrations [default: sqlite]
    #[arg(long, env = "MCP_GATEWAY_STORE", value_enum)]
    pub store: Option<StoreKind>,
    /// The Redis of --store redis: redis://, rediss://, redis+unix://, redis-sentinel:// or
    /// redis-cluster:// (better in the variable: flags are visible in the process list)
    #[arg(long, env = "MCP_GATEWAY_REDIS_URL", hide_env_values = true, value_name = "URL")]
    pub redis_url: Option<String>,
    /// The prefix of every key in Redis [default: mcp-gateway]
    #[arg(long, env = "MCP_GATEWAY_REDIS_PREFIX", value_name = "PREFIX")]
    pub redis_prefix: Option<String>,
    /// The CA (PEM) to trust for connections to Redis, instead of the machine's CAs
    #[arg(long, env = "MCP_GATEWAY_REDIS_CA", value_name = "FILE")]
    pub redis_ca: Option<PathBuf>,
    /// A key file for all instances, instead of the one in the data directory; reread on change
    #[arg(long, env = "MCP_GATEWAY_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// The directory for keys, certificates and the store
    #[arg(long, env = "MCP_GATEWAY_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// The values of `--store`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StoreKind {
    /// In memory; lost at a restart
    Memory,
    /// A file in the data directory
    Sqlite,
    /// A Redis that several instances can share; needs --redis-url and keys that you provide
    #[cfg_attr(not(feature = "redis"), value(skip))]
    Redis,
    /// No store: records travel encrypted, and any instance with the same keys accepts them
    None,
}
