//! Model of grants and refreshes, from the first pair to the tombstone.

use std::sync::atomic::Ordering;

use mcp_oauth_gateway::base::ids::Id;
use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::base::time::UnixTime;
use mcp_oauth_gateway::flow::error::RejectReason;
use mcp_oauth_gateway::flow::grant::{
    Active, AnswerSource, BranchUse, Ended, GrantRecord, LeasedRefresh, RefreshAttempt, RefreshOutcome, Refreshing,
};
use mcp_oauth_gateway::flow::grant_data::{GrantData, NewGrant};
use mcp_oauth_gateway::flow::refresh::{RefreshPayload, RefreshRequest};
use mcp_oauth_gateway::flow::refresh_rules::RefreshRules;
use mcp_oauth_gateway::oauth::token_response::{UpstreamAccessToken, UpstreamRefreshToken, UpstreamTokens};
use mcp_oauth_gateway::store::{Handle, InsertError, TransitionError};
use mcp_oauth_gateway::token::header::TokenMode;
use mcp_oauth_gateway::token::lifetime;
use serde_json::Value;

use super::acts::Gives;
use super::world::{World, text, went};

/// The longest time between a spent code and its grant, in seconds.
pub(super) const BREATH: u64 = 60;
/// The duration of a refresh lease, in seconds.
const LEASE: u64 = 75;

/// The expected state of a grant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Life {
    /// Its code is spent, and the grant is not stored yet.
    Unborn,
    Active,
    Refreshing {
        attempt: Id,
        owner: Id,
        lease: UnixTime,
        silent: bool,
    },
    Ended {
        until: UnixTime,
    },
}

/// The upstream token that a grant can refresh or reissue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// The upstream needs no token of the user.
    Nothing,
    /// An access token that can only be reissued.
    Access,
    /// A refresh token.
    Refresh,
}

/// A grant as expected.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub id: Id,
    pub client: usize,
    pub granted: UnixTime,
    pub swept: bool,
    pub life: Life,
    generation: u32,
    proved: bool,
    kept: Kept,
    /// When each generation was superseded.
    superseded: Vec<(u32, UnixTime)>,
    /// How many branches the current generation has, and the first one that is not abandoned.
    branches: u8,
    first_live: u8,
    /// The first branch that is not abandoned, of each earlier generation with abandoned ones.
    abandoned: Vec<(u32, u8)>,
    /// The client may have lost the responses with all later generations; `None` if nothing is known.
    last_used: Option<u32>,
    latest: Option<UpstreamTokens>,
    /// Whether its pairs are references to the stored tokens.
    refers: bool,
    renewed: Option<UnixTime>,
    access_ends: UnixTime,
    refresh_ends: UnixTime,
    refused: Option<(UnixTime, u32)>,
    /// When the provider last confirmed the user; `None` if nobody can ask it.
    checked: Option<UnixTime>,
    seen: Value,
}

/// A pair that a client has. It stays the same when an old store is restored.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub grant: usize,
    pub generation: u32,
    pub branch: u8,
    pub tokens: Option<UpstreamTokens>,
    /// Whether it is a reference to stored tokens.
    pub kept: bool,
    pub access_ends: UnixTime,
}

type Refusal = TransitionError<RejectReason>;

impl Grant {
    /// The expiry of its record, or `None` if it has no record.
    pub(crate) fn keep_until(&self) -> Option<UnixTime> {
        let pairs = self.refresh_ends.max(self.access_ends);
        match self.life {
            Life::Unborn => None,
            Life::Active => Some(pairs),
            Life::Refreshing { lease, .. } => Some(pairs.max(lease)),
            Life::Ended { until } => Some(until),
        }
    }

    fn is_there(&self, now: UnixTime) -> bool {
        self.keep_until().is_some_and(|until| until >= now)
    }

    fn has_ended(&self) -> bool {
        matches!(self.life, Life::Ended { .. })
    }

    fn tombstone(&mut self, now: UnixTime, longest: u64) {
        self.life = Life::Ended {
            until: self.access_ends.max(now.plus_seconds(longest)).plus_seconds(300),
        };
    }

    fn supersede(&mut self, now: UnixTime) {
        self.superseded.push((self.generation, now));
        if self.first_live > 0 {
            self.abandoned.push((self.generation, self.first_live));
        }
        self.last_used = if self.proved {
            Some(self.generation)
        } else {
            self.last_used.or(Some(self.generation - 1))
        };
        (self.branches, self.first_live) = (1, 0);
        self.generation += 1;
        self.proved = false;
    }

    fn is_abandoned(&self, generation: u32, branch: u8) -> bool {
        let of_current = (self.generation, self.first_live);
        let mut all = self.abandoned.iter().chain([&of_current]);
        all.any(|(of, first_live)| *of == generation && branch < *first_live)
    }

    /// Whether the reuse window accepts a superseded generation. The window has fifteen parts. What was
    /// superseded within one part counts as superseded with the last of them.
    fn is_in_window(&self, generation: u32, window: u64, now: UnixTime) -> bool {
        let part = |at: UnixTime| at.0 / window.div_ceil(15).max(1);
        let Some((_, at)) = self.superseded.iter().find(|(of, _)| *of >= generation) else {
            return false;
        };
        let counts = self
            .superseded
            .iter()
            .filter(|(_, other)| part(*other) == part(*at))
            .map(|(_, other)| *other)
            .max();
        counts.is_some_and(|at| now < at.plus_seconds(window))
    }
}

/// The expected outcome of a presented pair.
#[derive(Debug)]
enum Outcome {
    Answer(u32, u8, Option<UpstreamTokens>),
    Ask(UpstreamRefreshToken),
    Ended,
}

/// A presented pair, with its client and attempt.
struct Presented<'a> {
    generation: u32,
    branch: u8,
    was_current: bool,
    tokens: Option<&'a UpstreamTokens>,
    kept: bool,
    client: usize,
    attempt: RefreshAttempt,
}

impl Grant {
    /// A second implementation of the refresh rules.
    fn presented(&mut self, by: &Presented<'_>, rules: RefreshRules, now: UnixTime) -> Result<Outcome, RejectReason> {
        self.is_free(by.attempt, now)?;
        if by.client != self.client {
            return Err(RejectReason::WrongClient);
        }
        if now >= self.refresh_ends {
            return Err(RejectReason::Expired);
        }
        if self.is_abandoned(by.generation, by.branch) {
            self.tombstone(now, rules.ttl.access);
            return Ok(Outcome::Ended);
        }
        if by.generation > self.generation {
            // Only a restored store knows an older generation than a client.
            if self.first_live > 0 {
                self.abandoned.push((self.generation, self.first_live));
            }
            self.generation = by.generation;
            self.superseded = vec![(by.generation - 1, UnixTime(0))];
            (self.branches, self.first_live, self.last_used) = (1, 0, None);
            if !by.kept {
                (self.latest, self.refers) = (None, false);
            }
        }
        let tokens = if by.generation == self.generation {
            self.proved = true;
            self.branches = self.branches.max(by.branch + 1);
            if self.refers || by.kept {
                let latest = self.latest.clone().ok_or(RejectReason::Expired)?;
                if is_enough(Some(&latest), now) {
                    return Ok(self.re_issued(Some(latest), rules, now));
                }
                Some(latest)
            } else {
                by.tokens.cloned()
            }
        } else {
            let in_window = self.is_in_window(by.generation, rules.reuse_window.native, now);
            let began = self.superseded.last().map_or(UnixTime(0), |(_, at)| *at);
            let is_lost =
                !self.proved && by.generation >= self.last_used.unwrap_or(self.generation - 1) && now < began.plus_seconds(72 * 3_600);
            let is_kept = self.kept == Kept::Nothing || self.latest.is_some();
            if !is_kept || !(by.was_current || in_window || is_lost) {
                self.tombstone(now, rules.ttl.access);
                return Ok(Outcome::Ended);
            }
            if !by.was_current && !in_window {
                self.first_live = self.branches.min(15);
            }
            let latest = self.latest.clone();
            let end = latest.as_ref().and_then(|tokens| tokens.expires);
            let is_just_issued = by.was_current && end.is_none_or(|end| end.minus_seconds(lifetime::UPSTREAM_MARGIN_SECONDS) > now);
            if is_just_issued || is_enough(latest.as_ref(), now) {
                self.refers |= keeps(latest.as_ref(), rules);
                self.life = Life::Active;
                if !by.was_current {
                    self.branches = (self.branches + 1).min(16);
                }
                return Ok(Outcome::Answer(self.generation, self.branches - 1, latest));
            }
            latest
        };
        if let Some(refresh) = tokens.as_ref().and_then(|tokens| tokens.refresh.clone()) {
            let (attempt, owner) = (by.attempt.id, by.attempt.owner);
            self.life = Life::Refreshing {
                attempt,
                owner,
                lease: now.plus_seconds(LEASE),
                silent: false,
            };
            return Ok(Outcome::Ask(refresh));
        }
        if tokens.as_ref().and_then(|tokens| tokens.expires).is_some_and(|end| end <= now) {
            return Err(RejectReason::Expired);
        }
        Ok(self.re_issued(tokens, rules, now))
    }

    fn re_issued(&mut self, tokens: Option<UpstreamTokens>, rules: RefreshRules, now: UnixTime) -> Outcome {
        self.supersede(now);
        (self.latest, self.refers) = (tokens.clone(), keeps(tokens.as_ref(), rules));
        self.life = Life::Active;
        Outcome::Answer(self.generation, 0, tokens)
    }

    fn is_free(&self, attempt: RefreshAttempt, now: UnixTime) -> Result<(), RejectReason> {
        match self.life {
            Life::Ended { .. } => Err(RejectReason::Replayed),
            Life::Refreshing { owner, lease, .. } if now < lease && (!attempt.is_exclusive || owner == attempt.owner) => {
                Err(RejectReason::Busy)
            }
            Life::Unborn | Life::Active | Life::Refreshing { .. } => Ok(()),
        }
    }

    /// Refresh by the gateway: the token has expired, or is near its end or refused, and not new.
    fn renewed(&mut self, refused: bool, attempt: RefreshAttempt, now: UnixTime) -> Result<UpstreamRefreshToken, RejectReason> {
        self.is_free(attempt, now)?;
        let latest = self.latest.as_ref().filter(|_| self.refers).ok_or(RejectReason::NotNeeded)?;
        let left = latest.expires.map_or(u64::MAX, |end| end.seconds_since(now));
        let is_new = self.renewed.is_some_and(|at| now.seconds_since(at) < 30);
        if left > 0 && (is_new || (left > 60 && !refused)) {
            return Err(RejectReason::NotNeeded);
        }
        let token = latest.refresh.clone().ok_or(RejectReason::NotNeeded)?;
        self.life = Life::Refreshing {
            attempt: attempt.id,
            owner: attempt.owner,
            lease: now.plus_seconds(LEASE),
            silent: true,
        };
        Ok(token)
    }
}

/// Whether tokens live long enough to be issued.
fn is_enough(tokens: Option<&UpstreamTokens>, now: UnixTime) -> bool {
    let (end, enough) = (tokens.and_then(|tokens| tokens.expires), now.plus_seconds(60));
    end.is_none_or(|end| end.minus_seconds(lifetime::UPSTREAM_MARGIN_SECONDS) > enough)
}

/// Whether pairs with these tokens are references. The tokens here are short: the mode decides.
fn keeps(tokens: Option<&UpstreamTokens>, rules: RefreshRules) -> bool {
    tokens.is_some() && rules.mode == TokenMode::Reference
}

impl World {
    fn grant_handle(&self, g: usize) -> Handle<GrantRecord> {
        Handle::new(self.grants[g].id)
    }

    fn there(&self, g: usize) -> Result<(), Refusal> {
        if self.grants[g].is_there(self.now()) {
            Ok(())
        } else {
            Err(TransitionError::NotFound)
        }
    }

    /// Adds the grant of a spent code. It is not stored yet.
    pub(crate) fn new_grant(&mut self, id: Id, client: usize) -> usize {
        let now = self.now();
        self.grants.push(Grant {
            id,
            client,
            granted: now,
            swept: false,
            life: Life::Unborn,
            generation: 1,
            proved: false,
            kept: Kept::Nothing,
            superseded: Vec::new(),
            branches: 1,
            first_live: 0,
            abandoned: Vec::new(),
            last_used: None,
            latest: None,
            refers: false,
            renewed: None,
            access_ends: now,
            refresh_ends: now,
            refused: None,
            checked: None,
            seen: Value::Null,
        });
        self.grants.len() - 1
    }

    /// Access and refresh expiry: of the shorter half, or ours if stored tokens are refreshable.
    fn ends(&self, g: usize, tokens: Option<&UpstreamTokens>, kept: bool) -> (UnixTime, UnixTime) {
        let (now, ttl) = (self.now(), self.rules.ttl);
        if kept && tokens.is_some_and(|tokens| tokens.refresh.is_some()) {
            return (
                now.plus_seconds(ttl.access),
                lifetime::refresh_ends(now, ttl, self.grants[g].granted, None),
            );
        }
        let expires = tokens.and_then(|tokens| tokens.expires);
        let upstream = match tokens {
            Some(tokens) if tokens.refresh.is_some() => tokens.refresh_expires,
            Some(_) | None => expires,
        };
        let access = lifetime::access_ends(now, ttl.access, expires);
        (access, lifetime::refresh_ends(now, ttl, self.grants[g].granted, upstream))
    }

    fn mint(&mut self, grant: usize, (generation, branch): (u32, u8), tokens: Option<UpstreamTokens>, kept: bool) {
        let access_ends = self.ends(grant, tokens.as_ref(), kept).0;
        self.pairs.push(Pair {
            grant,
            generation,
            branch,
            tokens,
            kept,
            access_ends,
        });
    }

    /// Stores the grant of a spent code, unless the grant has ended meanwhile.
    pub(crate) async fn granted(&mut self, i: usize) {
        let Some(redeemed) = self.journeys[i].pending.take() else { return };
        let g = self.journeys[i].grant.expect("a spent code has a grant");
        let now = self.now();
        if self.grants[g].granted.plus_seconds(BREATH) < now {
            return;
        }
        self.grants[g].granted = now;
        let (issuer, tokens) = match redeemed.obtained {
            Some(obtained) => (obtained.issuer, Some(obtained.tokens)),
            None => (None, None),
        };
        let kept = keeps(tokens.as_ref(), self.rules);
        let ends = self.ends(g, tokens.as_ref(), kept);
        let client_id = self.clients[self.grants[g].client].client_id().to_owned();
        let began = NewGrant {
            client_id,
            is_native_client: true,
            service: redeemed.service,
            who: redeemed.who,
            scopes: redeemed.scopes,
            issuer,
            tokens: tokens.clone(),
        };
        let checked = began.who.provider_session.as_ref().map(|session| session.checked_at);
        let held = GrantData::new(began, self.rules, now);
        let put = self.store.insert(self.grants[g].id, Active::new(held)).await;
        if self.grants[g].has_ended() {
            self.meet("a grant that was ended before it was there");
            assert_eq!(put, Err(InsertError::AlreadyExists), "what has ended came back");
        } else {
            assert!(put.is_ok());
            self.walk("[*]", "new", "Active");
            let grant = &mut self.grants[g];
            (grant.life, grant.swept, grant.checked) = (Life::Active, false, checked);
            grant.kept = match &tokens {
                Some(tokens) if tokens.refresh.is_some() => Kept::Refresh,
                Some(_) => Kept::Access,
                None => Kept::Nothing,
            };
            (grant.access_ends, grant.refresh_ends) = ends;
            (grant.latest, grant.refers) = (tokens.clone(), kept);
            self.note(g).await;
        }
        self.mint(g, (1, 0), tokens, kept);
        self.look_at_grant(g).await;
    }

    pub(crate) async fn present(&mut self, p: usize, by: Option<u8>, owner: u8, (alone, was_current): (bool, bool)) {
        let Pair {
            grant: g,
            generation,
            branch,
            tokens,
            kept,
            ..
        } = self.pairs[p].clone();
        let client = by.map_or(self.grants[g].client, |by| usize::from(by) % self.clients.len());
        let attempt = RefreshAttempt {
            id: self.id(),
            owner: self.owners[usize::from(owner % 2)],
            is_exclusive: alone,
        };
        let (now, rules) = (self.now(), self.rules);
        let was = self.grants[g].clone();
        let mut next = was.clone();
        let expected = self.there(g).and_then(|()| {
            let by = Presented {
                generation,
                branch,
                was_current,
                tokens: tokens.as_ref(),
                kept,
                client,
                attempt,
            };
            next.presented(&by, rules, now).map_err(TransitionError::Rejected)
        });
        let brought = match tokens.clone() {
            Some(_) if kept => RefreshPayload::Reference,
            Some(UpstreamTokens { refresh: Some(token), .. }) => RefreshPayload::Refresh(token),
            Some(tokens) => RefreshPayload::Access(tokens),
            None => RefreshPayload::Nothing,
        };
        let pair = RefreshRequest {
            generation,
            branch,
            client_id: self.clients[client].client_id(),
            is_native_client: true,
            was_current,
            payload: brought,
        };
        let step = |record: GrantRecord| record.presented(&pair, attempt, rules, now);
        let moved = self.store.update(&self.grant_handle(g), step).await;
        if expected
            .as_ref()
            .is_err_and(|why| *why == TransitionError::Rejected(RejectReason::Busy))
        {
            self.meet("a second attempt while the first holds the lease");
        }
        let (expected, outcome) = match expected {
            Ok(outcome) => (Ok(()), Some(outcome)),
            Err(why) => (Err(why), None),
        };
        if let Some((_, led)) = went(moved, &expected) {
            let to = self.led(g, led, &outcome.expect("it was accepted"), attempt, next.refers);
            self.walk(if was.life == Life::Active { "Active" } else { "Refreshing" }, "presented", to);
            assert!(next.generation >= was.generation, "a generation went back");
            if generation > was.generation {
                self.meet("a generation that the store had forgotten");
            }
            if matches!(was.life, Life::Refreshing { .. }) {
                self.meet("a lease that was taken over");
            }
            if generation < was.generation {
                if next.kept == Kept::Nothing && !next.has_ended() {
                    self.meet("an older pair in grace that carries nothing");
                }
                self.meet(if next.has_ended() {
                    "an older pair too late"
                } else {
                    "an older pair in grace"
                });
            }
            self.grants[g] = next;
            // The record and its tombstone outlive every issued pair.
            if to == "Active" {
                let minted = self.pairs.last().and_then(|pair| pair.tokens.as_ref());
                let ends = self.ends(g, minted, self.grants[g].refers);
                let grant = &mut self.grants[g];
                (grant.access_ends, grant.refresh_ends) = (grant.access_ends.max(ends.0), ends.1);
            }
            self.note(g).await;
        }
        self.look_at_grant(g).await;
    }

    /// The gateway refreshes stored tokens on its own.
    pub(crate) async fn renew(&mut self, g: usize, refused: bool, owner: u8, alone: bool) {
        let attempt = RefreshAttempt {
            id: self.id(),
            owner: self.owners[usize::from(owner % 2)],
            is_exclusive: alone,
        };
        let (now, was) = (self.now(), self.grants[g].clone());
        let latest = was.latest.as_ref().map(|tokens| tokens.access.clone());
        // The refused token may also be an older stored one.
        let token = latest
            .filter(|_| refused)
            .or_else(|| Some(UpstreamAccessToken::new(Secret::from("before"))));
        let mut next = was.clone();
        let expected = self
            .there(g)
            .and_then(|()| next.renewed(refused, attempt, now).map_err(TransitionError::Rejected));
        let step = |record: GrantRecord| record.renewal_started(token.as_ref(), attempt, now);
        let moved = self.store.update(&self.grant_handle(g), step).await;
        let (expected, wanted) = match expected {
            Ok(token) => (Ok(()), Some(token)),
            Err(why) => (Err(why), None),
        };
        if let Some((_, LeasedRefresh { token, data: held, .. })) = went(moved, &expected) {
            assert_eq!((Some(token), held.generation()), (wanted, was.generation));
            self.walk(
                if was.life == Life::Active { "Active" } else { "Refreshing" },
                "renewal_started",
                "Refreshing",
            );
            self.attempts.push((g, attempt.id));
            self.grants[g] = next;
            self.note(g).await;
        }
        self.look_at_grant(g).await;
    }

    /// An access pair's lifetime passes, and the provider is asked about the user.
    pub(crate) async fn check_user_later(&mut self, g: usize, owner: u8, alone: bool) {
        self.time.fetch_add(self.rules.ttl.access, Ordering::SeqCst);
        self.check_user(g, owner, alone).await;
    }

    /// The provider is asked about the user, once in the lifetime of an access pair.
    pub(crate) async fn check_user(&mut self, g: usize, owner: u8, alone: bool) {
        let attempt = RefreshAttempt {
            id: self.id(),
            owner: self.owners[usize::from(owner % 2)],
            is_exclusive: alone,
        };
        let (now, interval, was) = (self.now(), self.rules.ttl.access, self.grants[g].clone());
        let is_due = was.checked.is_some_and(|checked| now >= checked.plus_seconds(interval));
        let expected = self.there(g).and_then(|()| {
            was.is_free(attempt, now).map_err(TransitionError::Rejected)?;
            is_due.then_some(()).ok_or(TransitionError::Rejected(RejectReason::NotNeeded))
        });
        let step = |record: GrantRecord| record.user_check_started(interval, attempt, now);
        let moved = self.store.update(&self.grant_handle(g), step).await;
        if went(moved, &expected).is_some() {
            let from = if was.life == Life::Active { "Active" } else { "Refreshing" };
            self.walk(from, "user_check_started", "Refreshing");
            self.grants[g].life = Life::Refreshing {
                attempt: attempt.id,
                owner: attempt.owner,
                lease: now.plus_seconds(LEASE),
                silent: true,
            };
            self.checks.push((g, attempt.id));
            self.note(g).await;
        }
        self.look_at_grant(g).await;
    }

    /// The provider answers with a new token, and then confirms the user, says nothing, or ends the
    /// session.
    pub(crate) async fn answer_check(&mut self, c: usize, confirms: bool, ends: bool) {
        let ((g, id), now, expected) = (self.checks[c], self.now(), self.holding(self.checks[c]));
        let (longest, token) = (self.rules.ttl.access, Secret::from(self.draw()));
        if ends {
            let step = |s: Refreshing| s.refused(id, now, longest);
            if went(self.store.transition(&self.grant_handle(g), step).await, &expected).is_some() {
                self.walk("Refreshing", "refused", "Ended");
                self.grants[g].tombstone(now, longest);
                self.note(g).await;
            }
            return self.look_at_grant(g).await;
        }
        let step = |s: Refreshing| s.session_rotated(id, token.clone());
        if went(self.store.transition(&self.grant_handle(g), step).await, &expected).is_none() {
            return self.look_at_grant(g).await;
        }
        self.walk("Refreshing", "session_rotated", "Refreshing");
        self.note(g).await;
        let handle = self.grant_handle(g);
        let record = self.store.read(&handle).await.unwrap().unwrap();
        let who = record.data().unwrap().who.clone();
        assert_eq!(who.provider_session.unwrap().token, token, "the new token is not stored");
        let moved = if confirms {
            let identity = who.identity.unwrap();
            let step = |s: Refreshing| s.user_confirmed(id, identity.clone(), now);
            self.store.transition(&handle, step).await.map(drop)
        } else {
            self.store.transition(&handle, |s: Refreshing| s.released(id)).await.map(drop)
        };
        moved.unwrap();
        self.walk("Refreshing", if confirms { "user_confirmed" } else { "released" }, "Active");
        let grant = &mut self.grants[g];
        grant.life = Life::Active;
        if confirms {
            grant.checked = Some(now);
        }
        self.note(g).await;
        self.look_at_grant(g).await;
    }

    /// The upstream refuses the stored token and issues a newer one at once.
    pub(crate) async fn renew_and_answer(&mut self, g: usize, gives: Gives) {
        let before = self.attempts.len();
        self.renew(g, true, 0, true).await;
        if self.attempts.len() > before {
            self.answer(before, gives).await;
        }
    }

    /// Presents the previous pair `seconds` after this pair was used.
    pub(crate) async fn late(&mut self, p: usize, seconds: u64) {
        self.prove(p).await;
        self.time.fetch_add(seconds, Ordering::SeqCst);
        self.present(self.before(p), None, 0, (true, false)).await;
    }

    /// The process dies while it refreshes this pair. The next process gets the previous pair.
    pub(crate) async fn crash(&mut self, p: usize) {
        self.present(p, None, 0, (true, false)).await;
        self.present(self.before(p), None, 1, (true, false)).await;
    }

    /// The store loses a refresh of this pair, and the client does not.
    pub(crate) async fn forget(&mut self, p: usize, gives: Gives) {
        let g = self.pairs[p].grant;
        self.backup(g).await;
        self.present(p, None, 0, (true, false)).await;
        if let Some(newest) = self.attempts.len().checked_sub(1) {
            self.answer(newest, gives).await;
        }
        self.restore(g).await;
        self.present(self.pairs.len() - 1, None, 0, (true, false)).await;
    }

    /// A pair of the previous generation, if there is one.
    fn before(&self, p: usize) -> usize {
        let Pair { grant, generation, .. } = self.pairs[p];
        let before = self
            .pairs
            .iter()
            .position(|pair| pair.grant == grant && pair.generation + 1 == generation);
        before.unwrap_or(p)
    }

    /// Asserts the outcome of a presented pair, and returns the name of the new state.
    fn led(&mut self, g: usize, led: RefreshOutcome, expected: &Outcome, attempt: RefreshAttempt, kept: bool) -> &'static str {
        let source = match (led, expected) {
            (RefreshOutcome::Accepted(step), _) => step.source,
            (RefreshOutcome::Ended(..), Outcome::Ended) => return "Ended",
            (led @ RefreshOutcome::Ended(..), expected) => panic!("{led:?}, not {expected:?}"),
        };
        match (source, expected) {
            (
                AnswerSource::Data {
                    branch,
                    tokens,
                    data: held,
                },
                Outcome::Answer(wanted, wanted_branch, current),
            ) => {
                assert_eq!(
                    (held.generation(), branch, &tokens),
                    (*wanted, *wanted_branch, current),
                    "not the current generation and branch"
                );
                assert_eq!(held.credential().is_reference(), kept);
                self.mint(g, (held.generation(), branch), tokens, kept);
                "Active"
            }
            (AnswerSource::Upstream(LeasedRefresh { token, .. }), Outcome::Ask(wanted)) => {
                assert_eq!(token, *wanted, "the upstream is asked with another token");
                self.attempts.push((g, attempt.id));
                "Refreshing"
            }
            (led, expected) => panic!("{led:?}, not {expected:?}"),
        }
    }

    /// Whether this attempt holds the lease. Only one attempt can hold it.
    fn holds(&self, a: usize) -> Result<(), Refusal> {
        self.holding(self.attempts[a])
    }

    fn holding(&self, (g, id): (usize, Id)) -> Result<(), Refusal> {
        self.there(g)?;
        match self.grants[g].life {
            Life::Refreshing { attempt, .. } if attempt == id => Ok(()),
            Life::Refreshing { .. } => Err(TransitionError::Rejected(RejectReason::LeaseLost)),
            Life::Unborn | Life::Active | Life::Ended { .. } => Err(TransitionError::WrongState),
        }
    }

    pub(crate) async fn answer(&mut self, a: usize, gives: Gives) {
        let ((g, id), now, expected) = (self.attempts[a], self.now(), self.holds(a));
        let mut tokens = self.tokens(gives);
        // Without a new refresh token the old one stays valid. The model uses a new one of its own.
        tokens.refresh = tokens.refresh.or_else(|| self.tokens(Gives { refresh: true, life: None }).refresh);
        if expected == Err(TransitionError::Rejected(RejectReason::LeaseLost)) {
            self.meet("an answer to an attempt that lost its lease");
        }
        let (rules, kept) = (self.rules, self.rules.mode == TokenMode::Reference);
        let ends = self.ends(g, Some(&tokens), kept);
        let step = |s: Refreshing| s.answered(id, tokens.clone(), rules, now);
        let moved = self.store.transition(&self.grant_handle(g), step).await;
        if let Some(moved) = went(moved, &expected) {
            self.walk("Refreshing", "answered", "Active");
            let grant = &mut self.grants[g];
            let before = grant.generation;
            let silent = matches!(grant.life, Life::Refreshing { silent: true, .. });
            (grant.life, grant.latest, grant.refused) = (Life::Active, Some(tokens.clone()), None);
            if silent {
                grant.renewed = Some(now);
                assert_eq!(moved.effect.generation(), before);
                self.meet("a successor of what is kept, of which the client knows nothing");
                self.note(g).await;
                return self.look_at_grant(g).await;
            }
            grant.supersede(now);
            grant.refers = kept;
            assert_eq!(moved.effect.generation(), before + 1);
            (grant.access_ends, grant.refresh_ends) = (grant.access_ends.max(ends.0), ends.1);
            self.note(g).await;
            self.mint(g, (before + 1, 0), Some(tokens), kept);
        }
        self.look_at_grant(g).await;
    }

    pub(crate) async fn refuse(&mut self, a: usize) {
        let ((g, id), now, expected) = (self.attempts[a], self.now(), self.holds(a));
        let longest = self.rules.ttl.access;
        let moved = self
            .store
            .transition(&self.grant_handle(g), |s: Refreshing| s.refused(id, now, longest))
            .await;
        if went(moved, &expected).is_some() {
            self.walk("Refreshing", "refused", "Ended");
            self.grants[g].tombstone(now, longest);
            self.note(g).await;
        }
        self.look_at_grant(g).await;
    }

    pub(crate) async fn release(&mut self, a: usize) {
        let ((g, id), expected) = (self.attempts[a], self.holds(a));
        let moved = self.store.transition(&self.grant_handle(g), |s: Refreshing| s.released(id)).await;
        if went(moved, &expected).is_some() {
            self.walk("Refreshing", "released", "Active");
            self.grants[g].life = Life::Active;
            self.note(g).await;
        }
        self.look_at_grant(g).await;
    }

    /// Ends the grant, or writes a tombstone if the grant has no record.
    pub(crate) async fn end(&mut self, g: usize) {
        let (now, longest, handle, expected) = (self.now(), self.rules.ttl.access, self.grant_handle(g), self.there(g));
        let was = self.grants[g].life.clone();
        let moved = self
            .store
            .update(&handle, |record: GrantRecord| Ok::<_, RejectReason>(record.ended(now, longest)))
            .await;
        if let Some((_, held)) = went(moved, &expected) {
            assert_eq!(held.is_some(), !self.grants[g].has_ended());
            match was {
                Life::Active => self.walk("Active", "ended", "Ended"),
                Life::Refreshing { .. } => self.walk("Refreshing", "ended", "Ended"),
                Life::Ended { .. } | Life::Unborn => return self.look_at_grant(g).await,
            }
            self.grants[g].tombstone(now, longest);
        } else {
            let tombstone = Ended::without_grant(now, self.rules.ttl.access);
            self.store.insert(self.grants[g].id, tombstone).await.unwrap();
            let grant = &mut self.grants[g];
            (grant.life, grant.swept) = (
                Life::Ended {
                    until: now.plus_seconds(self.rules.ttl.access + 300),
                },
                false,
            );
        }
        self.note(g).await;
        self.look_at_grant(g).await;
    }

    /// A pair is used at the MCP endpoint.
    pub(crate) async fn prove(&mut self, p: usize) {
        let Pair {
            grant: g,
            generation,
            branch,
            ..
        } = self.pairs[p];
        let (expected, now) = (self.there(g), self.now());
        let step = |record: GrantRecord| Ok::<_, RejectReason>(record.used(generation, branch, now));
        let moved = self.store.update(&self.grant_handle(g), step).await;
        if let Some((_, branch_use)) = went(moved, &expected) {
            let grant = &mut self.grants[g];
            let is_abandoned = !grant.has_ended() && grant.is_abandoned(generation, branch);
            assert_eq!(branch_use == BranchUse::Abandoned, is_abandoned);
            if is_abandoned {
                self.met.insert("a use of an abandoned branch");
            } else if grant.generation == generation && !grant.has_ended() {
                grant.proved = true;
                grant.branches = grant.branches.max(branch + 1);
            }
            self.note(g).await;
        }
        self.look_at_grant(g).await;
    }

    /// The upstream answers 401 to a pair.
    pub(crate) async fn unauthorized(&mut self, p: usize) {
        let Pair { grant: g, generation, .. } = self.pairs[p];
        let (now, longest, expected) = (self.now(), self.rules.ttl.access, self.there(g));
        let step = |record: GrantRecord| Ok::<_, RejectReason>(record.upstream_401_seen(generation, now, longest));
        let moved = self.store.update(&self.grant_handle(g), step).await;
        if let Some((_, ended)) = went(moved, &expected) {
            let grant = &mut self.grants[g];
            let judged = grant.kept != Kept::Refresh && !grant.has_ended();
            let soon = grant.refused.filter(|(at, _)| now.seconds_since(*at) <= 300);
            // A second 401, for a pair that was reissued after the first one.
            let circles = judged && soon.is_some_and(|(_, then)| generation > then);
            assert_eq!(ended, circles);
            if circles {
                grant.tombstone(now, longest);
                self.met.insert("an upstream that refuses in circles");
            } else if judged && soon.is_none() {
                grant.refused = Some((now, generation));
            }
            self.note(g).await;
        }
        self.look_at_grant(g).await;
    }

    pub(crate) async fn tidy(&mut self, g: usize) {
        let (now, rules, expected) = (self.now(), self.rules, self.there(g));
        let step = |record: GrantRecord| Ok::<_, RejectReason>((record.pruned(rules, now), ()));
        let moved = self.store.update(&self.grant_handle(g), step).await;
        if went(moved, &expected).is_some() {
            let grant = &mut self.grants[g];
            // Not while an older pair is still valid within the reuse window.
            let (begun, mut superseded) = (grant.granted, grant.superseded.iter());
            let over = begun.plus_seconds(rules.reuse_window.native) <= now
                && superseded.all(|(_, at)| at.plus_seconds(rules.reuse_window.native) <= now);
            if grant.proved && over && !grant.refers && !grant.has_ended() {
                grant.latest = None;
            }
            self.note(g).await;
        }
        self.look_at_grant(g).await;
    }

    /// Copies a record and its model.
    pub(crate) async fn backup(&mut self, g: usize) {
        self.look_at_grant(g).await;
        let grant = &self.grants[g];
        if grant.is_there(self.now()) && !grant.has_ended() {
            let copy = grant.clone();
            self.backups.insert(g, copy);
        }
    }

    /// Restores the copy of a grant that has not ended. The clients keep their newer pairs.
    pub(crate) async fn restore(&mut self, g: usize) {
        let (now, there) = (self.now(), self.grants[g].is_there(self.now()));
        let Some(copy) = self
            .backups
            .get(&g)
            .filter(|copy| there && copy.is_there(now) && !self.grants[g].has_ended())
            .cloned()
        else {
            return;
        };
        let step = |_: GrantRecord| Ok::<_, RejectReason>((serde_json::from_value(copy.seen.clone()).unwrap(), ()));
        self.store.update(&self.grant_handle(g), step).await.unwrap();
        self.grants[g] = copy;
        self.look_at_grant(g).await;
    }

    /// Notes the record that the last accepted transition left.
    async fn note(&mut self, g: usize) {
        let there = self.stored::<GrantRecord>(self.grants[g].id).await;
        self.grants[g].seen = there.as_ref().map_or(Value::Null, text);
    }

    /// Asserts that the record is as expected and as the last transition left it, or has expired.
    pub(crate) async fn look_at_grant(&self, g: usize) {
        let grant = &self.grants[g];
        let there = self.stored::<GrantRecord>(grant.id).await;
        assert_eq!(there.is_some(), grant.is_there(self.now()));
        let Some(there) = there else { return };
        assert_eq!(text(&there), grant.seen, "something changed it that had no business to");
        match (&there, &grant.life) {
            (GrantRecord::Active(_), Life::Active) | (GrantRecord::Refreshing(_), Life::Refreshing { .. }) => {}
            (GrantRecord::Ended(_), Life::Ended { until }) => {
                assert_eq!(there.ended_until(), Some(*until));
                self.outlives_its_pairs(g, *until);
            }
            _ => panic!("it is {}, not {:?}", grant.seen["state"], grant.life),
        }
        if let Some(held) = there.data() {
            assert_eq!(
                (
                    held.generation(),
                    held.latest(),
                    held.credential().is_reference(),
                    held.credential().is_refreshable()
                ),
                (grant.generation, grant.latest.as_ref(), grant.refers, grant.kept == Kept::Refresh)
            );
            assert_eq!(held.client_id, self.clients[grant.client].client_id());
            assert_eq!(grant.seen["is"]["held"]["proved"], grant.proved);
            if let Life::Refreshing { attempt, .. } = &grant.life {
                assert_eq!(grant.seen["is"]["attempt"], attempt.to_string());
            }
        }
    }

    /// Asserts that the tombstone outlives every access pair, even those that a restore lost.
    fn outlives_its_pairs(&self, g: usize, until: UnixTime) {
        for pair in self.pairs.iter().filter(|pair| pair.grant == g) {
            assert!(
                pair.access_ends <= until,
                "{pair:?} outlives the tombstone, which goes at {until:?}"
            );
        }
    }
}
