//! The end of a journey: a code that is redeemed once, and remembered for a while.

use serde::{Deserialize, Serialize};

use crate::base::ids::{Digest, Id};
use crate::base::time::UnixTime;
use crate::flow::authorize::{Asked, CODE_TTL, Closed, UpstreamCallback};
use crate::flow::client::{Authenticated, ReturnAddress};
use crate::flow::rejected::{Rejected, live, same};
use crate::flow::who::{Way, Who};
use crate::oauth::answer::Tokens;
use crate::oauth::pkce::Challenge;
use crate::oauth::scope::Scopes;

/// How long a spent code is remembered, in seconds: a replay within this ends the grant.
pub const SPENT_TTL: u64 = 600;

/// What opens the upstream for this user.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Obtained {
    /// The authorization server that gave it, by bytes; `None` if the user gave it here.
    pub issuer: Option<String>,
    /// What was given.
    pub tokens: Tokens,
}

/// The client's code is on its way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CodeIssued {
    pub(super) asked: Asked,
    pub(super) who: Who,
    pub(super) code: Digest,
    pub(super) obtained: Option<Obtained>,
    pub(super) expires: UnixTime,
}

/// The code was redeemed; what comes now is a replay.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CodeSpent {
    pub(super) client_id: String,
    pub(super) code: Digest,
    pub(super) challenge: Challenge,
    pub(super) grant: Id,
    pub(super) expires: UnixTime,
}

/// To do: make a grant of this.
#[derive(Clone, Debug)]
pub struct Redeemed {
    /// The client that it is given to.
    pub client_id: String,
    /// The service that it is for.
    pub service: String,
    /// The way of the journey.
    pub way: Way,
    /// What was asked for.
    pub scopes: Scopes,
    /// Who signed in.
    pub who: Who,
    /// What opens the upstream for this user, if it takes anything of the user's.
    pub obtained: Option<Obtained>,
}

/// What a client brings to redeem a code.
#[derive(Clone, Copy, Debug)]
pub struct Redemption<'a> {
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
    pub fn exchanged(self, tokens: Tokens, code: Digest, now: UnixTime) -> Result<(CodeIssued, ReturnAddress), Rejected> {
        let back = self.asked.back.clone();
        Ok((
            CodeIssued {
                asked: self.asked,
                who: self.who,
                code,
                obtained: Some(Obtained {
                    issuer: Some(self.issuer),
                    tokens,
                }),
                expires: now.after(CODE_TTL),
            },
            back,
        ))
    }

    /// The exchange failed.
    pub fn failed(self) -> Result<(Closed, ReturnAddress), Rejected> {
        Ok((Closed { expires: self.expires }, self.asked.back))
    }
}

impl CodeIssued {
    /// The client redeems its code. Everything is checked first; a failure changes nothing.
    ///
    /// It takes a client that authenticated, and it takes the PKCE verifier:
    /// ```compile_fail
    /// # use mcp_oauth_gateway::{base::{ids::Id, time::UnixTime}, flow::{code::{CodeIssued, Redemption}, client::Authenticated}};
    /// fn redeem(code: CodeIssued, by: &str, with: Redemption<'_>) { let _ = code.redeem(by, with, Id([0; 16]), UnixTime(0)); }
    /// ```
    /// ```
    /// # use mcp_oauth_gateway::{base::{ids::Id, time::UnixTime}, flow::{code::{CodeIssued, Redemption}, client::Authenticated}};
    /// fn redeem(code: CodeIssued, by: &Authenticated, with: Redemption<'_>) { let _ = code.redeem(by, with, Id([0; 16]), UnixTime(0)); }
    /// ```
    pub fn redeem(self, by: &Authenticated, with: Redemption<'_>, grant: Id, now: UnixTime) -> Result<(CodeSpent, Redeemed), Rejected> {
        live(self.expires, now)?;
        if with.service != self.asked.service {
            return Err(Rejected::OtherService);
        }
        proves(&self.code, &self.asked.client_id, &self.asked.challenge, by, with)?;
        if with.redirect_uri.is_some_and(|uri| uri != self.asked.back.uri().as_str()) {
            return Err(Rejected::OtherRedirect);
        }
        let spent = CodeSpent {
            client_id: self.asked.client_id.clone(),
            code: self.code,
            challenge: self.asked.challenge.clone(),
            grant,
            expires: now.after(SPENT_TTL),
        };
        Ok((
            spent,
            Redeemed {
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
    pub fn replayed(&self, by: &Authenticated, with: Redemption<'_>) -> Result<Id, Rejected> {
        proves(&self.code, &self.client_id, &self.challenge, by, with)?;
        Ok(self.grant)
    }
}

fn proves(code: &Digest, client_id: &str, challenge: &Challenge, by: &Authenticated, with: Redemption<'_>) -> Result<(), Rejected> {
    same(code, Some(with.code), Rejected::OtherCode)?;
    if by.client_id() != client_id {
        return Err(Rejected::OtherClient);
    }
    verified(challenge, with)
}

pub(super) fn verified(challenge: &Challenge, with: Redemption<'_>) -> Result<(), Rejected> {
    if with.verifier.is_some_and(|v| challenge.is_met_by(v)) {
        Ok(())
    } else {
        Err(Rejected::Verifier)
    }
}
