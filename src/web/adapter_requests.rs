//! Requests to the adapters, which may have a key in the path.

use http::Request;
use http::Uri;
use http::request::Parts;
use hyper::body::Incoming;

use crate::adapter::endpoint::{AdapterRequest, Adapters};
use crate::adapter::vendor::Vendor;
use crate::app::proxy::caller::CallerAddress;
use crate::base::secret::Secret;
use crate::net::http_client::HttpClient;
use crate::web::reply::HttpResponse;

/// The path segment before an adapter's key.
const KEY_SEGMENT: &str = "/k/";

/// The target of a request to an adapter.
pub(super) struct AdapterTarget {
    /// The vendor.
    pub(super) vendor: Vendor,
    /// The path at the vendor.
    pub(super) path: String,
    /// The key that was in the path.
    pub(super) key: Option<Secret>,
}

/// Removes `/k/{key}` from the path and returns the key, before the path is routed or logged. `prefix` is
/// the path of the public URL.
pub(super) fn take_key(parts: &mut Parts, prefix: &str) -> Option<Secret> {
    let (path, query) = (parts.uri.path(), parts.uri.query());
    let (key, rest) = path.strip_prefix(prefix)?.strip_prefix(KEY_SEGMENT)?.split_once('/')?;
    let target = match query {
        Some(query) => format!("{prefix}/{rest}?{query}"),
        None => format!("{prefix}/{rest}"),
    };
    let (key, mut uri) = (Secret::from(key), parts.uri.clone().into_parts());
    uri.path_and_query = Some(target.parse().ok()?);
    parts.uri = Uri::from_parts(uri).ok()?;
    Some(key)
}

/// Forwards a request to the adapters.
pub(super) async fn respond(
    adapters: &Adapters,
    http: &HttpClient,
    request: Request<&mut Option<Incoming>>,
    target: AdapterTarget,
    address: CallerAddress,
) -> HttpResponse {
    let (head, body) = request.into_parts();
    let request = AdapterRequest {
        vendor: target.vendor,
        path: target.path,
        head,
        body,
        path_key: target.key,
        address,
    };
    adapters.respond(http, request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(uri: &str, prefix: &str) -> (Option<Secret>, String) {
        let (mut parts, ()) = Request::builder().uri(uri).body(()).unwrap().into_parts();
        let key = take_key(&mut parts, prefix);
        (key, parts.uri.to_string())
    }

    #[test]
    fn the_key_is_removed_from_the_path() {
        let key = || Some(Secret::from("gwd_1"));
        assert_eq!(
            take("/k/gwd_1/openai/v1/responses?a=b", ""),
            (key(), "/openai/v1/responses?a=b".into())
        );
        assert_eq!(
            take("/gw/k/gwd_1/anthropic/v1/messages", "/gw"),
            (key(), "/gw/anthropic/v1/messages".into())
        );
        assert_eq!(
            take("http://localhost:8002/k/gwd_1/openai/v1/models", "").1,
            "http://localhost:8002/openai/v1/models"
        );
        for unchanged in ["/openai/v1/responses", "/k/gwd_1", "/kx/gwd_1/openai", "/x/k/gwd_1/openai"] {
            assert_eq!(take(unchanged, ""), (None, unchanged.into()));
        }
    }
}
