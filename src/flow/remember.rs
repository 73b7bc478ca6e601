//! Whether a consent may stand for later ones, and an earlier one for it. Decided once, when the journey begins.

use serde::{Deserialize, Serialize};

use crate::flow::client::{Registered, ReturnAddress};
use crate::flow::who::By;

/// What a journey may do with consents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Remember {
    /// The user is asked, and is asked again the next time.
    #[default]
    Never,
    /// The user is asked, and need not be asked the next time.
    Write,
    /// The user need not be asked, if that was done before; else as [`Remember::Write`].
    Use,
}

/// How the browser came to `/authorize`.
#[derive(Clone, Copy, Debug)]
pub struct Came<'a> {
    /// The service has `remember_consent = true`.
    pub service_remembers: bool,
    /// Who is to say who the user is.
    pub by: &'a By,
    /// The client wants the user to be asked (`prompt=consent`).
    pub prompt: bool,
    /// No page of another site sent the browser, and it says so.
    pub of_its_own: bool,
}

impl Remember {
    /// For a client that is answered at `back`. Whoever is nobody here has no consent to be remembered.
    pub fn of(client: &Registered, back: &ReturnAddress, came: Came<'_>) -> Self {
        let somebody = match came.by {
            By::Password | By::Provider(_) => true,
            By::Nobody => false,
        };
        if !(came.service_remembers && somebody && client.is_remembered_at(back)) {
            return Self::Never;
        }
        if came.of_its_own && !came.prompt { Self::Use } else { Self::Write }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Digest;
    use crate::oauth::redirect::RedirectUri;
    use crate::oauth::register::{AuthMethod, Registration};

    #[test]
    fn an_earlier_consent_is_used_only_if_everything_speaks_for_it() {
        let registration = Registration {
            name: None,
            redirect_uris: vec![RedirectUri::parse("https://a/cb").unwrap()],
            auth_method: AuthMethod::ClientSecretBasic,
            refreshes: true,
        };
        let client = Registered::configured("bot".into(), registration.clone(), Some(Digest::of("s")));
        let back = client.return_address(None, None, "i").unwrap();
        let good = Came {
            service_remembers: true,
            by: &By::Password,
            prompt: false,
            of_its_own: true,
        };
        let corp = By::Provider("corp".into());
        let of = |came| Remember::of(&client, &back, came);
        assert_eq!(of(good), Remember::Use);
        assert_eq!(of(Came { by: &corp, ..good }), Remember::Use);
        assert_eq!(of(Came { prompt: true, ..good }), Remember::Write);
        assert_eq!(of(Came { of_its_own: false, ..good }), Remember::Write);
        assert_eq!(
            of(Came {
                service_remembers: false,
                ..good
            }),
            Remember::Never
        );
        assert_eq!(of(Came { by: &By::Nobody, ..good }), Remember::Never);
        let itself = Registered::new("gwc_".into(), registration, Some(Digest::of("s")));
        assert_eq!(Remember::of(&itself, &back, good), Remember::Never);
    }
}
