//! A callback that the browser opens twice, opens in advance, or gives up on.

use std::time::Duration;

use http::Request;
use mcp_gateway_standin::{Profile, Standin};
use mcp_oauth_gateway::net::body::RequestBody;

use crate::setup::{at_provider, seen, service};
use crate::support::browser::{Browser, Page, send};
use crate::support::client::{McpClient, Pair};

/// Consents, and returns our callback with the upstream's code.
async fn at_callback(client: &McpClient, browser: &mut Browser) -> String {
    let consent = client.to_consent(browser).await;
    let onward = browser.decide(&consent, "approve").await.onward().expect("on to the upstream");
    browser.get(&onward).await.onward().expect("back to our callback")
}

fn location(page: &Page) -> String {
    assert_eq!(page.status, 303, "{}", page.text);
    page.header("location").to_owned()
}

#[tokio::test]
async fn a_repeated_callback_gets_the_same_answer_until_the_code_is_redeemed() {
    let world = service(|_| String::new()).await;
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    let callback = at_callback(&client, &mut browser).await;
    let first = location(&browser.get(&callback).await);
    assert_eq!(location(&browser.get(&callback).await), first);
    // Another browser, another query, and a later time are refused.
    let stranger = Browser::default().get(&callback).await;
    assert!(stranger.status.is_client_error() && stranger.header("location").is_empty());
    assert!(browser.get(&format!("{callback}&x=1")).await.status.is_client_error());
    Pair::of(&client.redeem(&McpClient::code(&first)).await);
    let late = browser.get(&callback).await;
    assert!(
        late.status.is_client_error() && late.header("location").is_empty(),
        "{}",
        late.status
    );
    assert_eq!(seen(&world.standin, "/token").len(), 1);
}

#[tokio::test]
async fn a_callback_is_not_repeated_after_half_a_minute() {
    let world = service(|_| String::new()).await;
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    let callback = at_callback(&client, &mut browser).await;
    let first = location(&browser.get(&callback).await);
    world.pass(31);
    assert!(browser.get(&callback).await.status.is_client_error());
    // The code itself is still good.
    Pair::of(&client.redeem(&McpClient::code(&first)).await);
}

#[tokio::test]
async fn a_callback_during_the_exchange_waits_for_its_answer() {
    let world = service(|_| String::new()).await;
    world.standin.set(|b| b.token_delay = Duration::from_millis(600));
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    let callback = at_callback(&client, &mut browser).await;
    // The first request is given up by the browser.
    let (mut impatient, url) = (browser.clone(), callback.clone());
    let given_up = tokio::time::timeout(Duration::from_millis(200), async move { impatient.get(&url).await });
    assert!(given_up.await.is_err());
    let mut second = browser.clone();
    let (one, other) = tokio::join!(browser.get(&callback), second.get(&callback));
    assert_eq!(location(&one), location(&other));
    Pair::of(&client.redeem(&McpClient::code(&location(&one))).await);
    assert_eq!(seen(&world.standin, "/token").len(), 1);
}

#[tokio::test]
async fn a_prefetch_changes_nothing() {
    let world = service(|_| String::new()).await;
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    let callback = at_callback(&client, &mut browser).await;
    let cookies: Vec<String> = browser
        .cookies
        .iter()
        .map(|(name, value)| format!("{}={value}", name.split(' ').nth(1).unwrap()))
        .collect();
    for purpose in ["prefetch", "prefetch;prerender", "prefetch;anonymous-client-ip"] {
        let request = Request::get(&callback)
            .header("sec-purpose", purpose)
            .header("cookie", cookies.join("; "));
        let page = send(&browser.client, request.body(RequestBody::Empty).unwrap()).await;
        assert_eq!(page.status, 503, "{purpose}");
    }
    let request = Request::get(client.authorize_url()).header("sec-purpose", "prefetch");
    let page = send(&browser.client, request.body(RequestBody::Empty).unwrap()).await;
    assert_eq!((page.status.as_u16(), page.header("set-cookie")), (503, ""));
    let home = location(&browser.get(&callback).await);
    Pair::of(&client.redeem(&McpClient::code(&home)).await);
}

#[tokio::test]
async fn a_repeated_callback_of_a_provider_leads_to_consent_again() {
    let idp = Standin::start(Profile::OpenId);
    let world = at_provider(&idp, "allow = \"anyone\"\n").await;
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    let callback = client.to_login_callback(&mut browser).await;
    let first = location(&browser.get(&callback).await);
    let again = browser.get(&callback).await;
    assert_eq!(location(&again), first);
    assert!(Browser::default().get(&callback).await.status.is_client_error());
    let consent = browser.get(&first).await;
    let home = browser.decide(&consent, "approve").await.onward().unwrap();
    assert!(browser.get(&callback).await.status.is_client_error());
    Pair::of(&client.redeem(&McpClient::code(&home)).await);
    assert_eq!(seen(&idp, "/token").len(), 1);
}
