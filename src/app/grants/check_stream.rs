//! A stream outlives its access token. When the token expires, the grant is checked as at a refresh, but
//! without an upstream request.

use crate::app::grants::Grants;
use crate::app::revocations::list::TokenStatus;
use crate::app::runtime_config::ActiveService;
use crate::flow::grant::GrantRecord;
use crate::oauth::scope::Scopes;
use crate::store::Handle;
use crate::token::header::{PairHeader, TokenKind};

/// The result of a check of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::app) enum StreamCheck {
    /// The stream may go on for another lifetime of an access token.
    GoesOn,
    /// The stream must end. The text says why.
    MustEnd(&'static str),
    /// The store does not answer now.
    Unknown,
}

impl Grants {
    /// Checks the grant behind a stream that was opened with a token with this header, at the service as
    /// it is configured now. The grant of a user who may no longer use the service ends.
    pub(in crate::app) async fn check_stream(&self, active: &ActiveService, header: &PairHeader) -> StreamCheck {
        let service = &active.service;
        if header.kind != TokenKind::Access {
            return StreamCheck::MustEnd("the API key has expired");
        }
        if !service.access.issues_tokens() || service.digest != header.service {
            return StreamCheck::MustEnd("the service is another one now");
        }
        if !service.required_scopes.is_empty() && !Scopes::parse(&header.scopes).contains_all(&service.required_scopes) {
            return StreamCheck::MustEnd("the service requires more scopes now");
        }
        if self.revocations.status(header) != TokenStatus::Good {
            return StreamCheck::MustEnd("the token was revoked");
        }
        let grant = Handle::<GrantRecord>::new(header.grant);
        let Ok(record) = self.core.store.read(&grant).await else {
            return StreamCheck::Unknown;
        };
        // Without a store, there is no record, and the client must present a new token.
        let Some(data) = record.as_ref().and_then(GrantRecord::data) else {
            return StreamCheck::MustEnd("the grant has ended, or is not stored here");
        };
        if data.refresh_ends() <= self.core.clock.now() {
            return StreamCheck::MustEnd("the refresh token has expired");
        }
        if data.is_abandoned(header.generation, header.branch) {
            return StreamCheck::MustEnd("the token was replaced by another one of its grant");
        }
        match self.check_user(service, &grant, Some(data)).await {
            Ok(()) => StreamCheck::GoesOn,
            Err(error) if error.is_temporary() => StreamCheck::Unknown,
            Err(_) => StreamCheck::MustEnd("the user may no longer use the service"),
        }
    }
}
