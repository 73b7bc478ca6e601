//! Upstreams behind gateways and access proxies: fixed headers, refusals in other forms, dead connections.

use http::Method;
use mcp_gateway_standin::{Canned, Profile};
use mcp_oauth_gateway::base::url::ExactUrl;
use mcp_oauth_gateway::net::http_client::HttpClient;
use mcp_oauth_gateway::net::tls::{self, ClientTls};
use mcp_oauth_gateway::upstream::legacy_transport::is_http_sse;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::setup::{canned, gateway, redirect, refusal, seen, service, sign_in};
use crate::support::client::McpClient;
use crate::support::world::World;

async fn call(world: &World, access: &str) -> crate::support::browser::Page {
    let client = McpClient::register(&world.url).await;
    client.call(access, "echo", json!({})).await
}

#[tokio::test]
async fn a_refused_token_in_any_form_is_a_401_and_anything_else_is_not() {
    let world = service(|_| String::new()).await;
    let pair = sign_in(&world).await.unwrap();
    let challenge = |error: &str| vec![("www-authenticate", format!("Bearer error=\"{error}\""))];
    let with_challenge = |status, error| Canned {
        headers: challenge(error),
        ..canned("/mcp", status, &json!({}))
    };
    let in_body = |status, error: &str| canned("/mcp", status, &json!({ "error": error }));
    for refused in [
        redirect("/mcp", 302, "https://login.corp.example/?next=mcp"),
        redirect("/mcp", 303, "/login"),
        redirect("/mcp", 307, "/oauth2/start"),
        with_challenge(400, "invalid_token"),
        with_challenge(403, "invalid_token"),
        in_body(400, "invalid_token"),
        in_body(403, "invalid_token"),
    ] {
        world.standin.set(|b| b.canned = vec![refused.clone()]);
        let page = call(&world, &pair.access).await;
        assert_eq!(page.status, 401, "{refused:?}");
        assert!(page.header("www-authenticate").contains("error=\"invalid_token\""), "{refused:?}");
        assert!(!format!("{:?}{}", page.headers, page.text).contains("corp.example"));
    }
    for (answer, status) in [
        (redirect("/mcp", 301, "https://login.corp.example/"), 502),
        (redirect("/mcp", 308, "/login"), 502),
        (redirect("/mcp", 302, "/mcp/"), 502),
        (in_body(400, "invalid_request"), 400),
        (in_body(403, "forbidden"), 403),
        (with_challenge(400, "insufficient_scope"), 400),
        (with_challenge(403, "insufficient_scope"), 403),
    ] {
        world.standin.set(|b| b.canned = vec![answer.clone()]);
        let page = call(&world, &pair.access).await;
        assert_eq!(page.status, status, "{answer:?}");
        assert!(page.header("location").is_empty());
    }
    // A short error that passes arrives unchanged.
    world.standin.set(|b| b.canned = vec![in_body(403, "forbidden")]);
    assert_eq!(call(&world, &pair.access).await.json(), json!({ "error": "forbidden" }));
}

#[tokio::test]
async fn a_server_that_sends_strangers_to_a_login_page_is_found_nevertheless() {
    let world = service(|_| String::new()).await;
    world.standin.set(|b| {
        b.canned = vec![Canned {
            body_has: Some("\"initialize\""),
            ..redirect("/mcp", 302, "https://login.corp.example/")
        }];
    });
    sign_in(&world).await.unwrap();
}

#[tokio::test]
async fn fixed_headers_of_the_operator_go_beside_the_users_token() {
    let world = service(|_| "headers = { \"CF-Access-Client-Id\" = \"id.access\" }".to_owned()).await;
    let pair = sign_in(&world).await.unwrap();
    call(&world, &pair.access).await;
    let request = seen(&world.standin, "/mcp").pop().unwrap();
    assert_eq!(request.header("cf-access-client-id"), Some("id.access"));
    assert!(request.header("authorization").unwrap().starts_with("Bearer "));
    let two_keys = "[services.x]\nurl = \"https://a.example\"\naccess = \"key\"\nupstream = \"static\"\ncredential = \"k\"\n\
        auth_header = { name = \"DD-API-KEY\", value = \"{credential}\" }\nheaders = { \"DD-API-KEY\" = \"a\" }\n";
    assert!(refusal(two_keys).contains("carries the service's credential"));
}

/// An MCP server that resets a connection when it is used again.
async fn resetting_server() -> (String, std::sync::Arc<std::sync::atomic::AtomicBool>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let resets = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let armed = std::sync::Arc::clone(&resets);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let armed = std::sync::Arc::clone(&armed);
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 * 1024];
                for request in 0.. {
                    let Ok(1..) = stream.read(&mut buffer).await else { return };
                    if request > 0 && armed.load(std::sync::atomic::Ordering::SeqCst) {
                        return;
                    }
                    let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (url, resets)
}

#[tokio::test]
async fn a_get_or_delete_on_a_dead_connection_is_sent_once_more_and_a_post_is_not() {
    let (url, resets) = resetting_server().await;
    let world = gateway(Profile::Standard, |_| {
        format!("[services.default]\nurl = \"{url}\"\naccess = \"public\"\nupstream = \"none\"\n")
    })
    .await;
    let client = McpClient::configured(&world.url, "nobody", "http://127.0.0.1:1/cb");
    for method in [Method::GET, Method::DELETE] {
        resets.store(false, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(client.mcp(Method::DELETE, "", None).await.status, 200);
        resets.store(true, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(client.mcp(method.clone(), "", None).await.status, 200, "{method}");
    }
    resets.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(client.mcp(Method::DELETE, "", None).await.status, 200);
    resets.store(true, std::sync::atomic::Ordering::SeqCst);
    let page = client.call("", "echo", json!({})).await;
    assert_eq!(page.status, 502);
    assert!(
        page.text.contains("may have executed") && !page.text.contains("cannot be reached"),
        "{}",
        page.text
    );
}

#[tokio::test]
async fn a_server_of_the_older_transport_is_recognised() {
    tls::install_provider();
    let http = HttpClient::new(ClientTls::load(&[]).unwrap());
    let verdict = |post: u16, get: u16, content_type: &'static str| {
        let http = http.clone();
        async move {
            let standin = mcp_gateway_standin::Standin::start(Profile::Standard);
            let answer = |method, status| Canned {
                method: Some(method),
                headers: vec![("content-type", content_type.to_owned())],
                ..canned("/sse", status, &json!({}))
            };
            standin.set(|b| b.canned = vec![answer("POST", post), answer("GET", get)]);
            let url = ExactUrl::parse(&format!("{}/sse", standin.origin())).unwrap();
            is_http_sse(&http, &url).await.unwrap()
        }
    };
    assert!(verdict(405, 401, "application/json").await);
    assert!(verdict(404, 200, "text/event-stream").await);
    assert!(!verdict(401, 401, "application/json").await);
    assert!(!verdict(404, 404, "text/html").await);
    assert!(!verdict(404, 200, "text/html").await);
    assert!(!verdict(200, 200, "text/event-stream").await);
}
