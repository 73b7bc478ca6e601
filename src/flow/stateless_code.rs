//! The code in stateless mode: the sealed record itself. It contains the upstream's code, which is
//! exchanged only when ours is redeemed. So our code is single-use too, and no URL has a token.

use serde::{Deserialize, Serialize};

use crate::base::ids::{Digest, Id};
use crate::base::secret::{Secret, at_rest};
use crate::base::time::UnixTime;
use crate::flow::authorize::{AuthorizationRequest, CodeExchange, GatewayLogin, UpstreamCallbackParams, UpstreamRedirect};
use crate::flow::client::{Authenticated, ClientTraits, ReturnAddress};
use crate::flow::code::{CODE_TTL_SECONDS, CodeRedemption, CodeSpent, RedeemedCode, SPENT_CODE_TTL_SECONDS, check_verifier};
use crate::flow::error::{RejectReason, check_not_expired};
use crate::flow::user::{ServiceSnapshot, UpstreamStep, User};
use crate::oauth::pkce::CodeChallenge;
use crate::oauth::scope::Scopes;

/// The client's code is issued. The record travels in a URL, so it holds only what redemption
/// needs; what the client sends anyway is a digest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatelessCode {
    client: Digest,
    redirect_uri: Digest,
    #[serde(default)]
    challenge: Option<CodeChallenge>,
    scopes: Scopes,
    service: String,
    way: ServiceSnapshot,
    who: User,
    #[serde(default)]
    traits: ClientTraits,
    upstream: Option<SealedUpstreamCode>,
    pub(super) expires: UnixTime,
}

/// The upstream's code, and what its exchange needs. It cannot hold a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct SealedUpstreamCode {
    #[serde(with = "at_rest")]
    code: Secret,
    #[serde(with = "at_rest")]
    verifier: Secret,
    issuer: String,
}

/// Effect: exchange the upstream's code before a grant is created.
#[derive(Clone, Debug)]
pub struct PendingExchange {
    /// The upstream's code.
    pub code: Secret,
    /// The parameters of the exchange.
    pub exchange: CodeExchange,
}

impl GatewayLogin {
    /// As [`GatewayLogin::granted`] in stateless mode, for a service without a pasted credential.
    pub fn granted_stateless(self, form: Option<&str>, now: UnixTime) -> Result<(StatelessCode, ReturnAddress), RejectReason> {
        self.belongs_to(form, now)?;
        if self.request.way.leg != UpstreamStep::Here {
            return Err(RejectReason::WrongStep);
        }
        Ok(StatelessCode::of(self.request, self.who, None, now))
    }
}

impl UpstreamRedirect {
    /// As [`UpstreamRedirect::returned`] in stateless mode: our code contains the upstream's code,
    /// sealed.
    /// ```compile_fail
    /// # use mcp_oauth_gateway::{base::{secret::Secret, time::UnixTime}, flow::authorize::{GatewayLogin, UpstreamCallbackParams, UpstreamRedirect}};
    /// fn on(state: GatewayLogin, with: UpstreamCallbackParams<'_>, code: Secret) { let _ = state.returned_stateless(with, code, UnixTime(0)); }
    /// ```
    /// ```
    /// # use mcp_oauth_gateway::{base::{secret::Secret, time::UnixTime}, flow::authorize::{GatewayLogin, UpstreamCallbackParams, UpstreamRedirect}};
    /// fn on(state: UpstreamRedirect, with: UpstreamCallbackParams<'_>, code: Secret) { let _ = state.returned_stateless(with, code, UnixTime(0)); }
    /// ```
    pub fn returned_stateless(
        self,
        params: UpstreamCallbackParams<'_>,
        code: Secret,
        now: UnixTime,
    ) -> Result<(StatelessCode, ReturnAddress), RejectReason> {
        self.check_callback(params, now)?;
        let upstream = SealedUpstreamCode {
            code,
            verifier: self.verifier,
            issuer: self.issuer,
        };
        Ok(StatelessCode::of(self.request, self.who, Some(upstream), now))
    }
}

impl StatelessCode {
    fn of(request: AuthorizationRequest, user: User, upstream: Option<SealedUpstreamCode>, now: UnixTime) -> (Self, ReturnAddress) {
        let return_address = request.return_address;
        let next = Self {
            client: Digest::new(&request.client_id),
            redirect_uri: Digest::new(return_address.uri().as_str()),
            challenge: request.challenge,
            scopes: request.scopes,
            service: request.service,
            way: request.way,
            // The record travels in a URL, which may hold no token.
            who: User {
                provider_session: None,
                ..user
            },
            traits: request.traits,
            upstream,
            expires: now.plus_seconds(CODE_TTL_SECONDS),
        };
        (next, return_address)
    }

    /// Redeems the code, as [`CodeIssued::redeemed`](crate::flow::code::CodeIssued::redeemed) does.
    /// The seal already authenticates the code. The result has no tokens yet:
    /// ```compile_fail
    /// # use mcp_oauth_gateway::{base::{ids::Id, time::UnixTime}, flow::{stateless_code::StatelessCode, code::{CodeIssued, ObtainedTokens, CodeRedemption}, client::Authenticated}};
    /// fn tokens(code: StatelessCode, by: &Authenticated, with: CodeRedemption<'_>) -> Option<ObtainedTokens> { code.redeemed(by, with, Id([0; 16]), UnixTime(0)).ok()?.1.obtained }
    /// ```
    /// ```
    /// # use mcp_oauth_gateway::{base::{ids::Id, time::UnixTime}, flow::{stateless_code::StatelessCode, code::{CodeIssued, ObtainedTokens, CodeRedemption}, client::Authenticated}};
    /// fn tokens(code: CodeIssued, by: &Authenticated, with: CodeRedemption<'_>) -> Option<ObtainedTokens> { code.redeemed(by, with, Id([0; 16]), UnixTime(0)).ok()?.1.obtained }
    /// ```
    pub fn redeemed(
        self,
        client: &Authenticated,
        redemption: CodeRedemption<'_>,
        grant: Id,
        now: UnixTime,
    ) -> Result<(CodeSpent, (RedeemedCode, Option<PendingExchange>)), RejectReason> {
        check_not_expired(self.expires, now)?;
        if redemption.service != self.service {
            return Err(RejectReason::WrongService);
        }
        if !self.client.matches(client.client_id()) {
            return Err(RejectReason::WrongClient);
        }
        check_verifier(self.challenge.as_ref(), redemption)?;
        if redemption.redirect_uri.is_some_and(|uri| !self.redirect_uri.matches(uri)) {
            return Err(RejectReason::WrongRedirectUri);
        }
        let spent_code = CodeSpent {
            client_id: client.client_id().to_owned(),
            code: Digest::new(redemption.code),
            challenge: self.challenge,
            grant,
            expires: now.plus_seconds(SPENT_CODE_TTL_SECONDS),
        };
        let pending = self.upstream.map(|upstream| PendingExchange {
            code: upstream.code,
            exchange: CodeExchange {
                verifier: upstream.verifier,
                issuer: upstream.issuer,
            },
        });
        let redeemed_code = RedeemedCode {
            client_id: client.client_id().to_owned(),
            traits: client.traits().unwrap_or(self.traits),
            service: self.service,
            way: self.way,
            scopes: self.scopes,
            who: self.who,
            obtained: None,
        };
        Ok((spent_code, (redeemed_code, pending)))
    }
}
