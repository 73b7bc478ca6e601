//! RouteTable: nothing but an exact path leads anywhere, with or without a prefix.
#![no_main]

use std::sync::LazyLock;

use http::Method;
use libfuzzer_sys::fuzz_target;
use mcp_oauth_gateway::web::routes::{BrowserEndpoint, Endpoint, Route, RouteError, RouteTable};

static BARE: LazyLock<RouteTable> = LazyLock::new(|| RouteTable::new(""));
static PREFIXED: LazyLock<RouteTable> = LazyLock::new(|| RouteTable::new("/gw"));
const METHODS: [Method; 6] = [
    Method::GET,
    Method::POST,
    Method::HEAD,
    Method::OPTIONS,
    Method::DELETE,
    Method::PUT,
];

fuzz_target!(|path: &str| {
    for method in METHODS {
        let bare = BARE.find(&method, path);
        judge(&method, path, &bare);
        // A prefix moves the table, and changes nothing in it.
        if path.starts_with('/') && !path.starts_with("/.well-known/") {
            assert_eq!(PREFIXED.find(&method, &format!("/gw{path}")), bare);
        }
        let prefixed = PREFIXED.find(&method, path);
        if prefixed != Err(RouteError::NotFound) {
            assert!(path.starts_with("/gw") || path.starts_with("/.well-known/"), "{path}");
            assert!(path.contains("/gw"));
        }
    }
});

fn judge(method: &Method, path: &str, found: &Result<Route, RouteError>) {
    match found {
        Ok(Route::Endpoint(Endpoint::Browser(BrowserEndpoint::Login(flow)))) => {
            assert!(!flow.is_empty() && !flow.contains('/') && path == format!("/login/{flow}"))
        }
        Ok(Route::Endpoint(Endpoint::Browser(BrowserEndpoint::Consent(flow)))) => {
            assert!(!flow.is_empty() && !flow.contains('/') && path == format!("/consent/{flow}"))
        }
        Ok(_) => exact(path),
        Err(RouteError::Method(allowed)) => assert!(allowed.split(", ").all(|name| name != method.as_str())),
        Err(RouteError::NotFound) => {}
    }
}

/// No escape, no dot segment, no empty segment, nothing that another server on the way might read differently.
fn exact(path: &str) {
    assert!(path.starts_with('/'), "{path}");
    // The id of a registered server has capitals.
    let has_id = path.contains("srv_");
    assert!(
        path.bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"/-._".contains(&b) || (has_id && b.is_ascii_uppercase())),
        "{path}"
    );
    assert!(
        !path.contains("//") && !path.split('/').any(|segment| segment == "." || segment == ".."),
        "{path}"
    );
}
