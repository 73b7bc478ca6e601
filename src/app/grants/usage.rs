//! What is open right now: streams that end with their grant, and pairs whose arrival is not yet proved.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;

use crate::base::ids::Id;
use crate::net::body::StreamGuard;
use crate::net::stop::{Ender, Ends};

/// Open streams by grant.
#[derive(Debug, Default)]
pub struct EventStreams {
    by_grant: DashMap<Id, (Ender, Ends, Arc<AtomicUsize>)>,
    count: Arc<AtomicUsize>,
}

impl EventStreams {
    /// Counts a stream of `grant`, and ties it to the grant's end.
    pub fn open(&self, grant: Id) -> StreamGuard {
        let entry = self.by_grant.entry(grant).or_insert_with(|| {
            let (ender, ends) = Ends::new();
            (ender, ends, Arc::default())
        });
        StreamGuard::new(&entry.2, Some(entry.1.clone()))
    }

    /// Ends every stream of `grant`.
    pub fn end(&self, grant: Id) {
        if let Some((_, (ender, _, _))) = self.by_grant.remove(&grant) {
            ender.end();
        }
    }

    /// Forgets grants without a stream.
    pub fn sweep(&self) {
        self.by_grant.retain(|_, (_, _, open)| open.load(Ordering::Acquire) > 0);
        self.count.store(self.by_grant.len(), Ordering::Release);
    }
}

/// Generations that were handed out and not yet seen coming back.
#[derive(Debug, Default)]
pub struct UnconfirmedGenerations {
    generation: DashMap<Id, u32>,
    count: AtomicUsize,
}

/// The most that is remembered; forgetting one only lengthens a grace.
const MAX_ENTRIES: usize = 100_000;

impl UnconfirmedGenerations {
    /// A pair of this generation is on its way to the client.
    pub fn insert(&self, grant: Id, generation: u32) {
        if self.count.load(Ordering::Relaxed) < MAX_ENTRIES && self.generation.insert(grant, generation).is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The proxy sees an access pair: true if this is the first proof of its generation. One load when there is nothing to prove.
    pub fn confirm(&self, grant: Id, generation: u32) -> bool {
        if self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let first = self.generation.remove_if(&grant, |_, sent| *sent <= generation).is_some();
        if first {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        first
    }
}
