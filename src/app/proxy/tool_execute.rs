//! Sends an approved call. The work is detached: the outcome is stored, whether or not the caller waits.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::app::proxy::Proxy;
use crate::app::proxy::error::ProxyError;
use crate::app::proxy::mcp_response::{self, ReadError};
use crate::app::proxy::tool_context::CallContext;
use crate::base::ids::Id;
use crate::flow::tool_call::CallOutcome;
use crate::mcp::canonical_json;
use crate::mcp::jsonrpc::{Message, RequestId};
use crate::net::body::RequestBody;
use crate::store::TransitionError;

/// The longest result that is kept, in bytes.
const MAX_KEPT_BYTES: usize = 256 * 1024;
/// How long a call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(3_600);
/// How often the store learns that the call is still executed.
const EXTEND_INTERVAL: Duration = Duration::from_secs(10);
/// How often an outcome is stored, if the store fails, and how long after.
const STORE_ATTEMPTS: u32 = 30;
const STORE_RETRY_DELAY: Duration = Duration::from_secs(2);

/// How a sent call ended.
pub(super) enum Execution {
    /// The upstream answered, or nothing is known of an answer.
    Ended(CallOutcome),
    /// The upstream asks for input. The round, and its result.
    NeedsInput(u32, Value),
}

/// A call that is being executed.
pub(super) struct RunningCall {
    /// The end.
    pub(super) end: oneshot::Receiver<Execution>,
    /// The messages that the upstream sends before it answers.
    pub(super) messages: mpsc::Receiver<Message>,
}

impl Proxy {
    /// Sends a call whose approval was started.
    pub(super) fn execute(self: &Arc<Self>, context: &Arc<CallContext>, approval: Id, request: Message) -> RunningCall {
        let (end_sender, end) = oneshot::channel();
        let (sender, messages) = mpsc::channel(64);
        let (proxy, context) = (Arc::clone(self), Arc::clone(context));
        let work = async move {
            let execution = proxy.exchange(&context, approval, request, sender).await;
            let execution = proxy.store_outcome(approval, execution).await;
            // The caller may have left.
            let _ = end_sender.send(execution);
        };
        drop(self.core.tasks.spawn(work));
        RunningCall { end, messages }
    }

    async fn exchange(&self, context: &CallContext, approval: Id, request: Message, messages: mpsc::Sender<Message>) -> CallOutcome {
        let mut exchange = std::pin::pin!(self.send_call(context, request, messages));
        loop {
            tokio::select! {
                outcome = &mut exchange => return outcome,
                () = tokio::time::sleep(EXTEND_INTERVAL) => {
                    if let Err(error) = self.approvals.extend(approval).await {
                        tracing::warn!(%approval, %error, "the store does not know that a tool call is still executed");
                    }
                }
            }
        }
    }

    async fn send_call(&self, context: &CallContext, request: Message, messages: mpsc::Sender<Message>) -> CallOutcome {
        let id = request.id().cloned().unwrap_or_else(|| RequestId::from(0));
        let body = RequestBody::Full(Bytes::from(request.to_text()));
        let response = match self.send_checked(self.core.tasks.http(), context, body).await {
            Ok(response) => response,
            Err(ProxyError::UpstreamBroken(_) | ProxyError::UpstreamTimeout) => return CallOutcome::Unknown,
            Err(ProxyError::UpstreamDown(_)) => return CallOutcome::NotSent("the upstream cannot be reached".to_owned()),
            // The upstream credential could not be had, so nothing was sent.
            Err(error) => {
                tracing::info!(?error, "an approved tool call was not sent");
                return CallOutcome::NotSent("the upstream credential cannot be had".to_owned());
            }
        };
        if !response.status().is_success() {
            let status = response.status();
            if status.is_client_error() {
                return CallOutcome::NotSent(format!("the upstream refused it with HTTP {status}"));
            }
            return CallOutcome::Unknown;
        }
        match mcp_response::read(response, &id, CALL_TIMEOUT, Some(&messages)).await {
            Ok(answer) => match (answer.result_value(), answer.error_value()) {
                (Some(result), _) => CallOutcome::Result(canonical_json::to_text(result)),
                (None, Some(error)) => CallOutcome::Error(canonical_json::to_text(error)),
                (None, None) => CallOutcome::Unknown,
            },
            Err(ReadError::TooLong) => CallOutcome::NotKept,
            Err(ReadError::Broken | ReadError::NotJsonRpc) => CallOutcome::Unknown,
        }
    }

    async fn store_outcome(&self, approval: Id, mut outcome: CallOutcome) -> Execution {
        if let CallOutcome::Result(text) = &outcome
            && let Ok(result) = crate::mcp::json::parse_answer(text.as_bytes())
            && result.get("resultType").and_then(Value::as_str) == Some("input_required")
        {
            if text.len() <= MAX_KEPT_BYTES {
                match self.approvals.ask_input(approval, text).await {
                    Ok(round) => return Execution::NeedsInput(round, result),
                    Err(error) => tracing::error!(%approval, %error, "a tool call asks for input, which cannot be stored"),
                }
                return Execution::Ended(CallOutcome::Unknown);
            }
            // The client could not repeat the call: its body is bounded, and would have all of this.
            outcome = CallOutcome::NotKept;
        }
        let is_too_long = matches!(&outcome, CallOutcome::Result(text) | CallOutcome::Error(text) if text.len() > MAX_KEPT_BYTES);
        let kept = if is_too_long { CallOutcome::NotKept } else { outcome.clone() };
        for attempt in 1..=STORE_ATTEMPTS {
            match self.approvals.finish(approval, &kept).await {
                Ok(()) => break,
                Err(TransitionError::Store(error)) if attempt < STORE_ATTEMPTS => {
                    tracing::warn!(%approval, %error, "the outcome of a tool call cannot be stored yet");
                    tokio::time::sleep(STORE_RETRY_DELAY).await;
                }
                Err(error) => {
                    tracing::error!(%approval, %error, "the outcome of a tool call is lost to other callers");
                    break;
                }
            }
        }
        Execution::Ended(outcome)
    }
}
