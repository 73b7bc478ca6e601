//! The limits of a tool loop as a state machine: model, tool calls, model, until an answer or a limit.
//! It is pure: the time that has passed is an argument.

use std::time::Duration;

/// What one request may use.
#[derive(Clone, Copy, Debug)]
pub struct LoopLimits {
    /// Requests to the vendor.
    pub rounds: u32,
    /// Calls of tools.
    pub calls: u32,
    /// Time, from the client's request.
    pub time: Duration,
}

impl Default for LoopLimits {
    fn default() -> Self {
        Self {
            rounds: 16,
            calls: 64,
            time: Duration::from_secs(900),
        }
    }
}

/// The limit that ended a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitReached {
    /// [`LoopLimits::rounds`].
    Rounds,
    /// [`LoopLimits::calls`].
    Calls,
    /// [`LoopLimits::time`].
    Time,
}

impl LimitReached {
    /// What the model and the client are told.
    pub fn message(self) -> &'static str {
        match self {
            Self::Rounds => "The gateway stopped here: the limit of rounds for one request is reached.",
            Self::Calls => "The gateway stopped here: the limit of tool calls for one request is reached.",
            Self::Time => "The gateway stopped here: the time limit for one request is reached.",
        }
    }
}

/// Whether a call that the model asks for runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It runs.
    Run,
    /// The client allows no more calls (`max_tool_calls`). The model is told, and answers without tools.
    ClientLimit,
    /// The loop ends after this round.
    Limit(LimitReached),
}

/// The counts of a running loop.
#[derive(Clone, Debug)]
pub struct Rounds {
    limits: LoopLimits,
    client_calls: Option<u32>,
    asked: u32,
    calls: u32,
}

impl Rounds {
    /// A loop that has not begun. `client_calls` is the client's own limit of calls.
    pub fn new(limits: LoopLimits, client_calls: Option<u32>) -> Self {
        Self {
            limits,
            client_calls,
            asked: 0,
            calls: 0,
        }
    }

    /// A request to the vendor begins.
    pub fn begun(&mut self) {
        self.asked += 1;
    }

    /// The number of requests to the vendor.
    pub fn count(&self) -> u32 {
        self.asked
    }

    /// The model asks for a call, which is counted if it runs. A call of the last round does not run: its
    /// result would reach no model.
    pub fn admitted(&mut self, elapsed: Duration) -> Admission {
        if self.are_calls_used_up() {
            return Admission::ClientLimit;
        }
        if let Some(limit) = self.limit(elapsed) {
            return Admission::Limit(limit);
        }
        self.calls += 1;
        Admission::Run
    }

    /// Whether the client allows no further call.
    pub fn are_calls_used_up(&self) -> bool {
        self.client_calls.is_some_and(|most| self.calls >= most)
    }

    fn limit(&self, elapsed: Duration) -> Option<LimitReached> {
        if self.asked >= self.limits.rounds {
            Some(LimitReached::Rounds)
        } else if self.calls >= self.limits.calls {
            Some(LimitReached::Calls)
        } else {
            (elapsed >= self.limits.time).then_some(LimitReached::Time)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_loop_exceeds_its_limits(
            rounds in prop::collection::vec(prop::collection::vec(0u64..1200, 1..6), 1..40),
            client in prop::option::of(0u32..20),
        ) {
            let limits = LoopLimits { rounds: 8, calls: 20, time: Duration::from_secs(900) };
            let mut state = Rounds::new(limits, client);
            let mut ran = 0;
            'all: for calls in rounds {
                state.begun();
                let mut ended = false;
                for seconds in calls {
                    match state.admitted(Duration::from_secs(seconds)) {
                        Admission::Run => {
                            ran += 1;
                            prop_assert!(seconds < 900 && state.count() < 8);
                        }
                        Admission::ClientLimit => prop_assert_eq!(Some(ran), client),
                        Admission::Limit(_) => ended = true,
                    }
                }
                if ended {
                    break 'all;
                }
                if state.count() == 8 {
                    break;
                }
            }
            prop_assert!(ran <= 20 && client.is_none_or(|most| ran <= most) && state.count() <= 8);
        }
    }
}
