//! The MCP entries of a request: `{"type":"mcp", …}` in `tools`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::adapter::filter::{AllowedTools, FilteredTool, RequireApproval};
use crate::adapter::json::{Raw, RawObject, raw};
use crate::adapter::names::{NameTable, ToolRef};
use crate::adapter::openai::error::BadRequest;
use crate::adapter::openai::items;
use crate::adapter::target::{self, Target};
use crate::app::runtime_config::{ActiveService, RuntimeConfig};
use crate::base::secret::Secret;
use crate::mcp::tool::ToolDefinition;
use crate::service::public_urls::PublicUrls;

/// An entry that names a service of this gateway.
#[derive(Debug)]
pub struct LocalEntry {
    /// Its place in `tools`.
    pub position: usize,
    /// The client's name of the server.
    pub label: String,
    /// The service.
    pub service: Arc<ActiveService>,
    /// The client's token for the service. It never reaches the vendor.
    pub authorization: Option<Secret>,
    /// The client's headers for the MCP server.
    pub headers: Vec<(String, String)>,
    /// The tools that the client wants.
    pub allowed: AllowedTools,
    /// The calls that the client wants to approve.
    pub approval: RequireApproval,
    /// Members that functions have too.
    passed: Vec<(&'static str, Raw)>,
}

/// A tool of an entry.
#[derive(Clone, Debug)]
pub struct EntryTool {
    /// The definition.
    pub definition: ToolDefinition,
    /// Whether an approved definition says that it changes nothing.
    pub is_read_only: bool,
}

impl EntryTool {
    fn filtered(&self) -> FilteredTool<'_> {
        FilteredTool {
            name: self.definition.name(),
            is_read_only: self.is_read_only,
        }
    }
}

/// The members of an entry, as far as the adapter reads them.
const URL: &str = "server_url";
const FOREIGN: [&str; 2] = ["connector_id", "tunnel_id"];

/// Reads the entry at this place of `tools`. `None` if it is not an MCP entry, or not of this gateway.
///
/// # Errors
/// If it names this gateway and cannot be served.
pub fn read(position: usize, tool: &RawObject, urls: &PublicUrls, config: &RuntimeConfig) -> Result<Option<LocalEntry>, BadRequest> {
    if tool.text("type").as_deref() != Some("mcp") || FOREIGN.iter().any(|name| tool.get_present(name).is_some()) {
        return Ok(None);
    }
    let param = |name: &str| format!("tools[{position}].{name}");
    let label = tool.text("server_label").unwrap_or_default();
    let url = tool.text(URL);
    if url.is_none() && tool.get_present(URL).is_some() {
        return Ok(None);
    }
    let service = match target::find(url.as_deref(), &label, urls, config) {
        Target::Foreign => return Ok(None),
        Target::Ours(service) => service,
        Target::Missing => return Err(BadRequest::new(param(URL), missing_service(config))),
    };
    if label.is_empty() {
        return Err(BadRequest::new(
            param("server_label"),
            "Missing required parameter: 'server_label'.",
        ));
    }
    let wrong = |name: &str| {
        BadRequest::new(
            param(name),
            format!("Invalid value of '{name}': it has none of the documented shapes."),
        )
    };
    let headers = match tool.get_present("headers") {
        None => BTreeMap::new(),
        Some(headers) => serde_json::from_str::<BTreeMap<String, String>>(headers.get()).map_err(|_| wrong("headers"))?,
    };
    let authorization = match tool.get_present("authorization") {
        None => None,
        Some(_) => Some(Secret::from(tool.text("authorization").ok_or_else(|| wrong("authorization"))?)),
    };
    let passed = ["defer_loading", "allowed_callers"]
        .into_iter()
        .filter_map(|name| tool.get_present(name).map(|raw| (name, raw.to_owned())));
    Ok(Some(LocalEntry {
        position,
        label,
        service,
        authorization,
        headers: headers.into_iter().collect(),
        allowed: AllowedTools::parse(&tool.value("allowed_tools")).ok_or_else(|| wrong("allowed_tools"))?,
        approval: RequireApproval::parse(&tool.value("require_approval")).ok_or_else(|| wrong("require_approval"))?,
        passed: passed.collect(),
    }))
}

/// What a client does whose URL names no service.
pub fn missing_service(config: &RuntimeConfig) -> String {
    let names: Vec<&str> = config.services().iter().map(|active| active.service.name.as_str()).collect();
    format!(
        "This URL is one of the gateway's, but no service is there. Its services are: {}. Name one as …/mcp/NAME (the gateway calls \
         its tools), or give the URL of another MCP server (the vendor calls it).",
        names.join(", ")
    )
}

/// An entry with the tools of its service that the client wants.
#[derive(Debug)]
pub struct OpenEntry {
    /// The entry.
    pub entry: LocalEntry,
    /// Its tools, in the order of the MCP server.
    pub tools: Vec<EntryTool>,
}

impl OpenEntry {
    /// Keeps the tools that the client wants.
    pub fn new(entry: LocalEntry, tools: Vec<EntryTool>) -> Self {
        let tools = tools.into_iter().filter(|tool| entry.allowed.allows(tool.filtered())).collect();
        Self { entry, tools }
    }

    /// The functions for the vendor.
    ///
    /// # Errors
    /// If two tools have one name.
    pub fn functions(&self, names: &mut NameTable) -> Result<Vec<Raw>, BadRequest> {
        let mut functions = Vec::with_capacity(self.tools.len());
        for tool in &self.tools {
            let reference = ToolRef {
                label: self.entry.label.clone(),
                tool: tool.definition.name().to_owned(),
            };
            let Some(name) = names.insert(reference) else {
                let param = format!("tools[{}].server_label", self.entry.position);
                return Err(BadRequest::new(
                    param,
                    "Two tools of this request have one name; rename a server_label.",
                ));
            };
            let mut function = RawObject::default();
            function.set("type", "function");
            function.set("name", name);
            function.set("description", tool.definition.description().unwrap_or_default());
            function.set("parameters", parameters(tool.definition.input_schema()));
            function.set("strict", false);
            for (name, value) in &self.entry.passed {
                function.set_raw(name, value.clone());
            }
            functions.push(function.to_raw());
        }
        Ok(functions)
    }

    /// The tools in `mcp_list_tools`.
    pub fn listed(&self) -> Vec<Value> {
        let tools = self.tools.iter();
        tools.map(|tool| items::listed_tool(&tool.definition, tool.is_read_only)).collect()
    }

    /// Whether the client wants to approve a call of this tool.
    pub fn requires_approval(&self, tool: &str) -> bool {
        let found = self.tools.iter().find(|known| known.definition.name() == tool);
        found.is_none_or(|found| self.entry.approval.requires(found.filtered()))
    }
}

/// A schema that the vendor accepts as a function's parameters.
fn parameters(schema: Option<&Value>) -> Raw {
    match schema {
        Some(Value::Object(members)) if members.contains_key("properties") || members.get("type") != Some(&json!("object")) => raw(members),
        Some(Value::Object(members)) => {
            let mut members = members.clone();
            members.insert("properties".to_owned(), json!({}));
            raw(members)
        }
        _ => raw(json!({"type": "object", "properties": {}})),
    }
}
