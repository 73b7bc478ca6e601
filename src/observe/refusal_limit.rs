//! Limits the log lines about refused requests: attackers can cause them without a credential.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter};

use crate::base::time::Stopwatch;

/// The target of a log line about a refused request.
pub const REFUSALS: &str = "mcp_oauth_gateway::refusals";

/// The number of such lines that may follow each other immediately.
const BURST: u64 = 200;
/// The number of further lines in a second.
const LINES_PER_SECOND: u64 = 20;

/// Lets refusals pass up to a rate, and all other lines.
#[derive(Debug)]
pub struct RefusalLimit {
    bucket: Mutex<Bucket>,
    /// The lines that did not pass.
    suppressed: Arc<AtomicU64>,
}

/// A token bucket.
#[derive(Debug)]
struct Bucket {
    clock: Stopwatch,
    lines: u64,
    /// When lines were last added, in microseconds.
    filled_at: u64,
}

impl RefusalLimit {
    /// Counts the lines that do not pass in `suppressed`.
    pub fn new(suppressed: Arc<AtomicU64>) -> Self {
        let bucket = Bucket {
            clock: Stopwatch::start(),
            lines: BURST,
            filled_at: 0,
        };
        Self {
            bucket: Mutex::new(bucket),
            suppressed,
        }
    }

    /// Whether a refusal may be logged now.
    fn allow(&self) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let now = bucket.clock.micros();
        let is_allowed = bucket.take(now);
        if !is_allowed {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
        }
        is_allowed
    }
}

impl Bucket {
    fn take(&mut self, now: u64) -> bool {
        let micros_per_line = 1_000_000 / LINES_PER_SECOND;
        let new_lines = now.saturating_sub(self.filled_at) / micros_per_line;
        self.filled_at += new_lines * micros_per_line;
        self.lines = (self.lines + new_lines).min(BURST);
        let is_allowed = self.lines > 0;
        self.lines = self.lines.saturating_sub(1);
        is_allowed
    }
}

impl<S: Subscriber> Filter<S> for RefusalLimit {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        event.metadata().target() != REFUSALS || self.allow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_pass_up_to_a_rate() {
        let mut bucket = Bucket {
            clock: Stopwatch::start(),
            lines: BURST,
            filled_at: 0,
        };
        let mut passed = |now: u64| (0..1_000).filter(|_| bucket.take(now)).count();
        assert_eq!(passed(0), 200);
        assert_eq!((passed(0), passed(1_000_000), passed(1_049_999)), (0, 20, 0));
        assert_eq!(passed(1_050_000), 1);
        assert_eq!(passed(3_600_000_000), 200, "never more than the burst");
    }

    #[test]
    fn suppressed_refusals_are_counted() {
        let limit = RefusalLimit::new(Arc::default());
        let passed = (0..500).filter(|_| limit.allow()).count() as u64;
        assert_eq!(passed + limit.suppressed.load(Ordering::Relaxed), 500);
        assert!(passed >= BURST && limit.suppressed.load(Ordering::Relaxed) > 0);
    }
}
