//! What was begun or granted is held against the configuration of now, which may not be the one under which it began.

use crate::flow::grant::GrantRecord;
use crate::flow::who::{By, Identity, Leg, Way, Who};
use crate::gateway::Gateway;
use crate::gateway::idp::candidate;
use crate::gateway::rejection::Rejection;
use crate::service::{AfterConsent, Login, Service};
use crate::store::Handle;
use crate::upstream::idp::Idp;

/// The way of a journey to this service.
pub(super) fn way(service: &Service) -> Way {
    Way {
        to: service.mcp.origin(),
        by: match &service.login {
            Login::Password => By::Password,
            Login::Idp(name) => By::Provider(name.clone()),
            Login::None => By::Nobody,
        },
        leg: match service.upstream.after_consent() {
            AfterConsent::Upstream => Leg::Upstream,
            AfterConsent::Form(_) | AfterConsent::Nowhere => Leg::Here,
        },
    }
}

/// `idp` is the provider of the identity's name, if it is still there.
fn is_admitted_by(identity: &Identity, login: &Login, idp: Option<&Idp>) -> Result<(), &'static str> {
    if *login != Login::Idp(identity.provider.clone()) {
        return Err("the service has another sign-in now");
    }
    match idp {
        None => Err("the identity provider is no longer configured"),
        Some(idp) if idp.issuer.to_string() != identity.issuer => Err("the identity provider is another one now"),
        Some(idp) if idp.admits(candidate(identity)) => Ok(()),
        Some(_) => Err("the user is no longer allowed"),
    }
}

impl Gateway {
    /// Whether a journey may go on to consent and to a pair: its service is as it was when it began, and the user may use it.
    pub(super) fn stands(&self, service: &Service, journey: &Way, who: &Who) -> Result<(), Rejection> {
        let still = if *journey == way(service) {
            self.admits(service, who)
        } else {
            Err("the service is another one now")
        };
        still.map_err(|why| {
            tracing::warn!(
                service = service.name,
                user = who.subject,
                why,
                "a sign-in does not go on: the configuration was changed"
            );
            Rejection::Unknown("the gateway was configured anew during this sign-in; start again in your client")
        })
    }

    /// Whether a user may use a service, or why not.
    fn admits(&self, service: &Service, who: &Who) -> Result<(), &'static str> {
        let live = self.live();
        match (&who.identity, &service.login) {
            (Some(identity), login) => {
                let idp = live.idp(&identity.provider).map(|running| &running.idp);
                is_admitted_by(identity, login, idp)
            }
            // What opens the upstream is proof enough.
            (None, Login::None) => Ok(()),
            (None, Login::Password) if live.passwords.knows(&who.subject) => Ok(()),
            (None, Login::Password) => Err("there is no such user any more"),
            (None, Login::Idp(_)) => Err("the service has another sign-in now"),
        }
    }

    /// At each refresh a user is held against the configuration of now, not of when he signed in; whoever is out, his grant
    /// ends.
    pub(super) async fn still_admitted(&self, service: &Service, handle: &Handle<GrantRecord>) -> Result<(), Rejection> {
        let record = self.store.read(handle).await?;
        let Some(who) = record.as_ref().and_then(GrantRecord::held).map(|held| &held.who) else {
            return Ok(());
        };
        let Err(why) = self.admits(service, who) else {
            return Ok(());
        };
        tracing::warn!(grant = %handle.id(), user = who.subject, why, "a user is no longer admitted; the grant is ended");
        if let Some(held) = self.end(handle).await? {
            self.revoke_upstream(&held, None);
        }
        Err(Rejection::Unknown("this user may no longer use the service; sign in again"))
    }
}
