//! The keys that seal: one seals, several open, each named in what it sealed.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::{digest, hkdf};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::base::random;
use crate::base::secret::{Secret, at_rest};
use crate::base::time::UnixTime;

/// How long a new key opens before it seals, in seconds: until then every instance has read it.
pub const ACTIVATE_AFTER: u64 = 300;

/// The name of a key: the first four bytes of a digest of it.
pub type KeyId = [u8; 4];

/// The name as people are shown it.
pub fn name(id: KeyId) -> String {
    URL_SAFE_NO_PAD.encode(id)
}

/// One key, ready to use.
#[derive(Clone)]
pub struct Key {
    id: KeyId,
    prk: hkdf::Prk,
    made: UnixTime,
    seals_from: UnixTime,
}

/// All keys of an installation, oldest first; never empty.
#[derive(Clone)]
pub struct KeyRing(Vec<Key>);

/// A key as it lies in the key file.
#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(with = "at_rest")]
    key: Secret,
    made: UnixTime,
    seals_from: UnixTime,
}

#[derive(Serialize, Deserialize)]
struct WrittenRing {
    keys: Vec<Written>,
}

/// Why a key file is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum BadKeys {
    /// Not the JSON that [`made`] writes.
    NotAKeyFile(String),
    /// No key in it.
    Empty,
    /// A key is not 32 bytes in base64.
    NotAKey,
}

impl std::fmt::Display for BadKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotAKeyFile(why) => write!(f, "not a key file: {why}"),
            Self::Empty => f.write_str("no key in it"),
            Self::NotAKey => f.write_str("a key must be 32 random bytes in base64, for instance from `openssl rand -base64 32`"),
        }
    }
}

impl std::error::Error for BadKeys {}

/// The text of a new key file with one key that seals at once.
pub fn made(now: UnixTime) -> Secret {
    text(vec![fresh(now, now)])
}

/// The text of the key file `old` with one more key, which seals after [`ACTIVATE_AFTER`].
pub fn rotated(old: &str, now: UnixTime) -> Result<Secret, BadKeys> {
    let mut keys = read(old)?;
    keys.push(fresh(now, now.after(ACTIVATE_AFTER)));
    Ok(text(keys))
}

fn fresh(made: UnixTime, seals_from: UnixTime) -> Written {
    let bytes = Zeroizing::new(random::bytes::<32>());
    Written {
        key: Secret::from(STANDARD.encode(*bytes)),
        made,
        seals_from,
    }
}

fn text(keys: Vec<Written>) -> Secret {
    Secret::from(serde_json::to_string_pretty(&WrittenRing { keys }).expect("texts and numbers are JSON"))
}

fn read(text: &str) -> Result<Vec<Written>, BadKeys> {
    let ring: WrittenRing =
        serde_json::from_str(text).map_err(|e| BadKeys::NotAKeyFile(format!("line {}, column {}", e.line(), e.column())))?;
    Ok(ring.keys)
}

impl KeyRing {
    /// Reads a key file, as [`made`] and [`rotated`] write it.
    pub fn parse(text: &str) -> Result<Self, BadKeys> {
        let mut keys = Vec::new();
        for written in read(text)? {
            keys.push(Key::from_base64(written.key.expose(), written.made, written.seals_from)?);
        }
        if keys.is_empty() { Err(BadKeys::Empty) } else { Ok(Self(keys)) }
    }

    /// One key given by the operator: 32 bytes in base64 (either alphabet).
    pub fn single(base64: &str) -> Result<Self, BadKeys> {
        Ok(Self(vec![Key::from_base64(base64.trim(), UnixTime(0), UnixTime(0))?]))
    }

    /// The key that seals now: the newest whose time has come.
    ///
    /// # Panics
    /// Never: a ring is not empty.
    pub fn sealing(&self, now: UnixTime) -> &Key {
        let ready = self.0.iter().rfind(|key| key.seals_from <= now);
        ready.or(self.0.first()).expect("a key ring is never empty")
    }

    /// A ring of its first key alone.
    #[must_use]
    pub fn oldest(&self) -> Self {
        Self(self.0[..1].to_vec())
    }

    /// The key of this name, if the ring has it. Keys are never tried in turn.
    pub fn opening(&self, id: KeyId) -> Option<&Key> {
        self.0.iter().find(|key| key.id == id)
    }

    /// What an operator may see of each key: its name, when it was made, and from when it seals.
    pub fn list(&self) -> impl Iterator<Item = (String, UnixTime, UnixTime)> {
        self.0.iter().map(|key| (name(key.id), key.made, key.seals_from))
    }
}

impl Key {
    fn from_base64(text: &str, made: UnixTime, seals_from: UnixTime) -> Result<Self, BadKeys> {
        let bytes = Zeroizing::new(
            STANDARD
                .decode(text)
                .or_else(|_| URL_SAFE_NO_PAD.decode(text))
                .map_err(|_| BadKeys::NotAKey)?,
        );
        if bytes.len() != 32 {
            return Err(BadKeys::NotAKey);
        }
        let named = digest::digest(&digest::SHA256, &[b"mcp-oauth-gateway key id".as_slice(), &bytes].concat());
        let mut id = [0; 4];
        id.copy_from_slice(&named.as_ref()[..4]);
        // Derived once, here: a token then costs one expansion and one AEAD opening.
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"mcp-oauth-gateway").extract(&bytes);
        Ok(Self { id, prk, made, seals_from })
    }

    /// The name that goes into what this key seals.
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
        let first = made(now);
        let both = rotated(first.expose(), now).unwrap();
        let old = KeyRing::parse(first.expose()).unwrap();
        let ring = KeyRing::parse(both.expose()).unwrap();
        let old_id = old.sealing(now).id();
        assert_eq!(ring.sealing(now.after(299)).id(), old_id);
        let new_id = ring.sealing(now.after(300)).id();
        assert_ne!(new_id, old_id);
        assert!(ring.opening(new_id).is_some() && ring.opening(old_id).is_some());
        assert!(old.opening(new_id).is_none());
    }

    #[test]
    fn a_short_key_and_a_broken_file_are_refused() {
        assert_eq!(KeyRing::single("c2hvcnQ=").unwrap_err(), BadKeys::NotAKey);
        assert_eq!(KeyRing::parse("{\"keys\":[]}").unwrap_err(), BadKeys::Empty);
        assert!(matches!(KeyRing::parse("nonsense"), Err(BadKeys::NotAKeyFile(_))));
    }
}
