//! Redirect URIs: what is accepted is kept byte for byte, is nothing that a browser runs, and shows cleanly.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_oauth_gateway::oauth::redirect_uri::{RedirectKind, RedirectUri};
use url::{Host, Url};

fuzz_target!(|text: &str| {
    // Two at once, so that one may admit the other.
    let (first, second) = text.split_once('\n').unwrap_or((text, text));
    let Ok(uri) = RedirectUri::parse(first) else { return };
    good(first, &uri);
    let Ok(other) = RedirectUri::parse(second) else { return };
    good(second, &other);
    assert_eq!(uri.matches(&other), other.matches(&uri));
    if uri.matches(&other) && first != second {
        // Only the port of a loopback may differ: the same host, path and query, by an independent parse.
        // A name below `localhost` is no such host.
        for text in [first, second] {
            assert!(is_loopback(&Url::parse(text).expect("it was accepted")), "{text}");
        }
        let portless = |text: &str| {
            let mut url = Url::parse(text).expect("it was accepted");
            url.set_port(None).expect("it has a host");
            url
        };
        assert_eq!(portless(first), portless(second));
    }
});

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// Whether the host is a name below `localhost`, which is this machine.
fn is_below_localhost(url: &Url) -> bool {
    matches!(url.host(), Some(Host::Domain(name)) if name.ends_with(".localhost"))
}

fn good(text: &str, uri: &RedirectUri) {
    // What the parser repairs, a browser reads otherwise: a host must follow `//`.
    let host_follows = || {
        text.split_once("://")
            .is_some_and(|(scheme, rest)| scheme.len() <= 5 && !rest.starts_with('/'))
    };
    assert!(uri.kind() == RedirectKind::App || host_follows());
    assert_eq!(uri.as_str(), text);
    assert!(uri.matches(uri));
    // As a browser would read it, which strips and folds.
    let read: String = text
        .chars()
        .filter(|c| !c.is_whitespace() && !c.is_control())
        .collect::<String>()
        .to_ascii_lowercase();
    for scheme in [
        "javascript:",
        "data:",
        "file:",
        "vbscript:",
        "blob:",
        "about:",
        "filesystem:",
        "view-source:",
    ] {
        assert!(!read.starts_with(scheme), "{text}");
    }
    let url = Url::parse(text).expect("it was accepted");
    assert!(url.fragment().is_none() && url.username().is_empty() && url.password().is_none());
    match uri.kind() {
        RedirectKind::Web => assert!(url.scheme() == "https" && !is_loopback(&url) && !is_below_localhost(&url)),
        RedirectKind::Loopback => {
            assert!(matches!(url.scheme(), "http" | "https") && (is_loopback(&url) || is_below_localhost(&url)));
        }
        RedirectKind::App => assert!(!matches!(url.scheme(), "http" | "https")),
    }
    let shown = uri.display_host();
    assert!(!shown.is_empty() && shown.chars().all(|c| c.is_ascii_graphic()), "{shown:?}");
    // What a record keeps reads back the same.
    let json = serde_json::to_string(uri).expect("a text is JSON");
    assert_eq!(&serde_json::from_str::<RedirectUri>(&json).expect("it was written"), uri);
}
