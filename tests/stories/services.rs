//! Several services in one process. Each is its own issuer and resource, and tokens do not cross.

use http::{Method, Request};
use mcp_oauth_gateway::net::body::RequestBody;
use serde_json::{Value, json};

use super::hostile::{link_of, refused};
use crate::support::browser::{Browser, Page, send};
use crate::support::client::{McpClient, Pair, param};
use crate::support::house::{House, SERVICES, browse, login, paste_key};

async fn echo(client: &McpClient, access: &str) -> Page {
    client.call(access, "echo", json!({ "text": "hello" })).await
}

/// Every ordered pair of different services.
fn pairs() -> impl Iterator<Item = (&'static str, &'static str)> {
    let all = SERVICES.iter().flat_map(|one| SERVICES.iter().map(|other| (*one, *other)));
    all.filter(|(one, other)| one != other)
}

/// A token must not work at another service.
#[tokio::test]
async fn token_of_one_service_is_refused_at_every_other() {
    let house = House::new().await;
    let client = house.client().await;
    let mut tokens = Vec::new();
    for name in SERVICES {
        tokens.push((name, login(&client.at(name)).await));
    }
    let of = |name: &str| tokens.iter().find(|(known, _)| *known == name).unwrap().1.clone();
    for upstream in [&house.world.standin, &house.legacy, &house.weather, &house.backend] {
        upstream.clear_log();
    }
    for (one, other) in pairs() {
        let page = echo(&client.at(other), &of(one).access).await;
        assert!(
            page.status == 401 && page.header("www-authenticate").contains("error=\"invalid_token\""),
            "{one} at {other}: {}",
            page.text
        );
        refused(&client.at(other).refresh(&of(one).refresh).await, 400, "invalid_grant");
        for token in [&of(one).access, &of(one).refresh] {
            assert_eq!(client.at(other).revoke(token).await.status, 200, "{one} at {other}");
        }
    }
    let reached = [&house.legacy, &house.weather, &house.backend, &house.world.standin].map(|upstream| upstream.log().len());
    assert_eq!(reached, [0; 4], "an upstream heard of another's token");
    for name in SERVICES {
        let client = client.at(name);
        assert_eq!(
            echo(&client, &of(name).refresh).await.status,
            401,
            "{name}: a refresh token is no access token"
        );
        refused(&client.refresh(&of(name).access).await, 400, "invalid_grant");
        // None of these attempts ended a grant.
        assert_eq!(echo(&client, &of(name).access).await.status, 200, "{name}");
        Pair::of(&client.refresh(&of(name).refresh).await);
    }
}

/// A code must not work at the token endpoint of another service.
#[tokio::test]
async fn code_is_refused_at_other_services_and_stays_valid() {
    let house = House::new().await;
    let client = house.client().await;
    for one in SERVICES {
        let code = McpClient::code(&browse(&client.at(one), &mut Browser::default()).await);
        for other in SERVICES.into_iter().filter(|other| *other != one) {
            refused(&client.at(other).redeem(&code).await, 400, "invalid_grant");
        }
        let pair = Pair::of(&client.at(one).redeem(&code).await);
        assert_eq!(echo(&client.at(one), &pair.access).await.status, 200, "{one}");
        // The code is single-use: its reuse ends the grant.
        refused(&client.at(one).redeem(&code).await, 400, "invalid_grant");
        assert_eq!(echo(&client.at(one), &pair.access).await.status, 401, "{one}");
    }
}

/// `state` is bound to one service and one browser, and is single-use.
#[tokio::test]
async fn upstream_callback_is_accepted_only_at_its_own_service() {
    let house = House::new().await;
    let client = house.client().await.at("chained");
    let mut browser = Browser::default();
    let consent = client.to_consent(&mut browser).await;
    let onward = browser.decide(&consent, "approve").await.onward().unwrap();
    let callback = browser.get(&onward).await.onward().unwrap();
    assert!(callback.contains("/upstream/callback/chained?"), "{callback}");
    for other in [
        "/upstream/callback?",
        "/upstream/callback/default?",
        "/upstream/callback/legacy?",
        "/upstream/callback/nowhere?",
    ] {
        let page = browser.get(&callback.replace("/upstream/callback/chained?", other)).await;
        assert!(
            page.status.is_client_error() && page.onward().is_none(),
            "{other}: {} {}",
            page.status,
            page.text
        );
    }
    let stranger = Browser::default().get(&callback).await;
    assert!(stranger.status == 403 && stranger.onward().is_none(), "{}", stranger.text);
    let answer = client.follow(&mut browser, callback.clone()).await;
    Pair::of(&client.redeem(&McpClient::code(&answer)).await);
    let again = browser.get(&callback).await;
    assert!(again.status.is_client_error() && again.onward().is_none(), "{}", again.text);
}

/// The URLs of a service, each with its issuer.
fn forms(base: &str, name: &str) -> Vec<(String, String)> {
    let own = format!("{base}/mcp/{name}");
    let mut all = vec![(own.clone(), own.clone()), (format!("{base}/{name}/mcp"), own)];
    if name == "default" {
        all.push((format!("{base}/mcp"), base.to_owned()));
    }
    all
}

/// The URL of a metadata document: RFC 8414 §3.1, RFC 9728 §3.1.
fn well_known(base: &str, document: &str, address: &str) -> String {
    format!("{base}/.well-known/{document}{}", address.strip_prefix(base).unwrap())
}

/// Sends a request without a body, with or without a token.
async fn ask(method: Method, url: &str, token: Option<&str>) -> Page {
    let request = Request::builder().method(method).uri(url);
    let request = match token {
        Some(token) => request.header("authorization", format!("Bearer {token}")),
        None => request,
    };
    send(&Browser::default().client, request.body(RequestBody::Empty).unwrap()).await
}

/// RFC 9110 §9.3.2: some clients read the challenge of a service from the response to a HEAD.
#[tokio::test]
async fn head_without_a_valid_token_gets_the_challenge_of_get() {
    let house = House::new().await;
    let base = house.world.url.clone();
    let pair = login(&house.client().await.at("default")).await;
    let mut urls: Vec<String> = SERVICES.iter().flat_map(|name| forms(&base, name)).map(|(url, _)| url).collect();
    urls.extend(urls.clone().iter().map(|url| format!("{url}/")));
    for url in &urls {
        for token in [None, Some("nonsense")] {
            let [mut get, mut head] = [ask(Method::GET, url, token).await, ask(Method::HEAD, url, token).await];
            for page in [&mut get, &mut head] {
                page.headers.remove("date");
            }
            assert!(get.header("www-authenticate").contains("resource_metadata="), "{url}");
            assert_eq!((head.status, &head.headers), (get.status, &get.headers), "{url}");
            assert_eq!((head.status.as_u16(), head.text.as_str()), (401, ""), "{url}");
        }
        let own = url.trim_end_matches('/');
        let is_default = own == format!("{base}/mcp") || own.contains("default");
        let head = ask(Method::HEAD, url, Some(&pair.access)).await;
        let expected = if is_default {
            (405, "GET, POST, DELETE, OPTIONS")
        } else {
            (401, "")
        };
        assert_eq!((head.status.as_u16(), head.header("allow")), expected, "{url}");
    }
    assert_eq!(ask(Method::HEAD, &format!("{base}/mcp/nowhere"), None).await.status, 404);
}

/// RFC 9728 §3.3: `resource` must equal the URL that the client called.
#[tokio::test]
async fn metadata_and_challenge_name_the_called_resource_and_its_issuer() {
    let house = House::new().await;
    let base = house.world.url.clone();
    let mut browser = Browser::default();
    for name in SERVICES {
        for (resource, issuer) in forms(&base, name) {
            let page = browser.post(&resource, &[]).await;
            let metadata = well_known(&base, "oauth-protected-resource", &resource);
            let challenge = page.header("www-authenticate").to_owned();
            assert!(
                page.status == 401 && challenge.contains(&format!("resource_metadata=\"{metadata}\"")),
                "{resource}: {challenge}"
            );
            let said: Value = browser.get(&metadata).await.json();
            assert_eq!(
                (&said["resource"], &said["authorization_servers"]),
                (&json!(resource), &json!([issuer]))
            );
            let behind = issuer.strip_prefix(base.as_str()).unwrap();
            for document in [
                well_known(&base, "oauth-authorization-server", &issuer),
                well_known(&base, "openid-configuration", &issuer),
                format!("{issuer}/.well-known/openid-configuration"),
            ] {
                let said = browser.get(&document).await.json();
                assert_eq!(said["issuer"], json!(issuer), "{document}");
                for (key, path) in [
                    ("authorization_endpoint", "/authorize"),
                    ("token_endpoint", "/token"),
                    ("registration_endpoint", "/register"),
                    ("revocation_endpoint", "/revoke"),
                ] {
                    assert_eq!(said[key], json!(format!("{base}{path}{behind}")), "{document}");
                }
            }
        }
    }
    let root = browser.get(&format!("{base}/.well-known/oauth-protected-resource")).await.json();
    assert_eq!(
        (&root["resource"], &root["authorization_servers"]),
        (&json!(format!("{base}/mcp")), &json!([base]))
    );
    // An unknown name must not get the document of another service.
    for nobody in ["oauth-protected-resource/mcp/nobody", "oauth-authorization-server/mcp/nobody"] {
        let page = browser.get(&format!("{base}/.well-known/{nobody}")).await;
        assert!(page.status == 404 && page.json()["error"].is_string(), "{}", page.text);
    }
}

#[tokio::test]
async fn authorization_response_names_the_issuer_of_the_requested_service() {
    let house = House::new().await;
    let client = house.client().await;
    let base = &house.world.url;
    let answer = browse(&client, &mut Browser::default()).await;
    assert_eq!(param(&answer, "iss").as_ref(), Some(base));
    for name in SERVICES {
        let client = client.at(name);
        let answer = browse(&client, &mut Browser::default()).await;
        assert_eq!(param(&answer, "iss"), Some(format!("{base}/mcp/{name}")));
        assert_eq!(param(&answer, "state").as_deref(), Some("the client's state"));
        // The same for a denial.
        let mut browser = Browser::default();
        let consent = client.to_consent(&mut browser).await;
        let page = browser.decide(&consent, "deny").await;
        let denied = page.onward().unwrap_or_else(|| link_of(&page));
        assert_eq!(param(&denied, "error").as_deref(), Some("access_denied"), "{name}");
        assert_eq!(param(&denied, "iss"), Some(format!("{base}/mcp/{name}")));
    }
}

/// RFC 8707 §2: a late or changed `resource` must not yield another service's audience.
#[tokio::test]
async fn resource_of_another_service_is_an_invalid_target() {
    let house = House::new().await;
    let client = house.client().await;
    for (one, other) in [
        ("legacy", "weather"),
        ("weather", "calculator"),
        ("calculator", "default"),
        ("default", "open"),
    ] {
        let (client, there) = (client.at(one), client.at(other).resource());
        let mut browser = Browser::default();
        let page = browser.get(&client.authorize_url_with(&[("resource", &there)])).await;
        let answer = page.onward().unwrap_or_else(|| panic!("{}", page.text));
        assert_eq!(param(&answer, "error").as_deref(), Some("invalid_target"), "{one}, {other}");
        let code = McpClient::code(&browse(&client, &mut browser).await);
        let late = [
            ("code", code.as_str()),
            ("code_verifier", client.verifier.expose()),
            ("redirect_uri", &client.redirect),
            ("resource", &there),
        ];
        refused(&client.redeem_with(&late).await, 400, "invalid_target");
        let pair = Pair::of(&client.redeem(&code).await);
        let fields = [
            ("grant_type", "refresh_token"),
            ("client_id", client.id.as_str()),
            ("refresh_token", &pair.refresh),
            ("resource", &there),
        ];
        refused(
            &client.form(&format!("/token{}", client.behind), &fields).await,
            400,
            "invalid_target",
        );
        Pair::of(&client.refresh(&pair.refresh).await);
    }
}

#[tokio::test]
async fn path_alias_reaches_the_same_service_and_no_other() {
    let house = House::new().await;
    let client = house.client().await;
    let of_default = login(&client).await;
    let of_weather = login(&client.at("weather")).await;
    let at = |behind: &str| McpClient {
        behind: behind.to_owned(),
        ..client.clone()
    };
    for (behind, token, status) in [
        ("/mcp/default", &of_default, 200),
        ("/default/mcp", &of_default, 200),
        ("/weather/mcp", &of_weather, 200),
        ("/weather/mcp", &of_default, 401),
        ("/default/mcp", &of_weather, 401),
        ("/mcp", &of_weather, 401),
    ] {
        assert_eq!(echo(&at(behind), &token.access).await.status, status, "{behind}");
    }
    let page = at("/mcp/nobody").mcp(Method::POST, &of_default.access, Some(json!({}))).await;
    assert_eq!(page.status, 404, "{}", page.text);
}

/// Concurrent flows in one browser are independent.
#[tokio::test]
async fn parallel_flows_at_several_services_all_succeed() {
    let house = House::new().await;
    let client = house.client().await;
    let mut browser = Browser::default();
    let mut pages = Vec::new();
    for name in SERVICES {
        pages.push((name, client.at(name).to_consent(&mut browser).await));
    }
    for (name, consent) in pages.into_iter().rev() {
        let client = client.at(name);
        let page = paste_key(&mut browser, &consent, crate::support::house::KEY).await;
        let answer = client.follow(&mut browser, page.onward().unwrap()).await;
        let pair = Pair::of(&client.redeem(&McpClient::code(&answer)).await);
        assert_eq!(echo(&client, &pair.access).await.status, 200, "{name}");
    }
}
