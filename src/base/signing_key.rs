//! A JWT signing key: ECDSA on P-256 with SHA-256 (ES256, RFC 7518 §3.4).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use ring::digest;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::base::ids::Id;
use crate::base::secret::Secret;
use crate::base::{jws, random};

/// A key that signs JWTs with ES256.
pub struct SigningKey {
    id: Id,
    public_point: Vec<u8>,
    key: EncodingKey,
}

/// The text is not a signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SigningKeyError;

/// Creates a key and returns it as PKCS#8 in base64.
///
/// # Panics
/// If the operating system provides no random bytes: nothing safe can be done then.
pub fn generate() -> Secret {
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random::source());
    Secret::from(STANDARD.encode(document.expect("the operating system gives random bytes").as_ref()))
}

impl SigningKey {
    /// Parses a key that [`generate`] returned.
    ///
    /// # Errors
    /// If the text is not such a key.
    pub fn parse(text: &Secret) -> Result<Self, SigningKeyError> {
        let document = Zeroizing::new(STANDARD.decode(text.expose()).map_err(|_| SigningKeyError)?);
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &document, &random::source()).map_err(|_| SigningKeyError)?;
        let point = pair.public_key().as_ref().to_vec();
        let mut id = [0; 16];
        id.copy_from_slice(&digest::digest(&digest::SHA256, &point).as_ref()[..16]);
        Ok(Self {
            id: Id(id),
            public_point: point,
            key: EncodingKey::from_ec_der(&document),
        })
    }

    /// The key id (`kid`): the first 16 bytes of the SHA-256 digest of the public key.
    pub fn id(&self) -> Id {
        self.id
    }

    /// The public key: an uncompressed point, 65 bytes.
    pub fn public_point(&self) -> &[u8] {
        &self.public_point
    }

    /// Signs a JWT with this `typ`, these claims and this key's `kid`. `None` if signing fails.
    pub fn sign_jwt(&self, kind: &str, claims: &impl Serialize) -> Option<String> {
        let header = Header {
            typ: Some(kind.to_owned()),
            kid: Some(self.id.to_string()),
            ..Header::new(Algorithm::ES256)
        };
        jws::sign_token(&header, claims, &self.key).ok()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::DecodingKey;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_signature_verifies_only_for_its_payload_and_its_key() {
        let [signing_key, other_key] = [generate(), generate()].map(|text| SigningKey::parse(&text).unwrap());
        let [token, other_token] = ["a", "b"].map(|user| signing_key.sign_jwt("at+jwt", &json!({ "sub": user })).unwrap());
        let (signing_input, signature) = (&other_token[..other_token.len() - 86], &token[token.len() - 86..]);
        let verify = |key: &SigningKey, token: &str| {
            let key = DecodingKey::from_ec_der(key.public_point());
            jws::verify_token::<Value>(token, &key, Algorithm::ES256).ok()
        };
        assert_eq!(verify(&signing_key, &token), Some(json!({ "sub": "a" })));
        assert_eq!(
            (
                verify(&signing_key, &format!("{signing_input}{signature}")),
                verify(&other_key, &token)
            ),
            (None, None)
        );
        assert_ne!(signing_key.id(), other_key.id());
        assert_eq!(format!("{signing_key:?}"), format!("SigningKey({})", signing_key.id()));
    }

    #[test]
    fn text_that_is_not_a_signing_key_is_refused() {
        for text in ["", "AAAA", "not base64"] {
            assert_eq!(SigningKey::parse(&Secret::from(text)).unwrap_err(), SigningKeyError);
        }
    }
}
