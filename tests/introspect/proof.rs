//! The proof of a resource: what the document at its origin must say, and what happens without it.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, Request};
use mcp_gateway_standin::Profile;
use mcp_oauth_gateway::base::ids::Id;
use mcp_oauth_gateway::base::time::UnixTime;
use mcp_oauth_gateway::base::url::ExactUrl;
use mcp_oauth_gateway::flow::access_key::KeyHolder;
use mcp_oauth_gateway::flow::resource_server::{RegisteredServer, ServerInfo};
use mcp_oauth_gateway::net::body::RequestBody;
use mcp_oauth_gateway::oauth::scope::Scopes;
use mcp_oauth_gateway::store::Store;
use serde_json::{Value, json};

use crate::servers::Servers;
use crate::support::browser::{Browser, Page, send};
use crate::support::world::World;

/// An origin that answers every request with this text.
fn origin() -> (String, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(Mutex::new("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned()));
    let shared = Arc::clone(&answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut buffer = [0; 4_096];
            let _ = stream.read(&mut buffer);
            let text = shared.lock().unwrap().clone();
            let _ = stream.write_all(text.as_bytes());
        }
    });
    (url, answer)
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn api(servers: &Servers, key: &str, method: Method, path: &str, body: Option<Value>) -> Page {
    let request = Request::builder()
        .method(method)
        .uri(format!("{}{path}", servers.world.url))
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/json");
    let body = body.map_or(RequestBody::Empty, |body| RequestBody::Full(body.to_string().into()));
    send(&Browser::default().client, request.body(body).unwrap()).await
}

/// An origin that answers no request, and the number of its open connections.
fn silent_origin() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let shared = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let open = Arc::clone(&shared);
            open.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || {
                let mut buffer = [0; 4_096];
                while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    (url, count)
}

/// Registers 40 servers at this origin, whose proofs are due.
async fn register_many(store: &Store, url: &str, now: UnixTime) {
    for number in 0..40 {
        let info = ServerInfo {
            owner: "ops".into(),
            resource: ExactUrl::parse(&format!("{url}/mcp/{number}")).unwrap(),
            name: "Silent".into(),
            description: String::new(),
            scopes: Scopes::default(),
            logo_url: None,
            is_opaque: false,
            created: now,
        };
        store.insert(Id::random(), RegisteredServer::new(info)).await.unwrap();
    }
}

#[tokio::test]
async fn sixteen_slow_origins_are_asked_at_a_time() {
    let (url, open) = silent_origin();
    let _world = World::made(Profile::Standard, |parts| {
        let (store, now) = (parts.store.clone(), parts.clock.now());
        let fill = move || tokio::runtime::Runtime::new().unwrap().block_on(register_many(&store, &url, now));
        std::thread::spawn(fill).join().unwrap();
    })
    .await;
    let mut most = 0;
    for _ in 0..200 {
        most = most.max(open.load(Ordering::SeqCst));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Not one after the other, and not all 40. Connections that the gateway gave up may close late.
    assert!((16..=32).contains(&most), "{most}");
}

#[tokio::test]
async fn a_resource_is_proven_only_by_a_document_of_its_origin_that_names_the_server() {
    let servers = Servers::new().await;
    let key = servers.new_key(KeyHolder::Owner("ops".into()), None).await.key.expose().to_owned();
    let (url, answer) = origin();
    let resource = format!("{url}/mcp");
    let body = json!({ "server_url": resource, "server_name": "Local" });
    let server = api(&servers, &key, Method::POST, "/api/servers", Some(body.clone())).await.json();
    let (id, issuer) = (server["server_id"].as_str().unwrap(), server["issuer"].as_str().unwrap());
    let proof = format!("/api/servers/{id}/proof");
    let entry = json!({ "issuer": issuer, "server_id": id, "resource": resource });
    let document = |entry: &Value| json!({ "servers": [entry] }).to_string();
    let changed = |member: &str, value: &str| {
        let mut entry = entry.clone();
        entry[member] = json!(value);
        ok(&document(&entry))
    };
    let long = format!("{}{}", " ".repeat(11_000), document(&entry));
    let redirect = format!("HTTP/1.1 302 Found\r\nlocation: {url}/elsewhere\r\ncontent-length: 0\r\n\r\n");
    let bad = [
        ok("{}"),
        ok("[]"),
        ok("not JSON"),
        ok(&long),
        ok(&document(&json!({ "issuer": issuer, "server_id": id }))),
        changed("issuer", "https://other.example/mcp/x"),
        changed("server_id", "srv_AAAAAAAAAAAAAAAAAAAAAA"),
        changed("resource", &format!("{resource}/")),
        redirect,
        "HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "garbage".to_owned(),
    ];
    for text in bad {
        *answer.lock().unwrap() = text.clone();
        let page = api(&servers, &key, Method::POST, &proof, None).await;
        assert_eq!((page.status.as_u16(), &page.json()["verified"]), (200, &json!(false)), "{text}");
    }
    *answer.lock().unwrap() = ok(&document(&entry));
    assert_eq!(api(&servers, &key, Method::POST, &proof, None).await.json()["verified"], true);
    // The URL is taken now; a second server with it stays out.
    assert_eq!(api(&servers, &key, Method::POST, "/api/servers", Some(body)).await.status, 409);
    // Another URL is not proven, and a document that is gone ends the proof.
    let path = format!("/api/servers/{id}");
    *answer.lock().unwrap() = ok("{}");
    let page = api(
        &servers,
        &key,
        Method::PATCH,
        &path,
        Some(json!({ "server_url": format!("{url}/v2") })),
    )
    .await;
    assert_eq!(page.json()["verified"], false);
}
