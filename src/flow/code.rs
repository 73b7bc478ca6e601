//! The end of a journey: a code that is redeemed once, and remembered for a while.

use serde::{Deserialize, Serialize};

use crate::base::ids::{Digest, Id};
use crate::base::time::UnixTime;
use crate::flow::authorize::{AuthorizationRequest, CODE_TTL_SECONDS, Closed, UpstreamCallback};
use crate::flow::client::{Authenticated, ReturnAddress};
use crate::flow::error::{RejectReason, check_digest, check_not_expired};
use crate::flow::user::{ServiceSnapshot, User};
use crate::oauth::pkce::CodeChallenge;
use crate::oauth::scope::Scopes;
use crate::oauth::token_response::UpstreamTokens;

/// How long a spent code is remembered, in seconds: a replay within this ends the grant.
pub const SPENT_CODE_TTL_SECONDS: u64 = 600;

/// What opens the upstream for this user.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ObtainedTokens {
    /// The authorization server that gave it, by bytes; `None` if the user gave it here.
    pub issuer: Option<String>,
    /// What was given.
    pub tokens: UpstreamTokens,
}

/// The client's code is on its way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CodeIssued {
    pub(super) asked: AuthorizationRequest,
    pub(super) who: User,
    pub(super) code: Digest,
    pub(super) obtained: Option<ObtainedTokens>,
    pub(super) expires: UnixTime,
}

/// The code was redeemed; what comes now is a replay.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CodeSpent {
    pub(super) client_id: String,
    pub(super) code: Digest,
    pub(super) challenge: CodeChallenge,
    pub(super) grant: Id,
    pub(super) expires: UnixTime,
}

/// To do: make a grant of this.
#[derive(Clone, Debug)]
pub struct RedeemedCode {
    /// The client that it is given to.
    pub client_id: String,
    /// The service that it is for.
    pub service: String,
    /// The way of the journey.
    pub way: ServiceSnapshot,
    /// What was asked for.
    pub scopes: Scopes,
    /// Who signed in.
    pub who: User,
    /// What opens the upstream for this user, if it takes anything of the user's.
    pub obtained: Option<ObtainedTokens>,
}

/// What a client brings to redeem a code.
#[derive(Clone, Copy, Debug)]
pub struct CodeRedemption<'a> {
    /// The service whose token endpoint it came to.
    pub service: &'a str,
    /// The code's secret half.
    pub code: &'a str,
    /// Enforced when present.
    pub redirect_uri: Option<&'a str>,
    /// PKCE.
    pub verifier: Option<&'a str>,
}

impl UpstreamCallback {
    /// The upstream's code was exchanged. `code` is the digest of the secret half of ours.
    pub fn exchanged(self, tokens: UpstreamTokens, code: Digest, now: UnixTime) -> Result<(CodeIssued, ReturnAddress), RejectReason> {
        let back = self.request.return_address.clone();
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
            back,
        ))
    }

    /// The exchange failed.
    pub fn failed(self) -> Result<(Closed, ReturnAddress), RejectReason> {
        Ok((Closed { expires: self.expires }, self.request.return_address))
    }
}

impl CodeIssued {
    /// The client redeems its code. Everything is checked first; a failure changes nothing.
    ///
    /// It takes a client that authenticated, and it takes the PKCE verifier:
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
        by: &Authenticated,
        with: CodeRedemption<'_>,
        grant: Id,
        now: UnixTime,
    ) -> Result<(CodeSpent, RedeemedCode), RejectReason> {
        check_not_expired(self.expires, now)?;
        if with.service != self.asked.service {
            return Err(RejectReason::WrongService);
        }
        check_redemption(&self.code, &self.asked.client_id, &self.asked.challenge, by, with)?;
        if with.redirect_uri.is_some_and(|uri| uri != self.asked.return_address.uri().as_str()) {
            return Err(RejectReason::WrongRedirectUri);
        }
        let spent = CodeSpent {
            client_id: self.asked.client_id.clone(),
            code: self.code,
            challenge: self.asked.challenge.clone(),
            grant,
            expires: now.plus_seconds(SPENT_CODE_TTL_SECONDS),
        };
        Ok((
            spent,
            RedeemedCode {
                client_id: self.asked.client_id,
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
    /// Somebody redeems the code again. If he proves client and verifier, the code was stolen or the client is broken:
    /// the grant is to be ended, also one that is not yet there. A replay that proves neither has no effect.
    pub fn replayed(&self, by: &Authenticated, with: CodeRedemption<'_>) -> Result<Id, RejectReason> {
        check_redemption(&self.code, &self.client_id, &self.challenge, by, with)?;
        Ok(self.grant)
    }
}

fn check_redemption(
    code: &Digest,
    client_id: &str,
    challenge: &CodeChallenge,
    by: &Authenticated,
    with: CodeRedemption<'_>,
) -> Result<(), RejectReason> {
    check_digest(code, Some(with.code), RejectReason::WrongCode)?;
    if by.client_id() != client_id {
        return Err(RejectReason::WrongClient);
    }
    check_verifier(challenge, with)
}

pub(super) fn check_verifier(challenge: &CodeChallenge, with: CodeRedemption<'_>) -> Result<(), RejectReason> {
    if with.verifier.is_some_and(|v| challenge.matches_verifier(v)) {
        Ok(())
    } else {
        Err(RejectReason::Verifier)
    }
}
