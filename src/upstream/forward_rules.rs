//! Which headers of a proxied request and its response pass, and what a response means. Pure.

use std::borrow::Cow;

use http::uri::InvalidUri;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};

use crate::base::url::ExactUrl;
use crate::net::body::is_event_stream;
use crate::oauth::token_response::UpstreamAccessToken;
use crate::oauth::www_authenticate::BearerChallenge;

/// Request headers that pass, besides [`ALLOWED_REQUEST_PREFIXES`] and those of the service.
pub(super) const ALLOWED_REQUEST_HEADERS: [&str; 10] = [
    "content-type",
    "content-encoding",
    "accept",
    "accept-encoding",
    "accept-language",
    "last-event-id",
    "traceparent",
    "tracestate",
    "baggage",
    "user-agent",
];

/// Prefixes of MCP's own headers, and of those that configure GitHub's MCP server.
const ALLOWED_REQUEST_PREFIXES: [&str; 2] = ["mcp-", "x-mcp-"];

/// Headers of one connection (RFC 9110 §7.6.1), and framing, which each connection sets itself.
const HOP_BY_HOP: [&str; 11] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-authentication-info",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// The header with the key of an adapter. It has a prefix of MCP's headers, and never passes.
pub const ADAPTER_KEY_HEADER: &str = "x-mcp-gateway-key";

/// Never forwarded, even if the service lists them: gateway credentials, and claims of identity.
const FORBIDDEN_REQUEST_HEADERS: [&str; 13] = [
    ADAPTER_KEY_HEADER,
    "authorization",
    "cookie",
    "cookie2",
    "host",
    "content-length",
    "expect",
    "forwarded",
    "via",
    "x-real-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "origin",
];

/// Response headers that pass, besides those that [`is_known_response_header`] adds and those of the
/// service.
const ALLOWED_RESPONSE_HEADERS: [&str; 13] = [
    "content-type",
    "content-length",
    "content-encoding",
    "content-language",
    "content-disposition",
    "content-range",
    "date",
    "allow",
    "retry-after",
    "ratelimit",
    "traceparent",
    "x-correlation-id",
    "x-amzn-requestid",
];

/// Prefixes of response headers that pass: those of MCP and of rate limits.
const ALLOWED_RESPONSE_PREFIXES: [&str; 4] = ["mcp-", "ratelimit-", "x-ratelimit-", "x-rate-limit-"];

/// Response headers that never pass, even if the service lists them: they act for the gateway's
/// origin, which has the consent page, or steer a cache or a proxy in front of the gateway.
const FORBIDDEN_RESPONSE_HEADERS: [&str; 35] = [
    "set-cookie",
    "set-cookie2",
    "location",
    "content-location",
    "refresh",
    "clear-site-data",
    "strict-transport-security",
    "alt-svc",
    "service-worker-allowed",
    "report-to",
    "reporting-endpoints",
    "nel",
    "link",
    "www-authenticate",
    "authentication-info",
    "public-key-pins",
    "timing-allow-origin",
    "set-login",
    "origin-trial",
    "origin-agent-cluster",
    "speculation-rules",
    "supports-loading-mode",
    "accept-ch",
    "critical-ch",
    "sourcemap",
    "x-sourcemap",
    "x-content-type-options",
    "x-frame-options",
    "permissions-policy",
    "referrer-policy",
    "expires",
    "age",
    "vary",
    "x-sendfile",
    "x-lighttpd-send-file",
];

/// Prefixes of response headers that never pass.
const FORBIDDEN_RESPONSE_PREFIXES: [&str; 8] = [
    "access-control-",
    "content-security-policy",
    "cross-origin-",
    "sec-",
    "surrogate-",
    // A proxy in front of the gateway would answer these with its own files, or buffer differently.
    "x-accel-",
    "x-reproxy-",
    "attribution-reporting-",
];

/// Tells nginx and similar proxies not to buffer events.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// A header that the gateway sets.
pub type Header = (HeaderName, HeaderValue);

/// The headers to forward: the allowed ones of the client, then the `fixed` ones of the service, then
/// the `credential`. A later one replaces an earlier one of the same name, and the client's in every
/// spelling. The service lists `extra`. The HTTP client sets `Host` and framing.
pub fn request_headers(client_headers: &HeaderMap, extra: &[HeaderName], fixed: &[Header], credential: &[Header]) -> HeaderMap {
    let hop_headers = connection_options(client_headers);
    let own = || fixed.iter().chain(credential);
    let mut forwarded = HeaderMap::with_capacity(client_headers.len() + fixed.len() + credential.len());
    for (name, value) in client_headers {
        let text = name.as_str();
        let is_replaced = own().any(|(other, _)| same_field(other.as_str(), text));
        if is_allowed(text, name, extra) && !is_replaced && !hop_headers.iter().any(|option| option == text) {
            forwarded.append(name.clone(), value.clone());
        }
    }
    for (name, value) in own() {
        forwarded.insert(name.clone(), value.clone());
    }
    forwarded
}

pub(super) fn is_allowed(text: &str, name: &HeaderName, extra: &[HeaderName]) -> bool {
    let is_mcp_header = || !text.contains('_') && ALLOWED_REQUEST_PREFIXES.iter().any(|prefix| text.starts_with(prefix));
    let is_known = ALLOWED_REQUEST_HEADERS.contains(&text) || is_mcp_header();
    (is_known && text != ADAPTER_KEY_HEADER) || (extra.contains(name) && !is_forbidden_request_header(text))
}

/// Whether a request header never passes, even if the service lists it. `_` counts as `-`: many
/// servers treat both spellings as one header.
pub fn is_forbidden_request_header(name: &str) -> bool {
    let dashed = name.replace('_', "-");
    // The proxy checks MCP headers, above all the session. Another spelling would bypass that.
    let is_disguised = dashed != name && dashed.starts_with("mcp-");
    let name = dashed.as_str();
    let claims_identity = name.starts_with("x-user-") || name.starts_with("x-forwarded-");
    is_disguised || claims_identity || FORBIDDEN_REQUEST_HEADERS.contains(&name) || HOP_BY_HOP.contains(&name)
}

/// Whether the operator may put a credential into this header. It must not frame the request,
/// belong to the client, or claim an identity.
pub fn may_carry_a_credential(name: &HeaderName) -> bool {
    let text = name.as_str().replace('_', "-");
    let text = text.as_str();
    let is_client_header = ALLOWED_REQUEST_HEADERS.contains(&text) || text.starts_with("mcp-");
    text == header::AUTHORIZATION.as_str() || !(is_client_header || is_forbidden_request_header(text))
}

/// Whether the operator may set this header on every forwarded request. The message itself and the
/// MCP session belong to the client; credentials and identities have their own settings.
pub fn may_be_fixed(name: &HeaderName) -> bool {
    let text = name.as_str().replace('_', "-");
    let describes_message = text.starts_with("mcp-") || text.starts_with("content-") || text == "accept" || text == "last-event-id";
    !describes_message && !is_forbidden_request_header(&text)
}

/// Whether a response header never passes, even if the service lists it. `_` counts as `-`.
pub fn is_forbidden_response_header(name: &str) -> bool {
    let dashed = name.replace('_', "-");
    let name = dashed.as_str();
    name.ends_with("cache-control")
        || HOP_BY_HOP.contains(&name)
        || FORBIDDEN_RESPONSE_HEADERS.contains(&name)
        || FORBIDDEN_RESPONSE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a response header passes at every service.
fn is_known_response_header(name: &str) -> bool {
    ALLOWED_RESPONSE_HEADERS.contains(&name)
        || ALLOWED_RESPONSE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || name == "request-id"
        || (name.ends_with("-request-id") && !is_forbidden_response_header(name))
}

pub(super) fn same_field(first: &str, second: &str) -> bool {
    let dashed = |b: u8| if b == b'_' { b'-' } else { b };
    first.len() == second.len() && first.bytes().map(dashed).eq(second.bytes().map(dashed))
}

/// The headers that `Connection` names. They end at this hop (RFC 9110 §7.6.1).
fn connection_options(headers: &HeaderMap) -> Vec<String> {
    let fields = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    fields
        .flat_map(|field| field.split(','))
        .map(|option| option.trim().to_ascii_lowercase())
        .collect()
}

/// Turns an upstream's response headers into the gateway's. The allowed ones pass, and `extra`, which
/// the service lists. A body cannot become a page of the gateway's origin, and no cache keeps it.
pub fn response_headers(headers: &mut HeaderMap, extra: &[HeaderName]) {
    let hop_headers = connection_options(headers);
    let passes = |name: &HeaderName| {
        let text = name.as_str();
        let is_allowed = is_known_response_header(text) || (extra.contains(name) && !is_forbidden_response_header(text));
        is_allowed && (text == "content-type" || !hop_headers.iter().any(|option| option == text))
    };
    let removed: Vec<HeaderName> = headers.keys().filter(|name| !passes(name)).cloned().collect();
    for name in removed {
        headers.remove(name);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("sandbox; default-src 'none'"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if is_event_stream(headers) {
        headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    }
}

/// The upstream's token as a credential (RFC 6750 §2.1), neither printed nor indexed by HPACK.
pub fn bearer(token: &UpstreamAccessToken) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The URI of a forwarded request: the configured URL byte for byte, then the client's query without
/// the parameters that the configured URL sets.
/// # Errors
/// If the result is not a valid URI, for example because it is too long.
pub fn target_uri(mcp: &ExactUrl, query: Option<&str>) -> Result<Uri, InvalidUri> {
    let query = query.filter(|query| !query.is_empty()).map(|query| match mcp.url().query() {
        None => Cow::Borrowed(query),
        Some(configured) => Cow::Owned(without_parameters(query, configured)),
    });
    let with_query = |base: &str| match query.as_deref().filter(|query| !query.is_empty()) {
        None => base.to_owned(),
        Some(query) => format!("{base}{}{query}", if base.contains('?') { '&' } else { '?' }),
    };
    // A URL may have characters that a URI may not; its parsed form has them encoded.
    with_query(mcp.as_str()).parse().or_else(|_| with_query(mcp.url().as_str()).parse())
}

/// The parameters of `query`, byte for byte, without those that `configured` sets. The decoded names
/// are compared without regard to case. A name ends at a `[` too, and a `;` also separates
/// parameters, as some servers read them.
fn without_parameters(query: &str, configured: &str) -> String {
    let names = |part: &str| -> Vec<String> {
        let pairs = part.split([';', '&']);
        let decoded = pairs.flat_map(|pair| {
            url::form_urlencoded::parse(pair.as_bytes())
                .map(|(name, _)| name)
                .collect::<Vec<_>>()
        });
        decoded
            .map(|name| name.split('[').next().unwrap_or("").trim().to_ascii_lowercase())
            .collect()
    };
    let fixed = names(configured);
    let kept = query.split('&').filter(|part| !names(part).iter().any(|name| fixed.contains(name)));
    kept.collect::<Vec<_>>().join("&")
}

/// What the head of a response means for the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseVerdict {
    /// The response is forwarded to the client.
    Pass,
    /// The upstream refused its token. The client gets our 401, and then refreshes.
    Unauthorized,
    /// The token lacks scope. The client gets our 403 with the upstream's scopes (RFC 6750 §3.1).
    InsufficientScope {
        /// The scopes that the upstream names; may be empty.
        scope: Vec<String>,
    },
    /// A redirect, answered with 502 and the URL to configure. Following it would leak the token.
    Redirect {
        /// The `Location` header, as received.
        location: String,
    },
}

/// Classifies a response of the MCP server at `mcp` by its head.
pub fn classify(mcp: &ExactUrl, status: StatusCode, headers: &HeaderMap) -> ResponseVerdict {
    match status.as_u16() {
        401 => ResponseVerdict::Unauthorized,
        400 | 403 => match challenge(headers) {
            Some(challenge) if challenge.error.as_deref() == Some(INVALID_TOKEN) => ResponseVerdict::Unauthorized,
            Some(challenge) if status == StatusCode::FORBIDDEN && challenge.error.as_deref() == Some("insufficient_scope") => {
                ResponseVerdict::InsufficientScope { scope: challenge.scopes() }
            }
            Some(_) | None => ResponseVerdict::Pass,
        },
        code @ (301 | 302 | 303 | 307 | 308) => {
            let location = headers
                .get(header::LOCATION)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default();
            let is_temporary = matches!(code, 302 | 303 | 307);
            if is_temporary && is_sign_in(mcp, location) {
                return ResponseVerdict::Unauthorized;
            }
            ResponseVerdict::Redirect {
                location: location.to_owned(),
            }
        }
        _ => ResponseVerdict::Pass,
    }
}

/// Whether a temporary redirect leads to a sign-in: to another host, or to a login page of the same one. A
/// front end such as an access proxy answers so instead of 401.
fn is_sign_in(mcp: &ExactUrl, location: &str) -> bool {
    const LOGIN_WORDS: [&str; 8] = ["login", "signin", "sign-in", "sign_in", "authorize", "oauth", "oauth2", "sso"];
    let Ok(target) = mcp.url().join(location) else { return false };
    let authority = |url: &url::Url| (url.host_str().map(str::to_owned), url.port());
    let is_login_page = || {
        let mut segments = target
            .path()
            .split('/')
            .map(|segment| segment.split('.').next().unwrap_or("").to_ascii_lowercase());
        segments.any(|segment| LOGIN_WORDS.contains(&segment.as_str()))
    };
    authority(&target) != authority(mcp.url()) || is_login_page()
}

/// The error code of a refused token (RFC 6750 §3.1).
const INVALID_TOKEN: &str = "invalid_token";

/// The longest body of a response that is read for its error code, in bytes.
pub const MAX_ERROR_BODY_BYTES: usize = 4096;

/// Whether the body of a response decides: a short JSON document with status 400 or 403, which some servers
/// send instead of a challenge.
pub fn has_error_body(status: StatusCode, headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let is_short = || {
        let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
        length.is_some_and(|length: usize| length <= MAX_ERROR_BODY_BYTES)
    };
    let is_json = || text(header::CONTENT_TYPE).is_some_and(|text| text.to_ascii_lowercase().starts_with("application/json"));
    matches!(status.as_u16(), 400 | 403) && is_json() && is_short() && !headers.contains_key(header::CONTENT_ENCODING)
}

/// Whether a JSON body says that the token is refused.
pub fn is_refused_token(body: &[u8]) -> bool {
    let document: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    document.get("error").and_then(serde_json::Value::as_str) == Some(INVALID_TOKEN)
}

/// The target of a redirect by the MCP server at `mcp`, as a URL to configure. The query is
/// dropped: it may repeat the operator's key, and the caller sees this URL.
pub fn redirect_target(mcp: &ExactUrl, location: &str) -> Option<ExactUrl> {
    let mut target = mcp.url().join(location).ok()?;
    target.set_query(None);
    target.set_fragment(None);
    ExactUrl::parse(target.as_str()).ok()
}

/// The Bearer challenge of a response.
pub fn challenge(headers: &HeaderMap) -> Option<BearerChallenge> {
    let fields = headers.get_all(header::WWW_AUTHENTICATE).iter();
    BearerChallenge::parse(fields.filter_map(|value| value.to_str().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Secret;

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn names(map: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = map.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    fn ours() -> [(HeaderName, HeaderValue); 1] {
        let token = UpstreamAccessToken::new(Secret::from("upstream"));
        [(header::AUTHORIZATION, bearer(&token).unwrap())]
    }

    #[test]
    fn only_listed_request_headers_pass_with_the_upstream_credential() {
        let client_headers = map(&[
            ("authorization", "Bearer client"),
            ("content-type", "application/json"),
            ("accept", "a"),
            ("accept", "b"),
            ("mcp-session-id", "s"),
            ("mcp-protocol-version", "2025-06-18"),
            ("x-mcp-toolsets", "repos"),
            ("last-event-id", "7"),
            ("cookie", "c=1"),
            ("host", "gateway"),
            ("content-length", "5"),
            ("x-user-id", "root"),
            ("x_user_id", "root"),
            ("x-forwarded-for", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("proxy-authorization", "Basic x"),
            ("origin", "https://evil"),
            ("sec-fetch-site", "cross-site"),
            ("x-api-key", "k"),
            ("x-mcp-gateway-key", "gwd_1"),
        ]);
        let forwarded = request_headers(&client_headers, &[], &[], &ours());
        let expected = [
            "accept",
            "authorization",
            "content-type",
            "last-event-id",
            "mcp-protocol-version",
            "mcp-session-id",
            "x-mcp-toolsets",
        ];
        assert_eq!(names(&forwarded), expected);
        assert_eq!(forwarded["authorization"], "Bearer upstream");
        assert!(forwarded["authorization"].is_sensitive());
        assert_eq!(forwarded.get_all("accept").iter().count(), 2);
    }

    #[test]
    fn a_service_can_forward_extra_headers_but_never_credentials_or_identity() {
        let fields = [
            "x-tenant",
            "authorization",
            "cookie",
            "x-user-email",
            "x_user_email",
            "x-user_email",
            "x-forwarded-host",
            "x_forwarded_for",
            "connection",
            "host",
        ];
        let client_headers = map(&fields.map(|name| (name, "v")));
        let extra = fields.map(HeaderName::from_static);
        assert_eq!(names(&request_headers(&client_headers, &extra, &[], &[])), ["x-tenant"]);
    }

    #[test]
    fn the_connection_header_removes_client_headers_but_not_gateway_headers() {
        let client_headers = map(&[
            ("connection", "keep-alive, Authorization, x-tenant"),
            ("connection", "MCP-Session-Id,x-api-key"),
            ("mcp-session-id", "s"),
            ("x-tenant", "t"),
            ("accept", "a"),
        ]);
        let own = [
            ours()[0].clone(),
            (HeaderName::from_static("x-api-key"), HeaderValue::from_static("k")),
        ];
        let forwarded = request_headers(&client_headers, &[HeaderName::from_static("x-tenant")], &[], &own);
        assert_eq!(names(&forwarded), ["accept", "authorization", "x-api-key"]);
    }

    #[test]
    fn mcp_headers_pass_only_in_their_exact_spelling() {
        let spellings = ["mcp-session_id", "mcp_session-id", "mcp_session_id"];
        let client_headers = map(&spellings.map(|name| (name, "somebody else's")));
        assert_eq!(
            names(&request_headers(&client_headers, &spellings.map(HeaderName::from_static), &[], &[])),
            [""; 0]
        );
        assert!(spellings.into_iter().all(is_forbidden_request_header) && !is_forbidden_request_header("mcp-session-id"));
        let extra = [HeaderName::from_static("x-mcp_tenant")];
        let client_headers = map(&[("x-mcp_tenant", "t"), ("x-mcp_other", "o"), ("mcp-session-id", "s")]);
        assert_eq!(
            names(&request_headers(&client_headers, &extra, &[], &[])),
            ["mcp-session-id", "x-mcp_tenant"]
        );
    }

    #[test]
    fn the_upstream_credential_replaces_client_headers_in_every_spelling() {
        let client_headers = map(&[("x-api-key", "theirs"), ("x_api_key", "theirs"), ("x-api_key", "theirs")]);
        let extra = ["x-api-key", "x_api_key", "x-api_key"].map(HeaderName::from_static);
        let own = [(HeaderName::from_static("x-api-key"), HeaderValue::from_static("ours"))];
        let forwarded = request_headers(&client_headers, &extra, &[], &own);
        assert_eq!(
            (names(&forwarded), forwarded["x-api-key"].to_str().unwrap()),
            (vec!["x-api-key"], "ours")
        );
    }

    #[test]
    fn fixed_headers_replace_the_clients_and_yield_to_the_credential() {
        let client_headers = map(&[("x-mcp-toolsets", "all"), ("user-agent", "client"), ("accept", "a")]);
        let fixed = [("x-mcp-toolsets", "repos"), ("x-tenant", "acme"), ("x-api-key", "fixed")]
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let credential = [(HeaderName::from_static("x-api-key"), HeaderValue::from_static("key"))];
        let forwarded = request_headers(&client_headers, &[], &fixed, &credential);
        assert_eq!(
            names(&forwarded),
            ["accept", "user-agent", "x-api-key", "x-mcp-toolsets", "x-tenant"]
        );
        assert_eq!(forwarded.get_all("x-mcp-toolsets").iter().collect::<Vec<_>>(), ["repos"]);
        assert_eq!(
            (&forwarded["x-tenant"], &forwarded["x-api-key"]),
            (&"acme".parse().unwrap(), &"key".parse().unwrap())
        );
        for name in ["x-tenant", "x-mcp-toolsets", "user-agent"] {
            assert!(may_be_fixed(&HeaderName::from_static(name)), "{name}");
        }
        for name in [
            "mcp-session-id",
            "mcp_session-id",
            "content-type",
            "accept",
            "authorization",
            "cookie",
            "x-user-id",
            "te",
            "host",
        ] {
            assert!(!may_be_fixed(&HeaderName::from_static(name)), "{name}");
        }
    }

    /// Response headers that act for the gateway's origin, steer a cache or a proxy, or end at this hop.
    const HARMFUL: [&str; 33] = [
        "set-cookie",
        "access-control-allow-origin",
        "access-control-expose-headers",
        "location",
        "refresh",
        "clear-site-data",
        "strict-transport-security",
        "alt-svc",
        "service-worker-allowed",
        "report-to",
        "nel",
        "link",
        "www-authenticate",
        "connection",
        "keep-alive",
        "transfer-encoding",
        "upgrade",
        "trailer",
        "cdn-cache-control",
        "cloudflare-cdn-cache-control",
        "surrogate-control",
        "surrogate-key",
        "expires",
        "set-login",
        "origin-trial",
        "speculation-rules",
        "sourcemap",
        "accept-ch",
        "sec-session-registration",
        "x-accel-redirect",
        "x-sendfile",
        "content-security-policy-report-only",
        "set_cookie",
    ];

    #[test]
    fn only_listed_response_headers_pass() {
        let mut headers = map(&HARMFUL.map(|name| (name, "x-hop, content-type, x-ratelimit-limit")));
        headers.extend(map(&[
            ("content-type", "text/html"),
            ("content-encoding", "gzip"),
            ("content-disposition", "attachment"),
            ("mcp-session-id", "s"),
            ("retry-after", "5"),
            ("ratelimit-policy", "p"),
            ("x-ratelimit-remaining", "1"),
            ("x-ratelimit-limit", "ends at this hop"),
            ("x-github-request-id", "r"),
            ("x-hop", "h"),
            ("x-anything", "a"),
            ("server", "s"),
            ("etag", "e"),
            ("content-security-policy", "script-src *"),
            ("x-content-type-options", "whatever"),
            ("cache-control", "Public, S-MaxAge=600"),
        ]));
        response_headers(&mut headers, &[]);
        let expected = [
            "cache-control",
            "content-disposition",
            "content-encoding",
            "content-security-policy",
            "content-type",
            "mcp-session-id",
            "ratelimit-policy",
            "retry-after",
            "x-content-type-options",
            "x-github-request-id",
            "x-ratelimit-remaining",
        ];
        assert_eq!(names(&headers), expected);
        assert_eq!(headers["content-security-policy"], "sandbox; default-src 'none'");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["cache-control"], "no-store");
    }

    #[test]
    fn a_service_can_forward_extra_response_headers_but_never_harmful_ones() {
        let extra: Vec<HeaderName> = HARMFUL.into_iter().chain(["x-quota"]).map(HeaderName::from_static).collect();
        let mut headers: HeaderMap = extra.iter().map(|name| (name.clone(), HeaderValue::from_static("v"))).collect();
        response_headers(&mut headers, &extra);
        assert_eq!(
            names(&headers),
            ["cache-control", "content-security-policy", "x-content-type-options", "x-quota"]
        );
        assert!(HARMFUL.into_iter().all(is_forbidden_response_header) && !is_forbidden_response_header("x-quota"));
    }

    #[test]
    fn event_streams_are_never_buffered_by_a_proxy() {
        for content_type in ["text/event-stream", "Text/Event-Stream; charset=utf-8"] {
            let mut headers = map(&[("content-type", content_type), ("x-accel-buffering", "yes")]);
            response_headers(&mut headers, &[]);
            assert_eq!(headers["x-accel-buffering"], "no");
        }
        let mut json = map(&[("content-type", "application/json")]);
        response_headers(&mut json, &[]);
        assert!(!json.contains_key("x-accel-buffering"));
    }

    #[test]
    fn the_configured_upstream_url_is_preserved_byte_for_byte() {
        for (url, query, expected) in [
            ("https://h/mcp/", None, "https://h/mcp/"),
            ("https://h/mcp", Some("a=1&b=%2F"), "https://h/mcp?a=1&b=%2F"),
            ("https://h/mcp?t=1", Some("a=1"), "https://h/mcp?t=1&a=1"),
            ("https://h/mcp?t=1", Some("t=2"), "https://h/mcp?t=1"),
            (
                "https://h/mcp?t=1&u=%41",
                Some("a=%2F&t=2&&u&b=t"),
                "https://h/mcp?t=1&u=%41&a=%2F&&b=t",
            ),
            (
                "https://h/mcp?read%20only=1",
                Some("read+only=0&%72ead%20only=0&a"),
                "https://h/mcp?read%20only=1&a",
            ),
            (
                "https://h/mcp?t=1",
                Some("%74=2&T=2&t[]=2&a=1;t=2&+t=2&b=1"),
                "https://h/mcp?t=1&b=1",
            ),
            ("https://h/mcp", Some("t=2&t=3"), "https://h/mcp?t=2&t=3"),
            ("https://h/mcp?t=1", Some(""), "https://h/mcp?t=1"),
            ("https://h/a%2fb//c", None, "https://h/a%2fb//c"),
            ("https://h/a<b", None, "https://h/a%3Cb"),
        ] {
            let target = target_uri(&ExactUrl::parse(url).unwrap(), query).unwrap();
            assert_eq!(target.to_string(), expected, "{url}");
        }
    }

    fn verdict(status: u16, fields: &[(&'static str, &str)]) -> ResponseVerdict {
        let mcp = ExactUrl::parse("https://h/mcp").unwrap();
        classify(&mcp, StatusCode::from_u16(status).unwrap(), &map(fields))
    }

    #[test]
    fn an_upstream_response_is_classified_by_status_and_headers() {
        let challenge = [("www-authenticate", r#"Bearer error="insufficient_scope", scope="repo gist""#)];
        let scope = vec!["repo".to_owned(), "gist".to_owned()];
        assert_eq!(verdict(403, &challenge), ResponseVerdict::InsufficientScope { scope });
        assert_eq!(verdict(400, &challenge), ResponseVerdict::Pass);
        assert_eq!(verdict(403, &[("www-authenticate", "Bearer")]), ResponseVerdict::Pass);
        assert_eq!(verdict(401, &[]), ResponseVerdict::Unauthorized);
        for status in [400, 403] {
            let refused = [("www-authenticate", r#"Bearer error="invalid_token""#)];
            assert_eq!(verdict(status, &refused), ResponseVerdict::Unauthorized, "{status}");
        }
        for status in [200, 201, 202, 304, 400, 404, 405, 429, 500, 503] {
            assert_eq!(verdict(status, &[("location", "/mcp/")]), ResponseVerdict::Pass, "{status}");
        }
    }

    #[test]
    fn a_temporary_redirect_to_a_sign_in_refuses_the_token_and_another_names_a_url() {
        let moved = |location: &str| ResponseVerdict::Redirect {
            location: location.to_owned(),
        };
        for location in [
            "https://login.corp.example/",
            "https://h:8443/mcp",
            "//other/mcp",
            "/login?next=/mcp",
            "/Sign-In.aspx",
            "/oauth2/start",
        ] {
            for status in [302, 303, 307] {
                assert_eq!(
                    verdict(status, &[("location", location)]),
                    ResponseVerdict::Unauthorized,
                    "{location}"
                );
            }
            for status in [301, 308] {
                assert_eq!(verdict(status, &[("location", location)]), moved(location), "{location}");
            }
        }
        for location in [
            "/mcp/",
            "https://h/v2/mcp",
            "https://h:443/mcp",
            "",
            "/catalogue",
            "https://[",
            "/blog/ingin",
        ] {
            assert_eq!(verdict(302, &[("location", location)]), moved(location), "{location}");
        }
    }

    #[test]
    fn only_a_short_json_error_is_read_for_its_code() {
        let read = |status: u16, fields: &[(&'static str, &str)]| has_error_body(StatusCode::from_u16(status).unwrap(), &map(fields));
        let json = ("content-type", "application/json; charset=utf-8");
        assert!(read(400, &[json, ("content-length", "4096")]) && read(403, &[json, ("content-length", "0")]));
        assert!(!read(400, &[json, ("content-length", "4097")]) && !read(400, &[json]) && !read(401, &[json, ("content-length", "9")]));
        assert!(!read(400, &[("content-type", "text/event-stream"), ("content-length", "9")]));
        assert!(!read(400, &[json, ("content-length", "9"), ("content-encoding", "gzip")]));
        assert!(is_refused_token(br#"{"error":"invalid_token"}"#) && !is_refused_token(br#"{"error":"invalid_request"}"#));
        for other in [&b"invalid_token"[..], b"", b"[]", br#"{"error":{"message":"invalid_token"}}"#] {
            assert!(!is_refused_token(other));
        }
    }

    #[test]
    fn a_redirect_yields_the_url_to_configure_without_its_query() {
        let mcp = ExactUrl::parse("https://h/mcp").unwrap();
        let target = |location| redirect_target(&mcp, location).map(|url| url.to_string());
        assert_eq!(target("/mcp/").as_deref(), Some("https://h/mcp/"));
        assert_eq!(target("https://other/mcp").as_deref(), Some("https://other/mcp"));
        assert_eq!(target("https://u:p@other/"), None);
        assert_eq!(target("/mcp/?key=k#x").as_deref(), Some("https://h/mcp/"));
    }
}
