//! Model of flows with a provider, between `/authorize` and consent.

use mcp_oauth_gateway::base::ids::Digest;
use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::flow::authorize::ClientAuthorize;
use mcp_oauth_gateway::flow::error::RejectReason;
use mcp_oauth_gateway::flow::login::{IdpCallback, IdpCallbackParams, IdpRedirect, IdpRedirectParams};
use mcp_oauth_gateway::flow::user::{Identity, LoginMethod, ProviderSession};
use mcp_oauth_gateway::store::TransitionError;

use super::acts::{Bring, Form};
use super::journeys::{Refusal, Stage};
use super::world::{World, went};

/// The only provider of the model.
pub(super) const PROVIDER: &str = "corp";
const IDP: &str = "https://idp.example";

/// The values that one flow sends to the provider.
#[derive(Debug, Default)]
pub(crate) struct Login {
    browser: String,
    state: String,
    nonce: String,
    verifier: String,
    promise: bool,
    offline: bool,
}

/// The values that arrive with a redirect of the provider and its browser.
struct Brought {
    provider: &'static str,
    state: String,
    browser: Option<String>,
    issuer: Option<&'static str>,
}

impl Brought {
    fn as_it_is(&self) -> IdpCallbackParams<'_> {
        IdpCallbackParams {
            provider: self.provider,
            idp_state: &self.state,
            browser: self.browser.as_deref(),
            issuer: self.issuer,
        }
    }
}

impl World {
    pub(crate) async fn sent_to_idp(&mut self, i: usize, form: Form, promise: bool) {
        let brought = self.form(i, form);
        let (browser, state, nonce, verifier) = (self.draw(), self.draw(), self.draw(), self.draw());
        let now = self.now();
        let expected = self
            .standing(i, Stage::Asked)
            .and_then(|()| self.in_time(i))
            .and_then(|()| self.same_form(i, brought.as_deref()))
            .and_then(|()| self.on_the_way(i, |by, _| matches!(by, LoginMethod::Provider(_))));
        self.note_if_off_the_way(&expected);
        let step = |s: ClientAuthorize| {
            let to = IdpRedirectParams {
                provider: PROVIDER.to_owned(),
                browser: Digest::new(&browser),
                idp_state: Digest::new(&state),
                nonce: Digest::new(&nonce),
                verifier: Secret::from(verifier.as_str()),
                issuer: IDP.to_owned(),
                iss_promised: promise,
                is_offline: promise,
            };
            s.sent_to_idp(brought.as_deref(), to, now)
        };
        let moved = self.store.transition(&self.handle(i), step).await;
        if went(moved, &expected).is_some() {
            self.walk("ClientAuthorize", "sent_to_idp", "IdpRedirect");
            self.journeys[i].login = Login {
                browser,
                state,
                nonce,
                verifier,
                promise,
                offline: promise,
            };
            self.arrived(i, Stage::AtIdp, now.0 + 600).await;
        }
        self.look_at_journey(i).await;
    }

    /// The provider refuses a scope, and the browser goes there again without it.
    pub(crate) async fn repeated_at_idp(&mut self, i: usize, bring: Bring) {
        let (with, expected) = self.brought_from_idp(i, bring);
        let (browser, state, nonce, verifier) = (self.draw(), self.draw(), self.draw(), self.draw());
        let (now, promise) = (self.now(), self.journeys[i].login.promise);
        let expected = expected.and_then(|()| {
            if self.journeys[i].login.offline {
                Ok(())
            } else {
                Err(TransitionError::Rejected(RejectReason::WrongStep))
            }
        });
        let step = |s: IdpRedirect| {
            let to = IdpRedirectParams {
                provider: PROVIDER.to_owned(),
                browser: Digest::new(&browser),
                idp_state: Digest::new(&state),
                nonce: Digest::new(&nonce),
                verifier: Secret::from(verifier.as_str()),
                issuer: IDP.to_owned(),
                iss_promised: promise,
                is_offline: false,
            };
            s.repeated(with.as_it_is(), to, now)
        };
        let moved = self.store.transition(&self.handle(i), step).await;
        if went(moved, &expected).is_some() {
            self.walk("IdpRedirect", "repeated", "IdpRedirect");
            self.journeys[i].login = Login {
                browser,
                state,
                nonce,
                verifier,
                promise,
                offline: false,
            };
            self.arrived(i, Stage::AtIdp, now.0 + 600).await;
        }
        self.look_at_journey(i).await;
    }

    /// The values that the redirect and the browser send, and the expected result.
    fn brought_from_idp(&mut self, i: usize, bring: Bring) -> (Brought, Result<(), Refusal>) {
        let (login, other) = (&self.journeys[i].login, self.stranger(i));
        let mut with = Brought {
            provider: PROVIDER,
            state: login.state.clone(),
            browser: Some(login.browser.clone()),
            issuer: Some(IDP),
        };
        match bring {
            Bring::Own => {}
            Bring::OtherState => with.state = other.map_or_else(|| "?".to_owned(), |other| other.login.state.clone()),
            Bring::OtherBrowser => with.browser = other.map(|other| other.login.browser.clone()),
            Bring::NoBrowser => with.browser = None,
            Bring::OtherIssuer => with.issuer = Some("https://idp.example/"),
            Bring::NoIssuer => with.issuer = None,
            Bring::OtherService => with.provider = "another",
        }
        let judged = if with.state != login.state {
            Err(RejectReason::WrongUpstreamState)
        } else if with.provider != PROVIDER {
            Err(RejectReason::WrongProvider)
        } else if with.browser.as_ref() != Some(&login.browser) {
            Err(RejectReason::WrongBrowser)
        } else if with.issuer.is_none() && login.promise {
            Err(RejectReason::MissingIssuer)
        } else if with.issuer.is_some_and(|issuer| issuer != IDP) {
            Err(RejectReason::WrongIssuer)
        } else {
            Ok(())
        };
        let expected = self
            .standing(i, Stage::AtIdp)
            .and_then(|()| self.in_time(i))
            .and_then(|()| judged.map_err(TransitionError::Rejected));
        if expected == Err(TransitionError::Rejected(RejectReason::WrongProvider)) {
            self.meet("a return to another provider");
        }
        (with, expected)
    }

    pub(crate) async fn back_from_idp(&mut self, i: usize, bring: Bring) {
        let (with, expected) = self.brought_from_idp(i, bring);
        let now = self.now();
        let step = |s: IdpRedirect| s.returned(with.as_it_is(), now);
        let moved = self.store.transition(&self.handle(i), step).await;
        if let Some(moved) = went(moved, &expected) {
            self.walk("IdpRedirect", "returned", "IdpCallback");
            let login = &self.journeys[i].login;
            assert_eq!(moved.effect.verifier.expose(), login.verifier, "the verifier of another journey");
            assert!(moved.effect.nonce.matches(&login.nonce), "the nonce of another journey");
            assert_eq!(moved.effect.issuer, IDP);
            self.arrived(i, Stage::FromIdp, now.0 + 120).await;
        }
        self.look_at_journey(i).await;
    }

    pub(crate) async fn refused_by_idp(&mut self, i: usize, bring: Bring) {
        let (with, expected) = self.brought_from_idp(i, bring);
        let now = self.now();
        let step = |s: IdpRedirect| s.refused(with.as_it_is(), now);
        let moved = self.store.transition(&self.handle(i), step).await;
        if let Some(moved) = went(moved, &expected) {
            self.walk("IdpRedirect", "refused", "Closed");
            self.goes_home(i, &moved.effect, None);
            self.arrived(i, Stage::Closed, self.journeys[i].keep_until).await;
        }
        self.look_at_journey(i).await;
    }

    /// The provider identifies a user: one of its own, or one of another provider.
    pub(crate) async fn identified(&mut self, i: usize, own: bool) {
        let (next, now) = (self.draw(), self.now());
        let provider = if own { PROVIDER } else { "another" };
        let judged = if own {
            Ok(())
        } else {
            Err(TransitionError::Rejected(RejectReason::WrongProvider))
        };
        let expected = self.standing(i, Stage::FromIdp).and_then(|()| self.in_time(i)).and(judged);
        let identity = Identity {
            provider: provider.to_owned(),
            issuer: "https://idp.example".to_owned(),
            id: "7".to_owned(),
            email: None,
            name: None,
            avatar: None,
            groups: Vec::new(),
            hosted_domain: Some("example.com".to_owned()),
        };
        let session = ProviderSession {
            token: Secret::from(self.draw()),
            checked_at: now,
        };
        let step = |s: IdpCallback| s.identified(identity.clone(), Some(session.clone()), Digest::new(&next), now);
        let moved = self.store.transition(&self.handle(i), step).await;
        if went(moved, &expected).is_some() {
            self.walk("IdpCallback", "identified", "GatewayLogin");
            self.journeys[i].forms.push(next);
            self.arrived(i, Stage::SignedIn, now.0 + 600).await;
        }
        self.look_at_journey(i).await;
    }

    pub(crate) async fn not_identified(&mut self, i: usize) {
        let expected = self.standing(i, Stage::FromIdp);
        let moved = self.store.transition(&self.handle(i), IdpCallback::failed).await;
        if let Some(moved) = went(moved, &expected) {
            self.walk("IdpCallback", "failed", "Closed");
            self.goes_home(i, &moved.effect, None);
            self.arrived(i, Stage::Closed, self.journeys[i].keep_until).await;
        }
        self.look_at_journey(i).await;
    }
}
