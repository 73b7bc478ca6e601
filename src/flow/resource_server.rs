//! The record of an MCP server that its owner registered by the management API.

use serde::{Deserialize, Serialize};

use crate::base::ids::Id;
use crate::base::record::{Record, states};
use crate::base::time::UnixTime;
use crate::base::url::ExactUrl;
use crate::oauth::scope::Scopes;

/// The prefix of a server's id, which is also the name of its service. No service of the configuration
/// file can have such a name.
pub const ID_PREFIX: &str = "srv_";
/// The time for which the record of a removed server stays: longer than any grant there, in seconds.
const REMOVED_SECONDS: u64 = 100 * 86_400;
/// The time after which the proof of a resource is fetched again, in seconds.
const PROOF_SECONDS: u64 = 86_400;

/// The properties of a server, as its owner sets them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// The owner: the name of the admin key.
    pub owner: String,
    /// The resource, byte for byte.
    pub resource: ExactUrl,
    /// The name that users see.
    pub name: String,
    /// A description, for owners only.
    pub description: String,
    /// The scopes that clients may request.
    pub scopes: Scopes,
    /// The URL of a logo. The gateway never loads it.
    pub logo_url: Option<String>,
    /// Whether tokens are opaque instead of JWTs.
    pub is_opaque: bool,
    /// When the server was registered.
    pub created: UnixTime,
}

/// A server whose users can sign in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredServer {
    about: Box<ServerInfo>,
    /// When the origin of the resource last confirmed the server. `None`: it never did, or the last check
    /// failed.
    proven: Option<UnixTime>,
    /// When the origin was last asked.
    asked: Option<UnixTime>,
}

/// A server that its owner removed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RemovedServer {
    at: UnixTime,
}

/// The record of a server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
pub enum ServerRecord {
    /// See [`RegisteredServer`].
    RegisteredServer(RegisteredServer),
    /// See [`RemovedServer`].
    RemovedServer(RemovedServer),
}

states!(ServerRecord: RegisteredServer, RemovedServer);

impl RegisteredServer {
    /// A new server. Its resource is not proven yet.
    pub fn new(info: ServerInfo) -> Self {
        Self {
            about: Box::new(info),
            proven: None,
            asked: None,
        }
    }

    /// The properties of the server.
    pub fn info(&self) -> &ServerInfo {
        &self.about
    }

    /// Whether the origin of the resource confirmed the server.
    pub fn is_proven(&self) -> bool {
        self.proven.is_some()
    }

    /// Whether the origin should be asked again.
    pub fn is_proof_due(&self, now: UnixTime) -> bool {
        self.asked.is_none_or(|asked| asked.plus_seconds(PROOF_SECONDS) <= now)
    }

    /// The owner changes the properties. Another resource is not proven.
    #[must_use]
    pub fn edited(self, info: ServerInfo) -> Self {
        let is_same = self.about.resource == info.resource;
        Self {
            proven: self.proven.filter(|_| is_same),
            asked: self.asked.filter(|_| is_same),
            about: Box::new(info),
        }
    }

    /// The origin was asked whether it confirms the server with this resource.
    #[must_use]
    pub fn proof_checked(self, resource: &ExactUrl, confirms: bool, now: UnixTime) -> Self {
        if self.about.resource != *resource {
            return self;
        }
        Self {
            proven: confirms.then_some(now),
            asked: Some(now),
            ..self
        }
    }

    /// The owner removes the server.
    pub fn removed(self, now: UnixTime) -> RemovedServer {
        RemovedServer { at: now }
    }
}

impl ServerRecord {
    /// The server, unless it was removed.
    pub fn registered(self) -> Option<RegisteredServer> {
        match self {
            Self::RegisteredServer(server) => Some(server),
            Self::RemovedServer(_) => None,
        }
    }
}

impl Record for ServerRecord {
    const KIND: &'static str = "resource-server";

    fn expires_at(&self) -> UnixTime {
        match self {
            Self::RegisteredServer(_) => UnixTime::NEVER,
            Self::RemovedServer(server) => server.at.plus_seconds(REMOVED_SECONDS),
        }
    }
}

/// The name of a server's service.
pub fn service_name(id: Id) -> String {
    format!("{ID_PREFIX}{id}")
}

/// The id in the name of a service, if it is a registered server's.
pub fn parse_service_name(service: &str) -> Option<Id> {
    Id::parse(service.strip_prefix(ID_PREFIX)?)
}
