//! Proof Key for Code Exchange, S256 only (RFC 7636).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use crate::base::secret::Secret;

/// S256 challenge: base64url of the verifier's SHA-256 digest, 43 characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeChallenge(String);

/// The reason why a challenge is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeChallengeError {
    /// `code_challenge` is missing.
    Missing,
    /// The method is not S256. An absent method means `plain` (RFC 7636 §4.3).
    Method,
    /// The challenge is not 43 base64url characters.
    Malformed,
}

impl CodeChallenge {
    /// Parses both parameters. Fails unless they are a well-formed challenge and `S256`.
    pub fn parse(challenge: Option<&str>, method: Option<&str>) -> Result<Self, CodeChallengeError> {
        let text = challenge.ok_or(CodeChallengeError::Missing)?;
        if method != Some("S256") {
            return Err(CodeChallengeError::Method);
        }
        match URL_SAFE_NO_PAD.decode(text) {
            Ok(bytes) if bytes.len() == 32 => Ok(Self(text.to_owned())),
            Ok(_) | Err(_) => Err(CodeChallengeError::Malformed),
        }
    }

    /// Computes the challenge of a verifier.
    pub fn of(verifier: &Secret) -> Self {
        Self(s256(verifier.expose()))
    }

    /// Whether `verifier` is well formed (43–128 unreserved characters) and has this challenge.
    pub fn matches_verifier(&self, verifier: &str) -> bool {
        let is_well_formed = (43..=128).contains(&verifier.len())
            && verifier
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~'));
        is_well_formed && bool::from(self.0.as_bytes().ct_eq(s256(verifier).as_bytes()))
    }

    /// The 43 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn s256(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pkce_example_of_rfc_7636_matches() {
        let challenge = CodeChallenge::parse(Some("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"), Some("S256")).unwrap();
        assert!(challenge.matches_verifier("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"));
        assert!(!challenge.matches_verifier("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXl"));
    }

    #[test]
    fn plain_absent_and_unknown_challenge_methods_are_refused() {
        let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        for method in [None, Some("plain"), Some("s256"), Some("S512")] {
            assert_eq!(CodeChallenge::parse(Some(challenge), method), Err(CodeChallengeError::Method));
        }
        assert_eq!(CodeChallenge::parse(None, Some("S256")), Err(CodeChallengeError::Missing));
        assert_eq!(
            CodeChallenge::parse(Some("short"), Some("S256")),
            Err(CodeChallengeError::Malformed)
        );
    }
}
