//! The vendor's events and bodies, as a [`Turn`] reads them.

use serde_json::{Value, json};

use crate::adapter::anthropic::turn::{Block, Turn};
use crate::adapter::call::ToolCall;
use crate::adapter::json::{Raw, RawObject, raw};

impl Turn {
    pub(super) fn read_event(&mut self, data: &str) {
        // What is no object is no event of this API.
        let Ok(event) = RawObject::parse(data.as_bytes()) else { return };
        let is_first = self.plan.rounds.count() <= 1;
        match event.text("type").as_deref().unwrap_or_default() {
            "message_start" => self.message_start(&event, is_first),
            "content_block_start" => self.block_start(event),
            "content_block_delta" => self.block_delta(event),
            "content_block_stop" => self.block_stop(event),
            "message_delta" => {
                if let Value::Object(later) = event.value("usage") {
                    // Cumulative: it replaces what `message_start` said.
                    for (name, value) in later {
                        if !value.is_null() {
                            self.round.usage[name] = value;
                        }
                    }
                }
                self.round.last = Some(event);
            }
            "message_stop" => self.round.has_stopped = true,
            "error" => {
                self.round.failed = true;
                self.show_listings();
                self.send(&event);
            }
            _ => self.send(&event),
        }
    }

    fn message_start(&mut self, event: &RawObject, is_first: bool) {
        let Some(message) = event.get("message").and_then(RawObject::from_raw) else {
            return;
        };
        self.round.usage = message.value("usage");
        if is_first {
            self.first = Some(message);
            self.send(event);
            self.show_listings();
        }
    }

    fn block_start(&mut self, mut event: RawObject) {
        self.show_listings();
        let (Some(place), Some(object)) = (event.number("index"), event.get("content_block").and_then(RawObject::from_raw)) else {
            return;
        };
        let is_use = object.text("type").as_deref() == Some("tool_use");
        let is_own = is_use && object.text("name").is_some_and(|name| self.plan.names.get(&name).is_some());
        self.round.has_client_call |= is_use && !is_own;
        let index = (!is_own).then(|| {
            let index = self.next_index;
            self.next_index += 1;
            index
        });
        if let Some(index) = index {
            event.set("index", index);
            self.send(&event);
        }
        let block = Block {
            object,
            input: String::new(),
            index,
        };
        self.round.blocks.insert(place, block);
    }

    fn block_delta(&mut self, mut event: RawObject) {
        let delta = event.get("delta").and_then(RawObject::from_raw).unwrap_or_default();
        let Some(block) = event.number("index").and_then(|place| self.round.blocks.get_mut(&place)) else {
            return;
        };
        apply(block, &delta);
        if let Some(index) = block.index {
            event.set("index", index);
            self.send(&event);
        }
    }

    fn block_stop(&mut self, mut event: RawObject) {
        let Some(place) = event.number("index") else { return };
        let Some(mut block) = self.round.blocks.remove(&place) else {
            return;
        };
        if !block.input.is_empty()
            && let Ok(input) = serde_json::from_str::<Raw>(&block.input)
        {
            block.object.set_raw("input", input);
        }
        match block.index {
            Some(index) => {
                event.set("index", index);
                self.send(&event);
                self.content.push(block.object.to_raw());
                self.round.complete.insert(place, block.object.to_raw());
            }
            None => self.own_call(place, block.object, block.input),
        }
    }

    /// A call of ours is complete. The vendor accepts only an object as its input, whatever the model wrote.
    fn own_call(&mut self, place: u64, mut object: RawObject, arguments: String) {
        let Some(tool) = object.text("name").and_then(|name| self.plan.names.get(&name).cloned()) else {
            return;
        };
        let call = ToolCall {
            tool,
            arguments,
            is_client_approved: false,
        };
        let is_object = object.get("input").and_then(RawObject::from_raw).is_some();
        if !is_object || call.checked_arguments().is_err() {
            object.set("input", json!({}));
        }
        let input = object.get("input").map_or_else(|| raw(json!({})), ToOwned::to_owned);
        let id = object.text("id").unwrap_or_default();
        self.show_call(&id, &call, input);
        let own = self.admit(id, call);
        self.round.calls.insert(place, own);
        self.round.complete.insert(place, object.to_raw());
    }

    pub(super) fn read_whole(&mut self, body: &[u8]) {
        let Ok(message) = RawObject::parse(body) else { return };
        self.show_listings();
        self.round.usage = message.value("usage");
        for (place, block) in (0..).zip(message.list("content")) {
            let Some(object) = RawObject::from_raw(&block) else {
                self.content.push(block);
                continue;
            };
            let is_use = object.text("type").as_deref() == Some("tool_use");
            if is_use && object.text("name").is_some_and(|name| self.plan.names.get(&name).is_some()) {
                let arguments = object.get("input").map(|input| input.get().to_owned()).unwrap_or_default();
                self.own_call(place, object, arguments);
            } else {
                self.round.has_client_call |= is_use;
                self.content.push(block.clone());
                self.round.complete.insert(place, block);
            }
        }
        self.first.get_or_insert_with(|| message.clone());
        self.round.last = Some(message);
        self.round.has_stopped = true;
    }
}

/// Adds a delta to a block, as the vendor's SDKs do.
fn apply(block: &mut Block, delta: &RawObject) {
    let append = |block: &mut Block, name: &str| {
        let before = block.object.text(name).unwrap_or_default();
        let more = delta.text(name).unwrap_or_default();
        block.object.set(name, format!("{before}{more}"));
    };
    match delta.text("type").as_deref().unwrap_or_default() {
        "text_delta" => append(block, "text"),
        "thinking_delta" => append(block, "thinking"),
        "input_json_delta" => block.input.push_str(&delta.text("partial_json").unwrap_or_default()),
        "citations_delta" => {
            let mut citations = block.object.list("citations");
            citations.extend(delta.get("citation").map(ToOwned::to_owned));
            block.object.set("citations", citations);
        }
        // `signature_delta`, `compaction_delta` and later ones set their members.
        _ => {
            let members: Vec<String> = delta.names().filter(|name| *name != "type").map(str::to_owned).collect();
            for name in members {
                if let Some(value) = delta.get(&name) {
                    block.object.set_raw(&name, value.to_owned());
                }
            }
        }
    }
}
