//! Logins of `login = "password"`. Each attempt costs one argon2id hash, even for unknown users.
//! Wrong attempts add a waiting time. No account is ever locked.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::sync::{OnceCell, Semaphore};

use crate::base::argon2id;
use crate::base::ids::Digest;
use crate::base::secret::Secret;
use crate::base::time::{Clock, UnixTime};

/// A user, and the hash of the password.
#[derive(Clone)]
pub struct PasswordUser {
    /// The user name, compared byte for byte.
    pub name: String,
    /// The password hash.
    pub hash: LazyPasswordHash,
}

impl std::fmt::Debug for PasswordUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "User({})", self.name)
    }
}

/// Hashes a new password with a random salt.
pub fn hash(password: &Secret) -> Result<String, String> {
    argon2id::hash(password, &crate::base::random::bytes())
}

/// An argon2id hash that is computed on first use, because that takes longer than the start-up.
#[derive(Clone)]
pub struct LazyPasswordHash(Arc<HashState>);

struct HashState {
    made: OnceCell<String>,
    /// The password and the salt, until the hash is computed.
    of: Mutex<Option<(Secret, [u8; 16])>>,
}

impl LazyPasswordHash {
    /// A stored hash.
    pub fn from_hash(hash: String) -> Self {
        Self(Arc::new(HashState {
            made: OnceCell::new_with(Some(hash)),
            of: Mutex::default(),
        }))
    }

    /// The hash of a new password, with a random salt.
    pub fn from_new_password(password: Secret) -> Self {
        Self::later(password, crate::base::random::bytes())
    }

    /// The hash of a configured password. It is the same at each start, so that sessions last.
    pub fn from_fixed_password(name: &str, password: Secret) -> Self {
        Self::later(password, Digest::new(&format!("salt {name}")).truncated())
    }

    fn later(password: Secret, salt: [u8; 16]) -> Self {
        Self(Arc::new(HashState {
            made: OnceCell::new(),
            of: Mutex::new(Some((password, salt))),
        }))
    }

    /// Computes the hash once, even if callers are dropped meanwhile. `None` on failure.
    async fn get(&self, hashing: &Arc<Semaphore>) -> Option<&str> {
        let making = || async {
            let permit = Arc::clone(hashing).acquire_owned().await.ok()?;
            let (password, salt) = self.of().clone()?;
            let hashed = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                argon2id::hash(&password, &salt)
            });
            let made = hashed
                .await
                .ok()?
                .inspect_err(|why| tracing::error!(why, "the password cannot be hashed"));
            let made = made.ok()?;
            *self.of() = None;
            Some(made)
        };
        self.0
            .made
            .get_or_try_init(|| async { making().await.ok_or(()) })
            .await
            .ok()
            .map(String::as_str)
    }

    fn of(&self) -> std::sync::MutexGuard<'_, Option<(Secret, [u8; 16])>> {
        self.0.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this can be a user name. It cannot be empty, and it has no colon, which `provider:id` of
/// an identity provider has.
pub fn is_name(text: &str) -> bool {
    (1..=200).contains(&text.len()) && !text.contains(|c: char| c == ':' || c.is_control())
}

/// Whether this is an argon2id hash with parameters and salt.
pub fn is_argon2id(hash: &str) -> bool {
    argon2id::is_argon2id(hash)
}

/// Why a password is refused: it is a known sample, or easily guessed. `None` if it is good.
pub fn password_weakness(name: &str, password: &str) -> Option<&'static str> {
    const KNOWN: [&str; 9] = [
        "gateway_pass",
        "change-this",
        "changeme",
        "change-me",
        "password",
        "secret",
        "letmein",
        "12345678",
        "qwerty",
    ];
    let lower = password.to_ascii_lowercase();
    if KNOWN.iter().any(|known| lower.starts_with(known)) {
        return Some("is a sample that everybody knows");
    }
    if password.chars().count() < 10 {
        return Some("is shorter than 10 characters");
    }
    if lower == name.to_ascii_lowercase() {
        return Some("is the user name");
    }
    let mut distinct: Vec<char> = password.chars().collect();
    distinct.sort_unstable();
    distinct.dedup();
    (distinct.len() < 5).then_some("has fewer than 5 different characters")
}

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

/// The users, and the wrong attempts of each source.
#[derive(Clone)]
pub struct Passwords(Arc<Inner>);

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.0.users).finish()
    }
}

struct Inner {
    users: Vec<PasswordUser>,
    /// The hash for unknown users, so that they cost as much time as known ones.
    nobody: LazyPasswordHash,
    wrong: Cache<String, (u32, UnixTime)>,
    hashing: Arc<Semaphore>,
    clock: Clock,
}

impl Passwords {
    /// At most cores/2 hashes run at once. Each takes about 20 MB and tens of milliseconds.
    pub fn new(users: Vec<PasswordUser>, clock: Clock) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        // Any hash costs the same. A match counts only for a known user.
        let nobody = match users.first() {
            Some(user) => user.hash.clone(),
            None => LazyPasswordHash::from_new_password(crate::base::random::token()),
        };
        Self(Arc::new(Inner {
            users,
            nobody,
            wrong: Cache::new(10_000),
            hashing: Arc::new(Semaphore::new((cores / 2).max(1))),
            clock,
        }))
    }

    /// Whether there is a user of this name.
    pub(crate) fn has_user(&self, name: &str) -> bool {
        self.0.users.iter().any(|user| user.name == name)
    }

    /// The hash of this user's password. Sessions are bound to it, so a new password ends them.
    pub(crate) async fn hash_of(&self, name: &str) -> Option<&str> {
        let user = self.0.users.iter().find(|user| user.name == name)?;
        user.hash.get(&self.0.hashing).await
    }

    /// Checks a password. The hash runs on a blocking thread, so no worker waits.
    pub async fn check(&self, source: &str, name: &str, password: Secret) -> PasswordCheck {
        let now = self.0.clock.now();
        // A source can be a proxy for many users, so it has more free attempts.
        let keys = [
            (format!("u {source} {name}"), FREE_ATTEMPTS_PER_ACCOUNT),
            (format!("s {source}"), FREE_ATTEMPTS_PER_SOURCE),
        ];
        let until = keys
            .iter()
            .filter_map(|(key, _)| self.0.wrong.get(key))
            .map(|(_, until)| until)
            .max();
        if let Some(until) = until.filter(|until| *until > now) {
            return PasswordCheck::Wait {
                seconds: until.seconds_since(now),
            };
        }
        // Counted before the check, so that concurrent attempts count too.
        for (key, free) in &keys {
            self.note_attempt(key.clone(), *free, now);
        }
        let user = self.0.users.iter().find(|user| user.name == name);
        let (known, kept) = (user.is_some(), user.map_or(&self.0.nobody, |user| &user.hash));
        // The hash comes first: computing it takes a permit of its own.
        let Some(kept) = kept.get(&self.0.hashing).await.map(str::to_owned) else {
            return PasswordCheck::Wait { seconds: 1 };
        };
        let Ok(permit) = Arc::clone(&self.0.hashing).acquire_owned().await else {
            return PasswordCheck::Wait { seconds: 1 };
        };
        let hashed = tokio::task::spawn_blocking(move || {
            // The permit belongs to the work. A dropped request must not release it early.
            let _permit = permit;
            argon2id::verify(&kept, &password)
        });
        if hashed.await.unwrap_or(false) && known {
            for (key, _) in &keys {
                self.0.wrong.remove(key);
            }
            return PasswordCheck::Right;
        }
        // A short delay, so that the free attempts take time too.
        tokio::time::sleep(Duration::from_millis(300)).await;
        PasswordCheck::Wrong
    }

    /// The first `free` attempts add no waiting time. Then it doubles: 2, 4, 8, up to 60 seconds.
    fn note_attempt(&self, key: String, free: u32, now: UnixTime) {
        let count = self
            .0
            .wrong
            .get(&key)
            .filter(|(_, until)| now.seconds_since(*until) < 900)
            .map_or(1, |(count, _)| count + 1);
        let wait = if count <= free {
            0
        } else {
            (1_u64 << (count - free).min(6)).min(60)
        };
        self.0.wrong.insert(key, (count, now.plus_seconds(wait)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_samples_and_weak_passwords_are_named() {
        for weak in ["gateway_pass", "change-this-now", "short", "aaaaaaaaaaaa", "Alice-Alice"] {
            assert!(password_weakness("alice-alice", weak).is_some(), "{weak}");
        }
        assert_eq!(password_weakness("alice", "correct-horse-battery-9"), None);
    }

    #[tokio::test]
    async fn a_wrong_password_waits_and_never_locks() {
        let hash = hash(&Secret::from("correct-horse")).unwrap();
        let hand = Arc::new(std::sync::atomic::AtomicU64::new(1_000));
        let passwords = Passwords::new(alice(LazyPasswordHash::from_hash(hash)), Clock::Fixed(hand.clone()));
        for _ in 0..4 {
            assert_eq!(passwords.check("here", "alice", Secret::from("wrong")).await, PasswordCheck::Wrong);
        }
        assert!(matches!(
            passwords.check("here", "alice", Secret::from("correct-horse")).await,
            PasswordCheck::Wait { .. }
        ));
        hand.fetch_add(120, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(
            passwords.check("here", "alice", Secret::from("correct-horse")).await,
            PasswordCheck::Right
        );
        assert_eq!(
            passwords.check("here", "mallory", Secret::from("correct-horse")).await,
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
    async fn a_hash_in_the_making_lets_nobody_in_and_is_made_once() {
        let right = || Secret::from("correct-horse");
        for hash in [
            LazyPasswordHash::from_new_password(right()),
            LazyPasswordHash::from_fixed_password("alice", right()),
        ] {
            let passwords = Passwords::new(alice(hash), Clock::System);
            // The first caller is dropped while it computes the hash for the others.
            let (gone, unknown, wrong) = tokio::join!(
                tokio::time::timeout(Duration::ZERO, passwords.check("a", "alice", right())),
                passwords.check("b", "mallory", right()),
                passwords.check("c", "alice", Secret::from("")),
            );
            assert_eq!((unknown, wrong, gone.is_err()), (PasswordCheck::Wrong, PasswordCheck::Wrong, true));
            let first = passwords.hash_of("alice").await.unwrap().to_owned();
            assert_eq!(passwords.check("d", "alice", right()).await, PasswordCheck::Right);
            assert_eq!(passwords.hash_of("alice").await.unwrap(), first);
            assert!(first.starts_with("$argon2id$") && passwords.0.users[0].hash.of().is_none());
            assert_eq!(passwords.hash_of("mallory").await, None);
        }
    }

    #[tokio::test]
    async fn sessions_outlive_a_start_with_the_same_given_password_and_no_other() {
        let of = async |name: &str, password: &str| {
            let hash = LazyPasswordHash::from_fixed_password(name, Secret::from(password));
            hash.get(&Arc::new(Semaphore::new(1))).await.unwrap().to_owned()
        };
        let first = of("alice", "correct-horse").await;
        assert_eq!(of("alice", "correct-horse").await, first);
        assert_ne!(of("alice", "correct-horse-2").await, first);
        assert_ne!(of("bob", "correct-horse").await, first);
    }

    #[test]
    fn a_browser_that_goes_away_in_the_middle_frees_no_place_for_another_hash() {
        // The only blocking thread is busy, so the hash can start and not end.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let passwords = Passwords::new(alice(LazyPasswordHash::from_hash(String::new())), Clock::System);
        let places = passwords.0.hashing.available_permits();
        runtime.block_on(async {
            let busy = tokio::task::spawn_blocking(move || wait.recv());
            for place in 0..places * 3 {
                let (source, password) = (place.to_string(), Secret::from("wrong"));
                let mut try_it = Box::pin(passwords.check(&source, "alice", password));
                let begun = std::future::poll_fn(|waker| std::task::Poll::Ready(try_it.as_mut().poll(waker))).await;
                assert!(begun.is_pending());
                drop(try_it);
                let free = places.saturating_sub(place + 1);
                assert_eq!(passwords.0.hashing.available_permits(), free, "after {place} that went away");
            }
            go.send(()).unwrap();
            busy.await.unwrap().unwrap();
            // The permits are free when the work is done, and not before.
            let all = u32::try_from(places).unwrap();
            drop(passwords.0.hashing.acquire_many(all).await.unwrap());
        });
    }
}
