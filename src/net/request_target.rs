//! The target of a request, parsed once from its URL.

use crate::net::body::RequestBody;
use crate::net::dial::AddressPolicy;
use crate::net::pool::PoolKey;
use http::header::HOST;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Request, Uri, Version};

pub(super) struct RequestTarget {
    https: bool,
    host: String,
    port: u16,
    /// HTTP/2: scheme, authority and path.
    full: Uri,
    /// HTTP/1.1: only the path. The authority is in `Host`.
    path: Uri,
    authority: HeaderValue,
}

impl RequestTarget {
    /// Parses `uri`. `None` unless it is absolute, http or https, with a host.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let https = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let host = uri.host().filter(|host| !host.is_empty())?.to_ascii_lowercase();
        let default_port = if https { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default_port);
        // Built from host and port, so that user info is not sent.
        let authority = if port == default_port {
            host.clone()
        } else {
            format!("{host}:{port}")
        };
        // `http::Uri` does not add the `/` before a query without a path.
        let path = match uri.path_and_query().map(PathAndQuery::as_str) {
            Some(path) if path.starts_with('/') => uri.path_and_query()?.clone(),
            Some(query) if query.starts_with('?') => PathAndQuery::try_from(format!("/{query}")).ok()?,
            _ => PathAndQuery::from_static("/"),
        };
        let full = Uri::builder()
            .scheme(if https { "https" } else { "http" })
            .authority(authority.parse::<Authority>().ok()?)
            .path_and_query(path.clone())
            .build()
            .ok()?;
        let authority = HeaderValue::try_from(authority).ok()?;
        Some(Self {
            https,
            host,
            port,
            full,
            path: Uri::from(path),
            authority,
        })
    }

    /// The key of the connections that may carry the request.
    pub(super) fn key(&self, addresses: AddressPolicy, http2: bool) -> PoolKey {
        PoolKey {
            https: self.https,
            host: self.host.clone(),
            port: self.port,
            http2,
            addresses,
        }
    }

    /// Writes the target into `request`, in the form of the connection's HTTP version.
    pub(super) fn apply_to(&self, request: &mut Request<RequestBody>, http2: bool) {
        if http2 {
            *request.version_mut() = Version::HTTP_2;
            *request.uri_mut() = self.full.clone();
            request.headers_mut().remove(HOST);
        } else {
            *request.version_mut() = Version::HTTP_11;
            *request.uri_mut() = self.path.clone();
            request.headers_mut().insert(HOST, self.authority.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Option<(String, u16, String, String)> {
        let target = RequestTarget::of(&url.parse().expect(url))?;
        let authority = target.authority.to_str().expect("text").to_owned();
        Some((target.host, target.port, authority, target.full.to_string()))
    }

    #[test]
    fn a_request_url_is_split_into_host_port_and_authority() {
        for (url, host, port, authority, full) in [
            ("https://A.example", "a.example", 443, "a.example", "https://a.example/"),
            ("https://a.example:443/x?y", "a.example", 443, "a.example", "https://a.example/x?y"),
            ("http://a:8080?q", "a", 8080, "a:8080", "http://a:8080/?q"),
            ("http://u:p@a/", "a", 80, "a", "http://a/"),
            ("https://[::1]:9/x", "[::1]", 9, "[::1]:9", "https://[::1]:9/x"),
        ] {
            let expected = (host.to_owned(), port, authority.to_owned(), full.to_owned());
            assert_eq!(target(url), Some(expected), "{url}");
        }
    }

    #[test]
    fn a_target_that_is_not_an_http_url_is_refused() {
        for url in ["/path", "ftp://a.example/", "a.example:443", "*"] {
            assert_eq!(target(url), None, "{url}");
        }
    }
}
