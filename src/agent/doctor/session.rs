//! The requests of one run, without credentials, and its findings. Equal requests are sent once.

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

/// The timeout of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout of the response to a request whose body does not end.
const EARLY_TIMEOUT: Duration = Duration::from_secs(4);
/// The number of unanswered requests after which a URL gets no further request.
const MAX_UNANSWERED: usize = 2;
/// The maximum number of requests of one run. Without it, a server could make the doctor run for ever.
const MAX_REQUESTS: usize = 1_000;
/// The maximum number of characters of a server's text in a finding.
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

    /// A POST of a form, as for the token endpoint.
    pub(super) fn form(url: &str, body: String) -> Self {
        let call = Self::new(Method::POST, url).with("accept", "application/json");
        call.with("content-type", "application/x-www-form-urlencoded").body(body)
    }

    /// A registration request whose body is not JSON, so that no server registers anything.
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
    /// The body; empty for an event stream, which may be endless.
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
    pub(super) fn summary(&self) -> String {
        match self.media_type() {
            kind if kind.is_empty() => format!("status {}", self.status.as_u16()),
            kind => format!("status {}, {}", self.status.as_u16(), printable(&kind)),
        }
    }
}

/// The reason why there is no response.
#[derive(Clone, Debug)]
pub(super) struct NoResponse {
    pub(super) rule: &'static Rule,
    pub(super) why: String,
}

/// The result of a request.
pub(super) type Reply = Result<Arc<Answer>, NoResponse>;

/// The state of one run.
pub(super) struct Session<'a> {
    http: &'a HttpClient,
    /// The MCP server.
    pub(super) mcp: ExactUrl,
    replies: HashMap<Call, Reply>,
    unanswered: HashMap<String, Vec<NoResponse>>,
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
            unanswered: HashMap::new(),
            peers: Vec::new(),
            findings: Vec::new(),
            sent: 0,
        }
    }

    /// Whether the MCP server answers a POST whose body never ends. `None`: the server is not reached.
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
        let failures = self.unanswered.get(&call.url).cloned().unwrap_or_default();
        let reply = if let Some(failure) = failures.get(MAX_UNANSWERED - 1) {
            Err(failure.clone())
        } else if self.sent < MAX_REQUESTS {
            self.send(call).await.map(Arc::new)
        } else {
            Err(NoResponse {
                rule: &rule::UNREACHABLE,
                why: format!("not requested: {MAX_REQUESTS} requests were sent already"),
            })
        };
        self.replies.insert(call.clone(), reply.clone());
        match &reply {
            Ok(answer) => self.check_encoding(call, answer),
            Err(failure) => self.unanswered.entry(call.url.clone()).or_default().push(failure.clone()),
        }
        reply
    }

    async fn send(&mut self, call: &Call) -> Result<Answer, NoResponse> {
        self.sent += 1;
        let unreachable = |why: String| NoResponse {
            rule: &rule::UNREACHABLE,
            why,
        };
        let url = ExactUrl::parse(&call.url).map_err(|error| unreachable(format!("the URL {error}")))?;
        let request = request(call).ok_or_else(|| unreachable("the request cannot be built".to_owned()))?;
        let is_own = url.origin() == self.mcp.origin();
        let policy = RequestPolicy {
            addresses: if is_own { AddressPolicy::Anything } else { self.address_policy() },
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
        let (head, body) = response.map_err(|error| no_response(&error))?.into_parts();
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

    /// The policy for addresses that the server names. A public server may name no private address (SSRF).
    fn address_policy(&self) -> AddressPolicy {
        let plain_http = self.mcp.url().scheme() == "http";
        AddressPolicy::for_upstream_at(&self.peers, plain_http, Arc::new([]))
    }

    fn check_encoding(&mut self, call: &Call, answer: &Answer) {
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

    /// Notes a finding that affects all clients.
    pub(super) fn note(&mut self, rule: &'static Rule, at: &str, detail: String) {
        self.finding(rule, at, detail);
    }

    /// Notes a finding that affects this client.
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

    /// Ends the run. Returns the findings and the number of requests.
    pub(super) fn finish(mut self) -> RunResult {
        let order = |finding: &Finding| rule::RULES.iter().position(|rule| *rule == finding.rule);
        self.findings.sort_by_key(|finding| (finding.rule.severity, order(finding)));
        RunResult {
            findings: self.findings,
            requests: self.sent,
            is_reached: !self.peers.is_empty(),
            is_local: self.peers.iter().any(|peer| special_ip::address_kind(*peer) != AddressKind::Global),
        }
    }
}

/// The results of a run.
pub(super) struct RunResult {
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

fn no_response(error: &SendError) -> NoResponse {
    let rule = match error {
        SendError::Connect(ConnectError::Tls(_)) => &rule::TLS_FAILED,
        SendError::Refused(_) => &rule::ADDRESS_REFUSED,
        SendError::Connect(_) | SendError::TimedOut | SendError::Broken(_) => &rule::UNREACHABLE,
    };
    NoResponse {
        rule,
        why: error.to_string(),
    }
}

/// The begin of a server's text without control characters, for a terminal.
pub(super) fn printable(text: &str) -> String {
    let shown = text.chars().take(MAX_SHOWN_CHARS);
    shown.map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect()
}
