//! Client authentication with a signed assertion (`private_key_jwt`, RFC 7523).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
};
use serde_json::Value;

use crate::clients::unix_now;
use crate::tokens::Tokens;

/// The clients that authenticate with an assertion: id, and private key in PEM. The id ends with the
/// algorithm.
pub const KEY_CLIENTS: [(&str, &str); 3] = [
    ("gateway-ES256", include_str!("../keys/client-es256.pem")),
    ("gateway-EdDSA", include_str!("../keys/client-eddsa.pem")),
    ("gateway-RS256", include_str!("../keys/client-rs256.pem")),
];

const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The client of an assertion that is signed by its key, is for this issuer, and was not seen before.
pub fn client(tokens: &mut Tokens, issuer: &str, kind: &str, assertion: &str) -> Option<String> {
    let (input, signature) = assertion.rsplit_once('.')?;
    let (header, claims) = input.split_once('.')?;
    let [header, claims] = [header, claims].map(|part| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).ok()?).ok());
    let (header, claims) = (header?, claims?);
    let (algorithm, issued_by) = (header["alg"].as_str()?, claims["iss"].as_str()?);
    let (id, pem) = KEY_CLIENTS.into_iter().find(|(id, _)| *id == issued_by)?;
    let (verification, public) = public_key(algorithm, pem)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    UnparsedPublicKey::new(verification, public)
        .verify(input.as_bytes(), &signature)
        .ok()?;
    let jti = claims["jti"].as_str()?.to_owned();
    let is_good = kind == TYPE && claims["sub"] == id && claims["aud"] == issuer && claims["exp"].as_u64()? > unix_now();
    (is_good && tokens.assertions.insert(jti)).then(|| id.to_owned())
}

fn public_key(algorithm: &str, pem: &str) -> Option<(&'static dyn VerificationAlgorithm, Vec<u8>)> {
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let pkcs8 = STANDARD.decode(text).ok()?;
    Some(match algorithm {
        "ES256" => {
            let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8, &SystemRandom::new()).ok()?;
            (&ECDSA_P256_SHA256_FIXED, key.public_key().as_ref().to_vec())
        }
        "EdDSA" => {
            let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8).ok()?;
            (&ED25519, key.public_key().as_ref().to_vec())
        }
        "RS256" => {
            let key = RsaKeyPair::from_pkcs8(&pkcs8).ok()?;
            (&RSA_PKCS1_2048_8192_SHA256, key.public().as_ref().to_vec())
        }
        _ => return None,
    })
}
