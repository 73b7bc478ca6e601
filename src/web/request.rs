//! A browser's request.

use std::net::IpAddr;

use bytes::Bytes;
use http::HeaderMap;

use crate::app::App;
use crate::app::runtime_config::RuntimeConfig;
use crate::net::http_client::HttpClient;
use crate::service::public_urls::BaseUrl;

/// A browser's request, with its body read.
pub struct BrowserRequest<'a> {
    /// The use cases.
    pub app: &'a App,
    /// The HTTP client of this worker.
    pub http: &'a HttpClient,
    /// The configuration, loaded once for this request.
    pub config: &'a RuntimeConfig,
    /// The base URL of the host name that the request used.
    pub base_url: &'a BaseUrl,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The query, not decoded.
    pub query: &'a str,
    /// The body; empty for GET.
    pub body: Bytes,
    /// The caller's address, for limits only.
    pub source: IpAddr,
}
