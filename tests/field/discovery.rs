//! Metadata documents of upstreams as people publish them, and what the operator can say instead.

use mcp_gateway_standin::{Canned, Standin};
use mcp_oauth_gateway::upstream::quirks;
use serde_json::{Value, json};

use crate::setup::{canned, query, redirect, refusal, seen, service, sign_in};
use crate::support::world::World;

const RESOURCE: &str = "/.well-known/oauth-protected-resource/mcp";
const SERVER: &str = "/.well-known/oauth-authorization-server";

/// The metadata of the stand-in's authorization server, with these members replaced.
fn server(standin: &Standin, changes: &Value) -> Value {
    let origin = standin.origin();
    let mut document = json!({
        "issuer": standin.issuer(),
        "authorization_endpoint": format!("{origin}/authorize"),
        "token_endpoint": format!("{origin}/token"),
        "registration_endpoint": format!("{origin}/register"),
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic"],
    });
    for (name, value) in changes.as_object().unwrap() {
        document[name] = value.clone();
    }
    document
}

fn resource(standin: &Standin) -> Value {
    json!({ "resource": standin.mcp_url(), "authorization_servers": [standin.issuer()] })
}

async fn with_documents(documents: impl FnOnce(&Standin) -> Vec<Canned>) -> World {
    let world = service(|_| String::new()).await;
    let documents = documents(&world.standin);
    world.standin.set(|b| b.canned = documents);
    world
}

#[tokio::test]
async fn redirected_metadata_is_followed_within_its_origin_only() {
    let world = with_documents(|standin| {
        vec![
            redirect(RESOURCE, 302, &format!("{}/static/resource", standin.origin())),
            canned("/static/resource", 200, &resource(standin)),
            redirect(SERVER, 301, "/a"),
            redirect("/a", 307, "/b"),
            redirect("/b", 308, "/static/server"),
            canned("/static/server", 200, &server(standin, &json!({}))),
        ]
    })
    .await;
    sign_in(&world).await.unwrap();

    let endless = with_documents(|_| vec![redirect(RESOURCE, 302, RESOURCE), redirect(SERVER, 302, SERVER)]).await;
    assert!(sign_in(&endless).await.unwrap_err().contains("was not found"));
    assert_eq!(seen(&endless.standin, SERVER).len(), 4);

    let other = Standin::start(mcp_gateway_standin::Profile::Standard);
    let away = with_documents(|_| vec![redirect(SERVER, 302, &format!("{}{SERVER}", other.origin()))]).await;
    assert!(sign_in(&away).await.unwrap_err().contains("was not found"));
    assert!(other.log().is_empty());
}

#[tokio::test]
async fn a_relative_resource_metadata_is_read_against_the_url_of_the_server() {
    let challenge = |value: &str| vec![("www-authenticate", format!("Bearer realm=\"home\", resource_metadata=\"{value}\""))];
    let with_challenge = |value: &str| Canned {
        headers: challenge(value),
        body_has: Some("initialize"),
        ..canned("/mcp", 401, &json!({}))
    };
    for value in [
        "/mcp/.well-known/oauth-protected-resource",
        "mcp/.well-known/oauth-protected-resource",
    ] {
        let world = with_documents(|standin| {
            vec![
                with_challenge(value),
                canned("/mcp/.well-known/oauth-protected-resource", 200, &resource(standin)),
                canned(RESOURCE, 404, &json!({})),
            ]
        })
        .await;
        sign_in(&world).await.unwrap();
        assert_eq!(
            seen(&world.standin, "/mcp/.well-known/oauth-protected-resource").len(),
            1,
            "{value}"
        );
    }
    let other = Standin::start(mcp_gateway_standin::Profile::Standard);
    for foreign in [other.origin(), other.origin().replace("http:", "")] {
        let world = with_documents(|_| vec![with_challenge(&format!("{foreign}/prm"))]).await;
        sign_in(&world).await.unwrap();
        assert!(other.log().is_empty(), "{foreign}");
    }
}

#[tokio::test]
async fn resource_metadata_without_a_usable_list_of_servers_leaves_the_origin_or_the_next_entry() {
    for servers in [None, Some(json!([])), Some(json!(["ftp://x.example/", "own"]))] {
        let world = with_documents(|standin| {
            let mut document = json!({ "resource": standin.mcp_url() });
            if let Some(servers) = &servers {
                let own = |server: &Value| if server == "own" { standin.issuer().into() } else { server.clone() };
                document["authorization_servers"] = servers.as_array().unwrap().iter().map(own).collect();
            }
            vec![canned(RESOURCE, 200, &document)]
        })
        .await;
        sign_in(&world).await.unwrap_or_else(|error| panic!("{servers:?}: {error}"));
    }
    let unusable = with_documents(|standin| {
        let document = json!({ "resource": standin.mcp_url(), "authorization_servers": ["ftp://x.example/"] });
        vec![canned(RESOURCE, 200, &document)]
    })
    .await;
    assert!(sign_in(&unusable).await.is_err());
}

#[tokio::test]
async fn the_operator_names_or_omits_the_resource_of_the_upstream() {
    for (line, expected) in [
        ("resource = \"api://finance\"", Some("api://finance")),
        ("resource = \"urn:valid:urn:identifier\"", Some("urn:valid:urn:identifier")),
        ("resource = \"none\"", None),
        // A profile that omits it does not overrule the operator.
        ("profile = \"auth0\"\nresource = \"api://finance\"", Some("api://finance")),
    ] {
        let world = service(|_| line.to_owned()).await;
        if let Some(resource) = expected {
            let document = json!({ "resource": resource, "authorization_servers": [world.standin.issuer()] });
            world.standin.set(|b| b.canned = vec![canned(RESOURCE, 200, &document)]);
        }
        let pair = sign_in(&world).await.unwrap_or_else(|error| panic!("{line}: {error}"));
        let client = crate::support::client::McpClient::register(&world.url).await;
        drop((client, pair));
        let authorize = seen(&world.standin, "/authorize");
        assert_eq!(query(&authorize[0], "resource").as_deref(), expected, "{line}");
        let token = seen(&world.standin, "/token")[0].form();
        assert_eq!(
            token.iter().find(|(name, _)| name == "resource").map(|(_, value)| value.as_str()),
            expected
        );
    }
    let foreign = service(|_| String::new()).await;
    foreign.standin.set(|b| b.prm_resource = Some("api://finance".into()));
    assert!(sign_in(&foreign).await.is_err(), "a resource that nobody configured is refused");
    let error = refusal("[services.x]\nurl = \"https://a.example\"\nresource = \"crm\"\n");
    assert!(error.contains("services.x.resource") && error.contains("api://crm"), "{error}");
}

#[tokio::test]
async fn a_configured_authorization_server_keeps_the_resource_and_the_scopes_of_the_metadata() {
    let world = service(|origin| format!("authorization_server = \"{origin}\"")).await;
    let document = json!({ "resource": world.standin.origin(), "authorization_servers": ["https://wrong.example"], "scopes_supported": ["mcp:tools"] });
    let challenge = Canned {
        body_has: Some("initialize"),
        ..canned("/mcp", 401, &json!({}))
    };
    world.standin.set(|b| b.canned = vec![challenge, canned(RESOURCE, 200, &document)]);
    sign_in(&world).await.unwrap();
    let authorize = &seen(&world.standin, "/authorize")[0];
    assert_eq!(query(authorize, "resource"), Some(world.standin.origin()));
    assert!(query(authorize, "scope").unwrap().contains("mcp:tools"));
    // Without usable metadata it works as before.
    for status in [404, 500] {
        let world = service(|origin| format!("authorization_server = \"{origin}\"")).await;
        let root = "/.well-known/oauth-protected-resource";
        world
            .standin
            .set(|b| b.canned = vec![canned(RESOURCE, status, &json!({})), canned(root, status, &json!({}))]);
        sign_in(&world).await.unwrap();
        assert_eq!(
            query(&seen(&world.standin, "/authorize")[0], "resource"),
            Some(world.standin.mcp_url())
        );
    }
}

fn endpoints(origin: &str) -> String {
    format!(
        "client_id = \"gateway\"\nclient_secret = \"gateway-secret\"\n\
        authorization_endpoint = \"{origin}/authorize\"\ntoken_endpoint = \"{origin}/token\"\n"
    )
}

#[tokio::test]
async fn the_issuer_of_configured_endpoints_is_not_guessed() {
    let at = |iss: &str, line: &str| {
        let (iss, line) = (iss.to_owned(), line.to_owned());
        async move {
            let world = service(|origin| endpoints(origin) + &line.replace("ORIGIN", origin)).await;
            let iss = iss.replace("ORIGIN", &world.standin.origin());
            world.standin.set(|b| b.iss = Some(iss));
            sign_in(&world).await
        }
    };
    at("ORIGIN/realms/x", "").await.unwrap();
    at("ORIGIN", "").await.unwrap();
    at("https://login.example/realms/x", "issuer = \"https://login.example/realms/x\"")
        .await
        .unwrap();
    for (iss, line) in [
        ("https://evil.example", ""),
        ("ORIGIN/realms/x", "issuer = \"ORIGIN/realms/y\""),
        ("ORIGIN/", "issuer = \"ORIGIN\""),
    ] {
        assert!(at(iss, line).await.is_err(), "{iss} {line}");
    }
    let error = refusal("[services.x]\nurl = \"https://a.example\"\nissuer = \"https://b.example\"\n");
    assert!(
        error.contains("services.x.issuer") && error.contains("authorization_server"),
        "{error}"
    );
}

#[tokio::test]
async fn a_registration_is_repeated_without_the_members_that_the_server_refuses() {
    for (member, error) in [("scope", "insufficient_scope"), ("application_type", "invalid_client_metadata")] {
        let world = service(|_| String::new()).await;
        world.standin.set(|b| {
            let refused = json!({ "error": error, "error_description": "not permitted" });
            b.canned = vec![Canned {
                body_has: Some(member),
                ..canned("/register", 403, &refused)
            }];
        });
        sign_in(&world).await.unwrap_or_else(|error| panic!("{member}: {error}"));
        assert_eq!(seen(&world.standin, "/register").len(), 2);
    }
    let closed = service(|_| String::new()).await;
    closed
        .standin
        .set(|b| b.canned = vec![canned("/register", 403, &json!({ "message": "Forbidden" }))]);
    assert!(sign_in(&closed).await.unwrap_err().contains("does not let this gateway register"));
    assert_eq!(seen(&closed.standin, "/register").len(), 2);
}

#[tokio::test]
async fn the_gateway_registers_the_scopes_that_the_operator_configures() {
    for (line, expected) in [
        ("scopes = [\"b\"]\noptional_scopes = [\"a\"]", "a b"),
        ("registration_scope = \"openid\"\nscopes = [\"a\"]", "openid"),
    ] {
        let world = service(|_| line.to_owned()).await;
        sign_in(&world).await.unwrap();
        let body: Value = serde_json::from_slice(&seen(&world.standin, "/register")[0].body).unwrap();
        assert_eq!(body["scope"], expected, "{line}");
    }
    let error = refusal("[services.x]\nurl = \"https://a.example\"\nclient_id = \"a\"\nregistration_scope = \"openid\"\n");
    assert!(error.contains("does not register itself"), "{error}");
}

#[test]
fn every_profile_can_be_named() {
    for name in quirks::names() {
        let text = format!("[services.x]\nurl = \"https://a.example\"\nprofile = \"{name}\"\n");
        assert!(crate::setup::check(&text).is_ok(), "{name}");
    }
}
