//! Logins of `login = "password"`. Each attempt costs one argon2id hash, even for unknown users.
//! Wrong attempts add a waiting time. No account is ever locked.

use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

use crate::base::ids::Digest;
use crate::base::secret::Secret;
use crate::base::time::{Clock, UnixTime};
use crate::base::{argon2id, random};
use crate::service::password_user::{LazyPasswordHash, PasswordUser};

/// Wrong attempts without a waiting time: of one source for one account, and of one source.
const FREE_ATTEMPTS_PER_ACCOUNT: u32 = 3;
const FREE_ATTEMPTS_PER_SOURCE: u32 = 30;

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
}

/// The sources and accounts whose wrong attempts are remembered.
const MAX_COUNTED: usize = 10_000;

/// Checks passwords, and counts the wrong attempts of each source.
pub struct PasswordChecker {
    /// The hash for an unknown user, if no user is configured: it costs as much time.
    dummy_hash: LazyPasswordHash,
    wrong: Cache<Digest, (u32, UnixTime)>,
    hashing: Arc<Semaphore>,
    clock: Clock,
}

impl PasswordChecker {
    /// At most cores/2 hashes run at once. Each takes about 20 MB and tens of milliseconds.
    pub fn new(clock: Clock) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self {
            dummy_hash: LazyPasswordHash::from_new_password(random::token()),
            wrong: Cache::new(MAX_COUNTED),
            hashing: Arc::new(Semaphore::new((cores / 2).max(1))),
            clock,
        }
    }

    /// The hash of this user's password. Sessions are bound to it, so a new password ends them.
    pub async fn hash_of<'u>(&self, users: &'u [PasswordUser], name: &str) -> Option<&'u str> {
        let user = users.iter().find(|user| user.name == name)?;
        user.hash.get(&self.hashing).await
    }

    /// Checks a password. The hash runs on a blocking thread, so no worker waits.
    pub async fn check(&self, users: &[PasswordUser], source: &str, name: &str, password: Secret) -> PasswordCheck {
        let now = self.clock.now();
        // A source can be a proxy for many users, so it has more free attempts.
        let keys = [
            (format!("u {source} {name}"), FREE_ATTEMPTS_PER_ACCOUNT),
            (format!("s {source}"), FREE_ATTEMPTS_PER_SOURCE),
        ]
        // A name may be as long as a form. The digest bounds what an attempt costs in memory.
        .map(|(key, free_attempts)| (Digest::new(&key), free_attempts));
        let until = keys.iter().filter_map(|(key, _)| self.wrong.get(key)).map(|(_, until)| until).max();
        if let Some(until) = until.filter(|until| *until > now) {
            return PasswordCheck::Wait {
                seconds: until.seconds_since(now),
            };
        }
        // Counted before the check, so that concurrent attempts count too.
        for (key, free_attempts) in &keys {
            self.note_attempt(key.clone(), *free_attempts, now);
        }
        let user = users.iter().find(|user| user.name == name);
        // Any hash costs the same. A match counts only for a known user.
        let hash = user.or(users.first()).map_or(&self.dummy_hash, |user| &user.hash);
        // The hash comes first: computing it takes a permit of its own.
        let Some(hash) = hash.get(&self.hashing).await.map(str::to_owned) else {
            return PasswordCheck::Wait { seconds: 1 };
        };
        let Ok(permit) = Arc::clone(&self.hashing).acquire_owned().await else {
            return PasswordCheck::Wait { seconds: 1 };
        };
        let matches = tokio::task::spawn_blocking(move || {
            // The permit belongs to the work. A dropped request must not release it early.
            let _permit = permit;
            argon2id::verify(&hash, &password)
        });
        if matches.await.unwrap_or(false) && user.is_some() {
            for (key, _) in &keys {
                self.wrong.remove(key);
            }
            return PasswordCheck::Right;
        }
        // A short delay, so that the free attempts take time too.
        tokio::time::sleep(Duration::from_millis(300)).await;
        PasswordCheck::Wrong
    }

    /// The first `free_attempts` attempts add no waiting time. Then it doubles: 2, 4, 8, up to 60 seconds.
    fn note_attempt(&self, key: Digest, free_attempts: u32, now: UnixTime) {
        let count = self
            .wrong
            .get(&key)
            .filter(|(_, until)| now.seconds_since(*until) < 900)
            .map_or(1, |(count, _)| count + 1);
        let wait = if count <= free_attempts {
            0
        } else {
            (1_u64 << (count - free_attempts).min(6)).min(60)
        };
        self.wrong.insert(key, (count, now.plus_seconds(wait)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::password_user;

    #[test]
    fn wrong_attempts_for_many_long_names_take_bounded_memory() {
        let passwords = PasswordChecker::new(Clock::System);
        for index in 0..2 * MAX_COUNTED {
            passwords.note_attempt(Digest::new(&format!("u here {index}")), 0, UnixTime(1_000));
        }
        assert!(passwords.wrong.len() <= MAX_COUNTED);
        // A key holds nothing of the name.
        assert_eq!(size_of::<Digest>(), 32);
        assert!(!std::mem::needs_drop::<Digest>());
    }

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
                passwords.check(&users, "here", "alice", Secret::from("wrong")).await,
                PasswordCheck::Wrong
            );
        }
        assert!(matches!(
            passwords.check(&users, "here", "alice", Secret::from("correct-horse")).await,
            PasswordCheck::Wait { .. }
        ));
        time.fetch_add(120, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(
            passwords.check(&users, "here", "alice", Secret::from("correct-horse")).await,
            PasswordCheck::Right
        );
        assert_eq!(
            passwords.check(&users, "here", "mallory", Secret::from("correct-horse")).await,
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
                tokio::time::timeout(Duration::ZERO, passwords.check(&users, "a", "alice", password())),
                passwords.check(&users, "b", "mallory", password()),
                passwords.check(&users, "c", "alice", Secret::from("")),
            );
            assert_eq!(
                (unknown, wrong, cancelled.is_err()),
                (PasswordCheck::Wrong, PasswordCheck::Wrong, true)
            );
            let first = passwords.hash_of(&users, "alice").await.unwrap().to_owned();
            assert_eq!(passwords.check(&users, "d", "alice", password()).await, PasswordCheck::Right);
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
                let mut check = Box::pin(passwords.check(&users, &source, "alice", password));
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
