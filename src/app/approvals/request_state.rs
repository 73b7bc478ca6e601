//! The `requestState` of MCP 2026-07-28: a sealed text that a client repeats. It names an approval, and
//! holds what the upstream wants repeated. It is bound to the caller, the service, the tool, the
//! arguments and what else is sent, and it makes nothing single-use: the record of the approval does.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::base::ids::{Digest, Id};
use crate::base::keyring::KeyRing;
use crate::base::random::SaltAndNonce;
use crate::base::seal::{self, Label};
use crate::base::time::UnixTime;
use crate::flow::tool_call::CallBinding;
use crate::mcp::canonical_json;

const REQUEST_STATE: Label = Label("request state of a tool call");

/// Before each request state of the gateway. One of the upstream's could have it too; it does not open.
pub const PREFIX: &str = "gwq1.";

/// What a request state says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestState {
    /// The approval.
    #[serde(rename = "a")]
    pub approval: Id,
    /// When it ends.
    #[serde(rename = "e")]
    pub expires: UnixTime,
    /// The round of input of the upstream's that it is for; `None`: the person has not decided yet.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub round: Option<u32>,
    /// The upstream's own request state.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
}

/// What a request state is bound to. Pin and policy are not among it: a change of them voids the approval,
/// and the client is told so.
fn associated_data(binding: &CallBinding) -> Digest {
    let mut members = vec![
        binding.caller.clone(),
        binding.service.clone(),
        binding.tool.clone(),
        binding.arguments.to_hex(),
    ];
    members.extend(binding.also_sent.as_ref().map(Digest::to_hex));
    canonical_json::digest(&json!(members))
}

/// Seals a request state for one call.
pub fn seal(keys: &KeyRing, now: UnixTime, random: SaltAndNonce, binding: &CallBinding, state: &RequestState) -> String {
    let plaintext = serde_json::to_vec(state).unwrap_or_default();
    let bound_to = associated_data(binding).to_hex();
    let sealed = seal::seal_message(keys.sealing_key(now), REQUEST_STATE, random, bound_to.as_bytes(), &plaintext);
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(sealed))
}

/// Opens a request state. `None` if it is not ours, was changed, is for another call, or has ended.
pub fn open(keys: &KeyRing, now: UnixTime, binding: &CallBinding, text: &str) -> Option<RequestState> {
    let sealed = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
    let bound_to = associated_data(binding).to_hex();
    let plaintext = seal::open_message(keys, REQUEST_STATE, bound_to.as_bytes(), &sealed).ok()?;
    let state: RequestState = serde_json::from_slice(&plaintext).ok()?;
    (state.expires > now).then_some(state)
}
