//! `/approvals` over https: a signed-in session decides without the password, and no other page does.

use std::sync::Arc;

use http::{HeaderMap, Method, Request, header};
use mcp_gateway_standin::Profile;
use mcp_oauth_gateway::app::api_keys::{ApiKeySpec, ApiKeys};
use mcp_oauth_gateway::base::url::ExactUrl;
use mcp_oauth_gateway::net::body::RequestBody;
use mcp_oauth_gateway::oauth::scope::Scopes;
use mcp_oauth_gateway::service::Access;
use mcp_oauth_gateway::service::public_urls::PublicUrls;
use serde_json::json;

use crate::scene::{Era, call, policy, text, tracker};
use crate::support::browser::{Browser, Page, send};
use crate::support::world::{OTHER_USER, PASSWORD, USER, World};
use crate::upstream::{Upstream, tool};

const PUBLIC: &str = "https://gateway.example";

/// A gateway behind a proxy that ends TLS, with one approver and a caller with an API key.
struct Site {
    world: World,
    upstream: Upstream,
    key: String,
    /// The origin under which this test reaches the gateway.
    origin: String,
}

impl Site {
    async fn new() -> Self {
        let upstream = Upstream::start(vec![vec![tool("asked", "Writes")]]).await;
        let url = upstream.url.clone();
        let mut keys = None;
        let world = World::made(Profile::Standard, |parts| {
            let mut rules = policy(&[]);
            rules.approval_hold = 0;
            tracker(&mut parts.config.services[0], &url, rules);
            parts.config.services[0].access = Access::Key;
            parts.config.approvers = vec![USER.to_owned()];
            let own = parts.urls.public_url().trim_start_matches("http://").to_owned();
            parts.urls = PublicUrls::new(ExactUrl::parse(PUBLIC).unwrap(), vec![own]);
            keys = Some(ApiKeys::new(parts.store.clone(), Arc::clone(&parts.keys), parts.clock.clone()));
        })
        .await;
        let spec = ApiKeySpec {
            service: "default".into(),
            name: None,
            scopes: Scopes::parse(""),
            ttl: None,
        };
        let key = keys.unwrap().add(spec).await.unwrap().key.expose().to_owned();
        let origin = world.url.replace("http://", "https://");
        Self {
            world,
            upstream,
            key,
            origin,
        }
    }

    /// The headers of a form of this gateway.
    fn own(&self) -> [(&str, &str); 2] {
        [("origin", &self.origin), ("sec-fetch-site", "same-origin")]
    }

    /// Sends a request as the proxy does.
    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: String) -> Page {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.world.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        send(&Browser::default().client, request.body(RequestBody::Full(body.into())).unwrap()).await
    }

    /// Posts a form with these fields and the headers of its page.
    async fn post(&self, path: &str, headers: &[(&str, &str)], fields: &[(&str, &str)]) -> Page {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let mut all = vec![("content-type", "application/x-www-form-urlencoded")];
        all.extend_from_slice(headers);
        self.send(Method::POST, path, &all, body).await
    }

    /// Calls the tool.
    async fn call(&self) -> serde_json::Value {
        let bearer = format!("Bearer {}", self.key);
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
            ("accept", "application/json"),
        ];
        let body = call(1, "asked", json!({"n": 1}), Era::Held).to_string();
        self.send(Method::POST, "/mcp", &headers, body).await.json()
    }

    /// Signs in, and returns the session's cookie.
    async fn sign_in(&self, user: &str) -> String {
        let page = self.send(Method::GET, "/approvals", &[], String::new()).await;
        let form = page.field("form");
        let fields = [
            ("form", form.as_str()),
            ("username", user),
            ("password", PASSWORD),
            ("decision", "show"),
        ];
        let page = self.post("/approvals", &self.own(), &fields).await;
        assert_eq!(page.status, 303, "{}", page.text);
        let cookie = session_cookie(&page.headers);
        for attribute in ["__Host-", "; Secure", "; HttpOnly", "; SameSite="] {
            assert!(cookie.contains(attribute), "{cookie}");
        }
        cookie.split(';').next().unwrap().to_owned()
    }
}

fn session_cookie(headers: &HeaderMap) -> String {
    let cookies = headers.get_all(header::SET_COOKIE).iter().map(|value| value.to_str().unwrap());
    cookies.into_iter().find(|cookie| cookie.starts_with("__Host-")).unwrap().to_owned()
}

#[expect(clippy::too_many_lines, reason = "a story is read from top to bottom")]
#[tokio::test(flavor = "multi_thread")]
async fn a_signed_in_session_decides_over_https_and_no_other_page_does() {
    let site = Site::new().await;
    let asked = site.call().await;
    let url = &asked["result"]["_meta"]["mcp-oauth-gateway/approval"]["url"];
    let url = url.as_str().unwrap_or_else(|| panic!("{asked}"));
    let path = url.strip_prefix(PUBLIC).unwrap();
    let id = path.rsplit('/').next().unwrap();
    let (cookie, other_cookie) = (site.sign_in(USER).await, site.sign_in(OTHER_USER).await);
    let page = site.send(Method::GET, path, &[("cookie", &cookie)], String::new()).await;
    assert!(page.status == 200 && page.text.contains("asked"), "{}", page.text);
    assert!(!page.text.contains("type=\"password\""), "a session needs no password");
    let own_form = page.field("form");
    let other = site.send(Method::GET, path, &[("cookie", &other_cookie)], String::new()).await;
    assert_eq!(other.status, 404, "{}", other.text);
    let other_form = other.field("form");
    let nobody_form = site.send(Method::GET, path, &[], String::new()).await.field("form");
    let own_page = site.own();
    let is_pending = async || {
        let admin = site.world.app.approvals.admin();
        admin.list().await.unwrap().iter().any(|view| view.is_undecided(admin.now()))
    };
    let (own, others) = (cookie.as_str(), other_cookie.as_str());
    for (what, cookie, form, headers) in [
        (
            "cross-site",
            own,
            &own_form,
            &[("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")][..],
        ),
        (
            "same-site",
            own,
            &own_form,
            &[("origin", "https://other.gateway.example"), ("sec-fetch-site", "same-site")],
        ),
        (
            "contradiction",
            own,
            &own_form,
            &[("origin", site.origin.as_str()), ("sec-fetch-site", "cross-site")],
        ),
        (
            "two sites",
            own,
            &own_form,
            &[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")],
        ),
        ("no origin", own, &own_form, &[]),
        ("hidden origin", own, &own_form, &[("origin", "null")]),
        ("another own address", own, &own_form, &[("origin", PUBLIC)]),
        ("no session", "", &own_form, &own_page),
        ("form of another session", own, &other_form, &own_page),
        ("form without a session", own, &nobody_form, &own_page),
        ("another user", others, &other_form, &own_page),
    ] {
        let mut headers = headers.to_vec();
        headers.push(("cookie", cookie));
        let page = site
            .post(path, &headers, &[("form", form), ("id", id), ("decision", "approve")])
            .await;
        assert!(page.status.is_client_error(), "{what}: {} {}", page.status, page.text);
        assert!(is_pending().await, "{what} decided");
    }
    let query = format!("{path}?form={own_form}&id={id}&decision=approve");
    site.send(Method::GET, &query, &[("cookie", own)], String::new()).await;
    assert!(is_pending().await, "a GET decided");
    let mut headers = own_page.to_vec();
    headers.push(("cookie", own));
    let page = site
        .post(path, &headers, &[("form", &own_form), ("id", id), ("decision", "approve")])
        .await;
    assert!(page.status == 200 && page.text.contains("1 approved"), "{}", page.text);
    assert_eq!(text(&site.call().await), "done 1");
    assert_eq!(site.upstream.calls().len(), 1);
}
