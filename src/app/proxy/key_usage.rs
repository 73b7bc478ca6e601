//! The use of API keys, for the audit log: once an hour for each key, so that a busy key does not fill it.

use quick_cache::sync::Cache;

use crate::base::ids::Id;
use crate::base::time::UnixTime;

/// For how many seconds the next use of a key is not recorded.
const QUIET_SECONDS: u64 = 3_600;
/// The maximum number of keys whose last recorded use is remembered. Forgetting one records it again.
const MAX_KEYS: usize = 1_000;

/// When the use of each API key was last recorded.
#[derive(Debug)]
pub(super) struct RecentKeyUses(Cache<Id, UnixTime>);

impl Default for RecentKeyUses {
    fn default() -> Self {
        Self(Cache::new(MAX_KEYS))
    }
}

impl RecentKeyUses {
    /// Notes a use. Returns whether it is the first one of this key in an hour.
    pub(super) fn note_first(&self, key: Id, now: UnixTime) -> bool {
        if self.0.get(&key).is_some_and(|time| now.seconds_since(time) < QUIET_SECONDS) {
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
    fn use_of_a_key_is_recorded_once_an_hour() {
        let (uses, key) = (RecentKeyUses::default(), Id::random());
        let first = |now| uses.note_first(key, UnixTime(now));
        assert_eq!([first(1_000), first(4_599), first(4_600)], [true, false, true]);
        assert!(uses.note_first(Id::random(), UnixTime(4_600)));
    }
}
