//! Start and stop, health checks, TLS, and requests that are too large or too slow.
#![expect(clippy::disallowed_methods, reason = "a story takes as long as it takes, and says how long")]

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use http::Request;
use mcp_gateway_standin::{Profile, Standin};
use mcp_oauth_gateway::net::body::RequestBody;
use mcp_oauth_gateway::net::dial::AddressPolicy;
use mcp_oauth_gateway::net::http_client::{HttpClient, RequestPolicy, SendError};
use mcp_oauth_gateway::net::self_signed::self_signed;
use mcp_oauth_gateway::net::tls::{self, ClientTls};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;

use crate::support::browser::{Browser, send};
use crate::support::client::McpClient;
use crate::support::port::free_port;
use crate::support::process::{Process, command};

async fn started() -> (Standin, tempfile::TempDir, Process) {
    let (standin, data) = (Standin::start(Profile::Standard), tempfile::tempdir().unwrap());
    let process = Process::start(&standin.mcp_url(), free_port(), data.path(), &[]).await;
    (standin, data, process)
}

#[tokio::test]
async fn health_endpoints_answer_200_for_any_host_header() {
    let (_standin, _data, process) = started().await;
    for path in ["live", "ready"] {
        let request = Request::get(format!("{}/health/{path}", process.url))
            .body(RequestBody::Empty)
            .unwrap();
        let page = send(&Browser::default().client, request).await;
        assert_eq!((page.status.as_u16(), &page.json()["status"]), (200, &json!(path)));
        // A load balancer sends an arbitrary `Host`.
        let text = format!("GET /health/{path} HTTP/1.1\r\nHost: 10.1.2.3\r\n\r\n");
        assert!(
            raw(&process.url, text.as_bytes(), Duration::from_secs(5))
                .0
                .starts_with("HTTP/1.1 200 ")
        );
    }
    let port = process.url.rsplit(':').next().unwrap();
    let asked = |port: &str| {
        command()
            .args(["healthcheck", "--port", port])
            .stderr(Stdio::null())
            .status()
            .unwrap()
    };
    assert!(asked(port).success());
    assert!(!asked(&free_port().to_string()).success());
}

#[tokio::test]
async fn process_starts_and_stops_quickly_with_little_memory() {
    let (standin, data) = (Standin::start(Profile::Standard), tempfile::tempdir().unwrap());
    let port = free_port();
    for start in ["first", "second"] {
        let begun = Instant::now();
        let process = Process::start(&standin.mcp_url(), port, data.path(), &[]).await;
        let ready = begun.elapsed();
        let resident = resident(process.child.id());
        let begun = Instant::now();
        let status = process.terminate();
        println!(
            "{start} start: ready after {ready:?}, resident {resident} KiB, stopped in {:?}",
            begun.elapsed()
        );
        assert!(status.success(), "{status}");
        // Unoptimized builds on a busy machine are slow.
        let most = if cfg!(debug_assertions) { 10 } else { 2 };
        assert!(ready < Duration::from_secs(most), "{ready:?}");
        assert!(begun.elapsed() < Duration::from_secs(most), "{:?}", begun.elapsed());
        assert!(resident < 128 * 1_024, "{resident} KiB");
    }
}

/// One password hash needs about 20 MB; an allocator could retain this once for each thread.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn password_hashing_memory_is_released_after_sign_in() {
    let (_standin, _data, process) = started().await;
    let client = McpClient::register(&process.url).await;
    let before = resident(process.child.id());
    for _ in 0..6 {
        client.login().await;
    }
    // The last hash may still hold its memory for a moment.
    let mut after = u64::MAX;
    for _ in 0..50 {
        after = after.min(resident(process.child.id()));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("resident before sign-ins {before} KiB, after six {after} KiB");
    assert!(after < before + 16 * 1_024, "{before} KiB, then {after} KiB");
}

/// Resident memory in KiB; 0 without `/proc`.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse().unwrap())
}

/// A gateway that serves https. Dropping it kills the process.
struct Secure {
    child: Child,
    url: String,
}

impl Drop for Secure {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Secure {
    async fn start(standin: &Standin, port: u16, data: &Path, more: &[&str]) -> Self {
        let url = format!("https://localhost:{port}");
        let child = command()
            .args([
                "--upstream-rs",
                &standin.mcp_url(),
                "--port",
                &port.to_string(),
                "--public-url",
                &url,
            ])
            .arg("--data-dir")
            .arg(data)
            .args(more)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut secure = Self { child, url };
        for _ in 0..1_000 {
            assert!(secure.child.try_wait().unwrap().is_none(), "it ended");
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return secure;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it did not start");
    }
}

fn healthcheck(port: u16) -> std::process::ExitStatus {
    command()
        .args(["healthcheck", "--port", &port.to_string()])
        .stderr(Stdio::null())
        .status()
        .unwrap()
}

/// Runs the health check, as a container does, until it succeeds.
async fn healthy(port: u16) {
    for _ in 0..500 {
        if healthcheck(port).success() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the health check never succeeds");
}

/// A TLS server that is not a gateway, and one that answers 503, both fail the health check.
#[test]
fn healthcheck_command_requires_a_200_and_not_only_tls() {
    tls::install_provider();
    let home = tempfile::tempdir().unwrap();
    let made = self_signed(home.path(), &[]).unwrap();
    let chain = vec![CertificateDer::from_pem_file(&made.named.certificate).unwrap()];
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(&made.named.key).unwrap())
        .map(std::sync::Arc::new)
        .unwrap();
    for (said, code) in [
        ("", 1),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", 1),
        ("HTTP/1.1 200 OK\r\n\r\n", 0),
    ] {
        let (config, listener) = (config.clone(), std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap());
        let port = listener.local_addr().unwrap().port();
        // The health check tries http first.
        std::thread::spawn(move || {
            for line in listener.incoming().take(2) {
                let mut line = line.unwrap();
                let mut tls = rustls::ServerConnection::new(config.clone()).unwrap();
                let mut stream = rustls::Stream::new(&mut tls, &mut line);
                if stream.read(&mut [0; 512]).is_ok() {
                    stream.write_all(said.as_bytes()).unwrap();
                }
            }
        });
        assert_eq!(healthcheck(port).code(), Some(code), "{said}");
    }
}

/// A client that trusts this CA in addition to the system's. It has no open connections.
fn trusting(ca: &Path) -> HttpClient {
    tls::install_provider();
    HttpClient::new(ClientTls::load(&[ca.to_owned()]).unwrap())
}

async fn version(client: &HttpClient, url: &str, http2: bool) -> Result<http::Version, SendError> {
    let policy = RequestPolicy {
        addresses: AddressPolicy::Anything,
        connect: Duration::from_secs(10),
        first_byte: Some(Duration::from_secs(10)),
        http2,
    };
    let request = Request::get(format!("{url}/health/live")).body(RequestBody::Empty).unwrap();
    client.send(request, &policy).await.map(|answer| answer.version())
}

#[tokio::test]
async fn self_signed_tls_serves_http1_and_http2_and_its_ca_survives_restart() {
    let (standin, data, port) = (Standin::start(Profile::Standard), tempfile::tempdir().unwrap(), free_port());
    let more = ["--tls", "self-signed"];
    let secure = Secure::start(&standin, port, data.path(), &more).await;
    let ca = data.path().join("tls-ca.pem");
    let made = std::fs::read(&ca).unwrap();
    let client = trusting(&ca);
    healthy(port).await;
    assert_eq!(version(&client, &secure.url, false).await.unwrap(), http::Version::HTTP_11);
    assert_eq!(version(&client, &secure.url, true).await.unwrap(), http::Version::HTTP_2);
    let stranger = HttpClient::new(ClientTls::load(&[]).unwrap());
    assert!(
        matches!(version(&stranger, &secure.url, false).await, Err(SendError::Connect(_))),
        "nobody else trusts it"
    );

    // A complete authorization flow over https.
    let mut browser = Browser {
        client: client.clone(),
        ..Browser::default()
    };
    let mut mcp = McpClient::register_with(&secure.url, "http://127.0.0.1:3999/callback", browser.clone()).await;
    let entrance = browser.get(&mcp.authorize_url()).await;
    let onward = entrance.onward().unwrap();
    let login = browser.get(&onward).await;
    let set: Vec<_> = [&entrance, &login]
        .iter()
        .flat_map(|page| page.headers.get_all("set-cookie"))
        .cloned()
        .collect();
    assert!(!set.is_empty());
    for cookie in set {
        let cookie = cookie.to_str().unwrap().to_owned();
        assert!(
            cookie.starts_with("__Host-") && cookie.contains("Secure") && cookie.contains("HttpOnly"),
            "{cookie}"
        );
        assert!(cookie.contains("Path=/") && !cookie.contains("Domain"), "{cookie}");
    }
    mcp.http = browser.clone();
    let code = McpClient::code(&mcp.browse(&mut browser).await);
    let pair = crate::support::client::Pair::of(&mcp.redeem(&code).await);
    assert_eq!(mcp.call(&pair.access, "echo", json!({ "text": "x" })).await.status, 200);

    drop(secure);
    assert_eq!(healthcheck(port).code(), Some(1), "nothing listens");
    let secure = Secure::start(&standin, port, data.path(), &more).await;
    assert_eq!(std::fs::read(&ca).unwrap(), made, "a restart keeps the CA");
    assert_eq!(version(&trusting(&ca), &secure.url, true).await.unwrap(), http::Version::HTTP_2);
    assert_eq!(mcp.call(&pair.access, "echo", json!({ "text": "x" })).await.status, 200);
}

#[tokio::test]
async fn replaced_certificate_is_served_without_a_restart() {
    let (standin, data, port) = (Standin::start(Profile::Standard), tempfile::tempdir().unwrap(), free_port());
    let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [first, second] = homes.each_ref().map(|home| self_signed(home.path(), &[]).unwrap());
    let (certificate, key) = (data.path().join("cert.pem"), data.path().join("key.pem"));
    std::fs::write(&certificate, read(&first.named.certificate)).unwrap();
    std::fs::write(&key, read(&first.named.key)).unwrap();
    let more = ["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let secure = Secure::start(&standin, port, data.path(), &more).await;
    healthy(port).await;
    let (old, new) = (first.ca.clone(), second.ca.clone());
    assert!(version(&trusting(&old), &secure.url, false).await.is_ok());
    assert!(version(&trusting(&new), &secure.url, false).await.is_err());

    // A key that does not match the certificate changes nothing.
    std::fs::write(&key, read(&second.named.key)).unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(
        version(&trusting(&old), &secure.url, false).await.is_ok(),
        "the old one stays in use"
    );
    std::fs::write(&certificate, read(&second.named.certificate)).unwrap();
    let begun = Instant::now();
    while version(&trusting(&new), &secure.url, false).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(12), "the new certificate is not served");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("the new certificate was served after {:?}", begun.elapsed());
    assert!(version(&trusting(&old), &secure.url, false).await.is_err());
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

/// Sends these bytes on a new connection and reads until the end of the headers or the connection.
fn raw(url: &str, bytes: &[u8], within: Duration) -> (String, Duration) {
    let mut line = std::net::TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    line.set_read_timeout(Some(within)).unwrap();
    let begun = Instant::now();
    // The gateway may close the connection during the write.
    let _ = line.write_all(bytes);
    let mut got = Vec::new();
    let mut some = [0; 4_096];
    while let Ok(count @ 1..) = line.read(&mut some) {
        got.extend_from_slice(&some[..count]);
        if got.windows(4).any(|end| end == b"\r\n\r\n") {
            break;
        }
    }
    (String::from_utf8_lossy(&got).into_owned(), begun.elapsed())
}

#[tokio::test]
async fn oversized_request_headers_are_answered_with_431() {
    let (_standin, _data, process) = started().await;
    let head = |size: usize| format!("GET /health/live HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "y".repeat(size));
    let (answer, _) = raw(&process.url, head(70_000).as_bytes(), Duration::from_secs(5));
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
    let (answer, _) = raw(&process.url, head(30_000).as_bytes(), Duration::from_secs(5));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    let many = format!("GET /health/live HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-Many: y\r\n".repeat(200));
    let (answer, _) = raw(&process.url, many.as_bytes(), Duration::from_secs(5));
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
}

#[tokio::test]
async fn oversized_oauth_request_body_is_answered_with_413() {
    let (_standin, _data, process) = started().await;
    let head = "POST /token HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 70000\r\n\r\n";
    let text = head.replace("HOST", process.url.trim_start_matches("http://")) + &"y".repeat(70_000);
    let (answer, _) = raw(&process.url, text.as_bytes(), Duration::from_secs(5));
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer:?}");
}

/// Takes as long as the timeout.
#[tokio::test]
async fn slow_request_headers_end_the_connection_long() {
    if std::env::var_os("GATEWAY_LONG").is_none() {
        return;
    }
    let (_standin, _data, process) = started().await;
    let url = process.url.clone();
    let half = b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Slow: ";
    let waited = tokio::task::spawn_blocking(move || raw(&url, half, Duration::from_secs(50)));
    let (answer, took) = waited.await.unwrap();
    println!("a request without an end was cut after {took:?}: {:?}", answer.lines().next());
    assert!(took > Duration::from_secs(25) && took < Duration::from_secs(40), "{took:?}");
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
}
