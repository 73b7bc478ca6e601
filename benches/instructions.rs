//! Counts the CPU instructions of one proxied request: server, router, gateway, upstream client.
//!
//! `cargo bench` starts this program again under `valgrind --tool=callgrind`, which counts [`run_counted`] only. Client,
//! gateway and upstream share one thread. The client and the upstream exchange fixed bytes over loopback TCP, so that they
//! add little to the count. Without `--bench`, as in `cargo test`, the program sends a few requests and counts nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use mcp_oauth_gateway::net::{listen, tls};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use support::{ANSWER, CALL, access_token, ring, serve_gateway};

mod support;

/// The argument that makes this program send the requests, instead of starting valgrind.
const SEND: &str = "--send";
/// Requests before the count starts: connections are open and caches are filled.
const WARM_UP_REQUESTS: u32 = 500;
/// Requests that are counted.
const COUNTED_REQUESTS: u32 = 2_000;
/// Length of the upstream half of the token, in bytes.
const UPSTREAM_TOKEN_BYTES: usize = 100;

fn main() -> ExitCode {
    let has = |wanted: &str| std::env::args().any(|arg| arg == wanted);
    if has(SEND) {
        send(WARM_UP_REQUESTS, COUNTED_REQUESTS);
    } else if has("--bench") {
        match count() {
            Ok(total) => println!("instructions per proxied request: {}", total / u64::from(COUNTED_REQUESTS)),
            Err(error) => {
                eprintln!("instructions: {error}");
                return ExitCode::FAILURE;
            }
        }
    } else {
        send(1, 10);
    }
    println!("bytes of the request's future: {}", support::request_future_bytes());
    ExitCode::SUCCESS
}

/// Runs this program under callgrind and returns the instructions of [`run_counted`].
fn count() -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let profile = Path::new(env!("CARGO_TARGET_TMPDIR")).join("instructions.callgrind");
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg("--toggle-collect=*instructions*run_counted*")
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(program)
        .arg(SEND)
        .output()
        .map_err(|error| format!("valgrind does not start, is it installed? {error}"))?;
    let messages = String::from_utf8_lossy(&output.stderr);
    let total = messages
        .lines()
        .find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    match total {
        Some(total) if total > 0 && output.status.success() => {
            println!("profile for callgrind_annotate: {}", profile.display());
            Ok(total)
        }
        _ => Err(format!("valgrind counted nothing:\n{messages}")),
    }
}

/// Sends requests one after the other through the gateway to an upstream, all on this thread.
fn send(warm_up: u32, counted: u32) {
    tls::install_provider();
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let stop = CancellationToken::new();
    let _stopper = stop.clone().drop_guard();
    let keys = Arc::new(ArcSwap::from_pointee(ring()));
    let (upstream_listener, upstream) = bind();
    let token = access_token(&keys, upstream, UPSTREAM_TOKEN_BYTES);
    let (listener, gateway) = bind();
    runtime.spawn(serve_upstream(upstream_listener));
    runtime.spawn(serve_gateway(listener, upstream, keys, stop));
    let mut client = runtime.block_on(async {
        // The gateway loads its revocation list before it accepts tokens.
        tokio::time::sleep(Duration::from_millis(300)).await;
        Client::connect(gateway, &token).await
    });
    runtime.block_on(client.call(warm_up));
    let requests = Box::pin(client.call(counted));
    run_counted(&runtime, requests);
}

/// The function that callgrind counts, with all that it calls. Its name appears in no other symbol.
#[inline(never)]
fn run_counted(runtime: &Runtime, requests: Pin<Box<dyn Future<Output = ()> + '_>>) {
    runtime.block_on(requests);
}

fn bind() -> (std::net::TcpListener, SocketAddr) {
    let listener = listen::bind((Ipv4Addr::LOCALHOST, 0).into(), false).expect("a port is free");
    let address = listener.local_addr().expect("a bound listener has an address");
    (listener, address)
}

/// An HTTP client that sends one fixed request.
struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Client {
    async fn connect(gateway: SocketAddr, token: &str) -> Self {
        let stream = TcpStream::connect(gateway).await.expect("the gateway listens");
        stream.set_nodelay(true).expect("the socket has the option");
        let length = CALL.len();
        let head = format!(
            "POST /mcp HTTP/1.1\r\nhost: {gateway}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\naccept: application/json, text/event-stream\r\naccept-encoding: gzip, br\r\n\
             user-agent: node\r\nmcp-session-id: 7f5c2a80-9f1e-4a44-9ac8-6d1f3f1f0b1c\r\n\
             mcp-protocol-version: 2025-06-18\r\n\r\n"
        );
        Self {
            stream,
            request: [head.as_bytes(), CALL].concat(),
            answer: Vec::with_capacity(4_096),
        }
    }

    /// Sends the request `times` times, each after the answer to the last.
    async fn call(&mut self, times: u32) {
        for _ in 0..times {
            self.stream.write_all(&self.request).await.expect("the gateway reads");
            read_until(&mut self.stream, &mut self.answer, ANSWER).await;
            assert!(self.answer.starts_with(b"HTTP/1.1 200 "), "the gateway refused the request");
        }
    }
}

/// Answers every request on one connection with fixed bytes.
async fn serve_upstream(listener: std::net::TcpListener) {
    let listener = TcpListener::from_std(listener).expect("a listener of tokio");
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
         mcp-session-id: 7f5c2a80-9f1e-4a44-9ac8-6d1f3f1f0b1c\r\n\r\n",
        ANSWER.len()
    );
    let answer = [head.as_bytes(), ANSWER].concat();
    let (mut stream, _) = listener.accept().await.expect("the gateway connects");
    stream.set_nodelay(true).expect("the socket has the option");
    let mut request = Vec::with_capacity(4_096);
    loop {
        read_until(&mut stream, &mut request, CALL).await;
        stream.write_all(&answer).await.expect("the gateway reads");
    }
}

/// Reads one message, which ends with `end`, into the emptied `message`.
async fn read_until(stream: &mut TcpStream, message: &mut Vec<u8>, end: &[u8]) {
    message.clear();
    while !message.ends_with(end) {
        let read = stream.read_buf(message).await.expect("the connection is open");
        assert!(read > 0, "the connection ended within {}", String::from_utf8_lossy(message));
    }
}
