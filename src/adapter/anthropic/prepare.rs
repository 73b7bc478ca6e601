//! Makes a loop of a client's request: opens the tools, and rewrites the request for the vendor.

use std::collections::BTreeMap;

use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::adapter::access::AdapterContext;
use crate::adapter::anthropic::entry::{LocalServer, OpenServer};
use crate::adapter::anthropic::error;
use crate::adapter::anthropic::history;
use crate::adapter::anthropic::request::ClientRequest;
use crate::adapter::anthropic::turn::{Turn, TurnPlan};
use crate::adapter::json::Raw;
use crate::adapter::names::NameTable;
use crate::adapter::rounds::{LoopLimits, Rounds};
use crate::adapter::toolbox::Toolbox;
use crate::app::tools::error::ToolError;

/// The beta whose answers begin with the lists of tools.
const WITH_LISTINGS: &str = "mcp-client-2026-09-15";

/// Why a request is answered by the gateway.
#[derive(Debug)]
pub enum Refused {
    /// The request is wrong; with what to do.
    Request(String),
    /// The tools of a server cannot be listed.
    List {
        /// The client's name of the server.
        name: String,
        /// Why.
        error: ToolError,
    },
}

/// Reads a request. `None`: nothing in it is of the gateway, and it passes as it is.
///
/// # Errors
/// If the request is wrong.
pub fn read(context: &AdapterContext, body: &[u8]) -> Result<Option<ClientRequest>, Refused> {
    let request = ClientRequest::read(body, context.own_names()).map_err(Refused::Request)?;
    Ok((!request.servers.is_empty()).then_some(request))
}

/// Opens the tools, and makes the first request for the vendor.
///
/// # Errors
/// If the gateway answers itself.
pub async fn open_tools(context: &AdapterContext, mut request: ClientRequest, headers: &HeaderMap) -> Result<(Turn, Toolbox), Refused> {
    let messages = request.messages();
    let remembered = |id: String| {
        let text = context.tools().continuations().get(&context.caller_key(), &id)?;
        Some((id, serde_json::from_str::<Raw>(&text).ok()?))
    };
    let exact: BTreeMap<String, Raw> = history::called_ids(&messages).into_iter().filter_map(remembered).collect();
    let is_own = |name: &str| request.servers.iter().any(|server| server.name == name);
    let messages = history::rewrite(&messages, is_own, &exact);
    let is_mixed = request.has_foreign_tools();
    let mut toolbox = Toolbox::default();
    let mut open = Vec::new();
    for server in std::mem::take(&mut request.servers) {
        open.push(open_server(context, server, is_mixed, &mut toolbox).await?);
    }
    let mut names = NameTable::default();
    let vendor_request = request.vendor_request(&open, &mut names).map_err(Refused::Request)?;
    let listings = if has_beta(headers, WITH_LISTINGS) {
        open.iter()
            .filter(|open| open.server.pinned.is_none())
            .map(OpenServer::listing)
            .collect()
    } else {
        Vec::new()
    };
    let plan = TurnPlan {
        request: vendor_request,
        messages,
        names,
        listings,
        rounds: Rounds::new(LoopLimits::default(), None),
    };
    Ok((Turn::new(plan, request.is_stream()), toolbox))
}

async fn open_server(context: &AdapterContext, server: LocalServer, is_mixed: bool, toolbox: &mut Toolbox) -> Result<OpenServer, Refused> {
    let name = server.name.clone();
    let access = context.access(server.authorization.clone(), Vec::new(), is_mixed);
    let refused = |error| Refused::List { name: name.clone(), error };
    let session = context
        .tools()
        .open(&context.http, &server.service, access)
        .await
        .map_err(refused)?;
    let tools = match &server.pinned {
        Some(pinned) => pinned.clone(),
        None => session.list_tools().await.map_err(refused)?,
    };
    toolbox.insert(&server.name, session);
    Ok(OpenServer { server, tools })
}

fn has_beta(headers: &HeaderMap, beta: &str) -> bool {
    let fields = headers.get_all("anthropic-beta").iter().filter_map(|value| value.to_str().ok());
    fields.flat_map(|field| field.split(',')).any(|name| name.trim() == beta)
}

/// Status and body of a refusal, as the vendor has them.
pub fn describe(refused: &Refused) -> (StatusCode, Value) {
    let message = match refused {
        Refused::Request(message) => message.clone(),
        Refused::List { name, error } => format!("Connection error while communicating with MCP server '{name}': {}", error.message()),
    };
    (StatusCode::BAD_REQUEST, error::body("invalid_request_error", &message))
}
