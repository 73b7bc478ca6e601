//! Where records are kept, as the operator said.

use crate::config::said::{Place, Said, Wrong};
use crate::config::section::Section;
use crate::store::{BadRedis, REDIS_PREFIX, RedisAt};

/// The kind of store, with what it needs to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Where {
    /// In memory.
    Memory,
    /// In a file of the data directory.
    Sqlite,
    /// In a Redis.
    Redis(RedisAt),
    /// Nowhere: records travel.
    Nothing,
}

impl Where {
    /// Whether other instances may use it too; then all must have the same keys, given by the operator.
    pub fn is_shared(&self) -> bool {
        match self {
            Self::Memory | Self::Sqlite => false,
            Self::Redis(_) | Self::Nothing => true,
        }
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
pub fn read(store: &Section, unbuilt: &mut Vec<Wrong>) -> Result<Where, Wrong> {
    let Some(kind) = store.one_of("kind")? else {
        return Ok(Where::Sqlite);
    };
    match kind.value {
        "memory" => Ok(Where::Memory),
        "sqlite" => Ok(Where::Sqlite),
        "redis" => redis(store).map(Where::Redis),
        "none" => Ok(Where::Nothing),
        other => later(store, other, &kind, unbuilt),
    }
}

fn redis(store: &Section) -> Result<RedisAt, Wrong> {
    let instead = "add it: rediss://user:password@redis.example:6379/0, best from a file or a variable";
    let url = store.secret("url")?;
    let url = url.ok_or_else(|| store.missing("url", "kind = \"redis\" needs the server's address", instead))?;
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

fn later(store: &Section, other: &str, kind: &Said<&'static str>, unbuilt: &mut Vec<Wrong>) -> Result<Where, Wrong> {
    let url = store.secret("url")?;
    store.text("prefix")?;
    if url.is_none() {
        return Err(store.missing(
            "url",
            &format!("kind = \"{other}\" needs the server's address"),
            "add url = \"…\", or url_file = \"…\"",
        ));
    }
    unbuilt.push(kind.wrong(
        format!("kind = \"{other}\" is not in this build yet"),
        "use kind = \"sqlite\", \"redis\", \"memory\" or \"none\"",
    ));
    Ok(Where::Memory)
}
