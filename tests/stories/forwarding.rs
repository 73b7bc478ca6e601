//! What of a request reaches the upstream, and what of its response reaches the client.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mcp_gateway_standin::Profile;
use mcp_oauth_gateway::base::url::ExactUrl;
use mcp_oauth_gateway::service::{Access, Service};
use serde_json::json;

use super::access::{beside, call};
use crate::support::client::McpClient;
use crate::support::world::World;

/// A public service beside the default one, changed by the test.
async fn with_open(change: impl FnOnce(&mut Service)) -> World {
    let world = World::with_services(Profile::Standard, |first| {
        let mut open = beside(first, "open", Access::Public);
        change(&mut open);
        vec![first.clone(), open]
    })
    .await;
    world.standin.set(|b| b.mcp_open = true);
    world
}

#[tokio::test]
async fn fixed_headers_of_a_service_replace_the_clients() {
    let world = with_open(|service| {
        service.fixed_headers = [("x-mcp-toolsets", "repos"), ("x-tenant", "acme")]
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .into();
    })
    .await;
    let page = call(
        &world,
        "open",
        &[("x-mcp-toolsets", "all"), ("x-tenant", "victim"), ("x-mcp-readonly", "true")],
    )
    .await;
    assert_eq!(page.status, 200, "{}", page.text);
    let seen = world.standin.log().pop().unwrap();
    let values = |name: &str| -> Vec<String> {
        let values = seen.headers.iter().filter(|(other, _)| other == name);
        values.map(|(_, value)| value.clone()).collect()
    };
    assert_eq!(
        (values("x-mcp-toolsets"), values("x-tenant")),
        (vec!["repos".into()], vec!["acme".into()])
    );
    assert_eq!(values("x-mcp-readonly"), ["true"]);
}

#[tokio::test]
async fn client_query_cannot_replace_a_parameter_of_the_configured_url() {
    let world = with_open(|service| {
        service.mcp = ExactUrl::parse(&format!("{}?readonly=true&tenant=acme", service.mcp.as_str())).unwrap();
    })
    .await;
    let page = call(&world, "open?readonly=false&%74enant=victim&page=2", &[]).await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert_eq!(world.standin.log().pop().unwrap().query, "readonly=true&tenant=acme&page=2");
}

#[tokio::test]
async fn a_service_forwards_its_own_response_headers_and_no_harmful_ones() {
    let world = with_open(|service| {
        service.forward_response_headers = ["x-quota", "set-cookie", "cdn-cache-control"].map(HeaderName::from_static).into();
    })
    .await;
    let own = [
        "X-Quota",
        "Set-Cookie",
        "CDN-Cache-Control",
        "Surrogate-Control",
        "Origin-Trial",
        "X-Other",
    ];
    world.standin.set(|b| {
        b.mcp_headers = own.map(|name| (name.to_owned(), "public, max-age=3600".to_owned())).into();
        b.mcp_headers.push(("Cache-Control".into(), "Public, S-MaxAge=600".into()));
    });
    let page = call(&world, "open", &[]).await;
    let passed: Vec<&str> = own.into_iter().filter(|name| !page.header(name).is_empty()).collect();
    assert_eq!((page.status.as_u16(), passed), (200, vec!["X-Quota"]));
    assert_eq!(page.headers.get_all("cache-control").iter().collect::<Vec<_>>(), ["no-store"]);
}

/// An upstream whose responses end with trailers.
async fn upstream_with_trailers() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
                request.into_body().collect().await.unwrap();
                let mut trailers = HeaderMap::new();
                trailers.insert("set-cookie", HeaderValue::from_static("__Host-gw-s=theirs; Path=/"));
                trailers.insert("x-quota", HeaderValue::from_static("1"));
                let frames = [Frame::data(Bytes::from_static(b"{}")), Frame::trailers(trailers)].map(Ok::<_, Infallible>);
                let body = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
                let response = Response::builder().header("trailer", "set-cookie, x-quota");
                Ok::<_, Infallible>(response.header("content-type", "application/json").body(body).unwrap())
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

#[tokio::test]
async fn upstream_trailers_never_reach_a_client() {
    let upstream = upstream_with_trailers().await;
    let world = with_open(|service| {
        service.mcp = ExactUrl::parse(&format!("http://{upstream}/mcp")).unwrap();
        service.forward_response_headers = vec![HeaderName::from_static("x-quota")];
    })
    .await;
    let host = world.url.trim_start_matches("http://").to_owned();
    let request = || {
        let request = Request::builder().method(Method::POST).header("te", "trailers");
        request.header("content-type", "application/json")
    };
    let stream = tokio::net::TcpStream::connect(&host).await.unwrap();
    let (mut line, connection) = hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let asked = request().uri("/mcp/open").header("host", &host).body(Full::from("{}")).unwrap();
    let answered = line.send_request(asked).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(answered.trailers(), None);
    assert_eq!(answered.to_bytes(), "{}");

    let stream = tokio::net::TcpStream::connect(&host).await.unwrap();
    let shaken = hyper::client::conn::http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut line, connection) = shaken.unwrap();
    tokio::spawn(connection);
    let asked = request().uri(format!("{}/mcp/open", world.url)).body(Full::from("{}")).unwrap();
    let answered = line.send_request(asked).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(answered.trailers(), None);
    assert_eq!(answered.to_bytes(), "{}");
}

#[tokio::test]
async fn usual_response_headers_reach_the_client() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    world.standin.set(|b| {
        let own = [
            "Mcp-Anything",
            "X-RateLimit-Remaining",
            "RateLimit-Policy",
            "X-GitHub-Request-Id",
            "Content-Language",
        ];
        b.mcp_headers = own.map(|name| (name.to_owned(), "theirs".to_owned())).into();
    });
    let page = client.call(&pair.access, "echo", json!({ "text": "x" })).await;
    for name in [
        "mcp-anything",
        "x-ratelimit-remaining",
        "ratelimit-policy",
        "x-github-request-id",
        "content-language",
    ] {
        assert_eq!(page.header(name), "theirs", "{name}");
    }
}
