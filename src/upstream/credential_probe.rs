//! Checks whether an MCP server accepts a credential, by one `initialize` request.

use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::{Request, StatusCode};
use serde_json::json;

use crate::base::url::ExactUrl;
use crate::net::body::RequestBody;
use crate::net::dial::AddressPolicy;
use crate::net::http_client::HttpClient;
use crate::upstream::fetch::{self, FetchError};

/// The timeout of the probe, for which a user waits.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

/// A header that contains a credential.
pub type CredentialHeader = (HeaderName, HeaderValue);

/// The result of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// The credential was not refused, even if the server refused `initialize` for another reason. Contains
    /// the session that the server opened, if any.
    Accepted(Option<HeaderValue>),
    /// 401 or 403: the server refuses the credential.
    Refused,
    /// There is no result: the server is unreachable, failing, busy, or redirects. A redirect is not followed,
    /// because the key would go to another server.
    NoResponse(String),
}

/// The first request of a client, without a credential.
pub(super) fn initialize_request(mcp: &ExactUrl) -> Result<Request<RequestBody>, FetchError> {
    let info = json!({ "name": "mcp-oauth-gateway", "version": env!("CARGO_PKG_VERSION") });
    let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info });
    mcp_request(mcp, &json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params }))
}

/// A second request without a credential and without a session, for a server that answered the first.
pub(super) fn list_tools_request(mcp: &ExactUrl) -> Result<Request<RequestBody>, FetchError> {
    mcp_request(mcp, &json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }))
}

fn mcp_request(mcp: &ExactUrl, message: &serde_json::Value) -> Result<Request<RequestBody>, FetchError> {
    let mut request = fetch::post(mcp, "application/json", message.to_string())?;
    let accept = HeaderValue::from_static("application/json, text/event-stream");
    request.headers_mut().insert(header::ACCEPT, accept);
    Ok(request)
}

/// Tries a credential at the MCP server. Does not follow redirects.
pub async fn probe(client: &HttpClient, mcp: &ExactUrl, (name, value): &CredentialHeader) -> ProbeResult {
    let mut request = match initialize_request(mcp) {
        Ok(request) => request,
        Err(error) => return ProbeResult::NoResponse(error.to_string()),
    };
    request.headers_mut().insert(name.clone(), value.clone());
    match fetch::fetch_head(client, request, &AddressPolicy::Anything, PROBE_TIMEOUT).await {
        Ok((status, mut headers)) => judge(status, headers.remove(SESSION)),
        Err(error) => ProbeResult::NoResponse(error.to_string()),
    }
}

/// Closes the session of a probe. If the server does not allow that, the session expires.
pub async fn close(client: &HttpClient, mcp: &ExactUrl, (name, value): CredentialHeader, session: HeaderValue) {
    let Ok(mut request) = fetch::get(mcp) else { return };
    *request.method_mut() = http::Method::DELETE;
    request.headers_mut().insert(name, value);
    request.headers_mut().insert(SESSION, session);
    if let Err(error) = fetch::fetch_head(client, request, &AddressPolicy::Anything, PROBE_TIMEOUT).await {
        tracing::debug!(why = %error, "the session of a probe could not be closed");
    }
}

fn judge(status: StatusCode, session: Option<HeaderValue>) -> ProbeResult {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ProbeResult::Refused,
        // These statuses say nothing about the credential.
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => ProbeResult::NoResponse(format!("it says {}", status.as_u16())),
        _ if status.is_success() => ProbeResult::Accepted(session),
        _ if status.is_client_error() => ProbeResult::Accepted(None),
        _ => ProbeResult::NoResponse(format!("it says {}", status.as_u16())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probed_key_is_refused_only_by_status_401_or_403() {
        let verdict = |status| judge(StatusCode::from_u16(status).unwrap(), None);
        for status in [401, 403] {
            assert_eq!(verdict(status), ProbeResult::Refused);
        }
        for status in [200, 202, 204, 400, 404, 405, 406, 415, 422] {
            assert_eq!(verdict(status), ProbeResult::Accepted(None), "{status}");
        }
        for status in [301, 302, 307, 308, 408, 429, 500, 502, 503, 504] {
            assert!(matches!(verdict(status), ProbeResult::NoResponse(_)), "{status}");
        }
    }
}
