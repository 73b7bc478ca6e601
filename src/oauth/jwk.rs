//! Public keys (RFC 7517, RFC 7518): what a provider publishes, read into keys that are each for one algorithm.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::ECDSA_P256_SHA256_FIXED;
use ring::signature::ECDSA_P384_SHA384_FIXED;
use ring::signature::ED25519;
use ring::signature::RSA_PKCS1_2048_8192_SHA256;
use ring::signature::RSA_PSS_2048_8192_SHA256;
use ring::signature::RsaPublicKeyComponents;
use ring::signature::UnparsedPublicKey;
use serde_json::{Value, json};

use crate::oauth::jwt::Algorithm;
use crate::oauth::jwt::BadJwt;
use crate::oauth::jwt::Unverified;

/// The most keys of one set; an honest provider has two or three.
const MOST_KEYS: usize = 100;

/// A public key. Which algorithm it is for is its own word, or that of its kind; a token does not choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwk {
    id: Option<String>,
    algorithm: Algorithm,
    public: Public,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Public {
    /// Modulus and exponent, big-endian, without zeros in front.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// An uncompressed point, or the 32 bytes of Ed25519.
    Point(Vec<u8>),
}

impl Jwk {
    /// Reads one key; `None` if it is no public key for signatures that we know. A shared secret (`oct`) is none.
    pub fn read(key: &Value) -> Option<Self> {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?.trim_end_matches('=')).ok();
        if text("use").is_some_and(|it| it != "sig") {
            return None;
        }
        let operations = key.get("key_ops").and_then(Value::as_array);
        if operations.is_some_and(|all| !all.iter().any(|it| it == "verify")) {
            return None;
        }
        let (default, public) = match (text("kty")?, text("crv")) {
            ("RSA", _) => {
                let (n, e) = (unpadded(bytes("n")?), unpadded(bytes("e")?));
                (Algorithm::Rs256, Public::Rsa { n, e })
            }
            ("EC", Some("P-256")) => (Algorithm::Es256, point(bytes("x")?, bytes("y")?, 32)?),
            ("EC", Some("P-384")) => (Algorithm::Es384, point(bytes("x")?, bytes("y")?, 48)?),
            ("OKP", Some("Ed25519")) => (Algorithm::EdDsa, Public::Point(bytes("x")?)),
            _ => return None,
        };
        let algorithm = match text("alg") {
            None => default,
            Some(name) => Algorithm::parse(name).filter(|named| fits(*named, default))?,
        };
        Some(Self {
            id: text("kid").map(str::to_owned),
            algorithm,
            public,
        })
    }

    /// A key of ours, by its name and its uncompressed point on P-256; `None` if it is none.
    pub fn es256(id: &str, uncompressed: &[u8]) -> Option<Self> {
        let (x, y) = uncompressed.strip_prefix(&[4])?.split_at_checked(32)?;
        Some(Self {
            id: Some(id.to_owned()),
            algorithm: Algorithm::Es256,
            public: point(x.to_vec(), y.to_vec(), 32)?,
        })
    }

    /// How it is published (RFC 7517 4), if it is one that we make.
    pub fn published(&self) -> Option<Value> {
        let (Public::Point(point), Algorithm::Es256) = (&self.public, self.algorithm) else {
            return None;
        };
        let (x, y) = point.strip_prefix(&[4])?.split_at_checked(32)?;
        let [x, y] = [x, y].map(|number| URL_SAFE_NO_PAD.encode(number));
        Some(json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": self.id, "use": "sig", "alg": "ES256" }))
    }

    /// The one algorithm that this key is for.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether this key signed `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match (&self.public, self.algorithm) {
            (Public::Rsa { n, e }, Algorithm::Ps256) => {
                let key = RsaPublicKeyComponents { n, e };
                key.verify(&RSA_PSS_2048_8192_SHA256, message, signature).is_ok()
            }
            (Public::Rsa { n, e }, _) => {
                let key = RsaPublicKeyComponents { n, e };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
            }
            (Public::Point(point), Algorithm::Es384) => UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point)
                .verify(message, signature)
                .is_ok(),
            (Public::Point(point), Algorithm::EdDsa) => UnparsedPublicKey::new(&ED25519, point).verify(message, signature).is_ok(),
            (Public::Point(point), _) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(message, signature)
                .is_ok(),
        }
    }
}

/// An RSA key may be for either padding; every other kind is for one algorithm.
fn fits(named: Algorithm, default: Algorithm) -> bool {
    named == default || (default == Algorithm::Rs256 && named == Algorithm::Ps256)
}

fn unpadded(mut number: Vec<u8>) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.drain(..zeros);
    number
}

fn point(x: Vec<u8>, y: Vec<u8>, size: usize) -> Option<Public> {
    (x.len() == size && y.len() == size).then(|| Public::Point([vec![4], x, y].concat()))
}

/// Why a document is no set of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadKeys {
    /// Not a JSON object with `keys`.
    NotKeys,
    /// None of its keys can be used.
    NoneUsable,
}

impl fmt::Display for BadKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotKeys => "not a set of keys",
            Self::NoneUsable => "none of its keys is for signatures that are known here",
        })
    }
}

impl std::error::Error for BadKeys {}

/// The keys of one provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySet(Vec<Jwk>);

impl KeySet {
    /// Reads a set (RFC 7517 5); keys that we do not understand are passed over.
    pub fn read(body: &[u8]) -> Result<Self, BadKeys> {
        let document: Value = serde_json::from_slice(body).map_err(|_| BadKeys::NotKeys)?;
        let keys = document.get("keys").and_then(Value::as_array).ok_or(BadKeys::NotKeys)?;
        let keys: Vec<Jwk> = keys.iter().take(MOST_KEYS).filter_map(Jwk::read).collect();
        if keys.is_empty() {
            return Err(BadKeys::NoneUsable);
        }
        Ok(Self(keys))
    }

    /// The key that a token names, if it is for the algorithm that the token says. A token that names none gets the only
    /// key of its algorithm.
    pub fn find(&self, token: &Unverified<'_>) -> Result<&Jwk, BadJwt> {
        let named = |key: &&Jwk| token.key_id.is_none() || key.id == token.key_id;
        if !self.0.iter().any(|key| named(&key)) {
            return Err(BadJwt::UnknownKey);
        }
        let mut fitting = self.0.iter().filter(named).filter(|key| key.algorithm == token.algorithm);
        let key = fitting.next().ok_or(BadJwt::Algorithm)?;
        if fitting.next().is_some() {
            return Err(BadJwt::UnknownKey);
        }
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::jwt::joined;
    use crate::oauth::jwt::to_sign;

    // RFC 7515 A.3 and RFC 8037 A.4: the same texts that every implementation is held to.
    const ES256: (&str, &str, &str) = (
        "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
    );

    fn es256() -> Value {
        json!({ "kty": "EC", "crv": "P-256", "x": ES256.0, "y": ES256.1, "kid": "one" })
    }

    #[test]
    fn the_example_of_rfc_7515_is_verified_and_a_changed_one_is_not() {
        let key = Jwk::read(&es256()).unwrap();
        let claims = Unverified::parse(ES256.2).unwrap().verified_by(&key).unwrap();
        assert_eq!(claims["iss"], "joe");
        let changed = ES256.2.replace("DtEh", "DtEi");
        assert_eq!(Unverified::parse(&changed).unwrap().verified_by(&key), Err(BadJwt::Signature));
        let other = Jwk::read(&json!({ "kty": "RSA", "n": "AMMM", "e": "AQAB" })).unwrap();
        assert_eq!(Unverified::parse(ES256.2).unwrap().verified_by(&other), Err(BadJwt::Algorithm));
    }

    #[test]
    fn a_key_of_ours_is_published_as_others_read_it() {
        let key = Jwk::read(&es256()).unwrap();
        let point = [
            vec![4],
            URL_SAFE_NO_PAD.decode(ES256.0).unwrap(),
            URL_SAFE_NO_PAD.decode(ES256.1).unwrap(),
        ]
        .concat();
        assert_eq!(Jwk::es256("one", &point), Some(key.clone()));
        let mut expected = es256();
        (expected["use"], expected["alg"]) = (json!("sig"), json!("ES256"));
        assert_eq!(key.published(), Some(expected));
        assert_eq!((Jwk::es256("one", &point[1..]), Jwk::es256("one", &[])), (None, None));
    }

    #[test]
    fn the_example_of_rfc_8037_is_verified() {
        let key = json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
        let key = Jwk::read(&key).unwrap();
        let signed = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        assert!(key.verifies(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()));
        assert!(!key.verifies(b"other", &URL_SAFE_NO_PAD.decode(signature).unwrap()));
    }

    #[test]
    fn keys_that_are_not_for_signatures_are_no_keys() {
        let changed = |name: &str, value: Value| {
            let mut key = es256();
            key[name] = value;
            Jwk::read(&key)
        };
        assert!(changed("use", json!("sig")).is_some());
        assert!(changed("key_ops", json!(["verify"])).is_some());
        for (name, value) in [
            ("use", json!("enc")),
            ("key_ops", json!(["sign"])),
            ("kty", json!("oct")),
            ("crv", json!("secp256k1")),
            ("x", json!("AA")),
            ("alg", json!("none")),
            ("alg", json!("HS256")),
            ("alg", json!("RS256")),
            ("alg", json!("ES384")),
        ] {
            assert_eq!(changed(name, value.clone()), None, "{name} {value}");
        }
    }

    #[test]
    fn the_key_says_for_which_algorithm_it_is() {
        let rsa = |alg: &str| json!({ "kty": "RSA", "n": "AMMM", "e": "AQAB", "kid": "two", "alg": alg });
        let set = |keys: Value| KeySet::read(json!({ "keys": keys }).to_string().as_bytes());
        let find = |set: &KeySet, header: Value| {
            let token = joined(&to_sign(&header, &json!({})), b"");
            set.find(&Unverified::parse(&token).unwrap()).map(Jwk::algorithm)
        };
        let both = set(json!([es256(), rsa("PS256")])).unwrap();
        assert_eq!(find(&both, json!({"alg": "ES256", "kid": "one"})), Ok(Algorithm::Es256));
        assert_eq!(find(&both, json!({"alg": "ES256"})), Ok(Algorithm::Es256));
        assert_eq!(find(&both, json!({"alg": "RS256", "kid": "one"})), Err(BadJwt::Algorithm));
        assert_eq!(find(&both, json!({"alg": "RS256", "kid": "two"})), Err(BadJwt::Algorithm));
        assert_eq!(find(&both, json!({"alg": "ES256", "kid": "other"})), Err(BadJwt::UnknownKey));
        let twice = set(json!([es256(), es256()])).unwrap();
        assert_eq!(find(&twice, json!({"alg": "ES256"})), Err(BadJwt::UnknownKey));
        assert_eq!(set(json!([rsa("HS256")])), Err(BadKeys::NoneUsable));
        assert_eq!(KeySet::read(b"[]"), Err(BadKeys::NotKeys));
    }
}
