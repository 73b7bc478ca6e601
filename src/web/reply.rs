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
use crate::web::guard::CorsPolicy;
use crate::web::pages;

/// A response of the gateway.
pub type HttpResponse = Response<ResponseBody>;

/// A random reference, which an error page shows and the log repeats.
pub fn reference() -> String {
    Id::random().to_string()[..10].to_owned()
}

/// A JSON response that is never cached.
pub fn json(status: StatusCode, value: &Value) -> HttpResponse {
    let mut answer = response(status, "application/json", Bytes::from(value.to_string()));
    put(&mut answer, header::CACHE_CONTROL, "no-store");
    answer
}

/// A JSON metadata document, which may be cached for five minutes.
pub fn document(value: &Value) -> HttpResponse {
    let mut answer = response(StatusCode::OK, "application/json", Bytes::from(value.to_string()));
    put(&mut answer, header::CACHE_CONTROL, "public, max-age=300");
    answer
}

/// An OAuth error as JSON (RFC 6749 §5.2).
pub fn oauth_error(why: &Rejection) -> HttpResponse {
    let code = why.code();
    tracing::info!(error = code.as_str(), reason = ?why.to_string(), "refused");
    let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let mut answer = json(
        status,
        &json!({ "error": code.as_str(), "error_description": description(&why.public_message()) }),
    );
    if let Some(seconds) = why.retry_after() {
        answer = with_retry_after(answer, seconds);
    }
    if why.wants_basic_challenge() {
        put(&mut answer, header::WWW_AUTHENTICATE, "Basic realm=\"mcp-oauth-gateway\"");
    }
    answer
}

/// Adds `Retry-After`, in seconds.
pub fn with_retry_after(mut answer: HttpResponse, seconds: u64) -> HttpResponse {
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    answer
}

/// A JSON error. `word` need not be an OAuth code: clients may probe before they know the server.
pub fn error(status: StatusCode, word: &str, why: &str) -> HttpResponse {
    json(status, &json!({ "error": word, "error_description": description(why) }))
}

/// The JSON-RPC error of a request that was not forwarded, or that the upstream did not answer.
pub fn proxy_error(why: &ProxyError, at: ServiceEndpoint<'_>) -> HttpResponse {
    tracing::info!(reason = ?why, "not forwarded");
    let (word, text) = match why {
        ProxyError::NotReady => ("temporarily_unavailable", "the gateway is starting; try again".to_owned()),
        ProxyError::NoToken if at.accepts_api_keys() => ("Unauthorized", KEY_NEEDED.to_owned()),
        ProxyError::BadToken(why) if at.accepts_api_keys() => ("Unauthorized", format!("{why}; {KEY_NEEDED}")),
        ProxyError::NoToken => ("Unauthorized", "sign in first: no token was sent".to_owned()),
        ProxyError::BadToken(why) => ("Unauthorized", (*why).to_owned()),
        ProxyError::TokenInQuery => ("invalid_request", TOKEN_IN_QUERY.to_owned()),
        ProxyError::MissingScopes => ("insufficient_scope", TOO_FEW.to_owned()),
        ProxyError::InsufficientScope(_) => ("insufficient_scope", MORE.to_owned()),
        ProxyError::UnknownSession => ("Session not found", "begin a new one with initialize".to_owned()),
        ProxyError::RateLimited => ("too_many_requests", "too many requests from this address; try again".to_owned()),
        ProxyError::CredentialRefused => (
            "bad_gateway",
            "the upstream wants a credential that this service does not have".to_owned(),
        ),
        ProxyError::Redirected(url) => ("bad_gateway", format!("the upstream redirects to {url}; configure that URL")),
        ProxyError::UpstreamDown(_) => ("bad_gateway", "the upstream MCP server cannot be reached".to_owned()),
        ProxyError::UpstreamTimeout => ("gateway_timeout", "the upstream MCP server does not answer in time".to_owned()),
        ProxyError::TryLater => (
            "temporarily_unavailable",
            "what the token stands for cannot be had right now; try again".to_owned(),
        ),
    };
    let number = match why {
        ProxyError::NoToken | ProxyError::BadToken(_) | ProxyError::UnknownSession => -32001,
        ProxyError::TokenInQuery => -32600,
        ProxyError::MissingScopes | ProxyError::InsufficientScope(_) => -32003,
        ProxyError::NotReady
        | ProxyError::RateLimited
        | ProxyError::CredentialRefused
        | ProxyError::Redirected(_)
        | ProxyError::UpstreamDown(_)
        | ProxyError::UpstreamTimeout
        | ProxyError::TryLater => -32002,
    };
    let message = format!("{word}: {text}");
    let body = json!({ "jsonrpc": "2.0", "id": null, "error": { "code": number, "message": message } });
    let mut answer = json(why.status(), &body);
    if matches!(why, ProxyError::NotReady | ProxyError::RateLimited) {
        answer = with_retry_after(answer, 1);
    } else if matches!(why, ProxyError::TryLater) {
        answer = with_retry_after(answer, 5);
    }
    if let Some(value) = challenge(why, at).and_then(|text| HeaderValue::from_str(&text).ok()) {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, value);
    }
    answer
}

const KEY_NEEDED: &str = "this service needs an API key: ask whoever runs this gateway for one, and send it as Authorization: Bearer";
const TOO_FEW: &str = "this service requires scopes that the token does not have";
const MORE: &str = "the upstream wants more scopes";
const TOKEN_IN_QUERY: &str = "send the token in the Authorization header only, not in the query too";

fn challenge(why: &ProxyError, at: ServiceEndpoint<'_>) -> Option<String> {
    // A public service needs no token, so there is nothing to ask for.
    if !at.accepts_api_keys() && !at.is_oauth() {
        return None;
    }
    // A service with API keys has no authorization server, so the challenge names no metadata.
    let metadata = at.is_oauth().then(|| at.resource_metadata());
    let said = |scopes: &Scopes, error| bearer::challenge(metadata.as_deref(), &scopes.to_string(), error);
    match why {
        ProxyError::NoToken if at.accepts_api_keys() => Some(said(&at.scopes_to_ask(), Some((OAuthErrorCode::InvalidToken, KEY_NEEDED)))),
        ProxyError::NoToken => Some(said(&at.scopes_to_ask(), None)),
        ProxyError::BadToken(why) => Some(said(&at.scopes_to_ask(), Some((OAuthErrorCode::InvalidToken, why)))),
        ProxyError::TokenInQuery => Some(said(&at.scopes_to_ask(), Some((OAuthErrorCode::InvalidRequest, TOKEN_IN_QUERY)))),
        ProxyError::MissingScopes => Some(said(
            &at.service.service.required_scopes,
            Some((OAuthErrorCode::InsufficientScope, TOO_FEW)),
        )),
        ProxyError::InsufficientScope(wanted) => Some(said(&Scopes::parse(wanted), Some((OAuthErrorCode::InsufficientScope, MORE)))),
        ProxyError::NotReady
        | ProxyError::UnknownSession
        | ProxyError::RateLimited
        | ProxyError::CredentialRefused
        | ProxyError::Redirected(_)
        | ProxyError::UpstreamDown(_)
        | ProxyError::UpstreamTimeout
        | ProxyError::TryLater => None,
    }
}

/// An HTML page.
pub fn page(status: StatusCode, html: String) -> HttpResponse {
    let mut answer = Response::new(ResponseBody::Full(Bytes::from(html)));
    *answer.status_mut() = status;
    for (name, value) in pages::HEADERS {
        answer
            .headers_mut()
            .insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    answer
}

/// A redirect by GET (RFC 9700 §4.12: 303, never 307).
pub fn see_other(location: &str) -> HttpResponse {
    let mut answer = Response::new(ResponseBody::default());
    *answer.status_mut() = StatusCode::SEE_OTHER;
    put(&mut answer, header::CACHE_CONTROL, "no-store");
    put(&mut answer, header::REFERRER_POLICY, "same-origin");
    if let Ok(value) = HeaderValue::from_str(location) {
        answer.headers_mut().insert(header::LOCATION, value);
    }
    answer
}

/// Adds the CORS headers, without credentials.
pub fn with_cors(mut answer: HttpResponse, readers: &CorsPolicy) -> HttpResponse {
    let headers = answer.headers_mut();
    let readers = match readers {
        CorsPolicy::Own => return answer,
        CorsPolicy::Everyone => Ok(HeaderValue::from_static("*")),
        CorsPolicy::Only(origin) => {
            // A cache must not serve one origin's response to another.
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
            HeaderValue::from_str(origin)
        }
    };
    if let Ok(value) = readers {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value);
        let exposed = "WWW-Authenticate, Mcp-Session-Id, Mcp-Protocol-Version, Retry-After";
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(exposed));
    }
    answer
}

/// The response to a preflight request, which needs no token.
pub fn preflight(readers: &CorsPolicy, request: &HeaderMap) -> HttpResponse {
    let mut answer = Response::new(ResponseBody::default());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    put(&mut answer, header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE, OPTIONS");
    put(&mut answer, header::ACCESS_CONTROL_MAX_AGE, "600");
    put(&mut answer, header::VARY, "Access-Control-Request-Headers");
    if let Some(asked) = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    with_cors(answer, readers)
}

/// A response of any media type, without sniffing.
pub fn response(status: StatusCode, kind: &'static str, body: Bytes) -> HttpResponse {
    let mut answer = Response::new(ResponseBody::Full(body));
    *answer.status_mut() = status;
    put(&mut answer, header::CONTENT_TYPE, kind);
    put(&mut answer, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    answer
}

fn put(answer: &mut HttpResponse, name: HeaderName, value: &'static str) {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
}
