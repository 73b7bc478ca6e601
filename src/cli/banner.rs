//! The messages for the operator at the start.

use crate::cli::terminal::print_stderr;
use crate::net::self_signed::SelfSigned;
use crate::service::public_urls::PublicUrls;
use crate::service::{Access, AfterConsent, Service};

/// Logs each service's URL for clients and the callback URL to register at the upstream.
pub fn log_started(urls: &PublicUrls, services: &[Service], workers: usize) {
    for service in services {
        let (url, callback) = (urls.mcp_endpoint(service), urls.upstream_callback(service));
        match service.upstream.after_consent() {
            AfterConsent::Upstream => {
                tracing::info!(
                    mcp = url,
                    upstream = service.mcp.without_query(),
                    callback,
                    workers,
                    "listening; give the MCP address to your client, and the callback URL to the upstream's OAuth app"
                );
            }
            AfterConsent::Form(_) | AfterConsent::Nowhere => {
                tracing::info!(
                    mcp = url,
                    upstream = service.mcp.without_query(),
                    workers,
                    "listening; give the MCP address to your client"
                );
            }
        }
        match service.access {
            Access::OAuth | Access::Local | Access::Public | Access::Introspect => {}
            Access::Key => tracing::info!(
                service = service.name,
                "this service takes API keys; make one with the same --config or --data-dir: mcp-oauth-gateway api-keys add {}",
                service.name
            ),
        }
    }
}

/// Warns of services that need no token, of a missing client secret, and of readable upstream tokens.
pub fn log_warnings(services: &[Service]) {
    for service in services {
        if service.access == Access::Public {
            tracing::warn!(
                service = service.name,
                "this service is public: every caller that reaches this gateway may call it without a token"
            );
        }
        if service.lacks_client_secret() {
            tracing::warn!(
                service = service.name,
                "a client id is configured without a client secret, which this upstream requires"
            );
        }
        if service.mode.exposes_upstream_tokens() {
            tracing::warn!(
                service = service.name,
                mode = ?service.mode,
                "a holder of a client's token can read the upstream's token in it"
            );
        }
    }
}

/// Prints how to trust the self-signed certificate's CA.
pub fn print_self_signed(self_signed: &SelfSigned) {
    // A client may run in another directory.
    let ca = std::path::absolute(&self_signed.ca).unwrap_or_else(|_| self_signed.ca.clone());
    let ca = ca.display();
    print_stderr(format_args!(
        "\n  TLS with a certificate authority of this gateway's own making:\n    {ca}\n    SHA-256 {}\n",
        self_signed.fingerprint
    ));
    print_stderr(format_args!("  Trust it once, in one of these ways:"));
    print_stderr(format_args!(
        "    Node and Bun clients (mcp-remote, Claude Code, Gemini CLI, OpenCode):  export NODE_EXTRA_CA_CERTS='{ca}'"
    ));
    print_stderr(format_args!("    Codex:           export CODEX_CA_CERTIFICATE='{ca}'"));
    print_stderr(format_args!("    Python clients:  export SSL_CERT_FILE='{ca}'"));
    print_stderr(format_args!(
        "    Debian, Ubuntu:  sudo cp '{ca}' /usr/local/share/ca-certificates/mcp-oauth-gateway.crt && sudo update-ca-certificates"
    ));
    print_stderr(format_args!(
        "    macOS:           security add-trusted-cert -p ssl -k ~/Library/Keychains/login.keychain-db '{ca}'"
    ));
    print_stderr(format_args!("    Windows:         certutil -user -addstore Root \"{ca}\"\n"));
}
