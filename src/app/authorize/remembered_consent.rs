//! Remembered consent (`remember_consent`): the user of a trusted client is asked once in a while.

use std::convert::Infallible;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::app::authorize::Authorize;
use crate::app::authorize::results::FlowPage;
use crate::app::error::Rejection;
use crate::app::flow_handle::FlowHandle;
use crate::app::runtime_config::ActiveService;
use crate::base::ids::{Digest, Id};
use crate::base::record::{Record, states};
use crate::base::time::UnixTime;
use crate::flow::authorize::AuthorizationRequest;
use crate::flow::consent::RememberConsent;
use crate::flow::user::{LoginMethod, User};
use crate::oauth::scope::Scopes;
use crate::service::AfterConsent;
use crate::store::{Handle, InsertError, StoreError, TransitionError};

/// The longest time that a consent is remembered, in seconds.
const MAX_CONSENT_SECONDS: u64 = 90 * 86_400;

/// A user consented.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    scopes: Scopes,
    /// The issuer of the upstream's authorization server, if there is one.
    #[serde(default)]
    issuer: Option<String>,
    expires: UnixTime,
}

/// The record of [`Consent`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
pub enum ConsentRecord {
    /// The user consented.
    #[serde(rename = "Given")]
    Consent(Consent),
}

states!(ConsentRecord: Consent);

impl Record for ConsentRecord {
    const KIND: &'static str = "consent";

    fn expires_at(&self) -> UnixTime {
        let Self::Consent(consent) = self;
        consent.expires
    }
}

impl ConsentRecord {
    /// Whether the consent covers these scopes at this issuer. A request without scopes asks for
    /// all scopes that the upstream grants, so only a consent without scopes covers it.
    fn covers(&self, scopes: &Scopes, issuer: Option<&str>, now: UnixTime) -> bool {
        let Self::Consent(consent) = self;
        let is_wider = consent.scopes.contains_all(scopes) && (!scopes.is_empty() || consent.scopes.is_empty());
        consent.expires > now && is_wider && consent.issuer.as_deref() == issuer
    }
}

/// The handle of the consent of this user, signed in by this method, for this client at this service
/// and upstream. A provider's user is known by issuer and `sub`: the operator can use the provider's name
/// for another issuer. `None` without a signed-in user.
fn consent_handle(request: &AuthorizationRequest, user: &User, active: &ActiveService) -> Option<Handle<ConsentRecord>> {
    let (login, id) = match (&request.way.by, &user.identity) {
        (LoginMethod::Password, _) => ("password", &user.subject),
        (LoginMethod::Provider(_), Some(identity)) => (identity.issuer.as_str(), &identity.id),
        (LoginMethod::Provider(_), None) | (LoginMethod::Nobody, _) => return None,
    };
    if id.is_empty() {
        return None;
    }
    // Each part with its length, so that no two sets of parts give the same text.
    let mut name = String::from("consent");
    for part in [&request.client_id, &request.service, active.service.mcp.as_str(), login, id] {
        let _ = write!(name, " {}:{part}", part.len());
    }
    Some(Handle::new(Id(Digest::new(&name).truncated())))
}

impl Authorize {
    /// Whether the user consented to the same before and the client need not ask each time.
    ///
    /// # Errors
    /// If the store fails.
    pub(super) async fn is_consent_remembered(
        &self,
        request: &AuthorizationRequest,
        user: &User,
        active: &ActiveService,
    ) -> Result<bool, Rejection> {
        let needs_form = match active.service.upstream.after_consent() {
            AfterConsent::Form(_) => true,
            AfterConsent::Upstream | AfterConsent::Nowhere => false,
        };
        // The configuration of now, which may differ from the one when the flow began.
        let Some(handle) = consent_handle(request, user, active).filter(|_| active.service.remember_consent && !needs_form) else {
            return Ok(false);
        };
        let (now, issuer) = (self.core.clock.now(), active.discovery.issuer());
        let record = self.core.store.read(&handle).await?;
        Ok(record.is_some_and(|consent| consent.covers(&request.scopes, issuer.as_deref(), now)))
    }

    /// Remembers a consent. If that fails, the user is asked again the next time.
    pub(super) async fn remember_consent(&self, request: &AuthorizationRequest, user: &User, active: &ActiveService) {
        let may_remember = match request.remember {
            RememberConsent::Never => false,
            RememberConsent::Write | RememberConsent::Use => active.service.remember_consent,
        };
        let Some(handle) = consent_handle(request, user, active).filter(|_| may_remember) else {
            return;
        };
        let ttl = active.service.ttl.absolute.min(MAX_CONSENT_SECONDS);
        let consent = Consent {
            scopes: request.scopes.clone(),
            issuer: active.discovery.issuer(),
            expires: self.core.clock.now().plus_seconds(ttl),
        };
        if let Err(error) = self.store_consent(&handle, &consent).await {
            tracing::warn!(%error, "a consent is not remembered");
        }
    }

    async fn store_consent(&self, handle: &Handle<ConsentRecord>, consent: &Consent) -> Result<(), StoreError> {
        match self.core.store.insert(handle.id(), consent.clone()).await {
            Ok(_) => return Ok(()),
            Err(InsertError::AlreadyExists) => {}
            Err(InsertError::Store(error)) => return Err(error),
        }
        let step = |_: ConsentRecord| Ok::<_, Infallible>((consent.clone().into(), ()));
        match self.core.store.update(handle, step).await {
            // Not found: the user has denied since, which removed the consent. It stays removed.
            Ok(_) | Err(TransitionError::NotFound | TransitionError::WrongState) => Ok(()),
            Err(TransitionError::Rejected(never)) => match never {},
            Err(TransitionError::Store(error)) => Err(error),
        }
    }

    /// Forgets a consent, because the user denies on the consent page.
    ///
    /// # Errors
    /// If the store fails.
    pub(super) async fn forget_consent(&self, flow: &FlowHandle, form: Option<&str>) -> Result<(), Rejection> {
        let Ok(FlowPage::Consent(request, user)) = self.page(flow, form).await else {
            return Ok(());
        };
        let active = self.core.active_service(&request.service);
        if let Some(handle) = active.and_then(|active| consent_handle(&request, &user, &active)) {
            self.core.store.remove(&handle).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consent_covers_the_same_scopes_or_fewer() {
        let record = |scopes| {
            ConsentRecord::Consent(Consent {
                scopes: Scopes::parse(scopes),
                issuer: Some("i".to_owned()),
                expires: UnixTime(100),
            })
        };
        for (consented, requested, covers) in [
            ("a b", "a b", true),
            ("a b", "a", true),
            ("a", "a b", false),
            ("a", "", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(
                record(consented).covers(&Scopes::parse(requested), Some("i"), UnixTime(99)),
                covers,
                "{consented}, {requested}"
            );
            assert!(!record(consented).covers(&Scopes::parse(requested), Some("i"), UnixTime(100)));
            assert!(!record(consented).covers(&Scopes::parse(requested), Some("j"), UnixTime(99)));
        }
    }
}
