//! `/approvals`: who may see and decide, forgeries, and hostile arguments.

use http::{Method, Request, StatusCode, header};
use mcp_oauth_gateway::app::approval_admin::Verdict;
use mcp_oauth_gateway::net::body::RequestBody;
use serde_json::{Value, json};

use crate::scene::{Era, Scene, again, call, text};
use crate::support::browser::{Browser, Page, send};
use crate::support::world::{OTHER_USER, PASSWORD, USER};

/// Signs in at a page of approvals, without a session.
pub(crate) async fn open(browser: &mut Browser, url: &str, user: &str) -> Page {
    let page = browser.get(url).await;
    assert_eq!(page.status, 401, "{}", page.text);
    let form = page.field("form");
    browser
        .post(
            url,
            &[("form", &form), ("username", user), ("password", PASSWORD), ("decision", "show")],
        )
        .await
}

/// Asks for one call, and returns the address of its page, and the call with its state.
async fn asked(scene: &Scene, arguments: Value) -> (String, Value, Value) {
    let first = call(1, "asked", arguments, Era::Url);
    let asked = scene.rpc(&first).await;
    let url = asked["result"]["inputRequests"]["approval"]["params"]["url"]
        .as_str()
        .unwrap()
        .to_owned();
    (url, first, asked["result"]["requestState"].clone())
}

/// Posts a form.
async fn post(browser: &mut Browser, url: &str, fields: &[(&'static str, String)]) -> Page {
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    browser.post(url, &fields).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_of_the_grant_decides_with_the_password_and_only_once() {
    let mut scene = Scene::new().await;
    scene.world.reload_config(|config| config.session_ttl = 0);
    let (url, first, state) = asked(&scene, json!({"n": 1})).await;
    let id = url.rsplit('/').next().unwrap();
    let mut browser = Browser::default();
    // Another user learns nothing.
    let other = open(&mut browser, &url, OTHER_USER).await;
    assert!(other.status == 404 && !other.text.contains("asked"), "{}", other.text);
    let form = other.field("form");
    let fields = [
        ("form", form.as_str()),
        ("id", id),
        ("username", OTHER_USER),
        ("password", PASSWORD),
        ("decision", "approve"),
    ];
    assert_eq!(browser.post(&url, &fields).await.status, 403);
    let page = open(&mut browser, &url, USER).await;
    assert!(page.status == 200 && page.text.contains("&#34;n&#34;: 1"), "{}", page.text);
    assert!(page.header("content-security-policy").contains("frame-ancestors 'none'"));
    let decide = |password: &'static str, decision: &'static str| {
        [
            ("form", page.field("form")),
            ("id", id.to_owned()),
            ("username", USER.into()),
            ("password", password.into()),
            ("decision", decision.into()),
        ]
    };
    // Nothing is decided without the password, by another form, or by a GET.
    for refused in [decide("", "approve"), decide("wrong", "approve")] {
        assert_eq!(post(&mut browser, &url, &refused).await.status, 401);
    }
    let mut forged = decide(PASSWORD, "approve");
    forged[0].1 = "x".into();
    assert_eq!(post(&mut browser, &url, &forged).await.status, 403);
    browser.get(&format!("{url}?decision=approve&id={id}")).await;
    let body = format!(
        "form={}&id={id}&username={USER}&password={PASSWORD}&decision=approve",
        page.field("form")
    );
    for origin in [None, Some("https://evil.example"), Some("null")] {
        let mut request = Request::builder().method(Method::POST).uri(&url);
        request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        let page = send(&browser.client, request.body(RequestBody::Full(body.clone().into())).unwrap()).await;
        assert!(page.status.is_client_error(), "{origin:?} {}", page.status);
    }
    assert_eq!(scene.pending().await.len(), 1);
    let done = post(&mut browser, &url, &decide(PASSWORD, "approve")).await;
    assert!(done.status == 200 && done.text.contains("1 approved"), "{}", done.text);
    let late = post(&mut browser, &url, &decide(PASSWORD, "deny")).await;
    assert!(late.status == 409 && late.text.contains("Already decided"), "{}", late.text);
    assert_eq!(text(&scene.rpc(&again(2, &first, &state, Value::Null)).await), "done 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_shows_what_waits_compares_with_the_last_call_and_decides_in_batches() {
    let mut scene = Scene::new().await;
    scene.world.reload_config(|config| config.session_ttl = 0);
    let (_, _, _) = asked(&scene, json!({"title": "same", "n": 1})).await;
    let first = scene.only_pending().await;
    scene.decide(&first, Verdict::Approve).await;
    for n in 2..5 {
        asked(&scene, json!({"title": "same", "n": n})).await;
    }
    let list = format!("{}/approvals", scene.world.url);
    let mut browser = Browser::default();
    let page = open(&mut browser, &list, USER).await;
    assert!(
        page.text.contains("class=\"removed\">- ") && page.text.contains("class=\"added\">+ "),
        "{}",
        page.text
    );
    let pending = scene.pending().await;
    let ids: Vec<String> = pending.iter().map(|view| view.id.to_string()).collect();
    let form = page.field("form");
    let mut fields = vec![
        ("form", form.as_str()),
        ("username", USER),
        ("password", PASSWORD),
        ("decision", "approve"),
    ];
    fields.extend(ids[..2].iter().map(|id| ("id", id.as_str())));
    let page = browser.post(&list, &fields).await;
    assert!(page.text.contains("2 approved"), "{}", page.text);
    assert_eq!(scene.only_pending().await.id.to_string(), ids[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_and_arguments_are_inert_on_the_page() {
    let mut scene = Scene::new().await;
    scene.world.reload_config(|config| config.session_ttl = 0);
    let hostile = "</pre><script>alert(1)</script>\u{202e}txt.exe\u{0}\u{1b}[31m\u{2066}&amp;";
    let first = call(
        1,
        "<img src=x onerror=alert(1)>\u{202e}",
        json!({ "a": hostile, hostile: "x".repeat(60_000) }),
        Era::Url,
    );
    let answer = scene.rpc(&first).await;
    let url = answer["result"]["inputRequests"]["approval"]["params"]["url"].as_str().unwrap();
    let page = open(&mut Browser::default(), url, USER).await;
    assert_eq!(page.status, 200);
    assert!(!page.text.contains("<script") && !page.text.contains("<img"), "markup passed");
    assert!(!page.text.contains('\u{202e}') && !page.text.contains('\u{1b}') && !page.text.contains('\u{2066}'));
    assert!(page.text.contains("[U+202E]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_calling_program_cannot_approve_itself() {
    let scene = Scene::new().await;
    let (url, first, state) = asked(&scene, json!({})).await;
    let id = url.rsplit('/').next().unwrap();
    let body = format!("form=x&id={id}&username={USER}&decision=approve");
    let request = Request::builder()
        .method(Method::POST)
        .uri(&url)
        .header(header::AUTHORIZATION, format!("Bearer {}", scene.access));
    let request = request
        .header(header::ORIGIN, &scene.world.url)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let page = send(&Browser::default().client, request.body(RequestBody::Full(body.into())).unwrap()).await;
    assert!(page.status.is_client_error());
    let request = Request::get(&url).header(header::AUTHORIZATION, format!("Bearer {}", scene.access));
    let page = send(&Browser::default().client, request.body(RequestBody::Empty).unwrap()).await;
    assert!(page.status == 401 && !page.text.contains("asked"));
    for forged in [
        json!({"approval": {"action": "accept", "content": {"decision": "approve"}}}),
        json!({"approval": {"approved": true}}),
    ] {
        let retry = again(2, &first, &state, forged);
        let answer = tokio::time::timeout(std::time::Duration::from_secs(2), scene.rpc(&retry)).await;
        assert!(answer.is_err(), "it still waits: {answer:?}");
    }
    assert!(scene.upstream.calls().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_page_in_a_session_runs_the_script_which_is_the_gateways_own() {
    let mut scene = Scene::new().await;
    scene.world.reload_config(|config| config.session_ttl = 600);
    let (url, ..) = asked(&scene, json!({"n": 1})).await;
    let list = url.rsplit_once('/').unwrap().0.to_owned();
    let script = |page: &Page| page.text.matches("<script src=\"/assets/approvals.js\" defer></script>").count();
    let mut browser = Browser::default();
    let signed_out = browser.get(&list).await;
    assert_eq!((script(&signed_out), signed_out.status), (0, StatusCode::UNAUTHORIZED));
    assert!(!signed_out.header("content-security-policy").contains("script-src"));

    let redirect = open(&mut browser, &list, USER).await;
    assert_eq!(redirect.status, 303, "{}", redirect.text);
    let page = browser.get(&list).await;
    assert_eq!((script(&page), page.status), (1, StatusCode::OK), "{}", page.text);
    let policy = page.header("content-security-policy").to_owned();
    assert!(policy.contains("script-src 'self';") && !policy.contains("unsafe"), "{policy}");
    assert!(page.text.contains("data-state=\"proposed\""), "{}", page.text);

    let source = browser.get(&format!("{}/assets/approvals.js", scene.world.url)).await;
    assert_eq!(source.header("content-type"), "text/javascript; charset=utf-8");
    assert!(
        !source.text.contains("innerHTML") && !source.text.contains("eval"),
        "{}",
        source.text
    );
}
