//! Metadata, registration and what refresh tokens promise, when told to be wrong.

mod common;

use common::*;
use mcp_gateway_standin::{Profile, Standin};
use serde_json::json;

const SERVER: &str = "/.well-known/oauth-authorization-server";
const RESOURCE: &str = "/.well-known/oauth-protected-resource";

#[test]
fn the_documents_say_what_they_are_told_to() {
    let standin = Standin::start(Profile::Standard);
    standin.set(|b| {
        b.metadata_issuer = Some("https://elsewhere.example".into());
        b.metadata_endpoints.token_endpoint = Some("http://10.0.0.1/token".into());
        b.no_pkce_in_metadata = true;
        b.prm_resource = Some("https://elsewhere.example/mcp".into());
    });
    let server = get(&standin, SERVER).json();
    assert_eq!(server["issuer"], "https://elsewhere.example");
    assert_eq!(server["token_endpoint"], "http://10.0.0.1/token");
    assert!(server.get("code_challenge_methods_supported").is_none());
    assert_eq!(get(&standin, RESOURCE).json()["resource"], "https://elsewhere.example/mcp");
    standin.set(|b| (b.prm_missing, b.as_metadata_missing) = (true, true));
    assert_eq!(get(&standin, SERVER).status, 404);
    assert_eq!(get(&standin, &format!("{RESOURCE}/mcp")).status, 404);
    let challenge = send(&standin, "POST", "/mcp", "", b"{}").expect("an answer");
    assert!(challenge.status == 401 && !challenge.head.contains("resource_metadata"));
}

#[test]
fn registration_can_be_refused() {
    let standin = Standin::start(Profile::Standard);
    let register = |body: &[u8]| send(&standin, "POST", "/register", "", body).expect("an answer");
    let bad = br#"{"redirect_uris": ["not an address"]}"#;
    assert_eq!(register(bad).json()["error"], "invalid_redirect_uri");
    let good = br#"{"redirect_uris": ["http://127.0.0.1:9/callback"]}"#;
    assert!(register(good).json()["client_secret"].is_string());
    standin.set(|b| b.registration_status = Some(403));
    assert_eq!(register(good).status, 403);
    standin.set(|b| b.registration_status = Some(500));
    assert_eq!(register(good).status, 500);
}

#[test]
fn refresh_tokens_can_be_withheld_or_given_an_end() {
    let standin = Standin::start(Profile::Standard);
    standin.set(|b| b.never_refresh_token = true);
    assert!(sign_in(&standin).get("refresh_token").is_none());
    standin.set(|b| (b.never_refresh_token, b.refresh_expires_in) = (false, Some(1)));
    let granted = sign_in(&standin);
    assert_eq!(granted["refresh_token_expires_in"], 1);
    std::thread::sleep(std::time::Duration::from_millis(1050));
    let token = granted["refresh_token"].as_str().expect("a refresh token");
    assert_eq!(refresh(&standin, token).json()["error"], "invalid_grant");
    assert!(standin.reused().is_empty());
}

#[test]
fn an_unknown_session_is_only_refused_when_asked_to() {
    let standin = Standin::start(Profile::Standard);
    let headers = format!("{}mcp-session-id: unheard-of\r\n", bearer(&sign_in(&standin)));
    assert_eq!(rpc(&standin, &headers, "ping", json!({})).status, 200);
    standin.set(|b| b.strict_sessions = true);
    assert_eq!(rpc(&standin, &headers, "ping", json!({})).status, 404);
    assert_eq!(rpc(&standin, &bearer(&sign_in(&standin)), "initialize", json!({})).status, 200);
}
