//! The keys of an identity provider: RSA keys from files, and generated elliptic-curve keys.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair};
use ring::{hmac, signature};
use serde_json::{Map, Value, json};

/// How ID tokens are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signing {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[default]
    Rs256,
    /// RSASSA-PSS with SHA-256; the published key names the algorithm.
    Ps256,
    /// ECDSA on P-256.
    Es256,
    /// Not at all: `alg` is `none`, and the signature is empty.
    None,
    /// With HMAC, and the modulus of the published RSA key as the secret: algorithm confusion.
    HmacOfPublicKey,
    /// With an RSA key that is not published, under the key id of a published one.
    ForeignKey,
}

/// The keys of a provider. A rotation adds one.
pub struct Keys {
    elliptic: Vec<Vec<u8>>,
}

impl Keys {
    pub fn new() -> Self {
        Self {
            elliptic: vec![elliptic()],
        }
    }

    /// Rotates the keys. Only the new ones sign and are published.
    pub fn rotate(&mut self) {
        self.elliptic.push(elliptic());
    }

    fn generation(&self) -> usize {
        self.elliptic.len()
    }

    fn rsa(&self) -> RsaKeyPair {
        rsa(self.generation())
    }

    fn ec(&self) -> EcdsaKeyPair {
        let key = self.elliptic.last().expect("there is always one");
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key, &SystemRandom::new()).expect("a key made here")
    }

    /// The key set at `/jwks`.
    pub fn published(&self, signing: Signing) -> Value {
        let (rsa, ec, n) = (self.rsa(), self.ec(), self.generation());
        let public = PublicKeyComponents::<Vec<u8>>::from(rsa.public());
        let point = ec.public_key().as_ref();
        let alg = if signing == Signing::Ps256 { "PS256" } else { "RS256" };
        json!({ "keys": [
            { "kty": "RSA", "use": "sig", "alg": alg, "kid": format!("rsa-{n}"),
              "n": encoded(&public.n),
              "e": encoded(&public.e) },
            { "kty": "EC", "use": "sig", "crv": "P-256", "kid": format!("ec-{n}"),
              "x": encoded(&point[1..33]), "y": encoded(&point[33..]) },
            { "kty": "oct", "kid": "shared", "k": "c2VjcmV0" },
        ] })
    }

    /// Signs a token. Members of `header` replace the default ones.
    pub fn signed(&self, signing: Signing, header: &Map<String, Value>, claims: &Map<String, Value>) -> String {
        let n = self.generation();
        let (alg, kid) = match signing {
            Signing::Rs256 | Signing::ForeignKey => ("RS256", format!("rsa-{n}")),
            Signing::Ps256 => ("PS256", format!("rsa-{n}")),
            Signing::Es256 => ("ES256", format!("ec-{n}")),
            Signing::None => ("none", format!("rsa-{n}")),
            Signing::HmacOfPublicKey => ("HS256", format!("rsa-{n}")),
        };
        let mut head = Map::new();
        head.insert("alg".into(), json!(alg));
        head.insert("kid".into(), json!(kid));
        head.extend(header.clone());
        head.retain(|_, value| !value.is_null());
        let part = |members: &Map<String, Value>| encoded(Value::Object(members.clone()).to_string().as_bytes());
        let message = format!("{}.{}", part(&head), part(claims));
        let signature = match signing {
            Signing::Rs256 => by_rsa(&self.rsa(), &RSA_PKCS1_SHA256, &message),
            Signing::Ps256 => by_rsa(&self.rsa(), &RSA_PSS_SHA256, &message),
            Signing::ForeignKey => by_rsa(&rsa(n + 1), &RSA_PKCS1_SHA256, &message),
            Signing::Es256 => {
                let signature = self.ec().sign(&SystemRandom::new(), message.as_bytes());
                signature.expect("signing works").as_ref().to_vec()
            }
            Signing::None => Vec::new(),
            Signing::HmacOfPublicKey => {
                let public = PublicKeyComponents::<Vec<u8>>::from(self.rsa().public());
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &public.n), message.as_bytes())
                    .as_ref()
                    .to_vec()
            }
        };
        format!("{message}.{}", encoded(&signature))
    }
}

fn elliptic() -> Vec<u8> {
    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
    made.expect("the system gives random bytes").as_ref().to_vec()
}

fn rsa(generation: usize) -> RsaKeyPair {
    let der: [&[u8]; 2] = [include_bytes!("../keys/rsa-one.der"), include_bytes!("../keys/rsa-two.der")];
    RsaKeyPair::from_der(der[generation % 2]).expect("a key that lies here")
}

fn by_rsa(key: &RsaKeyPair, padding: &'static dyn signature::RsaEncoding, message: &str) -> Vec<u8> {
    let mut out = vec![0; key.public().modulus_len()];
    key.sign(padding, &SystemRandom::new(), message.as_bytes(), &mut out)
        .expect("signing works");
    out
}

fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
