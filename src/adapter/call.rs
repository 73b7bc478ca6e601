//! A call that the model asks for.

use serde_json::Value;

use crate::adapter::json::RawObject;
use crate::adapter::names::ToolRef;
use crate::mcp::json;

/// A call of one of our tools.
#[derive(Clone, Debug)]
pub struct ToolCall {
    /// The tool.
    pub tool: ToolRef,
    /// The arguments as the model wrote them.
    pub arguments: String,
    /// Whether the client approved the call, by an approval request that counted.
    pub is_client_approved: bool,
}

impl ToolCall {
    /// The arguments, if they are one JSON object with a single meaning. No other call runs.
    ///
    /// # Errors
    /// With what to tell the model.
    pub fn checked_arguments(&self) -> Result<Value, String> {
        let text = if self.arguments.is_empty() { "{}" } else { &self.arguments };
        let value = json::parse(text.as_bytes()).map_err(|error| format!("The arguments are not accepted: {error}."))?;
        if value.is_object() && RawObject::parse(text.as_bytes()).is_ok() {
            Ok(value)
        } else {
            Err("The arguments are not accepted: they are no JSON object.".to_owned())
        }
    }
}

/// What a loop does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Run the calls of the round, then ask the model.
    RunTools,
    /// Ask the model.
    AskModel,
    /// The answer is complete.
    End,
}
