//! Settings for an upstream whose host the gateway does not know: profile and extra parameters.

use mcp_gateway_standin::{Profile, Standin};
use mcp_oauth_gateway::upstream::quirks;

use crate::support::browser::Browser;
use crate::support::client::{McpClient, param};
use crate::support::world::{World, authorization};

/// The upstream URL to which the gateway redirects the browser.
async fn sent_to(world: &World) -> String {
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    let consent = client.to_consent(&mut browser).await;
    browser.decide(&consent, "approve").await.onward().expect("on to the upstream")
}

/// The last form that the token endpoint received, as the query of a URL.
fn told(standin: &Standin) -> String {
    let calls = standin.log();
    let last = calls
        .iter()
        .rfind(|seen| seen.path == "/token")
        .expect("a call of the token endpoint");
    format!("https://as/?{}", std::str::from_utf8(&last.body).unwrap())
}

/// Signs in and refreshes. Returns the form of the code exchange and of the refresh.
async fn exchanged_and_refreshed(world: &World) -> [String; 2] {
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    let exchanged = told(&world.standin);
    assert_eq!(client.refresh(&pair.refresh).await.status.as_u16(), 200);
    [exchanged, told(&world.standin)]
}

#[tokio::test]
async fn configured_profile_applies_to_an_unknown_upstream_host() {
    let entra = World::with(Profile::Standard, |service| {
        authorization(service).profile = quirks::by_name("entra");
    })
    .await;
    let asked = sent_to(&entra).await;
    assert_eq!(param(&asked, "resource"), None, "{asked}");
    assert!(
        param(&asked, "scope").unwrap().split(' ').any(|scope| scope == "offline_access"),
        "{asked}"
    );
    let [exchanged, refreshed] = exchanged_and_refreshed(&entra).await;
    assert_eq!((param(&exchanged, "resource"), param(&refreshed, "resource")), (None, None));
    assert!(param(&refreshed, "scope").is_some(), "{refreshed}");
}

#[tokio::test]
async fn unknown_upstream_host_without_profile_gets_standard_requests() {
    let world = World::standard().await;
    let resource = Some(world.standin.mcp_url());
    assert_eq!(param(&sent_to(&world).await, "resource"), resource);
    let [exchanged, refreshed] = exchanged_and_refreshed(&world).await;
    assert_eq!(
        (param(&exchanged, "resource"), param(&refreshed, "resource")),
        (resource.clone(), resource)
    );
    assert_eq!(param(&refreshed, "scope"), None, "{refreshed}");
}

#[tokio::test]
async fn extra_authorize_parameters_never_replace_the_gateways_own() {
    let said = [
        ("audience", "https://api.example.com"),
        ("state", "theirs"),
        ("resource", "https://elsewhere.example"),
    ];
    let world = World::with(Profile::Standard, |service| {
        let extra = said.map(|(name, value)| (name.to_owned(), value.to_owned()));
        authorization(service).extra_authorize = extra.to_vec();
        assert_eq!(authorization(service).reserved_extra(), Some("state"));
    });
    let world = world.await;
    let asked = sent_to(&world).await;
    assert_eq!(param(&asked, "audience").as_deref(), Some("https://api.example.com"));
    assert_ne!(param(&asked, "state").as_deref(), Some("theirs"));
    assert_eq!(param(&asked, "resource"), Some(world.standin.mcp_url()));
    assert_eq!(
        (asked.matches("state=").count(), asked.matches("resource=").count()),
        (1, 1),
        "{asked}"
    );
    McpClient::register(&world.url).await.login().await;
}
