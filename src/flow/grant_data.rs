//! What a grant holds while it lives, and what a presented refresh pair is worth to it.

use serde::{Deserialize, Serialize};

use crate::base::time::UnixTime;
use crate::flow::error::RejectReason;
use crate::flow::user::User;
use crate::oauth::scope::Scopes;
use crate::oauth::token_response::{UpstreamRefreshToken, UpstreamTokens};
use crate::token::header::TokenMode;
use crate::token::lifetime::{self, Ttl};

/// How many superseded generations are remembered.
const MAX_SUPERSEDED: usize = 16;
/// An equivalent pair must live at least so long, in seconds, or the upstream is asked.
const MIN_LIFETIME_SECONDS: u64 = 60;

/// How long a superseded pair still gets an equivalent one unless something else is configured, in seconds.
pub const DEFAULT_REUSE_WINDOW_SECONDS: u64 = 7_200;

/// What does not change, or only grows: travels through all living states.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and none is a state")]
pub struct GrantData {
    /// The client that it was given to.
    pub client_id: String,
    /// The service that it is for.
    pub service: String,
    /// Who signed in.
    pub who: User,
    /// What was granted.
    pub scopes: Scopes,
    /// The upstream's authorization server, by bytes: its tokens go to no other. `None` if the user gave them here.
    pub issuer: Option<String>,
    /// When it began.
    #[serde(rename = "granted")]
    pub granted_at: UnixTime,
    /// The current generation.
    pub(super) generation: u32,
    /// The current one was seen coming back: the client has it.
    #[serde(rename = "proved")]
    pub(super) confirmed: bool,
    /// When each of the last generations was superseded, newest last.
    pub(super) superseded: Vec<(u32, UnixTime)>,
    /// The upstream's latest answer, until the current generation is proved and the grace is over, and no longer; unless
    /// it is kept.
    pub(super) latest: Option<UpstreamTokens>,
    /// When the latest access pair ends; a tombstone must outlive it.
    pub(super) access_ends: UnixTime,
    /// When the upstream last said 401 to a token that cannot be refreshed, and at which generation.
    pub(super) refused: Option<(UnixTime, u32)>,
    /// When the refresh pair ends.
    pub(super) refresh_ends: UnixTime,
    /// The upstream gave something to refresh with.
    pub(super) refreshable: bool,
    /// The upstream takes nothing of the user's: there are no tokens.
    #[serde(default)]
    pub(super) bare: bool,
    /// The pairs of the current generation refer to the upstream's latest answer, which stays here while the grant lives.
    #[serde(default)]
    pub(super) kept: bool,
    /// When the gateway last renewed by itself what it keeps.
    #[serde(default)]
    pub(super) renewed: Option<UnixTime>,
}

/// What a grant begins with.
#[derive(Clone, Debug)]
pub struct NewGrant {
    /// The client that it is given to.
    pub client_id: String,
    /// The service that it is for.
    pub service: String,
    /// Who signed in.
    pub who: User,
    /// What was granted.
    pub scopes: Scopes,
    /// The upstream's authorization server, by bytes; `None` if the user gave the tokens here, or there are none.
    pub issuer: Option<String>,
    /// What was obtained for the upstream, if it takes anything of the user's.
    pub tokens: Option<UpstreamTokens>,
}

/// The rules of one service about refreshing.
#[derive(Clone, Copy, Debug)]
pub struct RefreshRules {
    /// How long a superseded pair still gets an equivalent one, in seconds; 0 is the strict rule of RFC 9700.
    pub reuse_window: u64,
    /// Lifetimes.
    pub ttl: Ttl,
    /// How pairs are protected, and whether what opens the upstream is kept here.
    pub mode: TokenMode,
    /// Grants travel in their pairs: nothing can be kept here, however long it is.
    pub carried: bool,
}

impl Default for RefreshRules {
    fn default() -> Self {
        Self {
            reuse_window: DEFAULT_REUSE_WINDOW_SECONDS,
            ttl: Ttl::default(),
            mode: TokenMode::Sealed,
            carried: false,
        }
    }
}

/// What the presented refresh pair calls for.
#[derive(Clone, Debug)]
pub enum RefreshAction {
    /// The upstream is to be asked with this token, under this attempt.
    Ask(UpstreamRefreshToken),
    /// An equivalent pair of this generation, from this answer; the upstream is left alone.
    Equivalent(u32, Option<UpstreamTokens>),
}

/// A refresh pair as presented.
#[derive(Clone, Debug)]
pub struct RefreshRequest<'a> {
    /// Its generation.
    pub generation: u32,
    /// The client's id, authenticated.
    pub client_id: &'a str,
    /// What it carries.
    pub brought: RefreshPayload,
}

/// What a presented refresh pair carries.
#[derive(Clone, Debug)]
pub enum RefreshPayload {
    /// The upstream's refresh token.
    Refresh(UpstreamRefreshToken),
    /// The upstream's access token, where there is nothing to refresh with (GitHub OAuth Apps).
    Access(UpstreamTokens),
    /// Nothing: the upstream takes nothing of the user's.
    Nothing,
    /// Nothing: what opens the upstream is kept here.
    Kept,
}

impl GrantData {
    /// Whether this answer of the upstream's has been written down, and the current generation is made from it.
    pub fn has_answer(&self, tokens: &UpstreamTokens) -> bool {
        self.latest.as_ref() == Some(tokens)
    }

    /// A new grant's first generation.
    pub fn new(began: NewGrant, rules: RefreshRules, now: UnixTime) -> Self {
        let NewGrant {
            client_id,
            service,
            who,
            scopes,
            issuer,
            tokens,
        } = began;
        let made = Self {
            client_id,
            service,
            who,
            scopes,
            issuer,
            granted_at: now,
            generation: 1,
            confirmed: false,
            superseded: Vec::new(),
            access_ends: now,
            refused: None,
            refresh_ends: now,
            refreshable: tokens.as_ref().is_some_and(|tokens| tokens.refresh.is_some()),
            bare: tokens.is_none(),
            kept: false,
            renewed: None,
            // So that the upstream can be told, should the code be replayed.
            latest: tokens,
        };
        made.with_current_tokens(rules, now)
    }

    /// The current generation.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether the upstream gave something to refresh with.
    pub fn is_refreshable(&self) -> bool {
        self.refreshable
    }

    /// The upstream's latest answer, while it is kept.
    pub fn latest(&self) -> Option<&UpstreamTokens> {
        self.latest.as_ref()
    }

    /// When the upstream's latest answer is no longer needed, if it is kept and the client has its pair.
    pub fn prune_at(&self, rules: RefreshRules) -> Option<UnixTime> {
        // The first generation supersedes nothing; until a grace after it began, a replayed code must reach the upstream.
        let newest = self.superseded.last().map_or(self.granted_at, |(_, at)| *at);
        (self.latest.is_some() && self.confirmed && !self.kept).then(|| newest.plus_seconds(rules.reuse_window))
    }

    /// When pairs of this grant end that are made now of the upstream's `tokens`: access, refresh.
    pub fn pair_expiry(&self, tokens: Option<&UpstreamTokens>, ttl: Ttl, now: UnixTime) -> (UnixTime, UnixTime) {
        // What is kept is renewed by the gateway itself, as long as there is something to do it with.
        let tokens = tokens.filter(|tokens| !(self.kept && tokens.refresh.is_some()));
        // Without anything to refresh with, the upstream's own end is ours too.
        let upstream_end = tokens.and_then(|tokens| {
            if tokens.refresh.is_some() {
                tokens.refresh_expires
            } else {
                tokens.expires
            }
        });
        (
            lifetime::access_ends(now, ttl.access, tokens.and_then(|tokens| tokens.expires)),
            lifetime::refresh_ends(now, ttl, self.granted_at, upstream_end),
        )
    }

    /// When the latest refresh pair ends.
    pub fn refresh_ends(&self) -> UnixTime {
        self.refresh_ends
    }

    /// What is granted when the upstream gives `tokens`: what it says with them is newer than what the grant began with
    /// (RFC 6749 §6).
    pub fn scopes_with(&self, tokens: Option<&UpstreamTokens>) -> Scopes {
        let said = tokens.and_then(|tokens| tokens.scope.as_deref());
        said.map_or_else(|| self.scopes.clone(), |granted| self.scopes.granted_to_client(granted))
    }

    /// Notes when pairs of this grant end, so that the record and a tombstone outlive them (seconds since the epoch).
    #[must_use]
    pub(super) fn with_expiry(mut self, access_ends: UnixTime, refresh_ends: UnixTime) -> Self {
        self.access_ends = self.access_ends.max(access_ends);
        self.refresh_ends = refresh_ends;
        self
    }

    pub(super) fn supersede(&mut self, now: UnixTime) {
        self.superseded.push((self.generation, now));
        let excess = self.superseded.len().saturating_sub(MAX_SUPERSEDED);
        self.superseded.drain(..excess);
        self.generation += 1;
        self.confirmed = false;
    }

    /// Those before `next` were superseded at other instances, nobody here knows when.
    fn skip_generations(&mut self, next: u32, now: UnixTime) {
        let known = next.saturating_sub(u32::try_from(MAX_SUPERSEDED).unwrap_or(u32::MAX));
        let skipped = self.generation.max(known)..next;
        self.superseded.extend(skipped.map(|generation| (generation, now)));
        let excess = self.superseded.len().saturating_sub(MAX_SUPERSEDED);
        self.superseded.drain(..excess);
    }

    /// Whether a pair of an older generation still gets an equivalent one.
    fn is_in_reuse_window(&self, generation: u32, rules: RefreshRules, now: UnixTime) -> bool {
        let recent = self
            .superseded
            .iter()
            .any(|(g, at)| *g == generation && now.seconds_since(*at) < rules.reuse_window);
        let unproved = generation + 1 == self.generation && !self.confirmed;
        recent || unproved
    }

    /// What is done with a presented pair; notes that the current generation came back.
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
            // The pair is authentic, so the store went back in time: adopt what the client knows.
            if rules.carried {
                self.skip_generations(pair.generation, now);
            }
            self.generation = pair.generation;
            if !matches!(pair.brought, RefreshPayload::Kept) {
                (self.latest, self.kept) = (None, false);
            }
        }
        if pair.generation < self.generation {
            return self.present_superseded(pair.generation, rules, now);
        }
        self.confirmed = true;
        // What is kept may have been renewed since the pair was made, and only the newest may be shown to the upstream.
        let brought = if self.kept { RefreshPayload::Kept } else { pair.brought.clone() };
        self.ask_or_reissue(brought, rules, now)
    }

    fn present_superseded(&mut self, generation: u32, rules: RefreshRules, now: UnixTime) -> Result<RefreshAction, RefreshDenial> {
        if self.bare && self.is_in_reuse_window(generation, rules, now) {
            return Ok(RefreshAction::Equivalent(self.generation, None));
        }
        let Some(latest) = self.latest.clone().filter(|_| self.is_in_reuse_window(generation, rules, now)) else {
            return Err(RefreshDenial::End);
        };
        if has_enough_lifetime(&latest, now) {
            self.kept |= self.needs_reference(&latest, rules);
            return Ok(RefreshAction::Equivalent(self.generation, Some(latest)));
        }
        // Too little life left to be worth handing out: it counts as a presentation of the current generation.
        self.ask_or_reissue(brought(latest), rules, now)
    }

    fn ask_or_reissue(&mut self, with: RefreshPayload, rules: RefreshRules, now: UnixTime) -> Result<RefreshAction, RefreshDenial> {
        let with = match (with, self.latest.clone()) {
            (RefreshPayload::Kept, Some(latest)) if has_enough_lifetime(&latest, now) => RefreshPayload::Access(latest),
            (RefreshPayload::Kept, Some(latest)) => brought(latest),
            (with, _) => with,
        };
        let tokens = match with {
            RefreshPayload::Refresh(token) => return Ok(RefreshAction::Ask(token)),
            // There is nothing to refresh with, or no need to: the same token again, in a new generation.
            RefreshPayload::Access(tokens) if tokens.expires.is_none_or(|end| end > now) => Some(tokens),
            RefreshPayload::Nothing if self.bare => None,
            RefreshPayload::Access(_) | RefreshPayload::Nothing | RefreshPayload::Kept => {
                return Err(RefreshDenial::Refuse(RejectReason::Expired));
            }
        };
        self.supersede(now);
        self.kept = tokens.as_ref().is_some_and(|tokens| self.needs_reference(tokens, rules));
        self.latest.clone_from(&tokens);
        Ok(RefreshAction::Equivalent(self.generation, tokens))
    }
}

/// Whether an access token lives long enough to be handed out.
fn has_enough_lifetime(tokens: &UpstreamTokens, now: UnixTime) -> bool {
    let enough = now.plus_seconds(MIN_LIFETIME_SECONDS);
    tokens
        .expires
        .is_none_or(|end| end.minus_seconds(lifetime::UPSTREAM_MARGIN_SECONDS) > enough)
}

/// What the upstream is asked with, or what is re-issued where there is nothing to ask with.
fn brought(tokens: UpstreamTokens) -> RefreshPayload {
    match tokens.refresh {
        Some(token) => RefreshPayload::Refresh(token),
        None => RefreshPayload::Access(tokens),
    }
}

/// How a presentation ends that gets no pair.
pub(super) enum RefreshDenial {
    /// No, and nothing changes.
    Refuse(RejectReason),
    /// A replay: the grant ends.
    End,
}
