//! Checks the credential that the user pastes on the consent page at the upstream, before a code is issued.

use std::sync::Arc;

use http::HeaderValue;

use crate::app::authorize::Authorize;
use crate::app::authorize::consent_form::{ConsentForm, CredentialError};
use crate::flow::code::ObtainedTokens;
use crate::net::http_client::HttpClient;
use crate::oauth::token_response::{UpstreamAccessToken, UpstreamTokens};
use crate::service::Service;
use crate::service::auth_header::PasteSettings;
use crate::upstream::credential_probe::{self, CredentialHeader, ProbeResult};

impl Authorize {
    /// Tries the pasted credential at the upstream. The credential is in no log, on no page and in no
    /// URL: only in the result.
    ///
    /// # Errors
    /// If it is not one, the upstream refuses it or does not answer, or too many were tried.
    pub(super) async fn verify_user_credential(
        &self,
        http: &HttpClient,
        service: &Service,
        paste: &PasteSettings,
        form: &ConsentForm<'_>,
    ) -> Result<ObtainedTokens, CredentialError> {
        let credential = paste.header.parse_credential(form.pasted.expose())?;
        let value = paste.header.value(&credential).ok_or(CredentialError::Characters)?;
        if !self.probe_limit.allow(form.source, form.flow.id()) {
            tracing::warn!(service = service.name, source = %form.source, "too many keys were tried");
            return Err(CredentialError::TooMany);
        }
        let header = (paste.header.name().clone(), value);
        match credential_probe::probe(http, &service.mcp, &header).await {
            ProbeResult::Accepted(session) => {
                if let Some(session) = session {
                    self.close_session(service, header, session);
                }
                Ok(ObtainedTokens {
                    issuer: None,
                    tokens: UpstreamTokens {
                        access: UpstreamAccessToken::new(credential),
                        refresh: None,
                        expires: None,
                        refresh_expires: None,
                        scope: None,
                    },
                })
            }
            ProbeResult::Refused => {
                tracing::info!(service = service.name, source = %form.source, "the upstream refused a pasted key");
                Err(CredentialError::Refused)
            }
            ProbeResult::NoResponse(reason) => {
                tracing::warn!(service = service.name, why = reason, "a pasted key could not be tried");
                Err(CredentialError::NoResponse)
            }
        }
    }

    /// Closes the MCP session that the probe opened, detached.
    fn close_session(&self, service: &Service, header: CredentialHeader, session: HeaderValue) {
        let (core, mcp) = (Arc::clone(&self.core), service.mcp.clone());
        self.core
            .tasks
            .spawn(async move { credential_probe::close(core.tasks.http(), &mcp, header, session).await });
    }
}
