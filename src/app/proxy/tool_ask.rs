//! A call that needs a person's decision: it is proposed, or it comes back with the gateway's request
//! state.

use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use serde_json::Value;

use crate::app::approvals::request_state;
use crate::app::approvals::{Proposal, ProposeError, WaitState};
use crate::app::audit_events;
use crate::app::proxy::Proxy;
use crate::app::proxy::error::ProxyError;
use crate::app::proxy::tool_also_sent;
use crate::app::proxy::tool_answer::{self, ApprovalReference, Era};
use crate::app::proxy::tool_context::Checked;
use crate::app::proxy::tool_listing::DecidedCall;
use crate::base::ids::Digest;
use crate::flow::approval::ApprovalRecord;
use crate::flow::tool_call::{CallBinding, ProposedCall};
use crate::mcp::canonical_json;
use crate::mcp::jsonrpc::{INVALID_PARAMS, Message, RequestId};
use crate::mcp::tool::call_arguments;
use crate::net::body::ResponseBody;

/// How long a repeated call is held before the client is asked to come again. Clients give up after 60 s.
const LEG: Duration = Duration::from_secs(45);
/// The longest arguments of a call that a person decides about, as canonical JSON. They are stored, and shown.
const MAX_ARGUMENTS_BYTES: usize = 64 * 1024;

use crate::app::proxy::pending_call::PendingCall;
use crate::app::proxy::tool_pages::{store_failed, undecided_text};
use crate::app::proxy::tool_recheck::CHANGED;

/// A JSON-RPC error for a call that no person is asked about.
fn invalid_params(id: RequestId, text: &str) -> Response<ResponseBody> {
    tool_answer::error(StatusCode::OK, Message::error(Some(id), INVALID_PARAMS, text, Value::Null))
}

/// The arguments of a call, and what else of it reaches the upstream.
fn take_texts(checked: &Checked<'_>, message: &mut Message, tool: &str) -> Result<(String, Option<String>), String> {
    let also_sent = tool_also_sent::take_also_sent(&checked.context, message)?;
    let arguments = canonical_json::to_text(&call_arguments(message.params()));
    if arguments.len() <= MAX_ARGUMENTS_BYTES {
        return Ok((arguments, also_sent));
    }
    Err(format!(
        "{tool} needs approval, and its arguments are longer than {MAX_ARGUMENTS_BYTES} bytes, the limit for such calls; send less"
    ))
}

impl Proxy {
    /// Asks a person, or goes on with a call that was asked before.
    pub(super) async fn ask(
        self: &Arc<Self>,
        checked: Checked<'_>,
        mut message: Message,
        id: RequestId,
        decided: DecidedCall,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        let era = Era::of(&checked.context.head.headers, &message);
        let Some(caller) = checked.context.approval_caller() else {
            let text = format!("Denied: {} needs approval, and this service has nobody to ask.", decided.tool);
            return Ok(tool_answer::json(tool_answer::tool_error(id, era, &text, None)));
        };
        let (arguments, also_sent) = match take_texts(&checked, &mut message, &decided.tool) {
            Ok(texts) => texts,
            Err(text) => return Ok(invalid_params(id, &text)),
        };
        let now = self.core.clock.now();
        let call = ProposedCall {
            binding: CallBinding {
                caller: caller.id,
                service: checked.context.active.service.name.clone(),
                tool: decided.tool,
                arguments: Digest::new(&arguments),
                also_sent: also_sent.as_deref().map(Digest::new),
                pin: decided.pin,
                policy: checked.policy.version(),
            },
            caller_name: caller.name,
            decider: caller.decider,
            arguments,
            also_sent,
            reason: checked.policy.explain(decided.decision),
            created: now,
            expires: now.plus_seconds(checked.policy.approval_ttl),
        };
        let state = message
            .param("requestState")
            .map(|state| state.as_str().unwrap_or_default().to_owned());
        let mut pending = PendingCall {
            context: Arc::clone(&checked.context),
            message,
            id,
            era,
            call,
            hold: checked.policy.approval_hold,
            resumed: None,
        };
        let Some(state) = state else {
            return self.ask_first(pending).await;
        };
        let Some(opened) = request_state::open(&self.core.keys.load(), now, pending.binding(), &state) else {
            self.core
                .audit
                .record(audit_events::call_refused(None, pending.binding(), "request_state"));
            let text = "the requestState is not valid for this call: it was changed, belongs to another call, or has expired";
            return Ok(invalid_params(pending.id, text));
        };
        pending.resumed = Some(opened);
        self.resume(pending).await
    }

    /// Proposes the call, or attaches it to an open approval of an equal call.
    async fn ask_first(self: &Arc<Self>, pending: PendingCall) -> Result<Response<ResponseBody>, ProxyError> {
        let proposal = match self.approvals.propose(&pending.call).await {
            Ok(proposal) => proposal,
            Err(ProposeError::TooMany) => {
                let text = "Not sent: too many calls of this caller wait for a decision. Decide about them first.";
                let page = self.approvals_page();
                return Ok(tool_answer::json(pending.refuse(&format!("{text} {page}"), None)));
            }
            Err(ProposeError::Store(error)) => return Err(store_failed(&error)),
        };
        let Proposal::Open(approval) = proposal else {
            let wait = Duration::from_secs(pending.hold);
            return self.hold(pending, proposal, wait).await;
        };
        let is_undecided = matches!(self.state(approval).await?, WaitState::Undecided);
        if pending.era.opens_urls && is_undecided {
            let sealed = self.seal_state(&pending, approval, None);
            let page = self.approval_page(approval);
            let binding = pending.binding();
            let message = tool_answer::open_page(pending.id.clone(), &binding.tool, &binding.service, &page, &sealed);
            return Ok(tool_answer::json(message));
        }
        let wait = Duration::from_secs(pending.hold);
        self.hold(pending, proposal, wait).await
    }

    /// Goes on with a call whose client repeats the gateway's request state.
    async fn resume(self: &Arc<Self>, pending: PendingCall) -> Result<Response<ResponseBody>, ProxyError> {
        let Some(approval) = pending.resumed.as_ref().map(|state| state.approval) else {
            return Err(ProxyError::ApprovalsUnavailable);
        };
        let state = self.state(approval).await?;
        let (page, is_undecided) = (self.approval_page(approval), matches!(state, WaitState::Undecided));
        let record = self.approvals.admin().find(approval).await.map_err(|error| store_failed(&error))?;
        let Some(record) = record.map(|view| view.record) else {
            return Ok(tool_answer::json(
                pending.refuse("Not sent: the approval has expired. Call the tool again.", None),
            ));
        };
        if record.tool_call().binding != *pending.binding() {
            self.core
                .audit
                .record(audit_events::call_refused(Some(approval), pending.binding(), "void"));
            return Ok(tool_answer::json(pending.refuse(CHANGED, None)));
        }
        let about = ApprovalReference {
            id: approval,
            state: record.state_name(),
            url: &page,
        };
        if is_undecided && pending.is_declined() {
            let text = format!("Not sent: it waits for approval, and the page was not opened. Decide at {page} and call the tool again.");
            return Ok(tool_answer::json(pending.refuse(&text, Some(&about))));
        }
        let held_until = record.tool_call().created.plus_seconds(pending.hold.max(LEG.as_secs()));
        let left = held_until.seconds_since(self.core.clock.now());
        let is_over = left == 0 && matches!(record, ApprovalRecord::Proposed(_));
        if is_over {
            return Ok(tool_answer::json(pending.refuse(&undecided_text(&page), Some(&about))));
        }
        self.hold(pending, Proposal::Open(approval), LEG).await
    }
}
