//! The end of a flow: a code is redeemed once, and a replay of it is recognised for a while.

use serde::{Deserialize, Serialize};

use crate::base::ids::{Digest, Id};
use crate::base::time::UnixTime;
use crate::flow::authorize::{AuthorizationRequest, Closed, GatewayLogin, UpstreamCallback};
use crate::flow::client::{Authenticated, ClientTraits, ReturnAddress};
use crate::flow::error::{RejectReason, check_digest, check_not_expired};
use crate::flow::user::{ServiceSnapshot, UpstreamStep, User};
use crate::oauth::pkce::CodeChallenge;
use crate::oauth::scope::Scopes;
use crate::oauth::token_response::UpstreamTokens;

/// The lifetime of an authorization code, in seconds.
pub const CODE_TTL_SECONDS: u64 = 60;

/// The time for which a redeemed code is remembered, in seconds. A replay within this time ends the grant.
pub const SPENT_CODE_TTL_SECONDS: u64 = 600;

/// The user's upstream credential, as the flow obtained it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ObtainedTokens {
    /// The issuer of the tokens, byte for byte; `None` if the user pasted a credential.
    pub issuer: Option<String>,
    /// The tokens or the credential.
    pub tokens: UpstreamTokens,
}

/// The client's code is issued, and not redeemed yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CodeIssued {
    pub(super) asked: AuthorizationRequest,
    pub(super) who: User,
    pub(super) code: Digest,
    pub(super) obtained: Option<ObtainedTokens>,
    pub(super) expires: UnixTime,
}

/// The code is redeemed. Any further use is a replay.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CodeSpent {
    pub(super) client_id: String,
    pub(super) code: Digest,
    #[serde(default)]
    pub(super) challenge: Option<CodeChallenge>,
    pub(super) grant: Id,
    pub(super) expires: UnixTime,
}

/// Effect: create a grant from this.
#[derive(Clone, Debug)]
pub struct RedeemedCode {
    /// The client id.
    pub client_id: String,
    /// The parts of the client's registration that the token endpoint needs.
    pub traits: ClientTraits,
    /// The name of the service.
    pub service: String,
    /// The service's configuration when the flow began.
    pub way: ServiceSnapshot,
    /// The scopes of the grant.
    pub scopes: Scopes,
    /// The user who consented.
    pub who: User,
    /// The user's upstream credential, if the service needs one.
    pub obtained: Option<ObtainedTokens>,
}

/// The parameters of a token request with a code.
#[derive(Clone, Copy, Debug)]
pub struct CodeRedemption<'a> {
    /// The service whose token endpoint was called.
    pub service: &'a str,
    /// The secret half of the code.
    pub code: &'a str,
    /// The redirect URI; checked if present.
    pub redirect_uri: Option<&'a str>,
    /// The PKCE verifier.
    pub verifier: Option<&'a str>,
}

impl GatewayLogin {
    /// Records the consent and issues the code; no upstream authorization server takes part.
    /// `tokens` is the upstream credential that the user pasted, if the service requires one.
    /// `code` is the digest of the code's secret half.
    pub fn granted(
        self,
        form: Option<&str>,
        tokens: Option<ObtainedTokens>,
        code: Digest,
        now: UnixTime,
    ) -> Result<(CodeIssued, ReturnAddress), RejectReason> {
        self.belongs_to(form, now)?;
        if self.request.way.leg != UpstreamStep::Here {
            return Err(RejectReason::WrongStep);
        }
        let return_address = self.request.return_address.clone();
        let next = CodeIssued {
            asked: self.request,
            who: self.who,
            code,
            obtained: tokens,
            expires: now.plus_seconds(CODE_TTL_SECONDS),
        };
        Ok((next, return_address))
    }
}

impl UpstreamCallback {
    /// Issues the code after the exchange at the upstream. `code` is the digest of its secret half.
    pub fn exchanged(self, tokens: UpstreamTokens, code: Digest, now: UnixTime) -> Result<(CodeIssued, ReturnAddress), RejectReason> {
        let return_address = self.request.return_address.clone();
        Ok((
            CodeIssued {
                asked: self.request,
                who: self.who,
                code,
                obtained: Some(ObtainedTokens {
                    issuer: Some(self.issuer),
                    tokens,
                }),
                expires: now.plus_seconds(CODE_TTL_SECONDS),
            },
            return_address,
        ))
    }

    /// Closes the flow: the exchange failed.
    pub fn failed(self) -> Result<(Closed, ReturnAddress), RejectReason> {
        Ok((Closed { expires: self.expires }, self.request.return_address))
    }
}

impl CodeIssued {
    /// Redeems the code. A failed check changes nothing.
    ///
    /// The signature requires an authenticated client, and `redemption` has the PKCE verifier:
    /// ```compile_fail
    /// # use mcp_oauth_gateway::{base::{ids::Id, time::UnixTime}, flow::{code::{CodeIssued, CodeRedemption}, client::Authenticated}};
    /// fn redeem(code: CodeIssued, by: &str, with: CodeRedemption<'_>) { let _ = code.redeemed(by, with, Id([0; 16]), UnixTime(0)); }
    /// ```
    /// ```
    /// # use mcp_oauth_gateway::{base::{ids::Id, time::UnixTime}, flow::{code::{CodeIssued, CodeRedemption}, client::Authenticated}};
    /// fn redeem(code: CodeIssued, by: &Authenticated, with: CodeRedemption<'_>) { let _ = code.redeemed(by, with, Id([0; 16]), UnixTime(0)); }
    /// ```
    pub fn redeemed(
        self,
        client: &Authenticated,
        redemption: CodeRedemption<'_>,
        grant: Id,
        now: UnixTime,
    ) -> Result<(CodeSpent, RedeemedCode), RejectReason> {
        check_not_expired(self.expires, now)?;
        if redemption.service != self.asked.service {
            return Err(RejectReason::WrongService);
        }
        check_redemption(&self.code, &self.asked.client_id, self.asked.challenge.as_ref(), client, redemption)?;
        if redemption
            .redirect_uri
            .is_some_and(|uri| uri != self.asked.return_address.uri().as_str())
        {
            return Err(RejectReason::WrongRedirectUri);
        }
        let spent_code = CodeSpent {
            client_id: self.asked.client_id.clone(),
            code: self.code,
            challenge: self.asked.challenge.clone(),
            grant,
            expires: now.plus_seconds(SPENT_CODE_TTL_SECONDS),
        };
        Ok((
            spent_code,
            RedeemedCode {
                client_id: self.asked.client_id,
                traits: client.traits().unwrap_or(self.asked.traits),
                service: self.asked.service,
                way: self.asked.way,
                scopes: self.asked.scopes,
                who: self.who,
                obtained: self.obtained,
            },
        ))
    }
}

impl CodeSpent {
    /// Returns the grant to end, which may not exist yet. With the right client and verifier, the
    /// code was stolen or the client is broken. A replay without them is refused.
    pub fn replayed(&self, client: &Authenticated, redemption: CodeRedemption<'_>) -> Result<Id, RejectReason> {
        check_redemption(&self.code, &self.client_id, self.challenge.as_ref(), client, redemption)?;
        Ok(self.grant)
    }
}

fn check_redemption(
    code: &Digest,
    client_id: &str,
    challenge: Option<&CodeChallenge>,
    client: &Authenticated,
    redemption: CodeRedemption<'_>,
) -> Result<(), RejectReason> {
    check_digest(code, Some(redemption.code), RejectReason::WrongCode)?;
    if client.client_id() != client_id {
        return Err(RejectReason::WrongClient);
    }
    check_verifier(challenge, redemption)
}

/// Without a challenge there is no verifier either: one would show that the challenge was removed (RFC 9700
/// §4.8.2).
pub(super) fn check_verifier(challenge: Option<&CodeChallenge>, redemption: CodeRedemption<'_>) -> Result<(), RejectReason> {
    match (challenge, redemption.verifier) {
        (Some(challenge), Some(verifier)) if challenge.matches_verifier(verifier) => Ok(()),
        (None, None) => Ok(()),
        (Some(_) | None, Some(_)) | (Some(_), None) => Err(RejectReason::Verifier),
    }
}
