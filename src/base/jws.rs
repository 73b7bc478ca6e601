//! JWT signatures (RFC 7518 §3) with ring. Only this module calls `decode` and `encode` of the JWT
//! crate. It accepts key pairs only: the crate lacks `none`, and HMAC is rejected here.

use std::collections::HashSet;
use std::sync::LazyLock;

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Error as SignatureError};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey, Header, Validation};
use ring::signature as of_ring;
use ring::signature::{
    EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::random;

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    // No private key is decomposed and no thumbprint is made. The crate's own stubs would panic.
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: |_| Err(ErrorKind::UnsupportedAlgorithm.into()),
        rsa_pub_components_from_public_key: |_| Err(ErrorKind::UnsupportedAlgorithm.into()),
        ec_pub_components_from_private_key: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
        ed_pub_components_from_private_key: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
        compute_digest: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    },
};

/// Whether our provider is installed. The first access installs it.
static PROVIDER_INSTALLED: LazyLock<bool> = LazyLock::new(|| PROVIDER.install_default().is_ok());

/// Fails if another provider came first: it might accept any signature.
fn ensure_provider() -> Result<(), Error> {
    if *PROVIDER_INSTALLED {
        Ok(())
    } else {
        Err(ErrorKind::Provider("another provider was installed before ours".to_owned()).into())
    }
}

/// Whether tokens signed with `algorithm` are accepted.
pub fn is_known(algorithm: Algorithm) -> bool {
    padding(algorithm).is_some() || curve(algorithm).is_some()
}

/// Returns the claims of a token if its header names `algorithm` and `key` made the signature. The
/// caller checks times, audience and issuer; the crate's clock is not read.
///
/// # Errors
/// If header, signature or claims are invalid, or the process has another provider already:
///
/// ```standalone_crate
/// use jsonwebtoken::crypto::{CryptoProvider, KeyUtils};
/// use jsonwebtoken::{Algorithm, DecodingKey};
/// use mcp_oauth_gateway::base::jws;
///
/// static OTHER: CryptoProvider = CryptoProvider {
///     signer_factory: |_, _| unreachable!("not asked"),
///     verifier_factory: |_, _| unreachable!("not asked"),
///     key_utils: KeyUtils::new_unimplemented(),
/// };
/// OTHER.install_default().expect("it is the first");
/// let key = DecodingKey::from_ec_der(&[4; 65]);
/// let result = jws::verify_token::<serde_json::Value>("eyJhbGciOiJFUzI1NiJ9.e30.AAAA", &key, Algorithm::ES256);
/// assert!(result.unwrap_err().to_string().contains("provider"));
/// ```
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub fn verify_token<T: DeserializeOwned>(token: &str, key: &DecodingKey, algorithm: Algorithm) -> Result<T, Error> {
    ensure_provider()?;
    let validation = Validation {
        required_spec_claims: HashSet::new(),
        validate_exp: false,
        validate_nbf: false,
        validate_aud: false,
        ..Validation::new(algorithm)
    };
    jsonwebtoken::decode(token, key, &validation).map(|token| token.claims)
}

#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub(super) fn sign_token<T: Serialize>(header: &Header, claims: &T, key: &EncodingKey) -> Result<String, Error> {
    ensure_provider()?;
    jsonwebtoken::encode(header, claims, key)
}

/// RSA parameters. ring accepts only keys of 2048 to 8192 bits.
#[expect(clippy::wildcard_enum_match_arm, reason = "the JWT crate may know more algorithms")]
fn padding(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::RS256 => Some(&of_ring::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&of_ring::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&of_ring::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Some(&of_ring::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Some(&of_ring::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Some(&of_ring::RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the JWT crate may know more algorithms")]
fn curve(algorithm: Algorithm) -> Option<&'static dyn VerificationAlgorithm> {
    match algorithm {
        Algorithm::ES256 => Some(&of_ring::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => Some(&of_ring::ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => Some(&of_ring::ED25519),
        _ => None,
    }
}

struct Verifier {
    key: DecodingKey,
    algorithm: Algorithm,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as the crate asks")]
fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    if key.family() != algorithm.family() || !is_known(*algorithm) {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    Ok(Box::new(Verifier {
        key: key.clone(),
        algorithm: *algorithm,
    }))
}

impl signature::Verifier<Vec<u8>> for Verifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        let result = match self.key.kind() {
            DecodingKeyKind::RsaModulusExponent { n, e } => padding(self.algorithm).map(|padding| {
                let key = RsaPublicKeyComponents {
                    n: without_zeros(n),
                    e: without_zeros(e),
                };
                key.verify(padding, message, signature)
            }),
            DecodingKeyKind::SecretOrDer(point) => {
                curve(self.algorithm).map(|curve| UnparsedPublicKey::new(curve, point).verify(message, signature))
            }
        };
        result.and_then(Result::ok).ok_or_else(SignatureError::new)
    }
}

impl JwtVerifier for Verifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

/// Removes leading zeros, which some providers publish and ring rejects.
fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// A private key for one algorithm. The gateway's own keys are of P-256; the others sign client
/// assertions with a key that the operator made.
enum Signer {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

/// The algorithm of a private key in PKCS#8 (RFC 5208): ES256, EdDSA or RS256. `None`: it is no such key.
pub(super) fn algorithm_of(pkcs8: &[u8]) -> Option<Algorithm> {
    Signer::parse(pkcs8).map(|signer| signer.algorithm())
}

impl Signer {
    fn parse(pkcs8: &[u8]) -> Option<Self> {
        let ecdsa = || EcdsaKeyPair::from_pkcs8(&of_ring::ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random::source());
        // OpenSSL writes Ed25519 keys without the public key.
        let ed25519 = || Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8);
        let rsa = || RsaKeyPair::from_pkcs8(pkcs8);
        let parsed = ecdsa().map(Self::Ecdsa);
        parsed
            .or_else(|_| ed25519().map(Self::Ed25519))
            .or_else(|_| rsa().map(Self::Rsa))
            .ok()
    }
}

/// Creates a signer, if the key is one for the algorithm.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "as the crate asks")]
fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    match Signer::parse(key.as_bytes()) {
        Some(signer) if signer.algorithm() == *algorithm => Ok(Box::new(signer)),
        Some(_) | None => Err(ErrorKind::InvalidAlgorithm.into()),
    }
}

impl signature::Signer<Vec<u8>> for Signer {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        let random = random::source();
        match self {
            Self::Ecdsa(key) => {
                let signature = key.sign(&random, message).map_err(|_| SignatureError::new())?;
                Ok(signature.as_ref().to_vec())
            }
            Self::Ed25519(key) => Ok(key.sign(message).as_ref().to_vec()),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                let signed = key.sign(&of_ring::RSA_PKCS1_SHA256, &random, message, &mut signature);
                signed.map(|()| signature).map_err(|_| SignatureError::new())
            }
        }
    }
}

impl JwtSigner for Signer {
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Ecdsa(_) => Algorithm::ES256,
            Self::Ed25519(_) => Algorithm::EdDSA,
            Self::Rsa(_) => Algorithm::RS256,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "to be refused")]
    fn a_shared_secret_neither_signs_nor_verifies() {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            assert!(!is_known(algorithm));
            let token = sign_token(&Header::new(algorithm), &"said", &EncodingKey::from_secret(b"secret"));
            assert!(matches!(token.unwrap_err().kind(), ErrorKind::InvalidAlgorithm));
            let result = verify_token::<String>("eyJhbGciOiJIUzI1NiJ9.IiI.AAAA", &DecodingKey::from_secret(b"secret"), algorithm);
            assert!(matches!(result.unwrap_err().kind(), ErrorKind::InvalidAlgorithm));
        }
        let result = verifier(&Algorithm::ES256, &DecodingKey::from_secret(&[4; 65]));
        assert!(result.is_err(), "a key of one family is never used for another");
    }
}
