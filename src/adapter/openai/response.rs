//! The `response` object as the client sees it: one id, its own `tools`, all items, the usage of all rounds.

use serde_json::{Value, json};

use crate::adapter::json::RawObject;
use crate::adapter::openai::continuation::Continuation;
use crate::adapter::openai::turn::{End, Turn};

impl Turn {
    /// Ends the response: the last event, or the whole body for a client that reads no events.
    pub(super) fn end_response(&mut self) -> String {
        self.prologue();
        // After an error event the vendor may end the stream without a response.
        let is_told = matches!(self.end, Some(End::ErrorSent)) && self.round.terminal.is_none();
        let (mut kind, mut response) = match self.round.terminal.take() {
            Some(terminal) => terminal,
            None => ("response.failed".to_owned(), self.first.clone().unwrap_or_default()),
        };
        if let Some(first) = &self.first {
            for name in ["id", "created_at"] {
                if let Some(value) = first.get(name) {
                    response.set_raw(name, value.to_owned());
                }
            }
        }
        self.plan.echo.apply(&mut response);
        match &self.end {
            Some(End::Limit(limit)) => {
                "response.incomplete".clone_into(&mut kind);
                response.set("status", "incomplete");
                response.set("incomplete_details", json!({"reason": "max_messages", "message": limit.message()}));
            }
            Some(End::Failed(code, message)) => {
                "response.failed".clone_into(&mut kind);
                response.set("status", "failed");
                response.set("error", json!({"code": code, "message": message}));
            }
            Some(End::ErrorSent) | None => {}
        }
        response.set_raw("output", self.items());
        response.set("usage", &self.usage);
        if !self.output.is_stream() {
            return response.to_string();
        }
        if !is_told {
            let mut event = RawObject::from_value(&json!({ "type": kind }));
            event.set_raw("response", response.to_raw());
            self.output.send(event);
        }
        self.output.take_text()
    }

    /// The id that the client knows, and what its next request needs. `None` if the vendor's response is all
    /// that there is.
    pub fn continuation(&self) -> Option<(String, Continuation)> {
        let first = self.first.as_ref()?.text("id")?;
        let continuation = Continuation {
            last_id: self.last_id.clone()?,
            outputs: self.pending.clone(),
            awaited: self.awaited.clone(),
        };
        let is_needed = first != continuation.last_id || !continuation.outputs.is_empty() || !continuation.awaited.is_empty();
        is_needed.then_some((first, continuation))
    }

    /// The usage of all rounds.
    pub fn usage(&self) -> &Value {
        &self.usage
    }
}
