//! Scopes: separated by spaces, case-sensitive, unordered (RFC 6749 §3.3).

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A set of scopes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scopes(BTreeSet<String>);

impl Scopes {
    /// Parses a `scope` value. Drops invalid tokens (RFC 6749 §3.3) and those over 256 bytes.
    pub fn parse(text: &str) -> Self {
        Self(text.split(' ').filter(|token| is_token(token)).map(str::to_owned).collect())
    }

    /// The scopes that are in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).cloned().collect())
    }

    /// The scopes that are in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self(self.0.union(&other.0).cloned().collect())
    }

    /// Scopes reported to a client that requested this set, if the upstream granted `granted`.
    /// Omits `offline_access`, which the gateway can add, unless the client requested it.
    #[must_use]
    pub fn granted_to_client(&self, granted: &str) -> Self {
        let granted = Self::parse(granted);
        if self.0.contains("offline_access") {
            granted
        } else {
            granted.without("offline_access")
        }
    }

    /// This set without `scope`.
    #[must_use]
    pub fn without(&self, scope: &str) -> Self {
        Self(self.0.iter().filter(|s| *s != scope).cloned().collect())
    }

    /// Whether this set contains all scopes of `other`.
    pub fn contains_all(&self, other: &Self) -> bool {
        other.0.is_subset(&self.0)
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All scopes, sorted.
    pub fn list(&self) -> Vec<String> {
        self.0.iter().cloned().collect()
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, scope) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope)?;
        }
        Ok(())
    }
}

fn is_token(token: &str) -> bool {
    !token.is_empty() && token.len() <= 256 && token.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_parse_into_a_set_of_valid_tokens() {
        let scopes = Scopes::parse("b a  a \"x\" \u{e9}");
        assert_eq!(scopes.to_string(), "a b");
        assert!(scopes.contains_all(&Scopes::parse("a")) && !scopes.contains_all(&Scopes::parse("c")));
    }
}
