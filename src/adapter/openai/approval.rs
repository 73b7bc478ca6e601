//! The ids of approval requests. An id is a sealed ticket: it is bound to caller, service, tool, arguments and
//! definition, ends, and is used once.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::adapter::call::ToolCall;
use crate::adapter::openai::history::AwaitedCall;
use crate::adapter::openai::ids::CallIds;
use crate::app::tools::tickets::Tickets;
use crate::base::ids::Digest;
use crate::mcp::canonical_json;

/// The prefix of the ids.
const PREFIX: &str = "mcpr_";
/// How long a client may take to answer, in seconds.
const TTL_SECONDS: u64 = 24 * 3_600;

/// What a ticket says.
#[derive(Debug, Serialize, Deserialize)]
struct Ticket {
    /// The caller, as a digest.
    caller: String,
    service: String,
    tool: String,
    /// The digest of the canonical arguments.
    arguments: String,
    /// The digest of the tool's definition.
    definition: String,
    ids: CallIds,
    nonce: String,
    expires: u64,
}

/// Why an approval is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalError {
    /// It is not of this gateway, or its key is gone.
    #[error("this approval request is not known here")]
    Unknown,
    /// Another caller got the request.
    #[error("this approval request belongs to another caller")]
    OtherCaller,
    /// The tool or its arguments are not those that were shown.
    #[error("the call differs from the one that this approval request showed")]
    OtherCall,
    /// The definition of the tool changed since.
    #[error("the definition of the tool changed after this approval request; ask the model again")]
    OtherDefinition,
    /// It is too old.
    #[error("this approval request has expired; ask the model again")]
    Expired,
    /// It was answered before.
    #[error("this approval request was answered before; each one counts once")]
    Used,
}

/// A tool that tickets may be for: the name of its service, and the digest of its definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketTool {
    /// The service.
    pub service: String,
    /// The digest of the definition.
    pub definition: String,
}

/// Makes and opens the ids of approval requests of one caller.
#[derive(Debug)]
pub struct ApprovalIds {
    tickets: Arc<Tickets>,
    caller: String,
    /// The tools of the request, by label and name.
    tools: BTreeMap<(String, String), TicketTool>,
}

impl ApprovalIds {
    /// The ids for a caller, who is known by a text that never changes.
    pub fn new(tickets: Arc<Tickets>, caller: &str) -> Self {
        Self {
            tickets,
            caller: Digest::new(caller).to_hex(),
            tools: BTreeMap::new(),
        }
    }

    /// Adds a tool.
    pub fn add(&mut self, label: &str, name: &str, tool: TicketTool) {
        self.tools.insert((label.to_owned(), name.to_owned()), tool);
    }

    fn tool(&self, call: &ToolCall) -> Option<&TicketTool> {
        self.tools.get(&(call.tool.label.clone(), call.tool.tool.clone()))
    }

    /// The id of a request to approve this call.
    pub fn request_id(&self, ids: &CallIds, call: &ToolCall) -> String {
        let tool = self.tool(call);
        let ticket = Ticket {
            caller: self.caller.clone(),
            service: tool.map(|tool| tool.service.clone()).unwrap_or_default(),
            tool: call.tool.tool.clone(),
            arguments: digest(call),
            definition: tool.map(|tool| tool.definition.clone()).unwrap_or_default(),
            ids: ids.clone(),
            nonce: self.tickets.nonce(),
            expires: self.tickets.now() + TTL_SECONDS,
        };
        let text = serde_json::to_string(&ticket).unwrap_or_default();
        format!("{PREFIX}{}", self.tickets.seal(&text))
    }

    /// The vendor's ids of a call, if the request is one of ours.
    pub fn call_ids(&self, request_id: &str) -> Option<CallIds> {
        self.open(request_id).map(|ticket| ticket.ids)
    }

    fn open(&self, request_id: &str) -> Option<Ticket> {
        let text = self.tickets.open(request_id.strip_prefix(PREFIX)?)?;
        serde_json::from_str(&text).ok()
    }

    /// Takes the client's approval of a call. It counts once.
    ///
    /// # Errors
    /// If the approval is not for this call, or counts no more.
    pub fn redeem(&self, request_id: &str, awaited: &AwaitedCall) -> Result<(), ApprovalError> {
        let ticket = self.open(request_id).ok_or(ApprovalError::Unknown)?;
        let call = ToolCall {
            tool: awaited.tool.clone(),
            arguments: awaited.arguments.clone(),
            is_client_approved: false,
        };
        let tool = self.tool(&call).ok_or(ApprovalError::OtherCall)?;
        if ticket.caller != self.caller {
            return Err(ApprovalError::OtherCaller);
        }
        if ticket.service != tool.service || ticket.tool != call.tool.tool || ticket.arguments != digest(&call) {
            return Err(ApprovalError::OtherCall);
        }
        if ticket.definition != tool.definition {
            return Err(ApprovalError::OtherDefinition);
        }
        if ticket.expires <= self.tickets.now() {
            return Err(ApprovalError::Expired);
        }
        if self.tickets.use_once(&ticket.nonce, ticket.expires) {
            Ok(())
        } else {
            Err(ApprovalError::Used)
        }
    }
}

/// The digest of the arguments: canonical if they are JSON, so that a client may print them in its way.
fn digest(call: &ToolCall) -> String {
    match call.checked_arguments() {
        Ok(value) => canonical_json::digest(&value).to_hex(),
        Err(_) => Digest::new(&call.arguments).to_hex(),
    }
}
