//! Where records are kept, as the operator said.

use crate::config::checked::Wrong;
use crate::config::flags::{Serve, StoreKind};
use crate::store::{BadRedis, RedisAt};

/// The kind of store, with what it needs to be opened.
#[derive(Clone, Debug)]
pub enum Kept {
    /// In memory.
    Memory,
    /// In a file of the data directory.
    Sqlite,
    /// In a Redis.
    Redis(RedisAt),
}

impl Kept {
    /// Whether other instances may use it too; then all must have the same keys, given by the operator.
    pub fn is_shared(&self) -> bool {
        match self {
            Self::Memory | Self::Sqlite => false,
            Self::Redis(_) => true,
        }
    }
}

/// Reads the flags about the store.
pub fn kept(flags: &Serve) -> Result<Kept, Wrong> {
    let kept = match (flags.store, &flags.redis_url) {
        (StoreKind::Memory | StoreKind::Sqlite, Some(_)) => {
            return Err(wrong(
                "--redis-url",
                "it is given, but the store is another one".into(),
                "add --store redis",
            ));
        }
        (StoreKind::Memory, None) => Kept::Memory,
        (StoreKind::Sqlite, None) => Kept::Sqlite,
        (StoreKind::Redis, None) => {
            return Err(wrong(
                "--redis-url",
                "--store redis needs it".into(),
                "write it like rediss://user:password@redis.example:6379/0, best in MCP_GATEWAY_REDIS_URL",
            ));
        }
        (StoreKind::Redis, Some(url)) => Kept::Redis(RedisAt::parse(url, &flags.redis_prefix, flags.redis_ca.clone()).map_err(refused)?),
    };
    Ok(kept)
}

/// Without the URL: it may hold a password.
fn refused(why: BadRedis) -> Wrong {
    match why {
        BadRedis::Prefix => wrong("--redis-prefix", format!("it {why}"), "leave it out, or choose a short name"),
        BadRedis::CaWithoutTls => wrong("--redis-ca", format!("it {why}"), "or leave the CA out"),
        BadRedis::Scheme
        | BadRedis::Host
        | BadRedis::ManyHosts
        | BadRedis::Database
        | BadRedis::NoGroup
        | BadRedis::Login
        | BadRedis::Query
        | BadRedis::Fragment => wrong(
            "--redis-url",
            format!("it {why}"),
            "write it like rediss://user:password@redis.example:6379/0",
        ),
    }
}

fn wrong(flag: &'static str, what: String, instead: &str) -> Wrong {
    Wrong {
        flag,
        what,
        instead: instead.to_owned(),
    }
}
