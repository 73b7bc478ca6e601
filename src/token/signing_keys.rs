//! Keys that sign the gateway's JWTs. A new key is made 30 days after the last one. It is published
//! at once and signs one hour later, when every cached copy of the key set has it. An old key stays
//! published until all that it signed has expired.

use serde::{Deserialize, Serialize};

use crate::base::record::{Record, states};
use crate::base::secret::{Secret, at_rest};
use crate::base::time::UnixTime;

/// Time between two new keys, in seconds.
pub const ROTATION_SECONDS: u64 = 30 * 86_400;
/// How long a key is published before it signs and after it is no longer needed, in seconds.
pub const PUBLISH_LEAD_SECONDS: u64 = 3_600;

/// A key, and when it begins to sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKeyEntry {
    /// PKCS#8 text from `base::signing_key::generate`.
    #[serde(with = "at_rest")]
    pub key: Secret,
    made: UnixTime,
    signs_from: UnixTime,
}

/// All keys, oldest first; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKeys {
    keys: Vec<SigningKeyEntry>,
}

/// Another instance has made the new key already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationNotDue;

/// The stored keys: one record, so that all instances sign with and publish the same keys.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
pub enum SigningRecord {
    /// The only state.
    SigningKeys(SigningKeys),
}

states!(SigningRecord: SigningKeys);

impl Record for SigningRecord {
    const KIND: &'static str = "signing-keys";

    fn expires_at(&self) -> UnixTime {
        UnixTime::NEVER
    }
}

impl SigningKeys {
    /// Starts with one key. It signs at once, because no verifier has cached an older key set.
    pub fn new(key: Secret, now: UnixTime) -> Self {
        let kept = SigningKeyEntry {
            key,
            made: now,
            signs_from: now,
        };
        Self { keys: vec![kept] }
    }

    /// Whether a new key is due.
    pub fn is_rotation_due(&self, now: UnixTime) -> bool {
        self.keys
            .last()
            .is_none_or(|newest| newest.made.plus_seconds(ROTATION_SECONDS) <= now)
    }

    /// Adds a key, and drops those that are no longer needed. Fails if no key is due. `longest` is
    /// the longest lifetime of a signed token, in seconds.
    pub fn rotated(self, key: Secret, now: UnixTime, longest: u64) -> Result<Self, RotationNotDue> {
        if !self.is_rotation_due(now) {
            return Err(RotationNotDue);
        }
        let needed = self.published_keys(now, longest).cloned();
        let new = SigningKeyEntry {
            key,
            made: now,
            signs_from: now.plus_seconds(PUBLISH_LEAD_SECONDS),
        };
        let keys = needed.chain([new]).collect();
        Ok(Self { keys })
    }

    /// All keys, oldest first.
    pub fn all(&self) -> &[SigningKeyEntry] {
        &self.keys
    }

    /// Index of the signing key: the newest in effect, or the oldest if the clock was set back.
    pub fn signing_index(&self, now: UnixTime) -> usize {
        self.keys.iter().rposition(|key| key.signs_from <= now).unwrap_or(0)
    }

    /// The keys to publish: all but those whose last signature expired more than an hour ago.
    pub fn published_keys(&self, now: UnixTime, longest: u64) -> impl Iterator<Item = &SigningKeyEntry> {
        let successor = |i: usize| self.keys.get(i + 1).map_or(UnixTime::NEVER, |next| next.signs_from);
        let is_needed = move |i: &usize| successor(*i).plus_seconds(longest).plus_seconds(PUBLISH_LEAD_SECONDS) >= now;
        (0..self.keys.len()).filter(is_needed).map(|i| &self.keys[i])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: u64 = 7_200;

    fn names(keys: &SigningKeys, now: u64) -> Vec<&str> {
        keys.published_keys(UnixTime(now), TTL).map(|kept| kept.key.expose()).collect()
    }

    fn signs(keys: &SigningKeys, now: u64) -> &str {
        keys.all()[keys.signing_index(UnixTime(now))].key.expose()
    }

    #[test]
    fn signing_keys_are_published_before_use_and_until_their_last_token_expires() {
        let begin = 1_000;
        let first = SigningKeys::new(Secret::from("one"), UnixTime(begin));
        let due = begin + ROTATION_SECONDS;
        assert!(!first.is_rotation_due(UnixTime(due - 1)) && first.is_rotation_due(UnixTime(due)));
        let early = first.clone().rotated(Secret::from("two"), UnixTime(due - 1), TTL);
        assert_eq!(early, Err(RotationNotDue));
        let both = first.rotated(Secret::from("two"), UnixTime(due), TTL).unwrap();
        assert_eq!(both.clone().rotated(Secret::from("three"), UnixTime(due), TTL), Err(RotationNotDue));
        assert_eq!(names(&both, due), ["one", "two"]);
        assert_eq!(
            (
                signs(&both, due + PUBLISH_LEAD_SECONDS - 1),
                signs(&both, due + PUBLISH_LEAD_SECONDS)
            ),
            ("one", "two")
        );
        let gone = due + PUBLISH_LEAD_SECONDS + TTL + PUBLISH_LEAD_SECONDS;
        assert_eq!(names(&both, gone), ["one", "two"]);
        assert_eq!(names(&both, gone + 1), ["two"]);
        let third = both.rotated(Secret::from("three"), UnixTime(due + ROTATION_SECONDS), TTL).unwrap();
        assert_eq!(third.all().len(), 2);
        assert_eq!(names(&third, due + ROTATION_SECONDS), ["two", "three"]);
    }

    #[test]
    fn an_overdue_rotation_still_publishes_the_new_key_before_it_signs() {
        let first = SigningKeys::new(Secret::from("one"), UnixTime(0));
        let late = 10 * ROTATION_SECONDS;
        let both = first.rotated(Secret::from("two"), UnixTime(late), TTL).unwrap();
        assert_eq!((signs(&both, late), signs(&both, late + PUBLISH_LEAD_SECONDS)), ("one", "two"));
        assert_eq!(names(&both, late), ["one", "two"]);
    }

    #[test]
    fn a_signing_key_is_found_even_if_the_clock_goes_back() {
        let first = SigningKeys::new(Secret::from("one"), UnixTime(5_000));
        assert_eq!(signs(&first, 10), "one");
        assert!(!first.is_rotation_due(UnixTime(10)));
    }
}
