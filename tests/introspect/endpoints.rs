//! `/introspect`, `/userinfo`, metadata and consent, as resource servers and their clients use them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mcp_oauth_gateway::oauth::scope::Scopes;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::{Value, json};

use crate::servers::{FILES, NOTES, Scheme, Servers, active, assert_inactive};
use crate::support::client::{McpClient, Pair};
use crate::support::world::USER;

#[tokio::test]
async fn a_resource_server_learns_what_a_token_of_its_own_says() {
    let servers = Servers::new().await;
    for (name, resource) in [("files", FILES), ("notes", NOTES)] {
        let (client, key) = (servers.client(name).await, servers.key(name).await);
        let pair = servers.login(&client, "read write").await;
        let expected = json!({
            "active": true, "token_type": "Bearer", "scope": "read write", "client_id": client.id, "sub": USER, "username": USER,
            "aud": resource, "iss": format!("{}/mcp/{name}", servers.world.url),
        });
        let named = format!("/introspect/mcp/{name}");
        for path in ["/introspect", &named, "/oauth/introspect"] {
            for scheme in [Scheme::Bearer, Scheme::Basic] {
                let fields = [("token", pair.access.as_str()), ("token_type_hint", "refresh_token")];
                let body = active(&servers.introspect_with(path, &key, scheme, &fields).await);
                for (member, value) in expected.as_object().unwrap() {
                    assert_eq!(&body[member], value, "{member} at {path}");
                }
                assert!(body["exp"].as_u64().unwrap() > 1_700_000_000);
                assert_eq!(body.get("jti").is_some() && body.get("iat").is_some(), name == "files");
            }
            let json_body = json!({ "token": pair.access }).to_string();
            active(&servers.post(path, &format!("Bearer {key}"), "application/json", json_body).await);
        }
        // A refresh makes another token of the same grant; both are active.
        let next = Pair::of(&client.refresh(&pair.refresh).await);
        assert_ne!(next.access, pair.access);
        for access in [&pair.access, &next.access] {
            active(&servers.introspect(&key, access).await);
        }
    }
}

#[tokio::test]
async fn every_other_token_is_inactive_and_looks_the_same() {
    let servers = Servers::new().await;
    for (name, other) in [("files", "notes"), ("notes", "files")] {
        let (client, key) = (servers.client(name).await, servers.key(name).await);
        let pair = servers.login(&client, "read").await;
        let sibling = servers.login(&servers.client(other).await, "read").await;
        let proxied = McpClient::register(&servers.world.url).await.login().await;
        let (own_key, garbage) = (key.clone(), "x".repeat(9_000));
        let tampered = format!("{}A{}", &pair.access[..20], &pair.access[21..]);
        let tokens = [
            ("the refresh token", &pair.refresh),
            ("a token of a sibling", &sibling.access),
            ("its refresh token", &sibling.refresh),
            ("a token of a proxied service", &proxied.access),
            ("the key itself", &own_key),
            ("a changed token", &tampered),
            ("a long text", &garbage),
        ];
        for (what, token) in tokens {
            assert_inactive(&servers.introspect(&key, token).await, what);
        }
        // The same token is active for its own server.
        active(&servers.introspect(&servers.key(other).await, &sibling.access).await);
    }
}

#[tokio::test]
async fn a_token_is_inactive_as_soon_as_it_expires_or_its_grant_ends() {
    let servers = Servers::new().await;
    for name in ["files", "notes"] {
        let (client, key) = (servers.client(name).await, servers.key(name).await);
        for by_refresh in [false, true] {
            let pair = servers.login(&client, "read").await;
            let given = if by_refresh { &pair.refresh } else { &pair.access };
            assert_eq!(client.revoke(given).await.status, 200);
            assert_inactive(&servers.introspect(&key, &pair.access).await, "revoked");
            assert_eq!(client.refresh(&pair.refresh).await.status, 400);
        }
        let pair = servers.login(&client, "read").await;
        servers.world.pass(pair.expires_in - 1);
        active(&servers.introspect(&key, &pair.access).await);
        servers.world.pass(1);
        assert_inactive(&servers.introspect(&key, &pair.access).await, "expired");
    }
}

#[tokio::test]
async fn a_signed_response_verifies_with_the_published_keys() {
    let servers = Servers::new().await;
    let keys = servers.get("/.well-known/jwks.json", &[]).await.json();
    for (name, resource) in [("files", FILES), ("notes", NOTES)] {
        let (client, key) = (servers.client(name).await, servers.key(name).await);
        let pair = servers.login(&client, "read").await;
        for (token, expected) in [(pair.access.as_str(), true), ("unknown", false)] {
            let mut request = http::Request::post(format!("{}/introspect", servers.world.url));
            let headers = request.headers_mut().unwrap();
            headers.insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
            headers.insert("accept", "application/token-introspection+jwt".parse().unwrap());
            headers.insert("authorization", format!("Bearer {key}").parse().unwrap());
            let body = mcp_oauth_gateway::net::body::RequestBody::Full(format!("token={token}").into());
            let http = crate::support::browser::Browser::default().client;
            let page = crate::support::browser::send(&http, request.body(body).unwrap()).await;
            assert_eq!(page.header("content-type"), "application/token-introspection+jwt");
            assert_eq!(page.header("cache-control"), "no-store");
            let (head, claims) = verified(&page.text, &keys);
            assert_eq!(head["typ"], "token-introspection+jwt");
            assert_eq!(
                (&claims["aud"], claims.get("sub"), claims.get("exp")),
                (&json!(resource), None, None)
            );
            assert_eq!(claims["iss"], format!("{}/mcp/{name}", servers.world.url));
            assert_eq!(claims["token_introspection"]["active"], expected);
            if !expected {
                assert_eq!(claims["token_introspection"], json!({ "active": false }));
            }
            // It is no access token, although the same key signs both.
            assert_inactive(&servers.introspect(&key, &page.text).await, "a signed response as a token");
        }
    }
}

/// Verifies a JWT as another program would, with the published keys.
fn verified(token: &str, keys: &Value) -> (Value, Value) {
    let parts: Vec<&str> = token.split('.').collect();
    let decode = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    let (header, claims) = (decode(parts[0]), decode(parts[1]));
    let key = keys["keys"]
        .as_array()
        .unwrap()
        .iter()
        .find(|key| key["kid"] == header["kid"])
        .unwrap();
    let number = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
    let point = [vec![4], number("x"), number("y")].concat();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        .verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
        .unwrap();
    (header, claims)
}

#[tokio::test]
async fn user_data_needs_an_active_token_with_a_scope_for_it() {
    let servers = Servers::new().await;
    for name in ["files", "notes"] {
        let client = servers.client(name).await;
        let path = format!("/userinfo/mcp/{name}");
        let ask = |token: String| {
            let (servers, path) = (&servers, &path);
            async move { servers.get(path, &[("authorization", &format!("Bearer {token}"))]).await }
        };
        let plain = servers.login(&client, "read").await;
        let refused = ask(plain.access.clone()).await;
        assert_eq!(refused.status, 403);
        assert!(refused.header("www-authenticate").contains("error=\"insufficient_scope\""));
        let openid = servers.login(&client, "read openid").await;
        let page = ask(openid.access.clone()).await;
        assert_eq!((page.status.as_u16(), page.json()), (200, json!({ "sub": USER })));
        assert_eq!(page.header("cache-control"), "no-store");
        let profile = servers.login(&client, "read profile").await;
        assert_eq!(
            ask(profile.access.clone()).await.json(),
            json!({ "sub": USER, "preferred_username": USER })
        );
        let posted = servers
            .post(&path, &format!("Bearer {}", openid.access), "text/plain", String::new())
            .await;
        assert_eq!(posted.json()["sub"], USER);
        assert_eq!(client.revoke(&openid.access).await.status, 200);
        for token in [openid.access, profile.refresh, servers.key(name).await] {
            let refused = ask(token).await;
            assert_eq!(refused.status, 401);
            assert!(refused.header("www-authenticate").starts_with("Bearer error=\"invalid_token\""));
        }
        let none = servers.get(&path, &[]).await;
        assert_eq!(none.status, 401);
        assert!(!none.header("www-authenticate").contains("error="));
    }
}

#[tokio::test]
async fn metadata_names_the_endpoints_and_only_the_server_itself_describes_its_resource() {
    let servers = Servers::new().await;
    let url = &servers.world.url;
    let metadata = servers.get("/.well-known/oauth-authorization-server/mcp/notes", &[]).await.json();
    for (member, path) in [
        ("introspection_endpoint", "introspect"),
        ("userinfo_endpoint", "userinfo"),
        ("revocation_endpoint", "revoke"),
    ] {
        assert_eq!(metadata[member], format!("{url}/{path}/mcp/notes"));
    }
    assert_eq!(metadata["jwks_uri"], format!("{url}/.well-known/jwks.json"));
    assert_eq!(metadata["introspection_signing_alg_values_supported"], json!(["ES256"]));
    let proxied = servers.get("/.well-known/oauth-authorization-server", &[]).await.json();
    assert!(proxied.get("introspection_endpoint").is_none() && proxied.get("userinfo_endpoint").is_none());
    for path in [
        "/.well-known/oauth-protected-resource/mcp/files",
        "/userinfo",
        "/introspect/mcp/default",
        "/introspect/mcp/unknown",
    ] {
        let page = if path.starts_with("/introspect") {
            servers
                .introspect_with(path, &servers.key("files").await, Scheme::Bearer, &[("token", "x")])
                .await
        } else {
            servers.get(path, &[]).await
        };
        assert_eq!(page.status, 404, "{path}");
    }
    let client = servers.client("files").await;
    let pair = servers.login(&client, "read").await;
    let call = client.call(&pair.access, "echo", json!({})).await;
    assert_eq!(call.status, 404);
    assert!(call.text.contains(FILES), "{}", call.text);
    assert!(
        !servers.world.standin.log().iter().any(|seen| seen.path == "/mcp"),
        "nothing is forwarded"
    );
    assert_eq!(servers.get("/introspect", &[]).await.status, 405);
}

#[tokio::test]
async fn a_token_is_bound_to_the_resource_of_its_service() {
    let servers = Servers::new().await;
    let client = servers.client("files").await;
    for resource in [
        NOTES,
        "https://files.example.com/other",
        &format!("{}/mcp/files", servers.world.url),
    ] {
        let mut browser = crate::support::browser::Browser::default();
        let page = browser.get(&client.authorize_url_with(&[("resource", resource)])).await;
        assert!(page.onward().is_none_or(|next| next.contains("error=invalid_target")), "{resource}");
    }
    // Without `resource`, the service says it.
    let url = client.authorize_url_with(&[("resource", "")]);
    let answer = client.browse_from(&mut crate::support::browser::Browser::default(), &url).await;
    let pair = Pair::of(&client.redeem(&McpClient::code(&answer)).await);
    let body = active(&servers.introspect(&servers.key("files").await, &pair.access).await);
    assert_eq!(body["aud"], FILES);
    assert!(Scopes::parse(body["scope"].as_str().unwrap()).contains_all(&Scopes::parse("read")));
}

#[tokio::test]
async fn the_consent_page_names_the_server_and_its_host() {
    let servers = Servers::new().await;
    let page = servers.consent_page(&servers.client("files").await, FILES).await;
    assert!(page.text.contains("files.example.com"), "{}", page.text);
}
