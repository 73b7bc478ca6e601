//! Flows in stateless mode: the client's code contains the upstream's code.

use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::flow::authorize::{GatewayLogin, UpstreamCallbackParams, UpstreamRedirect};
use mcp_oauth_gateway::flow::code::{ObtainedTokens, RedeemedCode};
use mcp_oauth_gateway::flow::stateless_code::PendingExchange;
use mcp_oauth_gateway::flow::user::UpstreamStep;

use super::acts::{Bring, Form, Gives};
use super::journeys::{SERVICES, Stage, UPSTREAM, way};
use super::world::{World, went};

/// The upstream's code in its redirect.
const CODE: &str = "the upstream's code";

impl World {
    /// The upstream redirects back, and its code travels on within the client's code.
    pub(crate) async fn handed_on(&mut self, i: usize, bring: Bring) {
        let (state, browser, issuer, expected) = self.brought(i, bring);
        let with = UpstreamCallbackParams {
            service: self.service(i, matches!(bring, Bring::OtherService)),
            upstream_state: &state,
            browser: browser.as_deref(),
            issuer,
        };
        let now = self.now();
        let step = |s: UpstreamRedirect| s.returned_stateless(with, Secret::from(CODE), now);
        let moved = self.store.transition(&self.handle(i), step).await;
        if let Some(moved) = went(moved, &expected) {
            self.walk("UpstreamRedirect", "returned_stateless", "StatelessCode");
            self.on_its_way(i, 2);
            let code = self.journeys[i].code.clone();
            self.goes_home(i, &moved.effect, Some(&code));
            self.arrived(i, Stage::Carried, now.0 + 60).await;
        }
        self.look_at_journey(i).await;
    }

    /// The code is issued at once and contains no upstream code.
    pub(crate) async fn carried_here(&mut self, i: usize, form: Form) {
        let (brought, now) = (self.form(i, form), self.now());
        let expected = self
            .standing(i, Stage::SignedIn)
            .and_then(|()| self.in_time(i))
            .and_then(|()| self.same_form(i, brought.as_deref()))
            .and_then(|()| self.on_the_way(i, |_, leg| leg == UpstreamStep::Here));
        self.note_if_off_the_way(&expected);
        let step = |s: GatewayLogin| s.granted_stateless(brought.as_deref(), now);
        let moved = self.store.transition(&self.handle(i), step).await;
        if let Some(moved) = went(moved, &expected) {
            self.walk("GatewayLogin", "granted_stateless", "StatelessCode");
            self.on_its_way(i, 1);
            let code = self.journeys[i].code.clone();
            self.goes_home(i, &moved.effect, Some(&code));
            self.arrived(i, Stage::Carried, now.0 + 60).await;
        }
        self.look_at_journey(i).await;
    }

    /// Asserts that the flow passed all stages but the last `but`, and gives it a code.
    fn on_its_way(&mut self, i: usize, but: usize) {
        let code = self.draw();
        let journey = &mut self.journeys[i];
        let (_, by, leg) = &SERVICES[journey.service];
        let honest = way(by, *leg);
        assert_eq!(journey.path, honest[..honest.len() - but], "a code without consent");
        (journey.code, journey.tokens) = (code, None);
    }

    /// Exchanges the upstream code that the redeemed code contained.
    pub(crate) fn unlocked_late(&mut self, i: usize, redeemed: RedeemedCode, to_exchange: Option<PendingExchange>) -> RedeemedCode {
        let leg = SERVICES[self.journeys[i].service].2;
        assert_eq!(to_exchange.is_some(), leg == UpstreamStep::Upstream);
        let Some(PendingExchange { code, exchange }) = to_exchange else {
            return redeemed;
        };
        let verifier = &self.journeys[i].upstream_verifier;
        assert_eq!((code.expose(), exchange.verifier.expose()), (CODE, verifier.as_str()));
        assert_eq!(exchange.issuer, UPSTREAM);
        let tokens = self.tokens(Gives {
            refresh: true,
            life: Some(3_600),
        });
        self.journeys[i].tokens = Some(tokens.clone());
        let issuer = Some(exchange.issuer);
        RedeemedCode {
            obtained: Some(ObtainedTokens { issuer, tokens }),
            ..redeemed
        }
    }
}
