//! The client's request, read: what stays as it is, and what the adapter replaces.

use serde_json::json;

use crate::adapter::anthropic::entry::{self, LocalServer, OpenServer};
use crate::adapter::json::{Raw, RawObject, raw};
use crate::adapter::names::NameTable;
use crate::adapter::own_entries::{MAX_OWN_SERVERS, OwnNames};

/// A request of a client.
#[derive(Debug)]
pub struct ClientRequest {
    /// The whole request.
    pub body: RawObject,
    tools: Vec<Raw>,
    all_servers: Vec<Raw>,
    /// The servers that are services of this gateway.
    pub servers: Vec<LocalServer>,
}

impl ClientRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// If it is no JSON object, or a server names this gateway and cannot be served; with what to do.
    pub fn read(body: &[u8], names: OwnNames<'_>) -> Result<Self, String> {
        let body = RawObject::parse(body).map_err(|error| format!("The body of the request is not accepted: {error}."))?;
        let (tools, all_servers) = (body.list("tools"), body.list("mcp_servers"));
        let mut servers: Vec<LocalServer> = Vec::new();
        for (position, server) in all_servers.iter().enumerate() {
            let Some(object) = RawObject::from_raw(server) else { continue };
            let Some(found) = entry::read(position, &object, &tools, names.urls, names.config)? else {
                continue;
            };
            if servers.iter().any(|other| other.name == found.name) {
                return Err(format!("mcp_servers.{position}.name: MCP server names must be unique"));
            }
            if servers.len() == MAX_OWN_SERVERS {
                return Err("mcp_servers: a request names at most 16 servers of this gateway".to_owned());
            }
            servers.push(found);
        }
        let served: Vec<usize> = servers.iter().map(|server| server.position).collect();
        match names.are_unserved(&body, "mcp_servers", &served) {
            Ok(false) => {}
            Ok(true) => {
                return Err(
                    "mcp_servers: a server names this gateway where it is not served; make it an element of mcp_servers".to_owned(),
                );
            }
            Err(_) => return Err("the request is nested too deeply".to_owned()),
        }
        Ok(Self {
            body,
            tools,
            all_servers,
            servers,
        })
    }

    /// Whether the client reads events.
    pub fn is_stream(&self) -> bool {
        self.body.is_true("stream")
    }

    /// Whether calls of one answer may run at the same time.
    pub fn is_parallel(&self) -> bool {
        self.body.value("tool_choice")["disable_parallel_tool_use"] != true
    }

    /// Whether it has tools that the gateway does not police: those of other MCP servers, and of the vendor.
    /// What cannot be read counts as such a tool.
    pub fn has_foreign_tools(&self) -> bool {
        let is_foreign = |tool: &Raw| match RawObject::from_raw(tool) {
            Some(tool) if tool.get_present("type").is_none() => false,
            Some(tool) => !matches!(tool.text("type").as_deref(), Some("custom" | "mcp_toolset")),
            None => true,
        };
        let is_unreadable = self.tools.is_empty() && self.body.get_present("tools").is_some_and(|tools| tools.get() != "[]");
        is_unreadable || self.all_servers.len() > self.servers.len() || self.tools.iter().any(is_foreign)
    }

    /// The request for the vendor, without `messages`.
    ///
    /// # Errors
    /// If two tools have one name.
    pub fn vendor_request(&self, open: &[OpenServer], names: &mut NameTable) -> Result<RawObject, String> {
        let mut tools = Vec::new();
        for (position, tool) in self.tools.iter().enumerate() {
            match open.iter().find(|open| open.server.toolset == Some(position)) {
                Some(open) => tools.extend(open.functions(names)?),
                None => tools.push(tool.clone()),
            }
        }
        for open in open.iter().filter(|open| open.server.toolset.is_none()) {
            tools.extend(open.functions(names)?);
        }
        for tool in self.tools.iter().filter_map(|tool| RawObject::from_raw(tool)) {
            if let Some(name) = tool.text("name").filter(|name| names.get(name).is_some()) {
                return Err(format!("tools: '{name}' is also the name of a tool of the gateway; rename it"));
            }
        }
        let is_own = |position: usize| open.iter().any(|open| open.server.position == position);
        let foreign = self.all_servers.iter().enumerate().filter(|(position, _)| !is_own(*position));
        let foreign: Vec<&Raw> = foreign.map(|(_, server)| server).collect();
        let mut request = self.body.clone();
        request.set("tools", tools);
        if foreign.is_empty() {
            request.remove("mcp_servers");
        } else {
            request.set("mcp_servers", foreign);
        }
        Ok(request)
    }

    /// The messages of the client.
    pub fn messages(&self) -> Vec<Raw> {
        self.body.list("messages")
    }
}

/// A choice of a tool that counts for the first answer only: otherwise the model would call for ever.
pub fn later_choice(choice: &RawObject) -> Option<Raw> {
    let is_forced = matches!(choice.text("type").as_deref(), Some("any" | "tool"));
    is_forced.then(|| {
        let mut later = RawObject::from_value(&json!({"type": "auto"}));
        if let Some(parallel) = choice.get("disable_parallel_tool_use") {
            later.set_raw("disable_parallel_tool_use", parallel.to_owned());
        }
        raw(later)
    })
}
