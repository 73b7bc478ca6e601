//! The results of a login at an identity provider.

use crate::app::flow_handle::{ClientRedirect, FlowHandle};
use crate::base::secret::Secret;

/// The redirect to an authorization server or identity provider.
#[derive(Clone, Debug)]
pub struct LoginRedirect {
    /// The value of the `Location` header.
    pub location: String,
    /// The value of the cookie that the callback needs. It is set at this moment, so that a callback
    /// in another browser fails.
    pub callback_cookie: Secret,
    /// The flow's handle from now on.
    pub flow: FlowHandle,
}

/// The result of an identity provider's callback.
#[derive(Clone, Debug)]
pub enum IdpOutcome {
    /// The user is signed in: the flow's handle, and the value of the next form cookie.
    SignedIn(FlowHandle, Secret),
    /// To the provider again, with another request.
    Repeat(LoginRedirect),
    /// The login failed, and why in the words of the provider. The client receives the error.
    Failed(ClientRedirect, Option<String>),
    /// The login failed, and fails again until the operator corrects the configuration. The client
    /// receives the error.
    SetupFault(ClientRedirect),
    /// The provider identified the user, but the operator does not allow the user.
    NotAdmitted(ClientRedirect, DeniedUser),
}

/// A user whom the operator does not allow, for the page that says so.
#[derive(Clone, Debug)]
pub struct DeniedUser {
    /// The display name.
    pub who: String,
    /// The provider's display name.
    pub provider: String,
}
