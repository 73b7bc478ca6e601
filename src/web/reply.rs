//! Responses: JSON for programs, a challenge at the MCP endpoint, pages for browsers.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use serde_json::{Value, json};

use crate::app::endpoint::ServiceEndpoint;
use crate::app::error::Rejection;
use crate::app::proxy::error::ProxyError;
use crate::base::ids::Id;
use crate::net::body::ResponseBody;
use crate::oauth::bearer;
use crate::oauth::error::{OAuthErrorCode, description};
use crate::oauth::scope::Scopes;
use crate::observe::refusal_limit::REFUSALS;
use crate::web::guard::CorsPolicy;
use crate::web::pages::{self, Asset};
use crate::web::routes::MCP_METHODS;

/// A response of the gateway.
pub type HttpResponse = Response<ResponseBody>;

/// A random reference, which an error page shows and the log repeats.
pub fn reference() -> String {
    Id::random().to_string()[..10].to_owned()
}

/// A JSON response that is never cached.
pub fn json(status: StatusCode, value: &Value) -> HttpResponse {
    let mut response = response(status, "application/json", Bytes::from(value.to_string()));
    put(&mut response, header::CACHE_CONTROL, "no-store");
    response
}

/// A JSON metadata document, which may be cached for five minutes.
pub fn document(value: &Value) -> HttpResponse {
    let mut response = response(StatusCode::OK, "application/json", Bytes::from(value.to_string()));
    put(&mut response, header::CACHE_CONTROL, "public, max-age=300");
    response
}

/// An OAuth error as JSON (RFC 6749 §5.2).
pub fn oauth_error(rejection: &Rejection) -> HttpResponse {
    let code = rejection.code();
    tracing::info!(target: REFUSALS, error = code.as_str(), reason = ?rejection.to_string(), "refused");
    let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = json(
        status,
        &json!({ "error": code.as_str(), "error_description": description(&rejection.public_message()) }),
    );
    if let Some(seconds) = rejection.retry_after() {
        response = with_retry_after(response, seconds);
    }
    if rejection.wants_basic_challenge() {
        put(&mut response, header::WWW_AUTHENTICATE, "Basic realm=\"mcp-oauth-gateway\"");
    }
    response
}

/// Adds `Retry-After`, in seconds.
pub fn with_retry_after(mut response: HttpResponse, seconds: u64) -> HttpResponse {
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// A JSON error. `code` need not be an OAuth code: clients may probe before they know the server.
pub fn error(status: StatusCode, code: &str, text: &str) -> HttpResponse {
    json(status, &json!({ "error": code, "error_description": description(text) }))
}

/// The JSON-RPC error of a request that was not forwarded, or that the upstream did not answer.
pub fn proxy_error(error: &ProxyError, endpoint: ServiceEndpoint<'_>) -> HttpResponse {
    tracing::info!(target: REFUSALS, reason = ?error, "not forwarded");
    let (name, text) = match error {
        ProxyError::NotReady => ("temporarily_unavailable", "the gateway is starting; try again".to_owned()),
        ProxyError::NoToken if endpoint.accepts_api_keys() => ("Unauthorized", KEY_NEEDED.to_owned()),
        ProxyError::BadToken(reason) if endpoint.accepts_api_keys() => ("Unauthorized", format!("{reason}; {KEY_NEEDED}")),
        ProxyError::NoToken => ("Unauthorized", "sign in first: no token was sent".to_owned()),
        ProxyError::BadToken(reason) => ("Unauthorized", (*reason).to_owned()),
        ProxyError::TokenInQuery => ("invalid_request", TOKEN_IN_QUERY.to_owned()),
        ProxyError::MissingScopes => ("insufficient_scope", TOO_FEW.to_owned()),
        ProxyError::InsufficientScope(_) => ("insufficient_scope", MORE.to_owned()),
        ProxyError::HeadNotAllowed => ("method_not_allowed", format!("use {MCP_METHODS}")),
        ProxyError::UnknownSession => ("Session not found", "begin a new one with initialize".to_owned()),
        ProxyError::RateLimited => ("too_many_requests", "too many requests from this address; try again".to_owned()),
        ProxyError::TooManyStreams => ("too_many_streams", "too many streams are open; close one first".to_owned()),
        ProxyError::CredentialRefused => (
            "bad_gateway",
            "the upstream requires a credential that this service does not have".to_owned(),
        ),
        ProxyError::NeedsLogin => ("bad_gateway", {
            let name = &endpoint.service.service.name;
            format!("the gateway is not signed in at the upstream of this service; its operator must run: mcp-oauth-gateway login {name}")
        }),
        ProxyError::Redirected(url) => ("bad_gateway", format!("the upstream redirects to {url}; configure that URL")),
        ProxyError::UpstreamDown(_) => ("bad_gateway", "the upstream MCP server cannot be reached".to_owned()),
        ProxyError::UpstreamBroken(_) => (
            "bad_gateway",
            "the upstream MCP server closed the connection before it answered; it may have executed the request".to_owned(),
        ),
        ProxyError::UpstreamTimeout => ("gateway_timeout", "the upstream MCP server does not answer in time".to_owned()),
        ProxyError::ApprovalsUnavailable => (
            "temporarily_unavailable",
            "the approvals and pins of tools cannot be read, so no tool is called; try again".to_owned(),
        ),
        ProxyError::TryLater => (
            "temporarily_unavailable",
            "the upstream credential of this token cannot be read or refreshed now; try again".to_owned(),
        ),
    };
    let message = format!("{name}: {text}");
    let body = json!({ "jsonrpc": "2.0", "id": null, "error": { "code": json_rpc_code(error), "message": message } });
    let mut response = json(status(error, endpoint), &body);
    response = with_hints(response, error);
    if let Some(value) = challenge(error, endpoint).and_then(|text| HeaderValue::from_str(&text).ok()) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
    }
    response
}

/// The status of the response. A service without OAuth never answers 401: an MCP client would then look for
/// an authorization server, at last at the root (MCP Authorization, "Protected Resource Metadata
/// Discovery Requirements"), and sign in at the default service, whose tokens are of no use here.
fn status(error: &ProxyError, endpoint: ServiceEndpoint<'_>) -> StatusCode {
    match error.status() {
        StatusCode::UNAUTHORIZED if !endpoint.is_oauth() => StatusCode::FORBIDDEN,
        status => status,
    }
}

/// The JSON-RPC error code.
fn json_rpc_code(error: &ProxyError) -> i32 {
    match error {
        ProxyError::NoToken | ProxyError::BadToken(_) | ProxyError::UnknownSession => -32001,
        ProxyError::TokenInQuery | ProxyError::HeadNotAllowed => -32600,
        ProxyError::MissingScopes | ProxyError::InsufficientScope(_) => -32003,
        ProxyError::NotReady
        | ProxyError::RateLimited
        | ProxyError::TooManyStreams
        | ProxyError::CredentialRefused
        | ProxyError::NeedsLogin
        | ProxyError::Redirected(_)
        | ProxyError::UpstreamDown(_)
        | ProxyError::UpstreamBroken(_)
        | ProxyError::UpstreamTimeout
        | ProxyError::ApprovalsUnavailable
        | ProxyError::TryLater => -32002,
    }
}

const KEY_NEEDED: &str = "this service needs an API key: ask the operator of this gateway for one, and send it as Authorization: Bearer";
const TOO_FEW: &str = "this service requires scopes that the token does not have";
const MORE: &str = "the upstream requires more scopes";
const TOKEN_IN_QUERY: &str = "send the token in the Authorization header only, not in the query too";

/// Adds `Retry-After`, or the allowed methods.
fn with_hints(mut response: HttpResponse, error: &ProxyError) -> HttpResponse {
    if matches!(error, ProxyError::NotReady | ProxyError::RateLimited) {
        response = with_retry_after(response, 1);
    } else if matches!(
        error,
        ProxyError::TryLater | ProxyError::ApprovalsUnavailable | ProxyError::TooManyStreams
    ) {
        response = with_retry_after(response, 5);
    } else if matches!(error, ProxyError::HeadNotAllowed) {
        put(&mut response, header::ALLOW, MCP_METHODS);
    }
    response
}

fn challenge(error: &ProxyError, endpoint: ServiceEndpoint<'_>) -> Option<String> {
    // Without an authorization server, no challenge helps: `insufficient_scope`, too, starts a sign-in.
    if !endpoint.is_oauth() {
        return None;
    }
    let metadata = endpoint.resource_metadata();
    let header = |scopes: &Scopes, error| bearer::challenge(Some(&metadata), &scopes.to_string(), error);
    match error {
        ProxyError::NoToken => Some(header(&endpoint.scopes_to_ask(), None)),
        ProxyError::BadToken(reason) => Some(header(&endpoint.scopes_to_ask(), Some((OAuthErrorCode::InvalidToken, reason)))),
        ProxyError::TokenInQuery => Some(header(
            &endpoint.scopes_to_ask(),
            Some((OAuthErrorCode::InvalidRequest, TOKEN_IN_QUERY)),
        )),
        ProxyError::MissingScopes => Some(header(
            &endpoint.service.service.required_scopes,
            Some((OAuthErrorCode::InsufficientScope, TOO_FEW)),
        )),
        ProxyError::InsufficientScope(scopes) => Some(header(&Scopes::parse(scopes), Some((OAuthErrorCode::InsufficientScope, MORE)))),
        ProxyError::NotReady
        | ProxyError::HeadNotAllowed
        | ProxyError::UnknownSession
        | ProxyError::RateLimited
        | ProxyError::TooManyStreams
        | ProxyError::CredentialRefused
        | ProxyError::NeedsLogin
        | ProxyError::Redirected(_)
        | ProxyError::UpstreamDown(_)
        | ProxyError::UpstreamBroken(_)
        | ProxyError::UpstreamTimeout
        | ProxyError::ApprovalsUnavailable
        | ProxyError::TryLater => None,
    }
}

/// An HTML page.
pub fn page(status: StatusCode, html: String) -> HttpResponse {
    let mut response = Response::new(ResponseBody::Full(Bytes::from(html)));
    *response.status_mut() = status;
    for (name, value) in pages::HEADERS {
        response
            .headers_mut()
            .insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

/// As [`page`], for a page that runs the gateway's own script.
pub fn page_with_script(status: StatusCode, html: String) -> HttpResponse {
    let mut response = page(status, html);
    put(&mut response, header::CONTENT_SECURITY_POLICY, pages::CSP_WITH_SCRIPT);
    response
}

/// A redirect by GET (RFC 9700 §4.12: 303, never 307).
pub fn see_other(location: &str) -> HttpResponse {
    let mut response = Response::new(ResponseBody::default());
    *response.status_mut() = StatusCode::SEE_OTHER;
    put(&mut response, header::CACHE_CONTROL, "no-store");
    put(&mut response, header::REFERRER_POLICY, "same-origin");
    if let Ok(value) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

/// Adds the CORS headers, without credentials.
pub fn with_cors(mut response: HttpResponse, policy: &CorsPolicy) -> HttpResponse {
    let headers = response.headers_mut();
    let policy = match policy {
        CorsPolicy::Own => return response,
        CorsPolicy::Everyone => Ok(HeaderValue::from_static("*")),
        CorsPolicy::Only(origin) => {
            // A cache must not serve one origin's response to another.
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
            HeaderValue::from_str(origin)
        }
    };
    if let Ok(value) = policy {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value);
        let exposed = "WWW-Authenticate, Mcp-Session-Id, Mcp-Protocol-Version, Retry-After";
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(exposed));
    }
    response
}

/// The response to a preflight request, which needs no token.
pub fn preflight(policy: &CorsPolicy, request: &HeaderMap) -> HttpResponse {
    let mut response = Response::new(ResponseBody::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    put(&mut response, header::ACCESS_CONTROL_ALLOW_METHODS, MCP_METHODS);
    put(&mut response, header::ACCESS_CONTROL_MAX_AGE, "600");
    put(&mut response, header::VARY, "Access-Control-Request-Headers");
    if let Some(requested) = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        response
            .headers_mut()
            .insert(header::ACCESS_CONTROL_ALLOW_HEADERS, requested.clone());
    }
    with_cors(response, policy)
}

/// A response of any media type, with `X-Content-Type-Options: nosniff`.
pub fn response(status: StatusCode, content_type: &'static str, body: Bytes) -> HttpResponse {
    let mut response = Response::new(ResponseBody::Full(body));
    *response.status_mut() = status;
    put(&mut response, header::CONTENT_TYPE, content_type);
    put(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    response
}

fn put(response: &mut HttpResponse, name: HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}

/// A stylesheet or a script. A browser may cache it for five minutes.
pub fn asset(asset: Asset) -> HttpResponse {
    let mut response = response(StatusCode::OK, asset.content_type(), Bytes::from_static(asset.text().as_bytes()));
    put(&mut response, header::CACHE_CONTROL, "public, max-age=300");
    response
}
