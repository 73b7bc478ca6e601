//! Detects an MCP server that speaks only HTTP+SSE, the transport of MCP 2024-11-05. The gateway forwards only
//! Streamable HTTP: a stream of the older transport names another endpoint than the configured URL.

use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};

use crate::base::url::ExactUrl;
use crate::net::dial::AddressPolicy;
use crate::net::http_client::HttpClient;
use crate::upstream::credential_probe;
use crate::upstream::fetch::{self, FetchError};

const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// The message about such a server.
pub const HTTP_SSE_MESSAGE: &str = "the upstream speaks HTTP+SSE (MCP 2024-11-05), which the gateway does not forward: it refuses a POST \
    and answers GET; configure the URL of its Streamable HTTP endpoint, which often ends in /mcp";

/// Whether the server at `mcp` refuses a POST by its method, and would answer a GET with events.
///
/// # Errors
/// If the server does not answer.
pub async fn is_http_sse(client: &HttpClient, mcp: &ExactUrl) -> Result<bool, FetchError> {
    let request = credential_probe::initialize_request(mcp)?;
    let (status, _) = fetch::fetch_head(client, request, &AddressPolicy::Anything, PROBE_TIMEOUT).await?;
    if !matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) {
        return Ok(false);
    }
    let mut request = fetch::get(mcp)?;
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    let (status, headers) = fetch::fetch_head(client, request, &AddressPolicy::Anything, PROBE_TIMEOUT).await?;
    Ok(status == StatusCode::UNAUTHORIZED || (status == StatusCode::OK && is_events(&headers)))
}

fn is_events(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|text| text.to_ascii_lowercase().starts_with("text/event-stream"))
}
