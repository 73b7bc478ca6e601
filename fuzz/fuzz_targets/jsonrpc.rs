//! JSON-RPC bodies: what the strict reader accepts is JSON, and its canonical text is stable.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_oauth_gateway::mcp::jsonrpc::{Message, Payload};
use mcp_oauth_gateway::mcp::sse::SseParser;
use mcp_oauth_gateway::mcp::tool::ToolDefinition;
use mcp_oauth_gateway::mcp::{canonical_json, json};

fuzz_target!(|bytes: &[u8]| {
    let _ = SseParser::new(1024).push(bytes);
    let Ok(value) = json::parse(bytes) else {
        assert!(Payload::parse(bytes).is_err());
        return;
    };
    let text = canonical_json::to_text(&value);
    serde_json::from_slice::<serde_json::Value>(bytes).expect("what is accepted is JSON");
    let again = json::parse(text.as_bytes()).expect("canonical text is accepted");
    assert_eq!(canonical_json::to_text(&again), text);
    let _ = ToolDefinition::from_value(&value).map(|tool| tool.digest());
    if let Ok(payload) = Payload::parse(bytes) {
        assert_eq!(payload.to_text(), text);
        for message in payload.messages() {
            assert_eq!(Message::from_value(message.clone().into_value()).as_ref(), Ok(message));
        }
    }
});
