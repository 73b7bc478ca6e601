//! Requests a token for a service itself: no user signs in for it.

use crate::app::discovery::Discovery;
use crate::app::error::{Rejection, SetupFault};
use crate::app::runtime_config::ActiveService;
use crate::oauth::token_response::UpstreamTokens;
use crate::service::service_token::{ServiceGrant, ServiceTokenSettings};
use crate::upstream::{service_token_request, token_endpoint};

impl Discovery {
    /// Requests a token by the client credentials (RFC 6749 §4.4), or by the workload token as an assertion
    /// (RFC 7523 §2.1).
    ///
    /// # Errors
    /// If discovery fails, or the upstream does not answer or refuses.
    pub(in crate::app) async fn request_service_token(
        &self,
        active: &ActiveService,
        settings: &ServiceTokenSettings,
    ) -> Result<UpstreamTokens, Rejection> {
        let http = self.core.tasks.http();
        let server = self.auth_server(http, active).await?;
        let configured = active.service.scopes.list();
        let scopes = if configured.is_empty() { &server.scopes_known } else { &configured };
        let assertion = match &settings.grant {
            ServiceGrant::ClientCredentials => None,
            ServiceGrant::WorkloadIdentity(file) => Some(file.read().await.map_err(|why| SetupFault::RequestRefused.because(why))?),
        };
        let request = |now| match &assertion {
            None => service_token_request::client_credentials_request(&server, scopes, now),
            Some(assertion) => service_token_request::jwt_bearer_request(&server, assertion, scopes, now),
        };
        match token_endpoint::send_with_retry(http, &self.core.clock, &server.addresses, request).await {
            Ok(tokens) => Ok(tokens),
            Err(error) => Err(self.map_token_error(active, &server, error).await),
        }
    }
}
