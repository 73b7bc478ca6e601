//! Logins of `login = "password"`. Each attempt costs one argon2id hash, even for unknown users.
//! Wrong attempts add a waiting time. No account is ever locked.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::app::authorize::sign_in_attempts::{SignInAttempt, SignInAttempts};
use crate::base::argon2id;
use crate::base::random;
use crate::base::secret::Secret;
use crate::base::time::Clock;
use crate::service::password_user::{self, LazyPasswordHash, PasswordUser};

/// The number of checks that may wait for one that runs: a second's work of one core. Known browsers have as many
/// places of their own.
const QUEUE_PER_PERMIT: usize = 16;
/// When a caller for whom there is no place in the queue may come again, in seconds.
const BUSY_SECONDS: u64 = 2;

/// The result of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordCheck {
    /// Name and password are right.
    Right,
    /// Name or password is wrong; the result does not say which.
    Wrong,
    /// Too soon after wrong attempts. The password was not checked.
    Wait {
        /// Seconds until the next attempt.
        seconds: u64,
    },
    /// Too many attempts wait for a check. The password was not checked.
    Busy {
        /// Seconds until the next attempt.
        seconds: u64,
    },
}

/// Checks passwords, and counts the wrong attempts.
pub struct PasswordChecker {
    /// The hash for an unknown user, if no user is configured: it costs as much time.
    dummy_hash: LazyPasswordHash,
    attempts: SignInAttempts,
    hashing: Arc<Semaphore>,
    queue: Semaphore,
    known_queue: Semaphore,
    clock: Clock,
}

impl PasswordChecker {
    /// At most cores/2 hashes run at the same time. Each takes about 20 MB and tens of milliseconds.
    pub fn new(clock: Clock) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let permits = (cores / 2).max(1);
        Self {
            dummy_hash: LazyPasswordHash::from_new_password(random::token()),
            attempts: SignInAttempts::default(),
            hashing: Arc::new(Semaphore::new(permits)),
            queue: Semaphore::new(permits * QUEUE_PER_PERMIT),
            known_queue: Semaphore::new(permits * QUEUE_PER_PERMIT),
            clock,
        }
    }

    /// The hash of this user's password. Sessions are bound to it, so a new password ends them.
    pub async fn hash_of<'u>(&self, users: &'u [PasswordUser], name: &str) -> Option<&'u str> {
        let user = users.iter().find(|user| user.name == name)?;
        user.hash.get(&self.hashing).await
    }

    /// Checks a password. The hash runs on a blocking thread, so no worker waits.
    pub async fn check(&self, users: &[PasswordUser], attempt: SignInAttempt<'_>, password: Secret) -> PasswordCheck {
        // No user has such a name, so the answer reveals nothing, and nothing of it is remembered.
        if attempt.name.chars().count() > password_user::MAX_NAME_CHARS {
            return PasswordCheck::Wrong;
        }
        let now = self.clock.now();
        if let Some(seconds) = self.attempts.delay_seconds(attempt, now) {
            return PasswordCheck::Wait { seconds };
        }
        let queue = if attempt.is_known_browser { &self.known_queue } else { &self.queue };
        let Ok(place) = queue.try_acquire() else {
            return PasswordCheck::Busy { seconds: BUSY_SECONDS };
        };
        self.attempts.note(attempt, now);
        let user = users.iter().find(|user| user.name == attempt.name);
        // A match counts only for a known user.
        let hash = user.map_or_else(|| self.most_expensive(users), |user| &user.hash);
        // The hash comes first: computing it takes a permit of its own.
        let Some(hash) = hash.get(&self.hashing).await.map(str::to_owned) else {
            return PasswordCheck::Busy { seconds: BUSY_SECONDS };
        };
        let Ok(permit) = Arc::clone(&self.hashing).acquire_owned().await else {
            return PasswordCheck::Busy { seconds: BUSY_SECONDS };
        };
        drop(place);
        let matches = tokio::task::spawn_blocking(move || {
            // The permit belongs to the work. A dropped request must not release it early.
            let _permit = permit;
            argon2id::verify(&hash, &password)
        });
        if matches.await.unwrap_or(false) && user.is_some() {
            self.attempts.forgive(attempt, now);
            return PasswordCheck::Right;
        }
        // A short delay, so that the free attempts take time too.
        tokio::time::sleep(Duration::from_millis(300)).await;
        PasswordCheck::Wrong
    }

    /// The hash for an unknown user. No known user's check takes longer.
    fn most_expensive<'u>(&'u self, users: &'u [PasswordUser]) -> &'u LazyPasswordHash {
        let hashes = users.iter().map(|user| &user.hash);
        hashes.max_by_key(|hash| hash.cost()).unwrap_or(&self.dummy_hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn wrong_passwords_delay_the_next_attempt_and_never_lock_the_account() {
        let hash = password_user::hash(&Secret::from("correct-horse")).unwrap();
        let time = Arc::new(std::sync::atomic::AtomicU64::new(1_000));
        let (users, passwords) = (
            alice(LazyPasswordHash::from_hash(hash)),
            PasswordChecker::new(Clock::Fixed(time.clone())),
        );
        for _ in 0..4 {
            assert_eq!(
                passwords.check(&users, attempt("here", "alice"), Secret::from("wrong")).await,
                PasswordCheck::Wrong
            );
        }
        assert!(matches!(
            passwords
                .check(&users, attempt("here", "alice"), Secret::from("correct-horse"))
                .await,
            PasswordCheck::Wait { .. }
        ));
        time.fetch_add(120, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(
            passwords
                .check(&users, attempt("here", "alice"), Secret::from("correct-horse"))
                .await,
            PasswordCheck::Right
        );
        assert_eq!(
            passwords
                .check(&users, attempt("here", "mallory"), Secret::from("correct-horse"))
                .await,
            PasswordCheck::Wrong
        );
    }

    fn attempt<'a>(source: &'a str, name: &'a str) -> SignInAttempt<'a> {
        SignInAttempt {
            source,
            name,
            is_known_browser: false,
        }
    }

    fn known(source: &str) -> SignInAttempt<'_> {
        SignInAttempt {
            is_known_browser: true,
            ..attempt(source, "alice")
        }
    }

    #[tokio::test]
    async fn a_name_of_more_than_200_characters_is_refused_before_anything_is_counted() {
        let (users, passwords) = (
            alice(LazyPasswordHash::from_hash(String::new())),
            PasswordChecker::new(Clock::System),
        );
        let long = "ä".repeat(201);
        for _ in 0..100 {
            assert_eq!(
                passwords.check(&users, attempt("here", &long), Secret::from("x")).await,
                PasswordCheck::Wrong
            );
        }
        let counted = [attempt("here", &long), attempt("here", "alice")];
        assert_eq!(
            counted.map(|attempt| passwords.attempts.delay_seconds(attempt, passwords.clock.now())),
            [None, None]
        );
    }

    #[test]
    fn an_unknown_user_costs_the_most_expensive_configured_hash() {
        let hash = |params: &str| {
            LazyPasswordHash::from_hash(format!(
                "$argon2id$v=19${params}$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b2dWRWJTmaaVRZvHX7CjvrQ9Yk"
            ))
        };
        let passwords = PasswordChecker::new(Clock::System);
        let users: Vec<PasswordUser> = ["m=19456,t=2,p=1", "m=65536,t=3,p=1", "m=65536,t=2,p=1"]
            .into_iter()
            .flat_map(|params| alice(hash(params)))
            .collect();
        assert_eq!(passwords.most_expensive(&users).cost(), 65_536 * 3);
        assert_eq!(passwords.most_expensive(&[]).cost(), argon2id::default_cost());
    }

    /// The hashes of attackers delay an honest user's by a second or so, and no more.
    #[tokio::test]
    async fn the_queue_of_waiting_hashes_is_bounded_and_known_browsers_have_places_of_their_own() {
        let (users, passwords) = (
            alice(LazyPasswordHash::from_hash(String::new())),
            PasswordChecker::new(Clock::System),
        );
        let permits = passwords.hashing.available_permits();
        let all = u32::try_from(permits).unwrap();
        let running = Arc::clone(&passwords.hashing).acquire_many_owned(all).await.unwrap();
        let names: Vec<String> = (0..permits * QUEUE_PER_PERMIT).map(|index| format!("user {index}")).collect();
        let mut waiting: Vec<_> = names
            .iter()
            .map(|name| Box::pin(passwords.check(&users, attempt(name, name), Secret::from("x"))))
            .collect();
        for check in &mut waiting {
            assert!(futures_util::poll!(check.as_mut()).is_pending());
        }
        let busy = PasswordCheck::Busy { seconds: BUSY_SECONDS };
        assert_eq!(passwords.check(&users, attempt("home", "alice"), Secret::from("x")).await, busy);
        let mut honest = Box::pin(passwords.check(&users, known("home"), Secret::from("x")));
        assert!(futures_util::poll!(honest.as_mut()).is_pending());
        // A caller that disconnects leaves the queue.
        drop((running, waiting));
        assert_eq!(honest.await, PasswordCheck::Wrong);
        assert_eq!(
            passwords.check(&users, attempt("home", "alice"), Secret::from("x")).await,
            PasswordCheck::Wrong
        );
    }

    fn alice(hash: LazyPasswordHash) -> Vec<PasswordUser> {
        vec![PasswordUser {
            name: "alice".into(),
            hash,
        }]
    }

    /// A hash that is not computed yet lets no one in, and it is computed once for all callers.
    #[tokio::test]
    async fn a_lazy_password_hash_is_computed_once_and_matches_only_its_password() {
        let password = || Secret::from("correct-horse");
        for hash in [
            LazyPasswordHash::from_new_password(password()),
            LazyPasswordHash::from_fixed_password("alice", password()),
        ] {
            let (users, passwords) = (alice(hash), PasswordChecker::new(Clock::System));
            // The first caller is dropped while it computes the hash for the others.
            let (cancelled, unknown, wrong) = tokio::join!(
                tokio::time::timeout(Duration::ZERO, passwords.check(&users, attempt("a", "alice"), password())),
                passwords.check(&users, attempt("b", "mallory"), password()),
                passwords.check(&users, attempt("c", "alice"), Secret::from("")),
            );
            assert_eq!(
                (unknown, wrong, cancelled.is_err()),
                (PasswordCheck::Wrong, PasswordCheck::Wrong, true)
            );
            let first = passwords.hash_of(&users, "alice").await.unwrap().to_owned();
            assert_eq!(
                passwords.check(&users, attempt("d", "alice"), password()).await,
                PasswordCheck::Right
            );
            assert_eq!(passwords.hash_of(&users, "alice").await.unwrap(), first);
            assert!(first.starts_with("$argon2id$") && !users[0].hash.holds_password());
            assert_eq!(passwords.hash_of(&users, "mallory").await, None);
        }
    }

    #[test]
    fn a_cancelled_password_check_holds_its_permit_until_the_hash_is_done() {
        // The only blocking thread is busy, so the hash can start and not end.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        let (unblock, blocked) = std::sync::mpsc::channel::<()>();
        let (users, passwords) = (
            alice(LazyPasswordHash::from_hash(String::new())),
            PasswordChecker::new(Clock::System),
        );
        let permits = passwords.hashing.available_permits();
        runtime.block_on(async {
            let blocking_task = tokio::task::spawn_blocking(move || blocked.recv());
            for index in 0..permits * 3 {
                let (source, password) = (index.to_string(), Secret::from("wrong"));
                let mut check = Box::pin(passwords.check(&users, attempt(&source, "alice"), password));
                let poll = std::future::poll_fn(|waker| std::task::Poll::Ready(check.as_mut().poll(waker))).await;
                assert!(poll.is_pending());
                drop(check);
                let available = permits.saturating_sub(index + 1);
                assert_eq!(passwords.hashing.available_permits(), available, "after {index} that went away");
            }
            unblock.send(()).unwrap();
            blocking_task.await.unwrap().unwrap();
            // The permits are free when the work is done, and not before.
            let all = u32::try_from(permits).unwrap();
            drop(passwords.hashing.acquire_many(all).await.unwrap());
        });
    }
}
