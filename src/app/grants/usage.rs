//! The memory of this process about the use of pairs: branches that no client has used yet, and
//! generations that the upstream answered with 401.

use quick_cache::UnitWeighter;
use quick_cache::sync::Cache;

use crate::base::ids::Id;
use crate::base::time::UnixTime;

/// The maximum number of branches that [`UnconfirmedBranches`] remembers. Forgetting one only lengthens the
/// acceptance of its predecessor.
const MAX_UNCONFIRMED: usize = 100_000;
/// For how many branches there is memory from the start.
const EXPECTED_UNCONFIRMED: usize = 1_000;

/// For how many seconds [`Recent401s`] suppresses a second note.
const SUPPRESS_SECONDS: u64 = 60;
/// The maximum number of notes that [`Recent401s`] remembers. Forgetting one costs a read of the store.
const MAX_RECENT_401S: usize = 10_000;

/// Branches that were sent to a client and not yet used by it. A newer one evicts an old one, so
/// grants whose pairs are never used cannot fill this for all others.
#[derive(Debug)]
pub struct UnconfirmedBranches(Cache<(Id, u8), u32>);

impl Default for UnconfirmedBranches {
    fn default() -> Self {
        // The map starts small, so that the memory of the whole capacity is not allocated immediately.
        Self(Cache::with_weighter(EXPECTED_UNCONFIRMED, MAX_UNCONFIRMED as u64, UnitWeighter))
    }
}

impl UnconfirmedBranches {
    /// Remembers that a pair of this branch is on its way to the client.
    pub fn insert(&self, grant: Id, branch: u8, generation: u32) {
        self.0.insert((grant, branch), generation);
    }

    /// Notes that a client used an access pair. Returns true if this is the first use of its branch.
    pub fn confirm(&self, grant: Id, branch: u8, generation: u32) -> bool {
        let key = (grant, branch);
        // Most requests need only this read.
        self.0.get(&key).is_some() && self.0.remove_if(&key, |unconfirmed| *unconfirmed <= generation).is_some()
    }
}

/// Generations that the upstream answered with 401 within the last seconds. One note is enough, however often
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
    fn only_the_first_use_of_a_branch_confirms_it() {
        let (unconfirmed, grant) = (UnconfirmedBranches::default(), Id::random());
        unconfirmed.insert(grant, 1, 2);
        assert!(!unconfirmed.confirm(grant, 1, 1) && !unconfirmed.confirm(grant, 0, 2) && !unconfirmed.confirm(Id::random(), 1, 2));
        assert!(unconfirmed.confirm(grant, 1, 2) && !unconfirmed.confirm(grant, 1, 2));
    }

    #[test]
    fn grants_that_are_never_used_do_not_keep_others_from_being_confirmed() {
        let unconfirmed = UnconfirmedBranches::default();
        for _ in 0..2 * MAX_UNCONFIRMED {
            unconfirmed.insert(Id::random(), 0, 1);
        }
        assert!(unconfirmed.0.len() <= MAX_UNCONFIRMED);
        let grant = Id::random();
        unconfirmed.insert(grant, 0, 1);
        assert!(unconfirmed.confirm(grant, 0, 1));
    }

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
