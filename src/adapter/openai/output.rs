//! What the client gets: events with dense numbers, and the items by their index.

use serde_json::{Value, json};

use crate::adapter::json::{Raw, RawObject, raw};
use crate::mcp::sse::SseEvent;

/// The client's side of a response.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Whether the client reads events. Otherwise only the items count.
    is_stream: bool,
    text: String,
    sequence: u64,
    items: Vec<Option<Raw>>,
}

impl Output {
    /// An output without items.
    pub(super) fn new(is_stream: bool) -> Self {
        Self {
            is_stream,
            ..Self::default()
        }
    }

    /// Whether the client reads events.
    pub(super) fn is_stream(&self) -> bool {
        self.is_stream
    }

    /// The events since the last call, as text.
    pub(super) fn take_text(&mut self) -> String {
        std::mem::take(&mut self.text)
    }

    /// Sends an event with the next `sequence_number`.
    pub(super) fn send(&mut self, mut event: RawObject) {
        if !self.is_stream {
            return;
        }
        event.set("sequence_number", self.sequence);
        self.sequence += 1;
        let name = event.text("type").unwrap_or_default();
        self.text.push_str(&SseEvent::named(&name, event.to_string()).to_text());
    }

    /// Sends an event of the adapter.
    pub(super) fn send_value(&mut self, event: &Value) {
        if self.is_stream {
            self.send(RawObject::from_value(event));
        }
    }

    /// Takes the next `output_index`.
    pub(super) fn next_index(&mut self) -> usize {
        self.items.push(None);
        self.items.len() - 1
    }

    /// Sets the item of an index.
    pub(super) fn set_item(&mut self, index: usize, item: Raw) {
        if let Some(place) = self.items.get_mut(index) {
            *place = Some(item);
        }
    }

    /// Begins an item.
    pub(super) fn added(&mut self, index: usize, item: &Value) {
        self.send_value(&json!({"type": "response.output_item.added", "item": item, "output_index": index}));
    }

    /// Ends an item.
    pub(super) fn done(&mut self, index: usize, item: &Value) {
        self.send_value(&json!({"type": "response.output_item.done", "item": item, "output_index": index}));
        self.set_item(index, raw(item));
    }

    /// Sends an event about an item.
    pub(super) fn about(&mut self, kind: &str, index: usize, item_id: &str) {
        self.send_value(&json!({"type": kind, "item_id": item_id, "output_index": index}));
    }

    /// All items in order.
    pub(super) fn items(&self) -> Vec<&Raw> {
        self.items.iter().flatten().collect()
    }
}
