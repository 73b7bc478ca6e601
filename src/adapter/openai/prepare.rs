//! Makes a loop of a client's request: opens the tools, and rewrites the request for the vendor.

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::Value;

use crate::adapter::access::AdapterContext;
use crate::adapter::json::{Raw, RawObject};
use crate::adapter::names::NameTable;
use crate::adapter::openai::approval::{ApprovalIds, TicketTool};
use crate::adapter::openai::continuation::Continuation;
use crate::adapter::openai::echo::ResponseEcho;
use crate::adapter::openai::entry::{EntryTool, OpenEntry};
use crate::adapter::openai::error::BadRequest;
use crate::adapter::openai::history::{self, AwaitedCall, REFUSED, UNANSWERED, VendorInput};
use crate::adapter::openai::items;
use crate::adapter::openai::request::ClientRequest;
use crate::adapter::openai::turn::{Turn, TurnPlan};
use crate::adapter::outcome::ToolOutcome;
use crate::adapter::rounds::{LoopLimits, Rounds};
use crate::adapter::toolbox::Toolbox;
use crate::app::tools::error::ToolError;
use crate::app::tools::session::ToolSession;
use crate::base::ids::Id;

/// Why a request is answered by the gateway.
#[derive(Debug)]
pub enum Refused {
    /// The request is wrong.
    Request(BadRequest),
    /// The tools of a server cannot be listed.
    List {
        /// The client's label.
        label: String,
        /// Why.
        error: ToolError,
    },
}

impl From<BadRequest> for Refused {
    fn from(error: BadRequest) -> Self {
        Self::Request(error)
    }
}

/// A request with something of the gateway, of which nothing has been done yet.
#[derive(Debug)]
pub struct ReadRequest {
    request: ClientRequest,
    continuation: Option<Continuation>,
    approvals: ApprovalIds,
    input: VendorInput,
}

/// Reads a request. `None`: nothing in it is of the gateway, and it passes as it is.
///
/// # Errors
/// If the request is wrong.
pub fn read(context: &AdapterContext, body: &[u8]) -> Result<Option<ReadRequest>, Refused> {
    let request = ClientRequest::read(body, context.own_names())?;
    let key = ["previous_response_id", "conversation"].into_iter().find_map(|name| {
        let member = request.body.get_present(name)?;
        let object = RawObject::from_raw(member).and_then(|object| object.text("id"));
        object.or_else(|| request.body.text(name))
    });
    let (tools, caller) = (context.tools(), context.caller_key());
    let continuation = key.and_then(|id| tools.continuations().get(&caller, &id));
    let continuation = continuation.and_then(|text| Continuation::parse(&text));
    let approvals = ApprovalIds::new(std::sync::Arc::clone(tools.tickets()), &caller);
    let labels: Vec<String> = request.entries.iter().map(|entry| entry.label.clone()).collect();
    let exact = |id: &str| {
        let text = tools.continuations().get(&caller, id)?;
        serde_json::from_str::<Raw>(&text).ok()
    };
    let input = history::rewrite(
        &history::as_items(&request.body),
        |label| labels.iter().any(|own| own == label),
        |id| approvals.call_ids(id),
        exact,
    );
    if request.entries.is_empty() && continuation.is_none() && !input.has_own_items {
        return Ok(None);
    }
    Ok(Some(ReadRequest {
        request,
        continuation,
        approvals,
        input,
    }))
}

impl ReadRequest {
    /// The request of the client.
    pub fn client_request(&self) -> &ClientRequest {
        &self.request
    }

    /// Opens the tools, takes the client's approvals, and makes the first request for the vendor.
    ///
    /// # Errors
    /// If the gateway answers itself.
    pub async fn open_tools(self, context: &AdapterContext) -> Result<(Turn, Toolbox), Refused> {
        let Self {
            request,
            continuation,
            mut approvals,
            input,
        } = self;
        let is_stream = request.is_stream();
        let (open, toolbox) = open_entries(context, request, &mut approvals).await?;
        let plan = plan(open, input, continuation, approvals)?;
        Ok((Turn::new(plan, is_stream), toolbox))
    }
}

/// The request with its open entries.
struct OpenRequest {
    request: ClientRequest,
    echoed_tools: Raw,
    entries: Vec<OpenEntry>,
}

async fn open_entries(
    context: &AdapterContext,
    mut request: ClientRequest,
    approvals: &mut ApprovalIds,
) -> Result<(OpenRequest, Toolbox), Refused> {
    let echoed_tools = request.echoed_tools();
    let has_foreign_tools = request.has_foreign_tools();
    let mut toolbox = Toolbox::default();
    let mut entries = Vec::new();
    for entry in std::mem::take(&mut request.entries) {
        let label = entry.label.clone();
        let access = context.access(entry.authorization.clone(), entry.headers.clone(), has_foreign_tools);
        let opened = context.tools().open(&context.http, &entry.service, access).await;
        let listed = match &opened {
            Ok(session) => session.list_tools().await,
            Err(error) => Err(error.clone()),
        };
        let (session, tools): (ToolSession, _) = match (opened, listed) {
            (Ok(session), Ok(tools)) => (session, tools),
            (Err(error), _) | (_, Err(error)) => return Err(Refused::List { label, error }),
        };
        for tool in &tools {
            let ticket = TicketTool {
                service: entry.service.service.name.clone(),
                definition: tool.digest().to_hex(),
            };
            approvals.add(&label, tool.name(), ticket);
        }
        // A hint counts only in a definition that a person approved.
        let are_read_only = session.are_approved_read_only(&tools).await;
        let tools = tools
            .into_iter()
            .zip(are_read_only)
            .map(|(definition, is_read_only)| EntryTool { definition, is_read_only });
        entries.push(OpenEntry::new(entry, tools.collect()));
        toolbox.insert(&label, session);
    }
    let open = OpenRequest {
        request,
        echoed_tools,
        entries,
    };
    Ok((open, toolbox))
}

fn plan(open: OpenRequest, input: VendorInput, continuation: Option<Continuation>, approvals: ApprovalIds) -> Result<TurnPlan, Refused> {
    let OpenRequest {
        request,
        echoed_tools,
        entries,
    } = open;
    let mut names = NameTable::default();
    let tools = request.vendor_tools(&entries, &mut names)?;
    let mut vendor_request = request.vendor_request(&tools, &entries);
    let mut members: Vec<(&'static str, Raw)> = Vec::new();
    let mut echo = |name: &'static str| members.extend(request.body.get(name).map(|raw| (name, raw.to_owned())));
    echo("tool_choice");
    echo("previous_response_id");
    if let Some(continuation) = continuation
        .as_ref()
        .filter(|_| request.body.get_present("previous_response_id").is_some())
    {
        vendor_request.set("previous_response_id", &continuation.last_id);
    }
    let listed = input.listed.clone();
    let continues = ["previous_response_id", "conversation"]
        .iter()
        .any(|name| request.body.get_present(name).is_some());
    let (vendor_input, approved) = answered_input(input, continuation, &approvals, continues)?;
    let to_list = entries.iter().filter(|open| !listed.contains(&open.entry.label));
    let lists = to_list
        .map(|open| (format!("mcpl_{}", Id::random()), open.entry.label.clone()))
        .collect();
    Ok(TurnPlan {
        has_conversation: request.body.value("conversation") != Value::Null,
        echo: ResponseEcho {
            tools: echoed_tools,
            members,
            approvals,
        },
        request: vendor_request,
        input: vendor_input,
        names,
        entries,
        lists,
        approved,
        rounds: Rounds::new(LoopLimits::default(), request.max_tool_calls()),
        seed: Id::random().to_string(),
    })
}

/// A call that the client approved, and the id of the approval's request.
type ApprovedCall = (AwaitedCall, String);

/// The vendor's input with the outputs of earlier calls, and the calls that this request approves.
/// `continues`: the vendor knows what precedes the client's items.
fn answered_input(
    input: VendorInput,
    continuation: Option<Continuation>,
    approvals: &ApprovalIds,
    continues: bool,
) -> Result<(Vec<Raw>, Vec<ApprovedCall>), Refused> {
    let (mut outputs, mut waiting) = continuation.map_or_else(Default::default, |known| (known.outputs, known.awaited));
    let mut awaited: BTreeMap<String, AwaitedCall> = input.requests;
    awaited.extend(waiting.clone());
    outputs.extend(input.outputs);
    let mut approved = Vec::new();
    for answer in input.answers {
        let Some(call) = awaited.get(&answer.request_id).cloned() else {
            let message = format!("There is no call that waits for the approval '{}'.", answer.request_id);
            return Err(BadRequest::new("input", message).into());
        };
        waiting.remove(&answer.request_id);
        if !answer.approve {
            outputs.push(items::function_output(&call.ids.call_id, &ToolOutcome::NotRun(REFUSED)));
            continue;
        }
        if let Err(error) = approvals.redeem(&answer.request_id, &call) {
            tracing::warn!(reason = %error, tool = call.tool.tool.as_str(), "an approval of a client is refused");
            return Err(BadRequest::new("input", format!("The approval is refused: {error}.")).into());
        }
        approved.push((call, answer.request_id));
    }
    for call in waiting.values() {
        outputs.push(items::function_output(&call.ids.call_id, &ToolOutcome::NotRun(UNANSWERED)));
    }
    let mut items = input.items;
    // What waits from the earlier response comes before the client's new items.
    if continues {
        outputs.append(&mut items);
        return Ok((outputs, approved));
    }
    items.append(&mut outputs);
    Ok((items, approved))
}

/// Status, message, type, member and code of a refusal, as the vendor has them.
pub fn describe(refused: &Refused) -> (StatusCode, Value) {
    use crate::adapter::openai::error::body;
    match refused {
        Refused::Request(error) => {
            let value = body(&error.message, "invalid_request_error", error.param.as_deref(), None);
            (StatusCode::BAD_REQUEST, value)
        }
        Refused::List { label, error } => {
            let message = format!("Error retrieving tool list from MCP server: '{label}'. {}", error.message());
            (
                StatusCode::FAILED_DEPENDENCY,
                body(&message, "external_connector_error", Some("tools"), Some("http_error")),
            )
        }
    }
}
