//! `x-user-assertion`: a short word of ours to one backend about its caller, which it can hold against our published keys.

use serde_json::{Value, json};

use crate::base::ids::Id;
use crate::base::time::UnixTime;
use crate::oauth::access_token::UserClaims;

/// What kind of token it is: never an access token, and no access token is one of these.
pub const TYPE: &str = "user-assertion+jwt";

/// It is believed for so many seconds.
pub const LIFETIME_SECONDS: u64 = 60;

/// See [the module](self).
#[derive(Clone, Debug)]
pub struct UserAssertion<'a> {
    /// The service's issuer.
    pub issuer: &'a str,
    /// The backend's address, byte for byte as configured.
    pub audience: &'a str,
    /// Its caller; of an API key, its name.
    pub person: &'a UserClaims,
    /// When it is made.
    pub now: UnixTime,
    /// Its own name.
    pub id: Id,
}

impl UserAssertion<'_> {
    /// The claims.
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
