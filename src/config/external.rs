//! Services that the gateway does not proxy: `access = "introspect"`.

use crate::base::url::ExactUrl;
use crate::config::keys::service as key;
use crate::config::section::Section;
use crate::config::spanned::ConfigError;
use crate::service;

/// Reads the resource: the URL of the MCP server, which is the audience of its tokens byte for byte.
pub fn resource(section: &Section) -> Result<ExactUrl, ConfigError> {
    let missing = || {
        let instead = "for instance resource = \"https://files.example.com/mcp\"";
        section.missing(&key::RESOURCE, "access = \"introspect\" needs the URL of the MCP server", instead)
    };
    let text = section.get(&key::RESOURCE)?.ok_or_else(missing)?;
    let wrong = |what: String| text.wrong(what, "write the URL that clients use, for instance https://files.example.com/mcp");
    let url = ExactUrl::parse(&text.value).map_err(|error| wrong(format!("it {error}")))?;
    service::check_resource(&url).map_err(|what| wrong(what.to_owned()))?;
    Ok(url)
}
