//! The requests of one run: sent once each, without credentials, with what they showed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode};

use crate::agent::doctor::report::Finding;
use crate::agent::doctor::rule::{self, Rule};
use crate::base::special_ip::{self, AddressKind};
use crate::base::url::ExactUrl;
use crate::net::body::{self, RequestBody};
use crate::net::dial::AddressPolicy;
use crate::net::http_client::{ConnectError, HttpClient, RequestPolicy, SendError};
use crate::upstream::fetch;

/// The longest time for one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time for an answer to an unfinished request.
const EARLY_TIMEOUT: Duration = Duration::from_secs(4);
/// A URL that was silent so often is not asked again, whatever the headers are.
const MAX_SILENCES: usize = 2;
/// The most requests of one run: a server must not be able to keep the doctor busy.
const MAX_REQUESTS: usize = 1_000;
/// The most characters of a server's text in a finding.
const MAX_SHOWN_CHARS: usize = 200;

/// A request. Equal requests are sent once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) url: String,
    /// Names in lower case.
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
}

impl Call {
    pub(super) fn new(method: Method, url: &str) -> Self {
        Self {
            method,
            url: url.to_owned(),
            headers: Vec::new(),
            body: String::new(),
        }
    }

    /// A GET for JSON.
    pub(super) fn get(url: &str) -> Self {
        Self::new(Method::GET, url).with("accept", "application/json")
    }

    /// A POST of a form, as the token endpoint takes it.
    pub(super) fn form(url: &str, body: String) -> Self {
        let call = Self::new(Method::POST, url).with("accept", "application/json");
        call.with("content-type", "application/x-www-form-urlencoded").body(body)
    }

    /// A registration request whose body is not JSON: it registers nothing, wherever it arrives.
    pub(super) fn broken_registration(url: &str) -> Self {
        let call = Self::new(Method::POST, url).with("content-type", "application/json");
        call.with("accept", "application/json").body("{".to_owned())
    }

    /// Adds a header.
    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Adds a header, if there is a value.
    pub(super) fn with_some(self, name: &'static str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    pub(super) fn body(mut self, body: String) -> Self {
        self.body = body;
        self
    }

    fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(known, _)| *known == name)
    }
}

/// A response.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Empty for an event stream, which may be endless.
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The media type, in lower case, without parameters.
    pub(super) fn media_type(&self) -> String {
        let value = self.header(CONTENT_TYPE.as_str()).unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// The status and the media type, for a finding.
    pub(super) fn shown(&self) -> String {
        match self.media_type() {
            kind if kind.is_empty() => format!("status {}", self.status.as_u16()),
            kind => format!("status {}, {}", self.status.as_u16(), printable(&kind)),
        }
    }
}

/// Why there is no response.
#[derive(Clone, Debug)]
pub(super) struct Silence {
    pub(super) rule: &'static Rule,
    pub(super) why: String,
}

/// The result of a request.
pub(super) type Reply = Result<Arc<Answer>, Silence>;

/// The state of one run.
pub(super) struct Session<'a> {
    http: &'a HttpClient,
    /// The MCP server.
    pub(super) mcp: ExactUrl,
    replies: HashMap<Call, Reply>,
    silent: HashMap<String, Vec<Silence>>,
    peers: Vec<IpAddr>,
    findings: Vec<Finding>,
    sent: usize,
}

impl<'a> Session<'a> {
    pub(super) fn new(http: &'a HttpClient, mcp: &ExactUrl) -> Self {
        Self {
            http,
            mcp: mcp.clone(),
            replies: HashMap::new(),
            silent: HashMap::new(),
            peers: Vec::new(),
            findings: Vec::new(),
            sent: 0,
        }
    }

    /// Whether the MCP server answers a POST whose body never ends. `None`: it is not reached.
    pub(super) async fn answers_early(&mut self) -> Option<bool> {
        self.sent += 1;
        let call = Call::new(Method::POST, self.mcp.as_str()).with("content-type", "application/json");
        let (head, _) = request(&call)?.into_parts();
        let body = RequestBody::Unfinished(Bytes::from_static(b"{\"jsonrpc\":"));
        let policy = RequestPolicy::for_configured(REQUEST_TIMEOUT / 2, Some(EARLY_TIMEOUT));
        match self.http.send(Request::from_parts(head, body), &policy).await {
            Ok(_) => Some(true),
            Err(SendError::TimedOut) => Some(false),
            Err(SendError::Refused(_) | SendError::Connect(_) | SendError::Broken(_)) => None,
        }
    }

    /// Sends a request, or returns the reply to an equal one. Does not follow redirects.
    pub(super) async fn ask(&mut self, call: &Call) -> Reply {
        if let Some(reply) = self.replies.get(call) {
            return reply.clone();
        }
        let silences = self.silent.get(&call.url).cloned().unwrap_or_default();
        let reply = if let Some(silence) = silences.get(MAX_SILENCES - 1) {
            Err(silence.clone())
        } else if self.sent < MAX_REQUESTS {
            self.send(call).await.map(Arc::new)
        } else {
            Err(Silence {
                rule: &rule::UNREACHABLE,
                why: format!("not asked: {MAX_REQUESTS} requests were sent already"),
            })
        };
        self.replies.insert(call.clone(), reply.clone());
        match &reply {
            Ok(answer) => self.judge_encoding(call, answer),
            Err(silence) => self.silent.entry(call.url.clone()).or_default().push(silence.clone()),
        }
        reply
    }

    async fn send(&mut self, call: &Call) -> Result<Answer, Silence> {
        self.sent += 1;
        let unreachable = |why: String| Silence {
            rule: &rule::UNREACHABLE,
            why,
        };
        let url = ExactUrl::parse(&call.url).map_err(|error| unreachable(format!("the URL {error}")))?;
        let request = request(call).ok_or_else(|| unreachable("the request cannot be built".to_owned()))?;
        let is_own = url.origin() == self.mcp.origin();
        let policy = RequestPolicy {
            addresses: if is_own { AddressPolicy::Anything } else { self.named_addresses() },
            connect: REQUEST_TIMEOUT / 2,
            first_byte: Some(REQUEST_TIMEOUT),
            http2: false,
        };
        let response = if is_own && self.peers.is_empty() {
            let sent = self.http.send_on_new_connection(request, &policy).await;
            sent.map(|(response, peer)| {
                self.peers.push(peer);
                response
            })
        } else {
            self.http.send(request, &policy).await
        };
        let (head, body) = response.map_err(|error| silence(&error))?.into_parts();
        let body = if body::is_event_stream(&head.headers) {
            Bytes::new()
        } else {
            let read = body::read_limited(body, fetch::MAX_RESPONSE_BYTES, REQUEST_TIMEOUT).await;
            read.map_err(|error| unreachable(error.to_string()))?
        };
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    /// The addresses that a server may name: a public one none of a private network (SSRF).
    fn named_addresses(&self) -> AddressPolicy {
        let plain_http = self.mcp.url().scheme() == "http";
        AddressPolicy::for_upstream_at(&self.peers, plain_http, Arc::new([]))
    }

    fn judge_encoding(&mut self, call: &Call, answer: &Answer) {
        let encoding = answer.header(CONTENT_ENCODING.as_str()).unwrap_or("identity").to_owned();
        if encoding != "identity" && !call.has(ACCEPT_ENCODING.as_str()) {
            self.note(
                &rule::METADATA_COMPRESSED,
                &call.url,
                format!("content-encoding {}", printable(&encoding)),
            );
        }
    }

    /// Whether the MCP server was reached.
    pub(super) fn is_reached(&self) -> bool {
        !self.peers.is_empty()
    }

    /// Notes something that concerns all clients.
    pub(super) fn note(&mut self, rule: &'static Rule, at: &str, detail: String) {
        self.finding(rule, at, detail);
    }

    /// Notes something that concerns this client.
    pub(super) fn note_for(&mut self, client: &'static str, rule: &'static Rule, at: &str, detail: String) {
        let finding = self.finding(rule, at, detail);
        if !finding.clients.contains(&client) {
            finding.clients.push(client);
        }
    }

    fn finding(&mut self, rule: &'static Rule, at: &str, detail: String) -> &mut Finding {
        let at = at.split('?').next().unwrap_or_default();
        let index = self.findings.iter().position(|known| known.rule == rule && known.at == at);
        let index = index.unwrap_or_else(|| {
            self.findings.push(Finding {
                rule,
                at: at.to_owned(),
                detail,
                clients: Vec::new(),
            });
            self.findings.len() - 1
        });
        &mut self.findings[index]
    }

    /// Ends the run: the findings, and the number of requests.
    pub(super) fn finish(mut self) -> Finished {
        let order = |finding: &Finding| rule::RULES.iter().position(|rule| *rule == finding.rule);
        self.findings.sort_by_key(|finding| (finding.rule.severity, order(finding)));
        Finished {
            findings: self.findings,
            requests: self.sent,
            is_reached: !self.peers.is_empty(),
            is_local: self.peers.iter().any(|peer| special_ip::address_kind(*peer) != AddressKind::Global),
        }
    }
}

/// What remains of a run.
pub(super) struct Finished {
    pub(super) findings: Vec<Finding>,
    pub(super) requests: usize,
    pub(super) is_reached: bool,
    /// Whether the server is at a loopback or private address.
    pub(super) is_local: bool,
}

fn request(call: &Call) -> Option<Request<RequestBody>> {
    let mut builder = Request::builder().method(call.method.clone()).uri(&call.url);
    for (name, value) in &call.headers {
        builder = builder.header(*name, value);
    }
    for (name, value) in [(ACCEPT, "*/*"), (ACCEPT_ENCODING, "identity"), (USER_AGENT, fetch::USER_AGENT)] {
        if !call.has(name.as_str()) {
            builder = builder.header(name, value);
        }
    }
    let body = match call.body.as_str() {
        "" => RequestBody::Empty,
        text => RequestBody::Full(Bytes::from(text.to_owned())),
    };
    builder.body(body).ok()
}

fn silence(error: &SendError) -> Silence {
    let rule = match error {
        SendError::Connect(ConnectError::Tls(_)) => &rule::TLS_FAILED,
        SendError::Refused(_) => &rule::ADDRESS_REFUSED,
        SendError::Connect(_) | SendError::TimedOut | SendError::Broken(_) => &rule::UNREACHABLE,
    };
    Silence {
        rule,
        why: error.to_string(),
    }
}

/// A server's text, shortened, without control characters: it is printed on a terminal.
pub(super) fn printable(text: &str) -> String {
    let shown = text.chars().take(MAX_SHOWN_CHARS);
    shown.map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect()
}
