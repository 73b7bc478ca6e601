//! Whose MCP server an entry of a request names: a service of this gateway, or one of somebody else.

use std::sync::Arc;

use url::Url;

use crate::app::endpoint::is_service_name;
use crate::app::runtime_config::{ActiveService, RuntimeConfig};
use crate::service::public_urls::PublicUrls;

/// Whose MCP server it is.
#[derive(Clone, Debug)]
pub enum Target {
    /// This service of the gateway.
    Ours(Arc<ActiveService>),
    /// Somebody else's. The entry stays as it is, and the gateway never fetches its URL.
    Foreign,
    /// A URL of this gateway, at which there is no service.
    Missing,
}

/// The target of an entry's URL. Without a URL, a label that is the name of a service means the service.
pub fn find(url: Option<&str>, label: &str, urls: &PublicUrls, config: &RuntimeConfig) -> Target {
    let Some(url) = url else {
        return config
            .find(label)
            .map_or(Target::Foreign, |active| Target::Ours(Arc::clone(active)));
    };
    let Some(path) = own_path(url, urls) else { return Target::Foreign };
    service_at(&path, config).map_or(Target::Missing, |active| Target::Ours(Arc::clone(active)))
}

/// The path below the public URL, if the URL has a host name of this gateway.
fn own_path(text: &str, urls: &PublicUrls) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let host = url.host_str()?;
    let port = url.port_or_known_default()?;
    let is_own = urls.find_base(&format!("{host}:{port}")).is_some() || (url.port().is_none() && urls.find_base(host).is_some());
    is_own.then(|| {
        let path = url.path();
        path.strip_prefix(urls.prefix()).unwrap_or_default().to_owned()
    })
}

/// The service of a path, as the router finds it.
fn service_at<'a>(path: &str, config: &'a RuntimeConfig) -> Option<&'a Arc<ActiveService>> {
    let path = path.strip_suffix('/').unwrap_or(path).strip_prefix('/')?;
    let name = match path.split_once('/') {
        None if path == "mcp" => return config.default_service(),
        Some(("mcp", name) | (name, "mcp")) => name,
        None | Some(_) => return None,
    };
    config.find(name).filter(|_| is_service_name(name))
}
