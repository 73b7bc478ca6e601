//! A token request: a code or a refresh token.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

use crate::app::endpoint::ServiceEndpoint;
use crate::app::error::Rejection;
use crate::app::token_endpoint::TokenEndpoint;
use crate::app::token_endpoint::codes::PresentedCode;
use crate::oauth::form::Form;
use crate::oauth::token_endpoint::TokenRequest;

impl TokenEndpoint {
    /// Answers a token request (OAuth 2.1 §3.2). Everything is checked before anything is used up.
    ///
    /// # Errors
    /// If the request, the client, the code or the refresh token is not good, the source sends too
    /// many, or the upstream or the store does not answer.
    pub async fn respond(
        self: &Arc<Self>,
        source: IpAddr,
        endpoint: ServiceEndpoint<'_>,
        authorization: Option<&str>,
        form: &Form,
    ) -> Result<Value, Rejection> {
        self.check_limit(source)?;
        let request = TokenRequest::parse(form)?;
        let client = self.clients.authenticate(authorization, form)?;
        endpoint.check_resources(&self.core.urls, form.values("resource"))?;
        if !self.tokens.can_issue(&endpoint.service.service) {
            return Err(Rejection::TryLater { retry_after: 1 });
        }
        match request {
            TokenRequest::Code {
                code,
                redirect_uri,
                verifier,
            } => {
                let (this, active, issuer) = (Arc::clone(self), Arc::clone(endpoint.service), endpoint.issuer());
                // Detached: a client that hangs up after its code was spent still gets its grant.
                let work = async move {
                    let code = PresentedCode {
                        code: &code,
                        redirect_uri: redirect_uri.as_deref(),
                        verifier: verifier.as_ref(),
                    };
                    this.redeem(&active, &issuer, &client, code).await
                };
                self.core
                    .tasks
                    .spawn(work)
                    .await
                    .map_err(|_| Rejection::TryLater { retry_after: 1 })?
            }
            TokenRequest::Refresh { token, scopes } => self.grants.refresh(endpoint, &client, &token, scopes).await,
        }
    }
}
