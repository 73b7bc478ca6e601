//! The attempts of one write: how many, how long apart, and when they fail.

use std::time::Duration;

use crate::base::random;
use crate::store::error::StoreError;

/// The number of attempts to write while other writers change the same record.
pub(super) const MAX_ATTEMPTS: u32 = 64;

/// After this many writes without an answer, the store counts as unavailable.
const MAX_UNANSWERED: usize = 3;

/// Lets other tasks run; after four attempts, sleeps for a random time of 1 to 8 ms.
pub(super) async fn backoff(attempt: u32) {
    if attempt < 4 {
        tokio::task::yield_now().await;
    } else {
        let [jitter] = random::bytes();
        tokio::time::sleep(Duration::from_millis(1 + u64::from(jitter % 8))).await;
    }
}

/// Fails after [`MAX_UNANSWERED`] lost answers. Callers first read whether a write was done.
pub(super) fn check_unanswered(unanswered: usize) -> Result<(), StoreError> {
    if unanswered < MAX_UNANSWERED {
        return Ok(());
    }
    Err(StoreError::Unavailable("writes are not answered".to_owned()))
}

pub(super) fn contention_error() -> StoreError {
    StoreError::Unavailable("too many others write the same record".to_owned())
}
