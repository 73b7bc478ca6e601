//! What the client sent and reads again in its response.

use crate::adapter::json::{Raw, RawObject};
use crate::adapter::openai::approval::ApprovalIds;

/// What the client sent and reads again in its response.
#[derive(Debug)]
pub struct ResponseEcho {
    /// `tools`, without the clients' tokens.
    pub tools: Raw,
    /// Other members that the adapter changed for the vendor, as the client sent them.
    pub members: Vec<(&'static str, Raw)>,
    /// Makes the ids of approval requests.
    pub approvals: ApprovalIds,
}

impl ResponseEcho {
    /// Puts the client's members into a response.
    pub fn apply(&self, response: &mut RawObject) {
        if response.get("tools").is_some() {
            response.set_raw("tools", self.tools.clone());
        }
        for (name, value) in &self.members {
            if response.get(name).is_some() {
                response.set_raw(name, value.clone());
            }
        }
    }
}
