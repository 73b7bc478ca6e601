//! Items: those that the client sees for our calls, and those that the vendor gets for them.

use serde_json::{Value, json};

use crate::adapter::json::{Raw, RawObject, raw};
use crate::adapter::openai::ids::CallIds;
use crate::adapter::outcome::{Part, ToolOutcome};
use crate::mcp::tool::ToolDefinition;

/// The text before a failure in the output that the model reads.
const FAILED: &str = "Error: ";

/// A tool in `mcp_list_tools`, and whether its approved definition is read-only.
pub fn listed_tool(tool: &ToolDefinition, is_read_only: bool) -> Value {
    json!({
        "annotations": {"read_only": is_read_only},
        "description": tool.description(),
        "input_schema": tool.input_schema().cloned().unwrap_or_else(|| json!({"type": "object"})),
        "name": tool.name(),
    })
}

/// `mcp_list_tools`.
pub fn list_tools(id: &str, label: &str, tools: &[Value]) -> Value {
    json!({"id": id, "type": "mcp_list_tools", "error": null, "server_label": label, "tools": tools})
}

/// A call as the client sees it.
#[derive(Clone, Debug)]
pub struct CallItem<'a> {
    /// The item's id.
    pub id: &'a str,
    /// The client's label of the server.
    pub label: &'a str,
    /// The tool.
    pub name: &'a str,
    /// The arguments as text.
    pub arguments: &'a str,
    /// The approval that the client gave.
    pub approval_request_id: Option<&'a str>,
}

impl CallItem<'_> {
    fn with(&self, status: &str, output: &Value, error: &Value) -> Value {
        json!({"id": self.id, "type": "mcp_call", "approval_request_id": self.approval_request_id, "arguments": self.arguments,
            "error": error, "name": self.name, "output": output, "server_label": self.label, "status": status})
    }

    /// The item when the model begins the call.
    pub fn added(&self) -> Value {
        let begun = CallItem {
            arguments: "",
            ..self.clone()
        };
        begun.with("in_progress", &Value::Null, &Value::Null)
    }

    /// The item of a call that no longer runs.
    pub fn incomplete(&self) -> Value {
        self.with("incomplete", &Value::Null, &Value::Null)
    }

    /// The item when the call has ended.
    pub fn ended(&self, outcome: &ToolOutcome) -> Value {
        let error = match outcome {
            ToolOutcome::Result(result) if result["isError"] == true => {
                let content: Vec<Value> = outcome
                    .parts()
                    .iter()
                    .map(|part| json!({"type": "text", "text": part.as_text()}))
                    .collect();
                json!({"type": "mcp_tool_execution_error", "content": content})
            }
            ToolOutcome::Result(_) => return self.with("completed", &json!(outcome.text()), &Value::Null),
            ToolOutcome::Protocol { code, message } => json!({"type": "mcp_protocol_error", "code": code, "message": message}),
            ToolOutcome::Http { status, message } => json!({"type": "http_error", "code": status, "message": message}),
            ToolOutcome::NotRun(message) => json!({"type": "mcp_protocol_error", "code": -32000, "message": message}),
        };
        self.with("failed", &Value::Null, &error)
    }

    /// The item that asks the client for its approval.
    pub fn approval_request(&self) -> Value {
        json!({"id": self.id, "type": "mcp_approval_request", "arguments": self.arguments, "name": self.name,
            "server_label": self.label})
    }
}

/// The vendor's item of a call.
pub fn function_call(ids: &CallIds, name: &str, arguments: &str) -> Raw {
    raw(
        json!({"type": "function_call", "id": ids.item_id, "call_id": ids.call_id, "name": name, "arguments": arguments,
        "status": "completed"}),
    )
}

/// The output of a call for the vendor. Texts are one string, so that the client's item can repeat it.
pub fn function_output(call_id: &str, outcome: &ToolOutcome) -> Raw {
    let parts = outcome.parts();
    let is_text = parts.iter().all(|part| matches!(part, Part::Text(_) | Part::TextDocument { .. }));
    let output = if outcome.is_error() {
        json!(format!("{FAILED}{}", outcome.text()))
    } else if is_text {
        json!(outcome.text())
    } else {
        Value::Array(parts.iter().map(input_part).collect())
    };
    output_item(call_id, &output)
}

/// The output of a call that the client's item of it tells.
pub fn function_output_of_item(call_id: &str, item: &RawObject) -> Raw {
    let error = item.value("error");
    if error.is_null() {
        return output_item(call_id, &json!(item.text("output").unwrap_or_default()));
    }
    let texts = error["content"].as_array().into_iter().flatten();
    let texts: Vec<&str> = texts.filter_map(|part| part["text"].as_str()).collect();
    let message = error.as_str().or_else(|| error["message"].as_str());
    let message = message.map_or_else(|| texts.join("\n"), str::to_owned);
    output_item(call_id, &json!(format!("{FAILED}{message}")))
}

fn output_item(call_id: &str, output: &Value) -> Raw {
    raw(json!({"type": "function_call_output", "call_id": call_id, "output": output}))
}

fn input_part(part: &Part) -> Value {
    match part {
        Part::Text(_) | Part::TextDocument { .. } => json!({"type": "input_text", "text": part.as_text()}),
        Part::Image { media_type, data } => json!({"type": "input_image", "image_url": format!("data:{media_type};base64,{data}")}),
        Part::Pdf { name, data } => {
            json!({"type": "input_file", "filename": name, "file_data": format!("data:application/pdf;base64,{data}")})
        }
    }
}
