//! The authorization server, well behaved and otherwise.

mod common;

use common::*;
use mcp_gateway_standin::{Profile, Standin};
use serde_json::json;

fn start() -> Standin {
    Standin::start(Profile::Standard)
}

fn refresh_of(granted: &serde_json::Value) -> String {
    granted["refresh_token"].as_str().expect("a refresh token").to_owned()
}

#[test]
fn a_client_finds_registers_and_signs_in() {
    let standin = start();
    let challenge = send(&standin, "POST", "/mcp", "", b"{}").expect("an answer");
    assert_eq!(challenge.status, 401);
    let document = "/.well-known/oauth-protected-resource/mcp";
    let value = challenge.header("www-authenticate").expect("a challenge");
    assert!(value.contains(&format!("resource_metadata=\"{}{document}\"", standin.origin())));
    let resource = get(&standin, document).json();
    assert_eq!(resource["resource"], standin.mcp_url());
    assert_eq!(resource["authorization_servers"], json!([standin.origin()]));
    let server = get(&standin, "/.well-known/oauth-authorization-server").json();
    assert_eq!(server["issuer"], standin.origin());

    let asked = json!({"redirect_uris": [BACK], "token_endpoint_auth_method": "none"});
    let client = send(&standin, "POST", "/register", "", asked.to_string().as_bytes());
    let client = client.filter(|a| a.status == 201).expect("a registration").json();
    let client = client["client_id"].as_str().expect("a client_id").to_owned();
    let wrong = authorize_path("/authorize", &client, "http://127.0.0.1:9/other");
    assert_eq!(get(&standin, &wrong).status, 400);
    let back = get(&standin, &authorize_path("/authorize", &client, BACK));
    assert_eq!(back.status, 302);
    assert_eq!(back.came_back_with("state").as_deref(), Some("st&te"));
    assert_eq!(back.came_back_with("iss"), Some(standin.origin()));
    let code = back.came_back_with("code").expect("a code");
    let body = form(&[
        ("grant_type", "authorization_code"),
        ("client_id", &client),
        ("code", &code),
        ("redirect_uri", BACK),
        ("code_verifier", VERIFIER),
    ]);
    let granted = send(&standin, "POST", "/token", "", body.as_bytes()).expect("an answer");
    assert_eq!(granted.json()["expires_in"], 3600);
    let again = send(&standin, "POST", "/token", "", body.as_bytes()).expect("an answer");
    assert_eq!(again.json()["error"], "invalid_grant");
}

#[test]
fn the_static_client_may_authenticate_by_basic_but_not_without_its_secret() {
    let standin = start();
    let token = refresh_of(&sign_in(&standin));
    let pairs = [("grant_type", "refresh_token"), ("refresh_token", token.as_str())];
    // gateway:gateway-secret
    let basic = "authorization: Basic Z2F0ZXdheTpnYXRld2F5LXNlY3JldA==\r\n";
    let answer = send(&standin, "POST", "/token", basic, form(&pairs).as_bytes());
    assert_eq!(answer.expect("an answer").status, 200);
    let bare = form(&[&pairs[..], &[("client_id", "gateway")]].concat());
    let answer = send(&standin, "POST", "/token", "", bare.as_bytes()).expect("an answer");
    assert_eq!((answer.status, answer.json()["error"].as_str()), (401, Some("invalid_client")));
}

#[test]
fn a_wrong_verifier_gets_nothing() {
    let standin = start();
    let code = get(&standin, &authorize_path("/authorize", "gateway", BACK));
    let code = code.came_back_with("code").expect("a code");
    let answer = token(
        &standin,
        &[
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", BACK),
            ("code_verifier", "another"),
        ],
    );
    assert_eq!(answer.json()["error"], "invalid_grant");
}

#[test]
fn a_reused_refresh_token_is_noted_and_ends_the_family() {
    let standin = start();
    let first = refresh_of(&sign_in(&standin));
    let second = refresh_of(&refresh(&standin, &first).json());
    assert_eq!(refresh(&standin, &first).json()["error"], "invalid_grant");
    assert_eq!(refresh(&standin, &second).json()["error"], "invalid_grant");
    assert_eq!(standin.refreshes(), [first.clone(), first.clone(), second]);
    assert_eq!(standin.reused(), [first]);
}

#[test]
fn reuse_can_be_noted_without_ending_anything() {
    let standin = start();
    standin.set(|b| b.reuse_kills_family = false);
    let first = refresh_of(&sign_in(&standin));
    let second = refresh_of(&refresh(&standin, &first).json());
    assert_eq!(refresh(&standin, &first).status, 400);
    assert_eq!(refresh(&standin, &second).status, 200);
    assert_eq!(standin.reused(), [first]);
}

#[test]
fn a_cut_answer_comes_after_the_rotation() {
    let standin = start();
    let first = refresh_of(&sign_in(&standin));
    standin.set(|b| b.token_cut = true);
    let pairs = [("grant_type", "refresh_token"), ("refresh_token", first.as_str())];
    assert!(try_token(&standin, "/token", "", &pairs).is_none());
    let phases: Vec<String> = standin.phases().into_iter().map(|(_, what)| what).collect();
    assert_eq!(phases.len(), 2, "{phases:?}");
    assert_eq!(phases[0], format!("received {first}"));
    assert!(phases[1].starts_with(&format!("rotated {first} -> ")));

    standin.set(|b| (b.token_cut, b.token_cut_mid_body) = (false, true));
    let half = refresh(&standin, &first);
    let announced: usize = half.header("content-length").expect("a length").parse().expect("digits");
    assert!(half.body.len() < announced && !half.body.is_empty());
}

#[test]
fn a_client_that_hangs_up_does_not_stop_the_rotation() {
    let standin = start();
    let first = refresh_of(&sign_in(&standin));
    standin.set(|b| b.token_delay = std::time::Duration::from_millis(100));
    let body = form(&[
        ("grant_type", "refresh_token"),
        ("client_id", "gateway"),
        ("client_secret", "gateway-secret"),
        ("refresh_token", &first),
    ]);
    let connection = open(&standin, "POST", "/token", "", body.as_bytes());
    assert!(soon(|| standin.phases().len() == 1));
    drop(connection);
    assert!(soon(|| standin.phases().len() == 2));
    assert!(standin.phases()[1].1.starts_with("rotated "));
}

#[test]
fn the_token_endpoint_says_what_it_is_told_to() {
    let standin = start();
    let first = refresh_of(&sign_in(&standin));
    standin.set(|b| (b.token_429_count, b.token_retry_after) = (1, Some(7)));
    let answer = refresh(&standin, &first);
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("7")));
    standin.set(|b| b.token_status = Some(502));
    assert_eq!(refresh(&standin, &first).status, 502);
    standin.set(|b| (b.token_status, b.token_error) = (None, Some("invalid_grant".into())));
    assert_eq!(refresh(&standin, &first).status, 400);
    standin.set(|b| b.token_error_in_200 = true);
    assert_eq!(refresh(&standin, &first).status, 200);
    standin.set(|b| {
        b.token_error = None;
        b.omit_refresh_token = true;
        b.token_expires_in = Some(json!("60"));
        b.scope_override = Some("less".into());
    });
    let granted = refresh(&standin, &first).json();
    assert_eq!((&granted["expires_in"], &granted["scope"]), (&json!("60"), &json!("less")));
    assert!(granted.get("refresh_token").is_none());
    standin.set(|b| (b.token_form_encoded, b.token_expires_in) = (true, Some(json!(null))));
    assert!(refresh(&standin, &first).text().starts_with("access_token="));
    standin.set(|b| b.token_garbage = true);
    assert!(serde_json::from_str::<serde_json::Value>(&refresh(&standin, &first).text()).is_err());
    assert!(standin.reused().is_empty());
}

#[test]
fn the_page_asks_before_it_sends_the_browser_back() {
    let standin = start();
    standin.set(|b| b.authorize_page = true);
    let path = authorize_path("/authorize", "gateway", BACK);
    let page = get(&standin, &path);
    assert!(page.status == 200 && page.text().contains("Authorize"));
    let yes = send(&standin, "POST", &path, "", b"decision=authorize").expect("an answer");
    assert!(yes.came_back_with("code").is_some());
    let no = send(&standin, "POST", &path, "", b"decision=cancel").expect("an answer");
    assert_eq!(no.came_back_with("error").as_deref(), Some("access_denied"));
    standin.set(|b| {
        b.authorize_page = false;
        b.authorize_error = Some("server_error".into());
        b.iss = Some("https://elsewhere.example".into());
    });
    let back = get(&standin, &path);
    assert_eq!(back.came_back_with("error").as_deref(), Some("server_error"));
    assert_eq!(back.came_back_with("iss").as_deref(), Some("https://elsewhere.example"));
}

#[test]
fn revoking_a_refresh_token_ends_its_access_tokens() {
    let standin = start();
    let granted = sign_in(&standin);
    let token = refresh_of(&granted);
    let answer = try_token(&standin, "/revoke", "", &[("token", &token)]).expect("an answer");
    assert_eq!(answer.status, 200);
    assert_eq!(standin.revoked(), [token]);
    assert_eq!(rpc(&standin, &bearer(&granted), "ping", json!({})).status, 401);
}

#[test]
fn github_answers_in_forms_and_errs_in_200() {
    let standin = Standin::start(Profile::GitHub);
    let path = authorize_path("/login/oauth/authorize", "gateway", BACK);
    let back = get(&standin, &path);
    assert!(back.came_back_with("iss").is_none());
    let code = back.came_back_with("code").expect("a code");
    let endpoint = "/login/oauth/access_token";
    let pairs = [("code", code.as_str()), ("redirect_uri", BACK), ("code_verifier", VERIFIER)];
    let answer = try_token(&standin, endpoint, "", &pairs).expect("an answer");
    assert!(answer.text().starts_with("access_token=gho_"), "{}", answer.text());
    assert!(!answer.text().contains("expires_in") && !answer.text().contains("refresh_token"));
    let again = try_token(&standin, endpoint, "accept: application/json\r\n", &pairs);
    let again = again.expect("an answer");
    assert_eq!((again.status, &again.json()["error"]), (200, &json!("bad_verification_code")));
    let server = get(&standin, "/.well-known/oauth-authorization-server/login/oauth").json();
    assert_eq!(server["issuer"], standin.issuer());
    assert!(server.get("authorization_response_iss_parameter_supported").is_none());
    assert_eq!(get(&standin, "/.well-known/oauth-authorization-server").status, 404);
}
