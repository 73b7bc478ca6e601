//! Metadata of upstreams: what is used speaks for whom it was asked of, and leads nowhere but to https.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mcp_oauth_gateway::base::url::ExactUrl;
use mcp_oauth_gateway::oauth::metadata::{self, AuthorizationServer, MetadataError, MetadataWaivers, ProtectedResource};
use url::Url;

static ISSUERS: LazyLock<[ExactUrl; 3]> = LazyLock::new(|| ["https://as", "https://as/t/", "http://localhost:9"].map(at));
static SERVERS: LazyLock<[ExactUrl; 2]> = LazyLock::new(|| ["https://as/mcp", "http://localhost:9/mcp"].map(at));

fn at(text: &str) -> ExactUrl {
    ExactUrl::parse(text).expect("an address")
}

fuzz_target!(|bytes: &[u8]| {
    for issuer in ISSUERS.iter() {
        let strict = AuthorizationServer::parse(bytes, issuer, MetadataWaivers::default());
        for waived in [
            MetadataWaivers::default(),
            MetadataWaivers {
                pkce: true,
                ..MetadataWaivers::default()
            },
            MetadataWaivers {
                root_slash: true,
                issuers: &["https://behind"],
                ..MetadataWaivers::default()
            },
            MetadataWaivers {
                pkce: true,
                root_slash: true,
                ..MetadataWaivers::default()
            },
        ] {
            let read = AuthorizationServer::parse(bytes, issuer, waived);
            if strict.is_ok() {
                assert_eq!(read, strict, "waiving refuses or changes nothing");
            }
            match read {
                Ok(server) => server_is_good(&server, issuer, waived),
                Err(why) => printable(&why),
            }
        }
    }
    for mcp in SERVERS.iter() {
        match ProtectedResource::parse(bytes, mcp, None) {
            Ok(resource) => {
                assert!(metadata::is_resource_of(&resource.resource, mcp));
                // Without one, the origin of the MCP server is asked.
                resource.authorization_servers.iter().for_each(|server| secure(server, mcp));
                assert_eq!(at(&resource.resource).origin(), mcp.origin());
            }
            Err(why) => printable(&why),
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(address) = ExactUrl::parse(text) else { return };
    assert!(metadata::is_resource_of(text, &address));
    // Where we would look next: on the same origin, each place once.
    if !matches!(address.url().scheme(), "http" | "https") {
        return;
    }
    for urls in [
        metadata::protected_resource_urls(&address),
        metadata::authorization_server_urls(&address),
    ] {
        for (i, url) in urls.iter().enumerate() {
            assert!(!urls[..i].contains(url));
            let url = Url::parse(url).expect("a URL");
            assert_eq!(url.origin().ascii_serialization(), address.origin(), "{url}");
        }
    }
});

fn server_is_good(server: &AuthorizationServer, issuer: &ExactUrl, waived: MetadataWaivers) {
    let bare = |text: &str| text.trim_end_matches('/').to_owned();
    let known = waived.issuers.contains(&server.issuer.as_str());
    assert!(known || server.issuer == issuer.as_str() || (waived.root_slash && bare(&server.issuer) == bare(issuer.as_str())));
    let all = [
        Some(&server.authorization_endpoint),
        Some(&server.token_endpoint),
        server.registration_endpoint.as_ref(),
        server.revocation_endpoint.as_ref(),
    ];
    all.into_iter().flatten().for_each(|endpoint| secure(endpoint, issuer));
}

/// https, or plain http where the one who names it is.
fn secure(address: &ExactUrl, named_by: &ExactUrl) {
    let scheme = address.url().scheme();
    assert!(
        scheme == "https" || (scheme == "http" && named_by.url().scheme() == "http"),
        "{address}"
    );
    assert!(address.url().host().is_some());
}

fn printable(why: &MetadataError) {
    let why = why.to_string();
    assert!(why.len() < 600 && why.chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{why:?}");
}
