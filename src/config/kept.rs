//! Where records are kept, as the operator said.

use crate::base::secret::Secret;
use crate::base::url::Address;
use crate::config::said::{Place, Wrong};
use crate::config::section::Section;
use crate::config::unbuilt;
use crate::store::{BadRedis, BadVault, REDIS_PREFIX, RedisAt, VAULT_APPROLE, VAULT_MOUNT, VaultAt, VaultLogin};

/// The kind of store, with what it needs to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Where {
    /// In memory.
    Memory,
    /// In a file of the data directory.
    Sqlite,
    /// In a Redis.
    Redis(RedisAt),
    /// In a Vault.
    Vault(VaultAt),
    /// Nowhere: records travel. Instances may tell each other through a Redis what they used up.
    Nothing(Option<RedisAt>),
}

impl Where {
    /// Whether other instances may use it too; then all must have the same keys, given by the operator.
    pub fn is_shared(&self) -> bool {
        match self {
            Self::Memory | Self::Sqlite => false,
            Self::Redis(_) | Self::Vault(_) | Self::Nothing(_) => true,
        }
    }

    /// Whether nothing is kept.
    pub fn keeps_nothing(&self) -> bool {
        matches!(self, Self::Nothing(_))
    }
}

/// Where it was said, or can be said, where everything is kept: for messages of whoever looks there.
#[derive(Clone, Debug)]
pub struct Places {
    /// The data directory.
    pub data_dir: Place,
    /// The store.
    pub store: Place,
    /// The key file.
    pub key_file: Place,
}

/// Reads the section `store`.
pub fn read(store: &Section, missing: &mut Vec<Wrong>) -> Result<Where, Wrong> {
    let Some(kind) = store.one_of("kind")? else {
        return Ok(Where::Sqlite);
    };
    match kind.value {
        "memory" => Ok(Where::Memory),
        "sqlite" => Ok(Where::Sqlite),
        "redis" => {
            missing.extend(unbuilt::of_store(&kind, cfg!(feature = "redis")));
            redis(store, &url_of(store)?).map(Where::Redis)
        }
        "vault" => {
            missing.extend(unbuilt::of_store(&kind, cfg!(feature = "vault")));
            vault(store).map(Where::Vault)
        }
        _ => {
            let Some(url) = store.secret("url")? else {
                return Ok(Where::Nothing(None));
            };
            missing.extend(unbuilt::of_set(&store.place("url"), cfg!(feature = "redis")));
            redis(store, &url).map(|at| Where::Nothing(Some(at)))
        }
    }
}

fn url_of(store: &Section) -> Result<Secret, Wrong> {
    let instead = "add it: rediss://user:password@redis.example:6379/0, best from a file or a variable";
    let missing = || store.missing("url", "kind = \"redis\" needs the server's address", instead);
    store.secret("url")?.ok_or_else(missing)
}

fn redis(store: &Section, url: &Secret) -> Result<RedisAt, Wrong> {
    let prefix = store.text("prefix")?;
    let prefix = prefix.as_ref().map_or(REDIS_PREFIX, |said| said.value.as_str());
    // Without the URL: it may hold a password.
    RedisAt::parse(url.expose(), prefix, store.file("ca")?).map_err(|why| {
        let (key, instead) = match why {
            BadRedis::Prefix => ("prefix", "leave it out, or choose a short name"),
            BadRedis::CaWithoutTls => ("ca", "or leave the CA out"),
            BadRedis::Scheme
            | BadRedis::Host
            | BadRedis::ManyHosts
            | BadRedis::Database
            | BadRedis::NoGroup
            | BadRedis::Login
            | BadRedis::Query
            | BadRedis::Fragment => ("url", "write it like rediss://user:password@redis.example:6379/0"),
        };
        store.place(key).wrong(format!("it {why}"), instead)
    })
}

fn vault(store: &Section) -> Result<VaultAt, Wrong> {
    let instead = "add it: url = \"https://vault.example:8200\"";
    let said = store
        .secret("url")?
        .ok_or_else(|| store.missing("url", "kind = \"vault\" needs the server's address", instead))?;
    let is_http = |address: &Address| matches!(address.url().scheme(), "http" | "https") && address.url().host().is_some();
    let url = Address::parse(said.expose()).ok().filter(is_http);
    let url = url.ok_or_else(|| {
        store
            .place("url")
            .wrong("it is no http or https URL", "write it like https://vault.example:8200")
    })?;
    let text = |name: &str, default: &str| Ok(store.text(name)?.map_or_else(|| default.to_owned(), |said| said.value));
    let at = VaultAt {
        url,
        namespace: store.text("namespace")?.map(|said| said.value),
        mount: text("mount", VAULT_MOUNT)?,
        prefix: text("prefix", REDIS_PREFIX)?,
        login: vault_login(store)?,
        ca: store.file("ca")?,
    };
    at.checked().map_err(|why| {
        let (key, instead) = match why {
            BadVault::NotHttps => ("url", "begin it with https"),
            BadVault::Query => ("url", "write it like https://vault.example:8200"),
            BadVault::Mount => ("mount", "write it without / at its ends"),
            BadVault::AppRoleMount => ("approle_mount", "write it without auth/ and without / at its ends"),
            BadVault::Prefix => ("prefix", "leave it out, or choose a short name"),
            BadVault::Namespace => ("namespace", "write it without / at its ends"),
            BadVault::CaWithoutTls => ("ca", "or leave the CA out"),
            BadVault::Token => ("token", "look for a line break or a blank in it"),
        };
        store.place(key).wrong(format!("it {why}"), instead)
    })
}

fn vault_login(store: &Section) -> Result<VaultLogin, Wrong> {
    let (token, role) = (store.secret("token")?, store.text("role_id")?);
    if token.is_some() && role.is_some() {
        let what = "`token` and `role_id` are two ways to sign in";
        return Err(store.place("role_id").wrong(what, "leave one of them out"));
    }
    match (token, role) {
        (Some(token), _) => Ok(VaultLogin::Token(token)),
        (None, Some(role)) => Ok(VaultLogin::AppRole {
            mount: store
                .text("approle_mount")?
                .map_or_else(|| VAULT_APPROLE.to_owned(), |said| said.value),
            role: role.value,
            secret: store.secret("secret_id")?,
        }),
        (None, None) => {
            let instead = "add token_file = \"…\", or role_id and secret_id_file";
            Err(store.missing("token", "kind = \"vault\" needs a way to sign in", instead))
        }
    }
}
