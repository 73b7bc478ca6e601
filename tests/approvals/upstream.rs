//! A scripted MCP server over HTTP/1.1, which records what arrives.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

/// What the server does.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// The definitions, in pages.
    pub pages: Vec<Vec<Value>>,
    /// How long a call takes.
    pub delay: Duration,
    /// Whether responses are event streams, with a notification before the response.
    pub streams: bool,
    /// How many rounds of input a call asks for.
    pub rounds: usize,
    /// The text of each question.
    pub question: String,
    /// A text that precedes each streamed response.
    pub notification: Option<Value>,
    /// Other definitions, on one page, for the request with this id.
    pub other_face: Option<(Value, Vec<Value>)>,
    /// The structured content of each result.
    pub structured: Option<Value>,
}

/// A running server.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub url: String,
    script: Arc<Mutex<Script>>,
    log: Arc<Mutex<Vec<Received>>>,
}

/// A request that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub body: String,
    pub headers: hyper::HeaderMap,
}

impl Received {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// The definition of a tool.
pub(crate) fn tool(name: &str, description: &str) -> Value {
    json!({"name": name, "description": description, "inputSchema": {"type": "object"}})
}

impl Upstream {
    pub(crate) async fn start(pages: Vec<Vec<Value>>) -> Self {
        let script = Script {
            pages,
            delay: Duration::ZERO,
            streams: false,
            rounds: 0,
            question: "which?".to_owned(),
            notification: None,
            other_face: None,
            structured: None,
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Self {
            url: format!("http://{}/mcp", listener.local_addr().unwrap()),
            script: Arc::new(Mutex::new(script)),
            log: Arc::default(),
        };
        let server = upstream.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move {
                    let answer = service_fn(move |request| server.clone().answer(request));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        upstream
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock().unwrap());
    }

    /// Everything that arrived.
    pub(crate) fn log(&self) -> Vec<Received> {
        self.log.lock().unwrap().clone()
    }

    /// The calls that arrived.
    pub(crate) fn calls(&self) -> Vec<Value> {
        let calls = self.log().into_iter().filter(|received| received.body.contains("\"tools/call\""));
        calls.map(|received| received.json()).collect()
    }

    /// How often the tools were listed.
    pub(crate) fn lists(&self) -> usize {
        self.log()
            .iter()
            .filter(|received| received.body.contains("\"tools/list\""))
            .count()
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let headers = request.headers().clone();
        let body = request.into_body().collect().await?.to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        self.log.lock().unwrap().push(Received {
            body: text.clone(),
            headers,
        });
        let script = self.script.lock().unwrap().clone();
        let Ok(message) = serde_json::from_str::<Value>(&text) else {
            return Ok(Response::builder().status(202).body(Full::default()).unwrap());
        };
        let (id, params) = (message["id"].clone(), &message["params"]);
        let result = match message["method"].as_str().unwrap_or_default() {
            "tools/list" => list(&script, &id, params),
            "tools/call" => {
                tokio::time::sleep(script.delay).await;
                let round: usize = params["requestState"].as_str().and_then(|state| state.parse().ok()).unwrap_or(0);
                if round < script.rounds {
                    let ask = json!({"method": "elicitation/create", "params": {"mode": "form", "message": script.question, "requestedSchema": {}}});
                    json!({"resultType": "input_required", "inputRequests": {"which": ask}, "requestState": (round + 1).to_string()})
                } else {
                    let calls = self.calls().len();
                    let content = json!([{"type": "text", "text": format!("done {calls}")}]);
                    json!({"content": content, "received": params["arguments"], "structuredContent": script.structured})
                }
            }
            _ => json!({"ok": true}),
        };
        if id.is_null() && message["method"].is_string() {
            return Ok(Response::builder().status(202).body(Full::default()).unwrap());
        }
        let answer = json!({"jsonrpc": "2.0", "id": id, "result": result});
        let response = if script.streams {
            let before = script
                .notification
                .map(|note| format!("event: message\ndata: {note}\n\n"))
                .unwrap_or_default();
            let text = format!(": hello\n\n{before}event: message\ndata: {answer}\n\n");
            Response::builder()
                .header("content-type", "text/event-stream")
                .body(Full::from(text))
        } else {
            Response::builder()
                .header("content-type", "application/json")
                .body(Full::from(answer.to_string()))
        };
        Ok(response.unwrap())
    }
}

/// The answer to `tools/list`.
fn list(script: &Script, id: &Value, params: &Value) -> Value {
    if let Some((face, tools)) = &script.other_face
        && face == id
    {
        return json!({"tools": tools, "Tools": tools});
    }
    let page: usize = params["cursor"].as_str().and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
    let mut result = json!({"tools": script.pages.get(page).cloned().unwrap_or_default()});
    if page + 1 < script.pages.len() {
        result["nextCursor"] = (page + 1).to_string().into();
    }
    result
}
