//! One connection to Redis, re-established when it breaks. While it is down, calls fail at once.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{Cmd, RedisError, Value};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::store::redis::config::Node;
use crate::store::redis::connect::Connector;

/// Timeout for one command. A request to the gateway makes a few of them.
pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout for one command of a scan. No request waits for a scan.
pub(super) const SCAN_TIMEOUT: Duration = Duration::from_secs(10);
/// Delay before the first reconnect attempt, and the maximum to which it doubles.
const RECONNECT_DELAYS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A connection to one server or to a cluster. Clones share it.
#[derive(Clone)]
pub(super) enum RawConnection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// Where a command goes. This matters only in a cluster.
pub(super) enum CommandTarget {
    WhoHasTheKey,
    /// The same for several keys, with a longer timeout.
    WhoHasTheKeys,
    Master(Node),
}

impl CommandTarget {
    fn patience(&self) -> Duration {
        match self {
            Self::WhoHasTheKey => COMMAND_TIMEOUT,
            Self::WhoHasTheKeys | Self::Master(_) => SCAN_TIMEOUT,
        }
    }
}

/// Why a command has no result.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum CommandError {
    /// The command was not sent.
    #[error("{0}")]
    NotAsked(String),
    /// The command was sent, and Redis may still execute it.
    #[error("{0}")]
    Lost(String),
    /// The same: the response did not come in time.
    #[error("no answer in time")]
    Late,
    /// Redis returned this error code and detail, and did not execute the command.
    #[error("it says {0} {1}")]
    Refused(String, String),
}

/// The state of the connection.
#[derive(Clone)]
enum ConnectionState {
    /// There is no connection yet, or a broken one is being replaced.
    Dialling,
    /// The current connection and its number.
    Up(u64, RawConnection),
    /// There is no connection, for this reason. Attempts continue.
    Down(String),
}

/// The connection to Redis that this whole process shares.
#[derive(Clone)]
pub(super) struct Connection {
    state: watch::Receiver<ConnectionState>,
    broken: mpsc::Sender<u64>,
    pub(super) dial: Arc<Connector>,
}

impl Connection {
    /// Starts to connect, on the current runtime.
    pub(super) fn begin(dial: Connector) -> Self {
        let dial = Arc::new(dial);
        let (tell, state) = watch::channel(ConnectionState::Dialling);
        let (broken, breaks) = mpsc::channel(16);
        tokio::spawn(reconnect_loop(Arc::clone(&dial), tell, breaks));
        Self { state, broken, dial }
    }

    /// Sends a command to the node that has its key.
    pub(super) async fn execute(&self, cmd: &Cmd) -> Result<Value, CommandError> {
        self.sent(cmd, &CommandTarget::WhoHasTheKey, None).await.map_err(|(why, _)| why)
    }

    /// Like [`Connection::execute`], for repeatable commands. Retries once if a connection is lost.
    pub(super) async fn read(&self, cmd: &Cmd) -> Result<Value, CommandError> {
        self.read_from(cmd, &CommandTarget::WhoHasTheKey).await
    }

    /// Like [`Connection::read`], with a given target.
    pub(super) async fn read_from(&self, cmd: &Cmd, to: &CommandTarget) -> Result<Value, CommandError> {
        let answer = match self.sent(cmd, to, None).await {
            Err((CommandError::Lost(_), line)) => self.sent(cmd, to, line).await,
            answer => answer,
        };
        answer.map_err(|(why, _)| why)
    }

    /// Sends a command, but not on the failed connection `dead`, which may still be recorded as up.
    /// An error includes the number of the connection that was used.
    async fn sent(&self, cmd: &Cmd, to: &CommandTarget, dead: Option<u64>) -> Result<Value, (CommandError, Option<u64>)> {
        let (number, mut conn) = match self.wait_for_state(to.patience(), dead).await {
            ConnectionState::Up(number, conn) => (number, conn),
            ConnectionState::Down(why) => return Err((CommandError::NotAsked(why), None)),
            ConnectionState::Dialling => return Err((CommandError::NotAsked("no connection in time".to_owned()), None)),
        };
        let failed = match timeout(to.patience(), conn.send(cmd, to)).await {
            Ok(Ok(value)) => match value.extract_error() {
                Ok(value) => return Ok(value),
                Err(error) => CommandError::of(&error),
            },
            Ok(Err(error)) => CommandError::of(&error),
            Err(_) => CommandError::Late,
        };
        if failed.is_connection_error() {
            // A full channel means that the failure is already reported.
            let _ = self.broken.try_send(number);
        }
        Err((failed, Some(number)))
    }

    /// Waits at most `patience` until connecting fails or a connection other than `dead` is up.
    async fn wait_for_state(&self, patience: Duration, dead: Option<u64>) -> ConnectionState {
        let mut state = self.state.clone();
        let known = state.wait_for(|state| match state {
            ConnectionState::Up(number, _) => Some(*number) != dead,
            ConnectionState::Down(_) => true,
            ConnectionState::Dialling => false,
        });
        drop(timeout(patience, async { known.await.is_ok() }).await);
        self.state.borrow().clone()
    }
}

impl RawConnection {
    async fn send(&mut self, cmd: &Cmd, to: &CommandTarget) -> Result<Value, RedisError> {
        match (self, to) {
            (Self::One(conn), _) => conn.req_packed_command(cmd).await,
            (Self::Cluster(conn), CommandTarget::WhoHasTheKey | CommandTarget::WhoHasTheKeys) => conn.req_packed_command(cmd).await,
            (Self::Cluster(conn), CommandTarget::Master(Node { host, port })) => {
                let (host, port) = (host.clone(), *port);
                let to = RoutingInfo::SingleNode(SingleNodeRoutingInfo::ByAddress { host, port });
                conn.route_command(cmd.clone(), to).await
            }
        }
    }
}

impl CommandError {
    pub(super) fn of(error: &RedisError) -> Self {
        match error.code() {
            // Only these codes keep the detail: in others it can repeat the command's arguments.
            Some(word @ ("NOPERM" | "OOM" | "MISCONF" | "READONLY" | "CLUSTERDOWN" | "LOADING" | "MASTERDOWN" | "NOREPLICAS")) => {
                Self::Refused(word.to_owned(), error.detail().unwrap_or_default().to_owned())
            }
            Some(word) => Self::Refused(word.to_owned(), String::new()),
            None if error.is_timeout() => Self::Late,
            None => Self::Lost(error.category().to_owned()),
        }
    }

    /// Whether a new connection may help: this one is dead, or its server is not a usable master.
    fn is_connection_error(&self) -> bool {
        match self {
            Self::NotAsked(_) => false,
            Self::Lost(_) | Self::Late => true,
            Self::Refused(word, _) => matches!(word.as_str(), "READONLY" | "MASTERDOWN" | "LOADING" | "NOAUTH"),
        }
    }

    /// Whether the ACL forbids the command, or Redis does not know it.
    pub(super) fn is_permission_error(&self) -> bool {
        matches!(self, Self::Refused(word, _) if word == "NOPERM" || word == "ERR")
    }
}

/// Connects, waits until the connection is reported as broken, and connects again.
async fn reconnect_loop(dial: Arc<Connector>, tell: watch::Sender<ConnectionState>, mut breaks: mpsc::Receiver<u64>) {
    let mut number = 0;
    let mut pause = RECONNECT_DELAYS.0;
    let mut said = String::new();
    loop {
        match dial.connect().await {
            Ok(conn) => {
                number += 1;
                pause = RECONNECT_DELAYS.0;
                if !std::mem::take(&mut said).is_empty() {
                    tracing::info!(redis = %dial.at, "connected to Redis again");
                }
                tell.send_replace(ConnectionState::Up(number, conn));
                while breaks.recv().await.is_some_and(|broken| broken != number) {}
                if breaks.is_closed() {
                    return;
                }
                tracing::warn!(redis = %dial.at, "the connection to Redis is lost; connecting again");
                tell.send_replace(ConnectionState::Dialling);
                tokio::time::sleep(RECONNECT_DELAYS.0).await;
            }
            Err(why) => {
                let why = why.to_string();
                if said != why {
                    tracing::warn!(redis = %dial.at, why, "no connection to Redis; trying again and again");
                    said.clone_from(&why);
                }
                tell.send_replace(ConnectionState::Down(why));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RECONNECT_DELAYS.1);
            }
        }
    }
}
