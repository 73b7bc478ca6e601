//! A client's messages with our blocks, rewritten to the vendor's own: the same ids, names and order as
//! before, because the vendor binds thinking to what precedes it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::adapter::anthropic::blocks;
use crate::adapter::json::{Raw, RawObject, raw};
use crate::adapter::names::{ToolRef, function_name};
use crate::adapter::outcome::ToolOutcome;

/// Rewrites messages. `is_local` says whether a name is of a server of ours; `exact_results` has the exact
/// results of calls, where the client's block does not tell all.
pub fn rewrite(messages: &[Raw], is_local: impl Fn(&str) -> bool, exact_results: &BTreeMap<String, Raw>) -> Vec<Raw> {
    let mut rewritten = Vec::with_capacity(messages.len());
    // Results that the next message of the user begins with.
    let mut results: Vec<Raw> = Vec::new();
    for message in messages {
        let Some(mut object) = RawObject::from_raw(message) else {
            rewritten.push(message.clone());
            continue;
        };
        match object.text("role").as_deref() {
            Some("assistant") => {
                flush(&mut rewritten, &mut results);
                let mut splitter = Splitter::new(&is_local, exact_results);
                for block in object.list("content") {
                    splitter.block(&block);
                }
                if splitter.has_own_blocks {
                    results = splitter.finish(&object, &mut rewritten);
                } else {
                    rewritten.push(message.clone());
                }
            }
            Some("user") if !results.is_empty() => {
                let mut content = std::mem::take(&mut results);
                match object.text("content") {
                    Some(text) => content.push(raw(json!({"type": "text", "text": text}))),
                    None => content.extend(object.list("content")),
                }
                object.set("content", content);
                rewritten.push(object.to_raw());
            }
            _ => rewritten.push(message.clone()),
        }
    }
    flush(&mut rewritten, &mut results);
    rewritten
}

fn flush(rewritten: &mut Vec<Raw>, results: &mut Vec<Raw>) {
    if !results.is_empty() {
        rewritten.push(message("user", &std::mem::take(results)));
    }
}

/// A message with these blocks.
pub fn message(role: &str, content: &[Raw]) -> Raw {
    let mut object = RawObject::default();
    object.set("role", role);
    object.set("content", content);
    object.to_raw()
}

/// Splits one message of the assistant at the results of our calls.
struct Splitter<'a> {
    is_local: &'a dyn Fn(&str) -> bool,
    exact_results: &'a BTreeMap<String, Raw>,
    has_own_blocks: bool,
    /// Pairs of messages that are complete: blocks of the assistant, and results.
    rounds: Vec<(Vec<Raw>, Vec<Raw>)>,
    blocks: Vec<Raw>,
    results: Vec<Raw>,
    /// Calls of ours without a result so far.
    open: BTreeSet<String>,
    own_calls: BTreeSet<String>,
}

impl<'a> Splitter<'a> {
    fn new(is_local: &'a dyn Fn(&str) -> bool, exact_results: &'a BTreeMap<String, Raw>) -> Self {
        Self {
            is_local,
            exact_results,
            has_own_blocks: false,
            rounds: Vec::new(),
            blocks: Vec::new(),
            results: Vec::new(),
            open: BTreeSet::new(),
            own_calls: BTreeSet::new(),
        }
    }

    fn block(&mut self, block: &Raw) {
        let Some(object) = RawObject::from_raw(block) else {
            return self.push(block.clone());
        };
        let text = |name: &str| object.text(name).unwrap_or_default();
        match text("type").as_str() {
            "mcp_tool_listing" if (self.is_local)(&text("mcp_server_name")) => self.has_own_blocks = true,
            "mcp_tool_use" if (self.is_local)(&text("server_name")) => {
                self.has_own_blocks = true;
                let tool = ToolRef {
                    label: text("server_name"),
                    tool: text("name"),
                };
                let id = text("id");
                let mut call = RawObject::default();
                call.set("type", "tool_use");
                call.set("id", blocks::vendor_id(&id));
                call.set("name", function_name(&tool));
                call.set_raw("input", object.get("input").map_or_else(|| raw(json!({})), ToOwned::to_owned));
                copy_cache(&object, &mut call);
                self.push(call.to_raw());
                self.own_calls.insert(id.clone());
                self.open.insert(id);
            }
            "mcp_tool_result" if self.own_calls.contains(&text("tool_use_id")) => {
                let id = text("tool_use_id");
                let vendor_id = blocks::vendor_id(&id);
                self.open.remove(&id);
                let sent = self.exact_results.get(vendor_id).and_then(|raw| RawObject::from_raw(raw));
                let mut result = sent.unwrap_or_else(|| {
                    let mut result = RawObject::default();
                    result.set("type", "tool_result");
                    result.set("tool_use_id", vendor_id);
                    result.set("is_error", object.is_true("is_error"));
                    result.set_raw("content", object.get("content").map_or_else(|| raw(json!([])), ToOwned::to_owned));
                    result
                });
                copy_cache(&object, &mut result);
                self.results.push(result.to_raw());
            }
            _ => self.push(block.clone()),
        }
    }

    /// A block of the model. After results, it begins a round.
    fn push(&mut self, block: Raw) {
        if !self.results.is_empty() {
            self.close_open_calls();
            self.rounds
                .push((std::mem::take(&mut self.blocks), std::mem::take(&mut self.results)));
        }
        self.blocks.push(block);
    }

    /// The vendor wants a result of each call.
    fn close_open_calls(&mut self) {
        for id in std::mem::take(&mut self.open) {
            let outcome = ToolOutcome::NotRun("This call did not run.");
            self.results.push(blocks::tool_result(blocks::vendor_id(&id), &outcome));
        }
    }

    /// Adds the messages, and returns the results that belong to the next message of the user.
    fn finish(mut self, original: &RawObject, rewritten: &mut Vec<Raw>) -> Vec<Raw> {
        self.close_open_calls();
        for (blocks, results) in self.rounds {
            rewritten.push(message("assistant", &blocks));
            rewritten.push(message("user", &results));
        }
        let mut last = original.clone();
        last.set("content", &self.blocks);
        rewritten.push(last.to_raw());
        self.results
    }
}

fn copy_cache(from: &RawObject, to: &mut RawObject) {
    if let Some(cache) = from.get_present("cache_control") {
        to.set_raw("cache_control", cache.to_owned());
    }
}

/// The vendor's ids of the calls whose results the messages hold.
pub fn called_ids(messages: &[Raw]) -> Vec<String> {
    let objects = messages.iter().filter_map(|message| RawObject::from_raw(message));
    let blocks = objects.flat_map(|message| message.list("content"));
    let results = blocks.filter_map(|block| RawObject::from_raw(&block)?.text("tool_use_id"));
    results.map(|id| blocks::vendor_id(&id).to_owned()).collect()
}
