//! Checks of a request's head: host, page origin, and the address of the caller.

use std::net::IpAddr;

use http::header::{FORWARDED, HOST, HeaderName, ORIGIN};
use http::{HeaderMap, Request};

use crate::base::special_ip::Cidr;
use crate::service::public_urls::{BaseUrl, PublicUrls};

/// The base URL for `:authority` (HTTP/2) or `Host`, which must agree; `None` for other hosts.
pub fn match_host<'a, B>(site: &'a PublicUrls, request: &Request<B>) -> Option<&'a BaseUrl> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next().map(|value| value.to_str().unwrap_or("\0"));
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    if hosts.next().is_some() || (authority.is_some() && host.is_some() && authority != host) {
        return None;
    }
    site.find_base(authority.or(host)?)
}

/// The origin of the page that sent a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// There is no `Origin`: the caller is not a browser, or the request is a navigation.
    Absent,
    /// A page of this gateway.
    Own,
    /// Another page. The text is safe in a header.
    Other(String),
}

/// Parses `Origin`.
pub fn origin(base_url: &BaseUrl, headers: &HeaderMap) -> Origin {
    let Some(value) = headers.get(ORIGIN) else { return Origin::Absent };
    let Ok(text) = value.to_str() else {
        return Origin::Other("null".into());
    };
    if own_origin(base_url) == text {
        Origin::Own
    } else {
        Origin::Other(text.to_owned())
    }
}

/// Whether a page of this gateway posted the form. Any other post is a forgery (CSRF). Some browsers hide the
/// origin of a form (`null`, or none) and still send `Sec-Fetch-Site`, which no page can set.
pub fn is_own_post(base_url: &BaseUrl, headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all("sec-fetch-site").iter();
    let is_same_origin = sites.next().map(|site| site == "same-origin");
    match (is_same_origin, origin(base_url, headers)) {
        _ if sites.next().is_some() => false,
        (Some(true) | None, Origin::Own) | (Some(true), Origin::Absent) => true,
        (Some(true), Origin::Other(origin)) => origin == "null",
        (Some(false), _) | (None, Origin::Absent | Origin::Other(_)) => false,
    }
}

/// Whether the `Sec-Fetch-*` headers show that the user navigated here, and not a page of another
/// site. All current browsers send these headers. Prefetches and frames do not count.
pub fn is_user_initiated(headers: &HeaderMap) -> bool {
    let single_value = |name: &str| {
        let mut values = headers.get_all(name).iter();
        values
            .next()
            .filter(|_| values.next().is_none())
            .and_then(|value| value.to_str().ok())
    };
    let site_allowed = single_value("sec-fetch-site").is_some_and(|site| ["none", "same-origin", "same-site"].contains(&site));
    site_allowed
        && single_value("sec-fetch-mode") == Some("navigate")
        && single_value("sec-fetch-dest") == Some("document")
        && !headers.contains_key("sec-purpose")
}

/// Whether the browser only prefetches the page. A prefetched callback would consume the code.
pub fn is_prefetch(headers: &HeaderMap) -> bool {
    let values = ["sec-purpose", "purpose"].into_iter().flat_map(|name| headers.get_all(name).iter());
    let mut texts = values.filter_map(|value| value.to_str().ok());
    texts.any(|text| text.to_ascii_lowercase().contains("prefetch"))
}

/// The pages that may read a response (`Access-Control-Allow-Origin`), always without credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsPolicy {
    /// The caller is not a page of another origin, so the response needs no CORS headers.
    Own,
    /// Pages of this origin.
    Only(String),
    /// All pages.
    Everyone,
}

/// The pages that may read an MCP endpoint's response to a page of `origin`; `None` refuses the
/// request. `allowed` are the configured origins, compared byte for byte.
///
/// Without `allowed`, a page needs a credential that no browser adds automatically. A service that requires
/// no credential, or has the user's own, serves no page (`serves_pages` is false). Otherwise every web page
/// could call the upstream.
pub fn mcp_cors_policy(site: &PublicUrls, allowed: &[String], origin: &str, serves_pages: bool) -> Option<CorsPolicy> {
    let only = || Some(CorsPolicy::Only(origin.to_owned()));
    if allowed.iter().any(|allowed| allowed == "*") {
        return Some(CorsPolicy::Everyone);
    }
    match (allowed, serves_pages) {
        ([], false) => None,
        ([], true) if !site.is_loopback() => Some(CorsPolicy::Everyone),
        ([], true) => only().filter(|_| is_loopback(origin)),
        (_, _) => only().filter(|_| allowed.iter().any(|allowed| allowed == origin)),
    }
}

/// Whether a page sent the request without access to the response, for an image for example. Such
/// a GET has no `Origin`, so a service without authentication would serve it.
pub fn is_opaque_request(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-mode").is_some_and(|mode| mode == "no-cors")
}

/// The caller's address, for limits only: the peer, or the address that `trusted` proxies report.
///
/// A proxy appends the address of its caller, so the last untrusted address is the caller's. The
/// caller can forge the ones before it. A proxy appends to `X-Forwarded-For` or `Forwarded` and
/// forwards the other unchanged. If the two differ, or one is unreadable, the result is the peer.
pub fn source(peer: IpAddr, headers: &HeaderMap, trusted: &[Cidr]) -> IpAddr {
    let peer = peer.to_canonical();
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.covers(address));
    if !is_trusted(peer) {
        return peer;
    }
    let forwarded_address = |name: HeaderName, split: fn(&str) -> Vec<&str>, hop: fn(&str) -> Option<IpAddr>| {
        let mut lines = headers.get_all(name).iter().peekable();
        lines.peek()?;
        let mut hops = lines.flat_map(|line| split(line.to_str().unwrap_or("?"))).map(hop).rev();
        let mut last = peer;
        let caller = hops.try_for_each(|hop| match hop {
            Some(address) if is_trusted(address) => {
                last = address;
                Ok(())
            }
            Some(address) => Err(address),
            None => Err(peer),
        });
        Some(caller.err().unwrap_or(last))
    };
    let plain = forwarded_address(HeaderName::from_static("x-forwarded-for"), |line| line.split(',').collect(), node);
    match (plain, forwarded_address(FORWARDED, |line| split_unquoted(line, ','), forwarded_for)) {
        (Some(one), Some(other)) if one == other => one,
        (Some(_), Some(_)) | (None, None) => peer,
        (Some(one), None) | (None, Some(one)) => one,
    }
}

/// `for=` of one element of `Forwarded` (RFC 7239 §4); `None` if it is hidden or unknown.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let pairs = split_unquoted(element, ';').into_iter().filter_map(|pair| pair.split_once('='));
    let mut for_pairs = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
    let (_, value) = for_pairs.next()?;
    if for_pairs.next().is_some() {
        return None;
    }
    let value = value.trim();
    node(value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value))
}

fn split_unquoted(text: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(|c| {
        let is_unquoted = !quoted;
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        is_unquoted && c == separator
    })
    .collect()
}

/// Parses an address with or without a port. An IPv6 address with a port needs brackets.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = match text.strip_prefix('[') {
        Some(rest) => {
            let (inside, port) = rest.split_once(']')?;
            let is_port = port.is_empty() || port.starts_with(':');
            inside.parse::<std::net::Ipv6Addr>().ok().filter(|_| is_port)?.into()
        }
        None => match (text.parse::<IpAddr>(), text.split_once(':')) {
            (Ok(address), _) => address,
            (Err(_), Some((address, _))) => address.parse::<std::net::Ipv4Addr>().ok()?.into(),
            (Err(_), None) => return None,
        },
    };
    Some(address.to_canonical())
}

fn own_origin(base_url: &BaseUrl) -> &str {
    base_url.parts().0
}

fn is_loopback(origin: &str) -> bool {
    crate::base::url::ExactUrl::parse(origin).is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::url::ExactUrl;

    fn local() -> PublicUrls {
        PublicUrls::new(ExactUrl::parse("http://localhost:8002").unwrap(), vec![])
    }

    #[test]
    fn a_navigation_is_user_initiated_only_with_the_expected_fetch_metadata() {
        let is_initiated = |lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, value.parse().unwrap());
            }
            is_user_initiated(&headers)
        };
        let rest = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        let from = |site: &'static str| is_initiated(&[&[("sec-fetch-site", site)], &rest[..]].concat());
        assert!(from("none") && from("same-origin") && from("same-site"));
        assert!(!from("cross-site") && !from("") && !from("None") && !is_initiated(&rest));
        let none = ("sec-fetch-site", "none");
        assert!(
            !is_initiated(&[none, none, rest[0], rest[1]])
                && !is_initiated(&[none])
                && !is_initiated(&[none, rest[0], ("sec-fetch-dest", "iframe")])
        );
        assert!(!is_initiated(&[none, rest[0], rest[1], ("sec-purpose", "prefetch")]));
    }

    #[test]
    fn a_request_with_a_foreign_host_is_refused() {
        let site = local();
        let find_host = |host: &str| match_host(&site, &Request::builder().uri("/mcp").header(HOST, host).body(()).unwrap());
        assert!(find_host("localhost:8002").is_some() && find_host("127.0.0.1:8002").is_some());
        assert!(find_host("evil.example:8002").is_none() && find_host("localhost:8002.evil.example").is_none() && find_host("").is_none());
        let two = Request::builder()
            .uri("http://localhost:8002/mcp")
            .header(HOST, "evil.example")
            .body(())
            .unwrap();
        assert!(match_host(&site, &two).is_none());
    }

    #[test]
    fn a_local_gateway_accepts_mcp_calls_only_from_local_origins() {
        let policy = |text: &str| mcp_cors_policy(&local(), &[], text, true);
        for allowed in ["http://localhost:6274", "http://127.0.0.1:1", "http://[::1]:9"] {
            assert_eq!(policy(allowed), Some(CorsPolicy::Only(allowed.into())));
        }
        for foreign in [
            "https://evil.example",
            "null",
            "http://localhost.evil.example",
            "http://localhost@evil.example",
        ] {
            assert_eq!(policy(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_service_without_a_credential_serves_no_page_by_default() {
        let public = PublicUrls::new(ExactUrl::parse("https://gw.example").unwrap(), vec![]);
        for origin in ["https://evil.example", "http://localhost:6274", "null"] {
            for site in [&public, &local()] {
                assert_eq!(mcp_cors_policy(site, &[], origin, false), None, "{origin}");
            }
        }
        let allowed = ["chrome-extension://abc".to_owned()];
        let only = Some(CorsPolicy::Only(allowed[0].clone()));
        assert_eq!(mcp_cors_policy(&public, &allowed, &allowed[0], false), only);
        assert_eq!(mcp_cors_policy(&public, &["*".into()], "null", false), Some(CorsPolicy::Everyone));
    }

    #[test]
    fn only_configured_origins_are_allowed_and_compared_exactly() {
        let public = PublicUrls::new(ExactUrl::parse("https://gw.example").unwrap(), vec![]);
        let allowed = ["https://app.example".to_owned()];
        assert_eq!(
            mcp_cors_policy(&public, &[], "https://app.example", true),
            Some(CorsPolicy::Everyone)
        );
        for site in [&public, &local()] {
            let policy = |text: &str| mcp_cors_policy(site, &allowed, text, true);
            assert_eq!(policy("https://app.example"), Some(CorsPolicy::Only("https://app.example".into())));
            for foreign in [
                "https://app.example.evil",
                "http://app.example",
                "https://app.example:444",
                "null",
                "http://localhost:1",
                "https://APP.example",
            ] {
                assert_eq!(policy(foreign), None, "{foreign}");
            }
            assert_eq!(mcp_cors_policy(site, &["*".into()], "null", true), Some(CorsPolicy::Everyone));
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// The source of a request from `peer`, with 10.0.0.0/8 and fd00::/8 as trusted proxies.
    fn from(peer: &str, headers: &[(&'static str, &str)]) -> IpAddr {
        let trusted: Vec<Cidr> = ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap()).into();
        let mut header_map = HeaderMap::new();
        for (name, value) in headers {
            header_map.append(*name, value.parse().unwrap());
        }
        source(ip(peer), &header_map, &trusted)
    }

    #[test]
    fn only_a_trusted_proxy_can_set_the_client_address() {
        for peer in ["198.51.100.7", "::ffff:198.51.100.7", "2001:db8::7", "2002:a00:1::1"] {
            let headers = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.1")];
            assert_eq!(from(peer, &headers), ip(peer).to_canonical(), "{peer}");
        }
        let one = [("x-forwarded-for", "192.0.2.1")];
        assert_eq!(source(ip("10.0.0.1"), &HeaderMap::new(), &[]), ip("10.0.0.1"));
        assert_eq!(from("10.0.0.1", &[]), ip("10.0.0.1"));
        for peer in ["10.0.0.1", "::ffff:10.0.0.1", "fd00::1"] {
            assert_eq!(from(peer, &one), ip("192.0.2.1"), "{peer}");
        }
    }

    #[test]
    fn the_last_untrusted_address_of_x_forwarded_for_is_the_client() {
        for (value, caller) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1, 10.9.9.9", "192.0.2.1"),
            ("10.0.0.5, 192.0.2.66, 192.0.2.1, 10.9.9.9 ,fd00::7", "192.0.2.1"),
            ("made up, 192.0.2.1", "192.0.2.1"),
            ("\", 192.0.2.1", "192.0.2.1"),
            ("2001:db8::1,10.9.9.9", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("192.0.2.1:50000", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("10.1.1.1, 10.9.9.9", "10.1.1.1"),
        ] {
            assert_eq!(from("10.0.0.1", &[("x-forwarded-for", value)]), ip(caller), "{value}");
        }
        let lines = [("x-forwarded-for", "192.0.2.66"), ("x-forwarded-for", "192.0.2.1")];
        assert_eq!(from("10.0.0.1", &lines), ip("192.0.2.1"));
    }

    #[test]
    fn the_forwarded_header_is_read_like_x_forwarded_for() {
        for (value, caller) in [
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            ("for=192.0.2.43, For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=192.0.2.43, for=10.0.0.9;host=\"a,b;for=1.1.1.1\"", "192.0.2.43"),
            ("for=\"192.0.2.43:_port\"", "192.0.2.43"),
            // The client's forged element precedes the proxy's, even if it opens a quote.
            ("for=_hidden, for=192.0.2.43", "192.0.2.43"),
        ] {
            assert_eq!(from("10.0.0.1", &[("forwarded", value)]), ip(caller), "{value}");
        }
        let lines = [("forwarded", "for=\"192.0.2.66, for=10.0.0.2"), ("forwarded", "for=192.0.2.43")];
        assert_eq!(from("10.0.0.1", &lines), ip("192.0.2.43"));
    }

    #[test]
    fn unreadable_or_conflicting_forwarding_headers_leave_the_peer_address() {
        for value in [
            "",
            ",",
            "unknown",
            "192.0.2.1, nonsense",
            "192.0.2.1, ",
            "[2001:db8::1",
            "[192.0.2.1]",
            "1.2.3.4.5",
            "2001:db8::1%eth0",
            "\u{e9}",
        ] {
            assert_eq!(from("10.0.0.1", &[("x-forwarded-for", value)]), ip("10.0.0.1"), "{value}");
        }
        for value in [
            "",
            "by=192.0.2.1",
            "for=unknown",
            "for=_hidden",
            "192.0.2.1",
            "for=192.0.2.1;for=192.0.2.2",
            "for=\"192.0.2.1, for=10.0.0.2",
        ] {
            assert_eq!(from("10.0.0.1", &[("forwarded", value)]), ip("10.0.0.1"), "{value}");
        }
        let both = |one, other| from("10.0.0.1", &[("x-forwarded-for", one), ("forwarded", other)]);
        assert_eq!(both("192.0.2.1", "for=192.0.2.2"), ip("10.0.0.1"));
        assert_eq!(both("192.0.2.1", "for=192.0.2.1"), ip("192.0.2.1"));
    }

    /// The proxy appends to `X-Forwarded-For` and forwards the caller's `Forwarded`, which differs.
    #[test]
    fn conflicting_headers_from_a_local_proxy_do_not_escape_the_limit() {
        let (limits, trusted) = (crate::app::rate_limit::AnonymousLimit::default(), ["127.0.0.1/32".parse().unwrap()]);
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "198.51.100.7".parse().unwrap());
        headers.insert("forwarded", "for=203.0.113.9".parse().unwrap());
        let source = source([127, 0, 0, 1].into(), &headers, &trusted);
        let allowed = (0..7_000).filter(|_| limits.allow(source, &trusted)).count();
        assert!((6_000..6_900).contains(&allowed), "{allowed}");
    }
}
