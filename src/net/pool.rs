//! Connections that may be used again. Per key, so that one policy's connection never serves
//! another's request.

use crate::net::body::RequestBody;
use crate::net::dial::AddressPolicy;
use hyper::client::conn::http1;
use hyper::client::conn::http2;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::time::Duration;
use std::time::Instant;

/// How long an unused connection is kept.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Unused HTTP/1.1 connections for each key.
const MAX_IDLE_PER_KEY: usize = 64;
/// Keys at the same time; beyond, connections are used once. Clients can name hosts to us.
const MAX_KEYS: usize = 1024;

/// What makes two connections interchangeable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PoolKey {
    pub(super) https: bool,
    /// As it stands in the URL, lower-case; IPv6 literals in brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) http2: bool,
    pub(super) addresses: AddressPolicy,
}

/// The sending end of a connection. Its other end is driven by a task that ends with it.
pub(super) enum PooledConn {
    Http1(http1::SendRequest<RequestBody>),
    Http2(http2::SendRequest<RequestBody>),
}

#[derive(Default)]
struct HostPool {
    /// The one used last is on top, so that the others get old.
    idle: Vec<(http1::SendRequest<RequestBody>, Instant)>,
    shared: Option<(http2::SendRequest<RequestBody>, Instant)>,
}

impl HostPool {
    fn is_empty(&self) -> bool {
        self.idle.is_empty() && self.shared.is_none()
    }

    fn drop_old(&mut self, now: Instant) {
        let fresh = |since: Instant| now.saturating_duration_since(since) < IDLE_TIMEOUT;
        self.idle.retain(|(line, since)| fresh(*since) && line.is_ready());
        if self.shared.as_ref().is_some_and(|(line, since)| !fresh(*since) || line.is_closed()) {
            self.shared = None;
        }
    }
}

#[derive(Default)]
struct PoolState {
    by_key: HashMap<PoolKey, HostPool>,
    /// A task sweeps while there is anything to sweep.
    swept: bool,
}

/// All unused connections of one client, and the shared HTTP/2 ones.
#[derive(Default)]
pub(super) struct Pool(Mutex<PoolState>);

impl Pool {
    fn shelves(&self) -> MutexGuard<'_, PoolState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that seems alive.
    pub(super) fn take(&self, key: &PoolKey) -> Option<PooledConn> {
        let mut all = self.shelves();
        let lines = all.by_key.get_mut(key)?;
        lines.drop_old(now());
        if let Some((line, since)) = &mut lines.shared {
            *since = now();
            return Some(PooledConn::Http2(line.clone()));
        }
        lines.idle.pop().map(|(line, _)| PooledConn::Http1(line))
    }

    /// Shares a new HTTP/2 connection, unless another one was quicker.
    pub(super) fn share(self: &Arc<Self>, key: &PoolKey, line: &http2::SendRequest<RequestBody>) {
        self.put(key.clone(), |shelf| {
            if shelf.shared.as_ref().is_none_or(|(other, _)| other.is_closed()) {
                shelf.shared = Some((line.clone(), now()));
            }
        });
    }

    /// Keeps an HTTP/1.1 connection for the next request, once this one's answer has been read to
    /// its end. An answer that is dropped before closes the connection, and nothing is kept.
    pub(super) fn return_conn(self: &Arc<Self>, key: PoolKey, mut line: http1::SendRequest<RequestBody>) {
        let pool = Arc::downgrade(self);
        tokio::spawn(async move {
            if line.ready().await.is_ok()
                && let Some(pool) = pool.upgrade()
            {
                pool.put(key, |shelf| {
                    if shelf.idle.len() < MAX_IDLE_PER_KEY {
                        shelf.idle.push((line, now()));
                    }
                });
            }
        });
    }

    fn put(self: &Arc<Self>, key: PoolKey, onto: impl FnOnce(&mut HostPool)) {
        let mut shelves = self.shelves();
        if shelves.by_key.len() >= MAX_KEYS && !shelves.by_key.contains_key(&key) {
            return;
        }
        onto(shelves.by_key.entry(key).or_default());
        if !shelves.swept {
            shelves.swept = true;
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.shelves().by_key.values().map(|shelf| shelf.idle.len()).sum()
    }
}

/// The monotonic clock, read here only.
#[expect(clippy::disallowed_methods, reason = "idle time is this room's own business")]
fn now() -> Instant {
    Instant::now()
}

/// Drops what nobody came back for, until nothing is left.
async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(IDLE_TIMEOUT / 3).await;
        let Some(pool) = pool.upgrade() else { return };
        let moment = now();
        let mut shelves = pool.shelves();
        shelves.by_key.retain(|_, shelf| {
            shelf.drop_old(moment);
            !shelf.is_empty()
        });
        if shelves.by_key.is_empty() {
            shelves.swept = false;
            return;
        }
    }
}
