//! The user, the login method, and whether the flow needs the upstream's authorization server.

use serde::{Deserialize, Serialize};

use crate::base::ids::Digest;
use crate::base::secret::{Secret, at_rest};
use crate::base::time::UnixTime;

/// The user of a flow or a grant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user name, `provider:id` for a user of an identity provider, or empty without a login.
    pub subject: String,
    /// The identity that an identity provider stated.
    #[serde(default)]
    pub identity: Option<Identity>,
    /// The digest of the password's hash at the login, for a user of this gateway. Another password
    /// ends the user's grants. Version 1 of a grant has none.
    #[serde(default)]
    pub password_epoch: Option<Digest>,
    /// The user's session at the identity provider, if the provider gave a refresh token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_session: Option<ProviderSession>,
}

/// A user's session at an identity provider. The gateway asks the provider about the user with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderSession {
    /// The provider's refresh token. It is only in sealed records.
    #[serde(with = "at_rest")]
    pub token: Secret,
    /// When the provider last confirmed the user.
    pub checked_at: UnixTime,
}

impl ProviderSession {
    /// Whether the provider must be asked again: the last check is `interval` seconds ago or more.
    pub fn is_due(&self, interval: u64, now: UnixTime) -> bool {
        self.checked_at.plus_seconds(interval) <= now
    }
}

/// The identity of a user, according to an identity provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The name of the provider in the configuration.
    pub provider: String,
    /// The provider's issuer at the login. Another issuer under the same name has other users.
    #[serde(default)]
    pub issuer: String,
    /// The user's stable id at the provider (`sub`).
    pub id: String,
    /// The e-mail address, if the provider states that it is verified.
    pub email: Option<String>,
    /// The full name.
    pub name: Option<String>,
    /// The URL of a picture.
    pub avatar: Option<String>,
    /// The user's groups at the provider.
    #[serde(default)]
    pub groups: Vec<String>,
    /// The domain of the organization that manages the account (`hd`), which only Google states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosted_domain: Option<String>,
}

impl User {
    /// A user with a user name of this gateway.
    pub fn with_name(subject: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            ..Self::default()
        }
    }

    /// A user of an identity provider.
    pub fn with_identity(identity: Identity) -> Self {
        Self {
            subject: format!("{}:{}", identity.provider, identity.id),
            identity: Some(identity),
            ..Self::default()
        }
    }
}

impl User {
    /// The name to show: the provider's e-mail address or name, otherwise the subject.
    pub fn display_name(&self) -> &str {
        let identity = self.identity.as_ref();
        let display_name = identity.and_then(|identity| identity.email.as_deref().or(identity.name.as_deref()));
        display_name.unwrap_or(&self.subject)
    }
}

/// The login method of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LoginMethod {
    /// With a password of this gateway.
    Password,
    /// At the identity provider of this name.
    Provider(String),
    /// No user signs in here: the upstream's login or the pasted credential is enough.
    Nobody,
}

impl LoginMethod {
    /// Whether this is the identity provider of this name.
    pub fn is_provider(&self, name: &str) -> bool {
        matches!(self, Self::Provider(provider) if provider == name)
    }
}

/// The step between consent and the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpstreamStep {
    /// The browser goes to the upstream's authorization server.
    Upstream,
    /// There is no step: the gateway issues the code immediately.
    Here,
}

/// The parts of a service's configuration that a flow depends on, from when the flow began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSnapshot {
    /// The origin of the upstream. Pages show its host.
    #[serde(default)]
    pub to: String,
    /// The login method.
    pub by: LoginMethod,
    /// The step between consent and the code.
    pub leg: UpstreamStep,
}
