//! What a presented refresh pair does to a grant.

use crate::base::time::UnixTime;
use crate::flow::credential::Credential;
use crate::flow::error::RejectReason;
use crate::flow::grant_data::GrantData;
use crate::flow::refresh_rules::RefreshRules;
use crate::oauth::token_response::{UpstreamRefreshToken, UpstreamTokens};
use crate::token::lifetime;

/// An equivalent pair lives for at least this many seconds, or the upstream is asked.
const MIN_LIFETIME_SECONDS: u64 = 60;

/// What the presented refresh pair calls for.
#[derive(Clone, Debug)]
pub enum RefreshAction {
    /// Ask the upstream with this token.
    Ask(UpstreamRefreshToken),
    /// Issue an equivalent pair of this generation from this answer, without the upstream.
    Equivalent(u32, Option<UpstreamTokens>),
}

/// Why the presented refresh pair gets no pair.
pub(super) enum RefreshDenial {
    /// It is refused. Nothing changes.
    Refuse(RejectReason),
    /// It is a replay: the grant ends.
    End,
}

/// A presented refresh pair.
#[derive(Clone, Debug)]
pub struct RefreshRequest<'a> {
    /// Its generation.
    pub generation: u32,
    /// The id of the authenticated client.
    pub client_id: &'a str,
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
    ) -> Result<RefreshAction, RefreshDenial> {
        if pair.client_id != self.client_id {
            return Err(RefreshDenial::Refuse(RejectReason::WrongClient));
        }
        if now >= self.refresh_ends {
            return Err(RefreshDenial::Refuse(RejectReason::Expired));
        }
        if pair.generation > self.generation {
            // The pair is authentic, so the store is an older copy: the client's generation is adopted.
            if rules.is_client_side {
                self.skip_generations(pair.generation, now);
            }
            self.generation = pair.generation;
            if !matches!(pair.payload, RefreshPayload::Reference) {
                self.replace_credential(Credential::without_latest);
            }
        }
        if pair.generation < self.generation {
            return self.present_superseded(pair.generation, rules, now);
        }
        self.confirmed = true;
        // Stored tokens may be newer than the pair, and the upstream accepts only the newest.
        let payload = if self.credential.is_reference() {
            RefreshPayload::Reference
        } else {
            pair.payload.clone()
        };
        self.ask_or_reissue(payload, rules, now)
    }

    fn present_superseded(&mut self, generation: u32, rules: RefreshRules, now: UnixTime) -> Result<RefreshAction, RefreshDenial> {
        if !self.is_in_reuse_window(generation, rules, now) {
            return Err(RefreshDenial::End);
        }
        if matches!(self.credential, Credential::None) {
            return Ok(RefreshAction::Equivalent(self.generation, None));
        }
        let Some(latest) = self.credential.latest().cloned() else {
            return Err(RefreshDenial::End);
        };
        if has_enough_lifetime(&latest, now) {
            if !self.credential.is_reference() && self.needs_reference(&latest, rules) {
                self.replace_credential(|credential| credential.with_tokens(latest.clone(), true));
            }
            return Ok(RefreshAction::Equivalent(self.generation, Some(latest)));
        }
        // An equivalent pair would end too soon. This counts as the current generation.
        self.ask_or_reissue(payload_of(latest), rules, now)
    }

    fn ask_or_reissue(&mut self, payload: RefreshPayload, rules: RefreshRules, now: UnixTime) -> Result<RefreshAction, RefreshDenial> {
        let payload = match (payload, self.credential.latest()) {
            (RefreshPayload::Reference, Some(latest)) if has_enough_lifetime(latest, now) => RefreshPayload::Access(latest.clone()),
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
        self.supersede(now);
        if let Some(tokens) = tokens.clone() {
            let is_reference = self.needs_reference(&tokens, rules);
            self.replace_credential(|credential| credential.with_tokens(tokens, is_reference));
        }
        Ok(RefreshAction::Equivalent(self.generation, tokens))
    }

    /// Whether a superseded generation still gets an equivalent pair.
    fn is_in_reuse_window(&self, generation: u32, rules: RefreshRules, now: UnixTime) -> bool {
        let was_superseded_recently = self
            .superseded
            .iter()
            .any(|(old_generation, time)| *old_generation == generation && now.seconds_since(*time) < rules.reuse_window);
        let is_successor_unconfirmed = generation + 1 == self.generation && !self.confirmed;
        was_superseded_recently || is_successor_unconfirmed
    }
}

/// Whether an access token lives long enough for a new pair.
fn has_enough_lifetime(tokens: &UpstreamTokens, now: UnixTime) -> bool {
    let min_expiry = now.plus_seconds(MIN_LIFETIME_SECONDS);
    tokens
        .expires
        .is_none_or(|end| end.minus_seconds(lifetime::UPSTREAM_MARGIN_SECONDS) > min_expiry)
}

/// What a refresh pair of these tokens would hold.
fn payload_of(tokens: UpstreamTokens) -> RefreshPayload {
    match tokens.refresh {
        Some(token) => RefreshPayload::Refresh(token),
        None => RefreshPayload::Access(tokens),
    }
}
