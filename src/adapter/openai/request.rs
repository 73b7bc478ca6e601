//! The client's request, read: what stays as it is, and what the adapter replaces.

use serde_json::{Value, json};

use crate::adapter::json::{Raw, RawObject, raw};
use crate::adapter::names::{NameTable, ToolRef, function_name};
use crate::adapter::openai::entry::{self, LocalEntry, OpenEntry};
use crate::adapter::openai::error::BadRequest;
use crate::adapter::own_entries::{MAX_OWN_SERVERS, OwnNames};

/// The member of `include` without which the vendor does not accept its own reasoning back.
const ENCRYPTED_REASONING: &str = "reasoning.encrypted_content";

/// A request of a client.
#[derive(Debug)]
pub struct ClientRequest {
    /// The whole request.
    pub body: RawObject,
    /// The elements of `tools`.
    pub tools: Vec<Raw>,
    /// The entries that name services of this gateway.
    pub entries: Vec<LocalEntry>,
}

impl ClientRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// If it is no JSON object, or an entry names this gateway and cannot be served.
    pub fn read(body: &[u8], names: OwnNames<'_>) -> Result<Self, BadRequest> {
        let body = RawObject::parse(body).map_err(|error| BadRequest {
            message: format!("The body of the request is not accepted: {error}."),
            param: None,
        })?;
        let tools = body.list("tools");
        let mut entries: Vec<LocalEntry> = Vec::new();
        for (position, tool) in tools.iter().enumerate() {
            let Some(object) = RawObject::from_raw(tool) else { continue };
            let Some(found) = entry::read(position, &object, names.urls, names.config)? else {
                continue;
            };
            if entries.iter().any(|other| other.label == found.label) {
                let param = format!("tools[{position}].server_label");
                return Err(BadRequest::new(param, "Two entries have the same server_label."));
            }
            if entries.len() == MAX_OWN_SERVERS {
                return Err(BadRequest::new("tools", "A request names at most 16 servers of this gateway."));
            }
            entries.push(found);
        }
        let served: Vec<usize> = entries.iter().map(|entry| entry.position).collect();
        match names.are_unserved(&body, "tools", &served) {
            Ok(false) => {}
            Ok(true) => {
                let message = "An MCP entry names this gateway where it is not served: make it an element of 'tools', with 'server_url' and \
                               without 'connector_id' and 'tunnel_id'.";
                return Err(BadRequest::new("tools", message));
            }
            Err(_) => return Err(BadRequest::new("input", "The request is nested too deeply.")),
        }
        if !entries.is_empty() && body.is_true("background") {
            let message = "The gateway runs the tools of its services only while the client waits: leave out 'background'.";
            return Err(BadRequest::new("background", message));
        }
        Ok(Self { body, tools, entries })
    }

    /// Whether the client reads events.
    pub fn is_stream(&self) -> bool {
        self.body.is_true("stream")
    }

    /// The client's own limit of calls.
    pub fn max_tool_calls(&self) -> Option<u32> {
        let most = self.body.number("max_tool_calls")?;
        Some(u32::try_from(most).unwrap_or(u32::MAX))
    }

    /// Whether calls of one answer may run at the same time.
    pub fn is_parallel(&self) -> bool {
        self.body.value("parallel_tool_calls") != Value::Bool(false)
    }

    /// Whether it has tools that the gateway does not police: those of other MCP servers, of connectors, and
    /// of the vendor. What cannot be read counts as such a tool, and so does a stored prompt, which can bring
    /// tools of its own.
    pub fn has_foreign_tools(&self) -> bool {
        let is_own = |position: usize| self.entries.iter().any(|entry| entry.position == position);
        let mut others = self.tools.iter().enumerate().filter(|(position, _)| !is_own(*position));
        let is_unreadable = self.tools.is_empty() && self.body.get_present("tools").is_some_and(|tools| tools.get() != "[]");
        is_unreadable || self.body.get_present("prompt").is_some() || others.any(|(_, tool)| !is_tool_of_client(tool))
    }

    /// `tools` for the vendor: functions in the place of each entry of ours.
    ///
    /// # Errors
    /// If two tools have one name.
    pub fn vendor_tools(&self, open: &[OpenEntry], names: &mut NameTable) -> Result<Vec<Raw>, BadRequest> {
        let mut tools = Vec::new();
        for (position, tool) in self.tools.iter().enumerate() {
            match open.iter().find(|open| open.entry.position == position) {
                Some(open) => tools.extend(open.functions(names)?),
                None => tools.push(tool.clone()),
            }
        }
        for tool in self.tools.iter().filter_map(|tool| RawObject::from_raw(tool)) {
            let name = tool.text("name").filter(|_| tool.text("type").as_deref() != Some("mcp"));
            if let Some(name) = name.filter(|name| names.get(name).is_some()) {
                return Err(BadRequest::new(
                    "tools",
                    format!("The function '{name}' has the name of a tool of the gateway; rename it."),
                ));
            }
        }
        Ok(tools)
    }

    /// `tools` as the client reads them in its response: without tokens.
    pub fn echoed_tools(&self) -> Raw {
        let without_token = |(position, tool): (usize, &Raw)| {
            let is_own = self.entries.iter().any(|entry| entry.position == position);
            match RawObject::from_raw(tool).filter(|_| is_own) {
                Some(mut object) => {
                    object.remove("authorization");
                    for (name, default) in [
                        ("allowed_tools", Value::Null),
                        ("headers", Value::Null),
                        ("server_description", Value::Null),
                    ] {
                        if object.get(name).is_none() {
                            object.set(name, default);
                        }
                    }
                    if object.get("require_approval").is_none() {
                        object.set("require_approval", "always");
                    }
                    object.to_raw()
                }
                None => tool.clone(),
            }
        };
        raw(self.tools.iter().enumerate().map(without_token).collect::<Vec<_>>())
    }

    /// The request for the vendor, without `input`.
    pub fn vendor_request(&self, tools: &[Raw], open: &[OpenEntry]) -> RawObject {
        let mut request = self.body.clone();
        if self.body.get("tools").is_some() {
            request.set("tools", tools);
        }
        if let Some(choice) = self.body.get("tool_choice") {
            request.set_raw("tool_choice", vendor_choice(choice.to_owned(), open));
        }
        if self.body.value("store") == Value::Bool(false) {
            let mut include = self.body.list("include");
            if !include.iter().any(|member| member.get() == raw(ENCRYPTED_REASONING).get()) {
                include.push(raw(ENCRYPTED_REASONING));
            }
            request.set("include", include);
        }
        request
    }
}

/// Whether the client itself runs a tool.
fn is_tool_of_client(tool: &Raw) -> bool {
    let Some(tool) = RawObject::from_raw(tool) else { return false };
    match tool.text("type").as_deref() {
        Some("function" | "custom") => true,
        Some("namespace") => tool.list("tools").iter().all(is_tool_of_client),
        Some(_) | None => false,
    }
}

/// A choice of a tool of ours is a choice of functions for the vendor.
fn vendor_choice(choice: Raw, open: &[OpenEntry]) -> Raw {
    let Some(mut object) = RawObject::from_raw(&choice) else {
        return choice;
    };
    match object.text("type").as_deref() {
        Some("mcp") => match chosen(&object, open) {
            Some(functions) if functions.len() == 1 => functions.into_iter().next().unwrap_or(choice),
            Some(functions) => raw(json!({"type": "allowed_tools", "mode": "required", "tools": functions})),
            None => choice,
        },
        Some("allowed_tools") => {
            let tools = object.list("tools").into_iter().flat_map(|tool| {
                let functions = RawObject::from_raw(&tool).and_then(|tool| chosen(&tool, open));
                functions.unwrap_or_else(|| vec![tool])
            });
            let tools: Vec<Raw> = tools.collect();
            object.set("tools", tools);
            object.to_raw()
        }
        _ => choice,
    }
}

/// The functions of `{"type":"mcp","server_label","name"?}`; `None` if it is not of ours.
fn chosen(choice: &RawObject, open: &[OpenEntry]) -> Option<Vec<Raw>> {
    let label = choice
        .text("server_label")
        .filter(|_| choice.text("type").as_deref() == Some("mcp"))?;
    let entry = open.iter().find(|open| open.entry.label == label)?;
    let name = choice.text("name");
    let tools = entry.tools.iter().map(|tool| tool.definition.name().to_owned());
    let tools = tools.filter(|tool| name.as_ref().is_none_or(|name| name == tool));
    let function = |tool: String| {
        let reference = ToolRef {
            label: label.clone(),
            tool,
        };
        raw(json!({"type": "function", "name": function_name(&reference)}))
    };
    Some(tools.map(function).collect())
}
