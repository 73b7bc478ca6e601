//! Compares a flow or a grant with the configuration of now, which may differ from the one under
//! which it began.

use crate::app::error::Rejection;
use crate::app::runtime_config::RuntimeConfig;
use crate::flow::user::{Identity, LoginMethod, ServiceSnapshot, UpstreamStep, User};
use crate::service::{AfterConsent, Login, Service};
use crate::upstream::allow_list::AllowListSubject;
use crate::upstream::idp::Idp;

/// What a flow depends on in the configuration of its service.
pub(in crate::app) fn service_snapshot(service: &Service) -> ServiceSnapshot {
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

/// What an allow list compares of an identity.
pub(in crate::app) fn allow_list_subject(identity: &Identity) -> AllowListSubject<'_> {
    AllowListSubject {
        id: &identity.id,
        email: identity.email.as_deref(),
        groups: &identity.groups,
        hosted_domain: identity.hosted_domain.as_deref(),
    }
}

/// Checks that a flow may go on: its service did not change since it began, and its user may use it.
///
/// # Errors
/// If the flow must start again.
pub(in crate::app) fn check_flow(
    config: &RuntimeConfig,
    service: &Service,
    snapshot: &ServiceSnapshot,
    user: &User,
) -> Result<(), Rejection> {
    let result = if *snapshot == service_snapshot(service) {
        check_user(config, service, user)
    } else {
        Err("the service is another one now")
    };
    result.map_err(|reason| {
        tracing::warn!(
            service = service.name,
            user = user.subject,
            why = reason,
            "a sign-in does not go on: the configuration was changed"
        );
        Rejection::Unknown("the configuration of the gateway changed during this sign-in; start again in your client")
    })
}

/// Checks that a user may use a service.
///
/// # Errors
/// The text says why not.
pub(in crate::app) fn check_user(config: &RuntimeConfig, service: &Service, user: &User) -> Result<(), &'static str> {
    match (&user.identity, &service.login) {
        (Some(identity), login) => {
            let idp = config.idp(&identity.provider).map(|active| &active.idp);
            check_identity(identity, login, idp)
        }
        // The credential for the upstream is enough.
        (None, Login::None) => Ok(()),
        (None, Login::Password) if config.configured.users.iter().any(|configured| configured.name == user.subject) => Ok(()),
        (None, Login::Password) => Err("there is no such user any more"),
        (None, Login::Idp(_)) => Err("the service has another sign-in now"),
    }
}

/// `idp` is the provider that the identity names, if it is still configured.
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
