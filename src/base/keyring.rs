//! The encryption keys: one seals, all open. A sealed value names its key.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::{digest, hkdf};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::base::random;
use crate::base::secret::{Secret, at_rest};
use crate::base::time::UnixTime;

/// The time for which a new key opens before it also seals, in seconds. In this time, every process reads it.
pub const ACTIVATION_DELAY_SECONDS: u64 = 300;

/// The id of a key: the first four bytes of a digest of the key.
pub type KeyId = [u8; 4];

/// Returns the id as text, for display.
pub fn name(id: KeyId) -> String {
    URL_SAFE_NO_PAD.encode(id)
}

/// One key, ready for use.
#[derive(Clone)]
pub struct RingKey {
    id: KeyId,
    prk: hkdf::Prk,
    made: UnixTime,
    seals_from: UnixTime,
}

/// All keys of an installation, oldest first; never empty.
#[derive(Clone)]
pub struct KeyRing(Vec<RingKey>);

#[derive(Serialize, Deserialize)]
struct KeyEntry {
    #[serde(with = "at_rest")]
    key: Secret,
    made: UnixTime,
    seals_from: UnixTime,
}

#[derive(Serialize, Deserialize)]
struct KeyFile {
    keys: Vec<KeyEntry>,
}

/// The reason why a key file is rejected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// The text is not the JSON that [`generate`] writes.
    #[error("not a key file: {0}")]
    NotAKeyFile(String),
    /// The file contains no key.
    #[error("no key in it")]
    Empty,
    /// A key is not 32 bytes in base64.
    #[error("a key must be 32 random bytes in base64, for instance from `openssl rand -base64 32`")]
    NotAKey,
}

/// Returns the text of a new key file with one key that seals at once.
pub fn generate(now: UnixTime) -> Secret {
    text(vec![fresh(now, now)])
}

/// Adds a key to the text `key_file`. The new key seals after [`ACTIVATION_DELAY_SECONDS`].
///
/// # Errors
/// If `key_file` is not the text of a key file.
pub fn rotate(key_file: &str, now: UnixTime) -> Result<Secret, KeyFileError> {
    let mut keys = read(key_file)?;
    keys.push(fresh(now, now.plus_seconds(ACTIVATION_DELAY_SECONDS)));
    Ok(text(keys))
}

fn fresh(made: UnixTime, seals_from: UnixTime) -> KeyEntry {
    let bytes = Zeroizing::new(random::bytes::<32>());
    KeyEntry {
        key: Secret::from(STANDARD.encode(*bytes)),
        made,
        seals_from,
    }
}

fn text(keys: Vec<KeyEntry>) -> Secret {
    Secret::from(serde_json::to_string_pretty(&KeyFile { keys }).expect("texts and numbers are JSON"))
}

fn read(text: &str) -> Result<Vec<KeyEntry>, KeyFileError> {
    let file: KeyFile =
        serde_json::from_str(text).map_err(|e| KeyFileError::NotAKeyFile(format!("line {}, column {}", e.line(), e.column())))?;
    Ok(file.keys)
}

impl KeyRing {
    /// Parses a key file that [`generate`] or [`rotate`] wrote.
    ///
    /// # Errors
    /// If the text is not a key file, it has no key, or a key is not valid.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        let mut keys = Vec::new();
        for entry in read(text)? {
            keys.push(RingKey::from_base64(entry.key.expose(), entry.made, entry.seals_from)?);
        }
        if keys.is_empty() {
            Err(KeyFileError::Empty)
        } else {
            Ok(Self(keys))
        }
    }

    /// Creates a ring of one key from the operator: 32 bytes in base64 (either alphabet).
    ///
    /// # Errors
    /// If the text is not such a key.
    pub fn single(base64: &str) -> Result<Self, KeyFileError> {
        Ok(Self(vec![RingKey::from_base64(base64.trim(), UnixTime(0), UnixTime(0))?]))
    }

    /// Returns the key that seals at `now`: the newest active one, else the oldest.
    ///
    /// # Panics
    /// Never: a ring is not empty.
    pub fn sealing_key(&self, now: UnixTime) -> &RingKey {
        let active = self.0.iter().rfind(|key| key.seals_from <= now);
        active.or(self.0.first()).expect("a key ring is never empty")
    }

    /// Returns a ring of the oldest key alone.
    #[must_use]
    pub fn oldest(&self) -> Self {
        Self(self.0[..1].to_vec())
    }

    /// Returns the key with this id, if the ring has it. Keys are never tried in turn.
    pub fn opening_key(&self, id: KeyId) -> Option<&RingKey> {
        self.0.iter().find(|key| key.id == id)
    }

    /// Lists each key for the operator: its id as text, when it was made, and from when it seals.
    pub fn list(&self) -> impl Iterator<Item = (String, UnixTime, UnixTime)> {
        self.0.iter().map(|key| (name(key.id), key.made, key.seals_from))
    }
}

impl RingKey {
    fn from_base64(text: &str, made: UnixTime, seals_from: UnixTime) -> Result<Self, KeyFileError> {
        let bytes = Zeroizing::new(
            STANDARD
                .decode(text)
                .or_else(|_| URL_SAFE_NO_PAD.decode(text))
                .map_err(|_| KeyFileError::NotAKey)?,
        );
        if bytes.len() != 32 {
            return Err(KeyFileError::NotAKey);
        }
        let key_digest = digest::digest(&digest::SHA256, &[b"mcp-oauth-gateway key id".as_slice(), &bytes].concat());
        let mut id = [0; 4];
        id.copy_from_slice(&key_digest.as_ref()[..4]);
        // Extracted once here: a token then costs one HKDF expansion and one AEAD opening.
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"mcp-oauth-gateway").extract(&bytes);
        Ok(Self { id, prk, made, seals_from })
    }

    /// The id that is written into what this key seals.
    pub fn id(&self) -> KeyId {
        self.id
    }

    pub(super) fn prk(&self) -> &hkdf::Prk {
        &self.prk
    }
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyRing({} keys)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_opens_at_once_and_seals_after_five_minutes() {
        let now = UnixTime(1_000);
        let old_file = generate(now);
        let new_file = rotate(old_file.expose(), now).unwrap();
        let old_ring = KeyRing::parse(old_file.expose()).unwrap();
        let new_ring = KeyRing::parse(new_file.expose()).unwrap();
        let old_id = old_ring.sealing_key(now).id();
        assert_eq!(new_ring.sealing_key(now.plus_seconds(299)).id(), old_id);
        let new_id = new_ring.sealing_key(now.plus_seconds(300)).id();
        assert_ne!(new_id, old_id);
        assert!(new_ring.opening_key(new_id).is_some() && new_ring.opening_key(old_id).is_some());
        assert!(old_ring.opening_key(new_id).is_none());
    }

    #[test]
    fn a_short_key_and_a_broken_file_are_refused() {
        assert_eq!(KeyRing::single("c2hvcnQ=").unwrap_err(), KeyFileError::NotAKey);
        assert_eq!(KeyRing::parse("{\"keys\":[]}").unwrap_err(), KeyFileError::Empty);
        assert!(matches!(KeyRing::parse("nonsense"), Err(KeyFileError::NotAKeyFile(_))));
    }
}
