//! The gateway authenticates at upstreams with signed assertions (`private_key_jwt`, RFC 7523).

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mcp_gateway_standin::{KEY_CLIENTS, Profile, Seen, Standin};
use mcp_oauth_gateway::base::client_key::ClientKey;
use mcp_oauth_gateway::base::secret::Secret;
use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::client::{McpClient, Pair};
use crate::support::world::{World, authorization};

/// A gateway that is this client at the upstream.
async fn world(client_id: &str, pem: &str) -> World {
    let key = ClientKey::parse(&Secret::from(pem), Some("key-1".to_owned())).unwrap();
    World::with(Profile::Standard, |service| {
        let config = authorization(service);
        (config.client_id, config.client_key) = (Some(client_id.to_owned()), Some(key));
    })
    .await
}

fn token_requests(standin: &Standin) -> Vec<Seen> {
    standin.log().into_iter().filter(|seen| seen.path == "/token").collect()
}

/// Header and claims of the assertion of a token request, which proves the client in no other way.
fn assertion(request: &Seen) -> [Value; 2] {
    assert_eq!(request.header("authorization"), None);
    let form = request.form();
    let value = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    assert_eq!(value("client_secret"), None);
    let parts: Vec<&str> = value("client_assertion").unwrap().split('.').collect();
    [parts[0], parts[1]].map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap())
}

#[tokio::test]
async fn each_kind_of_client_key_signs_codes_refreshes_and_revocations() {
    for (id, pem) in KEY_CLIENTS {
        let world = world(id, pem).await;
        let client = McpClient::register(&world.url).await;
        let pair = client.login().await;
        let pair = Pair::of(&client.refresh(&pair.refresh).await);
        assert_eq!(client.call(&pair.access, "whoami", json!({})).await.status, 200, "{id}");
        assert_eq!(client.revoke(&pair.refresh).await.status, 200);
        world.revoked(1).await;
        let requests = token_requests(&world.standin);
        assert_eq!(requests.len(), 2, "{id}");
        let assertions: Vec<[Value; 2]> = requests.iter().map(assertion).collect();
        for [header, claims] in &assertions {
            assert_eq!(header["alg"].as_str(), id.strip_prefix("gateway-"));
            assert_eq!(header["kid"], "key-1");
            assert_eq!((&claims["iss"], &claims["sub"]), (&json!(id), &json!(id)));
            assert_eq!(claims["aud"], world.standin.issuer(), "the issuer, and no list");
            assert_eq!(claims["exp"].as_u64().unwrap(), claims["iat"].as_u64().unwrap() + 60);
        }
        let ids: HashSet<&str> = assertions.iter().filter_map(|[_, claims]| claims["jti"].as_str()).collect();
        assert_eq!(ids.len(), 2, "no assertion is sent twice");
    }
}

#[tokio::test]
async fn assertion_signed_by_another_key_is_refused_and_ends_no_grant() {
    let [(id, _), (_, other_key), _] = KEY_CLIENTS;
    let world = world(id, other_key).await;
    let client = McpClient::register(&world.url).await;
    let answer = client.browse(&mut Browser::default()).await;
    assert!(answer.contains("error=") && !answer.contains("code="), "{answer}");
    assert_eq!(
        token_requests(&world.standin).iter().map(|seen| seen.status).collect::<Vec<_>>(),
        [401]
    );
}

#[test]
fn client_key_is_a_private_key_in_pkcs8_for_a_known_algorithm() {
    let parse = |pem: &str| {
        ClientKey::parse(&Secret::from(pem), None)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    for (_, pem) in KEY_CLIENTS {
        assert_eq!(parse(pem), Ok(()));
        let key = ClientKey::parse(&Secret::from(pem), None).unwrap();
        assert!(format!("{key:?}").len() < 20, "it prints its algorithm alone");
        assert!(parse(&pem.replace("PRIVATE", "PUBLIC")).unwrap_err().contains("PKCS#8"));
    }
    let (_, pem) = KEY_CLIENTS[0];
    let broken = pem.replacen("MIG", "MIH", 1);
    assert!(parse(&broken).unwrap_err().contains("ES256"), "{broken}");
}
