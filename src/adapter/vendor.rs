//! The vendors: their addresses, and which headers pass in both directions.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::uri::InvalidUri;
use http::{HeaderMap, Method, Request, Response, Uri};
use hyper::body::Incoming;

use crate::net::body::RequestBody;
use crate::net::http_client::{HttpClient, RequestPolicy, SendError};
use crate::upstream::forward_rules::{self, ADAPTER_KEY_HEADER};

/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a model may take before it begins to answer.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(900);

/// The header by which a client says that a request is a repetition.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A model vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// OpenAI.
    OpenAi,
    /// Anthropic.
    Anthropic,
}

impl Vendor {
    /// The path at the vendor whose requests can have MCP entries.
    pub fn loop_path(self) -> &'static str {
        match self {
            Self::OpenAi => "/v1/responses",
            Self::Anthropic => "/v1/messages",
        }
    }
}

/// Headers of one connection, framing, and what identifies the caller to the gateway or its proxies.
const NOT_FOR_VENDOR: [&str; 24] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "host",
    "content-length",
    "expect",
    "cookie",
    "cookie2",
    "origin",
    "referer",
    "forwarded",
    "via",
    "x-real-ip",
    "true-client-ip",
    "cf-connecting-ip",
    ADAPTER_KEY_HEADER,
    "priority",
];

/// The client's headers for the vendor: all of them, the vendor's key included, except for those of the
/// connection and of the way to the gateway.
pub fn request_headers(client: &HeaderMap) -> HeaderMap {
    let named = connection_options(client);
    let passes = |name: &HeaderName| {
        let text = name.as_str();
        let of_proxy = text.starts_with("x-forwarded-") || text.starts_with("sec-");
        !NOT_FOR_VENDOR.contains(&text) && !of_proxy && !named.iter().any(|option| option == text)
    };
    let mut headers = HeaderMap::with_capacity(client.len());
    for (name, value) in client.iter().filter(|(name, _)| passes(name)) {
        let mut value = value.clone();
        let is_secret = matches!(name.as_str(), "authorization" | "x-api-key" | "api-key");
        value.set_sensitive(is_secret || value.is_sensitive());
        headers.append(name, value);
    }
    headers
}

/// The vendor's headers for the client: all but those of the connection, and those that would act for the
/// gateway's origin.
pub fn response_headers(vendor: &HeaderMap) -> HeaderMap {
    let named = connection_options(vendor);
    let passes = |name: &HeaderName| {
        let text = name.as_str();
        !NOT_FOR_VENDOR[..10].contains(&text)
            && !named.iter().any(|option| option == text)
            && !forward_rules::is_forbidden_response_header(text)
    };
    let mut headers = HeaderMap::with_capacity(vendor.len() + 3);
    for (name, value) in vendor.iter().filter(|(name, _)| passes(name)) {
        headers.append(name, value.clone());
    }
    let mut put = |name: HeaderName, value: &'static str| headers.insert(name, HeaderValue::from_static(value));
    put(header::CACHE_CONTROL, "no-store");
    put(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    put(header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'");
    put(HeaderName::from_static("x-accel-buffering"), "no");
    headers
}

fn connection_options(headers: &HeaderMap) -> Vec<String> {
    let fields = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let options = fields.flat_map(|field| field.split(','));
    options.map(|option| option.trim().to_ascii_lowercase()).collect()
}

/// Where and how requests for one client go.
#[derive(Clone, Debug)]
pub struct VendorTarget {
    uri: Uri,
    headers: HeaderMap,
}

impl VendorTarget {
    /// The target of a path and query below the vendor's URL.
    ///
    /// # Errors
    /// If they make no URI.
    pub fn new(base: &str, path_and_query: &str, headers: HeaderMap) -> Result<Self, InvalidUri> {
        let base = base.trim_end_matches('/');
        let uri = format!("{base}{path_and_query}").parse()?;
        Ok(Self { uri, headers })
    }

    /// Forwards a request as it is.
    ///
    /// # Errors
    /// If there is no response.
    pub async fn forward(self, http: &HttpClient, method: Method, body: RequestBody) -> Result<Response<Incoming>, SendError> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        http.send(request, &policy()).await
    }

    /// Asks for an answer of the model. The body is the adapter's, and its answer is read, so it is not
    /// compressed.
    ///
    /// # Errors
    /// If there is no response.
    pub async fn ask(&self, http: &HttpClient, body: String) -> Result<Response<Incoming>, SendError> {
        let mut request = Request::new(RequestBody::Full(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let mut headers = self.headers.clone();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // The key belongs to the client's request. The requests of one loop differ.
        headers.remove(IDEMPOTENCY_KEY);
        *request.headers_mut() = headers;
        http.send(request, &policy()).await
    }
}

fn policy() -> RequestPolicy {
    RequestPolicy::for_configured(CONNECT_TIMEOUT, Some(FIRST_BYTE_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateways_key_and_the_way_to_it_do_not_reach_the_vendor() {
        let mut client = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer sk-1"),
            ("x-mcp-gateway-key", "gwd_1"),
            ("x-stainless-lang", "python"),
            ("x-forwarded-for", "1.2.3.4"),
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("cookie", "a=b"),
            ("anthropic-beta", "one"),
        ] {
            client.append(name, value.parse().unwrap());
        }
        let headers = request_headers(&client);
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["anthropic-beta", "authorization", "x-stainless-lang"]);
        assert!(headers["authorization"].is_sensitive());
    }

    #[test]
    fn a_vendors_limits_and_ids_reach_the_client_and_its_cookies_do_not() {
        let mut vendor = HeaderMap::new();
        for (name, value) in [
            ("x-request-id", "req_1"),
            ("anthropic-ratelimit-requests-remaining", "9"),
            ("retry-after-ms", "20"),
            ("set-cookie", "a=b"),
            ("transfer-encoding", "chunked"),
            ("access-control-allow-origin", "*"),
        ] {
            vendor.append(name, value.parse().unwrap());
        }
        let headers = response_headers(&vendor);
        assert!(
            ["x-request-id", "anthropic-ratelimit-requests-remaining", "retry-after-ms"]
                .iter()
                .all(|name| headers.contains_key(*name))
        );
        assert!(
            ["set-cookie", "transfer-encoding", "access-control-allow-origin"]
                .iter()
                .all(|name| !headers.contains_key(*name))
        );
    }
}
