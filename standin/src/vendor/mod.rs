//! A stand-in for the model vendors: OpenAI `POST /v1/responses` and Anthropic `POST /v1/messages`,
//! streaming and not. A script says what the model does; see [`Turn`]. Any other path is answered
//! with an echo of the request's head.

mod anthropic;
mod openai;
mod prefix;
mod script;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::body::{Open, Out, Reply, add_header, json as json_reply};
use crate::streams::pause;
pub use script::{ModelCall, Turn};

/// A request that reached the vendor, byte for byte.
#[derive(Clone, Debug)]
pub struct VendorRequest {
    /// Its method.
    pub method: String,
    /// Its path, without the query.
    pub path: String,
    /// Its query; empty if there is none.
    pub query: String,
    /// Its headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its whole body.
    pub body: Vec<u8>,
}

impl VendorRequest {
    /// The first value of a header. The name is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// What the vendor remembers.
#[derive(Default)]
struct Memory {
    requests: Vec<VendorRequest>,
    script: VecDeque<Turn>,
    /// The items of each stored response, with those before it.
    contexts: BTreeMap<String, Vec<Value>>,
    /// The digest of what came before each reasoning item.
    reasoning: BTreeMap<String, String>,
    number: u64,
}

impl Memory {
    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }
}

struct Shared {
    memory: Mutex<Memory>,
    open: Arc<AtomicUsize>,
}

impl Shared {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running stand-in for both vendors. Clones share it. It ends when the last clone is dropped.
#[derive(Clone)]
pub struct Vendor {
    running: Arc<Running>,
}

struct Running {
    origin: String,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ended = self.thread.take().map(JoinHandle::join);
    }
}

impl Vendor {
    /// Starts on a free loopback port, in its own thread and runtime.
    ///
    /// # Panics
    /// If the loopback interface has no free port.
    pub fn start() -> Self {
        Self::start_on(0).expect("a free loopback port")
    }

    /// Starts on this loopback port.
    ///
    /// # Errors
    /// If the port cannot be bound.
    pub fn start_on(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        let origin = format!("http://{}", listener.local_addr()?);
        let shared = Arc::new(Shared {
            memory: Mutex::default(),
            open: Arc::default(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let server = serve(listener, Arc::clone(&shared), stopped);
        let thread = std::thread::Builder::new()
            .name("vendor".to_owned())
            .spawn(move || runtime.block_on(server))?;
        let running = Running {
            origin,
            shared,
            stop: Some(stop),
            thread: Some(thread),
        };
        Ok(Self {
            running: Arc::new(running),
        })
    }

    /// `http://127.0.0.1:PORT`
    pub fn origin(&self) -> String {
        self.running.origin.clone()
    }

    /// Adds turns: each next request for a model's answer takes one. Without any, the request's own
    /// script counts, see [`Turn`].
    pub fn script(&self, turns: impl IntoIterator<Item = Turn>) {
        self.running.shared.memory().script.extend(turns);
    }

    /// All requests, in order of arrival.
    pub fn requests(&self) -> Vec<VendorRequest> {
        self.running.shared.memory().requests.clone()
    }

    /// Forgets the requests.
    pub fn clear(&self) {
        self.running.shared.memory().requests.clear();
    }

    /// The number of requests whose response is not finished.
    pub fn open_requests(&self) -> usize {
        self.running.shared.open.load(Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, mut stop: oneshot::Receiver<()>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener inside a runtime");
    loop {
        tokio::select! {
            _ = &mut stop => return,
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    tokio::spawn(connection(stream, Arc::clone(&shared)));
                }
            }
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let _late = stream.set_nodelay(true);
    let service = service_fn(move |request| exchange(Arc::clone(&shared), request));
    let server = auto::Builder::new(TokioExecutor::new());
    let _ended = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn exchange(shared: Arc<Shared>, request: http::Request<Incoming>) -> io::Result<Reply> {
    let open = Open::new(&shared.open);
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let request = VendorRequest {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers.iter().map(|(n, v)| (n.to_string(), text(v))).collect(),
        body: body.to_vec(),
    };
    shared.memory().requests.push(request.clone());
    let mut reply = answer(&shared, &request).await?;
    reply.body_mut().carry(open);
    Ok(reply)
}

async fn answer(shared: &Shared, request: &VendorRequest) -> io::Result<Reply> {
    match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/v1/responses") => openai::respond(shared, request).await,
        ("POST", "/v1/messages") => anthropic::respond(shared, request).await,
        ("GET", "/v1/models") => {
            let models = json!([{"id": "stand-in-1", "object": "model", "type": "model", "created": 1_796_000_000, "owned_by": "standin",
                "display_name": "Stand-in", "created_at": "2026-11-01T00:00:00Z"}]);
            let mut reply = json_reply(
                200,
                &json!({"object": "list", "data": models, "has_more": false, "first_id": "stand-in-1", "last_id": "stand-in-1"}),
            );
            add_header(&mut reply, "x-request-id", "req_models");
            Ok(reply)
        }
        _ => Ok(json_reply(
            200,
            &json!({"method": request.method, "path": request.path, "query": request.query}),
        )),
    }
}

/// How the events of a stream are sent.
struct Pace {
    first_byte: Duration,
    gap: Duration,
    /// The connection breaks after this number of events.
    cut_after: Option<usize>,
}

impl From<&Turn> for Pace {
    fn from(turn: &Turn) -> Self {
        Self {
            first_byte: Duration::from_millis(turn.first_byte_ms),
            gap: Duration::from_millis(turn.pause_ms),
            cut_after: turn.cut_after,
        }
    }
}

/// Sends events, each with its type as name.
fn stream_events(events: Vec<Value>, pace: Pace) -> Reply {
    let (feed, out) = Out::stream();
    let mut reply = Reply::new(out);
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    tokio::spawn(async move {
        pause(pace.first_byte).await;
        for (number, event) in events.iter().enumerate() {
            if pace.cut_after == Some(number) {
                let _cut = feed.send(Err(io::ErrorKind::ConnectionAborted.into())).await;
                return;
            }
            let name = event["type"].as_str().unwrap_or("message");
            let bytes = Bytes::from(format!("event: {name}\ndata: {event}\n\n"));
            if feed.send(Ok(bytes)).await.is_err() {
                return;
            }
            tokio::select! {
                () = feed.closed() => return,
                () = pause(pace.gap) => {}
            }
        }
    });
    reply
}

/// The error that a turn asks for, in the vendor's shape.
fn scripted_error(turn: &Turn, status: u16, body: &Value) -> Reply {
    let mut reply = json_reply(status, turn.body.as_ref().unwrap_or(body));
    add_headers(&mut reply, turn);
    reply
}

fn add_headers(reply: &mut Reply, turn: &Turn) {
    for (name, value) in &turn.headers {
        add_header(reply, name, value);
    }
}
