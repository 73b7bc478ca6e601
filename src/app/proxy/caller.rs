//! The caller of a proxied request.

use std::net::IpAddr;

use http::HeaderMap;

use crate::app::local_keys::LocalKeyId;
use crate::app::proxy::mcp_sessions::SessionOwner;
use crate::base::ids::Id;
use crate::base::time::UnixTime;
use crate::service::{Service, UpstreamHeaders};
use crate::token::header::{PairHeader, PayloadKind, TokenKind};

/// The subject of calls with the local key. No user has it: names of users have no colon.
pub(super) const LOCAL_KEY_SUBJECT: &str = ":local-key";

/// The subject of calls with the adapter key.
const ADAPTER_KEY_SUBJECT: &str = ":adapter-key";

/// The headers by which proxies report their caller.
const PROXY_HEADERS: [&str; 6] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "via",
];

/// The addresses of a request.
#[derive(Clone, Copy, Debug)]
pub struct CallerAddress {
    /// The other end of the connection.
    pub peer: IpAddr,
    /// The caller's address, for limits only: a proxy may have reported it.
    pub source: IpAddr,
}

impl CallerAddress {
    /// Whether the caller is a program of this machine. A proxy or a tunnel on this machine is a loopback
    /// peer too, so a header by which such programs report their caller counts as a remote caller.
    pub(in crate::app) fn is_this_machine(self, headers: &HeaderMap) -> bool {
        let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
        is_loopback(self.peer) && is_loopback(self.source) && !PROXY_HEADERS.iter().any(|name| headers.contains_key(*name))
    }
}

/// The key of a program that calls an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdapterKey {
    /// The adapter key of this machine.
    ThisMachine(LocalKeyId),
    /// An API key for the adapters.
    ApiKey {
        /// Its id.
        id: Id,
        /// When it ends.
        expires: UnixTime,
    },
}

impl AdapterKey {
    /// The id of the key.
    pub fn id(self) -> Id {
        match self {
            Self::ThisMachine(key) => key.0,
            Self::ApiKey { id, .. } => id,
        }
    }
}

/// A program that calls an adapter, known by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterCaller {
    /// The key.
    pub key: AdapterKey,
    /// The holder, for sessions and the audit log.
    pub subject: String,
}

/// What an adapter knows about a call. Nothing, for requests of MCP clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdapterFacts {
    /// Whether the request also has tools that the gateway does not police.
    pub is_mixed: bool,
    /// Whether the client approved this very call, by an approval request of this gateway.
    pub is_client_approved: bool,
}

impl AdapterCaller {
    /// The holder of this machine's adapter key.
    pub fn of_this_machine(key: LocalKeyId) -> Self {
        Self {
            key: AdapterKey::ThisMachine(key),
            subject: ADAPTER_KEY_SUBJECT.to_owned(),
        }
    }
}

/// An authenticated caller.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    /// Anybody: a public service requires no token.
    Anonymous,
    /// A program of this machine's user, which holds the local key.
    LocalKey(LocalKeyId),
    /// A program that calls tools through an adapter.
    Adapter(AdapterCaller),
    /// The holder of a token or API key with this header.
    TokenHolder(PairHeader),
    /// The holder of a bearer that may be a token of the upstream.
    #[cfg(feature = "raw")]
    RawBearer,
}

/// A request that may be forwarded.
#[derive(Debug)]
pub(super) struct AuthenticatedRequest {
    /// The caller.
    pub(super) caller: Caller,
    /// The upstream credential.
    pub(super) credential: UpstreamHeaders,
}

impl Caller {
    /// Whether a refresh or a new login could change the upstream's decision.
    pub(super) fn can_reauthenticate(&self) -> bool {
        match self {
            Self::Anonymous | Self::LocalKey(_) | Self::Adapter(_) => false,
            // A credential of the service is the same for every user.
            Self::TokenHolder(header) => {
                header.kind != TokenKind::Key && matches!(header.carried, PayloadKind::Access | PayloadKind::Reference)
            }
            #[cfg(feature = "raw")]
            Self::RawBearer => true,
        }
    }

    /// The owner of this caller's MCP sessions, where the upstream cannot tell users apart.
    pub(super) fn session_owner(&self, service: &Service) -> Option<SessionOwner<'_>> {
        match self {
            Self::TokenHolder(header) if service.upstream.is_shared_identity() => Some(SessionOwner {
                service: service.digest,
                subject: &header.subject,
            }),
            Self::LocalKey(_) if service.upstream.is_shared_identity() => Some(SessionOwner {
                service: service.digest,
                subject: LOCAL_KEY_SUBJECT,
            }),
            Self::Adapter(caller) if service.upstream.is_shared_identity() => Some(SessionOwner {
                service: service.digest,
                subject: &caller.subject,
            }),
            Self::TokenHolder(_) | Self::LocalKey(_) | Self::Adapter(_) | Self::Anonymous => None,
            #[cfg(feature = "raw")]
            Self::RawBearer => None,
        }
    }

    /// The grant or API key whose end ends the responses to the caller.
    pub(super) fn grant_id(&self) -> Option<Id> {
        match self {
            Self::Anonymous | Self::LocalKey(_) | Self::Adapter(_) => None,
            Self::TokenHolder(header) => Some(header.grant),
            #[cfg(feature = "raw")]
            Self::RawBearer => None,
        }
    }
}
