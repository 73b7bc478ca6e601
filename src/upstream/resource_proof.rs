//! Fetches the document with which the origin of an MCP server confirms its registration here.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use crate::base::url::ExactUrl;
use crate::net::dial::AddressPolicy;
use crate::net::http_client::HttpClient;
use crate::upstream::fetch;

/// The document's path.
const PATH: &str = "/.well-known/mcp-oauth-gateway";
/// The maximum size of the document, in bytes.
const MAX_BYTES: usize = 10 * 1024;
const TIMEOUT: Duration = Duration::from_secs(5);

/// Fetches the document at the origin of `resource`; `None` if there is none. Redirects are not followed,
/// because only the origin itself can prove the resource. `loopback`: the gateway is on loopback, so the
/// resource may be too.
pub async fn fetch_proof(client: &HttpClient, resource: &ExactUrl, loopback: bool) -> Option<Bytes> {
    let url = ExactUrl::parse(&format!("{}{PATH}", resource.origin())).ok()?;
    let (request, addresses) = (fetch::get(&url).ok()?, AddressPolicy::Public { loopback });
    let response = fetch::fetch_limited(client, request, &addresses, TIMEOUT, MAX_BYTES).await;
    let response = response.inspect_err(|error| tracing::debug!(%error, "the proof of a server was not read"));
    response
        .ok()
        .filter(|response| response.status == StatusCode::OK)
        .map(|response| response.body)
}
