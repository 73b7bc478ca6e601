//! Finds and opens the keys and records of a gateway, for `serve` and for the commands beside it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::runtime::Runtime;

use crate::base::keyring::{self, KeyRing};
use crate::base::time::Clock;
use crate::cli::{arguments, data_dir, key_file, load_config};
use crate::config::spanned::Location;
use crate::config::storage_flags::StorageFlags;
use crate::config::store::{self, StorageLocations, StoreConfig};
use crate::config::validate::Validated;
use crate::config::{from_flags, keys as config_keys};
use crate::service::Service;
#[cfg(feature = "vault")]
use crate::store::Vault;
use crate::store::{Backend, KeyCheckError, KeyStatus, Memory, RedisConfig, SQLITE_FILE, SharedKeyRing, Sqlite, Store};
#[cfg(feature = "redis")]
use crate::store::{Redis, RedisOpenError};

/// The variable with a key. It takes precedence over the key file.
const KEY_VARIABLE: &str = "MCP_GATEWAY_KEY";

/// The places of the data directory, the store and the keys.
#[derive(Debug)]
pub struct Storage {
    /// The data directory.
    pub data_dir: PathBuf,
    /// The store.
    pub store: StoreConfig,
    /// The services, if there is a configuration file.
    pub services: Option<Vec<Service>>,
    named_keys: Option<PathBuf>,
    at: StorageLocations,
}

impl Storage {
    /// The storage of a checked configuration.
    pub fn of(validated: &Validated) -> Self {
        Self {
            data_dir: validated.start.data_dir.clone(),
            store: validated.start.store.clone(),
            services: None,
            named_keys: validated.start.key_file.clone(),
            at: validated.locations.storage.clone(),
        }
    }

    /// The storage in the configuration file, or in the flags if there is no file.
    pub fn read(flags: &StorageFlags) -> Result<Self, String> {
        if let Some(path) = &flags.config {
            from_flags::check_storage_conflicts(flags).map_err(|error| error.to_string())?;
            let validated = load_config::load_file(path, flags.data_dir.as_ref())?;
            validated.check_features().map_err(|error| error.to_string())?;
            let services = validated.config.services.clone();
            return Ok(Self {
                services: Some(services),
                ..Self::of(&validated)
            });
        }
        let (mut missing_features, [store, keys]) = (Vec::new(), from_flags::storage_sections(flags));
        let store_config = store::read(&store, &mut missing_features).map_err(|error| error.to_string())?;
        if let Some(error) = missing_features.first() {
            return Err(error.to_string());
        }
        let data_dir = flags.data_dir.clone().or_else(data_dir::default_dir);
        Ok(Self {
            data_dir: data_dir.ok_or("there is no home directory to keep data in; say where with --data-dir DIR")?,
            store: store_config,
            services: None,
            named_keys: flags.key_file.clone(),
            at: StorageLocations {
                data_dir: Location::Flag("--data-dir"),
                store: store.location(&config_keys::store::KIND),
                key_file: keys.location(&config_keys::key_ring::FILE),
            },
        })
    }

    /// The path of the key file, which may not exist.
    pub fn key_file(&self) -> PathBuf {
        self.named_keys.clone().unwrap_or_else(|| self.data_dir.join(data_dir::KEY_FILE))
    }

    /// Whether the key file is used. The variable takes precedence over it.
    pub fn has_key_file() -> bool {
        !arguments::is_set(KEY_VARIABLE)
    }

    /// The setting that says where the keys are, for error messages.
    pub fn keys_at(&self) -> &Location {
        const GIVEN: Location = Location::Flag(KEY_VARIABLE);
        match (Self::has_key_file(), &self.named_keys) {
            (false, _) => &GIVEN,
            (true, Some(_)) => &self.at.key_file,
            (true, None) => &self.at.data_dir,
        }
    }

    /// The setting that says where the store is, for error messages.
    pub fn store_at(&self) -> &Location {
        match self.store {
            StoreConfig::Sqlite => &self.at.data_dir,
            StoreConfig::Memory | StoreConfig::Redis(_) | StoreConfig::Vault(_) | StoreConfig::Stateless => &self.at.store,
        }
    }

    /// The key ring, if there is one. Fails for a shared store without keys from the operator.
    pub fn load_keys(&self) -> Result<Option<KeyRing>, String> {
        let location = self.keys_at();
        if !Self::has_key_file() {
            let key_error = |error: &str| {
                location
                    .wrong(error, "give it 32 random bytes in base64: openssl rand -base64 32")
                    .to_string()
            };
            let text = std::env::var(KEY_VARIABLE).map_err(|_| key_error("it is not text"))?;
            return KeyRing::single(&text).map(Some).map_err(|error| key_error(&error.to_string()));
        }
        let path = self.key_file();
        if self.store.is_shared() && !(self.named_keys.is_some() && path.exists()) {
            let what = match &self.named_keys {
                None => "a store that several instances share needs keys that all of them have".to_owned(),
                Some(path) => format!(
                    "a store that several instances share needs keys that all of them have, and {} is not there",
                    path.display()
                ),
            };
            let instead = "set MCP_GATEWAY_KEY to the same 32 random bytes everywhere (openssl rand -base64 32), or give each the same --key-file ([keys] file), which must be there";
            return Err(self.at.store.wrong(what, instead).to_string());
        }
        if !path.exists() {
            return Ok(None);
        }
        parsed(location, &path).map(Some)
    }

    /// The key ring. Creates it at the first start, unless other keys sealed the store.
    pub fn load_or_create_keys(&self, clock: &Clock, runtime: &Runtime) -> Result<KeyRing, String> {
        if let Some(ring) = self.load_keys()? {
            if Self::has_key_file() {
                key_file::lock_if_wanted(&self.key_file()).map_err(|error| format!("{}: {error}", self.keys_at()))?;
            }
            return Ok(ring);
        }
        let (path, text) = (self.key_file(), keyring::generate(clock.now()));
        let ring = KeyRing::parse(text.expose()).map_err(|error| error.to_string())?;
        if self.store == StoreConfig::Sqlite && self.data_dir.join(SQLITE_FILE).exists() {
            let store = self.open(&Arc::new(ArcSwap::from_pointee(ring.clone())), clock)?;
            if let Err(error @ KeyCheckError::OtherKeys { .. }) = runtime.block_on(store.check_keys()) {
                let missing = format!("{} is not there, and {error}", path.display());
                return Err(self.unfit_as(&error, &missing));
            }
        }
        key_file::write(&path, &text).map_err(|error| {
            self.keys_at()
                .wrong(error, "name a file in a directory that you may write to")
                .to_string()
        })?;
        Ok(ring)
    }

    /// The store and keys of an existing gateway, which may be running. Fails if one is missing: a
    /// new key ring or store would belong to no gateway.
    pub fn open_existing(&self, clock: &Clock) -> Result<(Store, SharedKeyRing), String> {
        if self.store == StoreConfig::Memory {
            let instead = "run the gateway with another store, such as sqlite, and name that store here";
            return Err(self
                .at
                .store
                .wrong("what a gateway keeps in memory is its own, and gone with it", instead)
                .to_string());
        }
        if self.store.is_stateless() {
            return Err(self.stateless_error());
        }
        let is_missing = self.store == StoreConfig::Sqlite && !self.data_dir.join(SQLITE_FILE).is_file();
        match self.load_keys()? {
            Some(ring) if !is_missing => {
                let keys = Arc::new(ArcSwap::from_pointee(ring));
                Ok((self.open(&keys, clock)?, keys))
            }
            Some(_) | None => Err(self.no_gateway_error()),
        }
    }

    /// The error of a command that needs stored records, in stateless mode.
    pub fn stateless_error(&self) -> String {
        let what = "with store = none the gateway stores nothing, so there is nothing to show or to change";
        let instead = "run the gateway with another store, such as sqlite, and name that store here";
        self.at.store.wrong(what, instead).to_string()
    }

    /// The error of a command that needs a store, if no gateway has run here.
    pub fn no_gateway_error(&self) -> String {
        let (what, instead) = match &self.store {
            StoreConfig::Memory | StoreConfig::Sqlite | StoreConfig::Stateless => (
                format!("no gateway has stored its keys and records in {}", self.data_dir.display()),
                "name the directory and the keys of the gateway, or start it once",
            ),
            StoreConfig::Redis(config) => (
                format!("no gateway has stored its records in {config}"),
                "name the Redis and the prefix of the gateway, or start it once",
            ),
            StoreConfig::Vault(config) => (
                format!("no gateway has stored its records in {config}"),
                "name the mount and the prefix of the gateway, or start it once",
            ),
        };
        self.store_at().wrong(what, instead).to_string()
    }

    /// Opens the store, without a check that these keys sealed it.
    pub fn open(&self, keys: &SharedKeyRing, clock: &Clock) -> Result<Store, String> {
        let backend = match &self.store {
            StoreConfig::Stateless => return Ok(Store::stateless(Arc::clone(keys), clock.clone())),
            StoreConfig::Memory => Backend::Memory(Memory::new()),
            StoreConfig::Sqlite => Backend::Sqlite(Sqlite::open(&self.data_dir).map_err(|error| {
                let instead =
                    "name a directory that the gateway's user may write to; a file that another program changed, restore from a backup";
                self.at.data_dir.wrong(error.to_string(), instead).to_string()
            })?),
            StoreConfig::Redis(config) => self.redis(config, keys, clock)?,
            #[cfg(feature = "vault")]
            StoreConfig::Vault(config) => {
                let vault = Vault::open(config.clone(), Arc::clone(keys), clock.clone());
                Backend::Vault(vault.map_err(|error| self.at.store.wrong(error.to_string(), error.remedy()).to_string())?)
            }
            #[cfg(not(feature = "vault"))]
            StoreConfig::Vault(config) => {
                let what = format!("{config} cannot be used: this program was built without Vault");
                let instead = "use a build with it: cargo build --release --features vault";
                return Err(self.at.store.wrong(what, instead).to_string());
            }
        };
        Ok(Store::new(backend, Arc::clone(keys), clock.clone()))
    }

    #[cfg(feature = "redis")]
    fn redis(&self, config: &RedisConfig, keys: &SharedKeyRing, clock: &Clock) -> Result<Backend, String> {
        let redis = Redis::open(config.clone(), Arc::clone(keys), clock.clone());
        Ok(Backend::Redis(redis.map_err(|error| self.not_opened(&error))?))
    }

    #[cfg(not(feature = "redis"))]
    fn redis(&self, config: &RedisConfig, _: &SharedKeyRing, _: &Clock) -> Result<Backend, String> {
        let what = format!("{config} cannot be used: this program was built without Redis");
        Err(self.at.store.wrong(what, "use kind sqlite, or a build with Redis").to_string())
    }

    /// The error and its remedy for a Redis that cannot be used.
    #[cfg(feature = "redis")]
    fn not_opened(&self, error: &RedisOpenError) -> String {
        let (url, ca) = match &self.at.store {
            Location::Flag(_) => ("--redis-url", "--redis-ca"),
            Location::Line { .. } => ("`url` at [store]", "`ca` at [store]"),
        };
        let instead = match error {
            RedisOpenError::Ca(_) => format!("name a file with certificates in PEM: {ca}"),
            RedisOpenError::Unreachable(_) => {
                format!("check {url}, that Redis runs, and what its user may do (docs/stores.md has the list)")
            }
            RedisOpenError::Evicts(_) => "set it: redis-cli CONFIG SET maxmemory-policy noeviction, and in redis.conf".to_owned(),
        };
        self.at.store.wrong(error.to_string(), instead).to_string()
    }

    /// Checks that the current keys sealed the store. Writes the key check if there is none.
    pub async fn ensure_key_check(&self, store: &Store) -> Result<(), String> {
        store.ensure_key_check().await.map_err(|error| self.key_check_error(&error))
    }

    /// Checks that a gateway sealed the store with the current keys. Writes nothing.
    pub async fn check_keys(&self, store: &Store) -> Result<(), String> {
        match store.check_keys().await.map_err(|error| self.key_check_error(&error))? {
            KeyStatus::Match | KeyStatus::Unchecked => Ok(()),
            KeyStatus::Empty => Err(self.no_gateway_error()),
        }
    }

    /// The error and its remedy for a failed key check.
    pub fn key_check_error(&self, error: &KeyCheckError) -> String {
        self.unfit_as(error, &error.to_string())
    }

    fn unfit_as(&self, error: &KeyCheckError, what: &str) -> String {
        let KeyCheckError::OtherKeys { .. } = error else {
            return self
                .store_at()
                .wrong(what, "see that the store is there, and try again")
                .to_string();
        };
        let start_over = match &self.store {
            StoreConfig::Memory | StoreConfig::Sqlite | StoreConfig::Stateless => format!(
                "If the old keys are lost for good, delete {} and what lies beside it under that name: everybody then signs in again",
                self.data_dir.join(SQLITE_FILE).display()
            ),
            StoreConfig::Vault(_) => "To start over, use another `prefix` at [store]; or, if the old keys are lost for good, delete in Vault what is under this one, with its metadata: everybody then signs in again".to_owned(),
            StoreConfig::Redis(_) => "To start over, use another --redis-prefix ([store] prefix); or, if the old keys are lost for good, delete in Redis what is under this one: everybody then signs in again".to_owned(),
        };
        let instead = format!(
            "bring the keys of the gateway that filled it: its keys.json, the same --key-file ([keys] file), or its MCP_GATEWAY_KEY, which wins over both. {start_over}"
        );
        self.keys_at().wrong(what, instead).to_string()
    }
}

fn parsed(location: &Location, path: &Path) -> Result<KeyRing, String> {
    let text = key_file::read(path).map_err(|error| format!("{location}: {error}"))?;
    KeyRing::parse(text.expose()).map_err(|error| {
        location
            .wrong(
                format!("{}: {error}", path.display()),
                "restore it from a backup; without it everybody has to sign in again",
            )
            .to_string()
    })
}
