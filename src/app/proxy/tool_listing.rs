//! The gateway's own list of a service's tools, and what it says about a call.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::{ACCEPT, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use crate::app::approvals::Listing;
use crate::app::proxy::Proxy;
use crate::app::proxy::error::ProxyError;
use crate::app::proxy::mcp_response::{self, ReadError};
use crate::app::proxy::own_id;
use crate::app::proxy::tool_answer;
use crate::app::proxy::tool_context::CallContext;
use crate::app::proxy::tool_context::Checked;
use crate::base::ids::Digest;
use crate::flow::pins::{MAX_TOOLS, Pinned};
use crate::mcp::jsonrpc::{INVALID_PARAMS, METHOD_NOT_FOUND, Message, RequestId};
use crate::mcp::tool::{PinStatus, ToolDefinition};
use crate::net::body::{RequestBody, ResponseBody};
use crate::net::http_client::HttpClient;
use crate::service::tool_policy::{FirstSight, PinRule, RuleSource, ToolDecision};
use crate::store::TransitionError;

/// The most pages of a list.
const MAX_PAGES: usize = 64;
/// How long one page may take.
const PAGE_TIMEOUT: Duration = Duration::from_secs(60);
const MCP_METHOD: HeaderName = HeaderName::from_static("mcp-method");
const MCP_NAME: HeaderName = HeaderName::from_static("mcp-name");

/// What is known of the tools of a service.
pub(super) enum KnownTools {
    /// Definitions are not pinned.
    NotPinned,
    /// The last list of the caller, and the pins of the service.
    Pinned(Arc<Listing>, Box<Pinned>),
}

impl KnownTools {
    /// How the definition of a tool compares with its pin, and its digest.
    pub(super) fn status(&self, tool: &str) -> (PinStatus, Option<Digest>) {
        match self {
            Self::NotPinned => (PinStatus::Off, None),
            Self::Pinned(listing, pins) => {
                let listed = listing.digest(tool);
                (pins.status(tool, listed), listed.cloned())
            }
        }
    }

    /// How a definition compares with its pin.
    pub(super) fn status_of(&self, tool: &ToolDefinition) -> PinStatus {
        match self {
            Self::NotPinned => PinStatus::Off,
            Self::Pinned(_, pins) => pins.status(tool.name(), Some(&tool.digest())),
        }
    }

    /// Whether the gateway's own list has this very definition.
    pub(super) fn is_listed(&self, tool: &ToolDefinition) -> bool {
        match self {
            Self::NotPinned => true,
            Self::Pinned(listing, _) => listing.digest(tool.name()) == Some(&tool.digest()),
        }
    }

    /// The pinned part of the definition that counts, if it is kept.
    pub(super) fn pinned_part(&self, tool: &str) -> Option<Map<String, Value>> {
        match self {
            Self::NotPinned => None,
            Self::Pinned(_, pins) => pins.pinned_part(tool),
        }
    }
}

/// A call, and what the policy says about it.
pub(super) struct DecidedCall {
    /// The tool.
    pub(super) tool: String,
    /// What the policy says.
    pub(super) decision: ToolDecision,
    /// The digest of the tool's definition.
    pub(super) pin: Option<Digest>,
    /// The call has no `requestState`, or one that is not the gateway's.
    pub(super) has_foreign_state: bool,
}

/// The tools cannot be listed: the error, or the response of the upstream that is relayed instead.
pub(super) enum ListFailure {
    Proxy(ProxyError),
    Relay(Box<Response<ResponseBody>>),
}

impl From<ProxyError> for ListFailure {
    fn from(error: ProxyError) -> Self {
        Self::Proxy(error)
    }
}

impl Proxy {
    /// Decides about a call. The inner error is a response to the caller.
    pub(super) async fn decide(
        self: &Arc<Self>,
        checked: &Checked<'_>,
        message: &Message,
    ) -> Result<Result<DecidedCall, Response<ResponseBody>>, ProxyError> {
        let Some(tool) = message.param("name").and_then(Value::as_str) else {
            let text = "the call names no tool: params.name is missing";
            return Ok(Err(tool_answer::bad_request(message.id().cloned(), INVALID_PARAMS, text)));
        };
        let known = match self.known_tools(checked, message).await {
            Ok(known) => known,
            Err(ListFailure::Proxy(error)) => return Err(error),
            Err(ListFailure::Relay(response)) => return Ok(Err(*response)),
        };
        let (status, pin) = known.status(tool);
        let mut decision = checked.policy.decide(tool, status);
        let facts = checked.context.facts;
        if facts.is_mixed {
            decision = checked.policy.at_least_mixed(decision);
        }
        if facts.is_client_approved {
            decision = checked.policy.approved_by_client(decision);
        }
        if decision.source == RuleSource::ClientApproval {
            let service = &checked.context.active.service.name;
            tracing::info!(service, tool, "the vendor's client approved a tool call");
        }
        if checked.policy.pin == PinRule::Warn && matches!(status, PinStatus::Changed | PinStatus::New) {
            let service = &checked.context.active.service.name;
            tracing::warn!(
                service,
                tool,
                "the definition of a tool is not the pinned one; see: mcp-oauth-gateway pins diff"
            );
        }
        let state = message.param("requestState").and_then(Value::as_str);
        Ok(Ok(DecidedCall {
            tool: tool.to_owned(),
            decision,
            pin,
            has_foreign_state: !state.is_some_and(|state| state.starts_with(crate::app::approvals::request_state::PREFIX)),
        }))
    }

    /// The tools of the service, as the caller sees them, and their pins. They are listed again after ten
    /// minutes, or once the upstream said that they changed.
    pub(super) async fn known_tools(self: &Arc<Self>, checked: &Checked<'_>, message: &Message) -> Result<KnownTools, ListFailure> {
        let (context, policy) = (&checked.context, checked.policy);
        if policy.pin == PinRule::Off {
            return Ok(KnownTools::NotPinned);
        }
        let (key, service) = (context.listing_key(), &context.active.service.name);
        let unreadable = |error: &dyn std::fmt::Display| {
            tracing::error!(service, %error, "the pins of the tools cannot be read, so no tool is called");
            ProxyError::ApprovalsUnavailable
        };
        if let Some(listing) = self.approvals.listing(&key) {
            let pins = self.approvals.admin().pins(service).await.map_err(|error| unreadable(&error))?;
            if let Some(pins) = pins {
                return Ok(KnownTools::Pinned(listing, Box::new(pins)));
            }
        }
        let epoch = self.approvals.listing_epoch(service).load(Ordering::Acquire);
        let tools = self.fetch_tools(checked.http, context, message).await?;
        let is_quarantined = policy.first_sight == FirstSight::Quarantine;
        let pins = match self.approvals.note_tools(service, &tools, is_quarantined).await {
            Ok(pins) => pins,
            Err(TransitionError::Rejected(error)) => return Err(unreadable(&error).into()),
            Err(error) => return Err(unreadable(&error).into()),
        };
        let listing = self.approvals.remember_listing(&key, &tools, epoch);
        Ok(KnownTools::Pinned(listing, Box::new(pins)))
    }

    /// Lists all pages with the credential and the headers of the caller.
    async fn fetch_tools(
        self: &Arc<Self>,
        http: &HttpClient,
        context: &Arc<CallContext>,
        message: &Message,
    ) -> Result<Vec<ToolDefinition>, ListFailure> {
        let mut context = CallContext {
            active: Arc::clone(&context.active),
            caller: context.caller.clone(),
            credential: context.credential.clone(),
            head: context.head.clone(),
            source: context.source,
            facts: context.facts,
        };
        let headers = &mut context.head.headers;
        headers.remove(MCP_NAME);
        if headers.contains_key(MCP_METHOD) {
            headers.insert(MCP_METHOD, HeaderValue::from_static("tools/list"));
        }
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        let mut meta = message.param("_meta").cloned();
        if let Some(members) = meta.as_mut().and_then(Value::as_object_mut) {
            members.remove("progressToken");
        }
        let (mut tools, mut cursor) = (Vec::new(), None::<String>);
        for _ in 0..MAX_PAGES {
            let mut params = json!({});
            if let Some(meta) = &meta {
                params["_meta"] = meta.clone();
            }
            if let Some(cursor) = &cursor {
                params["cursor"] = cursor.as_str().into();
            }
            let request = Message::request(own_id::like(message.id()), "tools/list", params);
            let result = self.fetch_page(http, &context, request).await?;
            let listed = result.get("tools").and_then(Value::as_array);
            tools.extend(listed.into_iter().flatten().cloned());
            cursor = result.get("nextCursor").and_then(Value::as_str).map(str::to_owned);
            if cursor.is_none() || tools.len() > MAX_TOOLS {
                return Ok(ToolDefinition::from_list(&tools));
            }
        }
        Err(ProxyError::UpstreamDown("the list of tools has too many pages".into()).into())
    }

    async fn fetch_page(&self, http: &HttpClient, context: &CallContext, request: Message) -> Result<Value, ListFailure> {
        let id = request.id().cloned().unwrap_or_else(|| RequestId::from(0));
        let body = RequestBody::Full(Bytes::from(request.to_text()));
        let response = self.send_checked(http, context, body).await?;
        // A refusal of the caller's credential or session is the caller's to learn.
        let is_success = response.status().is_success();
        let response = self.relay_checked(context, response, None).await?;
        if !is_success {
            return Err(ListFailure::Relay(Box::new(response)));
        }
        let read = mcp_response::read(response, &id, PAGE_TIMEOUT, None).await;
        let answer = read.map_err(|error: ReadError| ProxyError::UpstreamDown(error.to_string()))?;
        match (answer.result_value(), answer.error_value()) {
            (Some(result), _) => Ok(result.clone()),
            // A server without tools.
            (None, Some(error)) if error.get("code").and_then(Value::as_i64) == Some(METHOD_NOT_FOUND) => Ok(Value::Null),
            (None, _) => Err(ProxyError::UpstreamDown("the upstream does not list its tools".into()).into()),
        }
    }
}
