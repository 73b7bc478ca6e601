//! The management API: servers, keys and grants of owners, and the document that describes it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use http::{Method, Request};
use mcp_oauth_gateway::flow::access_key::KeyHolder;
use mcp_oauth_gateway::net::body::RequestBody;
use mcp_oauth_gateway::web::routes::API_PATHS;
use serde_json::{Value, json};

use crate::servers::{FILES, Servers, active, assert_inactive};
use crate::support::browser::{Browser, Page, send};
use crate::support::client::{McpClient, Pair};
use crate::support::world::{PASSWORD, USER};

const URL: &str = "https://tracker.example.com/mcp";

/// The paths of `docs/openapi.json`, with their methods and the members of their responses.
fn document() -> Value {
    serde_json::from_str(include_str!("../../docs/openapi.json")).unwrap()
}

impl Servers {
    async fn api(&self, key: &str, method: Method, path: &str, body: Value) -> Page {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.world.url));
        if !key.is_empty() {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let body = if body.is_null() {
            RequestBody::Empty
        } else {
            request = request.header("content-type", "application/json");
            RequestBody::Full(Bytes::from(body.to_string()))
        };
        send(&Browser::default().client, request.body(body).unwrap()).await
    }

    async fn admin_key(&self, owner: &str) -> String {
        self.new_key(KeyHolder::Owner(owner.into()), None).await.key.expose().to_owned()
    }

    async fn registered(&self, key: &str, url: &str) -> Value {
        let body = json!({ "server_url": url, "server_name": "Tracker", "scopes": ["read", "write"], "user_id": "ignored" });
        let page = self.api(key, Method::POST, "/api/servers", body).await;
        assert_eq!(page.status, 201, "{}", page.text);
        page.json()
    }

    async fn login_registered(&self, id: &str, url: &str) -> (McpClient, Pair) {
        let client = McpClient::register(&self.world.url).await.at(id);
        let authorize = client.authorize_url_with(&[("resource", url)]);
        let answer = client.browse_from(&mut Browser::default(), &authorize).await;
        let pair = Pair::of(&client.redeem(&McpClient::code(&answer)).await);
        (client, pair)
    }
}

/// The members of a schema of the document.
fn members(schema: &str) -> BTreeSet<String> {
    let document = document();
    let properties = document["components"]["schemas"][schema]["properties"].as_object().unwrap().clone();
    properties.keys().cloned().collect()
}

fn assert_matches(value: &Value, schema: &str) {
    let found: BTreeSet<String> = value.as_object().unwrap().keys().cloned().collect();
    assert_eq!(found, members(schema), "{schema}");
}

#[tokio::test]
async fn an_owner_registers_a_server_whose_users_sign_in_at_once() {
    let servers = Servers::new().await;
    let key = servers.admin_key("ops").await;
    let server = servers.registered(&key, URL).await;
    assert_matches(&server, "Server");
    let id = server["server_id"].as_str().unwrap();
    assert!(id.starts_with("srv_"));
    assert_eq!((&server["owner"], &server["verified"]), (&json!("ops"), &json!(false)));
    let made = servers
        .api(&key, Method::POST, &format!("/api/servers/{id}/keys"), json!({ "name": "first" }))
        .await;
    assert_eq!(made.status, 201);
    assert_eq!(made.header("cache-control"), "no-store");
    let made = made.json();
    assert_matches(&made, "NewKey");
    let secret = made["key_secret"].as_str().unwrap();
    let (client, pair) = servers.login_registered(id, URL).await;
    let body = active(&servers.introspect(secret, &pair.access).await);
    assert_eq!((&body["aud"], &body["iss"]), (&json!(URL), &server["issuer"]));
    // A listed key has no secret, and says when it was used.
    let keys = servers
        .api(&key, Method::GET, &format!("/api/servers/{id}/keys"), Value::Null)
        .await;
    assert_matches(&keys.json()["keys"][0], "Key");
    assert!(!keys.text.contains(secret));
    let grants = servers.api(&key, Method::GET, "/api/grants", Value::Null).await.json();
    assert_matches(&grants["grants"][0], "Grant");
    assert_eq!(
        (&grants["grants"][0]["server_id"], &grants["grants"][0]["client_id"]),
        (&json!(id), &json!(client.id))
    );
    let grant = grants["grants"][0]["grant_id"].as_str().unwrap();
    assert_eq!(
        servers
            .api(&key, Method::DELETE, &format!("/api/grants/{grant}"), Value::Null)
            .await
            .status,
        204
    );
    assert_inactive(&servers.introspect(secret, &pair.access).await, "after the end of the grant");
    assert_eq!(client.refresh(&pair.refresh).await.status, 400);
}

#[tokio::test]
async fn a_changed_url_makes_tokens_of_the_earlier_one_inactive_and_removal_stops_everything() {
    let servers = Servers::new().await;
    let key = servers.admin_key("ops").await;
    for mode in ["jwt", "opaque"] {
        let server = servers.registered(&key, URL).await;
        let path = format!("/api/servers/{}", server["server_id"].as_str().unwrap());
        let id = server["server_id"].as_str().unwrap();
        let changed = servers
            .api(&key, Method::PATCH, &path, json!({ "token_mode": mode, "server_name": "New" }))
            .await
            .json();
        assert_eq!(
            (&changed["token_mode"], &changed["server_name"], &changed["server_url"]),
            (&json!(mode), &json!("New"), &json!(URL))
        );
        let secret = servers.api(&key, Method::POST, &format!("{path}/keys"), Value::Null).await.json()["key_secret"].clone();
        let secret = secret.as_str().unwrap();
        let (_, pair) = servers.login_registered(id, URL).await;
        active(&servers.introspect(secret, &pair.access).await);
        let other = "https://tracker.example.com/v2/mcp";
        assert_eq!(
            servers.api(&key, Method::PATCH, &path, json!({ "server_url": other })).await.status,
            200
        );
        assert_inactive(&servers.introspect(secret, &pair.access).await, "a token of the earlier URL");
        let (client, pair) = servers.login_registered(id, other).await;
        active(&servers.introspect(secret, &pair.access).await);
        assert_eq!(servers.api(&key, Method::DELETE, &path, Value::Null).await.status, 204);
        assert_eq!(servers.introspect(secret, &pair.access).await.status, 401);
        assert_eq!(client.refresh(&pair.refresh).await.status, 404);
        for method in [Method::GET, Method::DELETE] {
            assert_eq!(servers.api(&key, method, &path, Value::Null).await.status, 404);
        }
    }
}

#[tokio::test]
async fn another_owner_finds_nothing_and_nothing_else_than_an_admin_key_is_accepted() {
    let servers = Servers::new().await;
    let (own, other) = (servers.admin_key("ops").await, servers.admin_key("eve").await);
    let all = servers.new_key(KeyHolder::AllOwners, None).await.key.expose().to_owned();
    let server = servers.registered(&own, URL).await;
    let path = format!("/api/servers/{}", server["server_id"].as_str().unwrap());
    let made = servers.api(&own, Method::POST, &format!("{path}/keys"), Value::Null).await.json();
    let key_path = format!("{path}/keys/{}", made["key_id"].as_str().unwrap());
    servers.login_registered(server["server_id"].as_str().unwrap(), URL).await;
    let grants = servers.api(&own, Method::GET, "/api/grants", Value::Null).await.json();
    let grant_path = format!("/api/grants/{}", grants["grants"][0]["grant_id"].as_str().unwrap());
    let mine = servers.registered(&other, "https://eve.example.com/mcp").await;
    let foreign_key = format!(
        "/api/servers/{}/keys/{}",
        mine["server_id"].as_str().unwrap(),
        made["key_id"].as_str().unwrap()
    );
    let calls = [
        (Method::GET, path.clone()),
        (Method::PATCH, path.clone()),
        (Method::DELETE, path.clone()),
        (Method::POST, format!("{path}/proof")),
        (Method::GET, format!("{path}/keys")),
        (Method::POST, format!("{path}/keys")),
        (Method::DELETE, key_path.clone()),
        (Method::DELETE, grant_path.clone()),
        (Method::DELETE, foreign_key),
        (Method::GET, "/api/servers/srv_AAAAAAAAAAAAAAAAAAAAAA".to_owned()),
        (Method::GET, "/api/servers/files".to_owned()),
    ];
    let mut bodies = BTreeSet::new();
    for (method, path) in &calls {
        let page = servers.api(&other, method.clone(), path, Value::Null).await;
        assert_eq!(page.status, 404, "{method} {path}");
        bodies.insert(page.text);
    }
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    let lists = servers.api(&other, Method::GET, "/api/servers", Value::Null).await.json();
    assert_eq!(lists["servers"].as_array().unwrap().len(), 1);
    assert_eq!(
        servers.api(&other, Method::GET, "/api/grants", Value::Null).await.json(),
        json!({ "grants": [] })
    );
    let stolen = json!({ "server_url": "https://x.example/mcp", "server_name": "x", "owner": "ops" });
    assert_eq!(servers.api(&other, Method::POST, "/api/servers", stolen).await.status, 404);
    // A key for every owner sees both.
    let lists = servers.api(&all, Method::GET, "/api/servers", Value::Null).await.json();
    assert_eq!(lists["servers"].as_array().unwrap().len(), 2);
    // No other credential, and no ended admin key.
    let revoked = servers.new_key(KeyHolder::Owner("ops".into()), None).await;
    servers.keys.revoke(revoked.id).await.unwrap();
    let expiring = servers.new_key(KeyHolder::Owner("ops".into()), Some(60)).await;
    servers.world.pass(60);
    let pair = servers.login(&servers.client("files").await, "read").await;
    let server_key = made["key_secret"].as_str().unwrap();
    let wrong = [
        "",
        server_key,
        &pair.access,
        revoked.key.expose(),
        expiring.key.expose(),
        "ak_x",
        &own[..own.len() - 1],
    ];
    let mut bodies = BTreeSet::new();
    for key in wrong {
        for (method, path) in &calls {
            let page = servers.api(key, method.clone(), path, Value::Null).await;
            assert_eq!(page.status, 401, "{method} {path}");
            bodies.insert((page.text.clone(), page.header("www-authenticate").to_owned()));
        }
    }
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    // Everything is still there, and an admin key introspects nothing.
    assert_eq!(servers.api(&own, Method::GET, &path, Value::Null).await.json(), server);
    assert_eq!(servers.introspect(&own, &pair.access).await.status, 401);
    assert_eq!(servers.api(&own, Method::DELETE, &key_path, Value::Null).await.status, 204);
    assert_eq!(servers.introspect(server_key, &pair.access).await.status, 401);
}

#[tokio::test]
async fn wrong_members_are_refused_and_a_proven_url_stays_with_its_server() {
    let servers = Servers::new().await;
    let key = servers.admin_key("ops").await;
    let good = json!({ "server_url": URL, "server_name": "Tracker" });
    for (member, value) in [
        ("server_url", json!("http://tracker.example.com/mcp")),
        ("server_url", json!("https://tracker.example.com/mcp?x=1")),
        ("server_url", json!("https://user@tracker.example.com/mcp")),
        ("server_url", json!("javascript:alert(1)")),
        ("server_url", json!(null)),
        ("server_name", json!("")),
        ("server_name", json!("a\nb")),
        ("server_name", json!("x".repeat(41))),
        ("scopes", json!(["a b"])),
        ("scopes", json!("a")),
        ("logo_url", json!("http://x.example/logo.png")),
        ("token_mode", json!("plain")),
    ] {
        let mut body = good.clone();
        body[member] = value.clone();
        let page = servers.api(&key, Method::POST, "/api/servers", body).await;
        assert_eq!(page.status, 400, "{member} {value}");
    }
    // The resource of a service of the file.
    let page = servers
        .api(
            &key,
            Method::POST,
            "/api/servers",
            json!({ "server_url": FILES, "server_name": "x" }),
        )
        .await;
    assert_eq!(page.status, 409);
    assert_eq!(
        servers.api(&key, Method::GET, "/api/servers", Value::Null).await.json(),
        json!({ "servers": [] })
    );
}

#[tokio::test]
async fn hostile_names_are_inert_on_the_consent_page_which_warns_of_an_unproven_server() {
    let servers = Servers::new().await;
    let key = servers.admin_key("ops").await;
    let name = "<script>alert(1)</script>\u{202e}\"'";
    let body =
        json!({ "server_url": URL, "server_name": name, "scopes": ["<img/src=x>", "read"], "logo_url": "https://logo.example/x.png" });
    let server = servers.api(&key, Method::POST, "/api/servers", body).await;
    assert_eq!(server.status, 201, "{}", server.text);
    let client = McpClient::register(&servers.world.url)
        .await
        .at(server.json()["server_id"].as_str().unwrap());
    let mut browser = Browser::default();
    let page = browser.get(&client.authorize_url_with(&[("resource", URL)])).await;
    let login = browser.get(&page.onward().unwrap()).await;
    let consent = browser.sign_in(&login, USER, PASSWORD).await;
    for page in [&login, &consent] {
        assert!(
            !page.text.contains("<script>alert") && !page.text.contains("<img") && !page.text.contains('\u{202e}'),
            "{}",
            page.text
        );
        assert!(!page.text.contains("logo.example"), "a logo is never loaded");
        assert!(page.header("content-security-policy").contains("default-src 'none'"));
    }
    assert!(
        consent.text.contains("tracker.example.com") && consent.text.contains("not verified"),
        "{}",
        consent.text
    );
    let known = servers.consent_page(&servers.client("files").await, FILES).await;
    assert!(!known.text.contains("not verified"));
}

#[tokio::test]
async fn the_document_describes_exactly_the_routes() {
    let servers = Servers::new().await;
    let mut described: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, item) in document()["paths"].as_object().unwrap() {
        let methods = item.as_object().unwrap().keys().filter(|name| *name != "parameters");
        described.insert(path.clone(), methods.map(|name| name.to_uppercase()).collect());
    }
    let routes = API_PATHS
        .iter()
        .map(|(path, methods)| ((*path).to_owned(), methods.split(", ").map(str::to_owned).collect()));
    assert_eq!(described, routes.collect());
    for (path, methods) in API_PATHS {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            let path = path.replace("{id}", "x").replace("{key}", "y");
            let page = servers.api("", method.parse().unwrap(), &path, Value::Null).await;
            let expected = if methods.split(", ").any(|name| name == method) { 401 } else { 405 };
            assert_eq!(page.status, expected, "{method} {path}");
            assert_eq!(page.header("access-control-allow-origin"), "", "no other origin may read it");
        }
    }
}
