//! Consents that are remembered (`remember_consent`): the user of a trusted client is asked once, and then not for a while.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::base::ids::{Digest, Id};
use crate::base::record::{Record, states};
use crate::base::time::UnixTime;
use crate::flow::authorize::Asked;
use crate::flow::remember::Remember;
use crate::flow::who::{By, Who};
use crate::gateway::Gateway;
use crate::gateway::approve::Onward;
use crate::gateway::authorize::{Flow, Shown};
use crate::gateway::live::Running;
use crate::gateway::paste::Approval;
use crate::gateway::rejection::Rejection;
use crate::gateway::{Lane, authorize};
use crate::oauth::scope::Scopes;
use crate::service::AfterConsent;
use crate::store::{Handle, Missed, NotInserted, StoreError};

/// The longest that a consent stands, in seconds.
const LONGEST: u64 = 90 * 86_400;

/// A user said yes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    scopes: Scopes,
    expires: UnixTime,
}

/// See [the module](self).
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
pub enum ConsentRecord {
    /// See [`Given`].
    Given(Given),
}

states!(ConsentRecord: Given);

impl Record for ConsentRecord {
    const SPACE: &'static str = "consent";

    fn keep_until(&self) -> UnixTime {
        let Self::Given(given) = self;
        given.expires
    }
}

impl ConsentRecord {
    /// Whether what is asked now was said yes to. To ask for nothing in particular is to ask for whatever the upstream
    /// gives: that is covered only by a yes to the same.
    fn covers(&self, asked: &Scopes, now: UnixTime) -> bool {
        let Self::Given(given) = self;
        let is_wider = given.scopes.covers(asked) && (!asked.is_empty() || given.scopes.is_empty());
        given.expires > now && is_wider
    }
}

/// What a consent is of: this client, this service in front of this upstream, this user signed in this way.
fn of(asked: &Asked, who: &Who, running: &Running) -> Option<Handle<ConsentRecord>> {
    let by = match &asked.way.by {
        By::Password => "password",
        By::Provider(name) => name,
        By::Nobody => return None,
    };
    if who.subject.is_empty() {
        return None;
    }
    // Each with its length: no two sets of parts read the same.
    let mut named = String::from("consent");
    for part in [&asked.client_id, &asked.service, running.service.mcp.as_str(), by, &who.subject] {
        let _ = write!(named, " {}:{part}", part.len());
    }
    Some(Handle::of(Id(Digest::of(&named).short())))
}

impl Gateway {
    /// Goes on without the page, as after [`Gateway::approve`], if the user said yes to this before and is not to be asked
    /// each time. `None`: the page is to be shown.
    pub async fn approved_before(&self, lane: &Lane, flow: &Flow, approval: Approval<'_>) -> Result<Option<Onward>, Rejection> {
        let Shown::Consent(asked, who) = self.shown(flow, approval.form).await? else {
            return Ok(None);
        };
        if asked.remember != Remember::Use {
            return Ok(None);
        }
        let running = self.running(&asked.service).ok_or(authorize::GONE)?;
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
        self.onward(lane, flow, approval, (asked, who, &running)).await.map(Some)
    }

    /// The user said yes on the page. If it cannot be kept, the user is asked again the next time.
    pub(crate) async fn remember(&self, asked: &Asked, who: &Who, running: &Running) {
        let may = match asked.remember {
            Remember::Never => false,
            Remember::Write | Remember::Use => running.service.remember_consent,
        };
        let Some(handle) = of(asked, who, running).filter(|_| may) else {
            return;
        };
        let given = Given {
            scopes: asked.scopes.clone(),
            expires: self.clock.now().after(running.service.ttl.absolute.min(LONGEST)),
        };
        if let Err(why) = self.keep(&handle, &given).await {
            tracing::warn!(%why, "a consent is not remembered");
        }
    }

    async fn keep(&self, handle: &Handle<ConsentRecord>, given: &Given) -> Result<(), StoreError> {
        let again = |_: ConsentRecord| Ok::<_, std::convert::Infallible>((given.clone().into(), ()));
        match self.store.insert(handle.id(), given.clone()).await {
            Ok(_) => return Ok(()),
            Err(NotInserted::AlreadyThere) => {}
            Err(NotInserted::Store(why)) => return Err(why),
        }
        match self.store.update(handle, again).await {
            // It was forgotten meanwhile: that the user said too.
            Ok(_) | Err(Missed::Absent | Missed::OtherState) => Ok(()),
            Err(Missed::Rejected(never)) => match never {},
            Err(Missed::Store(why)) => Err(why),
        }
    }

    /// The user says no on the consent page: whatever was said before, it holds no longer.
    pub(crate) async fn forget(&self, flow: &Flow, form: Option<&str>) -> Result<(), Rejection> {
        let Ok(Shown::Consent(asked, who)) = self.shown(flow, form).await else {
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
            ConsentRecord::Given(Given {
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
