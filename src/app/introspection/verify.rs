//! Decides whether a token of an external service is active, from the token and its grant.

use std::time::Duration;

use crate::app::error::Rejection;
use crate::app::grants::persistence::Persistence;
use crate::app::introspection::Introspection;
use crate::app::revocations::list::TokenStatus;
use crate::app::runtime_config::ActiveService;
use crate::app::tokens::jwt::pair_of;
use crate::app::tokens::verify::OpenError;
use crate::flow::grant_data::GrantData;
use crate::oauth::introspection::ActiveToken;
use crate::oauth::scope::Scopes;
use crate::service::Service;
use crate::token::header::{TokenKind, TokenMode};
use crate::token::pair::OpenedPair;

/// The time for which a request waits for the revocation list after the start.
const LIST_TIMEOUT: Duration = Duration::from_secs(2);

/// A token that is active.
pub(super) struct VerifiedToken {
    /// The content of the token.
    pub(super) token: ActiveToken,
    /// The scopes of the token.
    pub(super) scopes: Scopes,
    /// The grant of the token.
    pub(super) grant: GrantData,
}

impl Introspection {
    /// The content of an access token of this service; `None` if it is not active. Reads the grant, so that
    /// the end of a grant on another instance has effect immediately.
    ///
    /// # Errors
    /// [`Rejection::TryLater`] while the gateway starts, or if the store fails.
    pub(super) async fn verify(&self, active: &ActiveService, token: &str) -> Result<Option<VerifiedToken>, Rejection> {
        if !self.revocations.wait_loaded(LIST_TIMEOUT).await {
            return Err(Rejection::TryLater { retry_after: 1 });
        }
        let Some((pair, mut content)) = self.open(&active.service, token)? else {
            return Ok(None);
        };
        let header = &pair.half;
        let is_own = header.kind == TokenKind::Access && header.service == active.service.digest && header.mode == active.service.mode;
        if !is_own || header.expires <= self.core.clock.now() {
            return Ok(None);
        }
        match self.revocations.status(header) {
            TokenStatus::Good => {}
            TokenStatus::Revoked => return Ok(None),
            TokenStatus::Abandoned => {
                self.grants.end_abandoned(header.grant);
                return Ok(None);
            }
        }
        let record = self.core.store.read(&Persistence::grant_handle(&pair)).await?;
        let Some(grant) = record.as_ref().and_then(|record| record.data()) else {
            return Ok(None);
        };
        let scopes = Scopes::parse(&header.scopes);
        content.username = displayed_name(grant, &scopes);
        content.client_id = Some(grant.client_id.clone());
        Ok(Some(VerifiedToken {
            token: content,
            scopes,
            grant: grant.clone(),
        }))
    }

    /// Opens a token; `None` if it is not one of this service.
    fn open(&self, service: &Service, token: &str) -> Result<Option<(OpenedPair, ActiveToken)>, Rejection> {
        let urls = &self.core.urls;
        if service.mode != TokenMode::Jwt {
            return match self.tokens.open(service, TokenKind::Access, token) {
                Ok(pair) => {
                    let issuer = urls.service_url(service);
                    let content = content(&pair, urls.audience(service), issuer);
                    Ok(Some((pair, content)))
                }
                Err(OpenError::Invalid(_)) => Ok(None),
                Err(OpenError::NotReady) => Err(Rejection::TryLater { retry_after: 1 }),
            };
        }
        if !self.signing_keys.can_sign() {
            return Err(Rejection::TryLater { retry_after: 1 });
        }
        let Ok(jwt) = self.tokens.verify_jwt(service, token) else {
            return Ok(None);
        };
        let (issuer, audience) = (jwt.issuer.clone(), jwt.audience.clone());
        let (issued_at, token_id) = (jwt.issued, jwt.id.to_string());
        let pair = pair_of(service, jwt);
        let content = ActiveToken {
            issued: Some(issued_at),
            token_id: Some(token_id),
            ..content(&pair, audience, issuer)
        };
        Ok(Some((pair, content)))
    }
}

fn content(pair: &OpenedPair, audience: String, issuer: String) -> ActiveToken {
    ActiveToken {
        scope: pair.half.scopes.clone(),
        subject: pair.half.subject.clone(),
        audience,
        issuer,
        expires: pair.half.expires,
        ..ActiveToken::default()
    }
}

/// The user's name for the response. A provider's claims are shown only with a scope for them.
fn displayed_name(grant: &GrantData, scopes: &Scopes) -> String {
    let shows_identity = ["profile", "email"].iter().any(|scope| scopes.contains_all(&Scopes::parse(scope)));
    match &grant.who.identity {
        Some(_) if shows_identity => grant.who.display_name().to_owned(),
        Some(_) => String::new(),
        None => grant.who.subject.clone(),
    }
}
