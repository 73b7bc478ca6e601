//! What is open right now: streams that end with their grant, and pairs whose arrival is not yet proved.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use quick_cache::sync::Cache;

use crate::base::ids::Id;
use crate::base::time::UnixTime;
use crate::net::body::StreamGuard;
use crate::net::stop::{Ender, Ends};

/// Open streams by grant.
#[derive(Debug, Default)]
pub struct Streams {
    by_grant: DashMap<Id, (Ender, Ends, Arc<AtomicUsize>)>,
    count: Arc<AtomicUsize>,
}

impl Streams {
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
pub struct Unproved {
    generation: DashMap<Id, u32>,
    count: AtomicUsize,
}

/// The most that is remembered; forgetting one only lengthens a grace.
const MOST: usize = 100_000;

impl Unproved {
    /// A pair of this generation is on its way to the client.
    pub fn sent(&self, grant: Id, generation: u32) {
        if self.count.load(Ordering::Relaxed) < MOST && self.generation.insert(grant, generation).is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The proxy sees an access pair: true if this is the first proof of its generation. One load when there is nothing to prove.
    pub fn seen(&self, grant: Id, generation: u32) -> bool {
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

/// Generations whose upstream said 401 a moment ago: one note is enough, however often the client comes.
#[derive(Debug)]
pub struct Noted(Cache<(Id, u32), UnixTime>);

/// For so many seconds a note stands.
const STANDS: u64 = 60;
/// The most notes that are remembered; forgetting one costs a look into the store.
const NOTES: usize = 10_000;

impl Default for Noted {
    fn default() -> Self {
        Self(Cache::new(NOTES))
    }
}

impl Noted {
    /// Whether this is the first time in a minute.
    pub fn first(&self, grant: Id, generation: u32, now: UnixTime) -> bool {
        let key = (grant, generation);
        if self.0.get(&key).is_some_and(|at| now.since(at) < STANDS) {
            return false;
        }
        self.0.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_noted_once_a_minute_and_each_for_itself() {
        let (noted, grant, now) = (Noted::default(), Id::fresh(), UnixTime(1_000));
        let count = |generation, now| (0..100).filter(|_| noted.first(grant, generation, now)).count();
        assert_eq!((count(1, now), count(1, now.after(59)), count(1, now.after(60))), (1, 0, 1));
        assert_eq!(count(2, now), 1);
        assert!(noted.first(Id::fresh(), 1, now));
    }

    #[test]
    fn notes_of_ever_more_grants_take_no_more_room() {
        let noted = Noted::default();
        assert!((0..5 * NOTES).all(|_| noted.first(Id::fresh(), 1, UnixTime(1_000))));
        assert!(noted.0.len() <= NOTES);
    }
}
