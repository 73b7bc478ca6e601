//! Waiting for another refresh of the same grant, in this process or in another one.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::app::error::Rejection;
use crate::base::ids::Id;

/// The time for which a caller waits for another attempt.
pub const LEASE_WAIT: Duration = Duration::from_secs(20);
/// The time for which a caller waits in all. Work that runs for it continues.
pub const MAX_WAIT: Duration = Duration::from_secs(80);
/// The delays between the tries to commit a rotated token: the first, and the longest.
pub const FIRST_COMMIT_DELAY: Duration = Duration::from_millis(50);
/// The longest delay between tries to commit an answer.
pub const MAX_COMMIT_DELAY: Duration = Duration::from_secs(5);
/// The duration of one wait for an attempt of this process. A notification may come between the lookup
/// and the wait.
const LOCAL_WAIT: Duration = Duration::from_millis(250);
/// The time for which a caller waits before it asks for the lease again.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// The refreshes that run in this process.
#[derive(Debug, Default)]
pub struct RefreshLocks(Arc<DashMap<Id, Arc<Notify>>>);

impl RefreshLocks {
    /// Marks the grant as being refreshed here, until the guard is dropped.
    pub fn lock(&self, grant: Id) -> RefreshGuard {
        self.0.entry(grant).or_default();
        let locks = Arc::clone(&self.0);
        RefreshGuard { locks, grant }
    }

    fn running(&self, grant: Id) -> Option<Arc<Notify>> {
        self.0.get(&grant).map(|notify| Arc::clone(&notify))
    }
}

/// A refresh that runs in this process. Dropping it wakes those who wait for it.
#[derive(Debug)]
pub struct RefreshGuard {
    locks: Arc<DashMap<Id, Arc<Notify>>>,
    grant: Id,
}

impl Drop for RefreshGuard {
    fn drop(&mut self) {
        if let Some((_, notify)) = self.locks.remove(&self.grant) {
            notify.notify_waiters();
        }
    }
}

/// The caller has waited for [`LEASE_WAIT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimeout;

impl LeaseTimeout {
    /// The rejection for the client: it may try again after 5 s.
    pub fn into_rejection(self) -> Rejection {
        Rejection::TryLater { retry_after: 5 }
    }
}

/// One caller's wait for the lease of a grant.
#[derive(Debug)]
pub struct LeaseWait {
    deadline: Instant,
}

impl LeaseWait {
    /// Starts the wait.
    pub fn start() -> Self {
        Self {
            deadline: Instant::now() + LEASE_WAIT,
        }
    }

    /// Waits while a refresh of this grant runs in this process, however long it holds the upstream's
    /// answer. Returns whether one ran.
    ///
    /// # Errors
    /// If the time is up.
    pub async fn while_running(&self, locks: &RefreshLocks, grant: Id) -> Result<bool, LeaseTimeout> {
        let mut has_waited = false;
        while let Some(notify) = locks.running(grant) {
            has_waited = true;
            self.check()?;
            let _ = tokio::time::timeout(LOCAL_WAIT, notify.notified()).await;
        }
        Ok(has_waited)
    }

    /// Waits a moment for a refresh in another process.
    ///
    /// # Errors
    /// If the time is up.
    pub async fn pause(&self) -> Result<(), LeaseTimeout> {
        self.check()?;
        tokio::time::sleep(RETRY_DELAY).await;
        Ok(())
    }

    fn check(&self) -> Result<(), LeaseTimeout> {
        if Instant::now() < self.deadline {
            Ok(())
        } else {
            Err(LeaseTimeout)
        }
    }
}
