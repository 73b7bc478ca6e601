//! Dynamic client registration (RFC 7591): the request, parsed leniently where clients need it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::oauth::error::OAuthErrorCode;
use crate::oauth::redirect_uri::RedirectUri;

/// Largest number of redirect URIs of one client.
pub const MAX_REDIRECT_URIS: usize = 20;
/// Longest client name, in characters. Longer names are cut.
pub const MAX_NAME_CHARS: usize = 100;

/// The authentication method of a client at the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthMethod {
    /// No authentication: a public client.
    None,
    /// A secret in the `Authorization` header.
    ClientSecretBasic,
    /// A secret in the form.
    ClientSecretPost,
}

impl ClientAuthMethod {
    /// The name of the method in RFC 7591.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
        }
    }
}

/// Metadata that a client sends about itself. All of it is unverified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRegistration {
    /// Display name.
    pub name: Option<String>,
    /// Allowed redirect URIs; at least one.
    pub redirect_uris: Vec<RedirectUri>,
    /// Authentication method. The default is `none`.
    pub auth_method: ClientAuthMethod,
    /// Whether the client may use refresh tokens.
    #[serde(rename = "refreshes")]
    pub may_refresh: bool,
}

/// The reason why a registration is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationError {
    /// `invalid_redirect_uri` or `invalid_client_metadata`.
    pub code: OAuthErrorCode,
    /// The problem, with the name of the member.
    pub why: String,
}

impl ClientRegistration {
    /// Parses the body. Ignores unknown members, nulls, empty strings and unknown grant types.
    pub fn parse(body: &[u8]) -> Result<Self, RegistrationError> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|e| metadata(format!("the body is not JSON (line {}, column {})", e.line(), e.column())))?;
        let Value::Object(members) = value else {
            return Err(metadata("the body is not a JSON object"));
        };
        let text = |name: &str| members.get(name).and_then(Value::as_str).filter(|t| !t.is_empty());
        if members.contains_key("jwks") && members.contains_key("jwks_uri") {
            return Err(metadata("jwks and jwks_uri exclude each other"));
        }
        let auth_method = match text("token_endpoint_auth_method") {
            None | Some("none") => ClientAuthMethod::None,
            Some("client_secret_basic") => ClientAuthMethod::ClientSecretBasic,
            Some("client_secret_post") => ClientAuthMethod::ClientSecretPost,
            Some(_) => {
                return Err(metadata(
                    "token_endpoint_auth_method must be none, client_secret_basic or client_secret_post",
                ));
            }
        };
        let may_refresh = grants(members.get("grant_types"))?;
        responses(members.get("response_types"))?;
        let name = text("client_name").map(|name| name.chars().take(MAX_NAME_CHARS).collect());
        Ok(Self {
            name,
            redirect_uris: redirects(members.get("redirect_uris"))?,
            auth_method,
            may_refresh,
        })
    }
}

pub(super) fn redirects(value: Option<&Value>) -> Result<Vec<RedirectUri>, RegistrationError> {
    let list = value
        .and_then(Value::as_array)
        .filter(|list| !list.is_empty())
        .ok_or_else(|| redirect("redirect_uris must be a list of at least one URI"))?;
    if list.len() > MAX_REDIRECT_URIS {
        return Err(redirect(format!("redirect_uris has more than {MAX_REDIRECT_URIS} entries")));
    }
    let mut uris = Vec::new();
    for entry in list {
        let text = entry
            .as_str()
            .ok_or_else(|| redirect("redirect_uris has an entry that is not a string"))?;
        let uri = RedirectUri::parse(text)
            .map_err(|error| redirect(format!("redirect URI '{}' {error}", text.chars().take(80).collect::<String>())))?;
        if !uris.contains(&uri) {
            uris.push(uri);
        }
    }
    Ok(uris)
}

/// Whether the client may refresh. Absent means yes: otherwise users would sign in every hour.
pub(super) fn grants(value: Option<&Value>) -> Result<bool, RegistrationError> {
    let Some(list) = value.and_then(Value::as_array) else {
        return Ok(true);
    };
    let includes = |grant: &str| list.iter().any(|g| g.as_str() == Some(grant));
    if !list.is_empty() && !includes("authorization_code") {
        return Err(metadata("grant_types must include authorization_code"));
    }
    Ok(list.is_empty() || includes("refresh_token"))
}

pub(super) fn responses(value: Option<&Value>) -> Result<(), RegistrationError> {
    let Some(list) = value.and_then(Value::as_array).filter(|list| !list.is_empty()) else {
        return Ok(());
    };
    if list.iter().any(|r| r.as_str() == Some("code")) {
        Ok(())
    } else {
        Err(metadata("response_types must include code"))
    }
}

fn redirect(reason: impl Into<String>) -> RegistrationError {
    RegistrationError {
        code: OAuthErrorCode::InvalidRedirectUri,
        why: reason.into(),
    }
}

fn metadata(reason: impl Into<String>) -> RegistrationError {
    RegistrationError {
        code: OAuthErrorCode::InvalidClientMetadata,
        why: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registration_request_of_cursor_is_accepted() {
        let body = r#"{"client_name":"Cursor","redirect_uris":["cursor://anysphere.cursor-mcp/oauth/callback","https://www.cursor.com/agents/mcp/oauth/callback","http://localhost:8787/callback"],"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"none","logo_uri":null,"scope":""}"#;
        let registration = ClientRegistration::parse(body.as_bytes()).unwrap();
        assert_eq!(
            (registration.redirect_uris.len(), registration.auth_method, registration.may_refresh),
            (3, ClientAuthMethod::None, true)
        );
    }

    #[test]
    fn a_bad_redirect_uri_is_named_in_the_registration_error() {
        let error = ClientRegistration::parse(br#"{"redirect_uris":["http://evil.com/cb"]}"#).unwrap_err();
        assert_eq!(error.code, OAuthErrorCode::InvalidRedirectUri);
        assert!(error.why.contains("http://evil.com/cb"), "{}", error.why);
        assert_eq!(
            ClientRegistration::parse(br"{}").unwrap_err().code,
            OAuthErrorCode::InvalidRedirectUri
        );
        assert_eq!(
            ClientRegistration::parse(b"[").unwrap_err().code,
            OAuthErrorCode::InvalidClientMetadata
        );
    }

    #[test]
    fn unknown_grant_types_are_dropped_and_unusable_registrations_refused() {
        let parse_with =
            |grants: &str| ClientRegistration::parse(format!(r#"{{"redirect_uris":["https://a/cb"],"grant_types":{grants}}}"#).as_bytes());
        assert!(parse_with(r#"["authorization_code","urn:ietf:params:oauth:grant-type:device_code"]"#).is_ok_and(|r| !r.may_refresh));
        assert!(parse_with(r#"["client_credentials"]"#).is_err());
        assert!(parse_with("null").is_ok_and(|r| r.may_refresh));
    }
}
