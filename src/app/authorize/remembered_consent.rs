//! Consents that are remembered (`remember_consent`): the user of a trusted client is asked once, and then not for a while.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::app::Gateway;
use crate::app::Lane;
use crate::app::authorize::consent::ConsentOutcome;
use crate::app::authorize::start;
use crate::app::authorize::start::{FlowHandle, FlowPage};
use crate::app::authorize::user_credential::ConsentForm;
use crate::app::error::Rejection;
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

/// The longest that a consent stands, in seconds.
const MAX_CONSENT_SECONDS: u64 = 90 * 86_400;

/// A user said yes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    scopes: Scopes,
    expires: UnixTime,
}

/// See [the module](self).
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
pub enum ConsentRecord {
    /// See [`Consent`].
    #[serde(rename = "Given")]
    Consent(Consent),
}

states!(ConsentRecord: Consent);

impl Record for ConsentRecord {
    const KIND: &'static str = "consent";

    fn expires_at(&self) -> UnixTime {
        let Self::Consent(given) = self;
        given.expires
    }
}

impl ConsentRecord {
    /// Whether what is asked now was said yes to. To ask for nothing in particular is to ask for whatever the upstream
    /// gives: that is covered only by a yes to the same.
    fn covers(&self, asked: &Scopes, now: UnixTime) -> bool {
        let Self::Consent(given) = self;
        let is_wider = given.scopes.contains_all(asked) && (!asked.is_empty() || given.scopes.is_empty());
        given.expires > now && is_wider
    }
}

/// What a consent is of: this client, this service in front of this upstream, this user signed in this way.
fn of(asked: &AuthorizationRequest, who: &User, running: &ActiveService) -> Option<Handle<ConsentRecord>> {
    let by = match &asked.way.by {
        LoginMethod::Password => "password",
        LoginMethod::Provider(name) => name,
        LoginMethod::Nobody => return None,
    };
    if who.subject.is_empty() {
        return None;
    }
    // Each with its length: no two sets of parts read the same.
    let mut named = String::from("consent");
    for part in [&asked.client_id, &asked.service, running.service.mcp.as_str(), by, &who.subject] {
        let _ = write!(named, " {}:{part}", part.len());
    }
    Some(Handle::new(Id(Digest::new(&named).truncated())))
}

impl Gateway {
    /// Goes on without the page, as after [`Gateway::approve`], if the user said yes to this before and is not to be asked
    /// each time. `None`: the page is to be shown.
    pub async fn try_remembered(
        &self,
        lane: &Lane,
        flow: &FlowHandle,
        approval: ConsentForm<'_>,
    ) -> Result<Option<ConsentOutcome>, Rejection> {
        let FlowPage::Consent(asked, who) = self.page(flow, approval.form).await? else {
            return Ok(None);
        };
        if asked.remember != RememberConsent::Use {
            return Ok(None);
        }
        let running = self.running(&asked.service).ok_or(start::FLOW_NOT_FOUND)?;
        let is_form = match running.service.upstream.after_consent() {
            AfterConsent::Form(_) => true,
            AfterConsent::Upstream | AfterConsent::Nowhere => false,
        };
        // As the service is configured now, which may be later than when the journey began.
        let Some(handle) = of(&asked, &who, &running).filter(|_| running.service.remember_consent && !is_form) else {
            return Ok(None);
        };
        let now = self.clock.now();
        let known = self.store.read(&handle).await?;
        if !known.is_some_and(|known| known.covers(&asked.scopes, now)) {
            return Ok(None);
        }
        tracing::info!(
            service = asked.service,
            user = who.subject,
            client = asked.client_id,
            "consent was given before"
        );
        self.after_consent(lane, flow, approval, (asked, who, &running)).await.map(Some)
    }

    /// The user said yes on the page. If it cannot be kept, the user is asked again the next time.
    pub(crate) async fn remember_consent(&self, asked: &AuthorizationRequest, who: &User, running: &ActiveService) {
        let may = match asked.remember {
            RememberConsent::Never => false,
            RememberConsent::Write | RememberConsent::Use => running.service.remember_consent,
        };
        let Some(handle) = of(asked, who, running).filter(|_| may) else {
            return;
        };
        let given = Consent {
            scopes: asked.scopes.clone(),
            expires: self.clock.now().plus_seconds(running.service.ttl.absolute.min(MAX_CONSENT_SECONDS)),
        };
        if let Err(why) = self.save(&handle, &given).await {
            tracing::warn!(%why, "a consent is not remembered");
        }
    }

    async fn save(&self, handle: &Handle<ConsentRecord>, given: &Consent) -> Result<(), StoreError> {
        let again = |_: ConsentRecord| Ok::<_, std::convert::Infallible>((given.clone().into(), ()));
        match self.store.insert(handle.id(), given.clone()).await {
            Ok(_) => return Ok(()),
            Err(InsertError::AlreadyExists) => {}
            Err(InsertError::Store(why)) => return Err(why),
        }
        match self.store.update(handle, again).await {
            // It was forgotten meanwhile: that the user said too.
            Ok(_) | Err(TransitionError::NotFound | TransitionError::WrongState) => Ok(()),
            Err(TransitionError::Rejected(never)) => match never {},
            Err(TransitionError::Store(why)) => Err(why),
        }
    }

    /// The user says no on the consent page: whatever was said before, it holds no longer.
    pub(crate) async fn forget_consent(&self, flow: &FlowHandle, form: Option<&str>) -> Result<(), Rejection> {
        let Ok(FlowPage::Consent(asked, who)) = self.page(flow, form).await else {
            return Ok(());
        };
        let running = self.running(&asked.service);
        if let Some(handle) = running.and_then(|running| of(&asked, &who, &running)) {
            self.store.remove(&handle).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consent_covers_what_is_not_more_than_it_said() {
        let record = |scopes| {
            ConsentRecord::Consent(Consent {
                scopes: Scopes::parse(scopes),
                expires: UnixTime(100),
            })
        };
        for (given, asked, covers) in [
            ("a b", "a b", true),
            ("a b", "a", true),
            ("a", "a b", false),
            ("a", "", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(
                record(given).covers(&Scopes::parse(asked), UnixTime(99)),
                covers,
                "{given}, {asked}"
            );
            assert!(!record(given).covers(&Scopes::parse(asked), UnixTime(100)));
        }
    }
}
