//! The rule for remembered consents. It is applied when a flow starts.

use serde::{Deserialize, Serialize};

use crate::flow::client::{RegisteredClient, ReturnAddress};
use crate::flow::user::LoginMethod;

/// The permitted use of remembered consents in a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RememberConsent {
    /// The consent page is shown, and its result is not remembered.
    #[default]
    Never,
    /// The consent page is shown, and its result is remembered.
    Write,
    /// A remembered consent replaces the page; without one as [`RememberConsent::Write`].
    Use,
}

/// The facts that decide about remembered consents, apart from the client.
#[derive(Clone, Copy, Debug)]
pub struct ConsentContext<'a> {
    /// Whether the service has `remember_consent = true`.
    pub service_remembers: bool,
    /// The login method.
    pub by: &'a LoginMethod,
    /// Whether the client requires the consent page (`prompt=consent`).
    pub prompt: bool,
    /// Whether the browser states that no page of another site sent the request.
    pub is_user_initiated: bool,
}

impl RememberConsent {
    /// The permission for a client with this `return_address`. Without a login, it is always `Never`.
    pub fn of(client: &RegisteredClient, return_address: &ReturnAddress, context: ConsentContext<'_>) -> Self {
        let has_user = match context.by {
            LoginMethod::Password | LoginMethod::Provider(_) => true,
            LoginMethod::Nobody => false,
        };
        if !(context.service_remembers && has_user && client.may_remember_consent(return_address)) {
            return Self::Never;
        }
        if context.is_user_initiated && !context.prompt {
            Self::Use
        } else {
            Self::Write
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Digest;
    use crate::oauth::redirect_uri::RedirectUri;
    use crate::oauth::registration::{ClientAuthMethod, ClientRegistration};

    #[test]
    fn a_remembered_consent_is_used_only_if_every_condition_holds() {
        let registration = ClientRegistration {
            name: None,
            redirect_uris: vec![RedirectUri::parse("https://a/cb").unwrap()],
            auth_method: ClientAuthMethod::ClientSecretBasic,
            may_refresh: true,
        };
        let client = RegisteredClient::configured("bot".into(), registration.clone(), Some(Digest::new("s")));
        let return_address = client.return_address(None, None, "i").unwrap();
        let context = ConsentContext {
            service_remembers: true,
            by: &LoginMethod::Password,
            prompt: false,
            is_user_initiated: true,
        };
        let provider = LoginMethod::Provider("corp".into());
        let decide = |context| RememberConsent::of(&client, &return_address, context);
        assert_eq!(decide(context), RememberConsent::Use);
        assert_eq!(decide(ConsentContext { by: &provider, ..context }), RememberConsent::Use);
        assert_eq!(decide(ConsentContext { prompt: true, ..context }), RememberConsent::Write);
        assert_eq!(
            decide(ConsentContext {
                is_user_initiated: false,
                ..context
            }),
            RememberConsent::Write
        );
        assert_eq!(
            decide(ConsentContext {
                service_remembers: false,
                ..context
            }),
            RememberConsent::Never
        );
        assert_eq!(
            decide(ConsentContext {
                by: &LoginMethod::Nobody,
                ..context
            }),
            RememberConsent::Never
        );
        let self_registered = RegisteredClient::new("gwc_".into(), registration, Some(Digest::new("s")));
        assert_eq!(
            RememberConsent::of(&self_registered, &return_address, context),
            RememberConsent::Never
        );
    }
}
