//! A world of clients, browsers and one store, with a hand-written model of the store's content.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use mcp_oauth_gateway::base::ids::{Digest, Id};
use mcp_oauth_gateway::base::keyring::KeyRing;
use mcp_oauth_gateway::base::record::Record;
use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::base::time::{Clock, UnixTime};
use mcp_oauth_gateway::flow::client::RegisteredClient;
use mcp_oauth_gateway::flow::refresh_rules::RefreshRules;
use mcp_oauth_gateway::oauth::redirect_uri::RedirectUri;
use mcp_oauth_gateway::oauth::registration::{ClientAuthMethod, ClientRegistration};
use mcp_oauth_gateway::oauth::token_response::{UpstreamAccessToken, UpstreamRefreshToken, UpstreamTokens};
use mcp_oauth_gateway::store::{Backend, Handle, Memory, Store, TransitionError};
use mcp_oauth_gateway::token::header::TokenMode;
use mcp_oauth_gateway::token::lifetime::{ReuseWindow, Ttl};
use serde_json::Value;

use super::acts::{Act, Gives};
use super::grants::{Grant, Pair};
use super::journeys::Journey;

/// The maximum number of flows in one world: few, so that they often interact.
const MOST: usize = 12;
/// The key that seals the records of every world.
pub(crate) const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// The secret of the only confidential client.
pub(crate) const SECRET: &str = "the client's secret";

/// The clients, the store, and the model of its flows, grants and pairs.
pub(crate) struct World {
    pub time: Arc<AtomicU64>,
    pub store: Store,
    pub rules: RefreshRules,
    pub clients: Vec<RegisteredClient>,
    pub owners: [Id; 2],
    pub journeys: Vec<Journey>,
    pub grants: Vec<Grant>,
    pub pairs: Vec<Pair>,
    pub attempts: Vec<(usize, Id)>,
    /// Checks of users at the provider, each with its grant.
    pub checks: Vec<(usize, Id)>,
    /// Every transition that took place.
    pub walked: BTreeSet<(&'static str, &'static str, &'static str)>,
    /// The rare cases that occurred.
    pub met: BTreeSet<&'static str>,
    pub backups: BTreeMap<usize, Grant>,
    drawn: u64,
}

impl World {
    /// An empty world with a reuse window of `grace` seconds. `mode` says whether it stores tokens.
    pub(crate) fn new(grace: u64, mode: TokenMode) -> Self {
        let time = Arc::new(AtomicU64::new(1_000_000));
        let ring = KeyRing::single(KEY).unwrap();
        let keys = Arc::new(ArcSwap::from_pointee(ring));
        let ttl = Ttl {
            access: 3_600,
            refresh: 30 * 86_400,
            absolute: 90 * 86_400,
        };
        Self {
            store: Store::new(Backend::Memory(Memory::new()), keys, Clock::Fixed(time.clone())),
            time,
            rules: RefreshRules {
                reuse_window: ReuseWindow::for_all_clients(grace),
                parallel_limit: None,
                ttl,
                mode,
                is_client_side: false,
            },
            // The first two share a redirect URI. The third has a secret.
            clients: vec![
                client("one", &["http://localhost/cb", "https://one.example/cb?x=1"], None),
                client("two", &["http://localhost/cb"], None),
                client("three", &["app.three://cb"], Some(SECRET)),
            ],
            owners: [Id([1; 16]), Id([2; 16])],
            journeys: Vec::new(),
            grants: Vec::new(),
            pairs: Vec::new(),
            attempts: Vec::new(),
            checks: Vec::new(),
            walked: BTreeSet::new(),
            met: BTreeSet::new(),
            backups: BTreeMap::new(),
            drawn: 0,
        }
    }

    /// Runs `acts` and checks every record at the end.
    pub(crate) async fn live(&mut self, acts: &[Act]) {
        for act in acts {
            self.act(*act).await;
        }
        self.look_at_all().await;
        self.sweep().await;
        // Nothing is left when everything has expired: no record lives forever.
        self.time.fetch_add(100 * 86_400, Ordering::SeqCst);
        self.sweep().await;
        assert!(self.journeys.iter().all(|journey| journey.swept) && self.grants.iter().all(|grant| grant.swept));
    }

    /// Runs one act.
    pub(crate) async fn act(&mut self, act: Act) {
        match act {
            Act::Begin { client, state, service } if self.journeys.len() < MOST => drop(self.begin(client, state, service).await),
            Act::Journey {
                client,
                service,
                gives,
                moves,
            } if self.journeys.len() < MOST => self.journey(client, service, gives, moves).await,
            Act::Begin { client, .. } | Act::Journey { client, .. } => self.look_at(client).await,
            Act::Wait(seconds) => drop(self.time.fetch_add(seconds, Ordering::SeqCst)),
            Act::Sweep => self.sweep().await,
            Act::SignIn { flow, form } => on(flow, self.journeys.len(), async |i| self.sign_in(i, form).await).await,
            Act::ToIdp { flow, form, promise } => on(flow, self.journeys.len(), async |i| self.sent_to_idp(i, form, promise).await).await,
            Act::FromIdp { flow, bring, error: false } => on(flow, self.journeys.len(), async |i| self.back_from_idp(i, bring).await).await,
            Act::FromIdp { flow, bring, error: true } => on(flow, self.journeys.len(), async |i| self.refused_by_idp(i, bring).await).await,
            Act::RepeatAtIdp { flow, bring } => on(flow, self.journeys.len(), async |i| self.repeated_at_idp(i, bring).await).await,
            Act::CheckUser {
                grant,
                owner,
                alone,
                later: true,
            } => on(grant, self.grants.len(), async |i| self.check_user_later(i, owner, alone).await).await,
            Act::CheckUser {
                grant,
                owner,
                alone,
                later: false,
            } => on(grant, self.grants.len(), async |i| self.check_user(i, owner, alone).await).await,
            Act::AnswerCheck {
                check,
                confirms,
                owner_refuses,
            } => {
                on(check, self.checks.len(), async |i| {
                    self.answer_check(i, confirms, owner_refuses).await;
                })
                .await;
            }
            Act::Identified { flow, own } => on(flow, self.journeys.len(), async |i| self.identified(i, own).await).await,
            Act::NotIdentified { flow } => on(flow, self.journeys.len(), async |i| self.not_identified(i).await).await,
            Act::Unnamed { flow, form } => on(flow, self.journeys.len(), async |i| self.unnamed(i, form).await).await,
            Act::Granted { flow, form, gives } => on(flow, self.journeys.len(), async |i| self.granted_here(i, form, gives).await).await,
            Act::Approve { flow, form, promise } => on(flow, self.journeys.len(), async |i| self.approve(i, form, promise).await).await,
            Act::Deny { flow, form } => on(flow, self.journeys.len(), async |i| self.deny(i, form).await).await,
            Act::Return { flow, bring, error: false } => on(flow, self.journeys.len(), async |i| self.returned(i, bring).await).await,
            Act::Return { flow, bring, error: true } => on(flow, self.journeys.len(), async |i| self.refused(i, bring).await).await,
            Act::HandOn { flow, bring } => on(flow, self.journeys.len(), async |i| self.handed_on(i, bring).await).await,
            Act::Carry { flow, form } => on(flow, self.journeys.len(), async |i| self.carried_here(i, form).await).await,
            Act::Exchange { flow, gives } => on(flow, self.journeys.len(), async |i| self.exchanged(i, gives).await).await,
            Act::Fail { flow } => on(flow, self.journeys.len(), async |i| self.failed(i).await).await,
            Act::Redeem { flow, by, with, at_once } => {
                on(flow, self.journeys.len(), async |i| self.redeem(i, by, with, at_once).await).await;
            }
            Act::Grant { flow } => on(flow, self.journeys.len(), async |i| self.granted(i).await).await,
            Act::Present {
                pair,
                by,
                owner,
                alone,
                was_current,
            } => {
                on(pair, self.pairs.len(), async |i| {
                    self.present(i, by, owner, (alone, was_current)).await;
                })
                .await;
            }
            Act::Late { pair, seconds } => on(pair, self.pairs.len(), async |i| self.late(i, seconds).await).await,
            Act::Crash { pair } => on(pair, self.pairs.len(), async |i| self.crash(i).await).await,
            Act::Forget { pair, gives } => on(pair, self.pairs.len(), async |i| self.forget(i, gives).await).await,
            Act::Answer { attempt, gives } => on(attempt, self.attempts.len(), async |i| self.answer(i, gives).await).await,
            Act::Refuse { attempt } => on(attempt, self.attempts.len(), async |i| self.refuse(i).await).await,
            Act::Release { attempt } => on(attempt, self.attempts.len(), async |i| self.release(i).await).await,
            Act::End { grant } => on(grant, self.grants.len(), async |i| self.end(i).await).await,
            Act::Prove { pair } => on(pair, self.pairs.len(), async |i| self.prove(i).await).await,
            Act::Unauthorized { pair } => on(pair, self.pairs.len(), async |i| self.unauthorized(i).await).await,
            Act::Tidy { grant } => on(grant, self.grants.len(), async |i| self.tidy(i).await).await,
            Act::Renew {
                grant,
                refused,
                owner,
                alone,
            } => on(grant, self.grants.len(), async |i| self.renew(i, refused, owner, alone).await).await,
            Act::Renewed { grant, gives } => on(grant, self.grants.len(), async |i| self.renew_and_answer(i, gives).await).await,
            Act::Reload => {
                self.rules.mode = if self.rules.mode == TokenMode::Reference {
                    TokenMode::Sealed
                } else {
                    TokenMode::Reference
                };
            }
            Act::Backup { grant } => on(grant, self.grants.len(), async |i| self.backup(i).await).await,
            Act::Restore { grant } => on(grant, self.grants.len(), async |i| self.restore(i).await).await,
        }
    }

    async fn look_at(&self, n: u8) {
        if !self.journeys.is_empty() {
            self.look_at_journey(usize::from(n) % self.journeys.len()).await;
        }
        if !self.grants.is_empty() {
            self.look_at_grant(usize::from(n) % self.grants.len()).await;
        }
    }

    /// Checks that only its own transitions changed each record: flows do not mix.
    pub(crate) async fn look_at_all(&self) {
        for i in 0..self.journeys.len() {
            self.look_at_journey(i).await;
        }
        for i in 0..self.grants.len() {
            self.look_at_grant(i).await;
        }
    }

    /// Checks that a sweep removes exactly the expired records.
    async fn sweep(&mut self) {
        let now = self.now();
        let mut gone = 0;
        for journey in &mut self.journeys {
            if !journey.swept && journey.keep_until < now.0 {
                journey.swept = true;
                gone += 1;
            }
        }
        for grant in &mut self.grants {
            if !grant.swept && grant.keep_until().is_some_and(|until| until < now) {
                grant.swept = true;
                gone += 1;
            }
            if grant.keep_until().is_none() && grant.granted.plus_seconds(super::grants::BREATH) < now {
                // The process that should have stored the grant died.
                grant.swept = true;
            }
        }
        assert_eq!(self.store.sweep().await, Ok(gone));
        assert_eq!(self.store.sweep().await, Ok(0));
        self.look_at_all().await;
    }

    /// The stored record with this `id`.
    pub(crate) async fn stored<R: Record>(&self, id: Id) -> Option<R> {
        self.store.read(&Handle::<R>::new(id)).await.unwrap()
    }

    pub(crate) fn now(&self) -> UnixTime {
        UnixTime(self.time.load(Ordering::SeqCst))
    }

    pub(crate) fn walk(&mut self, from: &'static str, by: &'static str, to: &'static str) {
        self.walked.insert((from, by, to));
    }

    pub(crate) fn meet(&mut self, what: &'static str) {
        self.met.insert(what);
    }

    /// Skips the ids of the first `worlds` worlds, so that one store can hold all their records.
    pub(crate) fn skip(&mut self, worlds: u64) {
        self.drawn += worlds * 1_000;
    }

    /// A unique id.
    pub(crate) fn id(&mut self) -> Id {
        self.drawn += 1;
        Id((u128::from(self.drawn) << 64).to_be_bytes())
    }

    /// A unique text of 43 characters.
    pub(crate) fn draw(&mut self) -> String {
        self.drawn += 1;
        format!("{:043}", self.drawn)
    }

    /// New tokens of the upstream.
    pub(crate) fn tokens(&mut self, gives: Gives) -> UpstreamTokens {
        let (access, refresh, now) = (self.draw(), self.draw(), self.now());
        UpstreamTokens {
            access: UpstreamAccessToken::new(Secret::from(access)),
            refresh: gives.refresh.then(|| UpstreamRefreshToken::new(Secret::from(refresh))),
            expires: gives.life.map(|life| now.plus_seconds(life)),
            refresh_expires: None,
            scope: None,
        }
    }
}

fn client(id: &str, redirects: &[&str], secret: Option<&str>) -> RegisteredClient {
    let registration = ClientRegistration {
        name: Some(id.to_owned()),
        redirect_uris: redirects.iter().map(|uri| RedirectUri::parse(uri).unwrap()).collect(),
        auth_method: if secret.is_some() {
            ClientAuthMethod::ClientSecretPost
        } else {
            ClientAuthMethod::None
        },
        may_refresh: true,
    };
    RegisteredClient::new(id.to_owned(), registration, secret.map(Digest::new))
}

/// Calls `what` with an index below `of`, if there is one: mostly the newest or second newest.
async fn on(n: u8, of: usize, what: impl AsyncFnOnce(usize)) {
    if of > 0 {
        let back = match n {
            0..112 => 0,
            112..176 => 1,
            _ => usize::from(n),
        };
        what(of - 1 - back % of).await;
    }
}

/// Asserts that a transition had the expected result, and returns its output.
#[track_caller]
pub(crate) fn went<T, E: std::fmt::Debug + PartialEq>(
    moved: Result<T, TransitionError<E>>,
    expected: &Result<(), TransitionError<E>>,
) -> Option<T> {
    match (moved, expected) {
        (Ok(out), Ok(())) => Some(out),
        (Err(why), Err(expected)) => {
            assert_eq!(why, *expected);
            None
        }
        (Ok(_), Err(expected)) => panic!("it should have been refused: {expected:?}"),
        (Err(why), Ok(())) => panic!("it should have been done: {why:?}"),
    }
}

/// A record as JSON, to detect any change.
pub(crate) fn text<R: Record>(record: &R) -> Value {
    serde_json::to_value(record).unwrap()
}
