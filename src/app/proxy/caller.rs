//! Who sends a proxied request.

use crate::app::proxy::mcp_sessions::SessionOwner;
use crate::base::ids::Id;
use crate::service::{Service, UpstreamHeaders};
use crate::token::header::{PairHeader, PayloadKind, TokenKind};

/// An authenticated caller.
#[derive(Debug)]
pub(super) enum Caller {
    /// Anybody: a public service requires no token.
    Anonymous,
    /// The holder of a token or API key with this header.
    TokenHolder(PairHeader),
    /// The holder of a bearer that may be a token of the upstream.
    #[cfg(feature = "raw")]
    RawBearer,
}

/// A request that may be forwarded.
#[derive(Debug)]
pub(super) struct AuthenticatedRequest {
    /// Who sends it.
    pub(super) caller: Caller,
    /// The upstream credential.
    pub(super) credential: UpstreamHeaders,
}

impl Caller {
    /// Whether a refresh or a new login could change the upstream's decision.
    pub(super) fn can_reauthenticate(&self) -> bool {
        match self {
            Self::Anonymous => false,
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
            Self::TokenHolder(_) | Self::Anonymous => None,
            #[cfg(feature = "raw")]
            Self::RawBearer => None,
        }
    }

    /// The grant or API key whose end ends the responses to the caller.
    pub(super) fn grant_id(&self) -> Option<Id> {
        match self {
            Self::Anonymous => None,
            Self::TokenHolder(header) => Some(header.grant),
            #[cfg(feature = "raw")]
            Self::RawBearer => None,
        }
    }
}
