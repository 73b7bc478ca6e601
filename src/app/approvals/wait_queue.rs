//! The calls of this process that wait for one approval, the oldest first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

use crate::base::ids::Id;

type Waiting = Arc<DashMap<Id, VecDeque<u64>>>;

#[derive(Debug, Default)]
pub(super) struct WaitQueue {
    waiting: Waiting,
    next: AtomicU64,
}

impl WaitQueue {
    /// Takes the last place of the queue of an approval.
    pub(super) fn enqueue(&self, approval: Id) -> Ticket {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.waiting.entry(approval).or_default().push_back(number);
        Ticket {
            waiting: Arc::clone(&self.waiting),
            approval,
            number,
        }
    }
}

/// A place in a queue. Dropping it leaves the queue.
#[derive(Debug)]
pub(in crate::app) struct Ticket {
    waiting: Waiting,
    approval: Id,
    number: u64,
}

impl Ticket {
    /// Whether no older call waits.
    pub(in crate::app) fn is_first(&self) -> bool {
        let queue = self.waiting.get(&self.approval);
        queue.is_none_or(|queue| queue.front() == Some(&self.number))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(mut queue) = self.waiting.get_mut(&self.approval) {
            queue.retain(|number| *number != self.number);
        }
        self.waiting.remove_if(&self.approval, |_, queue| queue.is_empty());
    }
}
