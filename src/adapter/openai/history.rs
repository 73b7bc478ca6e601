//! A client's input with our items, rewritten to the vendor's own: the same ids, names, arguments and
//! outputs in the same order as before, because the vendor binds reasoning to what precedes it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::adapter::json::{Raw, RawObject, raw};
use crate::adapter::names::{ToolRef, function_name};
use crate::adapter::openai::ids::CallIds;
use crate::adapter::openai::items;
use crate::adapter::outcome::ToolOutcome;

/// What the model reads about a call that the client refused.
pub const REFUSED: &str = "The user refused this call.";
/// What the model reads about a call whose approval the client never answered.
pub const UNANSWERED: &str = "The user did not approve this call.";

/// A call that waits for the client's approval, as the approval's sealed id tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitedCall {
    /// The vendor's ids.
    pub ids: CallIds,
    /// The tool.
    pub tool: ToolRef,
    /// The arguments.
    pub arguments: String,
}

/// A client's answer to an approval request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalAnswer {
    /// The id of the request.
    pub request_id: String,
    /// Whether the call may run.
    pub approve: bool,
}

/// An input without items of ours.
#[derive(Debug, Default)]
pub struct VendorInput {
    /// The items for the vendor.
    pub items: Vec<Raw>,
    /// Outputs that the vendor gets after `items`.
    pub outputs: Vec<Raw>,
    /// Approvals that this request answers, for calls that did not run yet.
    pub answers: Vec<ApprovalAnswer>,
    /// The approval requests among the items, by id.
    pub requests: BTreeMap<String, AwaitedCall>,
    /// The labels whose tools the input already lists.
    pub listed: BTreeSet<String>,
    /// Whether there was any item of ours.
    pub has_own_items: bool,
}

/// Rewrites an input. `is_local` says whether a label is of an entry of ours; `open_request` opens the id of
/// an approval request, if it is ours; `exact_output` has outputs that the items do not tell in full.
pub fn rewrite(
    input: &[Raw],
    is_local: impl Fn(&str) -> bool,
    open_request: impl Fn(&str) -> Option<CallIds>,
    exact_output: impl Fn(&str) -> Option<Raw>,
) -> VendorInput {
    let objects: Vec<Option<RawObject>> = input.iter().map(|item| RawObject::from_raw(item)).collect();
    let requests_of = |kind: &str| -> BTreeSet<String> {
        let items = objects.iter().flatten().filter(|item| is(item, kind));
        items.filter_map(|item| item.text("approval_request_id")).collect()
    };
    let mut rewriter = Rewriter {
        is_local: &is_local,
        open_request: &open_request,
        exact_output: &exact_output,
        ran: requests_of("mcp_call"),
        answered: requests_of("mcp_approval_response"),
        objects: &objects,
        round: None,
        held: Vec::new(),
        result: VendorInput::default(),
    };
    for (index, item) in input.iter().enumerate() {
        match &objects[index] {
            Some(object) => rewriter.item(index, item, object),
            None => rewriter.foreign(index, item),
        }
    }
    let Rewriter { held, mut result, .. } = rewriter;
    result.outputs = held;
    result
}

fn is(item: &RawObject, kind: &str) -> bool {
    item.text("type").as_deref() == Some(kind)
}

struct Rewriter<'a> {
    is_local: &'a dyn Fn(&str) -> bool,
    open_request: &'a dyn Fn(&str) -> Option<CallIds>,
    exact_output: &'a dyn Fn(&str) -> Option<Raw>,
    objects: &'a [Option<RawObject>],
    /// Approval requests whose call ran.
    ran: BTreeSet<String>,
    /// Approval requests that the client answers.
    answered: BTreeSet<String>,
    /// The round whose outputs are held back.
    round: Option<String>,
    held: Vec<Raw>,
    result: VendorInput,
}

impl Rewriter<'_> {
    fn item(&mut self, index: usize, item: &Raw, object: &RawObject) {
        let label = object.text("server_label").unwrap_or_default();
        match object.text("type").as_deref() {
            Some("mcp_list_tools") if (self.is_local)(&label) => {
                self.result.has_own_items = true;
                self.result.listed.insert(label);
            }
            Some("mcp_call") => match object.text("id").as_deref().and_then(CallIds::from_item_id) {
                Some(ids) => self.call(&ids, label, object),
                None => self.push(item),
            },
            Some("mcp_approval_request") => {
                let id = object.text("id").unwrap_or_default();
                match (self.open_request)(&id) {
                    Some(ids) => self.request(id, ids, label, object),
                    None => self.push(item),
                }
            }
            Some("mcp_approval_response") => {
                let id = object.text("approval_request_id").unwrap_or_default();
                match (self.open_request)(&id) {
                    Some(_) => self.response(index, id, object.is_true("approve")),
                    None => self.foreign(index, item),
                }
            }
            Some("function_call" | "custom_tool_call") => self.push(item),
            _ => self.foreign(index, item),
        }
    }

    fn call(&mut self, ids: &CallIds, label: String, object: &RawObject) {
        let exact = (self.exact_output)(&ids.call_id);
        let output = exact.unwrap_or_else(|| items::function_output_of_item(&ids.call_id, object));
        if object.get_present("approval_request_id").is_none() {
            let tool = ToolRef {
                label,
                tool: object.text("name").unwrap_or_default(),
            };
            self.function_call(ids, &tool, &object.text("arguments").unwrap_or_default());
        }
        self.result.has_own_items = true;
        self.held.push(output);
    }

    fn request(&mut self, id: String, ids: CallIds, label: String, object: &RawObject) {
        let tool = ToolRef {
            label,
            tool: object.text("name").unwrap_or_default(),
        };
        let arguments = object.text("arguments").unwrap_or_default();
        self.function_call(&ids, &tool, &arguments);
        if !self.answered.contains(&id) {
            let outcome = ToolOutcome::NotRun(UNANSWERED);
            self.held.push(items::function_output(&ids.call_id, &outcome));
        }
        self.result.requests.insert(id, AwaitedCall { ids, tool, arguments });
    }

    /// An approval whose call ran is followed by the call. A refused one has its output here, if the model
    /// went on since.
    fn response(&mut self, index: usize, request_id: String, approve: bool) {
        self.result.has_own_items = true;
        if self.ran.contains(&request_id) {
            return;
        }
        let went_on = self.objects[index..].iter().flatten().any(is_models);
        match self.result.requests.get(&request_id) {
            Some(awaited) if went_on => {
                let outcome = ToolOutcome::NotRun(REFUSED);
                let output = items::function_output(&awaited.ids.call_id, &outcome);
                self.held.push(output);
            }
            Some(_) | None => self.result.answers.push(ApprovalAnswer { request_id, approve }),
        }
    }

    fn function_call(&mut self, ids: &CallIds, tool: &ToolRef, arguments: &str) {
        if self.round.as_ref().is_some_and(|round| *round != ids.round) {
            self.flush();
        }
        self.round = Some(ids.round.clone());
        self.result.has_own_items = true;
        self.result.items.push(items::function_call(ids, &function_name(tool), arguments));
    }

    /// An item of the same round as the calls before it.
    fn push(&mut self, item: &Raw) {
        self.result.items.push(item.clone());
    }

    /// An item that ends the round, unless a later call belongs to it too.
    fn foreign(&mut self, index: usize, item: &Raw) {
        let round = self.round.clone();
        let goes_on = round.is_some_and(|round| {
            let later = self.objects[index..].iter().flatten();
            let ids = later.filter_map(|item| CallIds::from_item_id(&item.text("id")?).or_else(|| (self.open_request)(&item.text("id")?)));
            ids.into_iter().any(|ids| ids.round == round)
        });
        if !goes_on {
            self.flush();
        }
        self.push(item);
    }

    fn flush(&mut self) {
        self.round = None;
        self.result.items.append(&mut self.held);
    }
}

/// Whether a model wrote the item.
fn is_models(item: &RawObject) -> bool {
    matches!(item.text("type").as_deref(), Some("reasoning" | "function_call" | "mcp_call"))
        || item.text("role").as_deref() == Some("assistant")
}

/// A text as the list of items that it stands for.
pub fn as_items(input: &RawObject) -> Vec<Raw> {
    match input.text("input") {
        Some(text) => vec![raw(json!({"type": "message", "role": "user", "content": text}))],
        None => input.list("input"),
    }
}
