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
use crate::oauth::openid_configuration::{self, OpenIdConfiguration};
use crate::oauth::token_response::{TokenResponseError, UpstreamAccessToken, UpstreamRefreshToken, parse_token_response};
use crate::oauth::userinfo::UserInfo;
use crate::upstream::auth_server::{AuthServer, TokenEndpointAuth};
use crate::upstream::fetch::{FetchError, FetchResponse, fetch, fetch_with_peer, get};
use crate::upstream::idp::{Idp, UserApi};
use crate::upstream::token_endpoint::{AuthorizeUrlParams, authorize_url, code_request, refresh_request};

/// Timeout of one request; a user waits for it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

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
        /// The URL of the signing keys, `jwks_uri`.
        jwks: ExactUrl,
        /// The userinfo endpoint, for more claims.
        userinfo: Option<ExactUrl>,
    },
    /// By API calls with the access token.
    Plain {
        /// The endpoint that identifies the user.
        user: ExactUrl,
        /// The endpoint that lists the user's e-mail addresses.
        emails: ExactUrl,
    },
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

/// Why a request to a provider failed. The text is for logs and has no secrets.
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

/// Finds a provider's endpoints: in its OpenID configuration, or in the gateway's configuration.
/// # Errors
/// If the OpenID configuration cannot be fetched or is unusable.
pub async fn discover(client: &HttpClient, idp: &Idp) -> Result<Provider, IdpError> {
    if let Some(plain) = &idp.plain {
        return Ok(from_config(idp, plain));
    }
    let url = openid_configuration::configuration_url(&idp.issuer);
    let url = ExactUrl::parse(&url).map_err(|error| IdpError::Down(format!("{url} {error}")))?;
    // The operator named the issuer: any address is allowed. The document's endpoints are limited.
    let (response, peer) = fetch_with_peer(client, get(&url)?, REQUEST_TIMEOUT).await?;
    let body = checked_body(url.as_str(), response)?;
    let configuration = OpenIdConfiguration::parse(&body, &idp.issuer).map_err(|error| IdpError::Setup(format!("{url}: {error}")))?;
    let plain_http = idp.issuer.url().scheme() == "http";
    let addresses = AddressPolicy::for_upstream_at(&[peer], plain_http, idp.allow_addresses.as_slice().into());
    let server = configuration.server;
    let auth_method = TokenEndpointAuth::choose(&server.auth_methods, idp.client_secret.is_some());
    let target = AuthServer {
        iss_promised: server.iss_promised,
        authorization_endpoint: server.authorization_endpoint,
        token_endpoint: server.token_endpoint,
        auth_method,
        addresses,
        offline_access: server.scopes_supported.iter().any(|scope| scope == OFFLINE_ACCESS),
        ..target(idp)
    };
    let identity_source = IdentitySource::OpenId {
        jwks: configuration.jwks,
        userinfo: configuration.userinfo,
    };
    Ok(Provider {
        target,
        speaks: identity_source,
    })
}

fn from_config(idp: &Idp, plain: &UserApi) -> Provider {
    Provider {
        target: AuthServer {
            authorization_endpoint: plain.authorize.clone(),
            token_endpoint: plain.token.clone(),
            auth_method: if idp.client_secret.is_some() {
                TokenEndpointAuth::Post
            } else {
                TokenEndpointAuth::None
            },
            ..target(idp)
        },
        speaks: IdentitySource::Plain {
            user: plain.user.clone(),
            emails: plain.emails.clone(),
        },
    }
}

/// The fields that all providers have in common. Both endpoints are placeholders.
fn target(idp: &Idp) -> AuthServer {
    AuthServer {
        mcp: idp.issuer.clone(),
        issuer: idp.issuer.to_string(),
        iss_promised: false,
        authorization_endpoint: idp.issuer.clone(),
        token_endpoint: idp.issuer.clone(),
        revocation_endpoint: None,
        client_id: idp.client_id.clone(),
        client_secret: idp.client_secret.clone(),
        auth_method: TokenEndpointAuth::None,
        resource: String::new(),
        profile: idp.preset.profile,
        extra_authorize: idp.extra_authorize.clone(),
        addresses: AddressPolicy::Anything,
        scopes_known: Vec::new(),
        offline_access: false,
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
        let request = code_request(&self.target, code.code, code.verifier, code.redirect_uri)?;
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
        let request = refresh_request(&self.target, &UpstreamRefreshToken::new(token.clone()), None)?;
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
    pub async fn fetch_keys(&self, client: &HttpClient, jwks: &ExactUrl) -> Result<KeySet, IdpError> {
        let body = fetched(client, get(jwks)?, &self.target.addresses).await?;
        KeySet::parse(&body).map_err(|error| IdpError::Down(format!("{jwks}: {error}")))
    }

    /// Calls the userinfo endpoint (OpenID Connect Core, section 5.3).
    /// # Errors
    /// If the endpoint refuses, does not respond, or names no user.
    pub async fn userinfo(
        &self,
        client: &HttpClient,
        endpoint: &ExactUrl,
        access: &UpstreamAccessToken,
        groups: &str,
    ) -> Result<UserInfo, IdpError> {
        let document = self.get_json(client, endpoint, access).await?;
        let user = document.as_object().and_then(|claims| UserInfo::from_claims(claims, groups));
        user.ok_or_else(|| IdpError::Refused(format!("{endpoint} names no user")))
    }

    /// Calls GitHub's two endpoints for the user and the e-mail addresses.
    /// # Errors
    /// As [`Self::userinfo`].
    pub async fn fetch_user(
        &self,
        client: &HttpClient,
        user: &ExactUrl,
        emails: &ExactUrl,
        access: &UpstreamAccessToken,
    ) -> Result<UserInfo, IdpError> {
        let (user, emails) = (
            self.get_json(client, user, access).await?,
            self.get_json(client, emails, access).await?,
        );
        UserInfo::from_github(&user, &emails).ok_or_else(|| IdpError::Refused("the user endpoint names no user".to_owned()))
    }

    async fn get_json(&self, client: &HttpClient, endpoint: &ExactUrl, access: &UpstreamAccessToken) -> Result<Value, IdpError> {
        let mut request = get(endpoint)?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", access.expose()))
            .map_err(|_| IdpError::Refused("the provider's token fits no header".to_owned()))?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, bearer);
        let body = fetched(client, request, &self.target.addresses).await?;
        serde_json::from_slice(&body).map_err(|_| IdpError::Refused(format!("{endpoint} does not answer in JSON")))
    }
}

async fn fetched(client: &HttpClient, request: Request<RequestBody>, addresses: &AddressPolicy) -> Result<bytes::Bytes, IdpError> {
    let url = request.uri().to_string();
    checked_body(&url, fetch(client, request, addresses, REQUEST_TIMEOUT).await?)
}

fn checked_body(url: &str, FetchResponse { status, body, .. }: FetchResponse) -> Result<bytes::Bytes, IdpError> {
    match status {
        StatusCode::OK => Ok(body),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(IdpError::Refused(format!("{url} answered {}", status.as_u16()))),
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(IdpError::Setup(format!("{url} answered {}", status.as_u16()))),
        _ => Err(IdpError::Down(format!("{url} answered {}", status.as_u16()))),
    }
}
