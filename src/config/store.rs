//! The store that the operator configured.

use crate::base::secret::Secret;
use crate::base::url::ExactUrl;
use crate::config::schema::{Key, kind};
use crate::config::section::Section;
use crate::config::spanned::{ConfigError, Location};
use crate::config::{features, keys};
use crate::store::{RedisConfig, RedisConfigError, VaultConfig, VaultConfigError, VaultLogin};

/// The kind of store, with its connection settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreConfig {
    /// In memory, lost at a restart.
    Memory,
    /// A SQLite file in the data directory.
    Sqlite,
    /// A Redis server or cluster.
    Redis(RedisConfig),
    /// A Vault server.
    Vault(VaultConfig),
    /// No store: records travel in client-side records.
    Stateless,
}

impl StoreConfig {
    /// Whether several instances can use it. All of them need the same keys, given by the operator.
    pub fn is_shared(&self) -> bool {
        match self {
            Self::Memory | Self::Sqlite => false,
            Self::Redis(_) | Self::Vault(_) | Self::Stateless => true,
        }
    }

    /// Whether the mode is stateless.
    pub fn is_stateless(&self) -> bool {
        *self == Self::Stateless
    }
}

/// The locations at which data directory, store and key file are or could be configured, for messages.
#[derive(Clone, Debug)]
pub struct StorageLocations {
    /// The data directory.
    pub data_dir: Location,
    /// The kind of store.
    pub store: Location,
    /// The key file.
    pub key_file: Location,
}

/// Reads `[store]`, or fails at the wrong key. `missing_features` receives a feature that this build
/// lacks.
pub fn read(store: &Section, missing_features: &mut Vec<ConfigError>) -> Result<StoreConfig, ConfigError> {
    let Some(kind) = store.get(&keys::store::KIND)? else {
        return Ok(StoreConfig::Sqlite);
    };
    match kind.value {
        "memory" => Ok(StoreConfig::Memory),
        "sqlite" => Ok(StoreConfig::Sqlite),
        "redis" => {
            missing_features.extend(features::check_store(&kind, cfg!(feature = "redis")));
            redis(store, &url_of(store)?).map(StoreConfig::Redis)
        }
        "vault" => {
            missing_features.extend(features::check_store(&kind, cfg!(feature = "vault")));
            vault(store).map(StoreConfig::Vault)
        }
        _ => match store.get(&keys::store::URL)? {
            None => Ok(StoreConfig::Stateless),
            Some(_) => Err(no_redis_without_a_store(&store.location(&keys::store::URL))),
        },
    }
}

/// The error for `store = "none"` with a Redis URL, which would have no effect.
fn no_redis_without_a_store(url: &Location) -> ConfigError {
    let what = "store = \"none\" keeps no records and uses no Redis";
    let instead = match url {
        Location::Flag(_) => {
            "for several instances use store = \"redis\" (--store redis, or MCP_GATEWAY_STORE=redis); else remove --redis-url and MCP_GATEWAY_REDIS_URL"
        }
        Location::Line { .. } => "for several instances use store = \"redis\" (kind = \"redis\" at [store]); else remove this address",
    };
    url.wrong(what, instead)
}

fn url_of(store: &Section) -> Result<Secret, ConfigError> {
    let instead = "add it: rediss://user:password@redis.example:6379/0, best from a file or a variable";
    let missing = || store.missing(&keys::store::URL, "kind = \"redis\" needs the server's address", instead);
    store.get(&keys::store::URL)?.ok_or_else(missing)
}

fn redis(store: &Section, url: &Secret) -> Result<RedisConfig, ConfigError> {
    let prefix = store.get(&keys::store::PREFIX)?;
    let prefix = prefix.as_ref().map_or(RedisConfig::DEFAULT_PREFIX, |prefix| prefix.value.as_str());
    // The error omits the URL, which may hold a password.
    RedisConfig::parse(url.expose(), prefix, store.get(&keys::store::CA)?).map_err(|error| {
        let (key, instead) = match error {
            RedisConfigError::Prefix => (&keys::store::PREFIX.info, "leave it out, or choose a short name"),
            RedisConfigError::CaWithoutTls => (&keys::store::CA.info, "or leave the CA out"),
            RedisConfigError::Scheme
            | RedisConfigError::Host
            | RedisConfigError::ManyHosts
            | RedisConfigError::Database
            | RedisConfigError::NoGroup
            | RedisConfigError::Login
            | RedisConfigError::Query
            | RedisConfigError::Fragment => (&keys::store::URL.info, "write it like rediss://user:password@redis.example:6379/0"),
        };
        store.location(key).wrong(format!("it {error}"), instead)
    })
}

/// The warning for a Redis password that other machines on the way can read.
pub fn clear_password(store: &Section, config: &StoreConfig) -> Vec<String> {
    match config {
        StoreConfig::Redis(redis) if redis.sends_password_in_clear() => {
            let what = "the password of Redis goes to another machine without encryption";
            let instead = "begin the URL with rediss, or reach Redis through an encrypted tunnel on this machine";
            vec![store.location(&keys::store::URL).wrong(what, instead).to_string()]
        }
        StoreConfig::Redis(_) | StoreConfig::Vault(_) | StoreConfig::Sqlite | StoreConfig::Memory | StoreConfig::Stateless => Vec::new(),
    }
}

fn vault(store: &Section) -> Result<VaultConfig, ConfigError> {
    let instead = "add it: url = \"https://vault.example:8200\"";
    let address = store
        .get(&keys::store::URL)?
        .ok_or_else(|| store.missing(&keys::store::URL, "kind = \"vault\" needs the server's address", instead))?;
    let is_http = |address: &ExactUrl| matches!(address.url().scheme(), "http" | "https") && address.url().host().is_some();
    let url = ExactUrl::parse(address.expose()).ok().filter(is_http);
    let url = url.ok_or_else(|| {
        store
            .location(&keys::store::URL)
            .wrong("it is no http or https URL", "write it like https://vault.example:8200")
    })?;
    let text =
        |key: &'static Key<kind::Text>, default: &str| Ok(store.get(key)?.map_or_else(|| default.to_owned(), |spanned| spanned.value));
    let config = VaultConfig {
        url,
        namespace: store.get(&keys::store::NAMESPACE)?.map(|spanned| spanned.value),
        mount: text(&keys::store::MOUNT, VaultConfig::DEFAULT_MOUNT)?,
        prefix: text(&keys::store::PREFIX, RedisConfig::DEFAULT_PREFIX)?,
        login: vault_login(store)?,
        ca: store.get(&keys::store::CA)?,
    };
    config.validate().map_err(|error| {
        let (key, instead) = match error {
            VaultConfigError::NotHttps => (&keys::store::URL.info, "begin it with https"),
            VaultConfigError::Query => (&keys::store::URL.info, "write it like https://vault.example:8200"),
            VaultConfigError::Mount => (&keys::store::MOUNT.info, "write it without / at its ends"),
            VaultConfigError::AppRoleMount => (&keys::store::APPROLE_MOUNT.info, "write it without auth/ and without / at its ends"),
            VaultConfigError::Prefix => (&keys::store::PREFIX.info, "leave it out, or choose a short name"),
            VaultConfigError::Namespace => (&keys::store::NAMESPACE.info, "write it without / at its ends"),
            VaultConfigError::CaWithoutTls => (&keys::store::CA.info, "or leave the CA out"),
            VaultConfigError::Token => (&keys::store::TOKEN.info, "look for a line break or a blank in it"),
        };
        store.location(key).wrong(format!("it {error}"), instead)
    })
}

fn vault_login(store: &Section) -> Result<VaultLogin, ConfigError> {
    let (token, role) = (store.get(&keys::store::TOKEN)?, store.get(&keys::store::ROLE_ID)?);
    if token.is_some() && role.is_some() {
        let what = "`token` and `role_id` are two ways to sign in";
        return Err(store.location(&keys::store::ROLE_ID).wrong(what, "leave one of them out"));
    }
    match (token, role) {
        (Some(token), _) => Ok(VaultLogin::Token(token)),
        (None, Some(role)) => Ok(VaultLogin::AppRole {
            mount: store
                .get(&keys::store::APPROLE_MOUNT)?
                .map_or_else(|| VaultConfig::DEFAULT_APPROLE_MOUNT.to_owned(), |spanned| spanned.value),
            role: role.value,
            secret: store.get(&keys::store::SECRET_ID)?,
        }),
        (None, None) => {
            let instead = "add token_file = \"…\", or role_id and secret_id_file";
            Err(store.missing(&keys::store::TOKEN, "kind = \"vault\" needs a way to sign in", instead))
        }
    }
}
