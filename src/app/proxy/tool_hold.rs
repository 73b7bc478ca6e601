//! Holds a call open until a person decided and the call ended, or until the time is over.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::app::approvals::{Proposal, Ticket, WaitState};
use crate::app::audit_events;
use crate::app::proxy::Proxy;
use crate::app::proxy::error::ProxyError;
use crate::app::proxy::pending_call::PendingCall;
use crate::app::proxy::tool_answer::{self, ApprovalReference};
use crate::app::proxy::tool_execute::{Execution, RunningCall};
use crate::app::proxy::tool_pages::undecided_text;
use crate::app::proxy::tool_recheck::ACCESS_ENDED;
use crate::base::ids::Id;
use crate::flow::approval::{ApprovalRecord, AwaitingInput};
use crate::flow::tool_call::{ApprovalError, CallOutcome};
use crate::mcp::jsonrpc::Message;
use crate::mcp::sse::{self, SseEvent};
use crate::net::body::ResponseBody;
use crate::net::generated_body::GeneratedBody;
use crate::store::TransitionError;

/// How often a held stream gets progress or a comment.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The events of a held call.
struct Events {
    sender: Option<mpsc::Sender<Bytes>>,
    /// The client's progress token.
    token: Option<Value>,
    /// How many of our own progress notifications were sent. Each adds a thousandth, so that the
    /// upstream's own progress goes on after it.
    sent: u32,
    next: Instant,
}

impl Events {
    /// Sends progress, or a comment to a client without a progress token.
    async fn keep_alive(&mut self, text: &str) {
        self.next = Instant::now() + KEEP_ALIVE;
        let event = match &self.token {
            Some(token) => {
                self.sent += 1;
                let progress = f64::from(self.sent) / 1000.0;
                let params = json!({"progressToken": token, "progress": progress, "message": text});
                SseEvent::message(Message::notification("notifications/progress", params).to_text()).to_text()
            }
            None => sse::comment("waiting"),
        };
        self.send(event).await;
    }

    /// Passes a message of the upstream on, unless it is progress that goes back.
    async fn pass_on(&mut self, message: Message) {
        let is_back = message.method() == Some("notifications/progress")
            && message
                .param("progress")
                .and_then(Value::as_f64)
                .is_some_and(|progress| progress <= f64::from(self.sent) / 1000.0);
        if !is_back {
            self.send(SseEvent::message(message.to_text()).to_text()).await;
        }
    }

    async fn send(&self, text: String) {
        if let Some(sender) = &self.sender {
            // A closed stream drops this work anyway.
            let _ = sender.send(Bytes::from(text)).await;
        }
    }
}

/// What a look at the approval means for a held call.
enum Look {
    /// This is the answer.
    Answer(Message),
    /// This process executes the call.
    Running(RunningCall, Id),
    /// There is nothing to do yet.
    Wait,
    /// The approval was used by an equal call: another one is asked for.
    AskAnew,
}

impl Proxy {
    /// Holds the call for so long: as an event stream if the client reads one.
    pub(super) async fn hold(
        self: &Arc<Self>,
        pending: PendingCall,
        proposal: Proposal,
        wait: Duration,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        let context = Arc::clone(&pending.context);
        let service = &context.active.service;
        // Counted as a stream, so that the number of held calls is bounded.
        let guard = self.open_stream(service, &context.caller, context.source, service.max_streams)?;
        let events = |sender| Events {
            sender,
            token: pending.message.param("_meta").and_then(|meta| meta.get("progressToken")).cloned(),
            sent: 0,
            next: Instant::now() + KEEP_ALIVE,
        };
        if !pending.reads_events() {
            let mut events = events(None);
            let message = Box::pin(self.answer_held(&pending, proposal, wait, &mut events)).await;
            drop(guard);
            return Ok(tool_answer::json(message));
        }
        let mut events = events(None);
        let proxy = Arc::clone(self);
        let body = GeneratedBody::new(move |sender| async move {
            events.sender = Some(sender);
            let message = proxy.answer_held(&pending, proposal, wait, &mut events).await;
            events.send(SseEvent::message(message.to_text()).to_text()).await;
            drop(guard);
        });
        Ok(tool_answer::event_stream(ResponseBody::Generated(Box::new(body))))
    }

    /// Waits for the decision and the end of the call, and returns the answer.
    async fn answer_held(self: &Arc<Self>, pending: &PendingCall, proposal: Proposal, wait: Duration, events: &mut Events) -> Message {
        let end = Instant::now() + wait;
        let mut proposal = proposal;
        let mut ticket = self.approvals.enqueue(id_of(proposal));
        let waiting = |approval| format!("Waiting for approval: {}", self.approval_page(approval));
        events.keep_alive(&waiting(id_of(proposal))).await;
        loop {
            if !self.is_still_accepted(&pending.context.caller) {
                return pending.refuse(ACCESS_ENDED, None);
            }
            match self.look(pending, proposal, &ticket).await {
                Look::Answer(message) => return message,
                Look::Running(running, approval) => {
                    drop(ticket);
                    return self.answer_running(pending, approval, running, events).await;
                }
                Look::Wait => {}
                Look::AskAnew => match self.approvals.propose(&pending.call).await {
                    Ok(next) => {
                        proposal = next;
                        ticket = self.approvals.enqueue(id_of(proposal));
                        events.keep_alive(&waiting(id_of(proposal))).await;
                    }
                    Err(error) => return pending.refuse(&format!("Not sent: {error}."), None),
                },
            }
            let now = Instant::now();
            if now >= end {
                return self.time_is_over(pending, id_of(proposal));
            }
            if now >= events.next {
                events.keep_alive(&waiting(id_of(proposal))).await;
            }
            self.approvals.wait(end.min(events.next)).await;
        }
    }

    fn time_is_over(&self, pending: &PendingCall, approval: Id) -> Message {
        if let Some(resumed) = &pending.resumed {
            let round = resumed.round.map(|round| (round, resumed.upstream.clone()));
            return tool_answer::come_again(pending.id.clone(), &self.seal_state(pending, approval, round));
        }
        let page = self.approval_page(approval);
        let about = ApprovalReference {
            id: approval,
            state: "pending",
            url: &page,
        };
        pending.refuse(&undecided_text(&page), Some(&about))
    }

    /// Looks at the approval, and starts the call if it may be sent.
    async fn look(self: &Arc<Self>, pending: &PendingCall, proposal: Proposal, ticket: &Ticket) -> Look {
        let approval = id_of(proposal);
        let state = match self.approvals.state(approval).await {
            Ok(state) => state,
            Err(error) => {
                tracing::warn!(%approval, %error, "an approval cannot be read; the call goes on waiting");
                return Look::Wait;
            }
        };
        let record = match state {
            WaitState::Undecided => return Look::Wait,
            WaitState::Gone => return Look::Answer(pending.refuse("Not sent: the approval has expired. Call the tool again.", None)),
            WaitState::Decided(record) => *record,
        };
        let page = self.approval_page(approval);
        let about = ApprovalReference {
            id: approval,
            state: record.state_name(),
            url: &page,
        };
        let is_resumed = pending.resumed.is_some();
        match &record {
            ApprovalRecord::Approved(_) if ticket.is_first() => self.start(pending, approval).await,
            ApprovalRecord::Proposed(_) | ApprovalRecord::Approved(_) => Look::Wait,
            ApprovalRecord::Executing(_) if is_resumed || matches!(proposal, Proposal::Unsettled(_)) => Look::Wait,
            ApprovalRecord::AwaitingInput(state) if is_resumed => self.continue_round(pending, approval, state).await,
            ApprovalRecord::Executed(state) => {
                let is_unknown = *state.outcome() == CallOutcome::Unknown;
                if is_unknown && (is_resumed || matches!(proposal, Proposal::Unsettled(_))) {
                    self.forget_unknown(pending, approval).await;
                    Look::Answer(outcome_message(pending, state.outcome(), &about))
                } else if is_resumed {
                    Look::Answer(outcome_message(pending, state.outcome(), &about))
                } else {
                    Look::AskAnew
                }
            }
            ApprovalRecord::Executing(_) | ApprovalRecord::AwaitingInput(_) => Look::AskAnew,
            ApprovalRecord::Denied(_) => {
                let decision = record.decision();
                let by = decision.map_or("a person", |decision| &decision.by);
                let at = decision.map(|decision| decision.at.to_rfc3339()).unwrap_or_default();
                Look::Answer(pending.refuse(&format!("Denied by {by} at {at}. Approval {approval}."), Some(&about)))
            }
            ApprovalRecord::Expired(_) => {
                Look::Answer(pending.refuse("Not sent: nobody decided in time. Call the tool again to ask again.", Some(&about)))
            }
        }
    }

    /// The caller is told that the outcome is unknown. A later equal call asks anew.
    async fn forget_unknown(&self, pending: &PendingCall, approval: Id) {
        if let Err(error) = self.approvals.forget_latest(pending.binding(), approval).await {
            tracing::warn!(%approval, %error, "an equal call will be told again that the outcome is unknown");
        }
    }

    async fn start(self: &Arc<Self>, pending: &PendingCall, approval: Id) -> Look {
        if let Some(reason) = self.reason_not_to_send(pending).await {
            return self.void(pending, approval, &reason);
        }
        match self.approvals.start(approval, pending.binding()).await {
            Ok(()) => {
                let running = self.execute(&pending.context, approval, pending.forwarded(None));
                Look::Running(running, approval)
            }
            Err(TransitionError::Rejected(ApprovalError::OtherCall)) => {
                self.core
                    .audit
                    .record(audit_events::call_refused(Some(approval), pending.binding(), "other_call"));
                Look::Answer(pending.refuse("Not sent: the approval is for another call. Call the tool again.", None))
            }
            // Another process was faster, or the time is over: the next look says so.
            Err(TransitionError::WrongState | TransitionError::NotFound | TransitionError::Rejected(_)) => Look::Wait,
            Err(TransitionError::Store(error)) => {
                tracing::warn!(%approval, %error, "an approved call is not sent before the store knows of it");
                Look::Wait
            }
        }
    }

    /// The answer for an approved call that is not sent, because something changed meanwhile.
    fn void(&self, pending: &PendingCall, approval: Id, reason: &str) -> Look {
        let refused = audit_events::call_refused(Some(approval), pending.binding(), "void");
        self.core.audit.record(refused);
        Look::Answer(pending.refuse(reason, None))
    }

    /// Forwards the input for a round. Input for another round gets the question of the current one.
    async fn continue_round(self: &Arc<Self>, pending: &PendingCall, approval: Id, state: &AwaitingInput) -> Look {
        let resumed = pending.resumed.as_ref().filter(|resumed| resumed.round == Some(state.round()));
        let Some(resumed) = resumed else {
            return Look::Answer(self.needs_input(pending, approval, state.round(), state.asked()));
        };
        if let Some(reason) = self.reason_not_to_send(pending).await {
            return self.void(pending, approval, &reason);
        }
        match self.approvals.start_round(approval, pending.binding(), state.round()).await {
            Ok(()) => {
                let running = self.execute(&pending.context, approval, pending.forwarded(Some(resumed)));
                Look::Running(running, approval)
            }
            Err(TransitionError::Rejected(ApprovalError::Expired)) => {
                Look::Answer(pending.refuse("Not sent: the time for the input is over. Call the tool again.", None))
            }
            Err(_) => Look::Wait,
        }
    }

    /// The upstream's question, with its request state inside ours.
    fn needs_input(&self, pending: &PendingCall, approval: Id, round: u32, text: &str) -> Message {
        let mut result = crate::mcp::json::parse_answer(text.as_bytes()).unwrap_or_default();
        let upstream = result.get("requestState").and_then(Value::as_str).map(str::to_owned);
        result["requestState"] = self.seal_state(pending, approval, Some((round, upstream))).into();
        Message::result(pending.id.clone(), result)
    }

    /// Waits for the end of a call that this process sent.
    async fn answer_running(&self, pending: &PendingCall, approval: Id, running: RunningCall, events: &mut Events) -> Message {
        let RunningCall { mut end, mut messages } = running;
        let execution = loop {
            tokio::select! {
                biased;
                Some(message) = messages.recv() => events.pass_on(message).await,
                execution = &mut end => break execution,
                () = tokio::time::sleep_until(events.next) => events.keep_alive("The approved call is running").await,
            }
        };
        let page = self.approval_page(approval);
        let about = ApprovalReference {
            id: approval,
            state: "executed",
            url: &page,
        };
        match execution {
            Ok(Execution::Ended(outcome)) => outcome_message(pending, &outcome, &about),
            Ok(Execution::NeedsInput(round, asked)) => {
                let text = asked.to_string();
                self.needs_input(pending, approval, round, &text)
            }
            Err(_closed) => outcome_message(pending, &CallOutcome::Unknown, &about),
        }
    }
}

fn id_of(proposal: Proposal) -> Id {
    match proposal {
        Proposal::Open(id) | Proposal::Unsettled(id) => id,
    }
}

/// The answer for a call that ended.
fn outcome_message(pending: &PendingCall, outcome: &CallOutcome, about: &ApprovalReference<'_>) -> Message {
    if let Some(message) = tool_answer::outcome(pending.id.clone(), outcome) {
        return message;
    }
    let text = match outcome {
        CallOutcome::NotSent(why) => format!("Approved, and not executed: {why}."),
        CallOutcome::NotKept => "Approved and executed. Its result was too long to keep.".to_owned(),
        CallOutcome::Unknown | CallOutcome::Result(_) | CallOutcome::Error(_) => {
            "Approved and sent, but its outcome is unknown: the connection or the gateway broke. It is not sent again; check its effect first."
                .to_owned()
        }
    };
    pending.refuse(&text, Some(about))
}
