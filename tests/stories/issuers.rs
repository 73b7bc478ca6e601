//! An upstream that starts to name another authorization server: existing grants stay with the old
//! one, and no secret reaches the new one.

use std::time::Duration;

use mcp_gateway_standin::{CLIENT_ID, CLIENT_SECRET, Profile, Seen, Standin};
use mcp_oauth_gateway::base::secret::Secret;
use serde_json::json;

use super::hostile::refused;
use crate::support::browser::Browser;
use crate::support::client::{McpClient, Pair, param};
use crate::support::port::free_port;
use crate::support::process::{Process, logged};
use crate::support::world::{World, authorization};

/// How long discovered metadata is valid, in seconds.
const BELIEVED: u64 = 3_600;

/// Makes the upstream name this authorization server, or its own if `None`.
fn names(upstream: &Standin, other: Option<&Standin>) {
    let issuer = other.map(Standin::issuer);
    upstream.set(|b| b.authorization_server = issuer);
}

/// All requests that a server received, as text.
fn told(standin: &Standin) -> String {
    let text = |seen: Seen| {
        let body = String::from_utf8_lossy(&seen.body).into_owned();
        format!("{} {}?{} {:?} {body}\n", seen.method, seen.path, seen.query, seen.headers)
    };
    standin.log().into_iter().map(text).collect()
}

/// The number of requests to a path.
fn count(standin: &Standin, path: &str) -> usize {
    standin.log().iter().filter(|seen| seen.path == path).count()
}

/// Consents and signs in upstream. Returns our callback URL with the upstream's code.
async fn at_callback(client: &McpClient, browser: &mut Browser) -> String {
    let consent = client.to_consent(browser).await;
    let onward = browser.decide(&consent, "approve").await.onward().expect("on to the upstream");
    browser.get(&onward).await.onward().expect("back to our callback")
}

#[tokio::test]
async fn a_code_is_not_sent_to_an_authorization_server_named_during_the_flow() {
    let (world, other) = (World::standard().await, Standin::start(Profile::Standard));
    let client = McpClient::register(&world.url).await;
    client.login().await;
    let exchanged = count(&world.standin, "/token");
    world.pass(BELIEVED - 10);
    let mut browser = Browser::default();
    let callback = at_callback(&client, &mut browser).await;
    let code = param(&callback, "code").unwrap();
    names(&world.standin, Some(&other));
    world.pass(20);
    let home = browser.get(&callback).await.onward().expect("the client is told");
    assert!(home.starts_with(&client.redirect) && param(&home, "code").is_none(), "{home}");
    assert_eq!(param(&home, "error").as_deref(), Some("server_error"), "{home}");
    // The gateway discovered the new server and sent it nothing of this flow.
    assert!(count(&other, "/register") == 1 && count(&other, "/token") == 0, "{}", told(&other));
    assert!(!told(&other).contains(&code));
    assert_eq!(count(&world.standin, "/token"), exchanged);
    // A new flow signs in at the new server.
    client.login().await;
    assert_eq!((other.issued_access().len(), count(&world.standin, "/token")), (1, exchanged));
}

#[tokio::test]
async fn a_grant_is_used_only_at_the_authorization_server_that_issued_it() {
    let (world, other) = (World::standard().await, Standin::start(Profile::Standard));
    let client = McpClient::register(&world.url).await;
    let (stays, revoked) = (client.login().await, client.login().await);
    let ours = world.standin.issued_access();
    names(&world.standin, Some(&other));
    world.pass(BELIEVED + 1);
    for pair in [&stays, &revoked] {
        let page = client.refresh(&pair.refresh).await;
        refused(&page, 400, "invalid_grant");
        assert!(page.text.contains("sign in again"), "{}", page.text);
    }
    // A revocation is not sent to the new server either.
    assert_eq!(client.revoke(&revoked.refresh).await.status, 200);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(
        count(&other, "/token") == 0 && count(&other, "/revoke") == 0 && count(&other, "/register") == 1,
        "{}",
        told(&other)
    );
    assert_eq!(world.standin.refreshes(), [""; 0]);
    // A new sign-in creates a grant that belongs to the new server.
    let again = Pair::of(&client.refresh(&client.login().await.refresh).await);
    assert_eq!(
        (other.refreshes().len(), other.reused().len()),
        (1, 0),
        "it knows the one that it is sent"
    );
    // The upstream names the first server again. Its grants still work, and no token crosses.
    names(&world.standin, None);
    world.pass(BELIEVED + 1);
    let back = Pair::of(&client.refresh(&stays.refresh).await);
    assert_eq!(client.call(&back.access, "echo", json!({ "text": "x" })).await.status, 200);
    refused(&client.refresh(&again.refresh).await, 400, "invalid_grant");
    assert_eq!((world.standin.refreshes().len(), other.refreshes().len()), (1, 1));
    let there = told(&other);
    assert!(
        world
            .standin
            .refreshes()
            .iter()
            .chain(&ours)
            .all(|token| !there.contains(token.as_str()))
    );
}

#[tokio::test]
async fn a_client_secret_is_not_sent_to_a_newly_named_authorization_server() {
    let other = Standin::start(Profile::Standard);
    let world = World::with(Profile::Standard, |service| {
        authorization(service).client_id = Some(CLIENT_ID.into());
        authorization(service).client_secret = Some(Secret::from(CLIENT_SECRET));
    })
    .await;
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    names(&world.standin, Some(&other));
    world.pass(BELIEVED + 1);
    // Existing grants still work. The gateway only fetched the metadata of the new server.
    Pair::of(&client.refresh(&pair.refresh).await);
    client.login().await;
    assert!(count(&other, "/.well-known/oauth-authorization-server") > 0);
    assert_eq!(
        other.log().len(),
        count(&other, "/.well-known/oauth-authorization-server"),
        "{}",
        told(&other)
    );
    assert!(other.log().iter().all(|seen| seen.header("authorization").is_none()));
}

/// The text of the consent page, and of the page after consent.
async fn consented(world: &World) -> [String; 2] {
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    let consent = client.to_consent(&mut browser).await;
    let after = browser.decide(&consent, "approve").await;
    [consent.text, after.text]
}

#[tokio::test]
async fn changed_issuer_is_shown_on_the_consent_page_for_a_while() {
    let (world, other) = (World::standard().await, Standin::start(Profile::Standard));
    let hosts = [&world.standin, &other].map(|standin| standin.origin().replace("http://", ""));
    assert!(!consented(&world).await[0].contains("has moved"));
    names(&world.standin, Some(&other));
    world.pass(BELIEVED + 1);
    let [consent, after] = consented(&world).await;
    let notice = consent.split_once("has moved").expect(&consent).1;
    assert!(hosts.iter().all(|host| notice.contains(host.as_str())), "{notice}");
    assert!(after.contains(&other.origin()), "{after}");
    world.pass(90 * 86_400);
    assert!(!consented(&world).await[0].contains("has moved"));
}

#[tokio::test]
async fn pinned_issuer_is_kept_and_another_one_is_refused() {
    for (client_id, pin, is_refused) in [
        (Some(CLIENT_ID), None, true),
        (Some(CLIENT_ID), Some(false), false),
        (None, Some(true), true),
        (None, None, false),
    ] {
        let other = Standin::start(Profile::Standard);
        let mut world = World::with(Profile::Standard, |service| {
            authorization(service).client_id = client_id.map(str::to_owned);
            authorization(service).pin_issuer = pin;
        })
        .await;
        assert!(consented(&world).await[1].contains(&world.standin.origin()));
        names(&world.standin, Some(&other));
        // With other settings of the upstream, nothing that was discovered is used again.
        world.reload(|service| authorization(service).extra_authorize.push(("audience".into(), "x".into())));
        let after = consented(&world).await[1].clone();
        assert_eq!(after.contains("names another authorization server"), is_refused, "{pin:?} {after}");
        assert_eq!(after.contains(&other.origin()), !is_refused, "{pin:?} {after}");
        assert_eq!(count(&other, "/register"), usize::from(!is_refused && client_id.is_none()));
    }
}

#[tokio::test]
async fn changed_issuer_is_in_the_log_and_the_audit_log() {
    let (upstream, other) = (Standin::start(Profile::Standard), Standin::start(Profile::Standard));
    let data = tempfile::tempdir().unwrap();
    let audit = data.path().join("audit.jsonl");
    for issuer in [None, Some(&other)] {
        names(&upstream, issuer);
        let flags = ["--audit-log", audit.to_str().unwrap()];
        let process = Process::start(&upstream.mcp_url(), free_port(), data.path(), &flags).await;
        let client = McpClient::register(&process.url).await;
        client.to_consent(&mut Browser::default()).await;
        assert!(process.terminate().success());
    }
    for (file, event) in [
        (
            data.path().join("log"),
            "the upstream names another authorization server; new sign-ins go there",
        ),
        (audit, "\"upstream_issuer_changed\""),
    ] {
        let text = std::fs::read_to_string(file).unwrap();
        let line = text.lines().find(|line| line.contains(event)).expect(&text);
        assert!(line.contains(&upstream.issuer()) && line.contains(&other.issuer()), "{line}");
    }
}

/// A gateway with a client secret, restarted on the same data each time.
struct Shop {
    upstream: Standin,
    data: tempfile::TempDir,
}

impl Shop {
    /// Starts with these flags too. Returns the upstream sign-in URL, or `None` after an error.
    async fn leads_to(&self, id: &str, secret: &str, more: &[&str]) -> Option<String> {
        let flags = [&["--upstream-client-id", id, "--upstream-client-secret", secret], more].concat();
        let process = Process::start(&self.upstream.mcp_url(), free_port(), self.data.path(), &flags).await;
        let client = McpClient::register(&process.url).await;
        let mut browser = Browser::default();
        let consent = client.to_consent(&mut browser).await;
        let onward = browser.decide(&consent, "approve").await.onward();
        assert!(process.terminate().success());
        onward.filter(|to| !to.starts_with(&client.redirect))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.data.path().join("log")).unwrap()
    }
}

#[tokio::test]
async fn a_client_secret_stays_bound_to_its_issuer_until_the_operator_rebinds_it() {
    let other = Standin::start(Profile::Standard);
    let shop = Shop {
        upstream: Standin::start(Profile::Standard),
        data: tempfile::tempdir().unwrap(),
    };
    let at = |standin: &Standin, to: &Option<String>| to.as_ref().is_some_and(|to| to.starts_with(&standin.origin()));
    assert!(at(&shop.upstream, &shop.leads_to(CLIENT_ID, CLIENT_SECRET, &[]).await));
    names(&shop.upstream, Some(&other));
    assert_eq!(shop.leads_to(CLIENT_ID, CLIENT_SECRET, &[]).await, None);
    let say = format!("if that is right, say --upstream-as {}", other.issuer());
    logged(&shop.data.path().join("log"), &[&say]).await;
    // A new client id or secret was never used at another server.
    assert!(at(&other, &shop.leads_to("other", CLIENT_SECRET, &[]).await));
    assert_eq!(shop.leads_to(CLIENT_ID, CLIENT_SECRET, &[]).await, None);
    // The operator's flag takes precedence, and its effect is permanent.
    assert!(at(
        &other,
        &shop.leads_to(CLIENT_ID, CLIENT_SECRET, &["--upstream-as", &other.issuer()]).await
    ));
    assert!(at(&other, &shop.leads_to(CLIENT_ID, CLIENT_SECRET, &[]).await));
    names(&shop.upstream, None);
    assert_eq!(shop.leads_to(CLIENT_ID, CLIENT_SECRET, &[]).await, None);
    assert!(at(&shop.upstream, &shop.leads_to(CLIENT_ID, "rotated", &[]).await));
    assert!(!shop.log().contains(CLIENT_SECRET));
}

/// An upstream `invalid_client` concerns the gateway, so the client gets a temporary error.
async fn not_known(world: &World, client: &McpClient, pair: &Pair) {
    world.standin.set(|b| b.token_error = Some("invalid_client".into()));
    refused(&client.refresh(&pair.refresh).await, 503, "temporarily_unavailable");
    world.standin.set(|b| b.token_error = None);
}

#[tokio::test]
async fn repeated_invalid_client_for_five_minutes_causes_a_new_upstream_registration() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    let registered = || count(&world.standin, "/register");
    not_known(&world, &client, &pair).await;
    world.pass(299);
    not_known(&world, &client, &pair).await;
    // A success in between restarts the five minutes.
    let pair = Pair::of(&client.refresh(&pair.refresh).await);
    world.pass(299);
    not_known(&world, &client, &pair).await;
    world.pass(200);
    not_known(&world, &client, &pair).await;
    let pair = Pair::of(&client.refresh(&pair.refresh).await);
    assert_eq!(registered(), 1);
    not_known(&world, &client, &pair).await;
    world.pass(300);
    not_known(&world, &client, &pair).await;
    // The registration is dropped. The next sign-in registers again and works.
    let again = client.login().await;
    assert_eq!(registered(), 2);
    assert_eq!(client.call(&again.access, "echo", json!({ "text": "x" })).await.status, 200);
    // Tokens issued to the old registration are lost, and the client gets `invalid_grant`.
    refused(&client.refresh(&pair.refresh).await, 400, "invalid_grant");
    not_known(&world, &client, &again).await;
    Pair::of(&client.refresh(&again.refresh).await);
    assert_eq!(registered(), 2, "the count begins anew with the registration");
}

#[tokio::test]
async fn sign_in_after_a_refused_token_finds_the_new_authorization_server_at_once() {
    let (world, other) = (World::standard().await, Standin::start(Profile::Standard));
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    assert_eq!(client.call(&pair.access, "echo", json!({ "text": "x" })).await.status, 200);
    let first_client = told(&world.standin).split("client_id=").nth(1).unwrap()[..20].to_owned();
    names(&world.standin, Some(&other));
    // Nothing says so yet, and the metadata is valid for an hour.
    client.login().await;
    assert_eq!(count(&other, "/register"), 0);
    world.standin.revoke_all();
    assert_eq!(client.call(&pair.access, "echo", json!({ "text": "x" })).await.status, 401);
    client.login().await;
    assert_eq!((count(&other, "/register"), other.issued_access().len()), (1, 1));
    assert!(
        !told(&other).contains(&first_client),
        "the registration belongs to the first server"
    );
    // Without another refusal, no further sign-in looks again.
    let looks = count(&world.standin, "/.well-known/oauth-protected-resource/mcp");
    client.login().await;
    assert_eq!(count(&world.standin, "/.well-known/oauth-protected-resource/mcp"), looks);
}

#[tokio::test]
async fn refused_token_without_a_refresh_token_is_not_issued_again_if_the_upstream_moved() {
    let (world, other) = (World::standard().await, Standin::start(Profile::Standard));
    world.standin.set(|b| b.never_refresh_token = true);
    let client = McpClient::register(&world.url).await;
    let (first, second) = (client.login().await, client.login().await);
    world.standin.revoke_all();
    // The same authorization server: one refusal may be a mistake, and the token is issued again.
    assert_eq!(client.call(&first.access, "echo", json!({ "text": "x" })).await.status, 401);
    assert_eq!(client.refresh(&first.refresh).await.status, 200);
    names(&world.standin, Some(&other));
    assert_eq!(client.call(&second.access, "echo", json!({ "text": "x" })).await.status, 401);
    let page = client.refresh(&second.refresh).await;
    refused(&page, 400, "invalid_grant");
    assert!(page.text.contains("sign in again"), "{}", page.text);
    assert_eq!((count(&other, "/register"), count(&other, "/token")), (1, 0));
}
