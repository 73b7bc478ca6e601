//! Calls of an upstream's token endpoint and revocation endpoint.

use std::sync::Arc;

use crate::app::discovery::Discovery;
use crate::app::error::{Rejection, SetupFault};
use crate::app::runtime_config::ActiveService;
use crate::base::secret::Secret;
use crate::base::time::Stopwatch;
use crate::flow::authorize::CodeExchange;
use crate::flow::grant_data::GrantData;
use crate::oauth::token_response::{UpstreamRefreshToken, UpstreamTokens};
use crate::token::header::TokenMode;
use crate::upstream::auth_server::AuthServer;
use crate::upstream::token_endpoint::{self, TokenEndpointError, TokenToRevoke};

impl Discovery {
    /// Exchanges the upstream's authorization code for tokens (RFC 6749 §4.1.3).
    ///
    /// # Errors
    /// If the upstream names another issuer than when the browser left, does not answer, or refuses.
    pub(in crate::app) async fn exchange_code(
        &self,
        active: &ActiveService,
        code: &Secret,
        exchange: &CodeExchange,
    ) -> Result<UpstreamTokens, Rejection> {
        let http = self.core.tasks.http();
        let server = self.auth_server(http, active).await?;
        if server.issuer != exchange.issuer {
            return Err(Rejection::Unknown(
                "the upstream has moved to another authorization server; start again",
            ));
        }
        let callback = self.core.urls.upstream_callback(&active.service);
        let request = |now| token_endpoint::code_request(&server, code, &exchange.verifier, &callback, now);
        match token_endpoint::send_with_retry(http, &self.core.clock, &server.addresses, request).await {
            Ok(tokens) => {
                self.note_tokens(active, &tokens);
                Ok(tokens)
            }
            Err(error) => Err(self.map_token_error(active, &server, error).await),
        }
    }

    /// Refreshes the tokens of a grant at the upstream (RFC 6749 §6). Returns them with a stopwatch
    /// that runs since the response was read.
    ///
    /// # Errors
    /// [`Rejection::UpstreamRefused`] if the upstream ended the grant. Another error leaves it open
    /// whether the upstream rotated the refresh token.
    pub(in crate::app) async fn refresh_tokens(
        &self,
        active: &ActiveService,
        token: &UpstreamRefreshToken,
        data: &GrantData,
    ) -> Result<(UpstreamTokens, Stopwatch), Rejection> {
        let http = self.core.tasks.http();
        let server = self.auth_server(http, active).await.map_err(Rejection::keep_tokens)?;
        if data.issuer.as_deref() != Some(&server.issuer) {
            tracing::error!(
                was = data.issuer.as_deref().unwrap_or(""),
                is = server.issuer,
                "the upstream names another authorization server than it did; its tokens are not sent there"
            );
            return Err(Rejection::Unknown(
                "the upstream has moved to another authorization server; sign in again",
            ));
        }
        let scope = data.scopes.to_string();
        let scope = Some(scope.as_str()).filter(|scope| !scope.is_empty());
        let request = |now| token_endpoint::refresh_request(&server, token, scope, now);
        match token_endpoint::send_with_retry(http, &self.core.clock, &server.addresses, request).await {
            Ok(tokens) => {
                let stopwatch = Stopwatch::start();
                self.note_tokens(active, &tokens);
                Ok((tokens, stopwatch))
            }
            Err(error) => Err(self.map_token_error(active, &server, error).await.keep_tokens()),
        }
    }

    /// Notes what a response with tokens says about the upstream.
    fn note_tokens(&self, active: &ActiveService, tokens: &UpstreamTokens) {
        active.discovery.clear_unknown_client();
        if self.core.store.is_stateless() || !matches!(active.service.mode, TokenMode::Sealed | TokenMode::Plain) {
            return;
        }
        if let Some(seconds) = active.discovery.note_lifetime(tokens, self.core.clock.now()) {
            tracing::warn!(
                service = active.service.name,
                seconds,
                "the upstream's access tokens live ten minutes or less, and some clients then refresh before each request; \
                token_mode = \"reference\" spares the upstream that"
            );
        }
    }

    /// Maps a failure of the upstream's token endpoint to our reason.
    pub(super) async fn map_token_error(&self, active: &ActiveService, server: &AuthServer, error: TokenEndpointError) -> Rejection {
        match error {
            TokenEndpointError::Refused(refusal) if refusal.is_invalid_grant() => Rejection::UpstreamRefused(refusal.code),
            // Our own credentials are wrong there. That ends no grant.
            TokenEndpointError::Refused(refusal) => {
                if refusal.code == "invalid_client" {
                    self.note_unknown_client(active, server).await;
                }
                let fault = if refusal.is_invalid_client() {
                    SetupFault::ClientRefused
                } else {
                    SetupFault::RequestRefused
                };
                fault.because(format!("it refused us with {refusal}"))
            }
            TokenEndpointError::NeverSent(reason) | TokenEndpointError::Unknown(reason) => Rejection::UpstreamDown {
                why: reason,
                retry_after: 5,
            },
            TokenEndpointError::Throttled { retry_after } => Rejection::UpstreamDown {
                why: "it is throttling".into(),
                retry_after: retry_after.unwrap_or(10),
            },
        }
    }

    /// Revokes upstream tokens (RFC 7009), detached and once, at the authorization server that issued
    /// them. Without `tokens`, those that the grant's data holds.
    pub(in crate::app) fn revoke_detached(self: &Arc<Self>, data: &GrantData, tokens: Option<UpstreamTokens>) {
        let tokens = tokens.or_else(|| data.latest().cloned());
        let active = self.core.active_service(&data.service);
        let (Some(tokens), Some(issuer), Some(active)) = (tokens, data.issuer.clone(), active) else {
            return;
        };
        let this = Arc::clone(self);
        self.core.tasks.spawn(async move { this.revoke(&active, &issuer, &tokens).await });
    }

    async fn revoke(&self, active: &ActiveService, issuer: &str, tokens: &UpstreamTokens) {
        let http = self.core.tasks.http();
        let Ok(server) = self.auth_server(http, active).await else {
            return;
        };
        if server.issuer != issuer {
            tracing::warn!(
                was = issuer,
                is = server.issuer,
                "the upstream names another authorization server; its tokens are not revoked there"
            );
            return;
        }
        let token = tokens
            .refresh
            .as_ref()
            .map_or(TokenToRevoke::Access(&tokens.access), TokenToRevoke::Refresh);
        // `None`: the upstream has no revocation endpoint.
        let Some(Ok(request)) = token_endpoint::revoke_request(&server, token, self.core.clock.now()) else {
            return;
        };
        match token_endpoint::revoke(http, request, &server.addresses).await {
            Ok(()) => tracing::info!("the upstream's tokens were revoked"),
            Err(error) => tracing::warn!(%error, "the upstream's tokens could not be revoked"),
        }
    }
}
