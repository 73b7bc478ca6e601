//! Whether a flow may remember a consent or use a remembered one. Decided when the flow begins.

use serde::{Deserialize, Serialize};

use crate::flow::client::{RegisteredClient, ReturnAddress};
use crate::flow::user::LoginMethod;

/// What a flow may do with remembered consents.
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

/// What decides about remembered consents, apart from the client.
#[derive(Clone, Copy, Debug)]
pub struct ConsentContext<'a> {
    /// The service has `remember_consent = true`.
    pub service_remembers: bool,
    /// The login method.
    pub by: &'a LoginMethod,
    /// The client requires the consent page (`prompt=consent`).
    pub prompt: bool,
    /// The browser states that no page of another site sent it.
    pub is_user_initiated: bool,
}

impl RememberConsent {
    /// Decides for a client with the return address `back`. Without a login, it is always `Never`.
    pub fn of(client: &RegisteredClient, back: &ReturnAddress, came: ConsentContext<'_>) -> Self {
        let somebody = match came.by {
            LoginMethod::Password | LoginMethod::Provider(_) => true,
            LoginMethod::Nobody => false,
        };
        if !(came.service_remembers && somebody && client.may_remember_consent(back)) {
            return Self::Never;
        }
        if came.is_user_initiated && !came.prompt {
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
        let back = client.return_address(None, None, "i").unwrap();
        let good = ConsentContext {
            service_remembers: true,
            by: &LoginMethod::Password,
            prompt: false,
            is_user_initiated: true,
        };
        let corp = LoginMethod::Provider("corp".into());
        let of = |came| RememberConsent::of(&client, &back, came);
        assert_eq!(of(good), RememberConsent::Use);
        assert_eq!(of(ConsentContext { by: &corp, ..good }), RememberConsent::Use);
        assert_eq!(of(ConsentContext { prompt: true, ..good }), RememberConsent::Write);
        assert_eq!(
            of(ConsentContext {
                is_user_initiated: false,
                ..good
            }),
            RememberConsent::Write
        );
        assert_eq!(
            of(ConsentContext {
                service_remembers: false,
                ..good
            }),
            RememberConsent::Never
        );
        assert_eq!(
            of(ConsentContext {
                by: &LoginMethod::Nobody,
                ..good
            }),
            RememberConsent::Never
        );
        let itself = RegisteredClient::new("gwc_".into(), registration, Some(Digest::new("s")));
        assert_eq!(RememberConsent::of(&itself, &back, good), RememberConsent::Never);
    }
}
