//! The greeting at the start on a terminal: the addresses, the sign-in, and how to connect a
//! client.

use std::fmt::Write as _;

use crate::service::config::Config;
use crate::service::public_urls::PublicUrls;
use crate::service::{Access, AfterConsent, Login, Service, Upstream};

/// The greeting. `user` is the one user of the data directory, if there is one, and which password
/// that user has.
pub fn text(urls: &PublicUrls, config: &Config, user: Option<(&str, &str)>) -> String {
    let mut out = String::from("\n  MCP OAuth Gateway is listening.\n\n");
    for service in &config.services {
        add_service(&mut out, urls, service);
    }
    add_login(&mut out, config, user);
    let oauth = config.services.iter().find(|service| service.access.issues_tokens());
    if let Some(service) = oauth {
        let (name, url) = (client_side_name(service), urls.mcp_endpoint(service));
        let _ = writeln!(out, "  Give the address to your client. A browser opens for the sign-in.\n");
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
    let registers_itself = matches!(&service.upstream, Upstream::OAuth(config) if config.client_id.is_none() && !service.needs_client_id());
    if service.upstream.after_consent() == AfterConsent::Upstream && !registers_itself {
        let callback = urls.upstream_callback(service);
        let _ = writeln!(
            out,
            "  Register   {callback}\n             as the callback URL of the OAuth app at the upstream"
        );
    }
    if service.needs_client_id() {
        let _ = writeln!(
            out,
            "  Missing    a client id: this upstream registers no clients by itself. Create an OAuth app there, and\n             set --upstream-client-id and --upstream-client-secret."
        );
    }
    match service.access {
        Access::OAuth => {}
        Access::Introspect => {
            let _ = writeln!(
                out,
                "  Server     checks tokens itself; make its key with: mcp-oauth-gateway servers keys add {}",
                service.name
            );
        }
        Access::Local => {
            let _ = writeln!(
                out,
                "  Local      programs of this machine present the key in the file local-key of the data directory"
            );
        }
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

fn add_login(out: &mut String, config: &Config, user: Option<(&str, &str)>) {
    let has_password_login = config.services.iter().any(|service| service.login == Login::Password);
    match user.filter(|_| has_password_login) {
        Some((user, password)) => {
            let _ = writeln!(out, "  User       {user}, with {password}\n");
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
