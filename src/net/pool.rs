//! Connection pool. Its key contains the address policy, so that policies share no connections.

use crate::net::body::RequestBody;
use crate::net::dial::AddressPolicy;
use hyper::client::conn::{http1, http2};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// The time for which an unused connection stays in the pool.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum number of unused HTTP/1.1 connections for each key.
const MAX_IDLE_PER_KEY: usize = 64;
/// Maximum number of keys; further connections are not pooled. Clients can name arbitrary hosts.
const MAX_KEYS: usize = 1024;

/// Connections with equal keys are interchangeable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PoolKey {
    pub(super) https: bool,
    /// Host as in the URL, in lower case; IPv6 literals in brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) http2: bool,
    pub(super) addresses: AddressPolicy,
}

/// The sending half of a connection. A task drives the other half and ends with it.
pub(super) enum PooledConn {
    Http1(http1::SendRequest<RequestBody>),
    Http2(http2::SendRequest<RequestBody>),
}

#[derive(Default)]
struct HostPool {
    /// A stack: the connection used last is taken first, so that surplus ones expire.
    idle: Vec<(http1::SendRequest<RequestBody>, Instant)>,
    shared: Option<(http2::SendRequest<RequestBody>, Instant)>,
}

impl HostPool {
    fn is_empty(&self) -> bool {
        self.idle.is_empty() && self.shared.is_none()
    }

    fn drop_old(&mut self, now: Instant) {
        let is_fresh = |since: Instant| now.saturating_duration_since(since) < IDLE_TIMEOUT;
        self.idle.retain(|(sender, since)| is_fresh(*since) && sender.is_ready());
        if self
            .shared
            .as_ref()
            .is_some_and(|(sender, since)| !is_fresh(*since) || sender.is_closed())
        {
            self.shared = None;
        }
    }
}

#[derive(Default)]
struct PoolState {
    by_key: HashMap<PoolKey, HostPool>,
    /// Whether the sweep task runs. It ends when the pool is empty.
    swept: bool,
}

/// The unused HTTP/1.1 connections of one client, and its shared HTTP/2 connections.
#[derive(Default)]
pub(super) struct Pool(Mutex<PoolState>);

impl Pool {
    fn shelves(&self) -> MutexGuard<'_, PoolState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a connection that seems alive.
    pub(super) fn take(&self, key: &PoolKey) -> Option<PooledConn> {
        let mut state = self.shelves();
        let host_pool = state.by_key.get_mut(key)?;
        host_pool.drop_old(now());
        if let Some((sender, since)) = &mut host_pool.shared {
            *since = now();
            return Some(PooledConn::Http2(sender.clone()));
        }
        host_pool.idle.pop().map(|(sender, _)| PooledConn::Http1(sender))
    }

    /// Shares a new HTTP/2 connection, unless an open one is already shared.
    pub(super) fn share(self: &Arc<Self>, key: &PoolKey, sender: &http2::SendRequest<RequestBody>) {
        self.put(key.clone(), |host_pool| {
            if host_pool.shared.as_ref().is_none_or(|(other, _)| other.is_closed()) {
                host_pool.shared = Some((sender.clone(), now()));
            }
        });
    }

    /// Pools an HTTP/1.1 connection after the response to its request has been read to the end. If
    /// the response is dropped earlier, the connection closes and is not pooled.
    pub(super) fn return_conn(self: &Arc<Self>, key: PoolKey, mut sender: http1::SendRequest<RequestBody>) {
        let pool = Arc::downgrade(self);
        tokio::spawn(async move {
            if sender.ready().await.is_ok()
                && let Some(pool) = pool.upgrade()
            {
                pool.put(key, |host_pool| {
                    if host_pool.idle.len() < MAX_IDLE_PER_KEY {
                        host_pool.idle.push((sender, now()));
                    }
                });
            }
        });
    }

    fn put(self: &Arc<Self>, key: PoolKey, change: impl FnOnce(&mut HostPool)) {
        let mut state = self.shelves();
        if state.by_key.len() >= MAX_KEYS && !state.by_key.contains_key(&key) {
            return;
        }
        change(state.by_key.entry(key).or_default());
        if !state.swept {
            state.swept = true;
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.shelves().by_key.values().map(|host_pool| host_pool.idle.len()).sum()
    }
}

#[expect(clippy::disallowed_methods, reason = "idle time is this room's own business")]
fn now() -> Instant {
    Instant::now()
}

/// Drops expired connections until the pool is empty.
async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(IDLE_TIMEOUT / 3).await;
        let Some(pool) = pool.upgrade() else { return };
        let now = now();
        let mut state = pool.shelves();
        state.by_key.retain(|_, host_pool| {
            host_pool.drop_old(now);
            !host_pool.is_empty()
        });
        if state.by_key.is_empty() {
            state.swept = false;
            return;
        }
    }
}
