//! A sound MCP server with its authorization server, and the changes that break it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use mcp_oauth_gateway::net::body::{ResponseBody, read_limited};
use mcp_oauth_gateway::net::listen;
use mcp_oauth_gateway::net::server::{self, ServerLimits};
use mcp_oauth_gateway::net::tls::{self, ServerTls};
use mcp_oauth_gateway::net::{self_signed, self_signed::SelfSigned};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What a sound server is like.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about a server")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// The path of the MCP endpoint.
    pub mcp: &'static str,
    /// What follows the origin in the issuer.
    pub issuer: &'static str,
    /// Where the authorization server's metadata is, beginning at the origin.
    pub metadata: &'static str,
    /// Where the resource metadata is; empty: nowhere.
    pub resource: &'static str,
    pub registers: bool,
    pub takes_documents: bool,
    pub promises_iss: bool,
    /// Whether something in front waits for the whole body of a request.
    pub buffers: bool,
    pub access: Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    OAuth,
    Key,
    Public,
}

/// Issuer at the origin, registration, a challenge: what most servers are.
pub(crate) const USUAL: Kind = Kind {
    mcp: "/mcp",
    issuer: "",
    metadata: "/.well-known/oauth-authorization-server",
    resource: "/.well-known/oauth-protected-resource/mcp",
    registers: true,
    takes_documents: false,
    promises_iss: true,
    buffers: false,
    access: Access::OAuth,
};

/// What is wrong with the answers to some requests. `{base}` and `{other}` are origins of the server,
/// `{http}` is its origin without TLS.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Status(u16),
    Header(&'static str, &'static str),
    NoHeader(&'static str),
    /// Content type and body.
    Body(&'static str, &'static str),
    /// A member of the JSON body, as JSON.
    Member(&'static str, &'static str),
    NoMember(&'static str),
    /// A member with a text of this length.
    LongMember(usize),
}

/// Which requests get a changed answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mutation {
    /// `METHOD /path`, separated by commas; `*` for any method.
    pub on: &'static str,
    /// Only requests with this text in head or body.
    pub only: &'static str,
    pub changes: &'static [Change],
}

pub(crate) struct Running {
    pub base: String,
    pub ca: Option<SelfSigned>,
    _dir: Option<tempfile::TempDir>,
    _stop: DropGuard,
}

/// A response that is being made.
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Reply {
    fn new(status: u16, kind: &str, body: &impl ToString) -> Self {
        let headers = vec![
            ("content-type".to_owned(), kind.to_owned()),
            ("access-control-allow-origin".to_owned(), "*".to_owned()),
            (
                "access-control-expose-headers".to_owned(),
                "WWW-Authenticate, Mcp-Session-Id".to_owned(),
            ),
        ];
        let body = body.to_string();
        Self { status, headers, body }
    }

    fn json(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json", &body)
    }

    fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.headers.push((name.to_owned(), value.to_owned()));
        }
    }

    fn apply(&mut self, change: Change, base: &str) {
        let filled = |text: &str| fill(text, base);
        match change {
            Change::Status(status) => self.status = status,
            Change::Header(name, value) => self.set(name, &filled(value)),
            Change::NoHeader(name) => self.set(name, ""),
            Change::Body(kind, body) => {
                self.set("content-type", kind);
                self.body = filled(body);
            }
            Change::Member(name, value) => self.member(name, serde_json::from_str(&filled(value)).unwrap()),
            Change::NoMember(name) => self.member(name, Value::Null),
            Change::LongMember(length) => self.member("padding", "x".repeat(length).into()),
        }
    }

    fn member(&mut self, name: &str, value: Value) {
        let mut body: Value = serde_json::from_str(&self.body).unwrap();
        let members = body.as_object_mut().unwrap();
        members.remove(name);
        if !value.is_null() {
            members.insert(name.to_owned(), value);
        }
        self.body = body.to_string();
    }
}

fn fill(text: &str, base: &str) -> String {
    let other = base.replace("127.0.0.1", "localhost");
    let other = if other == base {
        base.replace("localhost", "127.0.0.1")
    } else {
        other
    };
    let text = text.replace("{base}", base).replace("{other}", &other);
    text.replace("{http}", &base.replace("https:", "http:"))
}

/// What a request is, as far as the server cares.
struct Asked {
    method: String,
    path: String,
    query: String,
    headers: HeaderMap,
    body: String,
}

impl Running {
    pub(crate) fn start(kind: Kind, mutations: &'static [Mutation], with_tls: bool) -> Self {
        tls::install_provider();
        let listener = listen::bind(([127, 0, 0, 1], 0).into(), false).unwrap();
        let port = listener.local_addr().unwrap().port();
        let dir = with_tls.then(|| tempfile::tempdir().unwrap());
        let ca = dir.as_ref().map(|dir| self_signed::self_signed(dir.path(), &[]).unwrap());
        let tls = ca
            .clone()
            .map(|made| Arc::new(ServerTls::by_server_name(made.named, made.unnamed).unwrap()));
        let base = if with_tls {
            format!("https://localhost:{port}")
        } else {
            format!("http://127.0.0.1:{port}")
        };
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        let own = base.clone();
        let handler = move |request: Request<Incoming>, _| {
            let base = own.clone();
            async move { respond(kind, mutations, &base, request).await }
        };
        tokio::spawn(server::serve(listener, tls, ServerLimits::default(), stop, handler));
        Self {
            base,
            ca,
            _dir: dir,
            _stop: guard,
        }
    }
}

async fn respond(kind: Kind, mutations: &[Mutation], base: &str, request: Request<Incoming>) -> Response<ResponseBody> {
    let (head, body) = request.into_parts();
    let is_refused_early = head.uri.path() == kind.mcp && kind.access != Access::Public && !kind.buffers;
    let body = if is_refused_early {
        Bytes::new()
    } else {
        read_limited(body, 1 << 20, Duration::from_secs(30)).await.unwrap_or_default()
    };
    let asked = Asked {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    let mut reply = if asked.method == "OPTIONS" {
        preflight()
    } else {
        sound(kind, base, &asked)
    };
    for mutation in mutations.iter().filter(|mutation| concerns(mutation, &asked)) {
        for change in mutation.changes {
            reply.apply(*change, base);
        }
    }
    let mut response = Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    response.body(ResponseBody::Full(Bytes::from(reply.body))).unwrap()
}

fn concerns(mutation: &Mutation, asked: &Asked) -> bool {
    let is_named = mutation.on.split(',').any(|on| {
        let (method, path) = on.split_once(' ').unwrap();
        (method == "*" || method == asked.method) && path == asked.path
    });
    let whole = format!("{}\n{:?}\n{}", asked.query, asked.headers, asked.body);
    is_named && whole.contains(mutation.only)
}

fn preflight() -> Reply {
    let mut reply = Reply::new(204, "text/plain", &"");
    reply.set("access-control-allow-headers", "Content-Type, Authorization, MCP-Protocol-Version");
    reply.set("access-control-allow-methods", "GET, POST, DELETE");
    reply
}

fn sound(kind: Kind, base: &str, asked: &Asked) -> Reply {
    let path = asked.path.as_str();
    let has_oauth = kind.access == Access::OAuth;
    match (asked.method.as_str(), path) {
        (_, path) if path == kind.mcp => mcp(kind, base, asked),
        ("GET", path) if has_oauth && (path == kind.resource || path == "/elsewhere") => resource(kind, base),
        ("GET", path) if has_oauth && path == kind.metadata => metadata(kind, base),
        ("POST", "/register") if has_oauth && kind.registers => register(asked),
        ("GET", "/authorize") if has_oauth => authorize(asked),
        ("POST", "/token") if has_oauth => Reply::json(400, &json!({ "error": "invalid_grant", "error_description": "unknown" })),
        _ => Reply::json(404, &json!({ "error": "not_found" })),
    }
}

fn mcp(kind: Kind, base: &str, asked: &Asked) -> Reply {
    let challenge = match kind.access {
        Access::Public => return open(asked),
        Access::Key => "Bearer".to_owned(),
        Access::OAuth if kind.resource.is_empty() => r#"Bearer realm="mcp""#.to_owned(),
        Access::OAuth => format!(r#"Bearer resource_metadata="{base}{}", scope="read""#, kind.resource),
    };
    let mut reply = Reply::json(401, &json!({ "error": "Unauthorized" }));
    let error = match (asked.headers.contains_key("authorization"), challenge.contains('=')) {
        (false, _) => "",
        (true, true) => r#", error="invalid_token""#,
        (true, false) => r#" error="invalid_token""#,
    };
    reply.set("www-authenticate", &format!("{challenge}{error}"));
    reply
}

fn open(asked: &Asked) -> Reply {
    let body: Value = serde_json::from_str(&asked.body).unwrap_or_default();
    let error = |status, code| {
        Reply::json(
            status,
            &json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": code, "message": "no" } }),
        )
    };
    match (asked.method.as_str(), body["method"].as_str()) {
        ("GET" | "HEAD", _) => Reply::json(405, &json!({ "error": "method_not_allowed" })),
        (_, Some("initialize")) => {
            let result = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": { "name": "sound", "version": "1" } });
            Reply::json(200, &json!({ "jsonrpc": "2.0", "id": 1, "result": result }))
        }
        _ => error(404, -32_601),
    }
}

fn resource(kind: Kind, base: &str) -> Reply {
    let body = json!({
        "resource": format!("{base}{}", kind.mcp),
        "authorization_servers": [format!("{base}{}", kind.issuer)],
        "scopes_supported": ["read"],
        "bearer_methods_supported": ["header"],
    });
    Reply::json(200, &body)
}

fn metadata(kind: Kind, base: &str) -> Reply {
    let mut body = json!({
        "issuer": format!("{base}{}", kind.issuer),
        "authorization_endpoint": format!("{base}/authorize"),
        "token_endpoint": format!("{base}/token"),
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_methods_supported": ["none"],
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": ["read"],
    });
    for (member, value) in [
        ("registration_endpoint", kind.registers.then(|| format!("{base}/register").into())),
        (
            "client_id_metadata_document_supported",
            kind.takes_documents.then_some(Value::Bool(true)),
        ),
        (
            "authorization_response_iss_parameter_supported",
            kind.promises_iss.then_some(Value::Bool(true)),
        ),
    ] {
        if let Some(value) = value {
            body[member] = value;
        }
    }
    Reply::json(200, &body)
}

fn register(asked: &Asked) -> Reply {
    match serde_json::from_str::<Value>(&asked.body) {
        Ok(mut body) if body["redirect_uris"].is_array() => {
            body["client_id"] = "registered".into();
            Reply::json(201, &body)
        }
        Ok(_) | Err(_) => Reply::json(400, &json!({ "error": "invalid_client_metadata" })),
    }
}

fn authorize(asked: &Asked) -> Reply {
    let known = ["client_id=registered", "client_id=https%3A%2F%2F"];
    if known.iter().any(|id| asked.query.contains(id)) && asked.query.contains("code_challenge_method=S256") {
        Reply::new(200, "text/html", &"<form>")
    } else {
        Reply::new(400, "text/html", &"unknown client")
    }
}
