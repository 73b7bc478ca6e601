//! Counts attempts to sign in with a password. Too many wrong ones delay the next. No account is ever
//! locked.

use quick_cache::sync::Cache;

use crate::base::ids::Digest;
use crate::base::time::UnixTime;

/// Attempts without a waiting time: of one source for one account, of one source, and for one account.
const FREE_ATTEMPTS_PER_PAIR: u32 = 3;
const FREE_ATTEMPTS_PER_SOURCE: u32 = 30;
const FREE_ATTEMPTS_PER_ACCOUNT: u32 = 20;

/// The longest waiting time between attempts of one source, in seconds.
const MAX_SOURCE_DELAY_SECONDS: u64 = 60;
/// The longest waiting time between attempts for one account, in seconds. Anyone can cause it, so it is
/// short.
const MAX_ACCOUNT_DELAY_SECONDS: u64 = 5;

/// After how many seconds without an attempt a count starts again.
const FORGET_SECONDS: u64 = 900;

/// The sources and accounts whose attempts are remembered.
const MAX_COUNTED: usize = 10_000;

/// The source of a sign-in attempt, and the user name.
#[derive(Clone, Copy, Debug)]
pub struct SignInAttempt<'a> {
    /// The source, as rate limits count it.
    pub source: &'a str,
    /// The user name.
    pub name: &'a str,
    /// The browser signed in as this user before.
    pub is_known_browser: bool,
}

/// The rule for the delay of attempts under one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DelayRule {
    /// The waiting time doubles.
    Source { free: u32 },
    /// The waiting time grows by a second with each further [`FREE_ATTEMPTS_PER_ACCOUNT`].
    Account,
}

impl DelayRule {
    fn delay_seconds(self, count: u32) -> u64 {
        match self {
            Self::Source { free } if count <= free => 0,
            Self::Source { free } => (1_u64 << (count - free).min(6)).min(MAX_SOURCE_DELAY_SECONDS),
            Self::Account => u64::from(count.saturating_sub(1) / FREE_ATTEMPTS_PER_ACCOUNT).min(MAX_ACCOUNT_DELAY_SECONDS),
        }
    }
}

/// The attempts of sources and for accounts. A name may be as long as a form: the digest bounds what an
/// attempt costs in memory.
#[derive(Debug)]
pub struct SignInAttempts(Cache<Digest, (u32, UnixTime)>);

impl Default for SignInAttempts {
    fn default() -> Self {
        Self(Cache::new(MAX_COUNTED))
    }
}

impl SignInAttempts {
    /// The seconds to wait before this attempt is allowed.
    pub fn delay_seconds(&self, attempt: SignInAttempt<'_>, now: UnixTime) -> Option<u64> {
        let until = keys(attempt).filter_map(|(key, _)| self.0.get(&key)).map(|(_, until)| until).max();
        until.filter(|until| *until > now).map(|until| until.seconds_since(now))
    }

    /// Counts an attempt, before its result is known, so that concurrent attempts count too.
    pub fn note(&self, attempt: SignInAttempt<'_>, now: UnixTime) {
        for (key, rule) in keys(attempt) {
            let count = self.recent_count(&key, now) + 1;
            self.0.insert(key, (count, now.plus_seconds(rule.delay_seconds(count))));
        }
    }

    /// Notes that an attempt was right: its source starts again. For the account, only this attempt does
    /// not count, because others may have been somebody else's.
    pub fn forgive(&self, attempt: SignInAttempt<'_>, now: UnixTime) {
        for (key, rule) in keys(attempt) {
            match rule {
                DelayRule::Source { .. } => drop(self.0.remove(&key)),
                DelayRule::Account => {
                    let count = self.recent_count(&key, now).saturating_sub(1);
                    self.0.insert(key, (count, now));
                }
            }
        }
    }

    fn recent_count(&self, key: &Digest, now: UnixTime) -> u32 {
        let entry = self.0.get(key).filter(|(_, until)| now.seconds_since(*until) < FORGET_SECONDS);
        entry.map_or(0, |(count, _)| count)
    }
}

/// The keys under which an attempt counts. A source can be a proxy for many users, so it has more free attempts. A
/// browser that signed in as this user before is not delayed by what others try.
fn keys(attempt: SignInAttempt<'_>) -> impl Iterator<Item = (Digest, DelayRule)> {
    let SignInAttempt {
        source,
        name,
        is_known_browser,
    } = attempt;
    let pair = DelayRule::Source {
        free: FREE_ATTEMPTS_PER_PAIR,
    };
    let all_of_source = DelayRule::Source {
        free: FREE_ATTEMPTS_PER_SOURCE,
    };
    let account = (!is_known_browser).then(|| (Digest::new(&format!("a {name}")), DelayRule::Account));
    [
        (Digest::new(&format!("u {source} {name}")), pair),
        (Digest::new(&format!("s {source}")), all_of_source),
    ]
    .into_iter()
    .chain(account)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt<'a>(source: &'a str, name: &'a str) -> SignInAttempt<'a> {
        SignInAttempt {
            source,
            name,
            is_known_browser: false,
        }
    }

    #[test]
    fn wrong_attempts_for_many_long_names_take_bounded_memory() {
        let attempts = SignInAttempts::default();
        for index in 0..2 * MAX_COUNTED {
            attempts.note(attempt("here", &index.to_string()), UnixTime(1_000));
        }
        assert!(attempts.0.len() <= MAX_COUNTED);
        // A key holds nothing of the name.
        assert_eq!(size_of::<Digest>(), 32);
        assert!(!std::mem::needs_drop::<Digest>());
    }

    /// A guess from a new source each time costs nothing at the source.
    #[test]
    fn guesses_at_one_account_from_many_sources_are_slow_and_lock_nobody_out() {
        let attempts = SignInAttempts::default();
        let (mut now, mut guesses) = (UnixTime(1_000_000), 0);
        let end = now.plus_seconds(3_600);
        while now < end && guesses < 3_600 {
            let source = format!("source {guesses}");
            if let Some(seconds) = attempts.delay_seconds(attempt(&source, "alice"), now) {
                assert!(seconds <= MAX_ACCOUNT_DELAY_SECONDS);
                now = now.plus_seconds(seconds);
            } else {
                attempts.note(attempt(&source, "alice"), now);
                guesses += 1;
            }
        }
        assert!(guesses < 3_600 / 5 + 120, "{guesses} guesses in an hour");
        let honest = attempt("home", "alice");
        assert!(attempts.delay_seconds(honest, now).is_none(), "the next one is the honest user's");
        attempts.note(attempt("last", "alice"), now);
        assert!(attempts.delay_seconds(honest, now).is_some());
        let known = SignInAttempt {
            is_known_browser: true,
            ..honest
        };
        assert_eq!(attempts.delay_seconds(known, now), None, "a known browser does not wait");
        assert_eq!(attempts.delay_seconds(attempt("home", "bob"), now), None);
    }

    #[test]
    fn right_attempts_add_no_delay_and_forgive_no_guesses_of_others() {
        let attempts = SignInAttempts::default();
        let now = UnixTime(1_000_000);
        for index in 0..100 {
            let source = format!("source {index}");
            let honest = attempt(&source, "alice");
            assert_eq!(attempts.delay_seconds(honest, now), None);
            attempts.note(honest, now);
            attempts.forgive(honest, now);
        }
        for index in 0..FREE_ATTEMPTS_PER_ACCOUNT {
            attempts.note(attempt(&format!("guesser {index}"), "alice"), now);
        }
        let honest = attempt("home", "alice");
        attempts.note(honest, now);
        attempts.forgive(honest, now);
        attempts.note(attempt("guesser", "alice"), now);
        assert_eq!(attempts.delay_seconds(honest, now), Some(1));
    }
}
