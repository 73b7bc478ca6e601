//! `x-user-assertion`: a short JWT about the caller, which an upstream verifies by our JWK set.

use serde_json::{Value, json};

use crate::base::ids::Id;
use crate::base::time::UnixTime;
use crate::oauth::access_token::UserClaims;

/// The `typ` of an assertion. Access tokens have another one, so neither passes for the other.
pub const TYPE: &str = "user-assertion+jwt";

/// Lifetime of an assertion, in seconds.
pub const LIFETIME_SECONDS: u64 = 60;

/// The content of an assertion.
#[derive(Clone, Debug)]
pub struct UserAssertion<'a> {
    /// Issuer of the service.
    pub issuer: &'a str,
    /// URL of the upstream, byte for byte as configured.
    pub audience: &'a str,
    /// The caller. For an API key, the id is the key's name.
    pub person: &'a UserClaims,
    /// Time of issue.
    pub now: UnixTime,
    /// Id of the assertion (`jti`).
    pub id: Id,
}

impl UserAssertion<'_> {
    /// Builds the claims.
    pub fn claims(&self) -> Value {
        let mut claims = json!({
            "iss": self.issuer,
            "aud": self.audience,
            "sub": self.person.id,
            "provider": self.person.provider,
            "iat": self.now,
            "exp": self.now.plus_seconds(LIFETIME_SECONDS),
            "jti": self.id,
        });
        for (name, value) in [("email", &self.person.email), ("name", &self.person.name)] {
            if let Some(value) = value {
                claims[name] = json!(value);
            }
        }
        claims
    }
}
