//! The gateway obtains a token for the service itself (`client_credentials`, `workload_identity`).

use std::time::Duration;

use mcp_gateway_standin::{CLIENT_ID, CLIENT_SECRET, KEY_CLIENTS, Profile, Seen, Standin};
use mcp_oauth_gateway::base::client_key::ClientKey;
use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::service::auth_server_config::AuthServerConfig;
use mcp_oauth_gateway::service::service_token::{ServiceGrant, ServiceTokenSettings, WorkloadTokenFile};
use mcp_oauth_gateway::service::{Service, Upstream};
use mcp_oauth_gateway::token::header::ServiceDigest;
use mcp_oauth_gateway::upstream::auth_server::TokenEndpointAuth;
use serde_json::json;

use crate::support::browser::Page;
use crate::support::client::{McpClient, Pair};
use crate::support::world::World;

const HOUR: u64 = 3_600;

fn with_secret(method: Option<TokenEndpointAuth>) -> AuthServerConfig {
    AuthServerConfig {
        client_id: Some(CLIENT_ID.to_owned()),
        client_secret: Some(Secret::from(CLIENT_SECRET)),
        token_auth: method,
        ..AuthServerConfig::default()
    }
}

fn with_key() -> AuthServerConfig {
    let (id, pem) = KEY_CLIENTS[0];
    AuthServerConfig {
        client_id: Some(id.to_owned()),
        client_key: Some(ClientKey::parse(&Secret::from(pem), None).unwrap()),
        ..AuthServerConfig::default()
    }
}

async fn world(auth_server: AuthServerConfig, grant: ServiceGrant) -> (World, McpClient, Pair) {
    let world = World::with(Profile::Standard, |service| {
        service.upstream = Upstream::ServiceToken(Box::new(ServiceTokenSettings { auth_server, grant }));
    })
    .await;
    world.standin.set(|behaviour| behaviour.no_sign_in = true);
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    (world, client, pair)
}

fn requests(standin: &Standin, path: &str) -> Vec<Seen> {
    standin.log().into_iter().filter(|seen| seen.path == path).collect()
}

fn field(request: &Seen, name: &str) -> Option<String> {
    request.form().into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

async fn whoami(client: &McpClient, pair: &Pair) -> Page {
    client.call(&pair.access, "whoami", json!({})).await
}

/// Waits until the upstream has this many token requests.
async fn asked(world: &World, count: usize) {
    for _ in 0..500 {
        if requests(&world.standin, "/token").len() >= count {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(requests(&world.standin, "/token").len(), count);
}

#[tokio::test]
async fn one_token_of_the_service_serves_all_callers() {
    for auth_server in [with_secret(None), with_secret(Some(TokenEndpointAuth::Post)), with_key()] {
        let (world, client, pair) = world(auth_server, ServiceGrant::ClientCredentials).await;
        asked(&world, 0).await;
        let other = McpClient::register(&world.url).await;
        let other_pair = other.login().await;
        let (one, two) = tokio::join!(whoami(&client, &pair), whoami(&other, &other_pair));
        assert_eq!((one.status.as_u16(), two.status.as_u16()), (200, 200));
        assert_eq!(whoami(&client, &pair).await.status, 200);
        asked(&world, 1).await;
        let request = &requests(&world.standin, "/token")[0];
        let fields = ["grant_type", "resource", "scope"].map(|name| field(request, name).unwrap());
        assert_eq!(fields, ["client_credentials".to_owned(), world.standin.mcp_url(), "mcp".to_owned()]);
        let token = &world.standin.issued_access()[0];
        let sent = requests(&world.standin, "/mcp");
        let bearer = format!("Bearer {token}");
        assert!(
            sent.iter()
                .filter(|seen| seen.status == 200)
                .all(|seen| seen.header("authorization") == Some(&bearer))
        );
        assert!(!pair.access.contains(token.as_str()));
    }
}

#[tokio::test]
async fn service_token_is_renewed_before_it_ends() {
    let (world, client, pair) = world(with_secret(None), ServiceGrant::ClientCredentials).await;
    world.standin.set(|behaviour| behaviour.token_expires_in = Some(json!(600)));
    assert_eq!(whoami(&client, &pair).await.status, 200);
    world.pass(539);
    assert_eq!(whoami(&client, &pair).await.status, 200);
    asked(&world, 1).await;
    world.pass(2);
    assert_eq!(whoami(&client, &pair).await.status, 200);
    asked(&world, 2).await;
    world.pass(700);
    assert_eq!(whoami(&client, &pair).await.status, 200);
    asked(&world, 3).await;
}

#[tokio::test]
async fn refused_service_token_is_replaced_and_the_request_repeated_once() {
    let (world, client, pair) = world(with_secret(None), ServiceGrant::ClientCredentials).await;
    assert_eq!(whoami(&client, &pair).await.status, 200);
    world.pass(31);
    world.standin.revoke_access();
    assert_eq!(whoami(&client, &pair).await.status, 200);
    asked(&world, 2).await;
    // The upstream refuses each token: a new one a moment later would be refused too.
    world.standin.set(|behaviour| behaviour.mcp_status = Some(401));
    for _ in 0..3 {
        let answer = whoami(&client, &pair).await;
        assert_eq!(answer.status, 502, "no login of the client helps");
    }
    asked(&world, 2).await;
}

#[tokio::test]
async fn refusal_of_the_authorization_server_is_not_asked_for_again_at_once() {
    let (world, client, pair) = world(with_secret(None), ServiceGrant::ClientCredentials).await;
    world
        .standin
        .set(|behaviour| behaviour.token_error = Some("unauthorized_client".to_owned()));
    for _ in 0..3 {
        assert_eq!(whoami(&client, &pair).await.status, 502);
    }
    asked(&world, 1).await;
    world.standin.set(|behaviour| behaviour.token_error = None);
    world.pass(30);
    assert_eq!(whoami(&client, &pair).await.status, 200);
    asked(&world, 2).await;
}

#[tokio::test]
async fn workload_token_is_read_for_each_request_and_is_the_only_identity() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let grant = ServiceGrant::WorkloadIdentity(WorkloadTokenFile::new(file.clone()));
    let (world, client, pair) = world(AuthServerConfig::default(), grant).await;
    assert_eq!(whoami(&client, &pair).await.status, 502, "there is no file");
    for (index, token) in ["first.workload.token", "second.workload.token"].into_iter().enumerate() {
        std::fs::write(&file, format!("{token}\n")).unwrap();
        world.standin.set(|behaviour| behaviour.workload_token = Some(token.to_owned()));
        world.standin.revoke_access();
        world.pass(31);
        assert_eq!(whoami(&client, &pair).await.status, 200, "{token}");
        asked(&world, index + 1).await;
        let request = requests(&world.standin, "/token").pop().unwrap();
        assert_eq!(field(&request, "assertion").as_deref(), Some(token));
        assert_eq!((field(&request, "client_id"), request.header("authorization")), (None, None));
    }
}

#[tokio::test]
async fn workload_token_never_goes_to_another_authorization_server() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "workload.token").unwrap();
    let grant = ServiceGrant::WorkloadIdentity(WorkloadTokenFile::new(file));
    let (world, client, pair) = world(AuthServerConfig::default(), grant).await;
    world
        .standin
        .set(|behaviour| behaviour.workload_token = Some("workload.token".to_owned()));
    assert_eq!(whoami(&client, &pair).await.status, 200);
    let other = Standin::start(Profile::Standard);
    let issuer = other.issuer();
    world.standin.set(|behaviour| behaviour.authorization_server = Some(issuer));
    world.pass(HOUR + 1);
    let pair = Pair::of(&client.refresh(&pair.refresh).await);
    assert_eq!(whoami(&client, &pair).await.status, 200, "at the server of the first use");
    asked(&world, 2).await;
    assert!(requests(&other, "/token").is_empty());
}

#[tokio::test]
async fn sibling_service_that_follows_its_upstream_does_not_move_the_workload_token() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "workload.token").unwrap();
    let grant = ServiceGrant::WorkloadIdentity(WorkloadTokenFile::new(file));
    let world = World::with_services(Profile::Standard, |sibling| {
        let auth_server = AuthServerConfig::default();
        let service_token = Service {
            upstream: Upstream::ServiceToken(Box::new(ServiceTokenSettings { auth_server, grant })),
            ..sibling.clone()
        };
        let sibling = Service {
            name: "sibling".into(),
            digest: ServiceDigest::of("sibling"),
            is_default: false,
            ..sibling.clone()
        };
        vec![service_token, sibling]
    })
    .await;
    world
        .standin
        .set(|behaviour| behaviour.workload_token = Some("workload.token".to_owned()));
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    assert_eq!(whoami(&client, &pair).await.status, 200);
    let other = Standin::start(Profile::Standard);
    let issuer = other.issuer();
    world.standin.set(|behaviour| behaviour.authorization_server = Some(issuer));
    world.pass(HOUR + 1);
    client.at("sibling").login().await;
    let at_other = requests(&other, "/token");
    assert_eq!(at_other.len(), 1, "the sibling follows");
    let pair = Pair::of(&client.refresh(&pair.refresh).await);
    assert_eq!(whoami(&client, &pair).await.status, 200, "at the server of the first use");
    asked(&world, 2).await;
    assert_eq!(requests(&other, "/token").len(), at_other.len());
}
