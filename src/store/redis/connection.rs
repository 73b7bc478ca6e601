//! One connection to Redis, re-established when it breaks. While it is down, calls fail immediately.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::ConnectionLike as _;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{Cmd, RedisError, Value};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::store::redis::config::Node;
use crate::store::redis::connect::{Connector, RawConnection, SCAN_TIMEOUT};
use crate::store::redis::error::CommandError;

/// Timeout for one command. A request to the gateway makes a few of them.
pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);
/// Delay before the first reconnect attempt, and the maximum to which it doubles.
const RECONNECT_DELAYS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The target node of a command. It matters only in a cluster.
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
    pub(super) fn begin(connector: Connector) -> Self {
        let connector = Arc::new(connector);
        let (state_sender, state) = watch::channel(ConnectionState::Dialling);
        let (broken_sender, broken_receiver) = mpsc::channel(16);
        tokio::spawn(reconnect_loop(Arc::clone(&connector), state_sender, broken_receiver));
        Self {
            state,
            broken: broken_sender,
            dial: connector,
        }
    }

    /// Sends a command to the node that has its key.
    pub(super) async fn execute(&self, cmd: &Cmd) -> Result<Value, CommandError> {
        self.sent(cmd, &CommandTarget::WhoHasTheKey, None).await.map_err(|(error, _)| error)
    }

    /// Like [`Connection::execute`], for repeatable commands. Retries once if a connection is lost.
    pub(super) async fn read(&self, cmd: &Cmd) -> Result<Value, CommandError> {
        self.read_from(cmd, &CommandTarget::WhoHasTheKey).await
    }

    /// Like [`Connection::read`], with a given target.
    pub(super) async fn read_from(&self, cmd: &Cmd, target: &CommandTarget) -> Result<Value, CommandError> {
        let result = match self.sent(cmd, target, None).await {
            Err((CommandError::Lost(_), number)) => self.sent(cmd, target, number).await,
            result => result,
        };
        result.map_err(|(error, _)| error)
    }

    /// Sends a command, but not on the failed connection `excluded`, which may still be recorded as
    /// up. An error includes the number of the connection that was used.
    async fn sent(&self, cmd: &Cmd, target: &CommandTarget, excluded: Option<u64>) -> Result<Value, (CommandError, Option<u64>)> {
        let (number, mut conn) = match self.wait_for_state(target.patience(), excluded).await {
            ConnectionState::Up(number, conn) => (number, conn),
            ConnectionState::Down(reason) => return Err((CommandError::NotAsked(reason), None)),
            ConnectionState::Dialling => return Err((CommandError::NotAsked("no connection in time".to_owned()), None)),
        };
        let error = match timeout(target.patience(), conn.send(cmd, target)).await {
            Ok(Ok(value)) => match value.extract_error() {
                Ok(value) => return Ok(value),
                Err(error) => CommandError::of(&error),
            },
            Ok(Err(error)) => CommandError::of(&error),
            Err(_) => CommandError::Late,
        };
        if error.is_connection_error() {
            // A full channel means that the failure is already reported.
            let _ = self.broken.try_send(number);
        }
        Err((error, Some(number)))
    }

    /// Waits at most `max_wait` until connecting fails or a connection other than `excluded` is up.
    async fn wait_for_state(&self, max_wait: Duration, excluded: Option<u64>) -> ConnectionState {
        let mut state = self.state.clone();
        let settled = state.wait_for(|state| match state {
            ConnectionState::Up(number, _) => Some(*number) != excluded,
            ConnectionState::Down(_) => true,
            ConnectionState::Dialling => false,
        });
        drop(timeout(max_wait, async { settled.await.is_ok() }).await);
        self.state.borrow().clone()
    }
}

impl RawConnection {
    async fn send(&mut self, cmd: &Cmd, target: &CommandTarget) -> Result<Value, RedisError> {
        match (self, target) {
            (Self::One(conn), _) => conn.req_packed_command(cmd).await,
            (Self::Cluster(conn), CommandTarget::WhoHasTheKey | CommandTarget::WhoHasTheKeys) => conn.req_packed_command(cmd).await,
            (Self::Cluster(conn), CommandTarget::Master(Node { host, port })) => {
                let (host, port) = (host.clone(), *port);
                let route = RoutingInfo::SingleNode(SingleNodeRoutingInfo::ByAddress { host, port });
                conn.route_command(cmd.clone(), route).await
            }
        }
    }
}

/// Connects, waits until the connection is reported as broken, and connects again.
async fn reconnect_loop(connector: Arc<Connector>, state_sender: watch::Sender<ConnectionState>, mut broken_receiver: mpsc::Receiver<u64>) {
    let mut number = 0;
    let mut pause = RECONNECT_DELAYS.0;
    let mut last_reason = String::new();
    loop {
        match connector.connect().await {
            Ok(conn) => {
                number += 1;
                pause = RECONNECT_DELAYS.0;
                if !std::mem::take(&mut last_reason).is_empty() {
                    tracing::info!(redis = %connector.at, "connected to Redis again");
                }
                state_sender.send_replace(ConnectionState::Up(number, conn));
                while broken_receiver.recv().await.is_some_and(|broken_number| broken_number != number) {}
                if broken_receiver.is_closed() {
                    return;
                }
                tracing::warn!(redis = %connector.at, "the connection to Redis is lost; connecting again");
                state_sender.send_replace(ConnectionState::Dialling);
                tokio::time::sleep(RECONNECT_DELAYS.0).await;
            }
            Err(error) => {
                let reason = error.to_string();
                if last_reason != reason {
                    tracing::warn!(redis = %connector.at, why = reason, "no connection to Redis; trying again and again");
                    last_reason.clone_from(&reason);
                }
                state_sender.send_replace(ConnectionState::Down(reason));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RECONNECT_DELAYS.1);
            }
        }
    }
}
