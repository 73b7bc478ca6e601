//! Request states of tool calls: only what was sealed for a call opens for it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mcp_oauth_gateway::app::approvals::request_state;
use mcp_oauth_gateway::base::ids::Digest;
use mcp_oauth_gateway::base::keyring::{self, KeyRing};
use mcp_oauth_gateway::base::time::UnixTime;
use mcp_oauth_gateway::flow::tool_call::CallBinding;

static KEYS: LazyLock<KeyRing> = LazyLock::new(|| KeyRing::parse(keyring::generate(UnixTime(0)).expose()).expect("a new key ring"));

fuzz_target!(|text: &str| {
    let binding = CallBinding {
        caller: "user".to_owned(),
        service: "service".to_owned(),
        tool: "tool".to_owned(),
        arguments: Digest::new("{}"),
        also_sent: None,
        pin: None,
        policy: Digest::new(""),
    };
    for state in [text.to_owned(), format!("{}{text}", request_state::PREFIX)] {
        assert_eq!(request_state::open(&KEYS, UnixTime(1), &binding, &state), None);
    }
});
