//! Service tokens: of the services for which the gateway obtains a token itself. One token request runs at
//! a time for each service, and all callers use its result.

use std::sync::Arc;

use crate::app::core::Core;
use crate::app::discovery::Discovery;
use crate::app::error::Rejection;
use crate::app::grants::lease::MAX_WAIT;
use crate::app::runtime_config::ActiveService;
use crate::app::service_token_slot::ServiceToken;
use crate::base::time::UnixTime;
use crate::oauth::token_response::UpstreamAccessToken;
use crate::observe::audit::event::{AuditEvent, AuditEventKind, AuditOutcome};
use crate::service::Upstream;

/// How long the gateway waits after a refusal before it asks again, in seconds.
const REFUSED_SECONDS: u64 = 30;

/// Why a request gets no service token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceTokenError {
    /// The authorization server refuses us, or the upstream refuses a token that was issued a moment ago.
    #[error("the upstream refuses the gateway")]
    Refused,
    /// There is no answer now.
    #[error("no token can be obtained now")]
    TryLater,
}

impl From<&Rejection> for ServiceTokenError {
    fn from(error: &Rejection) -> Self {
        if matches!(error, Rejection::UpstreamRefused(_) | Rejection::UpstreamSetup { .. }) {
            Self::Refused
        } else {
            Self::TryLater
        }
    }
}

/// Obtains and renews service tokens.
pub struct ServiceTokens {
    core: Arc<Core>,
    discovery: Arc<Discovery>,
}

impl ServiceTokens {
    pub(in crate::app) fn new(core: Arc<Core>, discovery: Arc<Discovery>) -> Self {
        Self { core, discovery }
    }

    /// The token of a service. If it ends soon, a new one is requested in the background. If there is none,
    /// the request waits for it.
    ///
    /// # Errors
    /// If no token can be had.
    pub(in crate::app) async fn current(self: &Arc<Self>, active: &Arc<ActiveService>) -> Result<Arc<ServiceToken>, ServiceTokenError> {
        let (slot, now) = (&active.service_token, self.core.clock.now());
        let Some(token) = slot.valid(now) else {
            return self.renew(active, None).await;
        };
        if token.is_renewal_due(now) && slot.recent_failure(now).is_none() && token.start_renewal() {
            self.renew_in_background(active, None);
        }
        Ok(token)
    }

    /// A token that is newer than `refused`.
    ///
    /// # Errors
    /// If no token can be had, or the upstream refuses new ones.
    pub(in crate::app) async fn renew(
        self: &Arc<Self>,
        active: &Arc<ActiveService>,
        refused: Option<&UpstreamAccessToken>,
    ) -> Result<Arc<ServiceToken>, ServiceTokenError> {
        let (this, active, refused) = (Arc::clone(self), Arc::clone(active), refused.cloned());
        // Detached: if the client gives up, the token is not lost for the next one.
        let work = async move { this.renew_once(&active, refused.as_ref()).await };
        match tokio::time::timeout(MAX_WAIT, self.core.tasks.spawn(work)).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(ServiceTokenError::TryLater),
        }
    }

    /// Does the same without a caller that waits.
    pub(in crate::app) fn renew_in_background(self: &Arc<Self>, active: &Arc<ActiveService>, refused: Option<&UpstreamAccessToken>) {
        let (this, active, refused) = (Arc::clone(self), Arc::clone(active), refused.cloned());
        self.core.tasks.spawn(async move {
            // A failure is logged where it arises, and a later request tries again.
            let _ = this.renew_once(&active, refused.as_ref()).await;
        });
    }

    /// Requests a successor of the present token in the background: the upstream's error refuses it.
    pub(in crate::app) fn renew_present(self: &Arc<Self>, active: &Arc<ActiveService>) {
        if let Some(token) = active.service_token.valid(self.core.clock.now()) {
            self.renew_in_background(active, Some(&token.access));
        }
    }

    async fn renew_once(
        &self,
        active: &Arc<ActiveService>,
        refused: Option<&UpstreamAccessToken>,
    ) -> Result<Arc<ServiceToken>, ServiceTokenError> {
        let slot = &active.service_token;
        let _turn = slot.turn().await;
        let now = self.core.clock.now();
        let present = slot.valid(now);
        if let Some(token) = &present {
            let is_refused = refused == Some(&token.access);
            if is_refused && token.is_new(now) {
                return Err(ServiceTokenError::Refused);
            }
            // Another caller has renewed it meanwhile.
            if !is_refused && !token.is_renewal_due(now) {
                return Ok(Arc::clone(token));
            }
        }
        let result = match slot.recent_failure(now) {
            Some(error) => Err(ServiceTokenError::from(&error)),
            None => self.request(active, now).await,
        };
        if let (Err(_), Some(token)) = (&result, &present) {
            token.end_renewal();
        }
        result
    }

    /// Asks the upstream, as the only caller.
    async fn request(&self, active: &Arc<ActiveService>, now: UnixTime) -> Result<Arc<ServiceToken>, ServiceTokenError> {
        let Upstream::ServiceToken(settings) = &active.service.upstream else {
            return Err(ServiceTokenError::Refused);
        };
        let service = active.service.name.as_str();
        let unusable = || Rejection::Unknown("the upstream's access token cannot be in a header");
        let result = self.discovery.request_service_token(active, settings).await;
        match result.and_then(|tokens| ServiceToken::new(tokens, self.core.clock.now()).ok_or_else(unusable)) {
            Ok(token) => {
                self.record(service, AuditEventKind::TokenRefreshed, AuditOutcome::Success);
                Ok(active.service_token.store(token))
            }
            Err(error) => {
                tracing::warn!(service, %error, "no token was obtained for the service");
                self.record(service, AuditEventKind::RefreshFailed, AuditOutcome::Failure);
                let reason = ServiceTokenError::from(&error);
                let seconds = if let Rejection::UpstreamDown { retry_after, .. } = &error {
                    (*retry_after).min(REFUSED_SECONDS)
                } else {
                    REFUSED_SECONDS
                };
                active.service_token.note_failure(error, now.plus_seconds(seconds));
                Err(reason)
            }
        }
    }

    fn record(&self, service: &str, kind: AuditEventKind, outcome: AuditOutcome) {
        let event = AuditEvent::new(kind, outcome)
            .with("service", service)
            .with("credential", "service");
        self.core.audit.record(event);
    }
}
