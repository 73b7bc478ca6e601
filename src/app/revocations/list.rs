//! The revocation list: the ended grants and revoked API keys, in memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::Notify;

use crate::base::ids::Id;
use crate::base::time::UnixTime;

/// The ids of what has ended, each until the last token that could be presented has expired.
#[derive(Debug, Default)]
pub struct RevocationList {
    until: DashMap<Id, UnixTime>,
    is_complete: AtomicBool,
    completed: Notify,
}

impl RevocationList {
    /// Whether this grant or API key has ended.
    pub fn contains(&self, id: Id) -> bool {
        self.until.contains_key(&id)
    }

    /// Lists a grant or API key until `until`, or until the later time that it is listed for already:
    /// what this process ended may outlive what the store says.
    pub fn add(&self, id: Id, until: UnixTime) {
        self.until
            .entry(id)
            .and_modify(|current| *current = (*current).max(until))
            .or_insert(until);
    }

    /// Whether the list is complete. Before that, no MCP request may be answered.
    pub fn is_complete(&self) -> bool {
        self.is_complete.load(Ordering::Acquire)
    }

    /// Says that everything in the store is listed, and wakes those who wait.
    pub fn set_complete(&self) {
        self.is_complete.store(true, Ordering::Release);
        self.completed.notify_waiters();
    }

    /// Waits for [`Self::set_complete`], at most `timeout`. Returns whether the list is complete.
    pub async fn wait_complete(&self, timeout: Duration) -> bool {
        // Created before the check, so that a call in between is not missed.
        let completed = self.completed.notified();
        self.is_complete() || tokio::time::timeout(timeout, completed).await.is_ok()
    }

    /// All listed ids.
    pub fn ids(&self) -> Vec<Id> {
        self.until.iter().map(|entry| *entry.key()).collect()
    }

    /// Removes what can no longer be presented.
    pub fn sweep(&self, now: UnixTime) {
        self.until.retain(|_, until| *until >= now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_early_request_waits_for_the_revocation_list_or_times_out() {
        let list = RevocationList::default();
        assert!(!list.wait_complete(Duration::from_millis(1)).await);
        let load = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            list.set_complete();
        };
        let (is_complete, ()) = tokio::join!(list.wait_complete(Duration::from_secs(60)), load);
        assert!(is_complete && list.wait_complete(Duration::ZERO).await);
    }
}
