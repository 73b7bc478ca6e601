//! A cached lookup: what was found, or why the lookup failed, and when.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

use crate::base::time::UnixTime;

/// The time for which a result is used, in seconds.
const TTL_SECONDS: u64 = 3_600;

/// The pause after a failed lookup of a known value, in seconds.
pub const RETRY_DELAY_SECONDS: u64 = 30;

/// The time for which a failure is repeated without a new lookup, in seconds: during an outage, not every
/// sign-in looks.
const NEGATIVE_TTL_SECONDS: u64 = 5;

/// The last result of a lookup.
#[derive(Debug)]
pub struct DiscoveryCache<T, E> {
    found: ArcSwapOption<(Arc<T>, UnixTime)>,
    failure: ArcSwapOption<(E, UnixTime)>,
    lookup: Semaphore,
}

impl<T, E> Default for DiscoveryCache<T, E> {
    fn default() -> Self {
        Self {
            found: ArcSwapOption::empty(),
            failure: ArcSwapOption::empty(),
            lookup: Semaphore::new(1),
        }
    }
}

impl<T, E: Clone + fmt::Display> DiscoveryCache<T, E> {
    /// The result, if it is not too old.
    pub fn fresh(&self, now: UnixTime) -> Option<Arc<T>> {
        let entry = self.found.load_full()?;
        (now.seconds_since(entry.1) < TTL_SECONDS).then(|| Arc::clone(&entry.0))
    }

    /// The result, however old it is.
    pub fn latest(&self) -> Option<Arc<T>> {
        self.found.load().as_ref().map(|entry| Arc::clone(&entry.0))
    }

    /// The reason why the last lookup failed, if it failed within the last seconds and none succeeded before.
    pub fn recent_failure(&self, now: UnixTime) -> Option<E> {
        let failure = self.failure.load_full()?;
        let is_recent = now.seconds_since(failure.1) < NEGATIVE_TTL_SECONDS;
        (is_recent && self.found.load().is_none()).then(|| failure.0.clone())
    }

    /// Whether a lookup in advance is useful: none failed within the last seconds.
    pub fn is_lookup_due(&self, now: UnixTime) -> bool {
        let failure = self.failure.load();
        failure
            .as_ref()
            .is_none_or(|failure| now.seconds_since(failure.1) >= RETRY_DELAY_SECONDS)
    }

    /// Waits for the turn of this caller: one lookup runs at a time.
    pub async fn turn(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.lookup.acquire().await
    }

    /// Stores the result of a lookup. If it failed and something was found before, that is returned
    /// and used until [`RETRY_DELAY_SECONDS`] have passed. `of` names the other side in the log.
    pub fn store_result(&self, of: &str, result: Result<T, E>, now: UnixTime) -> Result<Arc<T>, E> {
        let (value, found_at) = match (result, self.latest()) {
            (Ok(value), _) => (Arc::new(value), now),
            (Err(error), Some(previous)) => {
                tracing::warn!(of, %error, "a lookup failed; the previous result is used");
                (previous, now.minus_seconds(TTL_SECONDS - RETRY_DELAY_SECONDS))
            }
            (Err(error), None) => {
                self.failure.store(Some(Arc::new((error.clone(), now))));
                return Err(error);
            }
        };
        self.found.store(Some(Arc::new((Arc::clone(&value), found_at))));
        Ok(value)
    }

    /// Makes the result old: the next lookup looks again, and keeps the result if that fails.
    pub fn expire(&self) {
        if let Some(entry) = self.found.load_full() {
            self.found.store(Some(Arc::new((Arc::clone(&entry.0), UnixTime(0)))));
        }
    }

    /// Forgets what was found.
    pub fn clear(&self) {
        self.found.store(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_lookup_keeps_an_earlier_result_and_is_otherwise_cached() {
        let cache = DiscoveryCache::<u32, String>::default();
        assert_eq!(
            cache.store_result("docs", Err("down".to_owned()), UnixTime(1_000)),
            Err("down".to_owned())
        );
        assert_eq!(cache.recent_failure(UnixTime(1_004)), Some("down".to_owned()));
        assert_eq!(cache.recent_failure(UnixTime(1_005)), None);
        assert!(!cache.is_lookup_due(UnixTime(1_029)) && cache.is_lookup_due(UnixTime(1_030)));
        assert_eq!(cache.store_result("docs", Ok(7), UnixTime(2_000)).as_deref(), Ok(&7));
        assert!(cache.fresh(UnixTime(5_599)).is_some() && cache.fresh(UnixTime(5_600)).is_none());
        assert_eq!(
            cache.store_result("docs", Err("down".to_owned()), UnixTime(6_000)).as_deref(),
            Ok(&7)
        );
        assert!(cache.fresh(UnixTime(6_029)).is_some() && cache.fresh(UnixTime(6_030)).is_none());
        assert_eq!(cache.recent_failure(UnixTime(6_001)), None);
        cache.clear();
        assert_eq!(cache.latest(), None);
    }
}
