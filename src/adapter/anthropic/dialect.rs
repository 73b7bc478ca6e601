//! A [`Turn`] as the loop drives it.

use std::time::Duration;

use crate::adapter::anthropic::blocks;
use crate::adapter::anthropic::error;
use crate::adapter::anthropic::history::message;
use crate::adapter::anthropic::request::later_choice;
use crate::adapter::anthropic::turn::{Round, Turn};
use crate::adapter::call::{Next, ToolCall};
use crate::adapter::dialect::Dialect;
use crate::adapter::json::{Raw, RawObject};
use crate::adapter::outcome::{Part, ToolOutcome};
use crate::adapter::rounds::LimitReached;
use crate::mcp::sse::SseEvent;
use serde_json::json;

impl Dialect for Turn {
    fn begin(&self) -> Next {
        Next::AskModel
    }

    fn next_request(&mut self) -> String {
        self.plan.rounds.begun();
        self.round = Round::default();
        let mut request = self.plan.request.clone();
        request.set("messages", &self.plan.messages);
        let choice = request.get("tool_choice").and_then(RawObject::from_raw);
        if let Some(later) = choice
            .and_then(|choice| later_choice(&choice))
            .filter(|_| self.plan.rounds.count() > 1)
        {
            request.set_raw("tool_choice", later);
        }
        request.to_string()
    }

    fn event(&mut self, event: &SseEvent) {
        self.read_event(&event.data);
    }

    fn whole(&mut self, body: &[u8]) {
        self.read_whole(body);
    }

    fn round_ended(&mut self) -> Next {
        self.count_usage();
        self.show_listings();
        if self.round.failed {
            return Next::End;
        }
        if !self.round.has_stopped {
            self.fail("api_error", "The vendor's stream ended early.");
            return Next::End;
        }
        if self.stop_reason().as_deref() != Some("tool_use") {
            for call in self.round.calls.values_mut() {
                call.outcome = Some(ToolOutcome::NotRun("The model's answer ended before this call."));
            }
            self.show_results();
            return Next::End;
        }
        for call in self.round.calls.values_mut().filter(|call| !call.runs) {
            let reason = self.stopped_by.map_or("This call did not run.", LimitReached::message);
            call.outcome = Some(ToolOutcome::NotRun(reason));
        }
        if self.calls().is_empty() {
            self.tools_ended()
        } else {
            Next::RunTools
        }
    }

    fn calls(&self) -> Vec<(u64, ToolCall)> {
        let open = self.round.calls.iter().filter(|(_, call)| call.outcome.is_none());
        open.map(|(index, call)| (*index, call.call.clone())).collect()
    }

    fn ended(&mut self, index: u64, outcome: ToolOutcome) {
        self.tools_ran = true;
        if let Some(call) = self.round.calls.get_mut(&index) {
            call.outcome = Some(outcome);
        }
        self.show_results();
    }

    fn tools_ended(&mut self) -> Next {
        self.show_results();
        if self.round.calls.is_empty() {
            return Next::End;
        }
        let mut results = Vec::new();
        for call in std::mem::take(&mut self.round.calls).into_values() {
            let Some(outcome) = call.outcome else { continue };
            let result = blocks::tool_result(&call.id, &outcome);
            if outcome.parts().iter().any(|part| !matches!(part, Part::Text(_))) {
                self.exact_results.push((call.id, result.get().to_owned()));
            }
            results.push(result);
        }
        if self.round.has_client_call || self.stopped_by.is_some() {
            return Next::End;
        }
        let content: Vec<Raw> = std::mem::take(&mut self.round.complete).into_values().collect();
        self.plan.messages.push(message("assistant", &content));
        self.plan.messages.push(message("user", &results));
        Next::AskModel
    }

    fn fail(&mut self, code: &str, text: &str) {
        self.failure = Some((code.to_owned(), text.to_owned()));
    }

    fn finish(&mut self) -> String {
        self.show_listings();
        if let Some((kind, text)) = self.failure.take() {
            self.error_event(&kind, &text);
            return if self.is_stream {
                self.take_text()
            } else {
                error::body(&kind, &text).to_string()
            };
        }
        let mut last = self.round.last.take().unwrap_or_default();
        let usage = self.whole_usage();
        let stop = self.stopped_by.map(|_| "pause_turn");
        if self.is_stream {
            if self.round.failed {
                return self.take_text();
            }
            if let (Some(stop), Some(mut delta)) = (stop, last.get("delta").and_then(RawObject::from_raw)) {
                delta.set("stop_reason", stop);
                last.set("delta", delta);
            }
            last.set("usage", usage);
            self.send(&last);
            self.send_value(&json!({"type": "message_stop"}));
            return self.take_text();
        }
        if let Some(id) = self.first.as_ref().and_then(|first| first.get("id")) {
            last.set_raw("id", id.to_owned());
        }
        if let Some(stop) = stop {
            last.set("stop_reason", stop);
        }
        last.set("content", &self.content);
        last.set("usage", usage);
        last.to_string()
    }

    fn take_text(&mut self) -> String {
        std::mem::take(&mut self.text)
    }

    fn set_elapsed(&mut self, elapsed: Duration) {
        self.elapsed = elapsed;
    }

    fn has_run_tools(&self) -> bool {
        self.tools_ran
    }

    fn memories(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.exact_results)
    }

    fn keep_alive() -> String {
        SseEvent::named("ping", r#"{"type":"ping"}"#).to_text()
    }
}
