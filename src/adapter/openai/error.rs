//! Errors in the vendor's shape.

use serde_json::{Value, json};

/// Why the gateway refuses a request itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRequest {
    /// What is wrong, and what to do.
    pub message: String,
    /// The member that is wrong, as `tools[0].server_url`.
    pub param: Option<String>,
}

impl BadRequest {
    /// A refusal because of this member.
    pub fn new(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            param: Some(param.into()),
        }
    }
}

/// The body of an error.
pub fn body(message: &str, kind: &str, param: Option<&str>, code: Option<&str>) -> Value {
    json!({"error": {"message": message, "type": kind, "param": param, "code": code}})
}
