//! Requests of vendors' SDKs: untouched parts keep their text, and rewritten conversations have no item of ours.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use mcp_oauth_gateway::adapter::filter::{AllowedTools, RequireApproval, ToolsetConfig};
use mcp_oauth_gateway::adapter::json::{RawObject, elements, raw};
use mcp_oauth_gateway::adapter::openai::ids::CallIds;
use mcp_oauth_gateway::adapter::{anthropic, openai};

fuzz_target!(|bytes: &[u8]| {
    let Ok(object) = RawObject::parse(bytes) else { return };
    let text = object.to_string();
    let again = RawObject::parse(text.as_bytes()).expect("what was written is read");
    assert_eq!(again.to_string(), text);
    let _ = RequireApproval::parse(&object.value("require_approval"));
    let _ = AllowedTools::parse(&object.value("allowed_tools"));
    let _ = ToolsetConfig::parse(&object.value("default_config"), &object.value("configs"));
    let input = openai::history::as_items(&object);
    let rewritten = openai::history::rewrite(&input, |_| true, |_| None, |_| None);
    for item in rewritten.items.iter().filter_map(|item| RawObject::from_raw(item)) {
        let is_call = item.text("type").as_deref() == Some("mcp_call");
        assert!(!is_call || item.text("id").as_deref().and_then(CallIds::from_item_id).is_none());
    }
    let messages = anthropic::history::rewrite(&object.list("messages"), |_| true, &BTreeMap::new());
    // What is rewritten has nothing left to rewrite.
    let twice = anthropic::history::rewrite(&elements(&raw(&messages)), |_| true, &BTreeMap::new());
    assert_eq!(raw(&twice).get(), raw(&messages).get());
});
