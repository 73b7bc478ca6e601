//! `Authorization` headers: a token is handed on only whole, and only of the right scheme.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_oauth_gateway::oauth::bearer::{self, BearerHeader};
use mcp_oauth_gateway::oauth::error::OAuthErrorCode;

fuzz_target!(|text: &str| {
    let scheme = text.split(' ').next().unwrap_or("");
    match bearer::parse(Some(text)) {
        BearerHeader::Nothing => assert!(!scheme.eq_ignore_ascii_case("bearer")),
        BearerHeader::Malformed => assert!(scheme.eq_ignore_ascii_case("bearer")),
        BearerHeader::Bearer(token) => {
            assert!(scheme.eq_ignore_ascii_case("bearer"));
            assert!(!token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b','));
            // Nothing but the scheme and spaces around it.
            assert_eq!(text[scheme.len()..].trim_matches(' '), token);
            assert_eq!(bearer::parse(Some(&format!("Bearer {token}"))), BearerHeader::Bearer(token));
        }
    }
    // What is said back is one header line, whatever the reason holds.
    let said = bearer::challenge(
        Some("https://gw/.well-known/oauth-protected-resource"),
        "a b",
        Some((OAuthErrorCode::InvalidToken, text)),
    );
    assert!(
        said.starts_with("Bearer ") && said.chars().all(|c| c == ' ' || c.is_ascii_graphic()),
        "{said:?}"
    );
    assert_eq!(said.matches('"').count(), 8, "{said:?}");
    let keys = bearer::challenge(None, "", Some((OAuthErrorCode::InvalidToken, text)));
    assert!(
        keys.starts_with("Bearer error=\"invalid_token\"") && keys.matches('"').count() == 4,
        "{keys:?}"
    );
});
