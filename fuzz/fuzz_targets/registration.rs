//! Registrations: whatever reads has only redirect URIs that may be registered, and few of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_oauth_gateway::oauth::error::OAuthErrorCode;
use mcp_oauth_gateway::oauth::redirect_uri::{RedirectKind, RedirectUri};
use mcp_oauth_gateway::oauth::registration::{ClientRegistration, MAX_NAME_CHARS, MAX_REDIRECT_URIS};

fuzz_target!(|body: &[u8]| {
    let read = match ClientRegistration::parse(body) {
        Ok(read) => read,
        Err(why) => {
            assert!(matches!(
                why.code,
                OAuthErrorCode::InvalidRedirectUri | OAuthErrorCode::InvalidClientMetadata
            ));
            return assert!(!why.why.is_empty() && why.why.chars().count() < 400);
        }
    };
    assert!((1..=MAX_REDIRECT_URIS).contains(&read.redirect_uris.len()));
    for (i, uri) in read.redirect_uris.iter().enumerate() {
        assert_eq!(&RedirectUri::parse(uri.as_str()).expect("it was accepted"), uri);
        assert!(!read.redirect_uris[..i].contains(uri), "kept twice");
        if uri.kind() == RedirectKind::Web {
            assert!(uri.as_str().to_ascii_lowercase().starts_with("https:"));
        }
    }
    assert!(
        read.name
            .as_ref()
            .is_none_or(|name| !name.is_empty() && name.chars().count() <= MAX_NAME_CHARS)
    );
    // A client id is the sealed form of this: it must read back the same.
    let kept = serde_json::to_vec(&read).expect("texts are JSON");
    assert_eq!(serde_json::from_slice::<ClientRegistration>(&kept).expect("it was written"), read);
});
