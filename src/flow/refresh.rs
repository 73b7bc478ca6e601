//! The effect of a presented refresh pair on a grant.

use crate::base::time::UnixTime;
use crate::flow::branches::{AbandonedBranches, ParallelUse};
use crate::flow::credential::Credential;
use crate::flow::error::RejectReason;
use crate::flow::grant_data::GrantData;
use crate::flow::refresh_rules::RefreshRules;
use crate::oauth::token_response::{UpstreamRefreshToken, UpstreamTokens};
use crate::token::lifetime;

/// The minimum lifetime of an equivalent pair, in seconds. Otherwise the gateway refreshes at the upstream.
const MIN_LIFETIME_SECONDS: u64 = 60;

/// The maximum age of a generation whose response was lost, in seconds.
const MAX_LOST_RESPONSE_AGE_SECONDS: u64 = 72 * 3_600;

/// The action for a presented refresh pair.
#[derive(Clone, Debug)]
pub enum RefreshAction {
    /// Ask the upstream with this token.
    Ask(UpstreamRefreshToken),
    /// Issue an equivalent pair of the current generation from this answer, without the upstream.
    Equivalent {
        /// The branch of the pair.
        branch: u8,
        /// The upstream's tokens, if it has any.
        tokens: Option<UpstreamTokens>,
    },
}

/// The reason why a presented refresh pair is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// It is of the current generation.
    Current,
    /// It was of the current generation when the request arrived: concurrent callers share a branch.
    Concurrent,
    /// It is superseded, and the reuse window is open.
    ReuseWindow,
    /// It is superseded, and its successor was never used: the response was lost. The earlier branches
    /// of the successor are abandoned.
    LostResponse(AbandonedBranches),
}

impl Acceptance {
    /// A fixed word for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Concurrent => "concurrent",
            Self::ReuseWindow => "reuse window",
            Self::LostResponse(_) => "lost response",
        }
    }
}

/// A refresh pair that is accepted.
pub(super) struct AcceptedRefresh {
    pub(super) acceptance: Acceptance,
    pub(super) action: RefreshAction,
}

/// The reason why a presented refresh pair ends its grant (RFC 9700 §4.14.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReuseReason {
    /// Its branch is abandoned: another holder of the grant continued in its place.
    AbandonedBranch,
    /// It is superseded, and neither the reuse window nor a lost response accepts it.
    Superseded,
    /// Two branches of the grant have both refreshed for longer than the limit.
    ParallelLimit,
}

impl ReuseReason {
    /// A fixed phrase for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AbandonedBranch => "abandoned branch",
            Self::Superseded => "superseded",
            Self::ParallelLimit => "parallel branches for too long",
        }
    }
}

/// The reason why the presented refresh pair gets no pair.
pub(super) enum RefreshDenial {
    /// It is refused. Nothing changes.
    Refuse(RejectReason),
    /// It is a reuse: the grant ends.
    End(ReuseReason),
}

/// A presented refresh pair.
#[derive(Clone, Debug)]
pub struct RefreshRequest<'a> {
    /// Its generation.
    pub generation: u32,
    /// Its branch of that generation.
    pub branch: u8,
    /// The id of the authenticated client.
    pub client_id: &'a str,
    /// Whether the client is native: it has a loopback or private-use redirect URI.
    pub is_native_client: bool,
    /// Whether the pair was of the current generation when the request arrived.
    pub was_current: bool,
    /// Its upstream half.
    pub payload: RefreshPayload,
}

/// The upstream half of a presented refresh pair.
#[derive(Clone, Debug)]
pub enum RefreshPayload {
    /// The upstream's refresh token.
    Refresh(UpstreamRefreshToken),
    /// The upstream's access token, if there is no refresh token (GitHub OAuth Apps).
    Access(UpstreamTokens),
    /// Nothing: the upstream takes no token of the user's.
    Nothing,
    /// Nothing: the upstream's tokens are stored.
    Reference,
}

impl GrantData {
    /// Decides what a presented pair does, and notes that the client has the current generation.
    pub(super) fn present(
        &mut self,
        pair: &RefreshRequest<'_>,
        rules: RefreshRules,
        now: UnixTime,
    ) -> Result<AcceptedRefresh, RefreshDenial> {
        if pair.client_id != self.client_id {
            return Err(RefreshDenial::Refuse(RejectReason::WrongClient));
        }
        if now >= self.refresh_ends {
            return Err(RefreshDenial::Refuse(RejectReason::Expired));
        }
        self.is_native_client = pair.is_native_client;
        if self.is_abandoned(pair.generation, pair.branch) {
            return Err(RefreshDenial::End(ReuseReason::AbandonedBranch));
        }
        if pair.generation > self.generation {
            // The pair is authentic, so the store is an older copy: the client's generation is adopted.
            self.skip_to(pair.generation, rules, now);
            if !matches!(pair.payload, RefreshPayload::Reference) {
                self.replace_credential(Credential::without_latest);
            }
        }
        if pair.generation < self.generation {
            return self.present_superseded(pair, rules, now);
        }
        self.note_use(pair.branch, now);
        // Stored tokens may be newer than the pair, and the upstream accepts only the newest.
        let payload = if self.credential.is_reference() {
            RefreshPayload::Reference
        } else {
            pair.payload.clone()
        };
        Ok(AcceptedRefresh {
            acceptance: Acceptance::Current,
            action: self.ask_or_reissue(payload, Some(pair.branch), rules, now)?,
        })
    }

    fn present_superseded(
        &mut self,
        pair: &RefreshRequest<'_>,
        rules: RefreshRules,
        now: UnixTime,
    ) -> Result<AcceptedRefresh, RefreshDenial> {
        let acceptance = self
            .accept_superseded(pair, rules, now)
            .ok_or(RefreshDenial::End(ReuseReason::Superseded))?;
        if acceptance == Acceptance::ReuseWindow {
            self.note_parallel_use(pair, rules, now)?;
        }
        let latest = match (&self.credential, self.latest()) {
            (Credential::None, _) => None,
            (_, Some(latest)) => Some(latest.clone()),
            (_, None) => return Err(RefreshDenial::End(ReuseReason::Superseded)),
        };
        // The answer to a concurrent caller is new enough.
        let min_seconds = if acceptance == Acceptance::Concurrent {
            0
        } else {
            MIN_LIFETIME_SECONDS
        };
        let action = match latest {
            // An equivalent pair would end too soon. This counts as the current generation.
            Some(latest) if !lives_for(&latest, min_seconds, now) => self.ask_or_reissue(payload_of(latest), None, rules, now)?,
            tokens => {
                if let Some(tokens) = tokens.clone()
                    && !self.credential.is_reference()
                    && self.needs_reference(&tokens, rules)
                {
                    self.replace_credential(|credential| credential.with_tokens(tokens, true));
                }
                let branch = match acceptance {
                    Acceptance::Current | Acceptance::Concurrent => self.branches.newest(),
                    Acceptance::ReuseWindow | Acceptance::LostResponse(_) => self.branches.issue(now),
                };
                RefreshAction::Equivalent { branch, tokens }
            }
        };
        Ok(AcceptedRefresh { acceptance, action })
    }

    /// The reason why a superseded pair is accepted. `None`: it is a reuse.
    fn accept_superseded(&mut self, pair: &RefreshRequest<'_>, rules: RefreshRules, now: UnixTime) -> Option<Acceptance> {
        if pair.was_current {
            return Some(Acceptance::Concurrent);
        }
        if self.superseded.is_within(pair.generation, self.reuse_window(rules), now) {
            return Some(Acceptance::ReuseWindow);
        }
        let is_young = self
            .superseded
            .last_time()
            .is_some_and(|time| now.seconds_since(time) < MAX_LOST_RESPONSE_AGE_SECONDS);
        let is_response_lost = !self.confirmed && self.branches.may_be_last_received(pair.generation, self.generation);
        (is_response_lost && is_young && rules.sees_use()).then(|| Acceptance::LostResponse(self.branches.abandon_all(self.generation)))
    }

    /// Notes that a second branch of a generation refreshed, if that is so.
    fn note_parallel_use(&mut self, pair: &RefreshRequest<'_>, rules: RefreshRules, now: UnixTime) -> Result<(), RefreshDenial> {
        // One of the two holders has nothing left that is accepted.
        if let Some(parallel) = self.branches.parallel
            && parallel.generation < self.generation
            && !self.superseded.is_within(parallel.generation, self.reuse_window(rules), now)
        {
            self.branches.parallel = None;
        }
        let is_second_branch = match self.branches.parent() {
            Some(parent) if pair.generation + 1 == self.generation => pair.branch != parent,
            Some(_) | None => pair.branch > 0,
        };
        if !is_second_branch {
            return Ok(());
        }
        let since = self.branches.parallel.map_or(now, |parallel| parallel.since);
        if rules.parallel_limit.is_some_and(|limit| now.seconds_since(since) > limit) {
            return Err(RefreshDenial::End(ReuseReason::ParallelLimit));
        }
        self.branches.parallel = Some(ParallelUse {
            since,
            generation: self.generation,
        });
        Ok(())
    }

    /// Asks the upstream, or starts the next generation with the same token. `parent` is the branch of
    /// the current generation that is refreshed.
    fn ask_or_reissue(
        &mut self,
        payload: RefreshPayload,
        parent: Option<u8>,
        rules: RefreshRules,
        now: UnixTime,
    ) -> Result<RefreshAction, RefreshDenial> {
        let payload = match (payload, self.credential.latest()) {
            (RefreshPayload::Reference, Some(latest)) if lives_for(latest, MIN_LIFETIME_SECONDS, now) => {
                RefreshPayload::Access(latest.clone())
            }
            (RefreshPayload::Reference, Some(latest)) => payload_of(latest.clone()),
            (payload, _) => payload,
        };
        let tokens = match payload {
            RefreshPayload::Refresh(token) => return Ok(RefreshAction::Ask(token)),
            // A refresh is not possible, or not needed: the same token gets a new generation.
            RefreshPayload::Access(tokens) if tokens.expires.is_none_or(|end| end > now) => Some(tokens),
            RefreshPayload::Nothing if matches!(self.credential, Credential::None) => None,
            RefreshPayload::Access(_) | RefreshPayload::Nothing | RefreshPayload::Reference => {
                return Err(RefreshDenial::Refuse(RejectReason::Expired));
            }
        };
        self.supersede(parent, rules, now);
        if let Some(tokens) = tokens.clone() {
            let is_reference = self.needs_reference(&tokens, rules);
            self.replace_credential(|credential| credential.with_tokens(tokens, is_reference));
        }
        Ok(RefreshAction::Equivalent {
            branch: self.branches.newest(),
            tokens,
        })
    }
}

/// Whether a pair of an access token is valid for longer than this.
fn lives_for(tokens: &UpstreamTokens, seconds: u64, now: UnixTime) -> bool {
    let min_expiry = now.plus_seconds(seconds);
    tokens
        .expires
        .is_none_or(|end| end.minus_seconds(lifetime::UPSTREAM_MARGIN_SECONDS) > min_expiry)
}

/// The content of a refresh pair of these tokens.
fn payload_of(tokens: UpstreamTokens) -> RefreshPayload {
    match tokens.refresh {
        Some(token) => RefreshPayload::Refresh(token),
        None => RefreshPayload::Access(tokens),
    }
}
