//! Signed tokens (RFC 7515, RFC 7519), compact form only: taken apart, put together, and nothing believed unverified.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Map;
use serde_json::Value;

use crate::oauth::jwk::Jwk;

/// The longest token that is looked at, in bytes.
pub const LONGEST: usize = 16 * 1024;
/// The longest header, in bytes of base64url.
const LONGEST_HEADER: usize = 2 * 1024;

/// How a token may be signed: all of them with a key pair. `none` and HMAC are not among them, so they cannot be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519 (RFC 8037).
    EdDsa,
}

impl Algorithm {
    const ALL: [Self; 5] = [Self::Rs256, Self::Ps256, Self::Es256, Self::Es384, Self::EdDsa];

    /// Its registered name (RFC 7518 3.1).
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of this name, byte for byte.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// Why a token is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadJwt {
    /// Longer than [`LONGEST`].
    TooLong,
    /// Not three parts of base64url, or not JSON objects in the first two.
    Malformed,
    /// The header says that more must be understood (`crit`, RFC 7515 4.1.11) than is.
    Critical,
    /// `alg` is none of ours, or not that of the key.
    Algorithm,
    /// No key of this name, or no name and several keys.
    UnknownKey,
    /// The signature is not the key's.
    Signature,
}

impl fmt::Display for BadJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the token is too long",
            Self::Malformed => "the token is malformed",
            Self::Critical => "the token's header demands what is not known here",
            Self::Algorithm => "the token is signed in a way that its key is not for",
            Self::UnknownKey => "the token is signed with an unknown key",
            Self::Signature => "the token's signature is wrong",
        })
    }
}

impl std::error::Error for BadJwt {}

/// The members of a signed token.
pub type Claims = Map<String, Value>;

/// A token that was taken apart. Its claims cannot be reached before a key has vouched for them.
#[derive(Debug)]
pub struct Unverified<'a> {
    /// How it says that it is signed.
    pub algorithm: Algorithm,
    /// Which key it names.
    pub key_id: Option<String>,
    /// What kind of token it says it is (`typ`).
    pub kind: Option<String>,
    claims: Claims,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Unverified<'a> {
    /// Takes a token apart. One that is signed in a way that we never believe ends here, before any key is looked for.
    pub fn parse(token: &'a str) -> Result<Self, BadJwt> {
        if token.len() > LONGEST {
            return Err(BadJwt::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(BadJwt::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(BadJwt::Malformed)?;
        if header.len() > LONGEST_HEADER {
            return Err(BadJwt::TooLong);
        }
        let header = object(header)?;
        if header.contains_key("crit") {
            return Err(BadJwt::Critical);
        }
        let word = |name: &str| match header.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(BadJwt::Malformed),
        };
        let algorithm = word("alg")?.as_deref().and_then(Algorithm::parse).ok_or(BadJwt::Algorithm)?;
        Ok(Self {
            algorithm,
            key_id: word("kid")?,
            kind: word("typ")?,
            claims: object(claims)?,
            signed,
            signature: URL_SAFE_NO_PAD.decode(signature).map_err(|_| BadJwt::Malformed)?,
        })
    }

    /// The claims, if `key` signed them in the one way that it is for.
    pub fn verified_by(self, key: &Jwk) -> Result<Claims, BadJwt> {
        if key.algorithm() != self.algorithm {
            return Err(BadJwt::Algorithm);
        }
        if key.verifies(self.signed.as_bytes(), &self.signature) {
            Ok(self.claims)
        } else {
            Err(BadJwt::Signature)
        }
    }
}

fn object(part: &str) -> Result<Map<String, Value>, BadJwt> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| BadJwt::Malformed)?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) | Err(_) => Err(BadJwt::Malformed),
    }
}

/// What is to be signed of a token of ours (RFC 7515 5.1).
pub fn to_sign(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// The token: what was to be signed, and its signature.
pub fn joined(signed: &str, signature: &[u8]) -> String {
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn token(header: &Value) -> String {
        joined(&to_sign(header, &json!({"sub": "a"})), b"signature")
    }

    #[test]
    fn what_is_not_a_token_ends_before_a_key_is_looked_for() {
        for (text, why) in [
            (String::new(), BadJwt::Malformed),
            ("a.b".to_owned(), BadJwt::Malformed),
            ("a.b.c.d".to_owned(), BadJwt::Malformed),
            (token(&json!([])), BadJwt::Malformed),
            (token(&json!({"alg": "RS256", "kid": 5})), BadJwt::Malformed),
            (token(&json!({"alg": "RS256"})) + "=", BadJwt::Malformed),
            (token(&json!({"alg": "RS256", "crit": ["b64"]})), BadJwt::Critical),
            (token(&json!({"alg": "RS256", "x": "y".repeat(3_000)})), BadJwt::TooLong),
            ("a".repeat(LONGEST + 1), BadJwt::TooLong),
        ] {
            assert_eq!(Unverified::parse(&text).unwrap_err(), why, "{text:.80}");
        }
    }

    #[test]
    fn no_name_of_none_or_of_a_shared_secret_is_an_algorithm() {
        for name in [
            "none", "None", "NONE", "", "HS256", "HS384", "HS512", "rs256", "RS256 ", "RS1", "dir",
        ] {
            assert_eq!(
                Unverified::parse(&token(&json!({ "alg": name }))).unwrap_err(),
                BadJwt::Algorithm,
                "{name}"
            );
        }
        assert_eq!(Unverified::parse(&token(&json!({}))).unwrap_err(), BadJwt::Algorithm);
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::parse(algorithm.name()), Some(algorithm));
        }
    }
}
