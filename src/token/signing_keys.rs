//! Keys that sign the gateway's JWTs. A new key is made 30 days after the last one. It is published
//! at once and signs one hour later, when every cached copy of the key set has it. An old key stays
//! published until all that it signed has expired.

use serde::{Deserialize, Serialize};

use crate::base::record::{Record, states};
use crate::base::secret::{Secret, at_rest};
use crate::base::time::UnixTime;

/// Time between two new keys, in seconds.
pub const ROTATION_SECONDS: u64 = 30 * 86_400;
/// The time for which a key is published before it signs and after it is no longer needed, in seconds.
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
        let entry = SigningKeyEntry {
            key,
            made: now,
            signs_from: now,
        };
        Self { keys: vec![entry] }
    }

    /// Whether a new key is due.
    pub fn is_rotation_due(&self, now: UnixTime) -> bool {
        self.keys
            .last()
            .is_none_or(|newest| newest.made.plus_seconds(ROTATION_SECONDS) <= now)
    }

    /// Adds a key, and drops those that are no longer needed. Fails if no key is due.
    /// `max_lifetime` is the longest lifetime of a signed token, in seconds.
    pub fn rotated(self, key: Secret, now: UnixTime, max_lifetime: u64) -> Result<Self, RotationNotDue> {
        if !self.is_rotation_due(now) {
            return Err(RotationNotDue);
        }
        let remaining_keys = self.published_keys(now, max_lifetime).cloned();
        let new_key = SigningKeyEntry {
            key,
            made: now,
            signs_from: now.plus_seconds(PUBLISH_LEAD_SECONDS),
        };
        let keys = remaining_keys.chain([new_key]).collect();
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
    pub fn published_keys(&self, now: UnixTime, max_lifetime: u64) -> impl Iterator<Item = &SigningKeyEntry> {
        let successor = |i: usize| self.keys.get(i + 1).map_or(UnixTime::NEVER, |next_key| next_key.signs_from);
        let is_needed = move |i: &usize| successor(*i).plus_seconds(max_lifetime).plus_seconds(PUBLISH_LEAD_SECONDS) >= now;
        (0..self.keys.len()).filter(is_needed).map(|i| &self.keys[i])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: u64 = 7_200;

    fn names(keys: &SigningKeys, now: u64) -> Vec<&str> {
        keys.published_keys(UnixTime(now), TTL).map(|entry| entry.key.expose()).collect()
    }

    fn signs(keys: &SigningKeys, now: u64) -> &str {
        keys.all()[keys.signing_index(UnixTime(now))].key.expose()
    }

    #[test]
    fn signing_keys_are_published_before_use_and_until_their_last_token_expires() {
        let start = 1_000;
        let one_key = SigningKeys::new(Secret::from("one"), UnixTime(start));
        let due_at = start + ROTATION_SECONDS;
        assert!(!one_key.is_rotation_due(UnixTime(due_at - 1)) && one_key.is_rotation_due(UnixTime(due_at)));
        let early_rotation = one_key.clone().rotated(Secret::from("two"), UnixTime(due_at - 1), TTL);
        assert_eq!(early_rotation, Err(RotationNotDue));
        let two_keys = one_key.rotated(Secret::from("two"), UnixTime(due_at), TTL).unwrap();
        assert_eq!(
            two_keys.clone().rotated(Secret::from("three"), UnixTime(due_at), TTL),
            Err(RotationNotDue)
        );
        assert_eq!(names(&two_keys, due_at), ["one", "two"]);
        assert_eq!(
            (
                signs(&two_keys, due_at + PUBLISH_LEAD_SECONDS - 1),
                signs(&two_keys, due_at + PUBLISH_LEAD_SECONDS)
            ),
            ("one", "two")
        );
        let last_expiry = due_at + PUBLISH_LEAD_SECONDS + TTL + PUBLISH_LEAD_SECONDS;
        assert_eq!(names(&two_keys, last_expiry), ["one", "two"]);
        assert_eq!(names(&two_keys, last_expiry + 1), ["two"]);
        let rotated_twice = two_keys
            .rotated(Secret::from("three"), UnixTime(due_at + ROTATION_SECONDS), TTL)
            .unwrap();
        assert_eq!(rotated_twice.all().len(), 2);
        assert_eq!(names(&rotated_twice, due_at + ROTATION_SECONDS), ["two", "three"]);
    }

    #[test]
    fn an_overdue_rotation_still_publishes_the_new_key_before_it_signs() {
        let one_key = SigningKeys::new(Secret::from("one"), UnixTime(0));
        let overdue_at = 10 * ROTATION_SECONDS;
        let two_keys = one_key.rotated(Secret::from("two"), UnixTime(overdue_at), TTL).unwrap();
        assert_eq!(
            (signs(&two_keys, overdue_at), signs(&two_keys, overdue_at + PUBLISH_LEAD_SECONDS)),
            ("one", "two")
        );
        assert_eq!(names(&two_keys, overdue_at), ["one", "two"]);
    }

    #[test]
    fn a_signing_key_is_found_even_if_the_clock_goes_back() {
        let one_key = SigningKeys::new(Secret::from("one"), UnixTime(5_000));
        assert_eq!(signs(&one_key, 10), "one");
        assert!(!one_key.is_rotation_due(UnixTime(10)));
    }
}
