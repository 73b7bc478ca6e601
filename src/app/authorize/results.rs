//! The results of the steps of an authorization flow.

use crate::app::authorize::consent_form::CredentialError;
use crate::app::authorize::idp_outcome::LoginRedirect;
use crate::app::authorize::login_session::SealedCookie;
use crate::app::authorize::password::PasswordCheck;
use crate::app::error::Rejection;
use crate::app::flow_handle::{ClientRedirect, FlowHandle};
use crate::base::secret::Secret;
use crate::flow::authorize::AuthorizationRequest;
use crate::flow::client::ReturnAddress;
use crate::flow::user::User;

/// A flow has begun.
#[derive(Debug)]
pub struct StartedFlow {
    /// Its handle.
    pub flow: FlowHandle,
    /// The value of its form cookie.
    pub form: Secret,
    /// The user needs no login. Consent comes next.
    pub signed_in: bool,
}

/// The reason why `/authorize` starts no flow.
#[derive(Debug)]
pub enum AuthorizeError {
    /// The redirect URI is not checked, so the browser gets a page.
    Page(Rejection),
    /// The client may receive the error. The user has not acted yet, so this is a redirect only where
    /// that is safe, and a page with a link otherwise.
    Answer(ReturnAddress, Rejection),
}

/// The content of the page of a flow.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once for a page, and taken apart at once")]
pub enum FlowPage {
    /// The login form.
    SignIn(AuthorizationRequest),
    /// A button to the identity provider, with the provider's display name.
    ToProvider(AuthorizationRequest, String),
    /// The consent form, and who is signed in.
    Consent(AuthorizationRequest, User),
    /// The flow is past its pages.
    MovedOn,
}

/// The result of the login form.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once in a login, and taken apart at once")]
pub enum LoginOutcome {
    /// The user is signed in.
    Yes {
        /// The flow's handle from now on.
        flow: FlowHandle,
        /// The value of the next form cookie.
        form: Secret,
        /// The login session, if sessions are configured.
        session: Option<SealedCookie>,
        /// The mark of the browser.
        known_browser: Option<SealedCookie>,
    },
    /// The page again, with the reason.
    No(AuthorizationRequest, PasswordCheck),
}

/// The result of a consent.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once in a flow, and taken apart at once")]
pub enum ConsentOutcome {
    /// To the upstream's authorization server.
    Upstream(LoginRedirect),
    /// Back to the client, with its code.
    ClientRedirect(ClientRedirect),
    /// To the consent page again: the pasted credential is not good.
    AskAgain(AuthorizationRequest, User, CredentialError),
}
