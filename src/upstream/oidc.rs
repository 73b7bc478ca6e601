//! Requests to an identity provider: its configuration, its keys, tokens, and data about the user.

use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, StatusCode};
use serde_json::Value;

use crate::base::secret::Secret;
use crate::base::time::UnixTime;
use crate::base::url::ExactUrl;
use crate::net::body::RequestBody;
use crate::net::dial::AddressPolicy;
use crate::net::http_client::HttpClient;
use crate::oauth::jwk::KeySet;
use crate::oauth::jwt::Claims;
use crate::oauth::openid_configuration::{self};
use crate::oauth::token_response::{TokenResponseError, UpstreamAccessToken, UpstreamRefreshToken, parse_token_response};
use crate::upstream::auth_server::AuthServer;
use crate::upstream::fetch::{FetchError, FetchResponse, fetch, fetch_document, get};
use crate::upstream::token_endpoint::{AuthorizeUrlParams, authorize_url, code_request, refresh_request};

/// Timeout of one request; a user waits for it.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// The scope for which a provider issues a refresh token (OpenID Connect Core, section 11).
pub const OFFLINE_ACCESS: &str = "offline_access";

/// The endpoints of an identity provider, discovered or configured.
#[derive(Clone, Debug)]
pub struct Provider {
    /// The OAuth endpoints, and the gateway's credentials there.
    pub target: AuthServer,
    /// How the provider identifies the user.
    pub speaks: IdentitySource,
}

/// How a provider identifies the user.
#[derive(Clone, Debug)]
pub enum IdentitySource {
    /// By an ID token.
    OpenId {
        /// The signing keys, `jwks_uri`.
        jwks: NamedEndpoint,
        /// The userinfo endpoint, for more claims.
        userinfo: Option<NamedEndpoint>,
    },
    /// By API calls with the access token.
    Plain {
        /// The endpoint that identifies the user.
        user: ExactUrl,
        /// The endpoint that lists the user's e-mail addresses.
        emails: ExactUrl,
        /// The base of the API, for memberships.
        api: String,
    },
}

/// An endpoint, and the addresses that it may have: any if it is configured.
#[derive(Clone, Debug)]
pub struct NamedEndpoint {
    /// Its URL.
    pub url: ExactUrl,
    addresses: AddressPolicy,
}

impl NamedEndpoint {
    /// The configured URL, or else the URL in the metadata with the addresses that this may name.
    pub(super) fn choose(configured: Option<&ExactUrl>, named: Option<ExactUrl>, addresses: &AddressPolicy) -> Option<Self> {
        match (configured, named) {
            (Some(url), _) => Some(Self {
                url: url.clone(),
                addresses: AddressPolicy::Anything,
            }),
            (None, named) => named.map(|url| Self {
                url,
                addresses: addresses.clone(),
            }),
        }
    }
}

/// What a userinfo endpoint sent (OpenID Connect Core, section 5.3.2).
pub enum UserinfoDocument {
    /// The claims as JSON.
    Claims(Claims),
    /// A signed token with the claims, not yet verified.
    Token(Secret),
}

/// The response of the token endpoint.
#[derive(Debug)]
pub struct IdpTokens {
    /// The access token for the user endpoint. It is used at once and never stored.
    pub access: UpstreamAccessToken,
    /// The ID token, not yet verified.
    pub id_token: Option<Secret>,
    /// The refresh token, if the provider gave one.
    pub refresh: Option<Secret>,
}

/// The reason why a request to a provider failed. The text is for logs and has no secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdpError {
    /// The provider is unavailable, or a response is unusable.
    #[error("{0}")]
    Down(String),
    /// The provider does not fit the gateway's configuration: issuer, client id or client secret.
    #[error("{0}")]
    Setup(String),
    /// The provider refused, or its response cannot be trusted.
    #[error("{0}")]
    Refused(String),
    /// The provider ended the user's session: it refused the refresh token for good.
    #[error("{0}")]
    SessionEnded(String),
}

impl From<FetchError> for IdpError {
    fn from(error: FetchError) -> Self {
        Self::Down(error.to_string())
    }
}

/// A provider's code, and what proves that it was issued to this gateway.
#[derive(Clone, Copy, Debug)]
pub struct IdpCode<'a> {
    /// The code.
    pub code: &'a Secret,
    /// The PKCE verifier (RFC 7636).
    pub verifier: &'a Secret,
    /// The redirect URI of the login.
    pub redirect_uri: &'a str,
}

/// What a login adds to an authorization request.
#[derive(Clone, Copy, Debug)]
pub struct LoginParams<'a> {
    /// The nonce of the ID token, URL-safe like `state`.
    pub nonce: &'a Secret,
    /// Whether the scope `offline_access` is requested, if the provider lists it or the operator does.
    pub is_offline: bool,
    /// How many seconds ago the user may have signed in; 0 requires a new sign-in.
    pub max_age: Option<u64>,
}

impl Provider {
    /// Whether a login with these scopes requests `offline_access`.
    pub fn requests_offline_access(&self, scopes: &[String]) -> bool {
        self.target.offline_access || scopes.iter().any(|scope| scope == OFFLINE_ACCESS)
    }

    /// The login URL (OpenID Connect Core, section 3.1.2.1).
    pub fn authorize_url(&self, params: &AuthorizeUrlParams<'_>, login: &LoginParams<'_>) -> String {
        let url = if login.is_offline {
            authorize_url(&self.target, params)
        } else {
            let scopes: Vec<String> = params.scopes.iter().filter(|scope| *scope != OFFLINE_ACCESS).cloned().collect();
            let target = AuthServer {
                offline_access: false,
                ..self.target.clone()
            };
            authorize_url(
                &target,
                &AuthorizeUrlParams {
                    scopes: &scopes,
                    ..*params
                },
            )
        };
        match self.speaks {
            IdentitySource::OpenId { .. } => {
                let (nonce, reauth) = (login.nonce.expose(), self.reauth_query(login.max_age));
                format!("{url}&nonce={nonce}{reauth}")
            }
            IdentitySource::Plain { .. } => url,
        }
    }

    /// What makes the provider ask the user again, unless the operator or the preset set it. Not every
    /// provider knows both parameters.
    fn reauth_query(&self, max_age: Option<u64>) -> String {
        let Some(max_age) = max_age else { return String::new() };
        let is_set = |name: &str| {
            let configured = self.target.extra_authorize.iter().any(|(other, _)| other == name);
            configured || self.target.profile.extra_authorize.iter().any(|(other, _)| *other == name)
        };
        let max_age_query = if is_set("max_age") {
            String::new()
        } else {
            format!("&max_age={max_age}")
        };
        let prompt = if max_age == 0 && !is_set("prompt") { "&prompt=login" } else { "" };
        format!("{max_age_query}{prompt}")
    }

    /// Exchanges a code, once: a retry may look like theft, and the user can sign in again.
    /// # Errors
    /// If the provider refuses the code, does not respond, or responds with no tokens.
    pub async fn redeem(&self, client: &HttpClient, code: IdpCode<'_>, now: UnixTime) -> Result<IdpTokens, IdpError> {
        let request = code_request(&self.target, code.code, code.verifier, code.redirect_uri, now)?;
        self.request_tokens(client, request, now).await.map_err(|error| match error {
            IdpError::SessionEnded(reason) => IdpError::Refused(reason),
            IdpError::Down(_) | IdpError::Setup(_) | IdpError::Refused(_) => error,
        })
    }

    /// Refreshes a user's session, once: the provider may have rotated the token although no response
    /// came.
    /// # Errors
    /// [`IdpError::SessionEnded`] if the provider refuses the token for good. Another error says nothing
    /// about the session.
    pub async fn refresh(&self, client: &HttpClient, token: &Secret, now: UnixTime) -> Result<IdpTokens, IdpError> {
        let request = refresh_request(&self.target, &UpstreamRefreshToken::new(token.clone()), None, now)?;
        self.request_tokens(client, request, now).await
    }

    async fn request_tokens(&self, client: &HttpClient, request: Request<RequestBody>, now: UnixTime) -> Result<IdpTokens, IdpError> {
        let response = fetch(client, request, &self.target.addresses, REQUEST_TIMEOUT).await?;
        let tokens =
            parse_token_response(response.status.as_u16(), response.content_type(), &response.body, now).map_err(|error| match error {
                TokenResponseError::Refused(refusal) if refusal.is_invalid_grant() => IdpError::SessionEnded(refusal.to_string()),
                TokenResponseError::Refused(refusal) if refusal.is_invalid_client() => IdpError::Setup(refusal.to_string()),
                TokenResponseError::Refused(refusal) => IdpError::Refused(refusal.to_string()),
                TokenResponseError::Temporary(reason) | TokenResponseError::Unreadable(reason) => IdpError::Down(reason),
            })?;
        Ok(IdpTokens {
            access: tokens.access,
            id_token: openid_configuration::id_token(&response.body),
            refresh: tokens.refresh.map(|token| Secret::from(token.expose())),
        })
    }

    /// Fetches the current signing keys.
    /// # Errors
    /// If the keys cannot be fetched or parsed.
    pub async fn fetch_keys(&self, client: &HttpClient, jwks: &NamedEndpoint) -> Result<KeySet, IdpError> {
        let url = &jwks.url;
        let response = fetch_document(client, url, &jwks.addresses, REQUEST_TIMEOUT).await?;
        let body = checked_body(url.as_str(), response)?;
        KeySet::parse(&body).map_err(|error| IdpError::Down(format!("{url}: {error}")))
    }

    /// Calls the userinfo endpoint (OpenID Connect Core, section 5.3).
    /// # Errors
    /// If the endpoint refuses, does not respond, or sends neither claims nor a token.
    pub async fn userinfo(
        &self,
        client: &HttpClient,
        endpoint: &NamedEndpoint,
        access: &UpstreamAccessToken,
    ) -> Result<UserinfoDocument, IdpError> {
        let url = &endpoint.url;
        let response = fetch(client, with_token(url, access)?, &endpoint.addresses, REQUEST_TIMEOUT).await?;
        let media_type = response.content_type().and_then(|text| text.split(';').next()).unwrap_or("").trim();
        let is_token = media_type.eq_ignore_ascii_case("application/jwt");
        let body = checked_body(url.as_str(), response)?;
        if is_token {
            let text = std::str::from_utf8(&body).map_err(|_| IdpError::Refused(format!("{url} sends no token")))?;
            return Ok(UserinfoDocument::Token(Secret::from(text.trim())));
        }
        match serde_json::from_slice(&body) {
            Ok(Value::Object(claims)) => Ok(UserinfoDocument::Claims(claims)),
            Ok(_) | Err(_) => Err(IdpError::Refused(format!("{url} does not answer with a JSON object"))),
        }
    }

    pub(super) async fn get_json(&self, client: &HttpClient, endpoint: &ExactUrl, access: &UpstreamAccessToken) -> Result<Value, IdpError> {
        let response = fetch(client, with_token(endpoint, access)?, &self.target.addresses, REQUEST_TIMEOUT).await?;
        let body = checked_body(endpoint.as_str(), response)?;
        serde_json::from_slice(&body).map_err(|_| IdpError::Refused(format!("{endpoint} does not answer in JSON")))
    }
}

/// A GET request with the user's token.
pub(super) fn with_token(endpoint: &ExactUrl, access: &UpstreamAccessToken) -> Result<Request<RequestBody>, IdpError> {
    let mut request = get(endpoint)?;
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", access.expose()))
        .map_err(|_| IdpError::Refused("the provider's token fits no header".to_owned()))?;
    bearer.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, bearer);
    Ok(request)
}

pub(super) fn checked_body(url: &str, FetchResponse { status, body, .. }: FetchResponse) -> Result<bytes::Bytes, IdpError> {
    match status {
        StatusCode::OK => Ok(body),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(IdpError::Refused(format!("{url} answered {}", status.as_u16()))),
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(IdpError::Setup(format!("{url} answered {}", status.as_u16()))),
        _ => Err(IdpError::Down(format!("{url} answered {}", status.as_u16()))),
    }
}
