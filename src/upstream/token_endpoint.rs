//! Requests to an upstream's authorization server: authorization URL, tokens, refresh, revocation.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request};
use tokio::time::Instant;
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::base::secret::Secret;
use crate::base::time::{Clock, UnixTime};
use crate::base::url::{ExactUrl, encode_query};
use crate::net::body::RequestBody;
use crate::net::dial::AddressPolicy;
use crate::net::http_client::HttpClient;
use crate::oauth::token_response::{
    OAuthErrorResponse, TokenResponseError, UpstreamRefreshToken, UpstreamTokens, parse_error_response, parse_token_response,
};
use crate::upstream::auth_server::{AuthServer, ClientAuth};
use crate::upstream::client_assertion;
use crate::upstream::fetch::{FetchError, FetchResponse, fetch, post};
use crate::upstream::quirks::OfflineAccess;

/// Timeout of [`send`]. The lease of a refresh lasts longer.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(60);
/// Timeout of [`send_with_retry`], with all its attempts and delays.
pub const TOTAL_TIMEOUT: Duration = Duration::from_secs(55);
const MAX_ATTEMPTS: u32 = 3;
/// The scope for which some servers issue a refresh token (OpenID Connect Core §11).
pub(super) const OFFLINE_ACCESS: &str = "offline_access";
/// The gateway does not wait for a longer `Retry-After` than this; the client gets it.
const MAX_RETRY_AFTER_SECONDS: u64 = 5;

/// The parameters of one authorization request (RFC 6749 §4.1.1, RFC 7636 §4.3).
#[derive(Clone, Copy, Debug)]
pub struct AuthorizeUrlParams<'a> {
    /// The gateway's own `state`, for one use.
    pub state: &'a str,
    /// The S256 challenge of the gateway's own verifier.
    pub challenge: &'a str,
    /// The gateway's callback URL.
    pub redirect_uri: &'a str,
    /// The scopes to request. If there are none at all, the parameter is omitted.
    pub scopes: &'a [String],
}

/// The URL of the upstream's login. It keeps the endpoint's own query (RFC 6749 §3.1), but repeats
/// no parameter: some servers refuse or misread a second `prompt` or `client_id`. Priority: the
/// gateway's parameters, then those of the operator, the endpoint and the profile.
pub fn authorize_url(target: &AuthServer, params: &AuthorizeUrlParams<'_>) -> String {
    let profile = target.profile;
    let mut own_params: Vec<(&str, String)> = vec![
        ("response_type", "code".to_owned()),
        ("client_id", target.client_id.clone()),
        ("redirect_uri", params.redirect_uri.to_owned()),
        ("state", params.state.to_owned()),
        ("code_challenge", params.challenge.to_owned()),
        ("code_challenge_method", "S256".to_owned()),
    ];
    let scope = scope_to_ask(target, params.scopes);
    if !scope.is_empty() {
        own_params.push((profile.scope_parameter, scope));
    }
    if let Some(resource) = &target.resource {
        own_params.push(("resource", resource.clone()));
    }
    let mut extra: Vec<(&str, &str)> = Vec::new();
    for (name, value) in &target.extra_authorize {
        let is_set =
            is_reserved_param(name) || own_params.iter().any(|(own, _)| own == name) || extra.iter().any(|(other, _)| other == name);
        if !is_set {
            extra.push((name, value));
        }
    }
    let (base, query) = target
        .authorization_endpoint
        .as_str()
        .split_once('?')
        .unwrap_or((target.authorization_endpoint.as_str(), ""));
    let has_param = |part: &str, name: &str| form_urlencoded::parse(part.as_bytes()).any(|(key, _)| key == name);
    let is_overridden =
        |part: &str| own_params.iter().any(|(own, _)| has_param(part, own)) || extra.iter().any(|(name, _)| has_param(part, name));
    let endpoint_params: Vec<&str> = query.split('&').filter(|part| !part.is_empty() && !is_overridden(part)).collect();
    for (name, value) in profile.extra_authorize {
        if !endpoint_params.iter().any(|part| has_param(part, name)) && !extra.iter().any(|(other, _)| other == name) {
            extra.push((name, value));
        }
    }
    let own_params = own_params.iter().map(|(name, value)| (*name, value.as_str()));
    let added_query = encode_query(own_params.chain(extra));
    let parts: Vec<&str> = endpoint_params.iter().copied().chain([added_query.as_str()]).collect();
    format!("{base}?{}", parts.join("&"))
}

/// Whether only the gateway may set this parameter. The flow's security depends on it, or it could
/// override the other parameters (RFC 9101) or send the response elsewhere.
pub fn is_reserved_param(name: &str) -> bool {
    const RESERVED_PARAMS: [&str; 12] = [
        "response_type",
        "response_mode",
        "client_id",
        "redirect_uri",
        "state",
        "nonce",
        "code_challenge",
        "code_challenge_method",
        "scope",
        "resource",
        "request",
        "request_uri",
    ];
    RESERVED_PARAMS.contains(&name)
}

/// The scopes of a request, in the form of the profile, with `offline_access` where it is useful.
pub(super) fn scope_to_ask(target: &AuthServer, scopes: &[String]) -> String {
    let profile = target.profile;
    let mut requested: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let add_offline = match profile.offline_access {
        // It is never the only scope: without the server's default scopes, the request would be refused.
        OfflineAccess::IfListed => target.offline_access && !requested.is_empty(),
        OfflineAccess::Always => true,
        OfflineAccess::Never => {
            requested.retain(|scope| *scope != OFFLINE_ACCESS);
            false
        }
    };
    if add_offline && !requested.contains(&OFFLINE_ACCESS) {
        requested.push(OFFLINE_ACCESS);
    }
    requested.join(profile.scope_separator)
}

/// The request that exchanges a code for tokens (RFC 6749 §4.1.3, RFC 7636 §4.5, RFC 8707 §2.2).
/// `now` is the current time, for a signed client assertion.
/// # Errors
/// If no request can be built from the configured URL, or the client secret or key cannot be used.
pub fn code_request(
    target: &AuthServer,
    code: &Secret,
    verifier: &Secret,
    redirect_uri: &str,
    now: UnixTime,
) -> Result<Request<RequestBody>, FetchError> {
    let mut form = TokenForm::new("authorization_code");
    form.add("code", code.expose());
    form.add("redirect_uri", redirect_uri);
    form.add("code_verifier", verifier.expose());
    form.resource(target);
    form.request(target, &target.token_endpoint, now)
}

/// The refresh request (RFC 6749 §6). The granted `scope` is sent only if the profile requires it.
/// # Errors
/// As [`code_request`].
pub fn refresh_request(
    target: &AuthServer,
    refresh: &UpstreamRefreshToken,
    scope: Option<&str>,
    now: UnixTime,
) -> Result<Request<RequestBody>, FetchError> {
    let mut form = TokenForm::new("refresh_token");
    form.add("refresh_token", refresh.expose());
    if let (true, Some(scope)) = (target.profile.scope_on_refresh, scope) {
        form.add("scope", scope);
    }
    form.resource(target);
    form.request(target, &target.token_endpoint, now)
}

/// The token that [`revoke_request`] revokes (RFC 7009 §2.1).
#[derive(Clone, Copy, Debug)]
pub enum TokenToRevoke<'a> {
    /// An access token, sent with the hint `access_token`.
    Access(&'a crate::oauth::token_response::UpstreamAccessToken),
    /// A refresh token, sent with the hint `refresh_token`.
    Refresh(&'a UpstreamRefreshToken),
}

/// The revocation request (RFC 7009 §2.1). `None`: the upstream has no revocation endpoint.
pub fn revoke_request(target: &AuthServer, token: TokenToRevoke<'_>, now: UnixTime) -> Option<Result<Request<RequestBody>, FetchError>> {
    let endpoint = target.revocation_endpoint.as_ref()?;
    let (text, hint) = match token {
        TokenToRevoke::Access(token) => (token.expose(), "access_token"),
        TokenToRevoke::Refresh(token) => (token.expose(), "refresh_token"),
    };
    let mut form = TokenForm::default();
    form.add("token", text);
    form.add("token_type_hint", hint);
    Some(form.request(target, endpoint, now))
}

/// A form body, wiped on drop. The copy in the sent request is not wiped.
#[derive(Default)]
pub(super) struct TokenForm(Zeroizing<String>);

impl TokenForm {
    pub(super) fn new(grant_type: &str) -> Self {
        let mut form = Self::default();
        form.add("grant_type", grant_type);
        form
    }

    pub(super) fn add(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        self.0.extend(form_urlencoded::byte_serialize(value.as_bytes()));
    }

    pub(super) fn resource(&mut self, target: &AuthServer) {
        if let Some(resource) = &target.resource {
            self.add("resource", resource);
        }
    }

    /// Authenticates by exactly one method: RFC 6749 §2.3 forbids two.
    pub(super) fn request(mut self, target: &AuthServer, endpoint: &ExactUrl, now: UnixTime) -> Result<Request<RequestBody>, FetchError> {
        match &target.client_auth {
            ClientAuth::None => self.add("client_id", &target.client_id),
            ClientAuth::Basic(_) | ClientAuth::ByGrant => {}
            ClientAuth::Post(secret) => {
                self.add("client_id", &target.client_id);
                self.add("client_secret", secret.expose());
            }
            ClientAuth::PrivateKeyJwt(key) => {
                let assertion = client_assertion::sign(target, key, now)?;
                self.add("client_id", &target.client_id);
                self.add("client_assertion_type", client_assertion::ASSERTION_TYPE);
                self.add("client_assertion", assertion.expose());
            }
        }
        let mut request = post(endpoint, "application/x-www-form-urlencoded", self.0.as_bytes().to_vec())?;
        if let ClientAuth::Basic(secret) = &target.client_auth {
            let value = basic(&target.client_id, secret.expose())?;
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        Ok(request)
    }
}

/// Form-encodes both parts first (RFC 6749 §2.3.1): a secret may contain `:` or `+`. `~` is unreserved
/// (RFC 3986 §2.3) and stays, for servers that do not decode.
fn basic(id: &str, secret: &str) -> Result<HeaderValue, FetchError> {
    let encode = |text: &str, pair: &mut String| {
        for part in form_urlencoded::byte_serialize(text.as_bytes()) {
            pair.push_str(if part == "%7E" { "~" } else { part });
        }
    };
    let mut pair = Zeroizing::new(String::new());
    encode(id, &mut pair);
    pair.push(':');
    encode(secret, &mut pair);
    let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(&*pair)));
    let mut value = HeaderValue::from_str(&text).map_err(|_| FetchError::NeverSent("the client secret fits no header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The reason why a token request failed. Each variant says whether the upstream may have processed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenEndpointError {
    /// The request was not processed: there was no connection, or the address is forbidden.
    #[error("the upstream cannot be reached: {0}")]
    NeverSent(String),
    /// Status 429 or 503: the upstream says that it did not process the request.
    #[error("the upstream asks to try again later")]
    Throttled {
        /// The upstream's `Retry-After`, in seconds.
        retry_after: Option<u64>,
    },
    /// The request may have been processed: timeout, broken connection, 5xx, or an unreadable response.
    #[error("no usable answer of the upstream: {0}")]
    Unknown(String),
    /// The upstream's OAuth error, which is final.
    #[error("{0}")]
    Refused(OAuthErrorResponse),
}

impl From<FetchError> for TokenEndpointError {
    fn from(failure: FetchError) -> Self {
        match failure {
            FetchError::NeverSent(reason) | FetchError::NoAddress(reason) => Self::NeverSent(reason),
            FetchError::Unknown(reason) => Self::Unknown(reason),
        }
    }
}

/// Sends one token request, once. `now` is the current time; token lifetimes count from it.
/// # Errors
/// [`TokenEndpointError`], which says whether the request may have been processed.
pub async fn send(
    client: &HttpClient,
    request: Request<RequestBody>,
    addresses: &AddressPolicy,
    now: UnixTime,
) -> Result<UpstreamTokens, TokenEndpointError> {
    send_within(client, request, addresses, now, ATTEMPT_TIMEOUT).await
}

async fn send_within(
    client: &HttpClient,
    request: Request<RequestBody>,
    addresses: &AddressPolicy,
    now: UnixTime,
    timeout: Duration,
) -> Result<UpstreamTokens, TokenEndpointError> {
    let response = fetch(client, request, addresses, timeout).await?;
    check_throttling(&response)?;
    parse_token_response(response.status.as_u16(), response.content_type(), &response.body, now).map_err(|failure| match failure {
        TokenResponseError::Refused(refusal) => TokenEndpointError::Refused(refusal),
        TokenResponseError::Temporary(reason) | TokenResponseError::Unreadable(reason) => TokenEndpointError::Unknown(reason),
    })
}

fn check_throttling(response: &FetchResponse) -> Result<(), TokenEndpointError> {
    match response.status.as_u16() {
        429 | 503 => Err(TokenEndpointError::Throttled {
            retry_after: response.retry_after(),
        }),
        _ => Ok(()),
    }
}

/// Sends the request that `build` makes for the current time, at most three times in 55 s. Retries only what the
/// upstream certainly did not process.
/// # Errors
/// The error of the last attempt. `Unknown` and `Refused` are never retried.
pub async fn send_with_retry<B>(
    client: &HttpClient,
    clock: &Clock,
    addresses: &AddressPolicy,
    build: B,
) -> Result<UpstreamTokens, TokenEndpointError>
where
    B: Fn(UnixTime) -> Result<Request<RequestBody>, FetchError>,
{
    let deadline = Instant::now() + TOTAL_TIMEOUT;
    let mut attempt = 1;
    loop {
        let remaining = deadline.saturating_duration_since(Instant::now());
        let now = clock.now();
        let failure = match send_within(client, build(now)?, addresses, now, remaining).await {
            Ok(tokens) => return Ok(tokens),
            Err(failure) => failure,
        };
        let delay = if attempt < MAX_ATTEMPTS {
            wait_after(&failure, attempt)
        } else {
            None
        };
        match delay {
            // Without time left, a further attempt would only turn "not sent" into "unknown".
            Some(delay) if Instant::now() + delay + Duration::from_secs(5) < deadline => tokio::time::sleep(delay).await,
            Some(_) | None => return Err(failure),
        }
        attempt += 1;
    }
}

/// The delay before the next attempt. `None`: the gateway must not retry, or must not wait.
fn wait_after(failure: &TokenEndpointError, attempt: u32) -> Option<Duration> {
    match failure {
        TokenEndpointError::NeverSent(_) | TokenEndpointError::Throttled { retry_after: None } => {
            Some(Duration::from_millis(300) * attempt * attempt)
        }
        TokenEndpointError::Throttled {
            retry_after: Some(seconds),
        } if *seconds <= MAX_RETRY_AFTER_SECONDS => Some(Duration::from_secs(*seconds)),
        TokenEndpointError::Throttled { retry_after: Some(_) } | TokenEndpointError::Unknown(_) | TokenEndpointError::Refused(_) => None,
    }
}

/// Revokes a token, once. For an unknown token the upstream reports success (RFC 7009 §2.2).
/// # Errors
/// [`TokenEndpointError`], as for a token request.
pub async fn revoke(client: &HttpClient, request: Request<RequestBody>, addresses: &AddressPolicy) -> Result<(), TokenEndpointError> {
    let response = fetch(client, request, addresses, Duration::from_secs(15)).await?;
    check_throttling(&response)?;
    if response.status.is_success() {
        return Ok(());
    }
    let unknown = || TokenEndpointError::Unknown(format!("the revocation endpoint answered {}", response.status.as_u16()));
    Err(parse_error_response(&response.body).map_or_else(unknown, TokenEndpointError::Refused))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use http_body_util::BodyExt;
    use serde_json::json;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::oauth::token_response::UpstreamAccessToken;
    use crate::upstream::auth_server::TokenEndpointAuth;
    use crate::upstream::quirks::{self, Profile};
    use crate::upstream::test_support;

    fn at(text: &str) -> ExactUrl {
        ExactUrl::parse(text).unwrap()
    }

    fn target(profile: &'static Profile, auth_method: TokenEndpointAuth) -> AuthServer {
        AuthServer {
            mcp: at("https://h/mcp"),
            issuer: "https://as".to_owned(),
            iss_promised: false,
            authorization_endpoint: at("https://as/authorize"),
            token_endpoint: at("https://as/token"),
            revocation_endpoint: Some(at("https://as/revoke")),
            device_authorization_endpoint: None,
            client_id: "id:1".to_owned(),
            client_auth: ClientAuth::with_secret(auth_method, Some(Secret::from("s+cret %/&"))),
            resource: profile.send_resource.then(|| "https://h/mcp".to_owned()),
            issuer_is_guess: false,
            profile,
            extra_authorize: Vec::new(),
            addresses: AddressPolicy::Anything,
            scopes_known: Vec::new(),
            offline_access: false,
        }
    }

    fn pairs(query: &str) -> Vec<(String, String)> {
        form_urlencoded::parse(query.as_bytes()).into_owned().collect()
    }

    fn all<'a>(pairs: &'a [(String, String)], name: &str) -> Vec<&'a str> {
        pairs
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    fn asked(target: &AuthServer, scopes: &[&str]) -> Vec<(String, String)> {
        let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let params = AuthorizeUrlParams {
            state: "st",
            challenge: "ch",
            redirect_uri: "http://localhost:8002/upstream/callback",
            scopes: &scopes,
        };
        let url = authorize_url(target, &params);
        pairs(url.split_once('?').unwrap().1)
    }

    async fn form(request: Request<RequestBody>) -> Vec<(String, String)> {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        pairs(std::str::from_utf8(&body).unwrap())
    }

    #[test]
    fn the_authorize_url_has_exactly_the_required_parameters() {
        let query = asked(&target(&quirks::STANDARD, TokenEndpointAuth::None), &["a", "b"]);
        for (name, value) in [
            ("response_type", "code"),
            ("client_id", "id:1"),
            ("redirect_uri", "http://localhost:8002/upstream/callback"),
            ("state", "st"),
            ("code_challenge", "ch"),
            ("code_challenge_method", "S256"),
            ("scope", "a b"),
            ("resource", "https://h/mcp"),
        ] {
            assert_eq!(all(&query, name), [value], "{name}");
        }
        assert_eq!(query.len(), 8);
    }

    #[test]
    fn the_authorize_url_preserves_the_endpoint_query_without_duplicates() {
        let mut target = target(&quirks::GOOGLE, TokenEndpointAuth::None);
        target.authorization_endpoint = at("https://as/authorize?audience=a%2Fb&prompt=login&client%5Fid=evil&state=x&");
        let params = AuthorizeUrlParams {
            state: "st",
            challenge: "ch",
            redirect_uri: "https://g/cb",
            scopes: &[],
        };
        let url = authorize_url(&target, &params);
        assert!(
            url.starts_with("https://as/authorize?audience=a%2Fb&prompt=login&response_type=code&client_id=id%3A1&"),
            "{url}"
        );
        let query = pairs(url.split_once('?').unwrap().1);
        assert_eq!(all(&query, "prompt"), ["login"]);
        assert_eq!(all(&query, "client_id"), ["id:1"]);
        assert_eq!(all(&query, "state"), ["st"]);
        assert_eq!(all(&query, "access_type"), ["offline"]);
        assert_eq!(all(&query, "scope"), [""; 0]);
    }

    #[test]
    fn offline_access_is_requested_only_where_the_upstream_supports_it() {
        let mut standard = target(&quirks::STANDARD, TokenEndpointAuth::None);
        assert_eq!(all(&asked(&standard, &["a"]), "scope"), ["a"]);
        standard.offline_access = true;
        assert_eq!(all(&asked(&standard, &["a"]), "scope"), ["a offline_access"]);
        assert_eq!(all(&asked(&standard, &["offline_access"]), "scope"), ["offline_access"]);
        assert_eq!(
            all(&asked(&target(&quirks::ENTRA, TokenEndpointAuth::None), &["a"]), "scope"),
            ["a offline_access"]
        );
        let mut google = target(&quirks::GOOGLE, TokenEndpointAuth::None);
        google.offline_access = true;
        assert_eq!(all(&asked(&google, &["a", "offline_access"]), "scope"), ["a"]);
    }

    #[test]
    fn a_profile_can_drop_resource_and_rename_scope() {
        assert_eq!(
            all(&asked(&target(&quirks::ENTRA, TokenEndpointAuth::None), &[]), "resource"),
            [""; 0]
        );
        let slack = asked(&target(&quirks::SLACK, TokenEndpointAuth::None), &["a", "b"]);
        assert_eq!((all(&slack, "user_scope"), all(&slack, "scope")), (vec!["a,b"], vec![]));
    }

    #[test]
    fn extra_parameters_are_sent_once_and_never_override_reserved_ones() {
        let mut auth0 = target(&quirks::AUTH0, TokenEndpointAuth::None);
        auth0.authorization_endpoint = at("https://as/authorize?audience=wrong&ui=1");
        assert_eq!(all(&asked(&auth0, &["a"]), "audience"), ["wrong"]);
        let default_query = asked(&auth0, &["a"]);
        auth0.extra_authorize = [
            ("audience", "https://api.example.com/?a=b&c"),
            ("audience", "twice"),
            ("state", "theirs"),
            ("code_challenge", "theirs"),
            ("code_challenge_method", "plain"),
            ("redirect_uri", "https://evil.example"),
            ("client_id", "theirs"),
            ("response_type", "token"),
            ("response_mode", "fragment"),
            ("scope", "all"),
            ("resource", "https://elsewhere.example"),
            ("request_uri", "https://elsewhere.example"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        let query = asked(&auth0, &["a"]);
        for (name, value) in default_query.iter().filter(|(name, _)| name != "audience") {
            assert_eq!(all(&query, name), [value.as_str()], "{name}");
        }
        assert_eq!(all(&query, "audience"), ["https://api.example.com/?a=b&c"]);
        for reserved in ["resource", "request_uri", "response_mode"] {
            assert_eq!(all(&query, reserved), [""; 0], "{reserved}");
        }
        let mut slack = target(&quirks::SLACK, TokenEndpointAuth::None);
        slack.extra_authorize = vec![("user_scope".to_owned(), "admin".to_owned())];
        assert_eq!(all(&asked(&slack, &["a"]), "user_scope"), ["a"]);
        let mut google = target(&quirks::GOOGLE, TokenEndpointAuth::None);
        google.extra_authorize = vec![("prompt".to_owned(), "select_account".to_owned())];
        let google = asked(&google, &["a"]);
        assert_eq!(
            (all(&google, "prompt"), all(&google, "access_type")),
            (vec!["select_account"], vec!["offline"])
        );
    }

    #[test]
    fn only_profiles_with_quirks_change_the_authorize_url() {
        let standard: Vec<(String, String)> = asked(&target(&quirks::STANDARD, TokenEndpointAuth::None), &["a"]);
        for profile in [
            &quirks::NOTION,
            &quirks::LINEAR,
            &quirks::KEYCLOAK,
            &quirks::OKTA,
            &quirks::SLACK_MCP,
            &quirks::ATLASSIAN_MCP,
        ] {
            assert_eq!(
                asked(&target(profile, TokenEndpointAuth::None), &["a"]),
                standard,
                "{}",
                profile.name
            );
        }
        let atlassian = asked(&target(&quirks::ATLASSIAN, TokenEndpointAuth::None), &["a"]);
        assert_eq!(
            (all(&atlassian, "audience"), all(&atlassian, "prompt"), all(&atlassian, "resource")),
            (vec!["api.atlassian.com"], vec!["consent"], vec![])
        );
        assert_eq!(all(&atlassian, "scope"), ["a offline_access"]);
        let mut cognito = target(&quirks::COGNITO, TokenEndpointAuth::None);
        cognito.offline_access = true;
        assert_eq!(all(&asked(&cognito, &["a", "offline_access"]), "scope"), ["a"]);
    }

    #[tokio::test]
    async fn a_token_request_uses_exactly_one_client_authentication_method() {
        let code = |method| {
            let request = code_request(
                &target(&quirks::STANDARD, method),
                &Secret::from("c"),
                &Secret::from("v"),
                "https://g/cb",
                UnixTime(1_000),
            );
            request.unwrap()
        };
        let basic = code(TokenEndpointAuth::Basic);
        assert_eq!(
            basic.headers()["authorization"],
            format!("Basic {}", STANDARD.encode("id%3A1:s%2Bcret+%25%2F%26"))
        );
        assert!(basic.headers()["authorization"].is_sensitive());
        assert_eq!(basic.headers()["accept"], "application/json");
        assert!(basic.headers()["user-agent"].to_str().unwrap().starts_with("mcp-oauth-gateway/"));
        let fields = form(basic).await;
        assert_eq!((all(&fields, "client_id"), all(&fields, "client_secret")), (vec![], vec![]));
        assert_eq!(all(&fields, "code_verifier"), ["v"]);
        assert_eq!(all(&fields, "resource"), ["https://h/mcp"]);

        let post = code(TokenEndpointAuth::Post);
        assert!(!post.headers().contains_key("authorization"));
        let fields = form(post).await;
        assert_eq!(
            (all(&fields, "client_id"), all(&fields, "client_secret")),
            (vec!["id:1"], vec!["s+cret %/&"])
        );

        let none = code(TokenEndpointAuth::None);
        assert!(!none.headers().contains_key("authorization"));
        let fields = form(none).await;
        assert_eq!((all(&fields, "client_id"), all(&fields, "client_secret")), (vec!["id:1"], vec![]));
    }

    #[tokio::test]
    async fn a_refresh_repeats_the_scope_only_if_the_profile_requires_it() {
        let refresh = UpstreamRefreshToken::new(Secret::from("r"));
        let request = |profile| refresh_request(&target(profile, TokenEndpointAuth::None), &refresh, Some("a b"), UnixTime(1_000)).unwrap();
        let standard = form(request(&quirks::STANDARD)).await;
        assert_eq!(
            (all(&standard, "scope"), all(&standard, "resource")),
            (vec![], vec!["https://h/mcp"])
        );
        assert_eq!(
            (all(&standard, "grant_type"), all(&standard, "refresh_token")),
            (vec!["refresh_token"], vec!["r"])
        );
        let entra = form(request(&quirks::ENTRA)).await;
        assert_eq!((all(&entra, "scope"), all(&entra, "resource")), (vec!["a b"], vec![]));
    }

    #[tokio::test]
    async fn a_token_is_revoked_only_if_a_revocation_endpoint_exists() {
        let mut target = target(&quirks::STANDARD, TokenEndpointAuth::None);
        let access = UpstreamAccessToken::new(Secret::from("a"));
        let fields = form(
            revoke_request(&target, TokenToRevoke::Access(&access), UnixTime(1_000))
                .unwrap()
                .unwrap(),
        )
        .await;
        assert_eq!(
            (all(&fields, "token"), all(&fields, "token_type_hint")),
            (vec!["a"], vec!["access_token"])
        );
        target.revocation_endpoint = None;
        assert!(revoke_request(&target, TokenToRevoke::Access(&access), UnixTime(1_000)).is_none());
    }

    #[test]
    fn debug_output_of_a_target_hides_the_client_secret() {
        assert!(!format!("{:?}", target(&quirks::STANDARD, TokenEndpointAuth::Post)).contains("s+cret"));
    }

    fn clock() -> Clock {
        Clock::Fixed(Arc::new(AtomicU64::new(1_000)))
    }

    async fn asked_of(stub: &test_support::Stub) -> Result<UpstreamTokens, TokenEndpointError> {
        let mut target = target(&quirks::STANDARD, TokenEndpointAuth::None);
        target.token_endpoint = stub.at("/token");
        let refresh = UpstreamRefreshToken::new(Secret::from("r"));
        let build = |now| refresh_request(&target, &refresh, None, now);
        send_with_retry(&test_support::client(), &clock(), &target.addresses, build).await
    }

    #[tokio::test]
    async fn a_throttled_token_request_is_sent_again() {
        let stub = test_support::serve(|request| match request.before {
            0 => (429, vec![("retry-after", "0".to_owned())], "<html>".to_owned()),
            1 => (503, vec![], String::new()),
            _ => test_support::json(200, &json!({"access_token": "a", "expires_in": 60})),
        });
        let stub = stub.await;
        assert_eq!(asked_of(&stub).await.unwrap().expires, Some(UnixTime(1_060)));
        assert_eq!(stub.seen().len(), 3);
    }

    #[tokio::test]
    async fn retries_of_a_throttled_token_request_are_limited() {
        let stub = test_support::serve(|_| (503, vec![("retry-after", "0".to_owned())], String::new())).await;
        assert_eq!(
            asked_of(&stub).await.unwrap_err(),
            TokenEndpointError::Throttled { retry_after: Some(0) }
        );
        assert_eq!(stub.seen().len(), 3);
        let stub = test_support::serve(|_| (429, vec![("retry-after", "60".to_owned())], String::new())).await;
        assert_eq!(
            asked_of(&stub).await.unwrap_err(),
            TokenEndpointError::Throttled { retry_after: Some(60) }
        );
        assert_eq!(stub.seen().len(), 1);
    }

    #[tokio::test]
    async fn a_possibly_processed_token_request_is_never_sent_again() {
        for (status, body) in [(500, "oops"), (502, "<html>"), (403, "<html>"), (200, "<html>"), (302, "")] {
            let stub = test_support::serve(move |_| (status, vec![("location", "/elsewhere".to_owned())], body.to_owned())).await;
            assert!(matches!(asked_of(&stub).await, Err(TokenEndpointError::Unknown(_))), "{status}");
            assert_eq!(stub.seen().len(), 1, "{status}");
        }
        let big = test_support::serve(|_| test_support::json(200, &"x".repeat(300 * 1024))).await;
        assert!(matches!(asked_of(&big).await, Err(TokenEndpointError::Unknown(_))));
    }

    #[tokio::test]
    async fn a_token_endpoint_refusal_is_final_in_any_status() {
        for status in [200, 400, 401] {
            let stub = test_support::serve(move |_| test_support::json(status, &json!({"error": "invalid_grant"}))).await;
            assert!(matches!(asked_of(&stub).await, Err(TokenEndpointError::Refused(refusal)) if refusal.is_invalid_grant()));
            assert_eq!(stub.seen().len(), 1);
        }
    }

    #[tokio::test]
    async fn a_lost_connection_leaves_the_outcome_unknown_only_after_sending() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/token", listener.local_addr().unwrap());
        let server_task = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let received = socket.read(&mut [0; 1024]).await.unwrap();
            assert!(received > 0);
        });
        let mut target = target(&quirks::STANDARD, TokenEndpointAuth::None);
        target.token_endpoint = at(&base);
        let refresh = UpstreamRefreshToken::new(Secret::from("r"));
        let build = || refresh_request(&target, &refresh, None, UnixTime(0)).unwrap();
        let client = test_support::client();
        let interrupted = send(&client, build(), &target.addresses, UnixTime(0)).await;
        assert!(matches!(interrupted, Err(TokenEndpointError::Unknown(_))), "{interrupted:?}");
        server_task.await.unwrap();
        let unreachable = send(&client, build(), &target.addresses, UnixTime(0)).await;
        assert!(matches!(unreachable, Err(TokenEndpointError::NeverSent(_))), "{unreachable:?}");
        let refused = send(&client, build(), &AddressPolicy::Public { loopback: false }, UnixTime(0)).await;
        assert!(matches!(refused, Err(TokenEndpointError::NeverSent(_))), "{refused:?}");
    }

    #[tokio::test]
    async fn revoking_an_upstream_token_reports_the_outcome() {
        let stub = test_support::serve(|request| match request.before {
            0 => (200, vec![], String::new()),
            1 => test_support::json(400, &json!({"error": "unsupported_token_type"})),
            _ => (404, vec![], "<html>".to_owned()),
        });
        let stub = stub.await;
        let mut target = target(&quirks::STANDARD, TokenEndpointAuth::None);
        target.revocation_endpoint = Some(stub.at("/revoke"));
        let access = UpstreamAccessToken::new(Secret::from("a"));
        let build = || {
            revoke_request(&target, TokenToRevoke::Access(&access), UnixTime(1_000))
                .unwrap()
                .unwrap()
        };
        let client = test_support::client();
        assert_eq!(revoke(&client, build(), &target.addresses).await, Ok(()));
        assert!(matches!(
            revoke(&client, build(), &target.addresses).await,
            Err(TokenEndpointError::Refused(_))
        ));
        assert!(matches!(
            revoke(&client, build(), &target.addresses).await,
            Err(TokenEndpointError::Unknown(_))
        ));
    }
}
