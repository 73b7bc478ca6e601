//! The record of who may decide about tool calls, which the running gateway writes for commands.
//!
//! A command gets its configuration from whoever starts it. A program that calls tools could name one
//! with a user of its own, and approve its own calls. So commands believe only this record.

use serde::{Deserialize, Serialize};

use crate::base::ids::{Digest, Id};
use crate::base::record::{Record, states};
use crate::base::secret::{Secret, at_rest};
use crate::base::time::UnixTime;

/// A user with a password, who may decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecidingUser {
    /// The user name.
    pub name: String,
    /// The argon2id hash of the password.
    #[serde(with = "at_rest")]
    pub hash: Secret,
    /// Whether the user also decides about calls of callers that are no users, and about pins.
    pub is_approver: bool,
}

/// All users who may decide, as the gateway is configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deciders {
    users: Vec<DecidingUser>,
}

/// The record of [`Deciders`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
pub enum DecidersRecord {
    /// See [`Deciders`].
    Deciders(Deciders),
}

states!(DecidersRecord: Deciders);

impl Deciders {
    /// These users may decide.
    pub fn new(users: Vec<DecidingUser>) -> Self {
        Self { users }
    }

    /// The users.
    pub fn users(&self) -> &[DecidingUser] {
        &self.users
    }
}

impl DecidersRecord {
    /// The id of the only record.
    pub fn id() -> Id {
        Id(Digest::new("deciders").truncated())
    }

    /// Who may decide.
    pub fn deciders(self) -> Deciders {
        let Self::Deciders(deciders) = self;
        deciders
    }
}

impl Record for DecidersRecord {
    const KIND: &'static str = "deciders";

    fn expires_at(&self) -> UnixTime {
        UnixTime::NEVER
    }
}
