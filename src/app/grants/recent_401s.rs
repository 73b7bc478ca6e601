//! What was noted a moment ago, and need not be noted again.

use quick_cache::sync::Cache;

use crate::base::ids::Id;
use crate::base::time::UnixTime;

/// Generations whose upstream said 401 a moment ago: one note is enough, however often the client comes.
#[derive(Debug)]
pub struct Recent401s(Cache<(Id, u32), UnixTime>);

/// For so many seconds a note stands.
const SUPPRESS_SECONDS: u64 = 60;
/// The most notes that are remembered; forgetting one costs a look into the store.
const MAX_ENTRIES: usize = 10_000;

impl Default for Recent401s {
    fn default() -> Self {
        Self(Cache::new(MAX_ENTRIES))
    }
}

impl Recent401s {
    /// Whether this is the first time in a minute.
    pub fn note_once(&self, grant: Id, generation: u32, now: UnixTime) -> bool {
        let key = (grant, generation);
        if self.0.get(&key).is_some_and(|at| now.seconds_since(at) < SUPPRESS_SECONDS) {
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
        let (noted, grant, now) = (Recent401s::default(), Id::random(), UnixTime(1_000));
        let count = |generation, now| (0..100).filter(|_| noted.note_once(grant, generation, now)).count();
        assert_eq!(
            (count(1, now), count(1, now.plus_seconds(59)), count(1, now.plus_seconds(60))),
            (1, 0, 1)
        );
        assert_eq!(count(2, now), 1);
        assert!(noted.note_once(Id::random(), 1, now));
    }

    #[test]
    fn notes_of_ever_more_grants_take_no_more_room() {
        let noted = Recent401s::default();
        assert!((0..5 * MAX_ENTRIES).all(|_| noted.note_once(Id::random(), 1, UnixTime(1_000))));
        assert!(noted.0.len() <= MAX_ENTRIES);
    }
}
