//! The MCP servers of a request (`mcp_servers`) and their toolsets (in `tools`).

use std::sync::Arc;

use serde_json::{Value, json};

use crate::adapter::anthropic::blocks;
use crate::adapter::filter::ToolsetConfig;
use crate::adapter::json::{Raw, RawObject};
use crate::adapter::names::{NameTable, ToolRef};
use crate::adapter::openai::entry::missing_service;
use crate::adapter::target::{self, Target};
use crate::app::runtime_config::{ActiveService, RuntimeConfig};
use crate::base::secret::Secret;
use crate::mcp::tool::ToolDefinition;
use crate::service::public_urls::PublicUrls;

/// A server of a request that is a service of this gateway.
#[derive(Debug)]
pub struct LocalServer {
    /// Its place in `mcp_servers`.
    pub position: usize,
    /// The client's name of the server.
    pub name: String,
    /// The service.
    pub service: Arc<ActiveService>,
    /// The client's token for the service. It never reaches the vendor.
    pub authorization: Option<Secret>,
    /// The place of the toolset in `tools`; none in requests of the first beta.
    pub toolset: Option<usize>,
    /// Which tools the client wants.
    pub config: ToolsetConfig,
    /// The definitions that the client gives; the server is not asked then.
    pub pinned: Option<Vec<ToolDefinition>>,
    cache_control: Option<Raw>,
}

/// Reads the server at this place of `mcp_servers`. `None` if it is not of this gateway.
///
/// # Errors
/// If it names this gateway and cannot be served; with what to do.
pub fn read(
    position: usize,
    server: &RawObject,
    tools: &[Raw],
    urls: &PublicUrls,
    config: &RuntimeConfig,
) -> Result<Option<LocalServer>, String> {
    let name = server.text("name").unwrap_or_default();
    let url = server.text("url");
    if url.is_none() && server.get_present("url").is_some() {
        return Ok(None);
    }
    let service = match target::find(url.as_deref(), &name, urls, config) {
        Target::Foreign => return Ok(None),
        Target::Ours(service) => service,
        Target::Missing => return Err(format!("mcp_servers.{position}.url: {}", missing_service(config))),
    };
    if name.is_empty() {
        return Err(format!("mcp_servers.{position}.name: Field required"));
    }
    let objects = tools
        .iter()
        .enumerate()
        .filter_map(|(index, tool)| Some((index, RawObject::from_raw(tool)?)));
    let is_own = |tool: &RawObject| {
        tool.text("type").as_deref() == Some("mcp_toolset") && tool.text("mcp_server_name").as_deref() == Some(name.as_str())
    };
    let mut toolsets = objects.filter(|(_, tool)| is_own(tool));
    let toolset = toolsets.next();
    if toolsets.next().is_some() {
        return Err(format!("tools: MCP server '{name}' is referenced by more than one mcp_toolset"));
    }
    let wrong = |place: &str| format!("{place}: it has none of the documented shapes");
    let (config, pinned) = if let Some((index, set)) = &toolset {
        let wrong = || wrong(&format!("tools.{index}"));
        let config = ToolsetConfig::parse(&set.value("default_config"), &set.value("configs")).ok_or_else(wrong)?;
        (config, pinned(&set.value("tools")).ok_or_else(wrong)?)
    } else {
        let config = ToolsetConfig::parse_deprecated(&server.value("tool_configuration"));
        (
            config.ok_or_else(|| wrong(&format!("mcp_servers.{position}.tool_configuration")))?,
            None,
        )
    };
    let authorization = server.text("authorization_token").map(Secret::from);
    Ok(Some(LocalServer {
        position,
        name: name.clone(),
        service,
        authorization,
        cache_control: toolset
            .as_ref()
            .and_then(|(_, set)| set.get_present("cache_control").map(ToOwned::to_owned)),
        toolset: toolset.map(|(index, _)| index),
        config,
        pinned,
    }))
}

/// `tools` of a toolset.
#[expect(clippy::option_option, reason = "absent, wrong and given are three cases")]
fn pinned(tools: &Value) -> Option<Option<Vec<ToolDefinition>>> {
    if tools.is_null() {
        return Some(None);
    }
    let definition = |tool: &Value| {
        let mut definition = json!({"name": tool.get("name")?, "inputSchema": tool.get("input_schema")?});
        if let Some(description) = tool.get("description") {
            definition["description"] = description.clone();
        }
        ToolDefinition::from_value(&definition)
    };
    Some(Some(tools.as_array()?.iter().map(definition).collect::<Option<_>>()?))
}

/// A server with the tools of its service that the client wants.
#[derive(Debug)]
pub struct OpenServer {
    /// The server.
    pub server: LocalServer,
    /// All its tools, in the order of the MCP server.
    pub tools: Vec<ToolDefinition>,
}

impl OpenServer {
    /// The tools for the vendor.
    ///
    /// # Errors
    /// If two tools have one name.
    pub fn functions(&self, names: &mut NameTable) -> Result<Vec<Raw>, String> {
        let wanted = self.tools.iter().filter(|tool| self.server.config.allows(tool.name()));
        let mut functions = Vec::new();
        for tool in wanted {
            let reference = ToolRef {
                label: self.server.name.clone(),
                tool: tool.name().to_owned(),
            };
            let name = names.insert(reference).ok_or_else(|| {
                format!(
                    "mcp_servers.{}.name: two tools of this request have one name; rename a server",
                    self.server.position
                )
            })?;
            let mut function = RawObject::default();
            function.set("name", name);
            if let Some(description) = tool.description() {
                function.set("description", description);
            }
            let schema = tool.input_schema().filter(|schema| schema.is_object()).cloned();
            function.set("input_schema", schema.unwrap_or_else(|| json!({"type": "object"})));
            if self.server.config.defers(tool.name()) {
                function.set("defer_loading", true);
            }
            functions.push(function);
        }
        if let (Some(last), Some(cache)) = (functions.last_mut(), &self.server.cache_control) {
            last.set_raw("cache_control", cache.clone());
        }
        Ok(functions.iter().map(RawObject::to_raw).collect())
    }

    /// The block that lists the tools.
    pub fn listing(&self) -> Value {
        blocks::listing(&self.server.name, &self.tools)
    }
}
