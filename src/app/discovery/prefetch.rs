//! Lookups before the first sign-in.

use crate::app::discovery::Discovery;
use crate::upstream::legacy_transport::{self, HTTP_SSE_MESSAGE};

impl Discovery {
    /// Looks up every upstream and provider before the first sign-in, so that the first user does not
    /// wait and the log names what is wrong.
    pub async fn prefetch(&self) {
        let (config, http) = (self.core.config(), self.core.tasks.http());
        for active in config.idps() {
            if self.provider(http, active).await.is_ok() {
                tracing::info!(idp = active.idp.name, "the identity provider was found");
            }
        }
        for active in config.services() {
            let mcp = &active.service.mcp;
            // The usual name of such an endpoint; `check` looks at every URL.
            if mcp.url().path().trim_end_matches('/').ends_with("/sse") && legacy_transport::is_http_sse(http, mcp).await == Ok(true) {
                tracing::error!(service = active.service.name, "{HTTP_SSE_MESSAGE}");
            }
            if !active.has_upstream_leg() && !active.has_service_token() {
                continue;
            }
            if let Ok(server) = self.auth_server(http, active).await {
                let service = &active.service.name;
                tracing::info!(service, issuer = server.issuer, "the upstream's authorization server was found");
            }
        }
    }
}
