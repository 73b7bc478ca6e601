//! Who signed in, in which way, and whether the browser still has to go to the upstream.

use serde::{Deserialize, Serialize};

/// Who signed in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The name under which the house knows the user: a user name, `provider:id` of an identity provider, or nothing.
    pub subject: String,
    /// What an identity provider said of the user.
    #[serde(default)]
    pub identity: Option<Identity>,
}

/// What an identity provider said of a user, as far as it vouched for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The name of the provider in the configuration.
    pub provider: String,
    /// Its issuer then, by bytes: another one under the same name has other users.
    #[serde(default)]
    pub issuer: String,
    /// The user's unchanging id there (`sub`).
    pub id: String,
    /// The e-mail address, only if the provider says that it is verified.
    pub email: Option<String>,
    /// The full name.
    pub name: Option<String>,
    /// The address of a picture.
    pub avatar: Option<String>,
    /// The groups that the provider names.
    #[serde(default)]
    pub groups: Vec<String>,
}

impl User {
    /// A user known by a name of our own.
    pub fn with_name(subject: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            identity: None,
        }
    }

    /// A user whom an identity provider vouches for.
    pub fn identified(identity: Identity) -> Self {
        Self {
            subject: format!("{}:{}", identity.provider, identity.id),
            identity: Some(identity),
        }
    }
}

impl User {
    /// What people are told that they are signed in as: the e-mail address or name, if somebody vouches for one.
    pub fn display_name(&self) -> &str {
        let identity = self.identity.as_ref();
        let known = identity.and_then(|identity| identity.email.as_deref().or(identity.name.as_deref()));
        known.unwrap_or(&self.subject)
    }
}

/// Who is to say who the user is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LoginMethod {
    /// The gateway, by a password.
    Password,
    /// The identity provider of this name.
    Provider(String),
    /// Nobody: what opens the upstream is proof enough.
    Nobody,
}

impl LoginMethod {
    /// Whether it is the identity provider of this name.
    pub fn is_provider(&self, name: &str) -> bool {
        matches!(self, Self::Provider(provider) if provider == name)
    }
}

/// What stands between consent and the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpstreamStep {
    /// The browser goes to the upstream's authorization server.
    Upstream,
    /// Nothing: the code is issued here.
    Here,
}

/// The way of one journey, fixed when it begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSnapshot {
    /// What stands behind the service, as an origin: the pages name its host.
    #[serde(default)]
    pub to: String,
    /// Who says who the user is.
    pub by: LoginMethod,
    /// What stands between consent and the code.
    pub leg: UpstreamStep,
}
