//! What a later request needs that continues a response by its id.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::adapter::json::Raw;
use crate::adapter::openai::history::AwaitedCall;

/// What a later request with `previous_response_id` needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Continuation {
    /// The vendor's last response.
    pub last_id: String,
    /// Outputs that the vendor has not got.
    pub outputs: Vec<Raw>,
    /// Calls that wait for the client's approval, by the id of the request.
    pub awaited: BTreeMap<String, AwaitedCall>,
}

impl Continuation {
    /// The continuation as text.
    pub fn serialized(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads [`Continuation::serialized`].
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}
