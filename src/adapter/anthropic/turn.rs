//! One message to a client as a state machine: it reads the vendor's events or bodies, says which calls to run,
//! reads their results, and writes what the client gets. It sends nothing and reads no clock.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::adapter::anthropic::blocks;
use crate::adapter::call::ToolCall;
use crate::adapter::json::{Raw, RawObject, raw};
use crate::adapter::names::NameTable;
use crate::adapter::outcome::ToolOutcome;
use crate::adapter::rounds::{Admission, LimitReached, Rounds};
use crate::adapter::usage;
use crate::mcp::sse::SseEvent;

/// What a message begins with.
#[derive(Debug)]
pub struct TurnPlan {
    /// The vendor's request without `messages`.
    pub request: RawObject,
    /// The messages of the first round.
    pub messages: Vec<Raw>,
    /// The names of our tools.
    pub names: NameTable,
    /// The listings that the client sees.
    pub listings: Vec<Value>,
    /// The counts and limits.
    pub rounds: Rounds,
}

/// A call of ours.
#[derive(Debug)]
pub(super) struct OwnCall {
    pub(super) id: String,
    pub(super) call: ToolCall,
    pub(super) runs: bool,
    pub(super) outcome: Option<ToolOutcome>,
    pub(super) is_shown: bool,
}

/// A block of the vendor, while it arrives.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) object: RawObject,
    /// The text of `input`, in parts.
    pub(super) input: String,
    /// The client's index; none for calls of ours, which are shown when they are complete.
    pub(super) index: Option<usize>,
}

/// What is known of the current round.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) blocks: BTreeMap<u64, Block>,
    pub(super) complete: BTreeMap<u64, Raw>,
    pub(super) calls: BTreeMap<u64, OwnCall>,
    pub(super) has_client_call: bool,
    pub(super) usage: Value,
    /// The vendor's last `message_delta`, or its whole message.
    pub(super) last: Option<RawObject>,
    pub(super) has_stopped: bool,
    pub(super) failed: bool,
}

/// A message to a client, in progress.
#[derive(Debug)]
pub struct Turn {
    pub(super) plan: TurnPlan,
    pub(super) is_stream: bool,
    pub(super) text: String,
    pub(super) content: Vec<Raw>,
    pub(super) next_index: usize,
    pub(super) round: Round,
    pub(super) first: Option<RawObject>,
    pub(super) has_listings: bool,
    pub(super) usage: Value,
    pub(super) iterations: Vec<Value>,
    pub(super) stopped_by: Option<LimitReached>,
    pub(super) failure: Option<(String, String)>,
    /// Results that the client's blocks do not tell in full, by the vendor's ids.
    pub(super) exact_results: Vec<(String, String)>,
    pub(super) elapsed: Duration,
    pub(super) tools_ran: bool,
}

impl Turn {
    /// A message that has not begun.
    pub fn new(plan: TurnPlan, is_stream: bool) -> Self {
        Self {
            plan,
            is_stream,
            text: String::new(),
            content: Vec::new(),
            next_index: 0,
            round: Round::default(),
            first: None,
            has_listings: false,
            usage: Value::Null,
            iterations: Vec::new(),
            stopped_by: None,
            failure: None,
            exact_results: Vec::new(),
            elapsed: Duration::ZERO,
            tools_ran: false,
        }
    }

    pub(super) fn send(&mut self, event: &RawObject) {
        if self.is_stream {
            let name = event.text("type").unwrap_or_default();
            self.text.push_str(&SseEvent::named(&name, event.to_string()).to_text());
        }
    }

    pub(super) fn send_value(&mut self, event: &Value) {
        if self.is_stream {
            self.send(&RawObject::from_value(event));
        }
    }

    /// Shows a block that is complete.
    fn show(&mut self, block: &RawObject) {
        let index = self.next_index;
        self.next_index += 1;
        let mut start = RawObject::from_value(&json!({"type": "content_block_start", "index": index}));
        start.set("content_block", block);
        self.send(&start);
        self.send_value(&json!({"type": "content_block_stop", "index": index}));
        self.content.push(block.to_raw());
    }

    /// Shows the listings, which are the first blocks.
    pub(super) fn show_listings(&mut self) {
        if std::mem::replace(&mut self.has_listings, true) {
            return;
        }
        for listing in std::mem::take(&mut self.plan.listings) {
            self.show(&RawObject::from_value(&listing));
        }
    }

    /// Shows a call of ours, with its arguments as the vendor streams them.
    pub(super) fn show_call(&mut self, vendor_id: &str, call: &ToolCall, input: Raw) {
        let index = self.next_index;
        self.next_index += 1;
        let begun = blocks::mcp_tool_use(vendor_id, &call.tool, raw(json!({})));
        let mut start = RawObject::from_value(&json!({"type": "content_block_start", "index": index}));
        start.set("content_block", begun);
        self.send(&start);
        for part in ["", input.get()] {
            let delta = json!({"type": "input_json_delta", "partial_json": part});
            self.send_value(&json!({"type": "content_block_delta", "index": index, "delta": delta}));
        }
        self.send_value(&json!({"type": "content_block_stop", "index": index}));
        self.content.push(blocks::mcp_tool_use(vendor_id, &call.tool, input).to_raw());
    }

    /// Counts a call of the model, and says whether it runs.
    pub(super) fn admit(&mut self, id: String, call: ToolCall) -> OwnCall {
        let runs = match self.plan.rounds.admitted(self.elapsed) {
            Admission::Run => true,
            Admission::ClientLimit => false,
            Admission::Limit(limit) => {
                self.stopped_by = Some(limit);
                false
            }
        };
        OwnCall {
            id,
            call,
            runs,
            outcome: None,
            is_shown: false,
        }
    }

    /// Shows the results up to the first call that has none.
    pub(super) fn show_results(&mut self) {
        let mut results = Vec::new();
        for call in self.round.calls.values_mut() {
            let Some(outcome) = &call.outcome else { break };
            if !std::mem::replace(&mut call.is_shown, true) {
                results.push(blocks::mcp_tool_result(&call.id, outcome));
            }
        }
        for result in results {
            self.show(&RawObject::from_value(&result));
        }
    }

    pub(super) fn stop_reason(&self) -> Option<String> {
        let last = self.round.last.as_ref()?;
        let delta = last.get("delta").and_then(RawObject::from_raw);
        delta.as_ref().unwrap_or(last).text("stop_reason")
    }

    pub(super) fn count_usage(&mut self) {
        let usage = std::mem::take(&mut self.round.usage);
        let mut iteration = json!({"type": "message"});
        for name in [
            "input_tokens",
            "output_tokens",
            "cache_creation_input_tokens",
            "cache_read_input_tokens",
        ] {
            iteration[name] = usage.get(name).cloned().unwrap_or_else(|| json!(0));
        }
        self.iterations.push(iteration);
        self.usage = usage::sum(&self.usage, &usage);
    }

    pub(super) fn whole_usage(&self) -> Value {
        let mut usage = self.usage.clone();
        if let Some(members) = usage.as_object_mut() {
            // The vendor's own iterations of one round say nothing about the others.
            members.insert("iterations".to_owned(), json!(self.iterations));
        }
        usage
    }

    pub(super) fn error_event(&mut self, kind: &str, text: &str) {
        self.send_value(&json!({"type": "error", "error": {"type": kind, "message": text}}));
    }
}
