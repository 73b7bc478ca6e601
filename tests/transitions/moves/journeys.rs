//! Model of the flow, from `/authorize` to a spent code.

use std::sync::LazyLock;

use mcp_oauth_gateway::base::ids::{Digest, Id};
use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::flow::authorize::{
    AuthorizationRequest, ClientAuthorize, GatewayLogin, UpstreamCallback, UpstreamCallbackParams, UpstreamRedirect, UpstreamRedirectParams,
};
use mcp_oauth_gateway::flow::client::{Authenticated, ReturnAddress};
use mcp_oauth_gateway::flow::code::{CodeIssued, CodeRedemption, CodeSpent, ObtainedTokens, RedeemedCode};
use mcp_oauth_gateway::flow::consent::RememberConsent;
use mcp_oauth_gateway::flow::error::RejectReason;
use mcp_oauth_gateway::flow::flow_record::FlowRecord;
use mcp_oauth_gateway::flow::stateless_code::StatelessCode;
use mcp_oauth_gateway::flow::user::{LoginMethod, ServiceSnapshot, UpstreamStep, User};
use mcp_oauth_gateway::oauth::error::OAuthErrorCode;
use mcp_oauth_gateway::oauth::pkce::CodeChallenge;
use mcp_oauth_gateway::oauth::scope::Scopes;
use mcp_oauth_gateway::oauth::token_endpoint::ClientCredentials;
use mcp_oauth_gateway::oauth::token_response::UpstreamTokens;
use mcp_oauth_gateway::store::{Handle, TransitionError};
use serde_json::Value;
use url::Url;

use super::acts::{Bring, Form, Gives, With};
use super::grants::Life;
use super::logins::{Login, PROVIDER};
use super::world::{SECRET, World, text, went};

const ISSUER: &str = "https://gateway.example";
pub(super) const UPSTREAM: &str = "https://upstream.example";
/// The services, each with its login method and its upstream step.
pub(super) static SERVICES: LazyLock<[(&str, LoginMethod, UpstreamStep); 6]> = LazyLock::new(|| {
    [
        ("chained", LoginMethod::Password, UpstreamStep::Upstream),
        ("chained for anybody", LoginMethod::Nobody, UpstreamStep::Upstream),
        ("unlocked here", LoginMethod::Password, UpstreamStep::Here),
        ("unlocked here by anybody", LoginMethod::Nobody, UpstreamStep::Here),
        (
            "chained for known ones",
            LoginMethod::Provider(PROVIDER.to_owned()),
            UpstreamStep::Upstream,
        ),
        (
            "unlocked here by known ones",
            LoginMethod::Provider(PROVIDER.to_owned()),
            UpstreamStep::Here,
        ),
    ]
});
/// All clients that send a `state` send this one.
const STATE: &str = "the same <state>";

/// The expected state of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Asked,
    AtIdp,
    FromIdp,
    SignedIn,
    Sent,
    Back,
    Issued,
    Carried,
    Spent,
    Closed,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Asked => "ClientAuthorize",
            Self::AtIdp => "IdpRedirect",
            Self::FromIdp => "IdpCallback",
            Self::SignedIn => "GatewayLogin",
            Self::Sent => "UpstreamRedirect",
            Self::Back => "UpstreamCallback",
            Self::Issued => "CodeIssued",
            Self::Carried => "StatelessCode",
            Self::Spent => "CodeSpent",
            Self::Closed => "Closed",
        }
    }
}

/// One flow as expected, and what its browser and its client know.
#[derive(Debug)]
pub(crate) struct Journey {
    pub id: Id,
    pub client: usize,
    pub stage: Stage,
    /// The expiry of its record.
    pub keep_until: u64,
    pub swept: bool,
    /// How often its code was redeemed.
    pub spent: u32,
    /// The index of its grant, and the redeemed code until the grant is stored.
    pub grant: Option<usize>,
    pub pending: Option<RedeemedCode>,
    /// The index of its service.
    pub service: usize,
    /// The states that it has passed.
    pub path: Vec<Stage>,
    uri: String,
    state: bool,
    verifier: String,
    pub forms: Vec<String>,
    /// The values that it sent to the provider.
    pub login: Login,
    browser: String,
    upstream_state: String,
    pub upstream_verifier: String,
    promise: bool,
    pub code: String,
    pub tokens: Option<UpstreamTokens>,
    seen: Value,
}

pub(super) type Refusal = TransitionError<RejectReason>;

/// The stages of a regular flow.
pub(super) fn way(by: &LoginMethod, leg: UpstreamStep) -> Vec<Stage> {
    let login: &[Stage] = match by {
        LoginMethod::Provider(_) => &[Stage::AtIdp, Stage::FromIdp],
        LoginMethod::Password | LoginMethod::Nobody => &[],
    };
    let rest: &[Stage] = match leg {
        UpstreamStep::Upstream => &[Stage::SignedIn, Stage::Sent, Stage::Back, Stage::Issued],
        UpstreamStep::Here => &[Stage::SignedIn, Stage::Issued],
    };
    [&[Stage::Asked], login, rest].concat()
}

impl World {
    pub(crate) fn handle(&self, i: usize) -> Handle<FlowRecord> {
        Handle::new(self.journeys[i].id)
    }

    /// Whether the flow exists and is in this state.
    pub(crate) fn standing(&self, i: usize, stage: Stage) -> Result<(), Refusal> {
        let journey = &self.journeys[i];
        if journey.keep_until < self.now().0 {
            Err(TransitionError::NotFound)
        } else if journey.stage == stage {
            Ok(())
        } else {
            Err(TransitionError::WrongState)
        }
    }

    /// Whether there is time left. A transition in the last second of a record is refused.
    pub(crate) fn in_time(&self, i: usize) -> Result<(), Refusal> {
        if self.now().0 < self.journeys[i].keep_until {
            Ok(())
        } else {
            Err(TransitionError::Rejected(RejectReason::Expired))
        }
    }

    /// Another flow, if there is one.
    pub(crate) fn stranger(&self, i: usize) -> Option<&Journey> {
        let other = (i + 1) % self.journeys.len();
        (other != i).then(|| &self.journeys[other])
    }

    pub(crate) fn form(&self, i: usize, form: Form) -> Option<String> {
        let journey = &self.journeys[i];
        match form {
            Form::Own => journey.forms.last().cloned(),
            Form::Older => journey.forms.first().cloned(),
            Form::Other => self.stranger(i).and_then(|other| other.forms.last().cloned()),
            Form::Nothing => None,
        }
    }

    pub(crate) fn same_form(&self, i: usize, form: Option<&str>) -> Result<(), Refusal> {
        if self.journeys[i].forms.last().map(String::as_str) == form {
            Ok(())
        } else {
            Err(TransitionError::Rejected(RejectReason::WrongBrowser))
        }
    }

    /// Whether a step belongs to the path of this flow.
    pub(crate) fn on_the_way(&self, i: usize, is_on: impl FnOnce(&LoginMethod, UpstreamStep) -> bool) -> Result<(), Refusal> {
        let (_, by, leg) = &SERVICES[self.journeys[i].service];
        if is_on(by, *leg) {
            Ok(())
        } else {
            Err(TransitionError::Rejected(RejectReason::WrongStep))
        }
    }

    pub(crate) fn note_if_off_the_way(&mut self, expected: &Result<(), Refusal>) {
        if *expected == Err(TransitionError::Rejected(RejectReason::WrongStep)) {
            self.meet("a step off the way");
        }
    }

    /// The name of this flow's service, or of another one.
    pub(crate) fn service(&self, i: usize, other: bool) -> &'static str {
        SERVICES[(self.journeys[i].service + usize::from(other)) % SERVICES.len()].0
    }

    pub(crate) async fn begin(&mut self, client: u8, state: bool, service: u8) -> usize {
        let service = usize::from(service) % SERVICES.len();
        let (name, by, leg) = SERVICES[service].clone();
        let client = usize::from(client) % self.clients.len();
        let registered = &self.clients[client];
        let uris = &registered.registration().redirect_uris;
        let uri = uris[self.journeys.len() % uris.len()].clone();
        let back = registered
            .return_address(Some(uri.clone()), state.then(|| STATE.to_owned()), ISSUER)
            .unwrap();
        let (client_id, traits) = (registered.client_id().to_owned(), registered.traits());
        let (id, verifier, form, now) = (self.id(), self.draw(), self.draw(), self.now());
        let asked = AuthorizationRequest {
            client_id,
            client_name: None,
            verified_host: None,
            configured: false,
            traits,
            is_loopback_only: false,
            return_address: back,
            challenge: Some(CodeChallenge::of(&Secret::from(verifier.as_str()))),
            scopes: Scopes::parse("a b"),
            service: name.to_owned(),
            way: ServiceSnapshot {
                to: "https://upstream.example".to_owned(),
                by,
                leg,
            },
            remember: RememberConsent::Never,
            max_age: state.then_some(3_600),
        };
        self.store
            .insert(id, ClientAuthorize::new(asked, Digest::new(&form), now))
            .await
            .unwrap();
        self.walk("[*]", "new", "ClientAuthorize");
        self.journeys.push(Journey {
            id,
            client,
            stage: Stage::Asked,
            keep_until: now.0 + 600,
            swept: false,
            spent: 0,
            grant: None,
            pending: None,
            service,
            path: Vec::new(),
            uri: uri.as_str().to_owned(),
            state,
            verifier,
            forms: vec![form],
            login: Login::default(),
            browser: String::new(),
            upstream_state: String::new(),
            upstream_verifier: String::new(),
            promise: false,
            code: String::new(),
            tokens: None,
            seen: Value::Null,
        });
        let i = self.journeys.len() - 1;
        self.arrived(i, Stage::Asked, now.0 + 600).await;
        i
    }

    /// Runs `moves` moves of a flow with a regular browser and upstream.
    pub(crate) async fn journey(&mut self, client: u8, service: u8, gives: Gives, moves: u8) {
        let i = self.begin(client, true, service).await;
        let (_, by, leg) = &SERVICES[self.journeys[i].service];
        let stages = way(by, *leg);
        let moves = match (by, moves) {
            (LoginMethod::Provider(_), 2) => 3,
            (LoginMethod::Provider(_), 3..) => moves + 2,
            (_, _) => moves,
        };
        let moves = usize::from(moves).min(stages.len());
        for stage in &stages[1..moves] {
            match (stage, by, leg) {
                (Stage::AtIdp, _, _) => self.sent_to_idp(i, Form::Own, true).await,
                (Stage::FromIdp, _, _) => self.back_from_idp(i, Bring::Own).await,
                (Stage::SignedIn, LoginMethod::Nobody, _) => self.unnamed(i, Form::Own).await,
                (Stage::SignedIn, LoginMethod::Password, _) => self.sign_in(i, Form::Own).await,
                (Stage::SignedIn, LoginMethod::Provider(_), _) => self.identified(i, true).await,
                (Stage::Sent, _, _) => self.approve(i, Form::Own, true).await,
                (Stage::Back, _, _) => self.returned(i, Bring::Own).await,
                (Stage::Issued, _, UpstreamStep::Here) => {
                    let unlocks = gives.refresh.then_some(Gives { refresh: false, ..gives });
                    self.granted_here(i, Form::Own, unlocks).await;
                }
                _ => self.exchanged(i, gives).await,
            }
        }
        assert_eq!(self.journeys[i].stage, stages[moves - 1]);
    }

    pub(crate) async fn sign_in(&mut self, i: usize, form: Form) {
        let (brought, next, now) = (self.form(i, form), self.draw(), self.now());
        let expected = self
            .standing(i, Stage::Asked)
            .and_then(|()| self.in_time(i))
            .and_then(|()| self.same_form(i, brought.as_deref()))
            .and_then(|()| self.on_the_way(i, |by, _| *by == LoginMethod::Password));
        self.note_if_off_the_way(&expected);
        let user = User {
            password_epoch: Some(Digest::new("a hash")),
            ..User::with_name("alice")
        };
        let step = |s: ClientAuthorize| s.signed_in(brought.as_deref(), Digest::new(&next), user.clone(), now);
        let moved = self.store.transition(&self.handle(i), step).await;
        if went(moved, &expected).is_some() {
            self.walk("ClientAuthorize", "signed_in", "GatewayLogin");
            self.journeys[i].forms.push(next);
            self.arrived(i, Stage::SignedIn, self.journeys[i].keep_until).await;
        }
        self.look_at_journey(i).await;
    }

    pub(crate) async fn unnamed(&mut self, i: usize, form: Form) {
        let (brought, next, now) = (self.form(i, form), self.draw(), self.now());
        let expected = self
            .standing(i, Stage::Asked)
            .and_then(|()| self.in_time(i))
            .and_then(|()| self.same_form(i, brought.as_deref()))
            .and_then(|()| self.on_the_way(i, |by, _| *by == LoginMethod::Nobody));
        self.note_if_off_the_way(&expected);
        let step = |s: ClientAuthorize| s.login_skipped(brought.as_deref(), Digest::new(&next), now);
        let moved = self.store.transition(&self.handle(i), step).await;
        if went(moved, &expected).is_some() {
            self.walk("ClientAuthorize", "login_skipped", "GatewayLogin");
            self.journeys[i].forms.push(next);
            self.arrived(i, Stage::SignedIn, self.journeys[i].keep_until).await;
        }
        self.look_at_journey(i).await;
    }

    /// The code is issued without a redirect to the upstream AS.
    pub(crate) async fn granted_here(&mut self, i: usize, form: Form, gives: Option<Gives>) {
        let (brought, code, now) = (self.form(i, form), self.draw(), self.now());
        let tokens = gives.map(|gives| self.tokens(gives));
        let expected = self
            .standing(i, Stage::SignedIn)
            .and_then(|()| self.in_time(i))
            .and_then(|()| self.same_form(i, brought.as_deref()))
            .and_then(|()| self.on_the_way(i, |_, leg| leg == UpstreamStep::Here));
        self.note_if_off_the_way(&expected);
        let obtained = tokens.clone().map(|tokens| ObtainedTokens { issuer: None, tokens });
        let step = |s: GatewayLogin| s.granted(brought.as_deref(), obtained.clone(), Digest::new(&code), now);
        let moved = self.store.transition(&self.handle(i), step).await;
        if let Some(moved) = went(moved, &expected) {
            self.walk("GatewayLogin", "granted", "CodeIssued");
            let journey = &mut self.journeys[i];
            let (_, by, leg) = &SERVICES[journey.service];
            let honest = way(by, *leg);
            assert_eq!(journey.path, honest[..honest.len() - 1], "a code without consent");
            (journey.code, journey.tokens) = (code.clone(), tokens);
            self.goes_home(i, &moved.effect, Some(&code));
            self.arrived(i, Stage::Issued, now.0 + 60).await;
        }
        self.look_at_journey(i).await;
    }

    pub(crate) async fn approve(&mut self, i: usize, form: Form, promise: bool) {
        let brought = self.form(i, form);
        let (browser, upstream_state, upstream_verifier, now) = (self.draw(), self.draw(), self.draw(), self.now());
        let expected = self
            .standing(i, Stage::SignedIn)
            .and_then(|()| self.in_time(i))
            .and_then(|()| self.same_form(i, brought.as_deref()))
            .and_then(|()| self.on_the_way(i, |_, leg| leg == UpstreamStep::Upstream));
        self.note_if_off_the_way(&expected);
        let step = |s: GatewayLogin| {
            let to = UpstreamRedirectParams {
                browser: Digest::new(&browser),
                upstream_state: Digest::new(&upstream_state),
                verifier: Secret::from(upstream_verifier.as_str()),
                issuer: UPSTREAM.to_owned(),
                issuer_is_guess: false,
                iss_promised: promise,
            };
            s.consented(brought.as_deref(), to, now)
        };
        let moved = self.store.transition(&self.handle(i), step).await;
        if went(moved, &expected).is_some() {
            self.walk("GatewayLogin", "consented", "UpstreamRedirect");
            let journey = &mut self.journeys[i];
            (journey.browser, journey.upstream_state, journey.upstream_verifier) = (browser, upstream_state, upstream_verifier);
            journey.promise = promise;
            self.arrived(i, Stage::Sent, now.0 + 600).await;
        }
        self.look_at_journey(i).await;
    }

    pub(crate) async fn deny(&mut self, i: usize, form: Form) {
        let (brought, now, handle) = (self.form(i, form), self.now(), self.handle(i));
        let form = brought.as_deref();
        let expected = |stage| {
            self.standing(i, stage)
                .and_then(|()| self.in_time(i))
                .and_then(|()| self.same_form(i, form))
        };
        let (asked, signed_in) = (expected(Stage::Asked), expected(Stage::SignedIn));
        let first = self.store.transition(&handle, |s: ClientAuthorize| s.denied(form, now)).await;
        let mut back = went(first, &asked).map(|moved| (moved.effect, "ClientAuthorize"));
        if back.is_none() {
            let second = self.store.transition(&handle, |s: GatewayLogin| s.denied(form, now)).await;
            back = went(second, &signed_in).map(|moved| (moved.effect, "GatewayLogin"));
        }
        if let Some((back, from)) = back {
            self.walk(from, "denied", "Closed");
            self.goes_home(i, &back.return_address, None);
            self.arrived(i, Stage::Closed, self.journeys[i].keep_until).await;
        }
        self.look_at_journey(i).await;
    }

    /// The values that the redirect and the browser send, and the expected result.
    pub(crate) fn brought(&self, i: usize, bring: Bring) -> (String, Option<String>, Option<&'static str>, Result<(), Refusal>) {
        let (journey, other) = (&self.journeys[i], self.stranger(i));
        let mut state = journey.upstream_state.clone();
        let mut browser = Some(journey.browser.clone());
        let mut issuer = Some(UPSTREAM);
        match bring {
            Bring::Own | Bring::OtherService => {}
            Bring::OtherState => state = other.map_or_else(|| "?".to_owned(), |other| other.upstream_state.clone()),
            Bring::OtherBrowser => browser = other.map(|other| other.browser.clone()),
            Bring::NoBrowser => browser = None,
            Bring::OtherIssuer => issuer = Some("https://upstream.example/"),
            Bring::NoIssuer => issuer = None,
        }
        let judged = if state != journey.upstream_state {
            Err(RejectReason::WrongUpstreamState)
        } else if matches!(bring, Bring::OtherService) {
            Err(RejectReason::WrongService)
        } else if browser.as_ref() != Some(&journey.browser) {
            Err(RejectReason::WrongBrowser)
        } else if issuer.is_none() && journey.promise {
            Err(RejectReason::MissingIssuer)
        } else if issuer.is_some_and(|issuer| issuer != UPSTREAM) {
            Err(RejectReason::WrongIssuer)
        } else {
            Ok(())
        };
        let expected = self
            .standing(i, Stage::Sent)
            .and_then(|()| self.in_time(i))
            .and_then(|()| judged.map_err(TransitionError::Rejected));
        (state, browser, issuer, expected)
    }

    pub(crate) async fn returned(&mut self, i: usize, bring: Bring) {
        let (state, browser, issuer, expected) = self.brought(i, bring);
        if expected == Err(TransitionError::Rejected(RejectReason::WrongService)) {
            self.meet("a return to another service");
        }
        let with = UpstreamCallbackParams {
            service: self.service(i, matches!(bring, Bring::OtherService)),
            upstream_state: &state,
            browser: browser.as_deref(),
            issuer,
        };
        let now = self.now();
        let moved = self
            .store
            .transition(&self.handle(i), |s: UpstreamRedirect| s.returned(with, now))
            .await;
        if let Some(moved) = went(moved, &expected) {
            self.walk("UpstreamRedirect", "returned", "UpstreamCallback");
            assert_eq!(
                moved.effect.verifier.expose(),
                self.journeys[i].upstream_verifier,
                "the verifier of another journey"
            );
            self.arrived(i, Stage::Back, now.0 + 120).await;
        }
        self.look_at_journey(i).await;
    }

    pub(crate) async fn refused(&mut self, i: usize, bring: Bring) {
        let (state, browser, issuer, expected) = self.brought(i, bring);
        if expected == Err(TransitionError::Rejected(RejectReason::WrongService)) {
            self.meet("a return to another service");
        }
        let with = UpstreamCallbackParams {
            service: self.service(i, matches!(bring, Bring::OtherService)),
            upstream_state: &state,
            browser: browser.as_deref(),
            issuer,
        };
        let now = self.now();
        let moved = self
            .store
            .transition(&self.handle(i), |s: UpstreamRedirect| s.refused(with, now))
            .await;
        if let Some(moved) = went(moved, &expected) {
            self.walk("UpstreamRedirect", "refused", "Closed");
            self.goes_home(i, &moved.effect, None);
            self.arrived(i, Stage::Closed, self.journeys[i].keep_until).await;
        }
        self.look_at_journey(i).await;
    }

    pub(crate) async fn exchanged(&mut self, i: usize, gives: Gives) {
        let (tokens, code, now) = (self.tokens(gives), self.draw(), self.now());
        let expected = self.standing(i, Stage::Back);
        let step = |s: UpstreamCallback| s.exchanged(tokens.clone(), Digest::new(&code), now);
        let moved = self.store.transition(&self.handle(i), step).await;
        if let Some(moved) = went(moved, &expected) {
            self.walk("UpstreamCallback", "exchanged", "CodeIssued");
            let journey = &mut self.journeys[i];
            let (_, by, leg) = &SERVICES[journey.service];
            let honest = way(by, *leg);
            assert_eq!(
                journey.path,
                honest[..honest.len() - 1],
                "a code without sign-in, consent and return"
            );
            (journey.code, journey.tokens) = (code.clone(), Some(tokens));
            self.goes_home(i, &moved.effect, Some(&code));
            self.arrived(i, Stage::Issued, now.0 + 60).await;
        }
        self.look_at_journey(i).await;
    }

    pub(crate) async fn failed(&mut self, i: usize) {
        let expected = self.standing(i, Stage::Back);
        let moved = self.store.transition(&self.handle(i), UpstreamCallback::failed).await;
        if let Some(moved) = went(moved, &expected) {
            self.walk("UpstreamCallback", "failed", "Closed");
            self.goes_home(i, &moved.effect, None);
            self.arrived(i, Stage::Closed, self.journeys[i].keep_until).await;
        }
        self.look_at_journey(i).await;
    }

    /// Asserts that the browser returns to the flow's own redirect URI with its own `state`.
    pub(crate) fn goes_home(&self, i: usize, back: &ReturnAddress, code: Option<&str>) {
        let journey = &self.journeys[i];
        let location = match code {
            Some(code) => back.with_code(&Secret::from(code)),
            None => back.with_error(OAuthErrorCode::AccessDenied, "no"),
        };
        let tail = location.strip_prefix(&journey.uri).expect("it leads to another place");
        assert!(tail.starts_with(if journey.uri.contains('?') { '&' } else { '?' }), "{location}");
        let url = Url::parse(&location).unwrap();
        let all = |name: &str| {
            url.query_pairs()
                .filter(|(n, _)| n == name)
                .map(|(_, v)| v.into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(all("state"), journey.state.then_some(STATE).into_iter().collect::<Vec<_>>());
        assert_eq!(all("code"), code.into_iter().collect::<Vec<_>>());
        assert_eq!(all("iss"), [ISSUER]);
        assert_eq!(all("error").len(), usize::from(code.is_none()));
    }

    pub(crate) async fn redeem(&mut self, i: usize, by: Option<u8>, with: With, at_once: bool) {
        let journey = &self.journeys[i];
        let client = by.map_or(journey.client, |by| usize::from(by) % self.clients.len());
        let registered = &self.clients[client];
        let wrong_secret = matches!(with, With::OtherSecret);
        let authenticated = registered.authenticate(&ClientCredentials {
            client_id: registered.client_id().to_owned(),
            secret: Some(Secret::from(if wrong_secret { "another" } else { SECRET })),
            basic: false,
        });
        // Only the third client has a secret.
        assert_eq!(authenticated.is_err(), wrong_secret && client == 2);
        let Ok(by) = authenticated else { return };
        let other = self.stranger(i);
        // A stateless code is the record itself, so no other code can be sent for it.
        let carried = self.standing(i, Stage::Carried).is_ok();
        let mut code = journey.code.clone();
        let mut verifier = Some(journey.verifier.clone());
        let mut redirect_uri = Some(journey.uri.clone());
        match with {
            With::Own | With::OtherSecret | With::OtherService => {}
            With::NoRedirect => redirect_uri = None,
            With::OtherRedirect => {
                redirect_uri = Some(other.map_or_else(|| "https://evil.example/cb".to_owned(), |other| other.uri.clone()));
            }
            With::OtherCode if carried => {}
            With::OtherCode => code = other.map_or_else(String::new, |other| other.code.clone()),
            With::OtherVerifier => verifier = other.map(|other| other.verifier.clone()),
            With::NoVerifier => verifier = None,
        }
        let proved = if code != journey.code {
            Err(RejectReason::WrongCode)
        } else if client != journey.client {
            Err(RejectReason::WrongClient)
        } else if verifier.as_ref() != Some(&journey.verifier) {
            Err(RejectReason::Verifier)
        } else {
            Ok(())
        };
        let same_place = match &redirect_uri {
            Some(uri) if *uri != journey.uri => Err(RejectReason::WrongRedirectUri),
            Some(_) | None => Ok(()),
        };
        let spent = self.standing(i, Stage::Spent).is_ok();
        let elsewhere = matches!(with, With::OtherService);
        let at_home = if elsewhere { Err(RejectReason::WrongService) } else { Ok(()) };
        let judged = at_home.and(proved).and(same_place).map_err(TransitionError::Rejected);
        let issued = if carried { Stage::Carried } else { Stage::Issued };
        let expected = self.standing(i, issued).and_then(|()| self.in_time(i)).and(judged);
        let with = CodeRedemption {
            service: self.service(i, elsewhere),
            code: &code,
            redirect_uri: redirect_uri.as_deref(),
            verifier: verifier.as_deref(),
        };
        let (grant, now, handle) = (self.id(), self.now(), self.handle(i));
        if expected == Err(TransitionError::Rejected(RejectReason::WrongService)) {
            self.met.insert("a code at another service");
        }
        let moved = if carried {
            let moved = self.store.transition(&handle, |s: StatelessCode| s.redeemed(&by, with, grant, now));
            moved.await.map(|moved| moved.effect)
        } else {
            let moved = self.store.transition(&handle, |s: CodeIssued| s.redeemed(&by, with, grant, now));
            moved.await.map(|moved| (moved.effect, None))
        };
        if let Some((redeemed, to_exchange)) = went(moved, &expected) {
            self.walk(issued.name(), "redeemed", "CodeSpent");
            let redeemed = if carried {
                self.unlocked_late(i, redeemed, to_exchange)
            } else {
                redeemed
            };
            assert_eq!(redeemed.client_id, by.client_id());
            self.redeemed(i, redeemed);
            let place = self.new_grant(grant, client);
            self.journeys[i].grant = Some(place);
            self.arrived(i, Stage::Spent, now.0 + 600).await;
            if at_once {
                self.granted(i).await;
            }
        } else if spent {
            self.replayed(i, &by, with, proved).await;
        }
        self.look_at_journey(i).await;
    }

    /// Asserts that the redeemed code belongs to this flow and is redeemed once.
    fn redeemed(&mut self, i: usize, redeemed: RedeemedCode) {
        let journey = &mut self.journeys[i];
        let (name, by, leg) = &SERVICES[journey.service];
        let subject = match by {
            LoginMethod::Nobody => "",
            LoginMethod::Password => "alice",
            LoginMethod::Provider(_) => "corp:7",
        };
        assert_eq!((redeemed.who.subject.as_str(), redeemed.service.as_str()), (subject, *name));
        let obtained = redeemed.obtained.as_ref();
        assert_eq!(
            obtained.map(|obtained| &obtained.tokens),
            journey.tokens.as_ref(),
            "the tokens of another journey"
        );
        let issuer = obtained.and_then(|obtained| obtained.issuer.as_deref());
        assert_eq!(issuer, (*leg == UpstreamStep::Upstream).then_some(UPSTREAM));
        journey.spent += 1;
        assert_eq!(journey.spent, 1, "a code was spent twice");
        journey.pending = Some(redeemed);
    }

    /// A spent code is replayed. It ends the grant only with the right client and verifier.
    async fn replayed(&mut self, i: usize, by: &Authenticated, with: CodeRedemption<'_>, proved: Result<(), RejectReason>) {
        let there = self.stored::<FlowRecord>(self.journeys[i].id).await;
        let Some(FlowRecord::CodeSpent(there)) = there else {
            panic!("it is spent")
        };
        let place = self.journeys[i].grant.expect("a spent code has a grant");
        assert_eq!(CodeSpent::replayed(&there, by, with), proved.map(|()| self.grants[place].id));
        if proved.is_err() {
            self.meet("a replay that proves nothing");
        } else {
            if self.grants[place].life == Life::Unborn {
                self.meet("a replay before the grant was there");
            }
            self.walk("CodeSpent", "replayed", "Ended");
            self.end(place).await;
        }
        self.look_at_grant(place).await;
    }

    /// Notes the new state of a flow, and asserts that its authorization request is unchanged.
    pub(crate) async fn arrived(&mut self, i: usize, stage: Stage, keep_until: u64) {
        let there = self
            .stored::<FlowRecord>(self.journeys[i].id)
            .await
            .expect("it has just been written");
        let journey = &mut self.journeys[i];
        let (before, now) = (std::mem::take(&mut journey.seen), text(&there));
        if let (Some(before), Some(now)) = (before.pointer("/is/asked"), now.pointer("/is/asked")) {
            assert_eq!(before, now);
        }
        journey.seen = now;
        journey.path.push(stage);
        (journey.stage, journey.keep_until) = (stage, keep_until);
    }

    /// Asserts that the record is as the last accepted transition left it, or has expired.
    pub(crate) async fn look_at_journey(&self, i: usize) {
        let journey = &self.journeys[i];
        let there = self.stored::<FlowRecord>(journey.id).await;
        assert_eq!(there.is_some(), journey.keep_until >= self.now().0);
        if let Some(there) = there {
            let there = text(&there);
            let tag = match journey.stage {
                // The stored name of the state is older than its name in the code.
                Stage::Carried => "CodeCarried",
                stage => stage.name(),
            };
            assert_eq!(there["state"], tag);
            assert_eq!(there, journey.seen);
        }
    }
}
