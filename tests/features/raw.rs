//! `token_mode = "raw"`: the client holds the upstream's own access token.

use http::Method;
use mcp_gateway_standin::Profile;
use mcp_oauth_gateway::token::header::TokenMode;
use serde_json::json;

use crate::support::browser::Page;
use crate::support::client::{McpClient, Pair};
use crate::support::house::House;
use crate::support::world::World;

async fn echo(client: &McpClient, access: &str) -> Page {
    client.call(access, "echo", json!({ "text": "hello" })).await
}

#[tokio::test]
async fn raw_mode_issues_and_forwards_the_upstreams_own_access_token() {
    let world = World::with(Profile::Standard, |service| service.mode = TokenMode::Raw).await;
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    assert_eq!(world.standin.issued_access(), [pair.access.as_str()]);
    assert_eq!(echo(&client, &pair.access).await.status, 200);
    let sent = format!("Bearer {}", pair.access);
    assert_eq!(House::last(&world.standin).header("authorization"), Some(sent.as_str()));
    // The refresh token is not the upstream's own.
    let next = Pair::of(&client.refresh(&pair.refresh).await);
    assert_eq!(world.standin.issued_access().last(), Some(&next.access));
    assert!(!world.standin.refreshes().contains(&pair.refresh));
    assert_eq!(echo(&client, &next.access).await.status, 200);
    // An unknown token gets a 401 challenge. Without a token, nothing reaches the upstream.
    world.standin.clear_log();
    let unknown = echo(&client, "somebody-elses-token").await;
    assert_eq!(unknown.status, 401);
    assert!(unknown.header("www-authenticate").contains("resource_metadata="));
    assert_eq!(
        House::last(&world.standin).header("authorization"),
        Some("Bearer somebody-elses-token")
    );
    world.standin.clear_log();
    assert_eq!(client.mcp(Method::POST, "", Some(json!({}))).await.status, 401);
    assert!(world.standin.log().iter().all(|seen| seen.path != "/mcp"));
}
