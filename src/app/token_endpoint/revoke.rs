//! `/revoke` (RFC 7009): the grant ends at once, and the upstream is told.

use crate::app::error::Rejection;
use crate::app::grants::client_side;
use crate::app::runtime_config::ActiveService;
use crate::app::{Gateway, Lane};
use crate::base::secret::Secret;
use crate::flow::grant_data::GrantData;
use crate::oauth::error::OAuthErrorCode;
use crate::oauth::form::Form;
use crate::oauth::token_endpoint::TokenRequestError;
use crate::oauth::token_response::{UpstreamAccessToken, UpstreamRefreshToken, UpstreamTokens};
use crate::token::header::{PayloadKind, TokenKind};
use crate::token::pair;
use crate::upstream::token_endpoint::{self, TokenToRevoke};

impl Gateway {
    /// Ends the grant of a pair. Unknown tokens and those of another client are answered alike, and nothing happens.
    pub async fn revoke(&self, lane: &Lane, running: &ActiveService, authorization: Option<&str>, body: &[u8]) -> Result<(), Rejection> {
        let form = Form::parse(body)?;
        let by = self.authenticated(lane, authorization, &form).await?;
        let missing = || {
            Rejection::Token(TokenRequestError {
                code: OAuthErrorCode::InvalidRequest,
                why: "token is missing".into(),
            })
        };
        let token = Secret::from(form.single("token")?.ok_or_else(missing)?);
        let pair = pair::open(&self.keys.load(), token.expose()).ok();
        let opened = pair.or_else(|| self.open_jwt(&running.service, token.expose()).ok());
        let Some(opened) = opened else {
            return Ok(());
        };
        // An API key is the operator's to revoke.
        if opened.half.kind == TokenKind::Key {
            return Ok(());
        }
        if opened.half.client != by.client_digest() || opened.half.service != running.service.digest {
            return Ok(());
        }
        // Told once: a client that repeats itself is not passed on.
        let handle = client_side::grant_handle(&opened);
        let Some(held) = self.end_grant(&handle).await? else {
            return Ok(());
        };
        tracing::info!(grant = %opened.half.grant, "a grant was revoked by its client");
        let presented = match (opened.half.kind, opened.half.carried) {
            (TokenKind::Access | TokenKind::Refresh, PayloadKind::Access) => Some((UpstreamAccessToken::new(opened.upstream), None)),
            (TokenKind::Access | TokenKind::Refresh, PayloadKind::Refresh) => Some((
                UpstreamAccessToken::new(Secret::from("")),
                Some(UpstreamRefreshToken::new(opened.upstream)),
            )),
            (TokenKind::Key, _)
            | (
                TokenKind::Access | TokenKind::Refresh,
                PayloadKind::Nothing | PayloadKind::Identity | PayloadKind::Reference | PayloadKind::Grant,
            ) => None,
        };
        let presented = presented.map(|(access, refresh)| UpstreamTokens {
            access,
            refresh,
            expires: None,
            refresh_expires: None,
            scope: None,
        });
        self.revoke_upstream(&held, held.latest().cloned().or(presented));
        Ok(())
    }

    /// Tells the upstream that its tokens are no longer wanted, detached and once; it may have no endpoint for that. Without
    /// `tokens`, those that the grant still holds. Nobody but the authorization server that gave them hears of them.
    pub(crate) fn revoke_upstream(&self, held: &GrantData, tokens: Option<UpstreamTokens>) {
        let tokens = tokens.or_else(|| held.latest().cloned());
        let (Some(tokens), Some(issuer), Some(running)) = (tokens, held.issuer.clone(), self.running(&held.service)) else {
            return;
        };
        let (gateway, work) = (self.clone(), self.inflight.lock(crate::base::ids::Id::random()));
        self.back.spawn(async move {
            let _work = work;
            let Ok(target) = gateway.auth_server(&gateway.back_lane, &running).await else {
                return;
            };
            if target.issuer != issuer {
                tracing::warn!(
                    was = issuer,
                    is = target.issuer,
                    "the upstream names another authorization server; it is not told to revoke"
                );
                return;
            }
            let token = tokens
                .refresh
                .as_ref()
                .map_or(TokenToRevoke::Access(&tokens.access), TokenToRevoke::Refresh);
            let Some(Ok(request)) = token_endpoint::revoke_request(&target, token) else {
                return;
            };
            match token_endpoint::revoke(&gateway.back_lane.client, request, &target.addresses).await {
                Ok(()) => tracing::info!("the upstream was told to revoke"),
                Err(why) => tracing::warn!(%why, "the upstream could not be told to revoke"),
            }
        });
    }
}
