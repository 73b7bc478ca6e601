//! Token and revocation requests, and the token response (OAuth 2.1 §3.2, RFC 7009).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::base::secret::Secret;
use crate::oauth::error::OAuthErrorCode;
use crate::oauth::form::Form;
use crate::oauth::scope::Scopes;

/// The client id and secret of a request.
#[derive(Clone, Debug)]
pub struct ClientCredentials {
    /// Id of the client.
    pub client_id: String,
    /// Secret of the client, if it sent one.
    pub secret: Option<Secret>,
    /// Whether `Authorization` was used: a refusal then needs a challenge (RFC 6749 §5.2).
    pub basic: bool,
}

/// A request to the token endpoint.
#[derive(Debug)]
pub enum TokenRequest {
    /// Grant type `authorization_code`.
    Code {
        /// The authorization code.
        code: Secret,
        /// Redirect URI. OAuth 2.1 removed it; it is checked if present.
        redirect_uri: Option<String>,
        /// PKCE verifier.
        verifier: Option<Secret>,
    },
    /// Grant type `refresh_token`.
    Refresh {
        /// The refresh pair.
        token: Secret,
        /// Requested scopes, which cannot exceed the granted ones.
        scopes: Option<Scopes>,
    },
}

/// The reason why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequestError {
    /// The OAuth error code.
    pub code: OAuthErrorCode,
    /// The problem.
    pub why: String,
}

fn bad(code: OAuthErrorCode, reason: impl Into<String>) -> TokenRequestError {
    TokenRequestError { code, why: reason.into() }
}

fn one<'a>(form: &'a Form, name: &'static str) -> Result<Option<&'a str>, TokenRequestError> {
    form.single(name)
        .map_err(|error| bad(OAuthErrorCode::InvalidRequest, error.to_string()))
}

impl ClientCredentials {
    /// Parses `Authorization: Basic` or the form. Fails if both have credentials (OAuth 2.1 §2.4).
    pub fn parse(authorization: Option<&str>, form: &Form) -> Result<Self, TokenRequestError> {
        let form_client_id = one(form, "client_id")?;
        let form_secret = one(form, "client_secret")?;
        let Some(header) = authorization else {
            let client_id = form_client_id.ok_or_else(|| bad(OAuthErrorCode::InvalidClient, "client_id is missing"))?;
            return Ok(Self {
                client_id: client_id.to_owned(),
                secret: form_secret.map(Secret::from),
                basic: false,
            });
        };
        let (client_id, header_secret) =
            basic(header).ok_or_else(|| bad(OAuthErrorCode::InvalidClient, "the Authorization header is not well-formed Basic"))?;
        if form_secret.is_some() {
            return Err(bad(
                OAuthErrorCode::InvalidRequest,
                "client credentials are in the header and in the form; use one",
            ));
        }
        if form_client_id.is_some_and(|id| id != client_id) {
            return Err(bad(
                OAuthErrorCode::InvalidRequest,
                "client_id differs between the header and the form",
            ));
        }
        Ok(Self {
            client_id,
            secret: Some(header_secret).filter(|s| !s.is_empty()),
            basic: true,
        })
    }
}

/// Decodes Basic credentials, whose parts are form-encoded (RFC 6749 §2.3.1).
fn basic(header: &str) -> Option<(String, Secret)> {
    let (scheme, rest) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    let decode = |part: &str| {
        url::form_urlencoded::parse(format!("v={}", part.replace('&', "%26").replace('=', "%3D")).as_bytes())
            .next()
            .map(|(_, v)| v.into_owned())
    };
    Some((decode(id)?, Secret::from(decode(secret)?)))
}

impl TokenRequest {
    /// Parses the grant. Fails for another grant type, or if a required parameter is missing.
    pub fn parse(form: &Form) -> Result<Self, TokenRequestError> {
        match one(form, "grant_type")? {
            Some("authorization_code") => Ok(Self::Code {
                code: Secret::from(one(form, "code")?.ok_or_else(|| bad(OAuthErrorCode::InvalidRequest, "code is missing"))?),
                redirect_uri: one(form, "redirect_uri")?.map(str::to_owned),
                verifier: one(form, "code_verifier")?.map(Secret::from),
            }),
            Some("refresh_token") => Ok(Self::Refresh {
                token: Secret::from(
                    one(form, "refresh_token")?.ok_or_else(|| bad(OAuthErrorCode::InvalidRequest, "refresh_token is missing"))?,
                ),
                scopes: one(form, "scope")?.map(Scopes::parse),
            }),
            Some(_) => Err(bad(
                OAuthErrorCode::UnsupportedGrantType,
                "grant_type must be authorization_code or refresh_token",
            )),
            None => Err(bad(OAuthErrorCode::InvalidRequest, "grant_type is missing")),
        }
    }
}

/// Builds the token response (RFC 6749 §5.1). `expires_in` is in seconds, and at least 1.
pub fn build_response(access: &Secret, refresh: Option<&Secret>, expires_in: u64, scope: &Scopes) -> Value {
    let mut body = json!({
        "access_token": access.expose(),
        "token_type": "Bearer",
        "expires_in": expires_in.max(1),
    });
    if !scope.is_empty() {
        body["scope"] = json!(scope.to_string());
    }
    if let Some(refresh) = refresh {
        body["refresh_token"] = json!(refresh.expose());
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> Form {
        Form::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn basic_credentials_are_form_decoded() {
        let header = format!("Basic {}", STANDARD.encode("a%20b:s%3A%2Bx"));
        let credentials = ClientCredentials::parse(Some(&header), &form("")).unwrap();
        assert_eq!(
            (credentials.client_id.as_str(), credentials.secret.unwrap().expose()),
            ("a b", "s:+x")
        );
    }

    #[test]
    fn two_client_authentication_methods_in_one_request_are_refused() {
        let header = format!("Basic {}", STANDARD.encode("a:s"));
        assert_eq!(
            ClientCredentials::parse(Some(&header), &form("client_secret=s")).unwrap_err().code,
            OAuthErrorCode::InvalidRequest
        );
        assert_eq!(
            ClientCredentials::parse(Some(&header), &form("client_id=b")).unwrap_err().code,
            OAuthErrorCode::InvalidRequest
        );
        assert_eq!(
            ClientCredentials::parse(Some("Basic ???"), &form("")).unwrap_err().code,
            OAuthErrorCode::InvalidClient
        );
    }

    #[test]
    fn an_unsupported_grant_type_has_its_own_error_code() {
        assert_eq!(
            TokenRequest::parse(&form("grant_type=password")).unwrap_err().code,
            OAuthErrorCode::UnsupportedGrantType
        );
        assert_eq!(TokenRequest::parse(&form("")).unwrap_err().code, OAuthErrorCode::InvalidRequest);
        assert_eq!(
            TokenRequest::parse(&form("grant_type=refresh_token")).unwrap_err().code,
            OAuthErrorCode::InvalidRequest
        );
    }
}
