//! The sign-in of `login = "password"`: one argon2id hash per try, whoever tries; wrong ones wait, nobody is locked out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::sync::{OnceCell, Semaphore};

use crate::base::argon2id;
use crate::base::ids::Digest;
use crate::base::secret::Secret;
use crate::base::time::{Clock, UnixTime};

/// One user and the hash of the password.
#[derive(Clone)]
pub struct PasswordUser {
    /// The name, compared byte for byte.
    pub name: String,
    /// The hash of the password.
    pub hash: LazyPasswordHash,
}

impl std::fmt::Debug for PasswordUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "User({})", self.name)
    }
}

/// Makes the hash that is kept of a password.
pub fn hash(password: &Secret) -> Result<String, String> {
    argon2id::hash(password, &crate::base::random::bytes())
}

/// A hash, `$argon2id$…`, made when it is first asked for: making it takes longer than starting.
#[derive(Clone)]
pub struct LazyPasswordHash(Arc<HashState>);

struct HashState {
    made: OnceCell<String>,
    /// The password and its salt, until the hash is made.
    of: Mutex<Option<(Secret, [u8; 16])>>,
}

impl LazyPasswordHash {
    /// One that was made long ago.
    pub fn from_hash(hash: String) -> Self {
        Self(Arc::new(HashState {
            made: OnceCell::new_with(Some(hash)),
            of: Mutex::default(),
        }))
    }

    /// Of a new password, to be kept.
    pub fn from_new_password(password: Secret) -> Self {
        Self::later(password, crate::base::random::bytes())
    }

    /// Of a password that is given anew at each start and kept nowhere: the same each time, so that sessions last.
    pub fn from_fixed_password(name: &str, password: Secret) -> Self {
        Self::later(password, Digest::new(&format!("salt {name}")).truncated())
    }

    fn later(password: Secret, salt: [u8; 16]) -> Self {
        Self(Arc::new(HashState {
            made: OnceCell::new(),
            of: Mutex::new(Some((password, salt))),
        }))
    }

    /// Whoever goes away while it is made leaves the making to the next one. `None` only at the end of the process.
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

/// Whether a user may have this name: not one of those under which the users of providers are known (`provider:id`), nor that
/// of nobody.
pub fn is_name(text: &str) -> bool {
    (1..=200).contains(&text.len()) && !text.contains(|c: char| c == ':' || c.is_control())
}

/// Whether this is a hash that a password can be compared with: argon2id, with parameters and salt.
pub fn is_argon2id(hash: &str) -> bool {
    argon2id::is_argon2id(hash)
}

/// Why a password cannot be used, or `None`: samples that everybody knows, and what is guessed at once.
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

/// Wrong tries that cost nothing: of one account from one source, and of one source.
const FREE_ATTEMPTS_PER_ACCOUNT: u32 = 3;
const FREE_ATTEMPTS_PER_SOURCE: u32 = 30;

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordCheck {
    /// It is the user.
    Right,
    /// Wrong name or password; the same answer for both.
    Wrong,
    /// Too soon after wrong ones: not even looked at.
    Wait {
        /// Seconds until the next try.
        seconds: u64,
    },
}

/// Users, and how often each source was wrong.
#[derive(Clone)]
pub struct Passwords(Arc<Inner>);

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.0.users).finish()
    }
}

struct Inner {
    users: Vec<PasswordUser>,
    /// A hash of nothing: an unknown user costs as much as a known one.
    nobody: LazyPasswordHash,
    wrong: Cache<String, (u32, UnixTime)>,
    hashing: Arc<Semaphore>,
    clock: Clock,
}

impl Passwords {
    /// At most cores/2 hashes run at once (each takes some 20 MB and tens of milliseconds).
    pub fn new(users: Vec<PasswordUser>, clock: Clock) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        // Any hash costs as much as any other, and whether it matches counts for known users only.
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

    /// The hash of this user's password: a session is bound to it, so that a new password ends the sessions of the old one.
    pub(crate) async fn hash_of(&self, name: &str) -> Option<&str> {
        let user = self.0.users.iter().find(|user| user.name == name)?;
        user.hash.get(&self.0.hashing).await
    }

    /// Tries a password. Runs on a thread of its own; it never blocks a worker.
    pub async fn check(&self, source: &str, name: &str, password: Secret) -> PasswordCheck {
        let now = self.0.clock.now();
        // A source may be a proxy with many people behind it: it is slowed only after many more.
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
        // Counted before it is looked at: many tries at once are many tries.
        for (key, free) in &keys {
            self.note_attempt(key.clone(), *free, now);
        }
        let user = self.0.users.iter().find(|user| user.name == name);
        let (known, kept) = (user.is_some(), user.map_or(&self.0.nobody, |user| &user.hash));
        // First the hash, then a permit to compare with it: making the hash takes a permit of its own.
        let Some(kept) = kept.get(&self.0.hashing).await.map(str::to_owned) else {
            return PasswordCheck::Wait { seconds: 1 };
        };
        let Ok(permit) = Arc::clone(&self.0.hashing).acquire_owned().await else {
            return PasswordCheck::Wait { seconds: 1 };
        };
        let hashed = tokio::task::spawn_blocking(move || {
            // The permit goes where the work is: a browser that goes away frees nothing early.
            let _permit = permit;
            argon2id::verify(&kept, &password)
        });
        if hashed.await.unwrap_or(false) && known {
            for (key, _) in &keys {
                self.0.wrong.remove(key);
            }
            return PasswordCheck::Right;
        }
        // A moment's wait, so that even the first wrong ones cost time.
        tokio::time::sleep(Duration::from_millis(300)).await;
        PasswordCheck::Wrong
    }

    /// The first `free` cost nothing; then 2, 4, 8 … 60 seconds.
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

    /// Both ways of a hash that is not there yet: nobody is let in before it is, and it is made once for all who wait.
    #[tokio::test]
    async fn a_hash_in_the_making_lets_nobody_in_and_is_made_once() {
        let right = || Secret::from("correct-horse");
        for hash in [
            LazyPasswordHash::from_new_password(right()),
            LazyPasswordHash::from_fixed_password("alice", right()),
        ] {
            let passwords = Passwords::new(alice(hash), Clock::System);
            // The first goes away at once, while it makes the hash for all others.
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
        // One thread hashes, and it is busy: the hash is begun and cannot end.
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
                // It goes away.
                drop(try_it);
                let free = places.saturating_sub(place + 1);
                assert_eq!(passwords.0.hashing.available_permits(), free, "after {place} that went away");
            }
            go.send(()).unwrap();
            busy.await.unwrap().unwrap();
            // The places are free again when the work is done, and not before.
            let all = u32::try_from(places).unwrap();
            drop(passwords.0.hashing.acquire_many(all).await.unwrap());
        });
    }
}
