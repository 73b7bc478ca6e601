//! What a journey leaves behind: a grant, one record, refreshed for weeks. `Active ⇄ Refreshing → Ended`.

use serde::{Deserialize, Serialize};

use crate::base::ids::Id;
use crate::base::record::{Record, states};
use crate::base::time::UnixTime;
use crate::flow::rejected::Rejected;
use crate::oauth::answer::{Tokens, UpstreamRefresh};
use crate::oauth::scope::Scopes;
use crate::token::lifetime::{self, Ttl};

/// How long an attempt to refresh may hold the grant, in seconds: longer than the longest upstream attempt.
pub const LEASE: u64 = 75;
/// How many superseded generations are remembered.
const REMEMBERED: usize = 16;
/// An equivalent pair must live at least so long, in seconds, or the upstream is asked.
const WORTHWHILE: u64 = 60;
/// A second upstream 401 within this many seconds of the first ends a grant that cannot be refreshed.
const TWICE: u64 = 300;

/// What does not change, or only grows: travels through all living states.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Held {
    /// The client that it was given to.
    pub client_id: String,
    /// The service that it is for.
    pub service: String,
    /// Who signed in.
    pub subject: String,
    /// What was granted.
    pub scopes: Scopes,
    /// When it began.
    pub granted: UnixTime,
    /// The current generation.
    generation: u32,
    /// The current one was seen coming back: the client has it.
    proved: bool,
    /// When each of the last generations was superseded, newest last.
    superseded: Vec<(u32, UnixTime)>,
    /// The upstream's latest answer, until the current generation is proved and the grace is over, and no longer.
    latest: Option<Tokens>,
    /// When the latest access pair ends; a tombstone must outlive it.
    access_ends: UnixTime,
    /// When the upstream last said 401 to a token that cannot be refreshed, and at which generation.
    refused: Option<(UnixTime, u32)>,
    /// When the refresh pair ends.
    refresh_ends: UnixTime,
}

/// A grant at peace.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Active {
    held: Held,
}

/// A grant whose upstream is being asked, by the attempt that holds the lease.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refreshing {
    held: Held,
    attempt: Id,
    owner: Id,
    lease: UnixTime,
}

/// A tombstone: kept until no access pair of the grant can be alive.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ended {
    expires: UnixTime,
}

/// A grant at rest.
#[derive(Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
#[expect(clippy::large_enum_variant, reason = "at rest it is text; in memory it lives for a moment")]
pub enum GrantRecord {
    /// See [`Active`].
    Active(Active),
    /// See [`Refreshing`].
    Refreshing(Refreshing),
    /// See [`Ended`].
    Ended(Ended),
}

states!(GrantRecord: Active, Refreshing, Ended);

impl Record for GrantRecord {
    const SPACE: &'static str = "grant";

    fn keep_until(&self) -> UnixTime {
        match self {
            Self::Active(s) => s.held.refresh_ends.max(s.held.access_ends),
            Self::Refreshing(s) => s.held.refresh_ends.max(s.held.access_ends).max(s.lease),
            Self::Ended(s) => s.expires,
        }
    }
}

/// The rules of one service about refreshing.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How long a superseded pair still gets an equivalent one, in seconds; 0 is the strict rule of RFC 9700.
    pub grace: u64,
    /// Lifetimes.
    pub ttl: Ttl,
}

/// What the presented refresh pair calls for.
#[derive(Clone, Debug)]
pub enum Presented {
    /// The upstream is to be asked with this token, under this attempt.
    Ask(UpstreamRefresh),
    /// An equivalent pair of this generation, from this answer; the upstream is left alone.
    Equivalent(u32, Tokens),
}

/// A refresh pair as presented.
#[derive(Clone, Debug)]
pub struct Presentation<'a> {
    /// Its generation.
    pub generation: u32,
    /// The client's id, authenticated.
    pub client_id: &'a str,
    /// The upstream's refresh token within it.
    pub upstream: Option<UpstreamRefresh>,
    /// The upstream's access token within it, where there is nothing to refresh with (GitHub OAuth Apps).
    pub reissue: Option<Tokens>,
}

/// Who wants to ask the upstream: a new attempt, in this process.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// Its own name.
    pub id: Id,
    /// The process.
    pub owner: Id,
    /// No other process uses the store: a lease of another owner is that of a process that died.
    pub alone: bool,
}

impl Held {
    /// A new grant's first generation.
    pub fn new(client_id: String, service: String, subject: String, scopes: Scopes, now: UnixTime) -> Self {
        Self {
            client_id,
            service,
            subject,
            scopes,
            granted: now,
            generation: 1,
            proved: false,
            superseded: Vec::new(),
            latest: None,
            access_ends: now,
            refused: None,
            refresh_ends: now,
        }
    }

    /// The current generation.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The upstream's latest answer, while it is kept.
    pub fn latest(&self) -> Option<&Tokens> {
        self.latest.as_ref()
    }

    /// When the upstream's latest answer is no longer needed, if it is kept and the client has its pair.
    pub fn tidy_at(&self, rules: Rules) -> Option<UnixTime> {
        let newest = self.superseded.last().map_or(UnixTime(0), |(_, at)| *at);
        (self.latest.is_some() && self.proved).then(|| newest.after(rules.grace))
    }

    /// When pairs of this grant end that are made now of the upstream's `tokens`: access, refresh.
    pub fn ends(&self, tokens: &Tokens, ttl: Ttl, now: UnixTime) -> (UnixTime, UnixTime) {
        // Without anything to refresh with, the upstream's own end is ours too.
        let upstream_end = if tokens.refresh.is_some() {
            tokens.refresh_expires
        } else {
            tokens.expires
        };
        (
            lifetime::access_ends(now, ttl.access, tokens.expires),
            lifetime::refresh_ends(now, ttl, self.granted, upstream_end),
        )
    }

    /// Notes when pairs of this grant end, so that the record and a tombstone outlive them (seconds since the epoch).
    #[must_use]
    pub fn ending(mut self, access_ends: UnixTime, refresh_ends: UnixTime) -> Self {
        self.access_ends = self.access_ends.max(access_ends);
        self.refresh_ends = refresh_ends;
        self
    }

    fn supersede(&mut self, now: UnixTime) {
        self.superseded.push((self.generation, now));
        let excess = self.superseded.len().saturating_sub(REMEMBERED);
        self.superseded.drain(..excess);
        self.generation += 1;
        self.proved = false;
    }

    /// Whether a pair of an older generation still gets an equivalent one.
    fn in_grace(&self, generation: u32, rules: Rules, now: UnixTime) -> bool {
        let recent = self
            .superseded
            .iter()
            .any(|(g, at)| *g == generation && now.since(*at) < rules.grace);
        let unproved = generation + 1 == self.generation && !self.proved;
        recent || unproved
    }

    /// What is done with a presented pair; notes that the current generation came back.
    fn present(&mut self, pair: &Presentation<'_>, rules: Rules, now: UnixTime) -> Result<Presented, Judged> {
        if pair.client_id != self.client_id {
            return Err(Judged::Refuse(Rejected::OtherClient));
        }
        if now >= self.refresh_ends {
            return Err(Judged::Refuse(Rejected::Expired));
        }
        if pair.generation > self.generation {
            // The pair is authentic, so the store went back in time: adopt what the client knows.
            self.generation = pair.generation;
            self.latest = None;
        }
        if pair.generation < self.generation {
            return self.present_older(pair.generation, rules, now);
        }
        self.proved = true;
        self.ask_or_reissue(pair.upstream.clone(), pair.reissue.clone(), now)
    }

    fn present_older(&mut self, generation: u32, rules: Rules, now: UnixTime) -> Result<Presented, Judged> {
        let Some(latest) = self.latest.clone().filter(|_| self.in_grace(generation, rules, now)) else {
            return Err(Judged::End);
        };
        let alive = latest.expires.is_none_or(|end| end > now.after(WORTHWHILE)) && self.access_ends > now.after(WORTHWHILE);
        if alive {
            return Ok(Presented::Equivalent(self.generation, latest));
        }
        // Too little life left to be worth handing out: it counts as a presentation of the current generation.
        let reissue = latest.refresh.is_none().then(|| latest.clone());
        self.ask_or_reissue(latest.refresh, reissue, now)
    }

    fn ask_or_reissue(&mut self, upstream: Option<UpstreamRefresh>, reissue: Option<Tokens>, now: UnixTime) -> Result<Presented, Judged> {
        if let Some(token) = upstream {
            return Ok(Presented::Ask(token));
        }
        match reissue.filter(|tokens| tokens.expires.is_none_or(|end| end > now)) {
            // The upstream has nothing to refresh with: the same token again, in a new generation.
            Some(tokens) => {
                self.supersede(now);
                self.latest = Some(tokens.clone());
                Ok(Presented::Equivalent(self.generation, tokens))
            }
            None => Err(Judged::Refuse(Rejected::Expired)),
        }
    }
}

/// How a presentation ends that gets no pair.
enum Judged {
    Refuse(Rejected),
    End,
}

/// Where a presentation leads.
#[derive(Debug)]
pub enum Next {
    /// Answer from what is there.
    Answer {
        /// The generation to mint.
        generation: u32,
        /// The upstream's tokens.
        tokens: Tokens,
        /// The grant.
        held: Held,
    },
    /// Ask the upstream.
    Ask {
        /// With this token.
        token: UpstreamRefresh,
        /// The grant.
        held: Held,
    },
    /// The grant was ended: a replay.
    Ended(Held),
}

impl GrantRecord {
    /// A refresh pair is presented: the next record, and what to do. One attempt wins; others are told to wait.
    pub fn presented(self, pair: &Presentation<'_>, attempt: Attempt, rules: Rules, now: UnixTime) -> Result<(Self, Next), Rejected> {
        let mut held = match self {
            Self::Active(active) => active.held,
            Self::Refreshing(running) => {
                let dead = running.lease <= now || (attempt.alone && running.owner != attempt.owner);
                if !dead {
                    return Err(Rejected::Busy);
                }
                running.held
            }
            Self::Ended(_) => return Err(Rejected::Replayed),
        };
        match held.present(pair, rules, now) {
            Ok(Presented::Equivalent(generation, tokens)) => {
                let (access_ends, refresh_ends) = held.ends(&tokens, rules.ttl, now);
                let held = held.ending(access_ends, refresh_ends);
                let next = Next::Answer {
                    generation,
                    tokens,
                    held: held.clone(),
                };
                Ok((Active { held }.into(), next))
            }
            Ok(Presented::Ask(token)) => {
                let next = Next::Ask { token, held: held.clone() };
                Ok((
                    Refreshing {
                        held,
                        attempt: attempt.id,
                        owner: attempt.owner,
                        lease: now.after(LEASE),
                    }
                    .into(),
                    next,
                ))
            }
            Err(Judged::End) => Ok((
                Ended {
                    expires: tombstone(&held, now),
                }
                .into(),
                Next::Ended(held),
            )),
            Err(Judged::Refuse(why)) => Err(why),
        }
    }

    /// The grant ends, whatever it was doing; also one that has ended already.
    pub fn end(self, now: UnixTime) -> (Self, Option<Held>) {
        match self {
            Self::Active(Active { held }) | Self::Refreshing(Refreshing { held, .. }) => (
                Ended {
                    expires: tombstone(&held, now),
                }
                .into(),
                Some(held),
            ),
            Self::Ended(ended) => (ended.into(), None),
        }
    }

    /// The living grant.
    pub fn held(&self) -> Option<&Held> {
        match self {
            Self::Active(s) => Some(&s.held),
            Self::Refreshing(s) => Some(&s.held),
            Self::Ended(_) => None,
        }
    }

    /// The living grant, to note something on it.
    fn held_mut(&mut self) -> Option<&mut Held> {
        match self {
            Self::Active(s) => Some(&mut s.held),
            Self::Refreshing(s) => Some(&mut s.held),
            Self::Ended(_) => None,
        }
    }

    /// When the tombstone goes, if it is one.
    pub fn ended_until(&self) -> Option<UnixTime> {
        match self {
            Self::Ended(s) => Some(s.expires),
            Self::Active(_) | Self::Refreshing(_) => None,
        }
    }

    /// Notes that the client has the pair of `generation`.
    #[must_use]
    pub fn proved(mut self, generation: u32) -> Self {
        if let Some(held) = self.held_mut().filter(|held| held.generation == generation) {
            held.proved = true;
        }
        self
    }

    /// Drops the upstream's latest answer when nobody can need it any more.
    #[must_use]
    pub fn tidied(mut self, rules: Rules, now: UnixTime) -> Self {
        if let Some(held) = self.held_mut().filter(|held| held.tidy_at(rules).is_some_and(|at| at <= now)) {
            held.latest = None;
        }
        self
    }

    /// The upstream said 401 to a token of `generation` that cannot be refreshed. A second time within five minutes,
    /// after it was re-issued, ends the grant: the client signs in again instead of going in circles.
    pub fn refused_upstream(mut self, generation: u32, now: UnixTime) -> (Self, bool) {
        let Some(held) = self.held_mut() else { return (self, false) };
        match held.refused {
            Some((at, then)) if generation > then && now.since(at) <= TWICE => (self.end(now).0, true),
            Some((at, then)) if generation <= then && now.since(at) <= TWICE => (self, false),
            Some(_) | None => {
                held.refused = Some((now, generation));
                (self, false)
            }
        }
    }
}

fn tombstone(held: &Held, now: UnixTime) -> UnixTime {
    held.access_ends.max(now).after(300)
}

impl Active {
    /// The grant of a code just redeemed.
    pub fn new(held: Held) -> Self {
        Self { held }
    }
}

impl Refreshing {
    /// The upstream answered: its answer is kept before ours is sent. Only the attempt that holds the lease may say so.
    pub fn answered(self, attempt: Id, tokens: Tokens, ends: (UnixTime, UnixTime), now: UnixTime) -> Result<(Active, Held), Rejected> {
        let mut held = self.owned_by(attempt)?;
        held.supersede(now);
        held.latest = Some(tokens);
        held.refused = None;
        let held = held.ending(ends.0, ends.1);
        Ok((Active { held: held.clone() }, held))
    }

    /// The upstream refused for good.
    pub fn refused(self, attempt: Id, now: UnixTime) -> Result<(Ended, Held), Rejected> {
        let held = self.owned_by(attempt)?;
        Ok((
            Ended {
                expires: tombstone(&held, now),
            },
            held,
        ))
    }

    /// Nothing came of it: as before, and the next refresh asks again with the same token.
    pub fn released(self, attempt: Id) -> Result<(Active, ()), Rejected> {
        Ok((
            Active {
                held: self.owned_by(attempt)?,
            },
            (),
        ))
    }

    fn owned_by(self, attempt: Id) -> Result<Held, Rejected> {
        if self.attempt == attempt {
            Ok(self.held)
        } else {
            Err(Rejected::LeaseLost)
        }
    }
}

impl Ended {
    /// A tombstone for a grant that is not there yet: a replayed code must not become one.
    pub fn before_it_began(now: UnixTime, ttl: Ttl) -> Self {
        Self {
            expires: now.after(ttl.access).after(300),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Digest;
    use crate::base::secret::Secret;
    use crate::oauth::answer::UpstreamAccess;

    const RULES: Rules = Rules {
        grace: 7_200,
        ttl: Ttl {
            access: 3_600,
            refresh: 100_000,
            absolute: 1_000_000,
        },
    };

    fn attempt(name: &str) -> Attempt {
        let id = Id(Digest::of(name).short());
        Attempt {
            id,
            owner: id,
            alone: true,
        }
    }

    fn tokens(refresh: Option<&str>) -> Tokens {
        Tokens {
            access: UpstreamAccess::new(Secret::from("access")),
            refresh: refresh.map(|text| UpstreamRefresh::new(Secret::from(text))),
            expires: None,
            refresh_expires: None,
            scope: None,
        }
    }

    fn grant(tokens: &Tokens) -> GrantRecord {
        let now = UnixTime(0);
        let held = Held::new("client".into(), "default".into(), "alice".into(), Scopes::default(), now);
        let (access_ends, refresh_ends) = held.ends(tokens, RULES.ttl, now);
        Active::new(held.ending(access_ends, refresh_ends)).into()
    }

    /// Presents a pair of the first generation that carries a token to re-issue; the record after it.
    fn re_issued(record: GrantRecord, now: UnixTime) -> GrantRecord {
        let generation = record.held().unwrap().generation();
        let pair = Presentation {
            generation,
            client_id: "client",
            upstream: None,
            reissue: Some(tokens(None)),
        };
        let (next, what) = record
            .presented(&pair, attempt("one"), RULES, now)
            .unwrap_or_else(|why| panic!("{why}"));
        assert!(matches!(what, Next::Answer { .. }));
        next
    }

    #[test]
    fn a_record_and_its_tombstone_outlive_the_pairs_that_are_issued_without_asking_the_upstream() {
        let mut record = grant(&tokens(None));
        for now in [3_000, 90_000, 180_000] {
            record = re_issued(record, UnixTime(now));
            assert_eq!(record.keep_until(), UnixTime(now + RULES.ttl.refresh));
        }
        let (ended, _) = record.end(UnixTime(180_001));
        assert!(ended.ended_until().unwrap() > UnixTime(180_000 + RULES.ttl.access));
    }

    #[test]
    fn a_late_pair_that_gets_an_equivalent_one_is_outlived_too() {
        let now = UnixTime(0);
        let pair = Presentation {
            generation: 1,
            client_id: "client",
            upstream: Some(UpstreamRefresh::new(Secret::from("first"))),
            reissue: None,
        };
        let (record, _) = grant(&tokens(Some("first")))
            .presented(&pair, attempt("one"), RULES, now)
            .unwrap_or_else(|why| panic!("{why}"));
        let GrantRecord::Refreshing(running) = record else {
            panic!("the upstream is asked")
        };
        let (active, _) = running
            .answered(attempt("one").id, tokens(Some("second")), (UnixTime(3_600), UnixTime(100_000)), now)
            .unwrap();
        let late = UnixTime(3_000);
        let (record, what) = GrantRecord::from(active)
            .presented(&pair, attempt("two"), RULES, late)
            .unwrap_or_else(|why| panic!("{why}"));
        assert!(matches!(what, Next::Answer { generation: 2, .. }));
        let (ended, _) = record.end(late);
        assert!(ended.ended_until().unwrap() > late.after(RULES.ttl.access));
    }
}
