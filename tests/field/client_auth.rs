//! How the gateway authenticates at the upstream's token endpoint, and secrets as tools write them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mcp_gateway_standin::Seen;
use serde_json::json;

use crate::setup::{canned, check, refusal, seen, service, sign_in};

fn endpoints(origin: &str) -> String {
    format!("authorization_endpoint = \"{origin}/authorize\"\ntoken_endpoint = \"{origin}/token\"\n")
}

/// Where the request has the secret: `basic`, `post` or `none`.
fn place(request: &Seen) -> &'static str {
    let in_body = request.form().iter().any(|(name, _)| name == "client_secret");
    match (request.header("authorization").is_some(), in_body) {
        (true, false) => "basic",
        (false, true) => "post",
        (false, false) => "none",
        (true, true) => "both",
    }
}

#[tokio::test]
async fn the_operator_chooses_where_the_secret_goes() {
    let id = "client_id = \"gateway\"\nclient_secret = \"gateway-secret\"\n";
    for (lines, has_endpoints, expected) in [
        ("", true, "basic"),
        ("token_auth = \"post\"", true, "post"),
        ("token_auth = \"post\"", false, "post"),
        ("token_auth = \"basic\"", false, "basic"),
        // A profile that documents the method applies to the host of an enterprise too.
        ("profile = \"github\"", true, "post"),
    ] {
        let world = service(|origin| {
            let endpoints = if has_endpoints { endpoints(origin) } else { String::new() };
            format!("{id}{endpoints}{lines}")
        })
        .await;
        sign_in(&world).await.unwrap_or_else(|error| panic!("{lines}: {error}"));
        assert_eq!(place(&seen(&world.standin, "/token")[0]), expected, "{lines} {has_endpoints}");
    }
}

#[tokio::test]
async fn a_registered_client_uses_the_configured_method() {
    let world = service(|_| "token_auth = \"post\"".to_owned()).await;
    sign_in(&world).await.unwrap();
    assert_eq!(place(&seen(&world.standin, "/token")[0]), "post");
    let registration: serde_json::Value = serde_json::from_slice(&seen(&world.standin, "/register")[0].body).unwrap();
    assert_eq!(registration["token_endpoint_auth_method"], "client_secret_post");
}

#[tokio::test]
async fn unreserved_characters_of_a_secret_stay_as_they_are() {
    let world = service(|origin| format!("client_id = \"gateway\"\nclient_secret = \"abc8Q~x-._\"\n{}", endpoints(origin))).await;
    let _refused = sign_in(&world).await;
    let header = seen(&world.standin, "/token")[0].header("authorization").unwrap().to_owned();
    let decoded = STANDARD.decode(header.strip_prefix("Basic ").unwrap()).unwrap();
    assert_eq!(String::from_utf8(decoded).unwrap(), "gateway:abc8Q~x-._");
}

#[test]
fn a_method_that_does_not_fit_the_credentials_is_refused() {
    let text = |lines: &str| format!("[services.x]\nurl = \"https://a.example\"\n{lines}\n");
    for (lines, expected) in [
        ("client_id = \"a\"\ntoken_auth = \"post\"", "client_secret"),
        (
            "client_id = \"a\"\nclient_secret = \"b\"\ntoken_auth = \"none\"",
            "would not be used",
        ),
        ("token_auth = \"client_secret_post\"", "basic, post, private_key_jwt, none"),
    ] {
        let error = refusal(&text(lines));
        assert!(error.contains("services.x.token_auth") && error.contains(expected), "{error}");
    }
    assert!(check(&text("client_id = \"a\"\ntoken_auth = \"none\"")).is_ok());
}

#[tokio::test]
async fn the_words_of_a_refusing_token_endpoint_reach_nobody_but_the_log() {
    let world = service(|_| String::new()).await;
    let refused = json!({ "error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret provided." });
    world.standin.set(|b| b.canned = vec![canned("/token", 400, &refused)]);
    let home = sign_in(&world).await.unwrap_err();
    assert!(home.contains("error=server_error") && !home.contains("try%20again"), "{home}");
}

#[test]
fn one_line_end_around_a_secret_is_cut_and_any_other_is_refused() {
    let file = |secret: &str| {
        let text = "[services.x]\nurl = \"https://a.example\"\nclient_id = \"${ID}\"\nclient_secret_file = \"s\"\n";
        let secret = secret.to_owned();
        let environment = mcp_oauth_gateway::config::document::Environment {
            variable: &|_| Some("the-id\n".to_owned()),
            file: &|_| {
                Ok(mcp_oauth_gateway::config::document::FileContents {
                    text: secret.clone(),
                    open_to_others: false,
                })
            },
        };
        let location = mcp_oauth_gateway::config::spanned::Location::Flag("--config");
        let document = mcp_oauth_gateway::config::document::read("gateway.toml", text, environment).map_err(|error| error.to_string())?;
        mcp_oauth_gateway::config::validate::validate(document, &location, Some("/nowhere".into())).map_err(|error| error.to_string())
    };
    for secret in ["s3cret", "s3cret\n", "s3cret\r\n", "\u{feff}s3cret\n"] {
        let mut services = file(secret).unwrap().config.services;
        let config = crate::support::world::authorization(&mut services[0]).clone();
        assert_eq!(config.client_secret.unwrap().expose(), "s3cret", "{secret:?}");
        assert_eq!(config.client_id.as_deref(), Some("the-id"));
    }
    for secret in ["s3cret\n\n", "s3\ncret", "s3\tcret\n", "s3\0cret"] {
        let error = file(secret).unwrap_err();
        assert!(
            error.contains("client_secret") && error.contains("control character") && !error.contains("cret\\"),
            "{error}"
        );
    }
}
