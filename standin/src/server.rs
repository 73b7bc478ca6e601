//! Accepts connections, logs requests, and chooses the handler.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::request::Parts;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::behaviour::Behaviour;
use crate::body::{Reply, add_header, json as json_reply, reply};
use crate::state::{KEPT, State};
use crate::{Profile, Seen, authorize, clients, device, discovery, mcp, openid, token};

/// A request during its handling.
pub struct Exchange {
    pub state: Arc<State>,
    pub behaviour: Behaviour,
    pub parts: Parts,
    body: Option<Incoming>,
    peeked: Option<Vec<u8>>,
    number: u64,
}

impl Exchange {
    pub fn query(&self) -> &str {
        self.parts.uri.query().unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name).and_then(|v| v.to_str().ok())
    }

    /// Reads the whole body.
    pub async fn read(&mut self) -> io::Result<Vec<u8>> {
        if let Some(whole) = self.peeked.take() {
            return Ok(whole);
        }
        let mut whole = Vec::new();
        self.each_chunk(|chunk| whole.extend_from_slice(chunk)).await?;
        Ok(whole)
    }

    /// The whole body, which a later `read` returns again.
    async fn peek(&mut self) -> io::Result<Vec<u8>> {
        if self.peeked.is_none() {
            let whole = self.read().await?;
            self.peeked = Some(whole);
        }
        Ok(self.peeked.clone().unwrap_or_default())
    }

    /// Reads the body and returns its length in bytes.
    pub async fn count(&mut self) -> io::Result<u64> {
        let mut count = 0;
        self.each_chunk(|chunk| count += chunk.len() as u64).await?;
        Ok(count)
    }

    async fn each_chunk(&mut self, mut take: impl FnMut(&Bytes)) -> io::Result<()> {
        let Some(mut body) = self.body.take() else {
            return Ok(());
        };
        let mut room = KEPT;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(io::Error::other)?;
            let Ok(chunk) = frame.into_data() else {
                continue;
            };
            if room > 0 {
                let kept = chunk.slice(..chunk.len().min(room));
                room -= kept.len();
                self.state.amend(self.number, |seen| seen.body.extend_from_slice(&kept));
            }
            take(&chunk);
        }
        Ok(())
    }
}

/// Serves until the other end of `stop` is dropped.
pub async fn serve(listener: std::net::TcpListener, state: Arc<State>, mut stop: oneshot::Receiver<()>) {
    let listener = TcpListener::from_std(listener).expect("a listener inside a runtime");
    loop {
        tokio::select! {
            _ = &mut stop => return,
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    tokio::spawn(connection(stream, Arc::clone(&state)));
                }
            }
        }
    }
}

async fn connection(stream: TcpStream, state: Arc<State>) {
    // Streamed events should be sent immediately. On failure they are only late.
    let _late = stream.set_nodelay(true);
    let service = service_fn(move |request| exchange(Arc::clone(&state), request));
    let server = auto::Builder::new(TokioExecutor::new());
    // Some misbehaviour ends the connection with an error.
    let _ended = server.serve_connection(TokioIo::new(stream), service).await;
}

/// Handles one request. On an error, hyper closes the connection without a response.
async fn exchange(state: Arc<State>, request: http::Request<Incoming>) -> io::Result<Reply> {
    let (parts, body) = request.into_parts();
    let behaviour = state.behaviour();
    // No request ever has the highest number, so later updates change nothing.
    let number = if behaviour.keep_log { state.note(seen(&parts)) } else { u64::MAX };
    let log = Arc::clone(&state);
    let exchange = Exchange {
        state,
        behaviour,
        parts,
        body: Some(body),
        peeked: None,
        number,
    };
    let reply = route(exchange).await?;
    log.amend(number, |seen| seen.status = reply.status().as_u16());
    Ok(reply)
}

fn seen(parts: &Parts) -> Seen {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Seen {
        at: Instant::now(),
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers.iter().map(|(n, v)| (n.to_string(), text(v))).collect(),
        body: Vec::new(),
        status: 0,
    }
}

/// The fixed answer to this request. One that depends on the body must be for a path whose other requests
/// need no body.
async fn canned(exchange: &mut Exchange, path: &str) -> io::Result<Option<Reply>> {
    let method = exchange.parts.method.as_str().to_owned();
    let candidates = exchange.behaviour.canned.clone().into_iter();
    for canned in candidates.filter(|canned| canned.path == path && canned.method.is_none_or(|known| known == method)) {
        let body = exchange.peek().await?;
        if canned.body_has.is_some_and(|text| !String::from_utf8_lossy(&body).contains(text)) {
            continue;
        }
        let mut answer = reply(canned.status, "application/json", canned.body);
        if canned.headers.iter().any(|(name, _)| *name == "content-type") {
            answer.headers_mut().remove(http::header::CONTENT_TYPE);
        }
        for (name, value) in &canned.headers {
            add_header(&mut answer, name, value);
        }
        return Ok(Some(answer));
    }
    Ok(None)
}

async fn route(mut exchange: Exchange) -> io::Result<Reply> {
    let path = exchange.parts.uri.path().to_owned();
    let method = exchange.parts.method.to_string();
    if let Some(reply) = canned(&mut exchange, &path).await? {
        return Ok(reply);
    }
    if matches!(path.as_str(), "/mcp" | "/mcp/") {
        return mcp::handle(exchange).await;
    }
    if let Some(reply) = openid::document(&mut exchange, &path).await? {
        return Ok(reply);
    }
    if let Some(reply) = discovery::document(&exchange, &path) {
        exchange.count().await?;
        return Ok(reply);
    }
    let standard = exchange.state.profile != Profile::GitHub;
    match (standard, method.as_str(), path.as_str()) {
        (true, "GET" | "POST", "/authorize") | (false, "GET" | "POST", "/login/oauth/authorize") => authorize::handle(exchange).await,
        (true, "POST", "/token") | (false, "POST", "/login/oauth/access_token") => token::handle(exchange).await,
        (true, "POST", "/register") => clients::register(exchange).await,
        (true, "POST", "/device_authorization") => device::handle(exchange).await,
        (true, "POST", "/revoke") => token::revoke(exchange).await,
        _ => {
            exchange.count().await?;
            Ok(json_reply(404, &json!({"error": "not_found"})))
        }
    }
}
