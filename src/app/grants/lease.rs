//! Who is refreshing in this process, and what must finish before we go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use tokio::sync::Notify;

use crate::base::ids::Id;

/// The refreshes that run here, and a count of all detached work.
#[derive(Debug, Default, Clone)]
pub struct Inflight(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    waiting: DashMap<Id, Arc<Notify>>,
    running: AtomicUsize,
    idle: Notify,
}

/// One piece of detached work; dropping it wakes whoever waits for it.
#[derive(Debug)]
pub struct RefreshGuard {
    of: Inflight,
    grant: Id,
}

impl Inflight {
    /// A refresh of `grant` begins here.
    pub fn lock(&self, grant: Id) -> RefreshGuard {
        self.0.running.fetch_add(1, Ordering::AcqRel);
        self.0.waiting.entry(grant).or_default();
        RefreshGuard { of: self.clone(), grant }
    }

    /// What a loser of the race waits on, if the winner is in this process.
    pub fn wait_for(&self, grant: Id) -> Option<Arc<Notify>> {
        self.0.waiting.get(&grant).map(|notify| Arc::clone(&notify))
    }

    /// Resolves when no detached work is left.
    pub async fn drained(&self) {
        loop {
            let idle = self.0.idle.notified();
            if self.0.running.load(Ordering::Acquire) == 0 {
                return;
            }
            idle.await;
        }
    }
}

impl Drop for RefreshGuard {
    fn drop(&mut self) {
        if let Some((_, notify)) = self.of.0.waiting.remove(&self.grant) {
            notify.notify_waiters();
        }
        self.of.0.running.fetch_sub(1, Ordering::AcqRel);
        self.of.0.idle.notify_waiters();
    }
}
