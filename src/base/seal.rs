//! Sealing: AES-256-GCM with a key that is used once.
//!
//! key = HKDF-Expand(PRK of the key id, label ‖ first 16 random bytes), nonce = the last 12. Each
//! message has its own key, so random nonces cannot collide, however many messages there are.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;
use zeroize::Zeroizing;

use crate::base::keyring::{KeyId, KeyRing, RingKey};
use crate::base::random::SaltAndNonce;
use crate::base::time::UnixTime;

/// The purpose of a sealed value. It opens for no other purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(pub &'static str);

/// Length of the AEAD tag, in bytes.
pub const TAG_LEN: usize = 16;

/// The value did not open: another key, another purpose or changed bytes. No more is known.
#[derive(Debug, PartialEq, Eq)]
pub struct UnsealError;

/// Encrypts `plaintext` and appends the tag. `associated_data` is authenticated but stays readable.
///
/// # Panics
/// Never for messages below 64 GiB.
pub fn seal(key: &RingKey, label: Label, salt_and_nonce: &[u8; 28], associated_data: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(plaintext.len() + TAG_LEN);
    out.extend_from_slice(plaintext);
    let (aead, nonce) = cipher(key, label, salt_and_nonce);
    aead.seal_in_place_append_tag(nonce, Aad::from(associated_data), &mut out)
        .expect("the message is short");
    out
}

/// Opens what [`seal`] returned, in place.
///
/// # Errors
/// If key, label, random bytes or `associated_data` are not those of [`seal`], or `ciphertext` was
/// changed.
pub fn open<'a>(
    key: &RingKey,
    label: Label,
    salt_and_nonce: &[u8; 28],
    associated_data: &[u8],
    ciphertext: &'a mut [u8],
) -> Result<&'a [u8], UnsealError> {
    let (aead, nonce) = cipher(key, label, salt_and_nonce);
    let plaintext = aead
        .open_in_place(nonce, Aad::from(associated_data), ciphertext)
        .map_err(|_| UnsealError)?;
    Ok(plaintext)
}

/// Consumes the random bytes, so that they cannot be used for a second message.
#[expect(clippy::needless_pass_by_value, reason = "taking it away is the point")]
pub fn into_bytes(salt_and_nonce: SaltAndNonce) -> [u8; 28] {
    salt_and_nonce.0
}

/// Seals a message that names its key: key id ‖ random bytes ‖ ciphertext ‖ tag.
pub fn seal_message(key: &RingKey, label: Label, salt_and_nonce: SaltAndNonce, associated_data: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let salt_and_nonce = into_bytes(salt_and_nonce);
    let ciphertext = seal(key, label, &salt_and_nonce, associated_data, plaintext);
    [key.id().as_slice(), &salt_and_nonce, &ciphertext].concat()
}

/// As [`seal_message`], but deterministic for one key: a keyed digest of `plaintext` replaces
/// the random bytes. Two messages reveal only whether they are equal.
pub fn seal_deterministic(ring: &KeyRing, now: UnixTime, label: Label, plaintext: &[u8]) -> Vec<u8> {
    let key = ring.sealing_key(now);
    let mut salt_and_nonce = [0; 28];
    salt_and_nonce
        .copy_from_slice(&hmac::sign(&hmac_key(key, Label("repeatable")), &[label.0.as_bytes(), &[0], plaintext].concat()).as_ref()[..28]);
    let ciphertext = seal(key, label, &salt_and_nonce, b"", plaintext);
    [key.id().as_slice(), &salt_and_nonce, &ciphertext].concat()
}

/// Opens a message of [`seal_message`] or [`seal_deterministic`].
///
/// # Errors
/// [`UnsealError`], also if the ring lacks the key.
pub fn open_message(ring: &KeyRing, label: Label, associated_data: &[u8], message: &[u8]) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
    let (id, rest) = message.split_first_chunk::<4>().ok_or(UnsealError)?;
    let (salt_and_nonce, ciphertext) = rest.split_first_chunk::<28>().ok_or(UnsealError)?;
    let id: KeyId = *id;
    let key = ring.opening_key(id).ok_or(UnsealError)?;
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    let length = open(key, label, salt_and_nonce, associated_data, &mut buffer)?.len();
    buffer.truncate(length);
    Ok(buffer)
}

/// Derives an HMAC-SHA-256 key for `label`, for readable data that must not be changed.
pub fn hmac_key(key: &RingKey, label: Label) -> hmac::Key {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    expand(key, &[label.0.as_bytes()], &mut bytes);
    hmac::Key::new(hmac::HMAC_SHA256, &*bytes)
}

fn cipher(key: &RingKey, label: Label, salt_and_nonce: &[u8; 28]) -> (LessSafeKey, Nonce) {
    let (salt, nonce) = salt_and_nonce.split_at(16);
    let mut bytes = Zeroizing::new([0_u8; 32]);
    expand(key, &[label.0.as_bytes(), salt], &mut bytes);
    let aead = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*bytes).expect("32 bytes are an AES-256 key"));
    (aead, Nonce::try_assume_unique_for_key(nonce).expect("12 bytes are a nonce"))
}

fn expand(key: &RingKey, info: &[&[u8]], out: &mut [u8; 32]) {
    let okm = key
        .prk()
        .expand(info, ring::hkdf::HKDF_SHA256)
        .expect("32 bytes are within HKDF's reach");
    okm.fill(out).expect("32 bytes were asked for");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{keyring, random};

    fn ring() -> KeyRing {
        KeyRing::parse(keyring::generate(UnixTime(0)).expose()).unwrap()
    }

    #[test]
    fn a_sealed_message_opens_only_unchanged_with_its_label_and_associated_data() {
        let ring = ring();
        let message = seal_message(
            ring.sealing_key(UnixTime(0)),
            Label("a"),
            random::salt_and_nonce(),
            b"with",
            b"plain",
        );
        assert_eq!(*open_message(&ring, Label("a"), b"with", &message).unwrap(), b"plain");
        assert_eq!(open_message(&ring, Label("b"), b"with", &message), Err(UnsealError));
        assert_eq!(open_message(&ring, Label("a"), b"without", &message), Err(UnsealError));
        assert_eq!(open_message(&self::ring(), Label("a"), b"with", &message), Err(UnsealError));
        for bit in 0..message.len() * 8 {
            let mut changed_message = message.clone();
            changed_message[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open_message(&ring, Label("a"), b"with", &changed_message), Err(UnsealError));
        }
    }

    /// AES-GCM fails if a key meets one nonce twice, so each message has its own key and nonce.
    #[test]
    fn equal_messages_are_sealed_under_different_keys_and_nonces() {
        let ring = ring();
        let seal = |_| {
            let key = ring.sealing_key(UnixTime(0));
            seal_message(key, Label("a"), random::salt_and_nonce(), b"", &[0; 16])
        };
        let messages: Vec<Vec<u8>> = (0..1_000).map(seal).collect();
        let start = messages[0].len() - 16 - TAG_LEN;
        for (name, range) in [
            ("key", start - 28..start - 12),
            ("nonce", start - 12..start),
            ("text", start..start + 16),
        ] {
            let distinct: std::collections::HashSet<&[u8]> = messages.iter().map(|message| &message[range.clone()]).collect();
            assert_eq!(distinct.len(), messages.len(), "the {name}");
        }
    }
}
