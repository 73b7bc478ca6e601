//! Checks before first use that Redis does not lose records by itself.

use redis::from_redis_value;

use crate::store::redis::config::RedisTopology;
use crate::store::redis::connection::{CommandTarget, Connection};
use crate::store::redis::error::CommandError;
use crate::store::redis::scan;

/// The reason why a Redis is rejected.
#[derive(Debug, thiserror::Error)]
pub enum RedisOpenError {
    /// The CA file cannot be read. Holds the reason.
    #[error("the CA of Redis: {0}")]
    Ca(String),
    /// Connection, login or a required command failed. Holds the reason.
    #[error("Redis: {0}")]
    Unreachable(String),
    /// Redis may evict records when its memory is full. Holds its `maxmemory-policy`.
    #[error("Redis: its maxmemory-policy is {0}, so it may throw away sign-ins when its memory is full")]
    Evicts(String),
}

impl From<CommandError> for RedisOpenError {
    fn from(error: CommandError) -> Self {
        Self::Unreachable(error.to_string())
    }
}

/// Rejects a Redis that would lose records.
pub(super) async fn check_server(link: &Connection) -> Result<(), RedisOpenError> {
    // Uses the long timeout, because the first of several sentinels may be down.
    let ping = redis::cmd("PING");
    match link.read_from(&ping, &CommandTarget::WhoHasTheKeys).await {
        // DNS can take longer than a command's timeout. Try once more.
        Err(CommandError::NotAsked(_)) => drop(link.read_from(&ping, &CommandTarget::WhoHasTheKeys).await?),
        result => drop(result?),
    }
    let targets = match &link.dial.at.place {
        RedisTopology::One(_) | RedisTopology::Socket(_) | RedisTopology::Sentinel(..) => vec![CommandTarget::WhoHasTheKey],
        RedisTopology::Cluster(_) => scan::masters(link).await?.into_iter().map(CommandTarget::Master).collect(),
    };
    for target in &targets {
        match policy(link, target).await? {
            Some(policy) if policy != "noeviction" => return Err(RedisOpenError::Evicts(policy)),
            Some(_) => {}
            None => tracing::warn!("this Redis does not tell its maxmemory-policy; it must be noeviction, or sign-ins are lost"),
        }
        if info(link, target, "persistence", "aof_enabled")
            .await?
            .is_some_and(|value| value == "0")
        {
            tracing::warn!("this Redis has no append-only file (appendonly yes): what was written last is lost when it ends");
        }
    }
    Ok(())
}

async fn policy(link: &Connection, target: &CommandTarget) -> Result<Option<String>, CommandError> {
    let mut cmd = redis::cmd("CONFIG");
    cmd.arg("GET").arg("maxmemory-policy");
    match link.read_from(&cmd, target).await {
        Ok(reply) => {
            let values: Vec<String> = from_redis_value(reply).unwrap_or_default();
            Ok(values.into_iter().nth(1))
        }
        Err(error) if error.is_permission_error() => info(link, target, "memory", "maxmemory_policy").await,
        Err(error) => Err(error),
    }
}

/// Returns one field of `INFO`, or `None` if it is absent or the ACL forbids the command.
async fn info(link: &Connection, target: &CommandTarget, section: &str, name: &str) -> Result<Option<String>, CommandError> {
    let mut cmd = redis::cmd("INFO");
    cmd.arg(section);
    let text: String = match link.read_from(&cmd, target).await {
        Ok(reply) => from_redis_value(reply).unwrap_or_default(),
        Err(error) if error.is_permission_error() => return Ok(None),
        Err(error) => return Err(error),
    };
    let value_of = |line: &str| line.trim().strip_prefix(name)?.strip_prefix(':').map(str::to_owned);
    Ok(text.lines().find_map(value_of))
}
