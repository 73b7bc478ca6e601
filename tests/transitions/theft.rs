//! Two holders of one refresh token: the client and a thief, in every order of events.

use mcp_oauth_gateway::base::ids::Id;
use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::base::time::UnixTime;
use mcp_oauth_gateway::flow::error::RejectReason;
use mcp_oauth_gateway::flow::grant::{Active, AnswerSource, BranchUse, GrantRecord, RefreshAttempt, RefreshOutcome};
use mcp_oauth_gateway::flow::grant_data::{GrantData, NewGrant};
use mcp_oauth_gateway::flow::refresh::{Acceptance, RefreshPayload, RefreshRequest};
use mcp_oauth_gateway::flow::refresh_rules::RefreshRules;
use mcp_oauth_gateway::flow::user::User;
use mcp_oauth_gateway::oauth::scope::Scopes;
use mcp_oauth_gateway::oauth::token_response::{UpstreamAccessToken, UpstreamRefreshToken, UpstreamTokens};
use mcp_oauth_gateway::token::header::TokenMode;
use mcp_oauth_gateway::token::lifetime::{ReuseWindow, Ttl};
use proptest::prelude::*;

const HOUR: u64 = 3_600;
/// For how long after a lost response its predecessor is accepted, in seconds.
const LOST_RESPONSE_SECONDS: u64 = 72 * HOUR;

/// The upstream credential of the grant.
#[derive(Clone, Copy, Debug)]
enum Upstream {
    /// A refresh token, with access tokens of this lifetime in seconds.
    RefreshToken(u64),
    /// An access token only.
    AccessToken,
    /// Nothing.
    Nothing,
}

/// One of the two holders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Client,
    Thief,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A holder refreshes, and may lose the response.
    Refresh { by: Holder, is_lost: bool },
    /// Both holders refresh at once. This one is served first.
    RefreshTogether { first: Holder },
    /// A holder uses its access token.
    Use(Holder),
    /// Time passes, in seconds.
    Wait(u64),
}

/// A holder's latest pair.
#[derive(Clone, Debug)]
struct Pair {
    generation: u32,
    branch: u8,
    tokens: Option<UpstreamTokens>,
}

struct Holding {
    pair: Pair,
    /// It refreshed since the holders had the same pair, and used the result.
    has_continued: bool,
    has_refreshed: bool,
}

struct World {
    record: Option<GrantRecord>,
    rules: RefreshRules,
    upstream: Upstream,
    now: UnixTime,
    attempts: u64,
    client: Holding,
    thief: Holding,
}

impl World {
    fn new(window: u64, upstream: Upstream, mode: TokenMode) -> Self {
        let rules = RefreshRules {
            reuse_window: ReuseWindow::for_all_clients(window),
            parallel_limit: None,
            ttl: Ttl::default(),
            mode,
            is_client_side: false,
        };
        let now = UnixTime(1_000_000);
        let tokens = issue(upstream, 0, now);
        let grant = NewGrant {
            client_id: "client".into(),
            is_native_client: true,
            service: "default".into(),
            who: User::with_name("alice"),
            scopes: Scopes::default(),
            issuer: None,
            tokens: tokens.clone(),
        };
        let holding = || Holding {
            pair: Pair {
                generation: 1,
                branch: 0,
                tokens: tokens.clone(),
            },
            has_continued: false,
            has_refreshed: false,
        };
        Self {
            record: Some(Active::new(GrantData::new(grant, rules, now)).into()),
            rules,
            upstream,
            now,
            attempts: 0,
            client: holding(),
            thief: holding(),
        }
    }

    fn holding(&mut self, holder: Holder) -> &mut Holding {
        match holder {
            Holder::Client => &mut self.client,
            Holder::Thief => &mut self.thief,
        }
    }

    fn has_ended(&self) -> bool {
        self.record.as_ref().is_none_or(|record| record.data().is_none())
    }

    fn is_current(&mut self, holder: Holder) -> bool {
        let generation = self.holding(holder).pair.generation;
        let data = self.record.as_ref().and_then(GrantRecord::data);
        data.is_some_and(|data| data.generation() == generation)
    }

    fn act(&mut self, event: Event) {
        match event {
            Event::Refresh { by, is_lost } => drop(self.refresh(by, false, is_lost)),
            Event::RefreshTogether { first } => {
                let second = if first == Holder::Client { Holder::Thief } else { Holder::Client };
                let (first_is_current, second_is_current) = (self.is_current(first), self.is_current(second));
                self.refresh(first, first_is_current, false);
                self.refresh(second, second_is_current, false);
            }
            Event::Use(by) => self.use_access_token(by),
            Event::Wait(seconds) => self.now = self.now.plus_seconds(seconds),
        }
        let (client, thief) = (&self.client.pair, &self.thief.pair);
        if (client.generation, client.branch) == (thief.generation, thief.branch) {
            for holding in [&mut self.client, &mut self.thief] {
                (holding.has_continued, holding.has_refreshed) = (false, false);
            }
        }
    }

    /// Presents a holder's refresh token. Returns why it was accepted.
    fn refresh(&mut self, by: Holder, was_current: bool, is_lost: bool) -> Option<Acceptance> {
        let record = self.record.take()?;
        let Pair {
            generation,
            branch,
            tokens,
        } = self.holding(by).pair.clone();
        let payload = match (self.rules.mode, tokens) {
            (_, None) => RefreshPayload::Nothing,
            (TokenMode::Reference, Some(_)) => RefreshPayload::Reference,
            (_, Some(UpstreamTokens { refresh: Some(token), .. })) => RefreshPayload::Refresh(token),
            (_, Some(tokens)) => RefreshPayload::Access(tokens),
        };
        let request = RefreshRequest {
            generation,
            branch,
            client_id: "client",
            is_native_client: true,
            was_current,
            payload,
        };
        self.attempts += 1;
        let attempt = RefreshAttempt {
            id: Id(u128::from(self.attempts).to_be_bytes()),
            owner: Id([0; 16]),
            is_exclusive: true,
        };
        let before: GrantRecord = serde_json::from_value(serde_json::to_value(&record).unwrap()).unwrap();
        let (record, outcome) = match record.presented(&request, attempt, self.rules, self.now) {
            Ok(presented) => presented,
            Err(RejectReason::Replayed | RejectReason::Expired) => {
                self.record = Some(before);
                return None;
            }
            Err(reason) => panic!("{reason}"),
        };
        let RefreshOutcome::Accepted(step) = outcome else {
            self.record = Some(record);
            return None;
        };
        let pair = match step.source {
            AnswerSource::Data { branch, tokens, data } => {
                self.record = Some(record);
                Pair {
                    generation: data.generation(),
                    branch,
                    tokens,
                }
            }
            AnswerSource::Upstream(_) => {
                let GrantRecord::Refreshing(refreshing) = record else {
                    panic!("the upstream is asked")
                };
                let tokens = issue(self.upstream, self.attempts, self.now).unwrap();
                let answered = refreshing.answered(attempt.id, tokens.clone(), self.rules, self.now);
                let (active, data) = answered.unwrap_or_else(|reason| panic!("{reason}"));
                self.record = Some(active.into());
                Pair {
                    generation: data.generation(),
                    branch: 0,
                    tokens: Some(tokens),
                }
            }
        };
        if !is_lost {
            let holding = self.holding(by);
            holding.pair = pair;
            holding.has_refreshed = true;
        }
        Some(step.acceptance)
    }

    fn use_access_token(&mut self, by: Holder) {
        let Some(record) = self.record.take() else { return };
        if record.data().is_none() {
            self.record = Some(record);
            return;
        }
        let (generation, branch) = (self.holding(by).pair.generation, self.holding(by).pair.branch);
        let (record, branch_use) = record.used(generation, branch, self.now);
        if branch_use == BranchUse::Abandoned {
            self.record = Some(record.ended(self.now, HOUR).0);
            return;
        }
        self.record = Some(record);
        let holding = self.holding(by);
        holding.has_continued |= holding.has_refreshed;
    }
}

/// What the upstream issues at its `n`th answer.
fn issue(upstream: Upstream, n: u64, now: UnixTime) -> Option<UpstreamTokens> {
    let (refresh, expires) = match upstream {
        Upstream::Nothing => return None,
        Upstream::AccessToken => (None, None),
        Upstream::RefreshToken(lifetime) => {
            let token = UpstreamRefreshToken::new(Secret::from(format!("refresh {n}")));
            (Some(token), Some(now.plus_seconds(lifetime)))
        }
    };
    Some(UpstreamTokens {
        access: UpstreamAccessToken::new(Secret::from(format!("access {n}"))),
        refresh,
        expires,
        refresh_expires: None,
        scope: None,
    })
}

fn holders() -> impl Strategy<Value = Holder> {
    prop_oneof![Just(Holder::Client), Just(Holder::Thief)]
}

fn upstreams() -> impl Strategy<Value = Upstream> {
    prop_oneof![
        Just(Upstream::RefreshToken(HOUR)),
        Just(Upstream::RefreshToken(50)),
        Just(Upstream::AccessToken),
        Just(Upstream::Nothing),
    ]
}

fn modes() -> impl Strategy<Value = TokenMode> {
    prop_oneof![Just(TokenMode::Sealed), Just(TokenMode::Reference)]
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (holders(), any::<bool>()).prop_map(|(by, is_lost)| Event::Refresh { by, is_lost }),
        1 => holders().prop_map(|first| Event::RefreshTogether { first }),
        4 => holders().prop_map(Event::Use),
        2 => prop_oneof![Just(1), Just(30), Just(61), Just(HOUR), Just(80 * HOUR)].prop_map(Event::Wait),
    ];
    prop::collection::vec(event, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn without_reuse_window_two_holders_never_both_continue(events in events(), upstream in upstreams(), mode in modes()) {
        let mut world = World::new(0, upstream, mode);
        for event in &events {
            world.act(*event);
            prop_assert!(!(world.client.has_continued && world.thief.has_continued), "both continue: {events:?}");
            if world.has_ended() {
                break;
            }
        }
    }

    #[test]
    fn with_any_reuse_window_two_holders_never_both_continue_outside_it(
        window in prop_oneof![Just(60), Just(7_200)], events in events(), upstream in upstreams(), mode in modes(),
    ) {
        let mut world = World::new(window, upstream, mode);
        for event in &events {
            // The holders never refresh within one window of each other, nor at once.
            if matches!(event, Event::Refresh { .. }) {
                world.act(Event::Wait(window + window / 15 + 1));
            }
            if !matches!(event, Event::RefreshTogether { .. }) {
                world.act(*event);
            }
            prop_assert!(!(world.client.has_continued && world.thief.has_continued), "both continue: {events:?}");
            if world.has_ended() {
                break;
            }
        }
    }

    #[test]
    fn lost_responses_alone_never_end_a_grant(
        window in prop_oneof![Just(0), Just(60), Just(7_200)], events in events(), upstream in upstreams(), mode in modes(),
    ) {
        let mut world = World::new(window, upstream, mode);
        // How long the client has not retried a lost refresh, in seconds.
        let mut since_lost = None;
        for event in events {
            match event {
                Event::Refresh { is_lost, .. } => {
                    world.act(Event::Refresh { by: Holder::Client, is_lost });
                    since_lost = is_lost.then_some(0);
                }
                Event::Use(_) => world.act(Event::Use(Holder::Client)),
                Event::Wait(seconds) if since_lost.is_none_or(|since: u64| since + seconds < LOST_RESPONSE_SECONDS) => {
                    since_lost = since_lost.map(|since| since + seconds);
                    world.act(event);
                }
                Event::Wait(_) | Event::RefreshTogether { .. } => {}
            }
            prop_assert!(!world.has_ended());
        }
    }

    #[test]
    fn concurrent_refreshes_of_one_pair_never_end_a_grant(
        window in prop_oneof![Just(0), Just(60), Just(7_200)], upstream in upstreams(), mode in modes(), users in prop::collection::vec(any::<bool>(), 32),
    ) {
        let mut world = World::new(window, upstream, mode);
        for _ in 0..3 {
            let pair = world.client.pair.clone();
            let mut received = Vec::new();
            for _ in 0..32 {
                world.client.pair = pair.clone();
                prop_assert!(world.refresh(Holder::Client, true, false).is_some());
                received.push(world.client.pair.clone());
            }
            for (pair, uses) in received.into_iter().zip(&users) {
                world.client.pair = pair;
                if *uses {
                    world.use_access_token(Holder::Client);
                }
                prop_assert!(!world.has_ended());
            }
        }
    }
}

#[test]
fn two_holders_that_keep_pace_are_ended_at_the_parallel_limit() {
    for thief_first in [false, true] {
        let mut world = World::new(60, Upstream::RefreshToken(HOUR), TokenMode::Sealed);
        world.rules.parallel_limit = Some(600);
        let mut rounds = 0;
        while !world.has_ended() {
            let order = if thief_first {
                [Holder::Thief, Holder::Client]
            } else {
                [Holder::Client, Holder::Thief]
            };
            for by in order {
                world.act(Event::Refresh { by, is_lost: false });
                world.act(Event::Use(by));
            }
            world.act(Event::Wait(30));
            rounds += 1;
        }
        assert!((20..24).contains(&rounds), "{rounds} rounds of 30 s");
    }
}

#[test]
fn retries_of_one_client_do_not_count_as_two_holders() {
    let mut world = World::new(60, Upstream::RefreshToken(HOUR), TokenMode::Sealed);
    world.rules.parallel_limit = Some(1);
    for _ in 0..200 {
        world.act(Event::Refresh {
            by: Holder::Client,
            is_lost: true,
        });
        world.act(Event::Wait(5));
        world.act(Event::Refresh {
            by: Holder::Client,
            is_lost: false,
        });
        world.act(Event::Use(Holder::Client));
        assert!(!world.has_ended());
        world.act(Event::Wait(1_000));
    }
}
