//! `/services`: the public directory of services, if the operator enables it. It contains names and
//! addresses of the gateway, and nothing confidential.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::app::endpoint::{PathStyle, ServiceEndpoint};
use crate::app::runtime_config::{ActiveService, RuntimeConfig};
use crate::service::Access;
use crate::service::public_urls::BaseUrl;

/// All services, under the base URL that the caller used; `None` without a public directory.
pub fn list(live: &RuntimeConfig, called: &BaseUrl) -> Option<Value> {
    let each = live.services().iter().map(|running| entry(running, called));
    live.configured
        .public_directory
        .then(|| json!({ "services": each.collect::<Vec<_>>() }))
}

/// The service of this name; `None` if there is none, or no public directory.
pub fn find(live: &RuntimeConfig, called: &BaseUrl, name: &str) -> Option<Value> {
    let running = live.find(name).filter(|_| live.configured.public_directory)?;
    Some(entry(running, called))
}

fn entry(running: &Arc<ActiveService>, called: &BaseUrl) -> Value {
    let service = &running.service;
    let reached = |path| ServiceEndpoint {
        base_url: called,
        service: running,
        path,
    };
    let at = reached(PathStyle::Named);
    let mut entry = json!({
        "name": service.name,
        "title": service.title(),
        "url": at.resource(),
    });
    if service.is_default {
        entry["also_at"] = reached(PathStyle::Root).resource().into();
    }
    let (access, needs) = match service.access {
        Access::OAuth => {
            entry["resource_metadata"] = at.resource_metadata().into();
            entry["scopes"] = at
                .service
                .scopes_offered()
                .union(&service.required_scopes)
                .without("offline_access")
                .list()
                .into();
            ("oauth", "an OAuth 2.1 sign-in, which MCP clients begin by themselves")
        }
        Access::Key => {
            entry["scopes"] = service.required_scopes.list().into();
            ("key", "an API key of whoever runs this gateway, sent as Authorization: Bearer")
        }
        Access::Public => ("public", "nothing"),
    };
    entry["access"] = access.into();
    entry["needs"] = needs.into();
    entry
}
