//! The assertion by which the gateway authenticates at a token endpoint (`private_key_jwt`, RFC 7523 §2.2).

use serde::Serialize;

use crate::base::client_key::ClientKey;
use crate::base::ids::Id;
use crate::base::secret::Secret;
use crate::base::time::UnixTime;
use crate::upstream::auth_server::AuthServer;
use crate::upstream::fetch::FetchError;

/// The value of `client_assertion_type`.
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How long an assertion is valid, in seconds. It is used once, at once; the rest is for clocks that differ.
const LIFETIME_SECONDS: u64 = 60;

/// The claims of an assertion (RFC 7523 §3).
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    jti: String,
    iat: u64,
    exp: u64,
}

/// Signs an assertion for one request. Its audience is the issuer alone, so that no other server accepts
/// it; without a known issuer, it is the token endpoint.
///
/// # Errors
/// If signing fails.
pub(super) fn sign(target: &AuthServer, key: &ClientKey, now: UnixTime) -> Result<Secret, FetchError> {
    let claims = Claims {
        iss: &target.client_id,
        sub: &target.client_id,
        aud: if target.issuer_is_guess {
            target.token_endpoint.as_str()
        } else {
            &target.issuer
        },
        jti: Id::random().to_string(),
        iat: now.0,
        exp: now.plus_seconds(LIFETIME_SECONDS).0,
    };
    key.sign_jwt(&claims)
        .ok_or_else(|| FetchError::NeverSent("the client key cannot sign".to_owned()))
}
