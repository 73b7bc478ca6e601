//! Cookies: `HttpOnly`, `SameSite=Lax`, `Path=/`, no `Domain`; on https `__Host-` and `Secure`.

use cookie::{Cookie, SameSite};
use http::HeaderMap;
use http::header::{COOKIE, HeaderValue, SET_COOKIE};

use crate::app::authorize::login_session::SealedCookie;
use crate::app::authorize::repeated_callbacks::REPEAT_SECONDS;
use crate::service::public_urls::PublicUrls;

/// The purpose of a cookie. On http loopback its name has the gateway's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieName<'a> {
    /// Binds the forms of a flow to this browser. Its name has the flow id's first 8 characters.
    Form(&'a str),
    /// Set when the browser is sent to an identity provider; the provider's callback needs it.
    Provider(&'a str),
    /// Set when the user consents; the upstream's callback needs it.
    Upstream(&'a str),
    /// The login session.
    Session,
    /// The mark of a browser whose user signed in before.
    KnownBrowser,
}

/// The maximum number of flows in one browser. A further one removes the oldest.
const MAX_FLOWS: usize = 8;
/// Maximum size of the cookies of earlier flows when a new flow starts, in bytes. Proxies accept
/// headers of 8 KB; in stateless mode the new flow's cookie may need half of that.
const MAX_FLOW_BYTES: usize = 4_096;
/// Lifetime of a flow's cookies, in seconds.
const FLOW_MAX_AGE_SECONDS: i64 = 600;

fn prefix(site: &PublicUrls) -> String {
    if site.is_https() {
        "__Host-gw-".to_owned()
    } else {
        format!("gw{}-", site.port())
    }
}

fn full_name(site: &PublicUrls, name: CookieName<'_>) -> String {
    let prefix = prefix(site);
    match name {
        CookieName::Form(flow) => format!("{prefix}f-{}", flow.get(..8).unwrap_or(flow)),
        CookieName::Provider(flow) => format!("{prefix}i-{}", flow.get(..8).unwrap_or(flow)),
        CookieName::Upstream(flow) => format!("{prefix}u-{}", flow.get(..8).unwrap_or(flow)),
        CookieName::Session => format!("{prefix}s"),
        CookieName::KnownBrowser => format!("{prefix}b"),
    }
}

/// The value of a cookie; `None` if the request has it twice.
pub fn value<'a>(site: &PublicUrls, headers: &'a HeaderMap, name: CookieName<'_>) -> Option<&'a str> {
    let full_name = full_name(site, name);
    let mut values = pairs(headers).filter(|(name, _)| *name == full_name).map(|(_, value)| value);
    let first = values.next();
    if values.next().is_some() { None } else { first }
}

/// Sets a cookie of a flow.
pub fn set(site: &PublicUrls, headers: &mut HeaderMap, name: CookieName<'_>, value: &str) {
    append(site, headers, full_name(site, name), value.to_owned(), FLOW_MAX_AGE_SECONDS);
}

/// Sets a callback's cookie again, for as long as the callback may be repeated.
pub fn set_for_repetition(site: &PublicUrls, headers: &mut HeaderMap, name: CookieName<'_>, value: &str) {
    let max_age = i64::try_from(REPEAT_SECONDS).unwrap_or(0);
    append(site, headers, full_name(site, name), value.to_owned(), max_age);
}

/// Sets a sealed cookie, with its own lifetime.
pub fn set_sealed(site: &PublicUrls, headers: &mut HeaderMap, name: CookieName<'_>, cookie: &SealedCookie) {
    let max_age = i64::try_from(cookie.ttl).unwrap_or(i64::MAX);
    append(site, headers, full_name(site, name), cookie.value.expose().to_owned(), max_age);
}

/// Removes a cookie.
pub fn clear(site: &PublicUrls, headers: &mut HeaderMap, name: CookieName<'_>) {
    append(site, headers, full_name(site, name), String::new(), 0);
}

/// Removes cookies of the oldest flows if there are too many. Browsers send the oldest first.
pub fn prune_flows(site: &PublicUrls, request: &HeaderMap, response: &mut HeaderMap) {
    let prefix = prefix(site);
    for kind in ["f-", "i-", "u-"] {
        let start = format!("{prefix}{kind}");
        let flow_cookies: Vec<(&str, &str)> = pairs(request).filter(|(name, _)| name.starts_with(&start)).collect();
        let mut bytes: usize = flow_cookies.iter().map(|(_, value)| value.len()).sum();
        for (i, (name, value)) in flow_cookies.iter().enumerate() {
            if flow_cookies.len() - i < MAX_FLOWS && bytes <= MAX_FLOW_BYTES {
                break;
            }
            bytes -= value.len();
            append(site, response, (*name).to_owned(), String::new(), 0);
        }
    }
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let values = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
}

fn append(site: &PublicUrls, headers: &mut HeaderMap, name: String, value: String, max_age: i64) {
    let cookie = Cookie::build((name, value))
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(site.is_https())
        .max_age(cookie::time::Duration::seconds(max_age))
        .build();
    if let Ok(value) = HeaderValue::from_str(&cookie.to_string()) {
        headers.append(SET_COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::url::ExactUrl;

    fn site(public: &str) -> PublicUrls {
        PublicUrls::new(ExactUrl::parse(public).unwrap(), vec![])
    }

    #[test]
    fn https_cookies_use_the_host_prefix_and_loopback_cookies_the_port() {
        let mut headers = HeaderMap::new();
        set(&site("https://gw"), &mut headers, CookieName::Form("abcdefghijk"), "v");
        assert_eq!(
            headers[SET_COOKIE],
            "__Host-gw-f-abcdefgh=v; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=600"
        );
        let mut headers = HeaderMap::new();
        let session = SealedCookie {
            value: "v".into(),
            ttl: 43_200,
        };
        set_sealed(&site("http://localhost:8002"), &mut headers, CookieName::Session, &session);
        assert_eq!(headers[SET_COOKIE], "gw8002-s=v; HttpOnly; SameSite=Lax; Path=/; Max-Age=43200");
    }

    #[test]
    fn a_cookie_sent_twice_is_ignored() {
        let site = site("http://localhost:1");
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_static("gw1-s=a; x=y"));
        assert_eq!(value(&site, &headers, CookieName::Session), Some("a"));
        headers.append(COOKIE, HeaderValue::from_static("gw1-s=b"));
        assert_eq!(value(&site, &headers, CookieName::Session), None);
    }

    #[test]
    fn the_oldest_flow_cookies_are_dropped_beyond_count_or_size_limits() {
        let site = site("http://localhost:1");
        let removed_cookies = |count: usize, length: usize| {
            let (mut request, mut response) = (HeaderMap::new(), HeaderMap::new());
            let flow_cookies: Vec<String> = (0..count).map(|n| format!("gw1-f-{n:08}={}", "v".repeat(length))).collect();
            request.insert(COOKIE, HeaderValue::from_str(&flow_cookies.join("; ")).unwrap());
            prune_flows(&site, &request, &mut response);
            let names = response
                .get_all(SET_COOKIE)
                .iter()
                .map(|value| value.to_str().unwrap()[6..14].parse::<usize>().unwrap());
            names.collect::<Vec<_>>()
        };
        assert_eq!(
            (removed_cookies(7, 43), removed_cookies(8, 43), removed_cookies(10, 43)),
            (vec![], vec![0], vec![0, 1, 2])
        );
        assert_eq!(
            (removed_cookies(2, 2_000), removed_cookies(3, 2_000), removed_cookies(2, 3_584)),
            (vec![], vec![0], vec![0])
        );
    }
}
