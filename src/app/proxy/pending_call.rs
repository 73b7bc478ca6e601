//! A tool call that waits for a decision, as the client sent it.

use std::sync::Arc;

use http::header::ACCEPT;
use serde_json::{Map, Value};

use crate::app::approvals::request_state::RequestState;
use crate::app::proxy::tool_answer::{self, APPROVAL_INPUT, ApprovalReference, Era};
use crate::app::proxy::tool_context::CallContext;
use crate::flow::tool_call::{CallBinding, ProposedCall};
use crate::mcp::jsonrpc::{Message, RequestId};

/// A call that waits for a decision.
pub(super) struct PendingCall {
    pub(super) context: Arc<CallContext>,
    /// The call as the client sent it.
    pub(super) message: Message,
    pub(super) id: RequestId,
    pub(super) era: Era,
    /// What is proposed.
    pub(super) call: ProposedCall,
    /// How long the call is held, in seconds.
    pub(super) hold: u64,
    /// What the client repeats.
    pub(super) resumed: Option<RequestState>,
}

impl PendingCall {
    pub(super) fn binding(&self) -> &CallBinding {
        &self.call.binding
    }

    /// A result that says why there is none.
    pub(super) fn refuse(&self, text: &str, about: Option<&ApprovalReference<'_>>) -> Message {
        tool_answer::tool_error(self.id.clone(), self.era, text, about)
    }

    /// The call as it is sent to the upstream: without what is between the client and the gateway.
    pub(super) fn forwarded(&self, upstream: Option<&RequestState>) -> Message {
        let mut message = self.message.clone();
        if let Some(params) = message.params_mut() {
            params.remove("requestState");
            // Input that the upstream did not ask for is input that nobody approved.
            let Some(round) = upstream else {
                params.remove("inputResponses");
                return message;
            };
            if let Some(state) = round.upstream.as_deref() {
                params.insert("requestState".to_owned(), state.into());
            }
            let responses = params.get("inputResponses").and_then(Value::as_object);
            if responses.is_some_and(Map::is_empty) {
                params.remove("inputResponses");
            }
        }
        message
    }

    /// Whether the user refused to open the page.
    pub(super) fn is_declined(&self) -> bool {
        let response = self
            .message
            .param("inputResponses")
            .and_then(|responses| responses.get(APPROVAL_INPUT));
        let action = response.and_then(|response| response.get("action")).and_then(Value::as_str);
        matches!(action, Some("decline" | "cancel"))
    }

    /// Whether the client reads event streams.
    pub(super) fn reads_events(&self) -> bool {
        let accepted = self.context.head.headers.get_all(ACCEPT).iter();
        let mut accepted = accepted.filter_map(|value| value.to_str().ok());
        accepted.any(|value| value.contains("text/event-stream") || value.contains("*/*"))
    }
}
