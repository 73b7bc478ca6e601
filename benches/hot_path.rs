//! What a proxied request costs: the pair, the headers, and the whole of it beside a plain hyper reverse proxy.
//!
//! `cargo bench` ends with the three paths measured in turns, so that a noisy machine is noisy for each of them.

use std::convert::Infallible;
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mcp_oauth_gateway::base::random;
use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::base::time::Clock;
use mcp_oauth_gateway::net::listen;
use mcp_oauth_gateway::net::tls;
use mcp_oauth_gateway::token::header::TokenMode;
use mcp_oauth_gateway::token::pair;
use mcp_oauth_gateway::upstream::forward_rules;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::{CancellationToken, DropGuard};

use support::{ANSWER, CALL, access_token, half, request_future_bytes, ring, serve_gateway};

mod support;

/// A short token, as GitHub's, and a long one, as a JWT.
const LENGTHS: [usize; 2] = [100, 2_048];

fn main() {
    tls::install_provider();
    let mut criterion = Criterion::default().configure_from_args();
    pairs(&mut criterion);
    headers(&mut criterion);
    let paths = Paths::start();
    proxied(&mut criterion, &paths);
    criterion.final_summary();
    // Without it this is a test run: that everything works is enough.
    if std::env::args().any(|arg| arg == "--bench") {
        side_by_side(&paths);
    }
}

fn pairs(criterion: &mut Criterion) {
    let (ring, now) = (ring(), Clock::System.now());
    for (name, mode) in [("sealed", TokenMode::Sealed), ("plain", TokenMode::Plain)] {
        for length in LENGTHS {
            let (half, upstream) = (half(mode), Secret::from("t".repeat(length)));
            let token = pair::encode(&ring, now, &half, &upstream, random::salt_and_nonce());
            criterion
                .benchmark_group("pair_open")
                .bench_function(BenchmarkId::new(name, length), |b| {
                    b.iter(|| pair::open(&ring, black_box(token.expose())));
                });
            criterion
                .benchmark_group("pair_mint")
                .bench_function(BenchmarkId::new(name, length), |b| {
                    b.iter(|| pair::encode(&ring, now, black_box(&half), &upstream, random::salt_and_nonce()));
                });
        }
    }
}

fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &'static str)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    fields.iter().map(field).collect()
}

fn headers(criterion: &mut Criterion) {
    let asked = map(&[
        ("host", "localhost:8002"),
        ("connection", "keep-alive"),
        ("authorization", "Bearer Z3dhX0FRRUJBZw"),
        ("content-type", "application/json"),
        ("content-length", "96"),
        ("accept", "application/json, text/event-stream"),
        ("accept-encoding", "gzip, br"),
        ("accept-language", "*"),
        ("user-agent", "node"),
        ("sec-fetch-mode", "cors"),
        ("mcp-session-id", "7f5c2a80-9f1e-4a44-9ac8-6d1f3f1f0b1c"),
        ("mcp-protocol-version", "2025-06-18"),
    ]);
    let answered = map(&[
        ("content-type", "application/json"),
        ("content-length", "92"),
        ("date", "Thu, 01 Jan 2026 00:00:00 GMT"),
        ("server", "github.com"),
        ("cache-control", "no-cache"),
        ("strict-transport-security", "max-age=31536000"),
        ("set-cookie", "a=b"),
        ("mcp-session-id", "7f5c2a80-9f1e-4a44-9ac8-6d1f3f1f0b1c"),
        ("x-github-request-id", "ABCD:1234"),
        ("x-ratelimit-remaining", "4999"),
    ]);
    let ours = [(header::AUTHORIZATION, HeaderValue::from_static("Bearer gho_16C7e42F292c6912E7"))];
    let mut group = criterion.benchmark_group("headers");
    group.bench_function("request", |b| {
        b.iter(|| forward_rules::request_headers(black_box(&asked), &[], &[], &ours));
    });
    group.bench_function("response", |b| {
        let filtered = |mut headers| {
            forward_rules::response_headers(&mut headers, &[]);
            headers
        };
        b.iter_batched(|| answered.clone(), filtered, criterion::BatchSize::SmallInput);
    });
}

/// An upstream, and two ways to it beside the direct one. Each server has one thread, as a lane has.
struct Paths {
    client: Runtime,
    token: String,
    ways: [Way; 3],
    _stopper: DropGuard,
}

/// A kept connection to one of the servers.
struct Way {
    name: &'static str,
    host: String,
    line: Mutex<SendRequest<Full<Bytes>>>,
}

impl Paths {
    fn start() -> Self {
        let upstream = in_thread(|listener| serve(listener, upstream));
        let plain = in_thread(move |listener| {
            let idle = Idle::default();
            serve(listener, move |request| pass(upstream, Arc::clone(&idle), request))
        });
        let keys = Arc::new(ArcSwap::from_pointee(ring()));
        let token = access_token(&keys, upstream, LENGTHS[0]);
        let stop = CancellationToken::new();
        let stopper = stop.clone().drop_guard();
        let gateway = in_thread(move |listener| serve_gateway(listener, upstream, keys, stop));
        let client = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let ways = [("direct", upstream), ("plain_proxy", plain), ("gateway", gateway)].map(|(name, address)| Way {
            name,
            host: address.to_string(),
            line: Mutex::new(client.block_on(connected(address))),
        });
        let paths = Self {
            client,
            token,
            ways,
            _stopper: stopper,
        };
        // The ended grants are loaded by then, and every pool has its connection.
        std::thread::sleep(Duration::from_millis(300));
        paths
    }

    /// One tool call, its answer read whole.
    fn call(&self, way: &Way) {
        let request = Request::post("/mcp")
            .header(header::HOST, &way.host)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .header("mcp-protocol-version", "2025-06-18")
            .body(Full::from(CALL))
            .expect("a request");
        let mut line = way.line.lock().expect("one bench at a time");
        self.client.block_on(async {
            line.ready().await.expect("kept alive");
            let answer = line.send_request(request).await.expect("an answer");
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.into_body().collect().await.expect("its body").to_bytes(), ANSWER);
        });
    }
}

fn proxied(criterion: &mut Criterion, paths: &Paths) {
    let mut group = criterion.benchmark_group("one_request");
    for way in &paths.ways {
        group.bench_function(way.name, |b| b.iter(|| paths.call(way)));
    }
}

/// Each way for a while in turn, many times over.
#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn side_by_side(paths: &Paths) {
    let mut took: Vec<Vec<Duration>> = vec![Vec::new(); paths.ways.len()];
    for _ in 0..50 {
        for (way, took) in paths.ways.iter().zip(&mut took) {
            for _ in 0..200 {
                let start = Instant::now();
                paths.call(way);
                took.push(start.elapsed());
            }
        }
    }
    for took in &mut took {
        took.sort_unstable();
    }
    let at = |i: usize, percent: usize| took[i][took[i].len() * percent / 100].as_secs_f64() * 1e6;
    println!("\none request over loopback, kept alive, in turns: 10000 each\n");
    println!("{:<14}{:>10}{:>10}{:>10}", "", "p50 µs", "p90 µs", "p99 µs");
    for (i, way) in paths.ways.iter().enumerate() {
        println!("{:<14}{:>10.1}{:>10.1}{:>10.1}", way.name, at(i, 50), at(i, 90), at(i, 99));
    }
    let added = |i| at(i, 50) - at(0, 50);
    println!(
        "\ngateway / plain proxy: {:.2} of the whole, {:.2} of what each adds to the direct way",
        at(2, 50) / at(1, 50),
        added(2) / added(1)
    );
    println!("bytes of the request's future: {}", request_future_bytes());
}

/// Runs a server on a thread and a runtime of its own.
fn in_thread<F: Future<Output = ()>>(server: impl FnOnce(std::net::TcpListener) -> F + Send + 'static) -> SocketAddr {
    let listener = listen::bind(([127, 0, 0, 1], 0).into(), false).expect("a free port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async { server(listener).await });
    });
    address
}

/// A connection of hyper's client.
async fn connected<B>(address: SocketAddr) -> SendRequest<B>
where
    B: hyper::body::Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let stream = TcpStream::connect(address).await.expect("it listens");
    stream.set_nodelay(true).expect("a socket");
    let (line, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a connection");
    tokio::spawn(connection);
    line
}

/// A plain hyper server.
async fn serve<F, B>(listener: std::net::TcpListener, answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static)
where
    F: Future<Output = Response<B>> + Send + 'static,
    B: hyper::body::Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let listener = TcpListener::from_std(listener).expect("a listener");
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        let answer = answer.clone();
        let service = service_fn(move |request| {
            let answered = answer(request);
            async { Ok::<_, Infallible>(answered.await) }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// The upstream: reads the call, gives the answer.
async fn upstream(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let read = request.into_body().collect().await.expect("the call");
    assert_eq!(read.to_bytes(), CALL);
    Response::builder()
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::from(ANSWER))
        .expect("an answer")
}

/// Connections to the upstream that wait for the next request.
type Idle = Arc<Mutex<Vec<SendRequest<Incoming>>>>;

/// The plain proxy: another host, and the body as it comes. No check, no header filter, no limits.
async fn pass(to: SocketAddr, idle: Idle, mut request: Request<Incoming>) -> Response<Incoming> {
    let host = HeaderValue::from_str(&to.to_string()).expect("an address");
    request.headers_mut().insert(header::HOST, host);
    let waiting = idle.lock().expect("never poisoned").pop();
    let mut line = match waiting {
        Some(line) => line,
        None => connected(to).await,
    };
    line.ready().await.expect("kept alive");
    let answer = line.send_request(request).await.expect("an answer");
    idle.lock().expect("never poisoned").push(line);
    answer
}
