//! Limits the connections that the gateway accepts, in all and from one source.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::base::special_ip::{self, Cidr};

/// The maximum number of connections of one source.
const MAX_PER_SOURCE: usize = 1_024;
/// The maximum number of connections without a known limit of open files.
const DEFAULT_TOTAL: usize = 10_000;
/// Open files that are no connections: the store, logs, certificates and the runtimes.
const OTHER_FILES: usize = 64;

/// Counts the connections of all listeners. An IPv6 source is a /64 network, which one subscriber has.
#[derive(Debug)]
pub struct ConnectionQuota {
    total: Arc<Semaphore>,
    per_source: usize,
    /// Proxies, which have the connections of many callers.
    exempt: Vec<Cidr>,
    by_source: Mutex<HashMap<IpAddr, usize>>,
}

impl Default for ConnectionQuota {
    fn default() -> Self {
        Self::new(DEFAULT_TOTAL, MAX_PER_SOURCE, Vec::new())
    }
}

impl ConnectionQuota {
    /// Allows `total` connections, and `per_source` of a source that is not `exempt`.
    pub fn new(total: usize, per_source: usize, exempt: Vec<Cidr>) -> Self {
        Self {
            total: Arc::new(Semaphore::new(total.min(Semaphore::MAX_PERMITS))),
            per_source,
            exempt,
            by_source: Mutex::default(),
        }
    }

    /// The quota of a process that may open `open_files` files, at most `max_total` connections. Each
    /// connection leaves one file for a connection to an upstream, so accepting stops first. A source
    /// has at most a quarter of the files.
    pub fn for_open_files(open_files: Option<u64>, max_total: usize, exempt: Vec<Cidr>) -> Self {
        let files = open_files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
        let total = (files.saturating_sub(OTHER_FILES) / 2).clamp(1, max_total);
        Self::new(total, (files / 4).clamp(1, MAX_PER_SOURCE), exempt)
    }

    /// Waits for room for another connection.
    pub(super) async fn permit(&self) -> OwnedSemaphorePermit {
        match Arc::clone(&self.total).acquire_owned().await {
            Ok(permit) => permit,
            // The semaphore is never closed.
            Err(_) => std::future::pending().await,
        }
    }

    /// Counts a connection of this source until the result is dropped. `None` if the source has too many.
    pub(super) fn admit(self: &Arc<Self>, source: IpAddr) -> Option<SourceSlot> {
        let source = source.to_canonical();
        if self.exempt.iter().any(|network| network.covers(source)) {
            return Some(SourceSlot(None));
        }
        let source = special_ip::rate_limit_key(source);
        let mut by_source = self.sources();
        let open = by_source.entry(source).or_default();
        if *open >= self.per_source {
            return None;
        }
        *open += 1;
        Some(SourceSlot(Some((Arc::clone(self), source))))
    }

    fn sources(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.by_source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A counted connection.
#[derive(Debug)]
pub(super) struct SourceSlot(Option<(Arc<ConnectionQuota>, IpAddr)>);

impl Drop for SourceSlot {
    fn drop(&mut self) {
        let Some((quota, source)) = self.0.take() else { return };
        let mut by_source = quota.sources();
        if let Some(open) = by_source.get_mut(&source) {
            *open -= 1;
            if *open == 0 {
                by_source.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn a_source_has_at_most_its_quota_of_connections() {
        let quota = Arc::new(ConnectionQuota::new(100, 2, vec!["10.0.0.0/8".parse().expect("block")]));
        let first = quota.admit(ip("2001:db8::1")).expect("room");
        let second = quota.admit(ip("2001:db8::2")).expect("room");
        assert!(quota.admit(ip("2001:db8::3")).is_none(), "one /64 is one source");
        let others = [quota.admit(ip("2001:db8:0:1::1")), quota.admit(ip("192.0.2.1"))];
        assert!(others.iter().all(Option::is_some));
        let proxied: Vec<_> = (0..9).map(|_| quota.admit(ip("::ffff:10.0.0.1"))).collect();
        assert!(proxied.iter().all(Option::is_some), "a proxy has no limit");
        drop(second);
        assert!(quota.admit(ip("2001:db8::3")).is_some());
        drop((first, others, proxied));
        assert!(quota.sources().is_empty());
    }

    #[test]
    fn accepting_stops_before_the_last_open_file() {
        for (files, total, per_source) in [
            (Some(1_024), 480, 256),
            (Some(65_536), 20_000, 1_024),
            (None, 20_000, 1_024),
            (Some(10), 1, 2),
        ] {
            let quota = ConnectionQuota::for_open_files(files, 20_000, Vec::new());
            assert_eq!(
                (quota.total.available_permits(), quota.per_source),
                (total, per_source),
                "{files:?}"
            );
        }
    }
}
