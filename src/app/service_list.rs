//! `/services`: the public directory of services, if the operator enables it. It contains names and
//! addresses of the gateway, and nothing confidential.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::app::endpoint::{PathStyle, ServiceEndpoint};
use crate::app::runtime_config::{ActiveService, RuntimeConfig};
use crate::service::Access;
use crate::service::public_urls::BaseUrl;

/// All services, under the base URL that the caller used; `None` without a public directory.
pub fn list(config: &RuntimeConfig, base_url: &BaseUrl) -> Option<Value> {
    let entries = config.services().iter().map(|active| entry(active, base_url));
    config
        .configured
        .public_directory
        .then(|| json!({ "services": entries.collect::<Vec<_>>() }))
}

/// The service of this name; `None` if there is none, or no public directory.
pub fn find(config: &RuntimeConfig, base_url: &BaseUrl, name: &str) -> Option<Value> {
    let active = config.find(name).filter(|_| config.configured.public_directory)?;
    Some(entry(active, base_url))
}

fn entry(active: &Arc<ActiveService>, base_url: &BaseUrl) -> Value {
    let service = &active.service;
    let endpoint_with = |path| ServiceEndpoint {
        base_url,
        service: active,
        path,
    };
    let endpoint = endpoint_with(PathStyle::Named);
    let mut entry = json!({
        "name": service.name,
        "title": service.title(),
        "url": endpoint.resource(),
    });
    if service.is_default && !endpoint.is_served_elsewhere() {
        entry["also_at"] = endpoint_with(PathStyle::Root).resource().into();
    }
    let (access, needs) = match service.access {
        Access::OAuth | Access::Local => {
            entry["resource_metadata"] = endpoint.resource_metadata().into();
            entry["scopes"] = endpoint
                .service
                .scopes_offered()
                .union(&service.required_scopes)
                .without("offline_access")
                .list()
                .into();
            if service.access == Access::Local {
                ("local", "the local key of the gateway's machine, or an OAuth 2.1 sign-in")
            } else {
                ("oauth", "an OAuth 2.1 sign-in, which MCP clients begin by themselves")
            }
        }
        Access::Key => {
            entry["scopes"] = service.required_scopes.list().into();
            ("key", "an API key of the operator of this gateway, sent as Authorization: Bearer")
        }
        Access::Public => ("public", "nothing"),
        Access::Introspect => ("introspect", "an OAuth 2.1 sign-in, which MCP clients begin by themselves"),
    };
    entry["access"] = access.into();
    entry["needs"] = needs.into();
    entry
}
