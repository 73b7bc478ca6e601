//! Public keys of a provider (RFC 7517, RFC 7518). Each parsed key is for exactly one algorithm.

use jsonwebtoken::jwk::{self as published, AlgorithmParameters, EllipticCurve, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize as _;
use serde_json::Value;

use crate::base::jws;
use crate::oauth::jwt::{Claims, JwtError, UnverifiedJwt, bad};

/// Largest number of keys that are read from a set. A real provider has two or three.
const MAX_KEYS: usize = 100;

/// A public key. The key or its type determines the algorithm; a token cannot choose it.
#[derive(Clone, Debug)]
pub struct Jwk {
    id: Option<String>,
    algorithm: Algorithm,
    public: DecodingKey,
}

impl Jwk {
    /// Parses a supported public signature key. `None` for others, such as shared secrets (`oct`).
    #[expect(clippy::wildcard_enum_match_arm, reason = "the JWT crate may know more keys")]
    pub fn parse(key: &Value) -> Option<Self> {
        let published::Jwk { common, algorithm } = published::Jwk::deserialize(key).ok()?;
        if common.public_key_use.is_some_and(|key_use| key_use != PublicKeyUse::Signature) {
            return None;
        }
        if common
            .key_operations
            .is_some_and(|operations| !operations.contains(&KeyOperations::Verify))
        {
            return None;
        }
        let (default, public) = match algorithm {
            AlgorithmParameters::RSA(key) => {
                let public = DecodingKey::from_rsa_components(unpadded(&key.n), unpadded(&key.e));
                (Algorithm::RS256, public.ok()?)
            }
            AlgorithmParameters::EllipticCurve(key) => {
                let (algorithm, size) = match key.curve {
                    EllipticCurve::P256 => (Algorithm::ES256, 32_usize),
                    EllipticCurve::P384 => (Algorithm::ES384, 48),
                    _ => return None,
                };
                let (x, y) = (unpadded(&key.x), unpadded(&key.y));
                // `jsonwebtoken` joins the coordinates without a check of their lengths.
                if [x, y].iter().any(|coordinate| coordinate.len() != (size * 4).div_ceil(3)) {
                    return None;
                }
                (algorithm, DecodingKey::from_ec_components(x, y).ok()?)
            }
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                (Algorithm::EdDSA, DecodingKey::from_ed_components(unpadded(&key.x)).ok()?)
            }
            _ => return None,
        };
        let algorithm = match common.key_algorithm {
            None => default,
            Some(name) => Algorithm::try_from(name).ok().filter(|algorithm| fits(*algorithm, default))?,
        };
        Some(Self {
            id: common.key_id,
            algorithm,
            public,
        })
    }

    /// A P-256 key of the gateway, from its id and uncompressed point; `None` if that is malformed.
    pub fn es256(id: &str, point: &[u8]) -> Option<Self> {
        (point.len() == 65 && point.starts_with(&[4])).then(|| Self {
            id: Some(id.to_owned()),
            algorithm: Algorithm::ES256,
            public: DecodingKey::from_ec_der(point),
        })
    }

    /// The key as a public JWK (RFC 7517 §4).
    pub fn to_public_jwk(&self) -> Option<Value> {
        let mut key = published::Jwk::from_decoding_key(&self.public, Some(self.algorithm)).ok()?;
        key.common.key_id.clone_from(&self.id);
        key.common.public_key_use = Some(PublicKeyUse::Signature);
        serde_json::to_value(key).ok()
    }

    /// The one algorithm that the key is for.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key for `jsonwebtoken`.
    pub fn public(&self) -> &DecodingKey {
        &self.public
    }
}

impl UnverifiedJwt<'_> {
    /// Verifies the signature and returns the claims. Fails unless `alg` is the key's algorithm.
    pub fn verify(self, key: &Jwk) -> Result<Claims, JwtError> {
        if key.algorithm() != self.algorithm {
            return Err(JwtError::Algorithm);
        }
        jws::verify_token(self.token, key.public(), key.algorithm()).map_err(|error| bad(&error))
    }
}

/// RSA keys may have either padding and any digest length. Other types have one algorithm.
fn fits(algorithm: Algorithm, default: Algorithm) -> bool {
    algorithm == default || (default == Algorithm::RS256 && algorithm.family() == default.family() && jws::is_known(algorithm))
}

/// Removes padding, which some providers send. RFC 7515 §2 forbids it, and the crate refuses it.
fn unpadded(base64url: &str) -> &str {
    base64url.trim_end_matches('=')
}

/// The reason why a document is not a usable key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Not a JSON object with a list `keys`.
    #[error("not a set of keys")]
    NotKeys,
    /// No key of the set is usable.
    #[error("none of its keys is for signatures that are known here")]
    NoneUsable,
}

/// The keys of one provider.
#[derive(Clone, Debug)]
pub struct KeySet(Vec<Jwk>);

impl KeySet {
    /// Parses a set (RFC 7517 §5). Skips unsupported keys, for which the crate refuses a whole set.
    pub fn parse(body: &[u8]) -> Result<Self, KeySetError> {
        let document: Value = serde_json::from_slice(body).map_err(|_| KeySetError::NotKeys)?;
        let keys = document.get("keys").and_then(Value::as_array).ok_or(KeySetError::NotKeys)?;
        let keys: Vec<Jwk> = keys.iter().take(MAX_KEYS).filter_map(Jwk::parse).collect();
        if keys.is_empty() {
            return Err(KeySetError::NoneUsable);
        }
        Ok(Self(keys))
    }

    /// Finds the key with the token's `kid` and algorithm. A token without a `kid` gets the only
    /// key of its algorithm. Fails if no key fits, or more than one.
    pub fn find(&self, token: &UnverifiedJwt<'_>) -> Result<&Jwk, JwtError> {
        let has_key_id = |key: &&Jwk| token.key_id.is_none() || key.id == token.key_id;
        if !self.0.iter().any(|key| has_key_id(&key)) {
            return Err(JwtError::UnknownKey);
        }
        let mut candidates = self.0.iter().filter(has_key_id).filter(|key| key.algorithm == token.algorithm);
        let key = candidates.next().ok_or(JwtError::Algorithm)?;
        if candidates.next().is_some() {
            return Err(JwtError::UnknownKey);
        }
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;
    use crate::oauth::jwt::tests::token;

    // Test vectors of RFC 7515 §A.3. Those of RFC 8037 §A.4 are in their test.
    const ES256: (&str, &str, &str) = (
        "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
    );

    fn es256() -> Value {
        json!({ "kty": "EC", "crv": "P-256", "x": ES256.0, "y": ES256.1, "kid": "one" })
    }

    #[test]
    fn the_rfc_7515_example_verifies_and_a_changed_copy_does_not() {
        let key = Jwk::parse(&es256()).unwrap();
        let claims = UnverifiedJwt::parse(ES256.2).unwrap().verify(&key).unwrap();
        assert_eq!(claims["iss"], "joe");
        let tampered = ES256.2.replace("DtEh", "DtEi");
        assert_eq!(UnverifiedJwt::parse(&tampered).unwrap().verify(&key), Err(JwtError::Signature));
        let rsa_key = Jwk::parse(&json!({ "kty": "RSA", "n": "AMMM", "e": "AQAB" })).unwrap();
        assert_eq!(UnverifiedJwt::parse(ES256.2).unwrap().verify(&rsa_key), Err(JwtError::Algorithm));
    }

    #[test]
    fn a_gateway_key_is_published_as_a_standard_jwk() {
        let key = Jwk::parse(&es256()).unwrap();
        let point = [
            vec![4],
            URL_SAFE_NO_PAD.decode(ES256.0).unwrap(),
            URL_SAFE_NO_PAD.decode(ES256.1).unwrap(),
        ]
        .concat();
        let gateway_key = Jwk::es256("one", &point).unwrap();
        assert_eq!(gateway_key.to_public_jwk(), key.to_public_jwk());
        let mut expected = es256();
        (expected["use"], expected["alg"]) = (json!("sig"), json!("ES256"));
        assert_eq!(key.to_public_jwk(), Some(expected));
        assert!(Jwk::es256("one", &point[1..]).is_none() && Jwk::es256("one", &[]).is_none());
    }

    #[test]
    fn the_example_signature_of_rfc_8037_is_verified() {
        let key = json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
        let key = Jwk::parse(&key).unwrap();
        let signing_input = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        let verify_error = |token: &str| UnverifiedJwt::parse(token).unwrap().verify(&key).unwrap_err();
        // The payload is a text and not claims, so a valid signature results in `Malformed`.
        assert_eq!(verify_error(&format!("{signing_input}.{signature}")), JwtError::Malformed);
        assert_eq!(
            verify_error(&format!("{signing_input}.{}", signature.replace("hgy", "hgz"))),
            JwtError::Signature
        );
    }

    #[test]
    fn a_jwt_signature_has_only_one_accepted_encoding() {
        let key = Jwk::parse(&es256()).unwrap();
        let verify = |token: &str| UnverifiedJwt::parse(token).unwrap().verify(&key).map(|_| ());
        assert_eq!(verify(ES256.2), Ok(()));
        // Unused bits of the last character, padding, extra bytes, standard base64, a line break.
        for other in [
            ES256.2.replace("NU1Q", "NU1R"),
            format!("{}==", ES256.2),
            format!("{}AA", ES256.2),
            ES256.2.replace("-Xx", "+Xx"),
            format!("{}\n", ES256.2),
        ] {
            assert_eq!(
                verify(&other),
                Err(if other.ends_with("1QAA") {
                    JwtError::Signature
                } else {
                    JwtError::Malformed
                }),
                "{other}"
            );
        }
    }

    #[test]
    fn elliptic_curve_coordinates_must_have_their_full_length() {
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
        let point = [decode(ES256.0), decode(ES256.1)].concat();
        for middle in [0, 31, 33, 64] {
            let mut key = es256();
            (key["x"], key["y"]) = (
                json!(URL_SAFE_NO_PAD.encode(&point[..middle])),
                json!(URL_SAFE_NO_PAD.encode(&point[middle..])),
            );
            assert!(Jwk::parse(&key).is_none(), "{middle}");
        }
        let mut key = es256();
        key["x"] = json!(format!("{}=", ES256.0));
        assert!(Jwk::parse(&key).is_some(), "padding is forgiven");
    }

    #[test]
    fn a_jwk_that_cannot_verify_signatures_is_refused() {
        let parse_with = |name: &str, value: Value| {
            let mut key = es256();
            key[name] = value;
            Jwk::parse(&key)
        };
        assert!(parse_with("use", json!("sig")).is_some());
        assert!(parse_with("key_ops", json!(["verify"])).is_some());
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
            assert!(parse_with(name, value.clone()).is_none(), "{name} {value}");
        }
    }

    #[test]
    fn the_jwk_and_not_the_token_decides_the_algorithm() {
        let rsa = |alg: &str| json!({ "kty": "RSA", "n": "AMMM", "e": "AQAB", "kid": "two", "alg": alg });
        let parse_set = |keys: Value| KeySet::parse(json!({ "keys": keys }).to_string().as_bytes());
        let find = |key_set: &KeySet, header: Value| key_set.find(&UnverifiedJwt::parse(&token(&header)).unwrap()).map(Jwk::algorithm);
        let two_keys = parse_set(json!([es256(), rsa("PS256")])).unwrap();
        assert_eq!(find(&two_keys, json!({"alg": "ES256", "kid": "one"})), Ok(Algorithm::ES256));
        assert_eq!(find(&two_keys, json!({"alg": "ES256"})), Ok(Algorithm::ES256));
        assert_eq!(find(&two_keys, json!({"alg": "RS256", "kid": "one"})), Err(JwtError::Algorithm));
        assert_eq!(find(&two_keys, json!({"alg": "RS256", "kid": "two"})), Err(JwtError::Algorithm));
        assert_eq!(find(&two_keys, json!({"alg": "ES256", "kid": "other"})), Err(JwtError::UnknownKey));
        let duplicate_keys = parse_set(json!([es256(), es256()])).unwrap();
        assert_eq!(find(&duplicate_keys, json!({"alg": "ES256"})), Err(JwtError::UnknownKey));
        assert_eq!(parse_set(json!([rsa("HS256")])).unwrap_err(), KeySetError::NoneUsable);
        assert_eq!(KeySet::parse(b"[]").unwrap_err(), KeySetError::NotKeys);
    }
}
