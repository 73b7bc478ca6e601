//! What was begun or granted is held against the configuration of now, which may not be the one under which it began.

use crate::app::Gateway;
use crate::app::authorize::idp_login::allow_list_subject;
use crate::app::error::Rejection;
use crate::flow::grant::GrantRecord;
use crate::flow::user::{Identity, LoginMethod, ServiceSnapshot, UpstreamStep, User};
use crate::service::{AfterConsent, Login, Service};
use crate::store::Handle;
use crate::upstream::idp::Idp;

/// The way of a journey to this service.
pub(crate) fn service_snapshot(service: &Service) -> ServiceSnapshot {
    ServiceSnapshot {
        to: service.mcp.origin(),
        by: match &service.login {
            Login::Password => LoginMethod::Password,
            Login::Idp(name) => LoginMethod::Provider(name.clone()),
            Login::None => LoginMethod::Nobody,
        },
        leg: match service.upstream.after_consent() {
            AfterConsent::Upstream => UpstreamStep::Upstream,
            AfterConsent::Form(_) | AfterConsent::Nowhere => UpstreamStep::Here,
        },
    }
}

/// `idp` is the provider of the identity's name, if it is still there.
fn check_identity(identity: &Identity, login: &Login, idp: Option<&Idp>) -> Result<(), &'static str> {
    if *login != Login::Idp(identity.provider.clone()) {
        return Err("the service has another sign-in now");
    }
    match idp {
        None => Err("the identity provider is no longer configured"),
        Some(idp) if idp.issuer.to_string() != identity.issuer => Err("the identity provider is another one now"),
        Some(idp) if idp.is_allowed(allow_list_subject(identity)) => Ok(()),
        Some(_) => Err("the user is no longer allowed"),
    }
}

impl Gateway {
    /// Whether a journey may go on to consent and to a pair: its service is as it was when it began, and the user may use it.
    pub(crate) fn check_flow(&self, service: &Service, journey: &ServiceSnapshot, who: &User) -> Result<(), Rejection> {
        let still = if *journey == service_snapshot(service) {
            self.check_user(service, who)
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
    fn check_user(&self, service: &Service, who: &User) -> Result<(), &'static str> {
        let live = self.live();
        match (&who.identity, &service.login) {
            (Some(identity), login) => {
                let idp = live.idp(&identity.provider).map(|running| &running.idp);
                check_identity(identity, login, idp)
            }
            // What opens the upstream is proof enough.
            (None, Login::None) => Ok(()),
            (None, Login::Password) if live.passwords.has_user(&who.subject) => Ok(()),
            (None, Login::Password) => Err("there is no such user any more"),
            (None, Login::Idp(_)) => Err("the service has another sign-in now"),
        }
    }

    /// At each refresh a user is held against the configuration of now, not of when he signed in; whoever is out, his grant
    /// ends.
    pub(crate) async fn check_grant_user(&self, service: &Service, handle: &Handle<GrantRecord>) -> Result<(), Rejection> {
        let record = self.store.read(handle).await?;
        let Some(who) = record.as_ref().and_then(GrantRecord::data).map(|held| &held.who) else {
            return Ok(());
        };
        let Err(why) = self.check_user(service, who) else {
            return Ok(());
        };
        tracing::warn!(grant = %handle.id(), user = who.subject, why, "a user is no longer admitted; the grant is ended");
        if let Some(held) = self.end_grant(handle).await? {
            self.revoke_upstream(&held, None);
        }
        Err(Rejection::Unknown("this user may no longer use the service; sign in again"))
    }
}
