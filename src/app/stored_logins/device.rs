//! The device flow (RFC 8628): the user confirms a code on another device, and the command polls.

use std::time::Duration;

use crate::app::runtime_config::ActiveService;
use crate::app::stored_logins::StoredLogins;
use crate::app::stored_logins::exchange::credential;
use crate::flow::stored_token::OAuthCredential;
use crate::net::http_client::HttpClient;
use crate::oauth::device_authorization::{DeviceAuthorization, PollVerdict};
use crate::upstream::auth_server::AuthServer;
use crate::upstream::device::{self, DeviceRequestError};
use crate::upstream::token_endpoint::TokenEndpointError;

/// The reason why a device flow ended without tokens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceLoginError {
    /// The user denied.
    #[error("access was denied at the upstream")]
    Denied,
    /// The user did not confirm in time.
    #[error("the code was not confirmed in time")]
    Expired,
    /// The upstream refused.
    #[error("the upstream refused the sign-in: {0}")]
    Refused(String),
}

impl StoredLogins {
    /// Requests the codes of a device flow.
    ///
    /// # Errors
    /// If the upstream offers no device flow, refuses or does not answer. A sign-in with a browser is still
    /// possible.
    pub async fn device_codes(
        &self,
        http: &HttpClient,
        active: &ActiveService,
        server: &AuthServer,
    ) -> Result<DeviceAuthorization, DeviceRequestError> {
        let scopes = active.scopes_offered().list();
        device::request_codes(http, server, &scopes, self.core.clock.now()).await
    }

    /// Polls at the upstream's interval until the user has decided.
    ///
    /// # Errors
    /// If the user denies or does not confirm in time, or the upstream refuses.
    pub async fn poll_device(
        &self,
        http: &HttpClient,
        active: &ActiveService,
        server: &AuthServer,
        codes: &DeviceAuthorization,
    ) -> Result<OAuthCredential, DeviceLoginError> {
        let mut polling = codes.polling;
        loop {
            tokio::time::sleep(Duration::from_secs(polling.interval())).await;
            let answer = device::poll(http, server, &codes.device_code, self.core.clock.now()).await;
            let now = self.core.clock.now();
            let (verdict, reason) = match answer {
                Ok(tokens) => return Ok(credential(active, server, tokens)),
                Err(TokenEndpointError::Refused(refusal)) => (polling.after_error(&refusal.code, now), refusal.to_string()),
                Err(error) => (polling.after_silence(now), error.to_string()),
            };
            match verdict {
                PollVerdict::Wait(next) => polling = next,
                PollVerdict::Denied => return Err(DeviceLoginError::Denied),
                PollVerdict::Expired => return Err(DeviceLoginError::Expired),
                PollVerdict::Failed => return Err(DeviceLoginError::Refused(reason)),
            }
        }
    }
}
