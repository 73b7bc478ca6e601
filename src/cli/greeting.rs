//! What a person sees at the start on a terminal: the addresses, the login, and how to connect a
//! client.

use std::fmt::Write as _;

use crate::service::config::Config;
use crate::service::public_urls::PublicUrls;
use crate::service::{Access, AfterConsent, Login, Service, Upstream};
use crate::upstream::quirks;

/// The greeting. `user` is the one user of the data directory, if there is one.
pub fn text(urls: &PublicUrls, config: &Config, user: Option<&str>) -> String {
    let mut out = String::from("\n  MCP OAuth Gateway is ready.\n\n");
    for service in &config.services {
        add_service(&mut out, urls, service);
    }
    add_login(&mut out, config, user);
    let oauth = config.services.iter().find(|service| service.access == Access::OAuth);
    if let Some(service) = oauth {
        let (name, url) = (client_side_name(service), urls.mcp_endpoint(service));
        let _ = writeln!(out, "  Give the address to your client. A browser opens for the login.\n");
        for (client, place, snippet) in client_snippets(name, &url) {
            let _ = writeln!(out, "    {client:<15} {place}\n      {snippet}");
        }
    }
    out + "\n  `mcp-oauth-gateway check` with the same flags tests the upstream. Ctrl-C stops the gateway.\n"
}

/// The name of the server in a client's configuration.
fn client_side_name(service: &Service) -> &str {
    if service.name == "default" { "gateway" } else { &service.name }
}

fn add_service(out: &mut String, urls: &PublicUrls, service: &Service) {
    let _ = writeln!(out, "  Address    {}", urls.mcp_endpoint(service));
    let _ = writeln!(out, "             in front of {}", service.mcp.without_query());
    if service.upstream.after_consent() == AfterConsent::Upstream {
        let callback = urls.upstream_callback(service);
        let _ = writeln!(
            out,
            "  Register   {callback}\n             as the callback URL of the OAuth app at the upstream"
        );
    }
    if needs_client_id(service) {
        let _ = writeln!(
            out,
            "  Missing    a client id: this upstream registers no clients by itself. Create an OAuth app there, and\n             set --upstream-client-id and --upstream-client-secret."
        );
    }
    match service.access {
        Access::OAuth => {}
        Access::Key => {
            let _ = writeln!(
                out,
                "  API keys   mcp-oauth-gateway api-keys add {}\n             with the same --config or --data-dir",
                service.name
            );
        }
        Access::Public => {
            let _ = writeln!(
                out,
                "  Public     every caller that reaches this address may use it, without a token"
            );
        }
    }
    out.push('\n');
}

/// Whether the upstream is known to have no metadata, so that the gateway cannot register there.
fn needs_client_id(service: &Service) -> bool {
    match &service.upstream {
        Upstream::OAuth(config) => config.client_id.is_none() && quirks::for_host(service.host()).endpoints.is_some(),
        Upstream::Paste(_) | Upstream::Static(_) | Upstream::Identity(_) | Upstream::None => false,
    }
}

fn add_login(out: &mut String, config: &Config, user: Option<&str>) {
    let has_password_login = config.services.iter().any(|service| service.login == Login::Password);
    match user.filter(|_| has_password_login) {
        Some(user) => {
            let _ = writeln!(
                out,
                "  User       {user}, with the password that was shown at the first start or is in\n             MCP_GATEWAY_PASSWORD\n"
            );
        }
        None if has_password_login => {
            let names: Vec<&str> = config.users.iter().map(|user| user.name.as_str()).collect();
            let _ = writeln!(out, "  Users      {}\n", names.join(", "));
        }
        None => {}
    }
}

/// For each client: its name, where the configuration belongs, and the configuration.
pub fn client_snippets(name: &str, url: &str) -> [(&'static str, &'static str, String); 6] {
    let server = |field: &str| format!(r#"{{ "mcpServers": {{ "{name}": {{ "{field}": "{url}" }} }} }}"#);
    [
        ("Claude Code", "a shell", format!("claude mcp add --transport http {name} {url}")),
        (
            "Claude Desktop",
            "claude_desktop_config.json",
            format!(r#"{{ "mcpServers": {{ "{name}": {{ "command": "npx", "args": ["-y", "mcp-remote", "{url}"] }} }} }}"#),
        ),
        ("Cursor", "~/.cursor/mcp.json", server("url")),
        (
            "VS Code",
            ".vscode/mcp.json",
            format!(r#"{{ "servers": {{ "{name}": {{ "type": "http", "url": "{url}" }} }} }}"#),
        ),
        ("Windsurf", "~/.codeium/windsurf/mcp_config.json", server("serverUrl")),
        (
            "MCP Inspector",
            "a shell; choose Streamable HTTP",
            "npx @modelcontextprotocol/inspector".to_owned(),
        ),
    ]
}
