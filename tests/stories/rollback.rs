//! An attacker with write access to the store but no key can only restore or delete records. The
//! process remembers the revocations that it saw and writes them again.

use std::io::Cursor;

use mcp_gateway_standin::Profile;
use mcp_oauth_gateway::flow::grant::GrantRecord;
use mcp_oauth_gateway::store::{Export, Handle, SharedKeyRing, Store};

use crate::support::client::{McpClient, Pair};
use crate::support::world::World;

/// A gateway, with direct access to its store and keys.
async fn kept(profile: Profile) -> (World, Store, SharedKeyRing) {
    let mut kept = None;
    let world = World::made(profile, |parts| kept = Some((parts.store.clone(), parts.keys.clone()))).await;
    let (store, keys) = kept.unwrap();
    (world, store, keys)
}

async fn grants(store: &Store) -> Vec<(Handle<GrantRecord>, GrantRecord)> {
    store.scan(None, 10).await.unwrap().0
}

async fn is_ended(store: &Store) -> bool {
    let all = grants(store).await;
    all.len() == 1 && all[0].1.ended_until().is_some()
}

async fn is_over(client: &McpClient, pair: &Pair) {
    assert_eq!(client.call(&pair.access, "echo", serde_json::json!({})).await.status, 401);
    let page = client.refresh(&pair.refresh).await;
    assert_eq!(
        (page.status.as_u16(), page.json()["error"].as_str()),
        (400, Some("invalid_grant")),
        "{}",
        page.text
    );
}

#[tokio::test]
async fn restored_record_does_not_revive_an_ended_grant() {
    // This upstream has no refresh, so the refusal comes from the gateway.
    let (world, store, keys) = kept(Profile::GitHub).await;
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    let mut before = Vec::new();
    store.export(&mut before).await.unwrap();
    client.revoke(&pair.refresh).await;
    assert!(is_ended(&store).await);
    store.remove(&grants(&store).await[0].0).await.unwrap();
    let export = Export::open(Cursor::new(&before), &keys.load()).unwrap();
    assert!(store.import(export).await.unwrap().moved > 0);
    assert!(!is_ended(&store).await, "it lives again, as far as the store knows");
    is_over(&client, &pair).await;
    assert!(is_ended(&store).await, "the store was told again");
    // The refresh also fails after the process has forgotten the revocation.
    world.pass(2 * 86_400);
    assert_ne!(client.refresh(&pair.refresh).await.status, 200);
}

#[tokio::test]
async fn deleted_tombstone_is_written_again_on_use() {
    let (world, store, _) = kept(Profile::Standard).await;
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    client.revoke(&pair.access).await;
    store.remove(&grants(&store).await[0].0).await.unwrap();
    assert!(grants(&store).await.is_empty());
    is_over(&client, &pair).await;
    assert!(is_ended(&store).await);
}
