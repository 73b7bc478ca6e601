//! Token introspection (RFC 7662), its signed form (RFC 9701), and user data (OpenID Connect Core,
//! section 5.3): built as data.

use serde_json::{Value, json};

use crate::base::time::UnixTime;

/// The media type of a signed response, and the `typ` of its header without `application/` (RFC 9701 §5).
pub const JWT_MEDIA_TYPE: &str = "application/token-introspection+jwt";
/// The `typ` of the header of a signed response.
pub const JWT_TYPE: &str = "token-introspection+jwt";

/// The members of the response about an active token (RFC 7662 §2.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActiveToken {
    /// Granted scopes, separated by spaces.
    pub scope: String,
    /// The client.
    pub client_id: Option<String>,
    /// The user.
    pub subject: String,
    /// The name of the user to show.
    pub username: String,
    /// The resource.
    pub audience: String,
    /// The issuer.
    pub issuer: String,
    /// When the token ends.
    pub expires: UnixTime,
    /// When the token was issued, if it contains this time.
    pub issued: Option<UnixTime>,
    /// The id of the token, if it has one.
    pub token_id: Option<String>,
}

impl ActiveToken {
    /// The response. No member has the upstream's token.
    pub fn response(&self) -> Value {
        let mut body = json!({
            "active": true,
            "token_type": "Bearer",
            "aud": self.audience,
            "iss": self.issuer,
            "exp": self.expires,
        });
        let texts = [
            ("scope", Some(&self.scope).filter(|scope| !scope.is_empty())),
            ("sub", Some(&self.subject).filter(|subject| !subject.is_empty())),
            ("username", Some(&self.username).filter(|name| !name.is_empty())),
            ("client_id", self.client_id.as_ref()),
            ("jti", self.token_id.as_ref()),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                body[name] = json!(text);
            }
        }
        if let Some(issued) = self.issued {
            body["iat"] = json!(issued);
        }
        body
    }
}

/// The response for a token that is unknown, has ended, or is none of the caller's: always the same.
pub fn inactive() -> Value {
    json!({ "active": false })
}

/// The claims of a signed response (RFC 9701 §5). `audience` is the resource server.
pub fn signed_claims(issuer: &str, audience: &str, now: UnixTime, response: &Value) -> Value {
    json!({ "iss": issuer, "aud": audience, "iat": now, "token_introspection": response })
}

/// Whether an `Accept` header asks for the signed form.
pub fn accepts_signed_response(accept: &str) -> bool {
    let names = accept.split(',').map(|part| part.split(';').next().unwrap_or("").trim());
    names.into_iter().any(|name| name.eq_ignore_ascii_case(JWT_MEDIA_TYPE))
}

/// The claims of the userinfo endpoint. Absent members are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfoClaims {
    /// The subject, as in the user's tokens.
    pub subject: String,
    /// Full name.
    pub name: Option<String>,
    /// Verified e-mail address.
    pub email: Option<String>,
    /// URL of a picture.
    pub picture: Option<String>,
    /// The name with which the user signs in.
    pub preferred_username: Option<String>,
}

impl UserInfoClaims {
    /// The response.
    pub fn response(&self) -> Value {
        let mut body = json!({ "sub": self.subject });
        let members = [
            ("name", &self.name),
            ("email", &self.email),
            ("picture", &self.picture),
            ("preferred_username", &self.preferred_username),
        ];
        for (name, text) in members {
            if let Some(text) = text {
                body[name] = json!(text);
            }
        }
        if self.email.is_some() {
            // The record has a provider's address only if the provider states that it is verified.
            body["email_verified"] = json!(true);
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_response_is_asked_for_by_its_media_type_alone() {
        for (accept, expected) in [
            ("application/token-introspection+jwt", true),
            ("application/json, application/token-introspection+jwt;q=0.5", true),
            ("APPLICATION/TOKEN-INTROSPECTION+JWT", true),
            ("application/json", false),
            ("*/*", false),
            ("application/jwt", false),
            ("", false),
        ] {
            assert_eq!(accepts_signed_response(accept), expected, "{accept}");
        }
    }

    #[test]
    fn absent_members_are_left_out() {
        let token = ActiveToken {
            audience: "https://rs.example/mcp".into(),
            issuer: "https://gw.example/mcp/a".into(),
            ..ActiveToken::default()
        };
        let response = token.response();
        let names: Vec<&String> = response.as_object().unwrap().keys().collect();
        assert_eq!(names, ["active", "aud", "exp", "iss", "token_type"]);
        assert_eq!(UserInfoClaims::default().response(), json!({ "sub": "" }));
    }
}
