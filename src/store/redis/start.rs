//! What is asked of a Redis before anything is kept there: that it loses nothing by itself, and that its records are ours.

use std::fmt;

use redis::{Cmd, Value, from_redis_value};

use crate::base::random;
use crate::base::seal::{self, Label};
use crate::store::redis::at::Place;
use crate::store::redis::link::{Failed, Link, To};
use crate::store::redis::running::Shelf;
use crate::store::redis::{listing, row};

const MARK: Label = Label("mark of a shared store");
/// What the mark says.
const WORDS: &[u8] = b"mcp-oauth-gateway";

/// Why a Redis is refused.
#[derive(Debug)]
pub enum NotOpened {
    /// The file with the CA.
    Ca(String),
    /// It is not there, or does not let us in; with what it said.
    Unreachable(String),
    /// When its memory is full it removes what it likes; with the policy that says so.
    Evicts(String),
    /// Its records were sealed with keys that are not in our ring; with the name of the key that tells.
    OtherKeys(String),
}

impl fmt::Display for NotOpened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ca(why) => write!(f, "--redis-ca: {why}\n  name a file with certificates in PEM"),
            Self::Unreachable(why) => write!(
                f,
                "Redis: {why}\n  check --redis-url, that Redis runs, and what its user may do (docs/stores.md has the list)"
            ),
            Self::Evicts(policy) => write!(
                f,
                "Redis: its maxmemory-policy is {policy}, so it may throw away sign-ins when its memory is full\n  set it: redis-cli CONFIG SET maxmemory-policy noeviction, and in redis.conf"
            ),
            Self::OtherKeys(name) => write!(
                f,
                "Redis: what is kept there was sealed with other keys than those of this gateway\n  give every instance the same MCP_GATEWAY_KEY or --key-file; or another --redis-prefix to begin anew. If the old keys are lost for good, delete {name} and everything beside it: everybody then signs in again"
            ),
        }
    }
}

impl std::error::Error for NotOpened {}

impl From<Failed> for NotOpened {
    fn from(why: Failed) -> Self {
        Self::Unreachable(why.to_string())
    }
}

/// Refuses a Redis that would lose records, or whose records do not open with our keys.
pub(super) async fn checked(shelf: &Shelf) -> Result<(), NotOpened> {
    let link = &shelf.link;
    // With patience: of several sentinels the first may be dead.
    link.read_from(&redis::cmd("PING"), &To::WhoHasTheKeys).await?;
    let masters = match &link.dial.at.place {
        Place::One(_) | Place::Socket(_) | Place::Sentinel(..) => vec![To::WhoHasTheKey],
        Place::Cluster(_) => listing::masters(link).await?.into_iter().map(To::Master).collect(),
    };
    for master in &masters {
        match policy(link, master).await? {
            Some(policy) if policy != "noeviction" => return Err(NotOpened::Evicts(policy)),
            Some(_) => {}
            None => tracing::warn!("this Redis does not tell its maxmemory-policy; it must be noeviction, or sign-ins are lost"),
        }
        if info(link, master, "persistence", "aof_enabled").await?.is_some_and(|is| is == "0") {
            tracing::warn!("this Redis has no append-only file (appendonly yes): what was written last is lost when it ends");
        }
    }
    marked(shelf).await
}

async fn policy(link: &Link, master: &To) -> Result<Option<String>, Failed> {
    let mut cmd = redis::cmd("CONFIG");
    cmd.arg("GET").arg("maxmemory-policy");
    match link.read_from(&cmd, master).await {
        Ok(answer) => {
            let pair: Vec<String> = from_redis_value(answer).unwrap_or_default();
            Ok(pair.into_iter().nth(1))
        }
        Err(why) if why.is_forbidden() => info(link, master, "memory", "maxmemory_policy").await,
        Err(why) => Err(why),
    }
}

/// One line of INFO, if we may see it.
async fn info(link: &Link, master: &To, section: &str, name: &str) -> Result<Option<String>, Failed> {
    let mut cmd = redis::cmd("INFO");
    cmd.arg(section);
    let text: String = match link.read_from(&cmd, master).await {
        Ok(answer) => from_redis_value(answer).unwrap_or_default(),
        Err(why) if why.is_forbidden() => return Ok(None),
        Err(why) => return Err(why),
    };
    let of = |line: &str| line.trim().strip_prefix(name)?.strip_prefix(':').map(str::to_owned);
    Ok(text.lines().find_map(of))
}

/// Leaves our mark in an empty store; in another one finds a mark that our keys open, or refuses.
async fn marked(shelf: &Shelf) -> Result<(), NotOpened> {
    let mut first = set(shelf);
    first.arg("NX");
    // Whoever of several instances is first, the mark that is there now decides.
    shelf.link.read(&first).await?;
    let mark = shelf.link.read(&row::get(shelf.prefix(), NAME)).await?;
    let (name, place) = (name(shelf), shelf.prefix().as_bytes());
    match mark {
        Value::BulkString(mark) if seal::unboxed(&shelf.keys.load(), MARK, place, &mark).is_ok_and(|plain| *plain == WORDS) => Ok(()),
        Value::BulkString(_) => Err(NotOpened::OtherKeys(name)),
        _ => Err(NotOpened::Unreachable(format!("{name} is not what it should be"))),
    }
}

/// Seals the mark anew once another key seals: the old one will leave the ring some day.
pub(super) async fn keep_mark(shelf: &Shelf) -> Result<(), Failed> {
    let Value::BulkString(mark) = shelf.link.read(&row::get(shelf.prefix(), NAME)).await? else {
        return shelf.link.read(&set(shelf)).await.map(drop);
    };
    let ring = shelf.keys.load_full();
    let is_ours = seal::unboxed(&ring, MARK, shelf.prefix().as_bytes(), &mark).is_ok();
    if is_ours && !mark.starts_with(&ring.sealing(shelf.clock.now()).id()) {
        shelf.link.read(&set(shelf)).await?;
    }
    Ok(())
}

const NAME: &str = "mark";

fn name(shelf: &Shelf) -> String {
    row::name(shelf.prefix(), NAME)
}

fn set(shelf: &Shelf) -> Cmd {
    let place = shelf.prefix().as_bytes();
    let mark = seal::boxed(&shelf.keys.load(), shelf.clock.now(), MARK, random::fresh(), place, WORDS);
    let mut cmd = redis::cmd("SET");
    cmd.arg(name(shelf)).arg(mark);
    cmd
}
