//! One response to a client as a state machine: it reads the vendor's events or bodies, says which calls to
//! run, reads their results, and writes what the client gets. It sends nothing and reads no clock.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::adapter::call::ToolCall;
use crate::adapter::json::{Raw, RawObject, raw};
use crate::adapter::names::NameTable;
use crate::adapter::openai::echo::ResponseEcho;
use crate::adapter::openai::entry::OpenEntry;
use crate::adapter::openai::history::AwaitedCall;
use crate::adapter::openai::ids::CallIds;
use crate::adapter::openai::items::{self, CallItem};
use crate::adapter::openai::output::Output;
use crate::adapter::outcome::ToolOutcome;
use crate::adapter::rounds::{Admission, LimitReached, Rounds};

/// What a response begins with.
#[derive(Debug)]
pub struct TurnPlan {
    /// The vendor's request without `input`.
    pub request: RawObject,
    /// The input of the first round.
    pub input: Vec<Raw>,
    /// Whether the vendor itself appends input and output to a conversation.
    pub has_conversation: bool,
    /// What the client sent and reads again in its response.
    pub echo: ResponseEcho,
    /// The names of our tools.
    pub names: NameTable,
    /// The entries of ours.
    pub entries: Vec<OpenEntry>,
    /// The lists that the client sees: id and label.
    pub lists: Vec<(String, String)>,
    /// Calls that the client approved. They run before the model is asked.
    pub approved: Vec<(AwaitedCall, String)>,
    /// The counts and limits.
    pub rounds: Rounds,
    /// Distinguishes the rounds of this response from all others.
    pub seed: String,
}

/// How a call of the model is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    /// It runs.
    Run,
    /// The client is asked first.
    Ask,
    /// It neither runs nor shows: the client's limit of calls is reached.
    Ignore,
    /// It shows and does not run: a limit of the gateway ends the loop.
    Stop,
}

/// A call of ours.
#[derive(Debug)]
pub(super) struct OwnCall {
    pub(super) ids: CallIds,
    pub(super) call: ToolCall,
    pub(super) treatment: Treatment,
    pub(super) approval: Option<String>,
    /// The client's id and index of the item; none if it is hidden, or not sent yet.
    pub(super) shown: Option<(String, usize)>,
    pub(super) outcome: Option<ToolOutcome>,
}

/// What is known of the current round.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// The vendor's complete items, by the vendor's index.
    pub(super) items: BTreeMap<u64, Raw>,
    /// The client's index of each item of the vendor that is not ours.
    pub(super) indexes: BTreeMap<u64, usize>,
    /// Our calls, by the vendor's index.
    pub(super) calls: BTreeMap<u64, OwnCall>,
    /// Whether the model called a tool of the client.
    pub(super) has_client_call: bool,
    /// The vendor's last event: its type, and its response.
    pub(super) terminal: Option<(String, RawObject)>,
    pub(super) failed: bool,
}

/// How the answer ends, if not as the vendor's last response says.
#[derive(Debug)]
pub(super) enum End {
    /// A limit of the gateway.
    Limit(LimitReached),
    /// The vendor failed: code and message.
    Failed(String, String),
    /// The vendor sent an error event, which the client has.
    ErrorSent,
}

/// A response to a client, in progress.
#[derive(Debug)]
pub struct Turn {
    pub(super) plan: TurnPlan,
    pub(super) output: Output,
    pub(super) round: Round,
    /// The first response of the vendor, whose id the client knows.
    pub(super) first: Option<RawObject>,
    pub(super) usage: Value,
    pub(super) end: Option<End>,
    /// Calls that the client approved, with their outcomes.
    pub(super) approved: Vec<OwnCall>,
    pub(super) has_prologue: bool,
    /// The vendor's last complete response.
    pub(super) last_id: Option<String>,
    /// Outputs that the vendor has not got yet.
    pub(super) pending: Vec<Raw>,
    /// Calls that wait for the client, by the id of the request.
    pub(super) awaited: BTreeMap<String, AwaitedCall>,
    /// Outputs that the client's items do not tell in full, by the vendor's ids.
    pub(super) exact_outputs: Vec<(String, String)>,
    pub(super) elapsed: Duration,
    pub(super) tools_ran: bool,
}

impl Turn {
    /// A response that has not begun.
    pub fn new(mut plan: TurnPlan, is_stream: bool) -> Self {
        let approved = plan.approved.drain(..).map(|(awaited, request_id)| OwnCall {
            call: ToolCall {
                tool: awaited.tool,
                arguments: awaited.arguments,
                is_client_approved: true,
            },
            ids: awaited.ids,
            treatment: Treatment::Run,
            approval: Some(request_id),
            shown: None,
            outcome: None,
        });
        Self {
            approved: approved.collect(),
            plan,
            output: Output::new(is_stream),
            round: Round::default(),
            first: None,
            usage: Value::Null,
            end: None,
            has_prologue: false,
            last_id: None,
            pending: Vec::new(),
            awaited: BTreeMap::new(),
            exact_outputs: Vec::new(),
            elapsed: Duration::ZERO,
            tools_ran: false,
        }
    }

    /// Ends the calls of an answer that is not complete.
    pub(super) fn cancel_calls(&mut self) {
        let outcome = ToolOutcome::NotRun("The model's answer ended before this call.");
        for call in std::mem::take(&mut self.round.calls).into_values() {
            if let Some((id, index)) = &call.shown
                && call.treatment != Treatment::Ask
            {
                self.output.done(*index, &call_item(&call, id).incomplete());
            }
            self.pending.push(items::function_output(&call.ids.call_id, &outcome));
        }
    }

    /// How a call of this tool is treated.
    pub(super) fn treat(&mut self, call: &ToolCall) -> Treatment {
        let entry = self.plan.entries.iter().find(|open| open.entry.label == call.tool.label);
        if entry.is_none_or(|open| open.requires_approval(&call.tool.tool)) {
            return Treatment::Ask;
        }
        match self.plan.rounds.admitted(self.elapsed) {
            Admission::Run => Treatment::Run,
            Admission::ClientLimit => Treatment::Ignore,
            Admission::Limit(limit) => {
                self.end = Some(End::Limit(limit));
                Treatment::Stop
            }
        }
    }

    /// The first events of the adapter: the lists, and the calls that the client approved.
    pub(super) fn prologue(&mut self) {
        if std::mem::replace(&mut self.has_prologue, true) {
            return;
        }
        for (id, label) in std::mem::take(&mut self.plan.lists) {
            let tools = self.plan.entries.iter().find(|open| open.entry.label == label);
            let tools = tools.map(OpenEntry::listed).unwrap_or_default();
            let index = self.output.next_index();
            self.output.added(index, &items::list_tools(&id, &label, &[]));
            self.output.about("response.mcp_list_tools.in_progress", index, &id);
            self.output.about("response.mcp_list_tools.completed", index, &id);
            self.output.done(index, &items::list_tools(&id, &label, &tools));
        }
        for mut call in std::mem::take(&mut self.approved) {
            let id = call.ids.to_item_id();
            let index = self.output.next_index();
            call.shown = Some((id.clone(), index));
            show_begin(&mut self.output, &call, &id, index);
            let delta = json!({"type": "response.mcp_call_arguments.delta", "delta": call.call.arguments, "item_id": id,
                "output_index": index});
            self.output.send_value(&delta);
            let done = json!({"type": "response.mcp_call_arguments.done", "arguments": call.call.arguments, "item_id": id,
                "output_index": index});
            self.output.send_value(&done);
            if let Some(outcome) = &call.outcome {
                show_end(&mut self.output, &call, outcome);
            }
        }
    }

    /// The whole answer, for a client that reads no events.
    pub(super) fn items(&self) -> Raw {
        raw(self.output.items())
    }
}

pub(super) fn call_item<'a>(call: &'a OwnCall, id: &'a str) -> CallItem<'a> {
    CallItem {
        id,
        label: &call.call.tool.label,
        name: &call.call.tool.tool,
        arguments: &call.call.arguments,
        approval_request_id: call.approval.as_deref(),
    }
}

pub(super) fn show_begin(output: &mut Output, call: &OwnCall, id: &str, index: usize) {
    output.added(index, &call_item(call, id).added());
    output.about("response.mcp_call.in_progress", index, id);
}

pub(super) fn show_end(output: &mut Output, call: &OwnCall, outcome: &ToolOutcome) {
    let Some((id, index)) = &call.shown else { return };
    let kind = if outcome.is_error() {
        "response.mcp_call.failed"
    } else {
        "response.mcp_call.completed"
    };
    output.about(kind, *index, id);
    output.done(*index, &call_item(call, id).ended(outcome));
}
