//! `list`: the configured services. It reads only the configuration file.

use serde_json::json;

use crate::cli::bridge::command_context::CommandContext;
use crate::cli::bridge::failure::Failure;
use crate::cli::grants::print_json;
use crate::cli::table::{self, cell};
use crate::config::choices::access_word;
use crate::config::upstream;

/// Runs `list`.
///
/// # Errors
/// If the configuration file cannot be read or is wrong.
pub fn run(context: &CommandContext) -> Result<(), Failure> {
    let validated = context.load()?;
    let services = &validated.config.services;
    let urls = &validated.start.urls;
    if context.json {
        for service in services {
            print_json(&json!({
                "name": service.name,
                "url": service.mcp.without_query(),
                "access": access_word(service.access),
                "upstream": upstream::kind(&service.upstream).as_str(),
                "address": urls.service_url(service),
            }))?;
        }
        return Ok(());
    }
    let mut rows = vec![["NAME", "URL", "ACCESS", "UPSTREAM", "ADDRESS FOR CLIENTS"].map(str::to_owned)];
    rows.extend(services.iter().map(|service| {
        [
            service.name.clone(),
            cell(service.mcp.without_query()),
            access_word(service.access).to_owned(),
            upstream::kind(&service.upstream).as_str().to_owned(),
            urls.service_url(service),
        ]
    }));
    Ok(table::print(&rows)?)
}
