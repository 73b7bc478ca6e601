//! A session with the MCP server of a service, in the era of sessions or in the one without.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Request, Response};
use serde_json::{Value, json};

use crate::app::core::Core;
use crate::app::proxy::Proxy;
use crate::app::proxy::adapter_call::AdapterAccess;
use crate::app::proxy::caller::{AdapterCaller, AdapterFacts, CallerAddress};
use crate::app::runtime_config::ActiveService;
use crate::app::tools::error::ToolError;
use crate::app::tools::exchange::{self, Answer, MAX_RESPONSE_BYTES};
use crate::base::secret::Secret;
use crate::flow::pins::MAX_TOOLS;
use crate::mcp::jsonrpc::{Message, RequestId};
use crate::mcp::revision::Revision;
use crate::mcp::tool::ToolDefinition;
use crate::net::body::ResponseBody;
use crate::net::http_client::HttpClient;

/// The most pages of a list of tools.
const MAX_PAGES: usize = 64;
/// The longest list of tools, in bytes of all its pages.
const MAX_LIST_BYTES: usize = 8 * 1024 * 1024;
/// How long a server may take to open a session, or to list its tools.
const LIST_TIMEOUT: Duration = Duration::from_secs(60);
/// The revision that a session begins with.
const WITH_SESSIONS: Revision = Revision::V2025_11_25;

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// With `initialize`.
    Sessions,
    /// Each request carries its metadata (MCP 2026-07-28).
    Stateless,
}

/// Who calls, and by what right.
#[derive(Clone, Debug)]
pub struct ToolAccess {
    /// The caller of the adapter.
    pub caller: AdapterCaller,
    /// The address of the caller.
    pub address: CallerAddress,
    /// The client's own token for the service.
    pub authorization: Option<Secret>,
    /// The client's headers for the MCP server.
    pub headers: Vec<(String, String)>,
    /// Whether the request also has tools that the gateway does not police.
    pub is_mixed: bool,
}

impl ToolAccess {
    /// The client's own token as a header. A token that no header can carry is none.
    fn bearer(&self) -> Option<HeaderValue> {
        let token = self.authorization.as_ref()?;
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose())).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// What a session's requests are sent with.
#[derive(Clone)]
pub(super) struct SessionWay {
    pub(super) core: Arc<Core>,
    pub(super) proxy: Arc<Proxy>,
    pub(super) http: HttpClient,
    pub(super) active: Arc<ActiveService>,
}

/// A request of a session.
struct SessionRequest<'a> {
    method: &'a str,
    params: Value,
    /// The tool that it calls.
    tool: Option<&'a str>,
    /// The longest response, in bytes.
    max_bytes: usize,
    is_client_approved: bool,
}

impl<'a> SessionRequest<'a> {
    /// A request that calls no tool.
    fn new(method: &'a str, params: Value, max_bytes: usize) -> Self {
        Self {
            method,
            params,
            tool: None,
            max_bytes,
            is_client_approved: false,
        }
    }
}

/// An open session. It ends at the server when it is dropped.
pub struct ToolSession {
    way: SessionWay,
    access: ToolAccess,
    era: Era,
    revision: String,
    session: Option<HeaderValue>,
    next_id: AtomicI64,
}

impl ToolSession {
    pub(super) async fn open(way: SessionWay, access: ToolAccess, era: Option<Era>) -> Result<Self, ToolError> {
        let mut session = Self {
            way,
            access,
            era: era.unwrap_or(Era::Sessions),
            revision: WITH_SESSIONS.as_str().to_owned(),
            session: None,
            next_id: AtomicI64::new(1),
        };
        if session.era == Era::Sessions {
            in_time(session.initialize()).await?;
        } else {
            Revision::V2026_07_28.as_str().clone_into(&mut session.revision);
        }
        Ok(session)
    }

    /// How the server is spoken to.
    pub fn era(&self) -> Era {
        self.era
    }

    /// The service.
    pub fn service(&self) -> &Arc<ActiveService> {
        &self.way.active
    }

    async fn initialize(&mut self) -> Result<(), ToolError> {
        let params = json!({
            "protocolVersion": self.revision,
            "capabilities": {},
            "clientInfo": {"name": "mcp-oauth-gateway", "version": env!("CARGO_PKG_VERSION")},
        });
        let Answer { result, session, .. } = match self.request(SessionRequest::new("initialize", params, MAX_LIST_BYTES)).await {
            Ok(answer) => answer,
            // A server of the later era knows no such method, or wants its own version.
            Err(
                ToolError::Protocol {
                    code: -32_601 | -32_602 | -32_022 | -32_000,
                    ..
                }
                | ToolError::Http {
                    status: 400 | 404 | 405, ..
                },
            ) => {
                self.forget_session();
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if let Some(revision) = result["protocolVersion"].as_str() {
            revision.clone_into(&mut self.revision);
        }
        self.session = session;
        let ready = Message::notification("notifications/initialized", Value::Null);
        let request = self.http_request(&ready, None);
        // Its response says nothing.
        let _accepted = send(&self.way, &self.access, request, false).await;
        Ok(())
    }

    fn forget_session(&mut self) {
        self.era = Era::Stateless;
        Revision::V2026_07_28.as_str().clone_into(&mut self.revision);
    }

    /// All tools, in the order of the server: at most 2,000, of 8 MiB, within 60 seconds.
    ///
    /// # Errors
    /// If the server does not answer, or its list exceeds a limit.
    pub async fn list_tools(&self) -> Result<Vec<ToolDefinition>, ToolError> {
        in_time(self.list_pages()).await
    }

    async fn list_pages(&self) -> Result<Vec<ToolDefinition>, ToolError> {
        let (mut tools, mut bytes_left) = (Vec::new(), MAX_LIST_BYTES);
        let mut params = json!({});
        for _ in 0..MAX_PAGES {
            let Answer { result, length, .. } = self.request(SessionRequest::new("tools/list", params, bytes_left)).await?;
            bytes_left = bytes_left.saturating_sub(length);
            let page = result["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
            tools.extend(page.iter().filter_map(ToolDefinition::from_value));
            if tools.len() > MAX_TOOLS {
                return Err(ToolError::malformed("the MCP server lists more than 2,000 tools"));
            }
            match result["nextCursor"].as_str() {
                Some(cursor) => params = json!({ "cursor": cursor }),
                None => return Ok(tools),
            }
        }
        Err(ToolError::malformed("the list of tools has too many pages"))
    }

    /// Says of each tool whether a person approved its definition, which says that the tool changes nothing.
    pub async fn are_approved_read_only(&self, tools: &[ToolDefinition]) -> Vec<bool> {
        self.way.proxy.are_approved_read_only(&self.way.active.service, tools).await
    }

    /// Calls a tool, and returns its result (`CallToolResult`). `is_client_approved`: the client approved this very
    /// call.
    ///
    /// # Errors
    /// If the server does not answer, or answers with an error.
    pub async fn call(&self, name: &str, arguments: Value, is_client_approved: bool) -> Result<Value, ToolError> {
        let params = json!({"name": name, "arguments": arguments});
        let call = SessionRequest {
            tool: Some(name),
            is_client_approved,
            ..SessionRequest::new("tools/call", params, MAX_RESPONSE_BYTES)
        };
        let result = self.request(call).await?.result;
        if result["resultType"] == "input_required" {
            return Err(ToolError::malformed(
                "the tool wants input of a person, which this client cannot give",
            ));
        }
        Ok(result)
    }

    async fn request(&self, request: SessionRequest<'_>) -> Result<Answer, ToolError> {
        let mut params = request.params;
        if self.era == Era::Stateless {
            params["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": self.revision,
                "io.modelcontextprotocol/clientInfo": {"name": "mcp-oauth-gateway", "version": env!("CARGO_PKG_VERSION")},
                "io.modelcontextprotocol/clientCapabilities": {},
            });
        }
        let number = self.next_id.fetch_add(1, Ordering::Relaxed);
        let Some(id) = RequestId::new(Value::from(number)) else {
            return Err(ToolError::malformed("no request id"));
        };
        let message = Message::request(id.clone(), request.method, params);
        let http_request = self.http_request(&message, request.tool);
        let response = send(&self.way, &self.access, http_request, request.is_client_approved).await?;
        exchange::read(response, &id, request.max_bytes).await
    }

    fn http_request(&self, message: &Message, name: Option<&str>) -> Request<Bytes> {
        let mut headers = HeaderMap::new();
        for (header, value) in &self.access.headers {
            if let (Ok(header), Ok(value)) = (header.parse::<HeaderName>(), HeaderValue::from_str(value)) {
                headers.insert(header, value);
            }
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        headers.insert(USER_AGENT, HeaderValue::from_static("mcp-oauth-gateway"));
        headers.remove(AUTHORIZATION);
        if let Some(value) = self.access.bearer() {
            headers.insert(AUTHORIZATION, value);
        }
        let mut put = |header: &'static str, text: &str| match HeaderValue::from_str(text) {
            Ok(value) => {
                headers.insert(header, value);
            }
            // A name outside of ASCII has no header form that all servers read.
            Err(_) => {
                headers.remove(header);
            }
        };
        if message.method() != Some("initialize") {
            put("mcp-protocol-version", &self.revision);
        }
        if self.era == Era::Stateless {
            put("mcp-method", message.method().unwrap_or_default());
            if let Some(name) = name {
                put("mcp-name", name);
            }
        }
        if let Some(session) = &self.session {
            headers.insert("mcp-session-id", session.clone());
        }
        let mut request = Request::new(Bytes::from(message.to_text()));
        *request.method_mut() = Method::POST;
        *request.headers_mut() = headers;
        request
    }
}

impl Drop for ToolSession {
    /// Ends the session at the server, detached. A server that keeps no sessions refuses, which changes nothing.
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = Method::DELETE;
        request.headers_mut().insert("mcp-session-id", session);
        let (mut way, access) = (self.way.clone(), self.access.clone());
        way.http = way.core.tasks.http().clone();
        let core = Arc::clone(&way.core);
        core.tasks.spawn(async move {
            if let Some(value) = access.bearer() {
                request.headers_mut().insert(AUTHORIZATION, value);
            }
            let _ended = send(&way, &access, request, false).await;
        });
    }
}

/// Waits for a server, for at most [`LIST_TIMEOUT`].
async fn in_time<T>(work: impl Future<Output = Result<T, ToolError>>) -> Result<T, ToolError> {
    let late = |_| Err(ToolError::malformed("the MCP server does not answer within 60 seconds"));
    tokio::time::timeout(LIST_TIMEOUT, work).await.unwrap_or_else(late)
}

async fn send(
    way: &SessionWay,
    access: &ToolAccess,
    request: Request<Bytes>,
    is_client_approved: bool,
) -> Result<Response<ResponseBody>, ToolError> {
    let adapter = AdapterAccess {
        caller: Some(access.caller.clone()),
        address: access.address,
        facts: AdapterFacts {
            is_mixed: access.is_mixed,
            is_client_approved,
        },
    };
    // Boxed: large, and in the futures of all requests of a session.
    let sent = Box::pin(way.proxy.call(&way.http, &way.active, request, adapter)).await;
    sent.map_err(|error| ToolError::of(&error, &way.active.service.name))
}
