//! Signed JWTs in compact form (RFC 7515, RFC 7519), with the crate `jsonwebtoken`. Claims are
//! readable only after verification. Headers are checked first where the crate is too lenient.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, decode_header};
use serde_json::{Map, Value};

use crate::base::jws;

/// Longest accepted token, in bytes.
pub const MAX_JWT_BYTES: usize = 16 * 1024;
/// Longest accepted header, in bytes of base64url.
const MAX_HEADER_BYTES: usize = 2 * 1024;

/// The reason why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// Longer than [`MAX_JWT_BYTES`], or its header is too long.
    #[error("the token is too long")]
    TooLong,
    /// Not three parts of base64url, or the first two are not JSON objects.
    #[error("the token is malformed")]
    Malformed,
    /// The header has `crit` (RFC 7515 §4.1.11). The gateway supports no such extension.
    #[error("the token's header demands what is not known here")]
    Critical,
    /// `alg` is not supported, or is not that of the key.
    #[error("the token is signed in a way that its key is not for")]
    Algorithm,
    /// No key has this `kid`, or there is no `kid` and several keys fit.
    #[error("the token is signed with an unknown key")]
    UnknownKey,
    /// The signature does not match the key.
    #[error("the token's signature is wrong")]
    Signature,
}

/// The claims of a token.
pub type Claims = Map<String, Value>;

/// A token with a parsed header. Its claims are not accessible until [`Self::verify`] succeeds.
#[derive(Debug)]
pub struct UnverifiedJwt<'a> {
    /// Algorithm in the header (`alg`).
    pub algorithm: Algorithm,
    /// Key id in the header (`kid`).
    pub key_id: Option<String>,
    /// Token type in the header (`typ`).
    pub kind: Option<String>,
    pub(super) token: &'a str,
}

impl<'a> UnverifiedJwt<'a> {
    /// Parses the header. Fails for an unsupported algorithm, before any key is looked up.
    pub fn parse(token: &'a str) -> Result<Self, JwtError> {
        if token.len() > MAX_JWT_BYTES {
            return Err(JwtError::TooLong);
        }
        let (header, _) = token.split_once('.').ok_or(JwtError::Malformed)?;
        if header.len() > MAX_HEADER_BYTES {
            return Err(JwtError::TooLong);
        }
        strict(header)?;
        let header = decode_header(token).map_err(|error| bad(&error))?;
        Ok(Self {
            algorithm: header.alg,
            key_id: header.kid,
            kind: header.typ,
            token,
        })
    }
}

/// Refuses what the crate accepts: `crit`, `null` as a value, `{"ES256": null}` as `alg`, HMAC.
fn strict(header: &str) -> Result<(), JwtError> {
    let bytes = URL_SAFE_NO_PAD.decode(header).map_err(|_| JwtError::Malformed)?;
    let members: Claims = serde_json::from_slice(&bytes).map_err(|_| JwtError::Malformed)?;
    if members.contains_key("crit") {
        return Err(JwtError::Critical);
    }
    let is_text = |name: &&str| members.get(*name).is_none_or(Value::is_string);
    if !["alg", "kid", "typ"].iter().all(is_text) {
        return Err(JwtError::Malformed);
    }
    let algorithm = members.get("alg").and_then(Value::as_str).and_then(|name| name.parse().ok());
    algorithm
        .filter(|algorithm| jws::is_known(*algorithm))
        .map(|_| ())
        .ok_or(JwtError::Algorithm)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the JWT crate has many errors")]
pub(super) fn bad(error: &Error) -> JwtError {
    match error.kind() {
        ErrorKind::InvalidSignature => JwtError::Signature,
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => JwtError::Algorithm,
        _ => JwtError::Malformed,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;
    use crate::base::jws::is_known;

    const SIGNATURE: &str = "c2lnbmF0dXJl";

    /// A token with this header and a dummy signature.
    pub(crate) fn token(header: &Value) -> String {
        let [header, claims] = [header, &json!({"sub": "a"})].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        format!("{header}.{claims}.{SIGNATURE}")
    }

    /// The same for a header that no JSON value can express, such as one with a repeated member.
    fn raw(header: &str) -> String {
        format!("{}.e30.{SIGNATURE}", URL_SAFE_NO_PAD.encode(header))
    }

    #[test]
    fn a_malformed_jwt_is_refused_before_any_key_lookup() {
        for (text, expected) in [
            (String::new(), JwtError::Malformed),
            ("a.b".to_owned(), JwtError::Malformed),
            ("a.b.c.d".to_owned(), JwtError::Malformed),
            (token(&json!({"alg": "RS256"})) + ".d", JwtError::Malformed),
            (token(&json!([])), JwtError::Malformed),
            (token(&json!({"alg": "RS256", "kid": 5})), JwtError::Malformed),
            (token(&json!({"alg": "RS256", "kid": null})), JwtError::Malformed),
            (token(&json!({"alg": "RS256", "typ": null})), JwtError::Malformed),
            (token(&json!({"alg": {"RS256": null}})), JwtError::Malformed),
            (raw(r#"{"alg":"RS256","kid":"a","kid":"b"}"#), JwtError::Malformed),
            (raw(r#"{"alg":"RS256","alg":"ES256"}"#), JwtError::Malformed),
            (token(&json!({"alg": "RS256"})).replacen('.', "=.", 1), JwtError::Malformed),
            (token(&json!({"alg": "RS256", "crit": ["b64"]})), JwtError::Critical),
            (token(&json!({"alg": "RS256", "crit": null})), JwtError::Critical),
            (token(&json!({"alg": "RS256", "x": "y".repeat(3_000)})), JwtError::TooLong),
            ("a".repeat(MAX_JWT_BYTES + 1), JwtError::TooLong),
        ] {
            assert_eq!(UnverifiedJwt::parse(&text).unwrap_err(), expected, "{text:.80}");
        }
    }

    #[test]
    fn the_algorithms_none_and_hmac_are_refused() {
        for name in [
            "none", "None", "NONE", "", "HS256", "HS384", "HS512", "rs256", "RS256 ", "RS1", "dir",
        ] {
            assert_eq!(
                UnverifiedJwt::parse(&token(&json!({ "alg": name }))).unwrap_err(),
                JwtError::Algorithm,
                "{name}"
            );
        }
        assert_eq!(UnverifiedJwt::parse(&token(&json!({}))).unwrap_err(), JwtError::Algorithm);
        for name in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"] {
            let algorithm = UnverifiedJwt::parse(&token(&json!({ "alg": name }))).unwrap().algorithm;
            assert!(is_known(algorithm) && format!("{algorithm:?}") == name, "{name}");
        }
    }
}
