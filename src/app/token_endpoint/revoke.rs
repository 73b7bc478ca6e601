//! A client revokes a token (RFC 7009).

use std::net::IpAddr;

use crate::app::audit_events::{self, EndReason};
use crate::app::error::Rejection;
use crate::app::grants::persistence::Persistence;
use crate::app::runtime_config::ActiveService;
use crate::app::token_endpoint::TokenEndpoint;
use crate::base::secret::Secret;
use crate::flow::client::Authenticated;
use crate::oauth::error::OAuthErrorCode;
use crate::oauth::form::Form;
use crate::oauth::token_endpoint::TokenRequestError;
use crate::oauth::token_response::{UpstreamAccessToken, UpstreamRefreshToken, UpstreamTokens};
use crate::token::header::{PayloadKind, TokenKind};
use crate::token::pair::{self, OpenedPair};

impl TokenEndpoint {
    /// Ends the grant of a token (RFC 7009 §2.1) and revokes its upstream tokens. An unknown token, and
    /// one of another client, changes nothing and is a success.
    ///
    /// # Errors
    /// If the client does not authenticate, the token is missing, the source sends too many, or the
    /// store fails.
    pub async fn revoke(&self, source: IpAddr, active: &ActiveService, authorization: Option<&str>, form: &Form) -> Result<(), Rejection> {
        self.check_limit(source)?;
        let client = self.clients.authenticate(authorization, form)?;
        let missing = || {
            Rejection::Token(TokenRequestError {
                code: OAuthErrorCode::InvalidRequest,
                why: "token is missing".into(),
            })
        };
        let token = Secret::from(form.single("token")?.ok_or_else(missing)?);
        let Some(pair) = self.open_revocable(active, &client, &token) else {
            return Ok(());
        };
        let grant = Persistence::grant_handle(&pair);
        // `None`: it had ended. The upstream's tokens are revoked once.
        let Some(data) = self.grants.end(&grant).await? else {
            return Ok(());
        };
        tracing::info!(grant = %grant.id(), "a grant was revoked by its client");
        let ended = audit_events::grant_ended(grant.id(), &data, EndReason::Client);
        self.core.audit.record(ended);
        let tokens = data.latest().cloned().or_else(|| presented_tokens(pair));
        self.discovery.revoke_detached(&data, tokens);
        Ok(())
    }

    /// The pair of a token that this client may revoke. An API key is the operator's to revoke.
    fn open_revocable(&self, active: &ActiveService, client: &Authenticated, token: &Secret) -> Option<OpenedPair> {
        let pair = pair::open(&self.core.keys.load(), token.expose()).ok();
        let pair = pair.or_else(|| self.tokens.open_jwt(&active.service, token.expose()).ok())?;
        let header = &pair.half;
        let is_own = header.client == client.client_digest() && header.service == active.service.digest;
        (header.kind != TokenKind::Key && is_own).then_some(pair)
    }
}

/// The upstream token in a pair, for a grant that stores none.
fn presented_tokens(pair: OpenedPair) -> Option<UpstreamTokens> {
    let (access, refresh) = match pair.half.carried {
        PayloadKind::Access => (pair.upstream, None),
        PayloadKind::Refresh => (Secret::from(""), Some(UpstreamRefreshToken::new(pair.upstream))),
        PayloadKind::Nothing | PayloadKind::Identity | PayloadKind::Reference | PayloadKind::Grant => return None,
    };
    Some(UpstreamTokens {
        access: UpstreamAccessToken::new(access),
        refresh,
        expires: None,
        refresh_expires: None,
        scope: None,
    })
}
