//! Users with a password of this gateway.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OnceCell, Semaphore};

use crate::base::argon2id;
use crate::base::ids::Digest;
use crate::base::secret::Secret;

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

    /// The hash. The first caller computes it, with a permit of `permits`; a caller that is dropped
    /// meanwhile stops nothing. `None` on failure.
    pub async fn get(&self, permits: &Arc<Semaphore>) -> Option<&str> {
        let compute = || async {
            let permit = Arc::clone(permits).acquire_owned().await.ok()?;
            let (password, salt) = self.of().clone()?;
            let task = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                argon2id::hash(&password, &salt)
            });
            let hash = task
                .await
                .ok()?
                .inspect_err(|error| tracing::error!(why = error, "the password cannot be hashed"));
            let hash = hash.ok()?;
            *self.of() = None;
            Some(hash)
        };
        self.0
            .made
            .get_or_try_init(|| async { compute().await.ok_or(()) })
            .await
            .ok()
            .map(String::as_str)
    }

    /// The cost of a check against this hash, as [`argon2id::cost`] counts it.
    pub fn cost(&self) -> u64 {
        // A hash that is not computed yet gets the default costs.
        self.0.made.get().map_or_else(argon2id::default_cost, |hash| argon2id::cost(hash))
    }

    /// Whether the password is still in memory, because the hash is not computed yet.
    pub fn holds_password(&self) -> bool {
        self.of().is_some()
    }

    fn of(&self) -> std::sync::MutexGuard<'_, Option<(Secret, [u8; 16])>> {
        self.0.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The maximum number of characters of a user name.
pub const MAX_NAME_CHARS: usize = 200;

/// Whether this can be a user name. It cannot be empty, and it has no colon, which `provider:id` of
/// an identity provider has.
pub fn is_name(text: &str) -> bool {
    (1..=MAX_NAME_CHARS).contains(&text.len()) && !text.contains(|c: char| c == ':' || c.is_control())
}

/// Whether this is an argon2id hash with parameters and salt.
pub fn is_argon2id(hash: &str) -> bool {
    argon2id::is_argon2id(hash)
}

/// The reason why an argon2id hash is refused: it is cheap to guess. `None` if it is accepted.
pub fn hash_weakness(hash: &str) -> Option<&'static str> {
    argon2id::weakness(hash)
}

/// The reason why a password is refused: it is a known sample, or easily guessed. `None` if it is accepted.
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
    if KNOWN.iter().any(|sample| lower.starts_with(sample)) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_and_weak_passwords_are_detected() {
        for weak in ["gateway_pass", "change-this-now", "short", "aaaaaaaaaaaa", "Alice-Alice"] {
            assert!(password_weakness("alice-alice", weak).is_some(), "{weak}");
        }
        assert_eq!(password_weakness("alice", "correct-horse-battery-9"), None);
    }

    #[tokio::test]
    async fn the_same_configured_password_yields_the_same_hash_after_a_restart() {
        let hash_of = async |name: &str, password: &str| {
            let hash = LazyPasswordHash::from_fixed_password(name, Secret::from(password));
            hash.get(&Arc::new(Semaphore::new(1))).await.unwrap().to_owned()
        };
        let first = hash_of("alice", "correct-horse").await;
        assert_eq!(hash_of("alice", "correct-horse").await, first);
        assert_ne!(hash_of("alice", "correct-horse-2").await, first);
        assert_ne!(hash_of("bob", "correct-horse").await, first);
    }
}
