//! How many loops one key runs at the same time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::ids::Id;

/// The most loops of one key.
const MAX_LOOPS: usize = 8;

/// Counts running loops.
#[derive(Clone, Debug, Default)]
pub struct RunningLoops(Arc<Mutex<HashMap<Id, usize>>>);

/// A running loop. It ends when this is dropped.
#[derive(Debug)]
pub struct LoopGuard {
    loops: RunningLoops,
    key: Id,
}

impl RunningLoops {
    fn with<T>(&self, change: impl FnOnce(&mut HashMap<Id, usize>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a loop of this key; `None` if it has too many.
    pub fn begin(&self, key: Id) -> Option<LoopGuard> {
        let is_counted = self.with(|counts| {
            let count = counts.entry(key).or_default();
            let has_room = *count < MAX_LOOPS;
            *count += usize::from(has_room);
            has_room
        });
        is_counted.then(|| LoopGuard { loops: self.clone(), key })
    }
}

impl Drop for LoopGuard {
    fn drop(&mut self) {
        self.loops.with(|counts| {
            if let Some(count) = counts.get_mut(&self.key) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&self.key);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_runs_eight_loops_and_another_key_is_not_affected() {
        let loops = RunningLoops::default();
        let guards: Vec<_> = (0..MAX_LOOPS).map(|_| loops.begin(Id([1; 16])).expect("room")).collect();
        assert!(loops.begin(Id([1; 16])).is_none() && loops.begin(Id([2; 16])).is_some());
        drop(guards);
        assert!(loops.begin(Id([1; 16])).is_some() && loops.with(|counts| counts.len()) == 0);
    }
}
