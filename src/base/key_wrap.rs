//! A key file that a passphrase locks: AES-256-GCM under a key of argon2id. A wrong passphrase is an error,
//! and never looks like an empty file.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::base::argon2id;
use crate::base::random;
use crate::base::secret::Secret;

/// The purpose of the ciphertext.
const ASSOCIATED_DATA: &[u8] = b"mcp-oauth-gateway locked key file 1";
/// The costs of a new file: 64 MiB of memory, three passes (RFC 9106 §4, second choice).
const MEMORY_KIB: u32 = 64 * 1_024;
const PASSES: u32 = 3;
/// The highest costs that a file may demand: 1 GiB, 16 passes. More would hang the start.
const MAX_MEMORY_KIB: u32 = 1_024 * 1_024;
const MAX_PASSES: u32 = 16;

#[derive(Serialize, Deserialize)]
struct LockedFile {
    locked: Locked,
}

#[derive(Serialize, Deserialize)]
struct Locked {
    kdf: String,
    memory_kib: u32,
    passes: u32,
    salt: String,
    nonce: String,
    keys: String,
}

/// The reason why a locked file does not open.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnlockError {
    /// The passphrase is wrong, or the file was changed.
    #[error("the passphrase is wrong, or the file was changed")]
    WrongPassphrase,
    /// The file is not one that [`lock`] writes.
    #[error("the locked key file cannot be read: {0}")]
    Unreadable(&'static str),
}

/// Whether this is the text of a locked file.
pub fn is_locked(text: &str) -> bool {
    serde_json::from_str::<LockedFile>(text).is_ok()
}

/// The text of a locked file with this key file in it.
///
/// # Errors
/// If the memory for argon2id is not available.
pub fn lock(key_file: &Secret, passphrase: &Secret) -> Result<Secret, String> {
    let (salt, nonce) = (random::bytes::<16>(), random::bytes::<NONCE_LEN>());
    let cipher = cipher(passphrase, &salt, MEMORY_KIB, PASSES)?;
    let mut buffer = key_file.expose().as_bytes().to_vec();
    cipher
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(ASSOCIATED_DATA), &mut buffer)
        .map_err(|_| "the key file is too long".to_owned())?;
    let locked = Locked {
        kdf: "argon2id".to_owned(),
        memory_kib: MEMORY_KIB,
        passes: PASSES,
        salt: STANDARD.encode(salt),
        nonce: STANDARD.encode(nonce),
        keys: STANDARD.encode(buffer),
    };
    serde_json::to_string_pretty(&LockedFile { locked })
        .map(Secret::from)
        .map_err(|error| error.to_string())
}

/// The key file in the text of a locked file.
///
/// # Errors
/// [`UnlockError`].
pub fn unlock(text: &str, passphrase: &Secret) -> Result<Secret, UnlockError> {
    let LockedFile { locked } = serde_json::from_str(text).map_err(|_| UnlockError::Unreadable("it is not one"))?;
    if locked.kdf != "argon2id" {
        return Err(UnlockError::Unreadable("it has another way to derive the key"));
    }
    if locked.memory_kib > MAX_MEMORY_KIB || locked.passes > MAX_PASSES {
        return Err(UnlockError::Unreadable("it demands more than 1 GiB of memory or 16 passes"));
    }
    let decode = |text: &str| STANDARD.decode(text).map_err(|_| UnlockError::Unreadable("it is not base64"));
    let (salt, nonce, mut buffer) = (decode(&locked.salt)?, decode(&locked.nonce)?, Zeroizing::new(decode(&locked.keys)?));
    let nonce = Nonce::try_assume_unique_for_key(&nonce).map_err(|_| UnlockError::Unreadable("its nonce has another length"))?;
    let cipher = cipher(passphrase, &salt, locked.memory_kib, locked.passes)
        .map_err(|_| UnlockError::Unreadable("its costs or its salt cannot be used"))?;
    let opened = cipher.open_in_place(nonce, Aad::from(ASSOCIATED_DATA), &mut buffer);
    let plain = opened.map_err(|_| UnlockError::WrongPassphrase)?;
    let text = std::str::from_utf8(plain).map_err(|_| UnlockError::Unreadable("it is not text"))?;
    Ok(Secret::from(text))
}

fn cipher(passphrase: &Secret, salt: &[u8], memory_kib: u32, passes: u32) -> Result<LessSafeKey, String> {
    let key = argon2id::derive_key(passphrase, salt, memory_kib, passes)?;
    let key = UnboundKey::new(&AES_256_GCM, &*key).map_err(|_| "the derived key has another length".to_owned())?;
    Ok(LessSafeKey::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_key_file_opens_with_its_passphrase_and_with_no_other() {
        let (file, passphrase) = (Secret::from("{\"keys\":[]}"), Secret::from("a good passphrase"));
        let locked = lock(&file, &passphrase).unwrap();
        assert!(is_locked(locked.expose()) && !is_locked(file.expose()) && !is_locked(""));
        assert!(!locked.expose().contains("[]"));
        assert_eq!(unlock(locked.expose(), &passphrase), Ok(file.clone()));
        assert_eq!(
            unlock(locked.expose(), &Secret::from("A good passphrase")),
            Err(UnlockError::WrongPassphrase)
        );
        let cheaper = locked.expose().replace("\"passes\": 3", "\"passes\": 1");
        assert_eq!(unlock(&cheaper, &passphrase), Err(UnlockError::WrongPassphrase));
        let costly = locked.expose().replace("65536", "4000000");
        assert!(matches!(unlock(&costly, &passphrase), Err(UnlockError::Unreadable(_))));
        assert_ne!(locked, lock(&file, &passphrase).unwrap(), "another salt each time");
    }
}
