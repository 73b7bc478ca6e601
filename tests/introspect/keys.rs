//! Keys of resource servers: whom they serve, and when they stop.

use mcp_oauth_gateway::base::time::Stopwatch;

use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::flow::access_key::KeyHolder;
use mcp_oauth_gateway::token::access_key::AccessKeyKind;

use crate::servers::{Scheme, Servers, active};

#[tokio::test]
async fn a_key_that_is_missing_wrong_ended_or_of_another_service_is_refused_alike() {
    let servers = Servers::new().await;
    let pair = servers.login(&servers.client("files").await, "read").await;
    let files = || KeyHolder::Server("files".into());
    let (revoked, expiring) = (servers.new_key(files(), None).await, servers.new_key(files(), Some(60)).await);
    let owner = servers.new_key(KeyHolder::AllOwners, None).await;
    let unknown = servers.new_key(KeyHolder::Server("unknown".into()), None).await;
    let proxied = servers.new_key(KeyHolder::Server("default".into()), None).await;
    let good = servers.key("files").await;
    for key in [revoked.key.expose(), expiring.key.expose()] {
        active(&servers.introspect(key, &pair.access).await);
    }
    servers.keys.revoke(revoked.id).await.unwrap();
    servers.world.pass(60);
    let mut mistyped = good.clone();
    mistyped.replace_range(10..11, if &good[10..11] == "A" { "B" } else { "A" });
    let wrong = [
        ("a revoked key", revoked.key.expose().to_owned()),
        ("an expired key", expiring.key.expose().to_owned()),
        ("an admin key", owner.key.expose().to_owned()),
        ("a key of a service that is gone", unknown.key.expose().to_owned()),
        ("a key of a proxied service", proxied.key.expose().to_owned()),
        ("a mistyped key", mistyped),
        ("the id of a key", format!("key_{}", revoked.id)),
        ("the access token", pair.access.clone()),
        ("an invented key", format!("sk_{}", "A".repeat(59))),
    ];
    let mut bodies = Vec::new();
    for scheme in [Scheme::Bearer, Scheme::Basic] {
        for (what, key) in &wrong {
            let page = servers
                .introspect_with("/introspect", key, scheme, &[("token", &pair.access)])
                .await;
            assert_eq!(page.status, 401, "{what}");
            bodies.push((format!("{scheme:?}"), page.text.clone(), page.header("www-authenticate").to_owned()));
        }
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 2, "one response for each scheme: {bodies:?}");
    for authorization in ["", "Basic", "Basic ???", "Digest x"] {
        let form = "application/x-www-form-urlencoded";
        let page = servers
            .post("/introspect", authorization, form, format!("token={}", pair.access))
            .await;
        assert_eq!(page.status, 401, "{authorization}");
        assert!(page.header("www-authenticate").starts_with("Basic "));
    }
    // A good key at the path of another service.
    let page = servers
        .introspect_with("/introspect/mcp/notes", &good, Scheme::Bearer, &[("token", &pair.access)])
        .await;
    assert_eq!(page.status, 401);
    active(&servers.introspect(&good, &pair.access).await);
}

#[tokio::test]
async fn a_request_without_a_token_or_in_another_form_is_refused() {
    let servers = Servers::new().await;
    let key = servers.key("files").await;
    let (bearer, form) = (format!("Bearer {key}"), "application/x-www-form-urlencoded");
    for (media_type, body) in [
        (form, ""),
        (form, "token="),
        (form, "token=a&token=b"),
        ("application/json", "{}"),
        ("application/json", "[\"token\"]"),
        ("application/json", "{\"token\":\"a\",\"token\":\"b\"}"),
        ("application/json", "{\"token\":{}}"),
        ("text/plain", "token=a"),
    ] {
        let page = servers.post("/introspect", &bearer, media_type, body.to_owned()).await;
        assert_eq!(
            (page.status.as_u16(), &page.json()["error"]),
            (400, &"invalid_request".into()),
            "{media_type} {body}"
        );
    }
    let long = format!("token={}", "x".repeat(70_000));
    assert_eq!(servers.post("/introspect", &bearer, form, long).await.status, 413);
}

#[tokio::test]
async fn the_last_use_is_stored_and_a_listed_key_has_no_secret() {
    let servers = Servers::new().await;
    let created = servers.new_key(KeyHolder::Server("files".into()), None).await;
    let listed = || async { servers.keys.list(|_| true).await.unwrap() };
    assert_eq!(listed().await[0].1.last_used(), None);
    servers.introspect(created.key.expose(), "x").await;
    let mut record = listed().await.remove(0).1;
    for _ in 0..200 {
        if record.last_used().is_some() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        record = listed().await.remove(0).1;
    }
    assert!(record.last_used().is_some());
    let text = serde_json::to_string(&record).unwrap();
    assert!(!text.contains(created.key.expose()) && !text.contains(&created.key.expose()[3..30]));
}

#[tokio::test]
async fn ten_thousand_keys_cost_what_ten_cost() {
    let servers = Servers::new().await;
    let key = servers.new_key(KeyHolder::Server("files".into()), None).await.key;
    let measure = || async {
        let mut best = u64::MAX;
        for _ in 0..5 {
            let start = Stopwatch::start();
            for _ in 0..200 {
                assert!(servers.keys.find_valid(AccessKeyKind::Server, &key).await.unwrap().is_some());
            }
            best = best.min(start.micros());
        }
        best
    };
    let few = measure().await;
    for _ in 0..10_000 {
        servers.new_key(KeyHolder::Server("notes".into()), None).await;
    }
    let many = measure().await;
    // A scan of all keys would take a thousand times as long.
    assert!(many < few * 3, "{few} µs with one key, {many} µs with 10,000");
    let wrong = Secret::from(format!("sk_{}", "A".repeat(59)));
    assert!(servers.keys.find_valid(AccessKeyKind::Server, &wrong).await.unwrap().is_none());
}
