//! What a caller without a credential can use up: the log, and connections.

use std::process::Stdio;
use std::time::Duration;

use mcp_gateway_standin::{Profile, Standin};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::port::free_port;
use crate::support::process::{Process, command};

/// Sends bytes on a new connection, and returns what comes back.
async fn answer(port: u16, bytes: &str) -> String {
    let exchange = async {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answer = tokio::time::timeout(Duration::from_secs(20), exchange).await;
    answer.expect("the gateway answers")
}

#[tokio::test]
async fn gateway_serves_and_stops_while_nobody_reads_its_log() {
    let (upstream, data, port) = (Standin::start(Profile::Standard), tempfile::tempdir().unwrap(), free_port());
    let mut gateway = command();
    gateway
        .args(["--upstream-rs", &upstream.mcp_url(), "--port", &port.to_string()])
        .args(["--host", "127.0.0.1", "--log", "debug", "--data-dir"])
        .arg(data.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let process = Process::ready(&mut gateway, port, data.path()).await;
    // Each of these is a log line. A pipe holds 64 KiB.
    for _ in 0..1_500 {
        answer(port, "no HTTP\r\n\r\n").await;
    }
    let live = "GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert!(answer(port, live).await.starts_with("HTTP/1.1 200"));
    let stopped = tokio::task::spawn_blocking(|| process.terminate());
    let status = tokio::time::timeout(Duration::from_secs(30), stopped).await;
    assert!(status.expect("the gateway stops").unwrap().success());
}
