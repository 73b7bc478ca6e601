//! argon2id with memory that goes back to the operating system. The crate's own functions leave it
//! to the allocator, so that after some sign-ins an idle gateway would hold hundreds of megabytes.

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, Version};
use zeroize::Zeroizing;

use crate::base::secret::Secret;

/// Minimum size of an allocation, in bytes. glibc keeps freed memory, except that of allocations
/// above 32 MiB. Pages that are not written use no memory.
const MIN_MMAP_BYTES: usize = 34 << 20;

/// The least memory of a configured hash, in KiB, and its fewest passes (OWASP, RFC 9106 §4).
const MIN_MEMORY_KIB: u32 = 19 * 1_024;
const MIN_PASSES: u32 = 2;
/// The shortest configured hash, in bytes.
const MIN_OUTPUT_BYTES: usize = 16;

/// Hashes a password as `$argon2id$…`, with the crate's default costs.
///
/// # Errors
/// If the `argon2` crate reports an error.
pub fn hash(password: &Secret, salt: &[u8; 16]) -> Result<String, String> {
    let salt = Salt::new(salt).map_err(|error| error.to_string())?;
    hash_with(password, salt, Params::default()).map(|hash| hash.to_string())
}

/// Whether `encoded_hash` is a hash of `password`. The time does not reveal how a password differs.
pub fn verify(encoded_hash: &str, password: &Secret) -> bool {
    let Ok(stored) = PasswordHash::new(encoded_hash) else {
        return false;
    };
    let (Some(salt), Some(expected), Ok(params)) = (stored.salt, stored.hash, Params::try_from(&stored)) else {
        return false;
    };
    let same_algorithm = stored.algorithm == ARGON2ID_IDENT && stored.version == Some(Version::V0x13.into());
    // `Output` compares in constant time.
    same_algorithm && hash_with(password, salt, params).is_ok_and(|actual| actual.hash == Some(expected))
}

/// Whether `encoded_hash` is a hash that [`verify`] can check.
pub fn is_argon2id(encoded_hash: &str) -> bool {
    PasswordHash::new(encoded_hash).is_ok_and(|stored| {
        let same_algorithm = stored.algorithm == ARGON2ID_IDENT && stored.version == Some(Version::V0x13.into());
        same_algorithm && stored.salt.is_some() && stored.hash.is_some() && Params::try_from(&stored).is_ok()
    })
}

/// The reason why a configured hash is too weak: too cheap to guess, or too short. `None` if it is accepted, or is
/// no argon2id hash.
pub fn weakness(encoded_hash: &str) -> Option<&'static str> {
    let stored = PasswordHash::new(encoded_hash).ok()?;
    let params = Params::try_from(&stored).ok()?;
    if params.m_cost() < MIN_MEMORY_KIB {
        return Some("it uses less than 19 MiB of memory (m=19456)");
    }
    if params.t_cost() < MIN_PASSES {
        return Some("it makes fewer than 2 passes (t=2)");
    }
    let length = stored.hash.map_or(0, |output| output.as_ref().len());
    (length < MIN_OUTPUT_BYTES).then_some("it is shorter than 16 bytes")
}

/// The cost of a check of `encoded_hash`, in passes over a KiB of memory. A text that is no hash costs
/// nothing.
pub fn cost(encoded_hash: &str) -> u64 {
    let params = PasswordHash::new(encoded_hash)
        .ok()
        .and_then(|stored| Params::try_from(&stored).ok());
    params.as_ref().map_or(0, params_cost)
}

/// The cost of a check of a hash of [`hash`], as [`cost`] counts it.
pub fn default_cost() -> u64 {
    params_cost(&Params::default())
}

fn params_cost(params: &Params) -> u64 {
    u64::from(params.m_cost()) * u64::from(params.t_cost())
}

/// A 32-byte key from a passphrase, at these costs: memory in KiB, and passes over it.
///
/// # Errors
/// If the costs or the salt are outside of what argon2id allows.
pub fn derive_key(passphrase: &Secret, salt: &[u8], memory_kib: u32, passes: u32) -> Result<Zeroizing<[u8; 32]>, String> {
    let params = Params::new(memory_kib, passes, 1, Some(32)).map_err(|error| error.to_string())?;
    let mut key = Zeroizing::new([0; 32]);
    let mut memory = blocks(&params);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(passphrase.expose().as_bytes(), salt, &mut *key, &mut memory)
        .map_err(|error| error.to_string())?;
    Ok(key)
}

/// The memory that the operating system gets back at once.
fn blocks(params: &Params) -> Vec<Block> {
    let block_count = params.block_count();
    let mut memory = Vec::with_capacity(block_count.max(MIN_MMAP_BYTES / Block::SIZE));
    memory.resize(block_count, Block::new());
    memory
}

fn hash_with(password: &Secret, salt: Salt, params: Params) -> Result<PasswordHash, String> {
    let mut out = [0; Output::MAX_LENGTH];
    let length = params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
    let out = out.get_mut(..length).ok_or("the hash is too long")?;
    let mut memory = blocks(&params);
    let params_string = ParamsString::try_from(&params).map_err(|error| error.to_string())?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(password.expose().as_bytes(), &salt, out, &mut memory)
        .map_err(|error| error.to_string())?;
    Ok(PasswordHash {
        algorithm: ARGON2ID_IDENT,
        version: Some(Version::V0x13.into()),
        params: params_string,
        salt: Some(salt),
        hash: Some(Output::new(out).map_err(|error| error.to_string())?),
    })
}

#[cfg(test)]
mod tests {
    use argon2::{PasswordHasher as _, PasswordVerifier as _};

    use super::*;

    #[test]
    fn our_argon2id_hash_equals_that_of_the_argon2_crate() {
        let (password, salt) = (Secret::from("correct-horse"), [7; 16]);
        let our_hash = hash(&password, &salt).unwrap();
        let crate_hash = Argon2::default().hash_password_with_salt(b"correct-horse", &salt).unwrap();
        assert_eq!(our_hash, crate_hash.to_string());
        assert!(
            Argon2::default()
                .verify_password(b"correct-horse", &PasswordHash::new(&our_hash).unwrap())
                .is_ok()
        );
    }

    #[test]
    fn hashes_that_are_cheap_to_guess_are_weak() {
        let hash = |params: &str| format!("$argon2id$v=19${params}$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b2dWRWJTmaaVRZvHX7CjvrQ9Yk");
        for good in ["m=19456,t=2,p=1", "m=65536,t=3,p=4"] {
            assert_eq!(weakness(&hash(good)), None, "{good}");
        }
        for (weak, named) in [
            ("m=19455,t=2,p=1", "19 MiB"),
            ("m=8,t=1,p=1", "19 MiB"),
            ("m=1048576,t=1,p=1", "2 passes"),
        ] {
            assert!(weakness(&hash(weak)).is_some_and(|reason| reason.contains(named)), "{weak}");
        }
        let short = "$argon2id$v=19$m=19456,t=2,p=1$YWFhYWFhYWE$RdescudvJCsgt3ub";
        assert!(weakness(short).is_some_and(|reason| reason.contains("16 bytes")));
        assert_eq!((cost(&hash("m=65536,t=3,p=4")), cost("")), (196_608, 0));
        assert_eq!(cost(&super::hash(&Secret::from("x"), &[7; 16]).unwrap()), default_cost());
    }

    #[test]
    fn only_the_right_password_and_a_complete_argon2id_hash_match() {
        let password = Secret::from("correct-horse");
        let encoded_hash = hash(&password, &[7; 16]).unwrap();
        assert!(verify(&encoded_hash, &password));
        for wrong_password in ["", "correct-hors", "correct-horse ", "Correct-horse"] {
            assert!(!verify(&encoded_hash, &Secret::from(wrong_password)), "{wrong_password:?}");
        }
        let without_hash = encoded_hash.rsplit_once('$').unwrap().0;
        let other_kinds = [
            encoded_hash.replace("argon2id", "argon2i"),
            encoded_hash.replace("v=19", "v=16"),
            encoded_hash.replace("t=2", "t=3"),
        ];
        for invalid in ["", "$", without_hash].into_iter().chain(other_kinds.iter().map(String::as_str)) {
            assert!(!verify(invalid, &password), "{invalid}");
        }
        // The costs are read from the hash, so that a hash with other costs still matches.
        let cheap_hash = hash_with(&password, Salt::new(&[7; 16]).unwrap(), Params::new(64, 1, 1, None).unwrap()).unwrap();
        assert!(verify(&cheap_hash.to_string(), &password));
    }
}
