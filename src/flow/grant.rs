//! A grant, the result of a flow: one record, refreshed for weeks. `Active ⇄ Refreshing → Ended`.

use serde::{Deserialize, Serialize};

use crate::base::ids::Id;
use crate::base::record::{Record, states};
use crate::base::time::UnixTime;
use crate::flow::credential::{Credential, ReferenceStatus};
use crate::flow::error::RejectReason;
use crate::flow::grant_data::GrantData;
use crate::flow::refresh::{Acceptance, AcceptedRefresh, RefreshAction, RefreshDenial, RefreshRequest, ReuseReason};
use crate::flow::refresh_rules::RefreshRules;
use crate::oauth::token_response::{UpstreamAccessToken, UpstreamRefreshToken, UpstreamTokens};

/// The time for which an attempt to refresh may hold the grant, in seconds: longer than the longest upstream attempt.
pub const LEASE_SECONDS: u64 = 75;
/// A second upstream 401 within this many seconds of the first ends a grant that cannot be refreshed.
const REPEATED_401_SECONDS: u64 = 300;

/// A grant at peace.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Active {
    #[serde(rename = "held")]
    pub(super) data: GrantData,
}

/// A grant whose upstream is being asked, by the attempt that holds the lease.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refreshing {
    #[serde(rename = "held")]
    pub(super) data: GrantData,
    pub(super) attempt: Id,
    pub(super) owner: Id,
    pub(super) lease: UnixTime,
    /// The gateway started it without a client, so its result is not a new generation.
    #[serde(default)]
    #[serde(rename = "silent")]
    pub(super) is_proactive: bool,
    /// The branch of the current generation that is refreshed, if it is one.
    #[serde(default)]
    pub(super) branch: Option<u8>,
}

/// A tombstone. It stays until no access pair of the grant can be valid.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ended {
    expires: UnixTime,
}

/// A grant at rest.
#[derive(Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
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
    const KIND: &'static str = "grant";
    const VERSION: u32 = 2;
    const CLIENT_SIDE: bool = true;

    fn expires_at(&self) -> UnixTime {
        match self {
            Self::Active(s) => s.data.refresh_ends.max(s.data.access_ends),
            Self::Refreshing(s) => s.data.refresh_ends.max(s.data.access_ends).max(s.lease),
            Self::Ended(s) => s.expires,
        }
    }
}

/// A new attempt of this process to refresh at the upstream.
#[derive(Clone, Copy, Debug)]
pub struct RefreshAttempt {
    /// Its own name.
    pub id: Id,
    /// The process.
    pub owner: Id,
    /// No other process uses the store: a lease of another owner is that of a process that died.
    pub is_exclusive: bool,
}

/// A refresh at the upstream, for the attempt that has the lease.
#[derive(Debug)]
pub struct LeasedRefresh {
    /// The attempt.
    pub attempt: Id,
    /// The upstream's refresh token.
    pub token: UpstreamRefreshToken,
    /// The grant.
    pub data: GrantData,
}

/// The result of an accepted refresh pair.
#[derive(Debug)]
pub struct RefreshStep {
    /// The reason why it is accepted.
    pub acceptance: Acceptance,
    /// The upstream or the grant's data has the answer.
    pub source: AnswerSource,
}

/// The source of the answer to a refresh.
#[derive(Debug)]
pub enum AnswerSource {
    /// From the grant's data: a pair of the current generation.
    Data {
        /// The branch of the pair.
        branch: u8,
        /// The upstream's tokens, if it has any.
        tokens: Option<UpstreamTokens>,
        /// The grant.
        data: GrantData,
    },
    /// From the upstream.
    Upstream(LeasedRefresh),
}

/// The outcome of a presented refresh pair.
#[derive(Debug)]
pub enum RefreshOutcome {
    /// It is accepted.
    Accepted(RefreshStep),
    /// The grant was ended: a reuse.
    Ended(ReuseReason, GrantData),
}

/// The meaning of a use of an access pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BranchUse {
    /// The use is normal.
    Good,
    /// The branch is abandoned: the grant must end.
    Abandoned,
}

impl GrantRecord {
    /// A refresh pair is presented: the next record, and what to do. One attempt wins; others must wait.
    pub fn presented(
        self,
        pair: &RefreshRequest<'_>,
        attempt: RefreshAttempt,
        rules: RefreshRules,
        now: UnixTime,
    ) -> Result<(Self, RefreshOutcome), RejectReason> {
        let mut data = self.take_data(attempt, now)?;
        let AcceptedRefresh { acceptance, action } = match data.present(pair, rules, now) {
            Ok(accepted) => accepted,
            Err(RefreshDenial::Refuse(reason)) => return Err(reason),
            Err(RefreshDenial::End(reason)) => {
                let expires = tombstone_expiry(&data, now, rules.ttl.access);
                return Ok((Ended { expires }.into(), RefreshOutcome::Ended(reason, data)));
            }
        };
        let (record, source) = match action {
            RefreshAction::Equivalent { branch, tokens } => {
                let (access_ends, refresh_ends) = data.pair_expiry(tokens.as_ref(), rules.ttl, now);
                let data = data.with_expiry(access_ends, refresh_ends);
                let record = Active { data: data.clone() }.into();
                (record, AnswerSource::Data { branch, tokens, data })
            }
            RefreshAction::Ask(token) => {
                let refreshing = Refreshing {
                    data: data.clone(),
                    attempt: attempt.id,
                    owner: attempt.owner,
                    lease: now.plus_seconds(LEASE_SECONDS),
                    is_proactive: false,
                    branch: (acceptance == Acceptance::Current).then_some(pair.branch),
                };
                let refresh = LeasedRefresh {
                    attempt: attempt.id,
                    token,
                    data,
                };
                (refreshing.into(), AnswerSource::Upstream(refresh))
            }
        };
        Ok((record, RefreshOutcome::Accepted(RefreshStep { acceptance, source })))
    }

    /// The gateway itself asks the upstream for a successor of what it keeps, which is near its end or is
    /// the `refused_token`.
    /// The client's generation, and all that it holds, stays good. One attempt wins; others must wait.
    pub fn renewal_started(
        self,
        refused_token: Option<&UpstreamAccessToken>,
        attempt: RefreshAttempt,
        now: UnixTime,
    ) -> Result<(Self, LeasedRefresh), RejectReason> {
        let data = self.take_data(attempt, now)?;
        match data.credential.reference_status(refused_token, now) {
            ReferenceStatus::Renew(token) => {
                let next = Refreshing {
                    data: data.clone(),
                    attempt: attempt.id,
                    owner: attempt.owner,
                    lease: now.plus_seconds(LEASE_SECONDS),
                    is_proactive: true,
                    branch: None,
                };
                let refresh = LeasedRefresh {
                    attempt: attempt.id,
                    token,
                    data,
                };
                Ok((next.into(), refresh))
            }
            ReferenceStatus::Valid(_) | ReferenceStatus::Expired => Err(RejectReason::NotNeeded),
        }
    }

    /// The data of a grant that has not ended, unless an attempt that may still run has the lease.
    pub(super) fn take_data(self, attempt: RefreshAttempt, now: UnixTime) -> Result<GrantData, RejectReason> {
        match self {
            Self::Active(active) => Ok(active.data),
            Self::Refreshing(refreshing) => {
                let is_abandoned = refreshing.lease <= now || (attempt.is_exclusive && refreshing.owner != attempt.owner);
                if is_abandoned {
                    Ok(refreshing.data)
                } else {
                    Err(RejectReason::Busy)
                }
            }
            Self::Ended(_) => Err(RejectReason::Replayed),
        }
    }

    /// The grant ends, in any state, even if it has already ended. `max_access_ttl` is the longest lifetime of
    /// an access pair, in seconds.
    pub fn ended(self, now: UnixTime, max_access_ttl: u64) -> (Self, Option<GrantData>) {
        match self {
            Self::Active(Active { data }) | Self::Refreshing(Refreshing { data, .. }) => (
                Ended {
                    expires: tombstone_expiry(&data, now, max_access_ttl),
                }
                .into(),
                Some(data),
            ),
            Self::Ended(ended) => (ended.into(), None),
        }
    }

    /// The living grant.
    pub fn data(&self) -> Option<&GrantData> {
        match self {
            Self::Active(s) => Some(&s.data),
            Self::Refreshing(s) => Some(&s.data),
            Self::Ended(_) => None,
        }
    }

    /// The living grant, to note something on it.
    fn data_mut(&mut self) -> Option<&mut GrantData> {
        match self {
            Self::Active(s) => Some(&mut s.data),
            Self::Refreshing(s) => Some(&mut s.data),
            Self::Ended(_) => None,
        }
    }

    /// When the tombstone expires, if the grant has ended.
    pub fn ended_until(&self) -> Option<UnixTime> {
        match self {
            Self::Ended(s) => Some(s.expires),
            Self::Active(_) | Self::Refreshing(_) => None,
        }
    }

    /// Notes the use of an access pair of this generation and branch.
    pub fn used(mut self, generation: u32, branch: u8, now: UnixTime) -> (Self, BranchUse) {
        match self.data_mut() {
            Some(data) if data.is_abandoned(generation, branch) => return (self, BranchUse::Abandoned),
            Some(data) if data.generation == generation => data.note_use(branch, now),
            Some(_) | None => {}
        }
        (self, BranchUse::Good)
    }

    /// Drops the upstream's latest answer when no refresh can need it any more.
    #[must_use]
    pub fn pruned(mut self, rules: RefreshRules, now: UnixTime) -> Self {
        if let Some(data) = self.data_mut().filter(|data| data.prune_at(rules).is_some_and(|time| time <= now)) {
            data.replace_credential(Credential::without_latest);
        }
        self
    }

    /// The upstream said 401 to a token of `generation` that cannot be refreshed. A second time within five minutes,
    /// after it was re-issued, ends the grant: the client signs in again instead of going in circles.
    pub fn upstream_401_seen(mut self, generation: u32, now: UnixTime, max_access_ttl: u64) -> (Self, bool) {
        let Some(data) = self.data_mut().filter(|data| !data.credential.is_refreshable()) else {
            return (self, false);
        };
        match data.refused {
            Some((time, refused_generation)) if generation > refused_generation && now.seconds_since(time) <= REPEATED_401_SECONDS => {
                (self.ended(now, max_access_ttl).0, true)
            }
            Some((time, refused_generation)) if generation <= refused_generation && now.seconds_since(time) <= REPEATED_401_SECONDS => {
                (self, false)
            }
            Some(_) | None => {
                data.refused = Some((now, generation));
                (self, false)
            }
        }
    }
}

/// This covers more pairs than the record: after a restored backup of the store, clients have younger pairs.
fn tombstone_expiry(data: &GrantData, now: UnixTime, max_access_ttl: u64) -> UnixTime {
    data.access_ends.max(now.plus_seconds(max_access_ttl)).plus_seconds(300)
}

impl Active {
    /// The grant of a code just redeemed.
    pub fn new(data: GrantData) -> Self {
        Self { data }
    }
}

impl Refreshing {
    /// The upstream answered. Its answer is stored before the client gets one. Only the attempt with the lease may do this.
    pub fn answered(
        self,
        attempt: Id,
        tokens: UpstreamTokens,
        rules: RefreshRules,
        now: UnixTime,
    ) -> Result<(Active, GrantData), RejectReason> {
        let (is_proactive, branch) = (self.is_proactive, self.branch);
        let mut data = self.owned_by(attempt)?;
        data.refused = None;
        if is_proactive {
            data.replace_credential(|credential| credential.renewed(tokens, now));
        } else {
            data.supersede(branch, rules, now);
            let is_reference = data.needs_reference(&tokens, rules);
            data.replace_credential(|credential| credential.with_tokens(tokens, is_reference));
            let (access_ends, refresh_ends) = data.pair_expiry(data.latest(), rules.ttl, now);
            data = data.with_expiry(access_ends, refresh_ends);
        }
        Ok((Active { data: data.clone() }, data))
    }

    /// The upstream's refusal is final.
    pub fn refused(self, attempt: Id, now: UnixTime, max_access_ttl: u64) -> Result<(Ended, GrantData), RejectReason> {
        let data = self.owned_by(attempt)?;
        Ok((
            Ended {
                expires: tombstone_expiry(&data, now, max_access_ttl),
            },
            data,
        ))
    }

    /// The attempt had no result. The next refresh sends the same token again.
    pub fn released(self, attempt: Id) -> Result<(Active, ()), RejectReason> {
        Ok((
            Active {
                data: self.owned_by(attempt)?,
            },
            (),
        ))
    }

    pub(super) fn owned_by(self, attempt: Id) -> Result<GrantData, RejectReason> {
        if self.attempt == attempt {
            Ok(self.data)
        } else {
            Err(RejectReason::LeaseLost)
        }
    }
}

impl Ended {
    /// A tombstone for a grant that is not there yet: a replayed code must not become one.
    /// `max_access_ttl` is the longest life of an access pair, in seconds.
    pub fn without_grant(now: UnixTime, max_access_ttl: u64) -> Self {
        Self {
            expires: now.plus_seconds(max_access_ttl).plus_seconds(300),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Digest;
    use crate::base::secret::Secret;
    use crate::flow::grant_data::NewGrant;
    use crate::flow::refresh::RefreshPayload;
    use crate::flow::user::User;
    use crate::oauth::scope::Scopes;
    use crate::oauth::token_response::UpstreamAccessToken;
    use crate::token::header::TokenMode;
    use crate::token::lifetime::{ReuseWindow, Ttl};

    const RULES: RefreshRules = RefreshRules {
        reuse_window: ReuseWindow { native: 7_200, web: 7_200 },
        parallel_limit: None,
        ttl: Ttl {
            access: 3_600,
            refresh: 100_000,
            absolute: 1_000_000,
        },
        mode: TokenMode::Sealed,
        is_client_side: false,
    };

    fn attempt(name: &str) -> RefreshAttempt {
        let id = Id(Digest::new(name).truncated());
        RefreshAttempt {
            id,
            owner: id,
            is_exclusive: true,
        }
    }

    fn tokens(refresh: Option<&str>) -> UpstreamTokens {
        UpstreamTokens {
            access: UpstreamAccessToken::new(Secret::from("access")),
            refresh: refresh.map(|text| UpstreamRefreshToken::new(Secret::from(text))),
            expires: None,
            refresh_expires: None,
            scope: None,
        }
    }

    fn grant(tokens: &UpstreamTokens) -> GrantRecord {
        let now = UnixTime(0);
        let data = GrantData::new(
            NewGrant {
                client_id: "client".into(),
                is_native_client: true,
                service: "default".into(),
                who: User::with_name("alice"),
                scopes: Scopes::default(),
                issuer: Some("https://as".into()),
                tokens: Some(tokens.clone()),
            },
            RULES,
            now,
        );
        Active::new(data).into()
    }

    /// Presents a pair of the first generation that carries a token to re-issue; the record after it.
    fn re_issued(record: GrantRecord, now: UnixTime) -> GrantRecord {
        let generation = record.data().unwrap().generation();
        let pair = RefreshRequest {
            generation,
            branch: 0,
            client_id: "client",
            is_native_client: true,
            was_current: false,
            payload: RefreshPayload::Access(tokens(None)),
        };
        let (next, outcome) = record
            .presented(&pair, attempt("one"), RULES, now)
            .unwrap_or_else(|error| panic!("{error}"));
        assert!(matches!(
            outcome,
            RefreshOutcome::Accepted(RefreshStep {
                source: AnswerSource::Data { .. },
                ..
            })
        ));
        next
    }

    #[test]
    fn a_grant_and_its_tombstone_outlive_locally_reissued_pairs() {
        let mut record = grant(&tokens(None));
        for now in [3_000, 90_000, 180_000] {
            record = re_issued(record, UnixTime(now));
            assert_eq!(record.expires_at(), UnixTime(now + RULES.ttl.refresh));
        }
        let (ended, _) = record.ended(UnixTime(180_001), RULES.ttl.access);
        assert!(ended.ended_until().unwrap() > UnixTime(180_000 + RULES.ttl.access));
    }

    #[test]
    fn a_tombstone_outlives_a_pair_reissued_within_the_reuse_window() {
        let now = UnixTime(0);
        let pair = RefreshRequest {
            generation: 1,
            branch: 0,
            client_id: "client",
            is_native_client: true,
            was_current: false,
            payload: RefreshPayload::Refresh(UpstreamRefreshToken::new(Secret::from("first"))),
        };
        let (record, _) = grant(&tokens(Some("first")))
            .presented(&pair, attempt("one"), RULES, now)
            .unwrap_or_else(|error| panic!("{error}"));
        let GrantRecord::Refreshing(refreshing) = record else {
            panic!("the upstream is asked")
        };
        let (active, _) = refreshing.answered(attempt("one").id, tokens(Some("second")), RULES, now).unwrap();
        let later = UnixTime(3_000);
        let (record, outcome) = GrantRecord::from(active)
            .presented(&pair, attempt("two"), RULES, later)
            .unwrap_or_else(|error| panic!("{error}"));
        let RefreshOutcome::Accepted(RefreshStep {
            source: AnswerSource::Data { data, .. },
            ..
        }) = outcome
        else {
            panic!("an equivalent pair is issued")
        };
        assert_eq!(data.generation(), 2);
        let (ended, _) = record.ended(later, RULES.ttl.access);
        assert!(ended.ended_until().unwrap() > later.plus_seconds(RULES.ttl.access));
    }

    #[test]
    fn a_tombstone_in_a_restored_store_outlives_pairs_it_never_saw() {
        let pair_expiry = |now: u64| UnixTime(now + RULES.ttl.access);
        // The store was put back to the first hour; a pair made just before that ends an hour from now.
        let restored = || grant(&tokens(Some("first")));
        let now = UnixTime(50_000);
        let (ended, _) = restored().ended(now, RULES.ttl.access);
        assert!(ended.ended_until().unwrap() >= pair_expiry(now.0).plus_seconds(300));
        let unknown_pair = RefreshRequest {
            generation: 0,
            branch: 0,
            client_id: "client",
            is_native_client: true,
            was_current: false,
            payload: RefreshPayload::Refresh(UpstreamRefreshToken::new(Secret::from("older"))),
        };
        let (ended, _) = restored()
            .used(1, 0, now)
            .0
            .presented(&unknown_pair, attempt("one"), RULES, now)
            .unwrap_or_else(|error| panic!("{error}"));
        assert!(ended.ended_until().unwrap() >= pair_expiry(now.0).plus_seconds(300));
        let pair = RefreshRequest {
            generation: 1,
            ..unknown_pair
        };
        let (record, _) = restored()
            .presented(&pair, attempt("one"), RULES, now)
            .unwrap_or_else(|error| panic!("{error}"));
        let GrantRecord::Refreshing(refreshing) = record else {
            panic!("the upstream is asked")
        };
        let (ended, _) = refreshing.refused(attempt("one").id, now, RULES.ttl.access).unwrap();
        assert!(GrantRecord::from(ended).ended_until().unwrap() >= pair_expiry(now.0).plus_seconds(300));
    }
}
