//! The private key with which the gateway authenticates as a client: it signs assertions (RFC 7523).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::base::jws;
use crate::base::secret::Secret;

/// The first and the last line of a private key in PKCS#8 (RFC 7468 §10).
const PEM_LINES: (&str, &str) = ("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----");

/// A private key that signs client assertions. Its algorithm follows from the key.
#[derive(Clone)]
pub struct ClientKey {
    /// The text of the file. Two keys are equal if their texts are.
    pem: Secret,
    algorithm: Algorithm,
    key: EncodingKey,
    /// The `kid` of each assertion. `None`: the header has none, and the server finds the key alone.
    id: Option<String>,
}

/// Why a text is no key for client assertions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientKeyError {
    /// There is no private key in PKCS#8 in it.
    #[error("there is no private key in PKCS#8 (`BEGIN PRIVATE KEY`) in it")]
    NotPem,
    /// The key is of another kind.
    #[error("it is no key for ES256 (P-256), EdDSA (Ed25519) or RS256 (RSA, 2048 bits or more)")]
    OtherAlgorithm,
}

impl ClientKey {
    /// Parses a private key in PKCS#8, in PEM.
    ///
    /// # Errors
    /// If the text has no such key, or the key is for none of ES256, EdDSA and RS256.
    pub fn parse(pem: &Secret, id: Option<String>) -> Result<Self, ClientKeyError> {
        let (first, last) = PEM_LINES;
        let body = pem.expose().split_once(first).and_then(|(_, rest)| rest.split_once(last));
        let (body, _) = body.ok_or(ClientKeyError::NotPem)?;
        let body = Zeroizing::new(body.split_ascii_whitespace().collect::<String>());
        let pkcs8 = Zeroizing::new(STANDARD.decode(body.as_bytes()).map_err(|_| ClientKeyError::NotPem)?);
        let algorithm = jws::algorithm_of(&pkcs8).ok_or(ClientKeyError::OtherAlgorithm)?;
        let of_der = if algorithm == Algorithm::RS256 {
            EncodingKey::from_rsa_der
        } else if algorithm == Algorithm::EdDSA {
            EncodingKey::from_ed_der
        } else {
            EncodingKey::from_ec_der
        };
        Ok(Self {
            pem: pem.clone(),
            algorithm,
            key: of_der(&pkcs8),
            id,
        })
    }

    /// Signs a JWT with these claims. `None` if signing fails.
    pub fn sign_jwt(&self, claims: &impl Serialize) -> Option<Secret> {
        let header = Header {
            kid: self.id.clone(),
            ..Header::new(self.algorithm)
        };
        jws::sign_token(&header, claims, &self.key).ok().map(Secret::from)
    }
}

impl PartialEq for ClientKey {
    fn eq(&self, other: &Self) -> bool {
        self.pem == other.pem && self.id == other.id
    }
}

impl Eq for ClientKey {}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientKey({:?})", self.algorithm)
    }
}
