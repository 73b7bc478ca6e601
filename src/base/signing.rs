//! One key that signs: ECDSA on P-256 with SHA-256 (ES256, RFC 7518 §3.4).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use zeroize::Zeroizing;

use crate::base::ids::Id;
use crate::base::random;
use crate::base::secret::Secret;

/// See [the module](self).
pub struct SigningKey {
    id: Id,
    pair: EcdsaKeyPair,
}

/// A text is no signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAKey;

/// Makes a key: PKCS#8 in base64.
///
/// # Panics
/// If the operating system has no randomness to give: nothing safe can be done then.
pub fn made() -> Secret {
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random::source());
    Secret::from(STANDARD.encode(document.expect("the operating system gives random bytes").as_ref()))
}

impl SigningKey {
    /// Reads what [`made`] made.
    pub fn parse(text: &Secret) -> Result<Self, NotAKey> {
        let document = Zeroizing::new(STANDARD.decode(text.expose()).map_err(|_| NotAKey)?);
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &document, &random::source()).map_err(|_| NotAKey)?;
        let mut id = [0; 16];
        id.copy_from_slice(&digest::digest(&digest::SHA256, pair.public_key().as_ref()).as_ref()[..16]);
        Ok(Self { id: Id(id), pair })
    }

    /// Its name: the first 16 bytes of a digest of its public half.
    pub fn id(&self) -> Id {
        self.id
    }

    /// Its public half: an uncompressed point, 65 bytes.
    pub fn point(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// The signature of `message`: r and s, 64 bytes.
    ///
    /// # Panics
    /// If the operating system has no randomness to give: nothing safe can be done then.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature = self.pair.sign(&random::source(), message);
        signature.expect("the operating system gives random bytes").as_ref().to_vec()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    #[test]
    fn what_a_key_signs_is_verified_by_its_point_and_by_no_other() {
        let [one, other] = [made(), made()].map(|text| SigningKey::parse(&text).unwrap());
        let signature = one.sign(b"said");
        let verified = |key: &SigningKey, message: &[u8]| {
            let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.point());
            public.verify(message, &signature).is_ok()
        };
        assert!(verified(&one, b"said") && !verified(&one, b"saib") && !verified(&other, b"said"));
        assert_ne!(one.id(), other.id());
        assert_eq!(format!("{one:?}"), format!("SigningKey({})", one.id()));
    }

    #[test]
    fn what_is_not_a_key_is_none() {
        for text in ["", "AAAA", "not base64"] {
            assert_eq!(SigningKey::parse(&Secret::from(text)).unwrap_err(), NotAKey);
        }
    }
}
