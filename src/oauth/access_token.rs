//! Access tokens that are one signed JWT (RFC 9068): their claims, built and parsed.

use serde_json::{Value, json};

use crate::base::ids::Id;
use crate::base::time::UnixTime;
use crate::oauth::jwt::Claims;

/// The `typ` of an access token (RFC 9068 §2.1). No other JWT of the gateway has this type.
pub const JWT_TYPE: &str = "at+jwt";

/// The private claim. With its members a request is admitted without a store lookup.
const PRIVATE_CLAIM: &str = "mcp_gateway";

/// The content of an access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken {
    /// Issuer of the token (`iss`).
    pub issuer: String,
    /// Resource that the token is for (`aud`).
    pub audience: String,
    /// The user (`sub`).
    pub subject: String,
    /// Client that the token was issued to.
    pub client_id: String,
    /// Granted scopes, separated by spaces.
    pub scope: String,
    /// Time of issue (`iat`).
    pub issued: UnixTime,
    /// Expiry (`exp`).
    pub expires: UnixTime,
    /// Id of the token (`jti`).
    pub id: Id,
    /// Grant that the token belongs to.
    pub grant: Id,
    /// Generation of the grant that the token belongs to.
    pub generation: u32,
    /// Branch of that generation.
    pub branch: u8,
    /// Name of the service that the token is for.
    pub service: String,
    /// Identity of the user, if the service passes it to its upstream.
    pub user: Option<UserClaims>,
}

/// User data for an upstream (OpenID Connect Core, section 5.1), and the provider that asserts it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserClaims {
    /// Stable user id at the provider.
    pub id: String,
    /// Name of the provider in the configuration.
    pub provider: String,
    /// Verified email address.
    pub email: Option<String>,
    /// Full name of the user.
    pub name: Option<String>,
    /// URL of a picture of the user.
    pub picture: Option<String>,
}

impl AccessToken {
    /// Builds the claims (RFC 9068 §2.2).
    pub fn claims(&self) -> Value {
        let mut claims = json!({
            "iss": self.issuer,
            "aud": self.audience,
            "sub": self.subject,
            "client_id": self.client_id,
            "iat": self.issued,
            "exp": self.expires,
            "jti": self.id,
            PRIVATE_CLAIM: {
                "grant": self.grant,
                "generation": self.generation,
                "branch": self.branch,
                "service": self.service,
            },
        });
        if !self.scope.is_empty() {
            claims["scope"] = json!(self.scope);
        }
        if let Some(user) = &self.user {
            claims[PRIVATE_CLAIM]["user"] = json!({ "id": user.id, "provider": user.provider });
            for (name, value) in [("email", &user.email), ("name", &user.name), ("picture", &user.picture)] {
                if let Some(value) = value {
                    claims[name] = json!(value);
                }
            }
        }
        claims
    }

    /// Reads verified claims; `None` if they are not those of an access token of this gateway.
    pub fn from_claims(claims: &Claims) -> Option<Self> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
        let time = |name: &str| claims.get(name).and_then(Value::as_u64).map(UnixTime);
        let id = |value: &Value| Id::parse(value.as_str()?);
        let private_claim = claims.get(PRIVATE_CLAIM)?;
        let member = |object: &Value, name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
        let user = match private_claim.get("user") {
            None => None,
            Some(user) => Some(UserClaims {
                id: member(user, "id")?,
                provider: member(user, "provider")?,
                email: text("email"),
                name: text("name"),
                picture: text("picture"),
            }),
        };
        Some(Self {
            issuer: text("iss")?,
            audience: text("aud")?,
            subject: text("sub")?,
            client_id: text("client_id")?,
            scope: text("scope").unwrap_or_default(),
            issued: time("iat")?,
            expires: time("exp")?,
            id: id(claims.get("jti")?)?,
            grant: id(private_claim.get("grant")?)?,
            generation: private_claim.get("generation")?.as_u64()?.try_into().ok()?,
            // Tokens of earlier versions have no branch.
            branch: match private_claim.get("branch") {
                Some(branch) => branch.as_u64()?.try_into().ok()?,
                None => 0,
            },
            service: member(private_claim, "service")?,
            user,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> AccessToken {
        AccessToken {
            issuer: "https://gateway/mcp/calculator".into(),
            audience: "https://gateway/mcp/calculator".into(),
            subject: "corp:4711".into(),
            client_id: "gwc_1".into(),
            scope: "calculate read".into(),
            issued: UnixTime(1_000),
            expires: UnixTime(4_600),
            id: Id([1; 16]),
            grant: Id([2; 16]),
            generation: 7,
            branch: 1,
            service: "calculator".into(),
            user: Some(UserClaims {
                id: "4711".into(),
                provider: "corp".into(),
                email: Some("zoe@example.com".into()),
                name: None,
                picture: Some("https://pics.example/a.png".into()),
            }),
        }
    }

    fn members(value: Value) -> Claims {
        let Value::Object(members) = value else { panic!("an object") };
        members
    }

    #[test]
    fn access_token_claims_survive_a_round_trip() {
        let minimal = AccessToken {
            scope: String::new(),
            user: None,
            ..token()
        };
        assert!(!members(minimal.claims()).contains_key("scope"));
        for token in [token(), minimal] {
            assert_eq!(AccessToken::from_claims(&members(token.claims())), Some(token));
        }
    }

    #[test]
    fn access_token_claims_with_missing_or_wrong_members_are_refused() {
        for name in ["iss", "aud", "sub", "client_id", "iat", "exp", "jti", PRIVATE_CLAIM] {
            let mut claims = members(token().claims());
            claims.remove(name);
            assert_eq!(AccessToken::from_claims(&claims), None, "{name}");
            for wrong in [json!(null), json!(-1), json!(["https://gateway/mcp/calculator"]), json!({})] {
                claims.insert(name.to_owned(), wrong.clone());
                assert_eq!(AccessToken::from_claims(&claims), None, "{name} {wrong}");
            }
        }
        for name in ["grant", "generation", "service", "user"] {
            for wrong in [json!(null), json!(u64::MAX), json!("x"), json!({ "id": "4711" })] {
                let mut claims = token().claims();
                claims[PRIVATE_CLAIM][name] = wrong.clone();
                let parsed = AccessToken::from_claims(&members(claims));
                assert!(parsed.is_none() || (name == "service" && wrong == "x"), "{name} {wrong}");
            }
        }
    }
}
