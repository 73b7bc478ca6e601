//! What is checked of every request before anything else: who it calls us, and from which page it comes.

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, Request};

use crate::gateway::site::{As, Site};

/// Which of our names the request used: `:authority` (HTTP/2) or `Host`; both must agree.
pub fn called<'a, B>(site: &'a Site, request: &Request<B>) -> Option<&'a As> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next().map(|value| value.to_str().unwrap_or("\0"));
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    if hosts.next().is_some() || (authority.is_some() && host.is_some() && authority != host) {
        return None;
    }
    site.called(authority.or(host)?)
}

/// What the browser's `Origin` is to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// None was sent: not a browser, or a plain navigation.
    Absent,
    /// A page of ours.
    Own,
    /// Another page; its text is fit for a header.
    Other(String),
}

/// Reads `Origin`.
pub fn origin(called: &As, headers: &HeaderMap) -> Origin {
    let Some(value) = headers.get(ORIGIN) else { return Origin::Absent };
    let Ok(text) = value.to_str() else {
        return Origin::Other("null".into());
    };
    if own_origin(called) == text {
        Origin::Own
    } else {
        Origin::Other(text.to_owned())
    }
}

/// A form of ours is posted by a page of ours, in the same browser: anything else is a forgery.
pub fn is_own_post(called: &As, headers: &HeaderMap) -> bool {
    let site_ok = headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin");
    site_ok && origin(called, headers) == Origin::Own
}

/// Which pages may read an answer (`Access-Control-Allow-Origin`); never with credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Whoever is not a page of another origin: nothing is to be said.
    Own,
    /// Pages of this origin.
    Only(String),
    /// All pages.
    Everyone,
}

/// Which pages may read what an MCP endpoint answers to `origin`; `None`: it may not even ask. `allowed` are the
/// configured origins, compared byte for byte.
pub fn mcp_readers(site: &Site, allowed: &[String], origin: &Origin) -> Option<Readers> {
    let Origin::Other(text) = origin else { return Some(Readers::Own) };
    let everyone = if allowed.is_empty() {
        !site.is_loopback()
    } else {
        allowed.iter().any(|allowed| allowed == "*")
    };
    if everyone {
        return Some(Readers::Everyone);
    }
    let listed = allowed.contains(text) || (allowed.is_empty() && is_loopback(text));
    listed.then(|| Readers::Only(text.clone()))
}

/// A page of another site asked for something without wanting to read the answer, an image perhaps. Such a GET carries no
/// `Origin`, and a service that asks no token would serve it.
pub fn is_blind(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-mode").is_some_and(|mode| mode == "no-cors")
}

fn own_origin(called: &As) -> &str {
    called.parts().0
}

fn is_loopback(origin: &str) -> bool {
    crate::base::url::Address::parse(origin).is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::url::Address;

    fn local() -> Site {
        Site::new(Address::parse("http://localhost:8002").unwrap(), vec![])
    }

    #[test]
    fn a_rebound_name_is_not_ours() {
        let site = local();
        let ask = |host: &str| called(&site, &Request::builder().uri("/mcp").header(HOST, host).body(()).unwrap());
        assert!(ask("localhost:8002").is_some() && ask("127.0.0.1:8002").is_some());
        assert!(ask("evil.example:8002").is_none() && ask("localhost:8002.evil.example").is_none() && ask("").is_none());
        let two = Request::builder()
            .uri("http://localhost:8002/mcp")
            .header(HOST, "evil.example")
            .body(())
            .unwrap();
        assert!(called(&site, &two).is_none());
    }

    #[test]
    fn a_local_gateway_takes_mcp_calls_from_local_pages_only() {
        let may = |text: &str| mcp_readers(&local(), &[], &Origin::Other(text.into()));
        for near in ["http://localhost:6274", "http://127.0.0.1:1", "http://[::1]:9"] {
            assert_eq!(may(near), Some(Readers::Only(near.into())));
        }
        for far in ["https://evil.example", "null", "http://localhost.evil.example", "http://localhost@evil.example"] {
            assert_eq!(may(far), None, "{far}");
        }
    }

    #[test]
    fn configured_origins_are_the_whole_list_and_compared_whole() {
        let public = Site::new(Address::parse("https://gw.example").unwrap(), vec![]);
        let other = |text: &str| Origin::Other(text.into());
        let listed = ["https://app.example".to_owned()];
        assert_eq!(mcp_readers(&public, &[], &other("https://app.example")), Some(Readers::Everyone));
        for site in [&public, &local()] {
            let may = |text: &str| mcp_readers(site, &listed, &other(text));
            assert_eq!(may("https://app.example"), Some(Readers::Only("https://app.example".into())));
            for far in [
                "https://app.example.evil",
                "http://app.example",
                "https://app.example:444",
                "null",
                "http://localhost:1",
                "https://APP.example",
            ] {
                assert_eq!(may(far), None, "{far}");
            }
            assert_eq!(mcp_readers(site, &["*".into()], &other("null")), Some(Readers::Everyone));
            assert_eq!(mcp_readers(site, &listed, &Origin::Own), Some(Readers::Own));
        }
    }
}
