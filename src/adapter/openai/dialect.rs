//! A [`Turn`] as the loop drives it.

use std::time::Duration;

use serde_json::Value;

use crate::adapter::call::{Next, ToolCall};
use crate::adapter::dialect::Dialect;
use crate::adapter::openai::history::AwaitedCall;
use crate::adapter::openai::items;
use crate::adapter::openai::turn::{End, OwnCall, Round, Treatment, Turn, show_end};
use crate::adapter::outcome::{Part, ToolOutcome};
use crate::adapter::usage;
use crate::mcp::sse::{self, SseEvent};

impl Dialect for Turn {
    fn begin(&self) -> Next {
        if self.approved.is_empty() { Next::AskModel } else { Next::RunTools }
    }

    fn next_request(&mut self) -> String {
        self.plan.rounds.begun();
        self.round = Round::default();
        let mut request = self.plan.request.clone();
        request.set("input", &self.plan.input);
        if self.plan.rounds.are_calls_used_up() {
            request.set("tool_choice", "none");
        } else if self.plan.rounds.count() > 1 && is_forced(&request.value("tool_choice")) {
            // A forced choice counts for the first answer. Otherwise the model would call for ever.
            request.set("tool_choice", "auto");
        }
        if self.plan.has_conversation {
            // The conversation holds them from now on.
            self.plan.input.clear();
        }
        request.to_string()
    }

    fn calls(&self) -> Vec<(u64, ToolCall)> {
        let to_run = |(index, call): (u64, &OwnCall)| {
            let runs = call.treatment == Treatment::Run && call.outcome.is_none();
            runs.then(|| (index, call.call.clone()))
        };
        if self.first.is_none() {
            (0..).zip(&self.approved).filter_map(to_run).collect()
        } else {
            self.round
                .calls
                .iter()
                .map(|(index, call)| (*index, call))
                .filter_map(to_run)
                .collect()
        }
    }

    fn ended(&mut self, index: u64, outcome: ToolOutcome) {
        self.tools_ran = true;
        if self.first.is_none() {
            // The client learns of it after `response.created`.
            let call = usize::try_from(index).ok().and_then(|index| self.approved.get_mut(index));
            if let Some(call) = call {
                self.plan.input.push(items::function_output(&call.ids.call_id, &outcome));
                call.outcome = Some(outcome);
            }
            return;
        }
        if let Some(call) = self.round.calls.get_mut(&index) {
            show_end(&mut self.output, call, &outcome);
            call.outcome = Some(outcome);
        }
    }

    fn round_ended(&mut self) -> Next {
        if let Some((_, response)) = self.round.terminal.clone() {
            self.usage = usage::sum(&self.usage, &response.value("usage"));
            self.last_id = response.text("id");
            self.pending.clear();
            for (index, item) in (0..).zip(response.list("output")) {
                if !self.round.items.contains_key(&index) {
                    self.item_done(index, &item);
                }
            }
        }
        self.prologue();
        if self.round.terminal.as_ref().is_some_and(|(kind, _)| kind == "response.completed") {
            return if self.calls().is_empty() {
                self.tools_ended()
            } else {
                Next::RunTools
            };
        }
        self.cancel_calls();
        if self.round.failed {
            self.end = Some(End::ErrorSent);
        } else if self.round.terminal.is_none() {
            self.fail("server_error", "The vendor's stream ended early.");
        }
        Next::End
    }

    fn tools_ended(&mut self) -> Next {
        if self.first.is_none() {
            return Next::AskModel;
        }
        let calls = std::mem::take(&mut self.round.calls);
        if calls.is_empty() {
            return Next::End;
        }
        let is_last = self.round.has_client_call || self.end.is_some() || calls.values().any(|call| call.treatment == Treatment::Ask);
        let mut outputs = Vec::new();
        for (_, call) in calls {
            let outcome = match (call.treatment, call.outcome) {
                (Treatment::Ask, _) => {
                    let id = call.approval.unwrap_or_default();
                    let awaited = AwaitedCall {
                        ids: call.ids,
                        tool: call.call.tool,
                        arguments: call.call.arguments,
                    };
                    self.awaited.insert(id, awaited);
                    continue;
                }
                (_, Some(outcome)) => outcome,
                (Treatment::Ignore, None) => ToolOutcome::NotRun("This call was ignored: the limit max_tool_calls is reached."),
                (Treatment::Run | Treatment::Stop, None) => ToolOutcome::NotRun("This call did not run."),
            };
            let output = items::function_output(&call.ids.call_id, &outcome);
            if outcome
                .parts()
                .iter()
                .any(|part| matches!(part, Part::Image { .. } | Part::Pdf { .. }))
            {
                self.exact_outputs.push((call.ids.call_id, output.get().to_owned()));
            }
            outputs.push(output);
        }
        self.pending.clone_from(&outputs);
        if is_last {
            return Next::End;
        }
        if !self.plan.has_conversation {
            self.plan.input.extend(std::mem::take(&mut self.round.items).into_values());
        }
        self.plan.input.append(&mut outputs);
        Next::AskModel
    }

    fn fail(&mut self, code: &str, message: &str) {
        self.end = Some(End::Failed(code.to_owned(), message.to_owned()));
    }

    fn set_elapsed(&mut self, elapsed: Duration) {
        self.elapsed = elapsed;
    }

    fn has_run_tools(&self) -> bool {
        self.tools_ran
    }

    fn take_text(&mut self) -> String {
        self.output.take_text()
    }

    fn event(&mut self, event: &SseEvent) {
        self.read_event(&event.data);
    }

    fn whole(&mut self, body: &[u8]) {
        self.read_whole(body);
    }

    fn finish(&mut self) -> String {
        self.end_response()
    }

    fn memories(&mut self) -> Vec<(String, String)> {
        let mut memories = std::mem::take(&mut self.exact_outputs);
        if let Some((id, continuation)) = self.continuation() {
            memories.push((id, continuation.serialized()));
        }
        memories
    }

    fn keep_alive() -> String {
        sse::comment("working")
    }
}

/// Whether the model must call a tool.
fn is_forced(choice: &Value) -> bool {
    match choice["type"].as_str() {
        Some("allowed_tools") => choice["mode"] == "required",
        Some(_) | None => choice.is_object() || choice == "required",
    }
}
