//! The times at which the generations of a grant were superseded, for the whole reuse window.

use serde::{Deserialize, Serialize};

use crate::base::time::UnixTime;

/// The number of parts of the reuse window.
const PARTS: u64 = 15;
/// The maximum number of checkpoints: one for each part, and two because the first and the last part are only
/// partly within the window. All generations before the first checkpoint are out of the window.
const MAX_CHECKPOINTS: usize = 17;

/// Checkpoints of superseded generations, oldest first. For all generations that were superseded within one
/// part of the reuse window, there is one checkpoint, of the last generation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Superseded(Vec<(u32, UnixTime)>);

impl Superseded {
    /// Notes that `generation` is superseded. `window` is the reuse window, in seconds.
    pub(super) fn note(&mut self, generation: u32, window: u64, now: UnixTime) {
        let part_seconds = window.div_ceil(PARTS).max(1);
        let part = |time: UnixTime| time.0 / part_seconds;
        if self.0.last().is_some_and(|(_, time)| part(*time) == part(now)) {
            self.0.pop();
        }
        self.0.push((generation, now));
        let excess = self.0.len().saturating_sub(MAX_CHECKPOINTS);
        self.0.drain(..excess);
    }

    /// Notes that `generation` and those before it were superseded at an unknown time. They are out of
    /// the reuse window.
    pub(super) fn note_unknown(&mut self, generation: u32) {
        self.0.clear();
        self.0.push((generation, UnixTime::default()));
    }

    /// Whether `generation` was superseded less than `window` seconds ago.
    pub(super) fn is_within(&self, generation: u32, window: u64, now: UnixTime) -> bool {
        self.0
            .iter()
            .find(|(last_generation, _)| *last_generation >= generation)
            .is_some_and(|(_, time)| now.seconds_since(*time) < window)
    }

    /// When the last generation was superseded, which is when the current one began. `None` in the
    /// first generation.
    pub(super) fn last_time(&self) -> Option<UnixTime> {
        self.0.last().map(|(_, time)| *time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn superseded_generations_are_known_for_the_whole_window_however_often_the_client_refreshes() {
        const WINDOW: u64 = 7_200;
        for interval in [1, 7, 60, 479, 480, 481, 3_000] {
            let mut superseded = Superseded::default();
            let time_of = |generation: u32| UnixTime(1_000_000 + u64::from(generation) * interval);
            for generation in 1..=20_000 {
                superseded.note(generation, WINDOW, time_of(generation));
            }
            let now = time_of(20_000);
            for generation in 1..=20_000 {
                let age = now.seconds_since(time_of(generation));
                let is_within = superseded.is_within(generation, WINDOW, now);
                assert!(age >= WINDOW || is_within, "forgotten: {generation}, every {interval} s");
                // The time that counts is at most one part of the window later.
                assert!(
                    !is_within || age < WINDOW + WINDOW.div_ceil(PARTS),
                    "too long: {generation}, every {interval} s"
                );
            }
            assert!(superseded.0.len() <= MAX_CHECKPOINTS);
        }
    }

    #[test]
    fn a_generation_that_was_superseded_before_a_pause_is_not_within_the_window() {
        let mut superseded = Superseded::default();
        superseded.note(1, 60, UnixTime(1_000));
        superseded.note(2, 60, UnixTime(9_000));
        assert!(!superseded.is_within(1, 60, UnixTime(9_000)));
        assert!(superseded.is_within(2, 60, UnixTime(9_059)) && !superseded.is_within(2, 60, UnixTime(9_060)));
        assert!(!superseded.is_within(2, 0, UnixTime(9_000)) && !superseded.is_within(3, 60, UnixTime(9_000)));
    }
}
