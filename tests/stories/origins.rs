//! Browser access: the service directory, and CORS for every route.

use http::{Method, Request};
use mcp_gateway_standin::Profile;
use mcp_oauth_gateway::net::body::RequestBody;
use mcp_oauth_gateway::service::Access;
use serde_json::json;

use super::access::{beside, call_by};
use super::hostile::refused;
use crate::support::browser::{Browser, Page, send};
use crate::support::world::World;

/// A gateway and a browser.
struct House {
    world: World,
    http: Browser,
}

async fn house(origins: &[&str], is_listed: bool) -> House {
    let world = World::made(Profile::Standard, |parts| {
        let first = parts.config.services[0].clone();
        let access = [("open", Access::Public), ("batch", Access::Key)];
        parts
            .config
            .services
            .extend(access.map(|(name, access)| beside(&first, name, access)));
        parts.config.cors_origins = origins.iter().map(|&origin| origin.to_owned()).collect();
        parts.config.public_directory = is_listed;
    })
    .await;
    world.standin.set(|b| b.mcp_open = true);
    House {
        world,
        http: Browser::default(),
    }
}

async fn call(house: &House, service: &str, headers: &[(&str, &str)]) -> Page {
    call_by(&house.http, &house.world.url, service, headers).await
}

async fn ask(house: &House, method: Method, path: &str, headers: &[(&str, &str)]) -> Page {
    let mut request = Request::builder().method(method).uri(format!("{}{path}", house.world.url));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(&house.http.client, request.body(RequestBody::Empty).unwrap()).await
}

/// A preflight for a POST with JSON and a token, as browsers send it.
async fn preflight(house: &House, path: &str, origin: &str) -> Page {
    let asked = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type,mcp-protocol-version"),
    ];
    ask(house, Method::OPTIONS, path, &asked).await
}

/// The origin that may read the response. Fails if the response allows credentials.
#[track_caller]
fn readable(page: &Page) -> &str {
    assert!(page.header("access-control-allow-credentials").is_empty(), "{:?}", page.headers);
    page.header("access-control-allow-origin")
}

#[tokio::test]
async fn service_directory_is_not_public_by_default() {
    let house = self::house(&[], false).await;
    for path in ["/services", "/services/default", "/services/open", "/services/nothing"] {
        refused(&ask(&house, Method::GET, path, &[]).await, 404, "not_found");
    }
}

/// The directory must not reveal the URLs of the upstreams.
#[tokio::test]
async fn service_directory_lists_services_without_their_upstream_urls() {
    let house = self::house(&[], true).await;
    let page = ask(&house, Method::GET, "/services", &[]).await;
    let upstream = house.world.standin.origin();
    assert!(page.status == 200 && !page.text.contains(&upstream), "{}", page.text);
    let listed = page.json()["services"].clone();
    for (i, (name, access)) in [("default", "oauth"), ("open", "public"), ("batch", "key")].into_iter().enumerate() {
        assert_eq!((&listed[i]["name"], &listed[i]["access"]), (&json!(name), &json!(access)));
        assert_eq!(listed[i]["url"], format!("{}/mcp/{name}", house.world.url));
        let one = ask(&house, Method::GET, &format!("/services/{name}"), &[]).await;
        assert_eq!(one.json(), listed[i]);
    }
    assert_eq!(listed[0]["also_at"], format!("{}/mcp", house.world.url));
    let metadata = listed[0]["resource_metadata"].as_str().unwrap();
    assert_eq!(Browser::default().get(metadata).await.json()["resource"], listed[0]["url"]);
    assert!(
        listed[1]["needs"] == "nothing" && listed[1].get("resource_metadata").is_none(),
        "{listed}"
    );
    assert!(listed[2]["needs"].as_str().unwrap().contains("API key"), "{listed}");
    refused(&ask(&house, Method::GET, "/services/nothing", &[]).await, 404, "not_found");
    let head = ask(&house, Method::HEAD, "/services", &[]).await;
    assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
    refused(&ask(&house, Method::POST, "/services", &[]).await, 405, "method_not_allowed");
}

/// Origins are compared as a whole, `*` allows all, and credentials are never allowed.
#[tokio::test]
async fn only_configured_origins_may_call_mcp_endpoints() {
    let near = "http://localhost:6274";
    let (app, other) = ("https://app.example", "https://other.example");
    let strangers = [
        "https://app.example.evil",
        "http://app.example",
        "https://app.example:444",
        "null",
        "https://x.app.example",
    ];
    for (configured, may, readers) in [
        (&[][..], vec![near, "http://127.0.0.1:1"], None),
        (&[app, other], vec![app, other], None),
        (&["*"], vec![app, near, "null", strangers[0]], Some("*")),
    ] {
        let house = self::house(configured, false).await;
        for origin in [app, other, near, "http://127.0.0.1:1", "http://localhost.evil.example"]
            .into_iter()
            .chain(strangers)
        {
            let reader = may.contains(&origin).then_some(readers.unwrap_or(origin)).or(readers);
            for service in ["default", "open", "batch"] {
                // A service without a credential serves no page that is not configured.
                let reader = reader.filter(|_| service != "open" || !configured.is_empty());
                let path = format!("/mcp/{service}");
                let (asked, answered) = (
                    preflight(&house, &path, origin).await,
                    call(&house, service, &[("origin", origin)]).await,
                );
                let Some(reader) = reader else {
                    refused(&asked, 403, "forbidden_origin");
                    refused(&answered, 403, "forbidden_origin");
                    assert_eq!((readable(&asked), readable(&answered)), ("", ""), "{origin} {configured:?}");
                    continue;
                };
                assert_eq!((asked.status.as_u16(), readable(&asked)), (204, reader), "{origin} {configured:?}");
                let wanted = "authorization,content-type,mcp-protocol-version";
                assert_eq!(asked.header("access-control-allow-headers"), wanted);
                let status = match service {
                    "open" => 200,
                    "batch" => 403,
                    _ => 401,
                };
                assert_eq!(answered.status, status);
                assert_eq!(readable(&answered), reader);
                for exposed in ["WWW-Authenticate", "Mcp-Session-Id", "Retry-After"] {
                    assert!(answered.header("access-control-expose-headers").contains(exposed));
                }
                let varies = answered.headers.get_all("vary").iter().any(|value| value == "Origin");
                assert_eq!(varies, reader != "*", "no cache gives one origin what was said to another");
            }
        }
        assert_eq!(call(&house, "open", &[]).await.status, 200, "no browser, no origin");
        assert_eq!(
            call(&house, "open", &[("origin", &house.world.url)]).await.status,
            200,
            "our own pages"
        );
    }
}

#[tokio::test]
async fn metadata_and_token_endpoints_allow_every_origin() {
    let house = self::house(&["https://app.example"], true).await;
    for (method, path) in [
        (Method::GET, "/.well-known/oauth-protected-resource/mcp"),
        (Method::GET, "/.well-known/oauth-protected-resource/mcp/open"),
        (Method::GET, "/.well-known/oauth-authorization-server"),
        (Method::GET, "/.well-known/openid-configuration"),
        (Method::POST, "/token"),
        (Method::POST, "/register"),
        (Method::POST, "/revoke"),
        (Method::POST, "/token/mcp/batch"),
        (Method::GET, "/services"),
        (Method::GET, "/services/open"),
        (Method::GET, "/nothing"),
    ] {
        if path != "/nothing" {
            let asked = preflight(&house, path, "https://anybody.example").await;
            assert_eq!((asked.status.as_u16(), readable(&asked)), (204, "*"), "{path}");
            // A preflight may have no `Origin`.
            assert_eq!(ask(&house, Method::OPTIONS, path, &[]).await.status, 204, "{path}");
        }
        for headers in [&[("origin", "https://anybody.example")][..], &[("origin", "null")], &[]] {
            let answered = ask(&house, method.clone(), path, headers).await;
            assert_eq!(readable(&answered), "*", "{path}: also what a cache keeps for others");
        }
    }
    for path in ["/authorize", "/login/x", "/consent/x", "/upstream/callback", "/", "/health/live"] {
        assert_eq!(preflight(&house, path, "https://app.example").await.status, 405, "{path}");
        let read = ask(&house, Method::GET, path, &[("origin", "https://app.example")]).await;
        assert_eq!(readable(&read), "", "{path}");
    }
}

/// Browsers load images and scripts of other sites without `Origin` or the user's intention.
#[tokio::test]
async fn no_cors_requests_never_reach_a_public_upstream() {
    let house = self::house(&[], false).await;
    house.world.standin.clear_log();
    for site in ["cross-site", "same-site", "none"] {
        let headers = [("sec-fetch-mode", "no-cors"), ("sec-fetch-site", site), ("sec-fetch-dest", "image")];
        refused(&ask(&house, Method::GET, "/mcp/open", &headers).await, 403, "forbidden_origin");
    }
    let navigated = ask(&house, Method::GET, "/mcp/open", &[("sec-fetch-mode", "navigate")]).await;
    assert_eq!(navigated.status, 406);
    assert!(house.world.standin.log().is_empty());
    let fetched = call(&house, "open", &[("sec-fetch-mode", "cors"), ("sec-fetch-site", "same-origin")]).await;
    assert_eq!(fetched.status, 200);
}
