//! What this process remembers of the use of pairs: generations that no client has used yet, and
//! generations that the upstream answered with 401.

use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use quick_cache::sync::Cache;

use crate::base::ids::Id;
use crate::base::time::UnixTime;

/// The most generations that [`UnconfirmedGenerations`] remembers. Forgetting one only lengthens a
/// reuse window.
const MAX_UNCONFIRMED: usize = 100_000;

/// For how many seconds [`Recent401s`] suppresses a second note.
const SUPPRESS_SECONDS: u64 = 60;
/// The most notes that [`Recent401s`] remembers. Forgetting one costs a read of the store.
const MAX_RECENT_401S: usize = 10_000;

/// Generations that were sent to a client and not yet used by it.
#[derive(Debug, Default)]
pub struct UnconfirmedGenerations {
    generation: DashMap<Id, u32>,
    count: AtomicUsize,
}

impl UnconfirmedGenerations {
    /// Remembers that a pair of this generation is on its way to the client.
    pub fn insert(&self, grant: Id, generation: u32) {
        if self.count.load(Ordering::Relaxed) < MAX_UNCONFIRMED && self.generation.insert(grant, generation).is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes that a client used an access pair. Returns true if this is the first use of its
    /// generation. It costs one load if no generation is unconfirmed.
    pub fn confirm(&self, grant: Id, generation: u32) -> bool {
        if self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let is_first = self
            .generation
            .remove_if(&grant, |_, unconfirmed| *unconfirmed <= generation)
            .is_some();
        if is_first {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        is_first
    }
}

/// Generations that the upstream answered with 401 a moment ago. One note is enough, however often
/// the client comes.
#[derive(Debug)]
pub struct Recent401s(Cache<(Id, u32), UnixTime>);

impl Default for Recent401s {
    fn default() -> Self {
        Self(Cache::new(MAX_RECENT_401S))
    }
}

impl Recent401s {
    /// Notes a 401. Returns whether it is the first one of this generation in a minute.
    pub fn note_once(&self, grant: Id, generation: u32, now: UnixTime) -> bool {
        let key = (grant, generation);
        if self.0.get(&key).is_some_and(|time| now.seconds_since(time) < SUPPRESS_SECONDS) {
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
    fn a_401_is_noted_once_a_minute_for_each_generation() {
        let (recent_401s, grant, now) = (Recent401s::default(), Id::random(), UnixTime(1_000));
        let count = |generation, now| (0..100).filter(|_| recent_401s.note_once(grant, generation, now)).count();
        assert_eq!(
            (count(1, now), count(1, now.plus_seconds(59)), count(1, now.plus_seconds(60))),
            (1, 0, 1)
        );
        assert_eq!(count(2, now), 1);
        assert!(recent_401s.note_once(Id::random(), 1, now));
    }

    #[test]
    fn recorded_upstream_401s_take_bounded_memory() {
        let recent_401s = Recent401s::default();
        assert!((0..5 * MAX_RECENT_401S).all(|_| recent_401s.note_once(Id::random(), 1, UnixTime(1_000))));
        assert!(recent_401s.0.len() <= MAX_RECENT_401S);
    }
}
