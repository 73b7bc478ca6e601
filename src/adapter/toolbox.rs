//! The tools of one request: open sessions by the client's label.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::adapter::call::ToolCall;
use crate::adapter::outcome::ToolOutcome;
use crate::app::tools::error::ToolError;
use crate::app::tools::session::ToolSession;

/// Open sessions by the client's label of the server.
#[derive(Clone, Default)]
pub struct Toolbox(BTreeMap<String, Arc<ToolSession>>);

impl Toolbox {
    /// Adds a session.
    pub fn insert(&mut self, label: &str, session: ToolSession) {
        self.0.insert(label.to_owned(), Arc::new(session));
    }

    /// Runs a call, for at most this time. Arguments that are no object never reach a tool.
    pub async fn call(&self, call: &ToolCall, time_left: Duration) -> ToolOutcome {
        let arguments = match call.checked_arguments() {
            Ok(arguments) => arguments,
            Err(message) => return ToolOutcome::Protocol { code: -32602, message },
        };
        let Some(session) = self.0.get(&call.tool.label) else {
            return ToolOutcome::Protocol {
                code: -32601,
                message: format!("There is no server '{}' in this request.", call.tool.label),
            };
        };
        match tokio::time::timeout(time_left, session.call(&call.tool.tool, arguments, call.is_client_approved)).await {
            Ok(Ok(result)) => ToolOutcome::Result(result),
            Ok(Err(error)) => outcome_of(error),
            Err(_elapsed) => ToolOutcome::Protocol {
                code: -32001,
                message: "The tool did not answer within the time limit of the request.".to_owned(),
            },
        }
    }
}

fn outcome_of(error: ToolError) -> ToolOutcome {
    match error {
        ToolError::Http { status, message } => ToolOutcome::Http { status, message },
        ToolError::Protocol { code, message } => ToolOutcome::Protocol { code, message },
    }
}
