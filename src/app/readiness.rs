//! Checks for health checks whether the store answers. They need no credential, so the result is used for a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

use crate::app::tasks::Tasks;
use crate::base::time::Stopwatch;
use crate::store::Store;

/// How often the store is asked, in microseconds.
const PING_INTERVAL_MICROS: u64 = 1_000_000;

/// The last answer of the store, which all health checks share.
#[derive(Debug)]
pub(in crate::app) struct StorePing {
    clock: Stopwatch,
    /// When the store may be asked again, in microseconds of `clock`.
    next: AtomicU64,
    last: ArcSwapOption<Result<(), String>>,
}

impl StorePing {
    pub(in crate::app) fn new() -> Self {
        Self {
            clock: Stopwatch::start(),
            next: AtomicU64::new(0),
            last: ArcSwapOption::empty(),
        }
    }

    /// Whether the store answered. Asks it if the last answer is older than a second; others get the last
    /// answer meanwhile. The question is detached, so that a caller who hangs up does not stop it.
    ///
    /// # Errors
    /// If the store did not answer, or has not answered yet. The text says why.
    pub(in crate::app) async fn check(self: &Arc<Self>, store: &Store, tasks: &Tasks) -> Result<(), String> {
        let (now, next) = (self.clock.micros(), self.next.load(Ordering::Acquire));
        let after = now + PING_INTERVAL_MICROS;
        if now >= next && self.next.compare_exchange(next, after, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            let (this, store) = (Arc::clone(self), store.clone());
            let ping = tasks.spawn(async move {
                let answer = store.ping().await.map_err(|error| error.to_string());
                this.last.store(Some(Arc::new(answer)));
            });
            // A panic leaves the last answer.
            let _ = ping.await;
        }
        let last = self.last.load_full();
        last.map_or_else(|| Err("the store has not answered yet".to_owned()), |answer| (*answer).clone())
    }
}

#[cfg(test)]
mod tests {
    use arc_swap::ArcSwap;

    use super::*;
    use crate::base::keyring::{self, KeyRing};
    use crate::base::time::{Clock, UnixTime};
    use crate::net::http_client::HttpClient;
    use crate::store::{Backend, Memory};

    #[tokio::test]
    async fn many_health_checks_ask_the_store_once_a_second() {
        let keys = keyring::generate(UnixTime(0));
        let keys = Arc::new(ArcSwap::from_pointee(KeyRing::parse(keys.expose()).unwrap()));
        let store = Store::new(Backend::Memory(Memory::new()), keys, Clock::System);
        let tasks = Tasks::new(tokio::runtime::Handle::current(), HttpClient::without_roots());
        let ping = Arc::new(StorePing::new());
        assert_eq!(ping.check(&store, &tasks).await, Ok(()));
        let first = ping.last.load_full().unwrap();
        // The clock cannot have passed the next time, so that no check asks again.
        ping.next.store(u64::MAX, Ordering::Release);
        for _ in 0..100 {
            assert_eq!(ping.check(&store, &tasks).await, Ok(()));
        }
        assert!(Arc::ptr_eq(&first, &ping.last.load_full().unwrap()));
        ping.next.store(0, Ordering::Release);
        assert_eq!(ping.check(&store, &tasks).await, Ok(()));
        assert!(!Arc::ptr_eq(&first, &ping.last.load_full().unwrap()), "asked again");
        assert!(ping.next.load(Ordering::Acquire) >= PING_INTERVAL_MICROS);
    }
}
