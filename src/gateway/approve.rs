//! The user says yes, or no: where the consent page leads.

use crate::base::ids::Digest;
use crate::base::random;
use crate::base::secret::Secret;
use crate::flow::authorize::{Asked, ClientAuthorize, GatewayLogin, ToUpstream};
use crate::flow::client::ReturnAddress;
use crate::flow::code::Obtained;
use crate::flow::who::Who;
use crate::gateway::authorize::{Flow, GONE, Shown, ToSignIn, missed};
use crate::gateway::callback::Home;
use crate::gateway::carried;
use crate::gateway::live::Running;
use crate::gateway::paste::{Approval, NotTaken};
use crate::gateway::rejection::Rejection;
use crate::gateway::{Gateway, Lane};
use crate::oauth::pkce::Challenge;
use crate::service::AfterConsent;
use crate::store::Missed;
use crate::upstream::exchange::{self, Asking};

/// Where consent leads.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once in a journey, and taken apart at once")]
pub enum Onward {
    /// To the upstream's authorization server.
    Upstream(ToSignIn),
    /// Back to the client, with its code.
    Home(Home),
    /// To the consent page again: what the user pasted is not taken.
    Again(Asked, Who, NotTaken),
}

impl Gateway {
    /// The user says yes: the way to the upstream, and the cookie that must come back; or straight back to the client.
    pub async fn approve(&self, lane: &Lane, flow: &Flow, approval: Approval<'_>) -> Result<Onward, Rejection> {
        let Shown::Consent(asked, who) = self.shown(flow, approval.form).await? else {
            return Err(GONE);
        };
        let running = self.running(&asked.service).ok_or(GONE)?;
        let onward = self.onward(lane, flow, approval, (asked.clone(), who.clone(), &running)).await?;
        match onward {
            Onward::Upstream(_) | Onward::Home(_) => self.remember(&asked, &who, &running).await,
            Onward::Again(..) => {}
        }
        Ok(onward)
    }

    pub(super) async fn onward(
        &self,
        lane: &Lane,
        flow: &Flow,
        approval: Approval<'_>,
        (asked, who, running): (Asked, Who, &Running),
    ) -> Result<Onward, Rejection> {
        self.stands(&running.service, &asked.way, &who)?;
        let form = approval.form;
        match running.service.upstream.after_consent() {
            AfterConsent::Upstream => self
                .to_upstream(lane, running, flow, form, (&asked, &who))
                .await
                .map(Onward::Upstream),
            AfterConsent::Form(paste) => match self.unlocked(lane, (running, paste), flow, &approval).await {
                Ok(obtained) => self.granted_here(flow, form, Some(obtained)).await.map(Onward::Home),
                Err(why) => Ok(Onward::Again(asked, who, why)),
            },
            AfterConsent::Nowhere => self.granted_here(flow, form, None).await.map(Onward::Home),
        }
    }

    async fn to_upstream(
        &self,
        lane: &Lane,
        running: &Running,
        flow: &Flow,
        form: Option<&str>,
        (asked, who): (&Asked, &Who),
    ) -> Result<ToSignIn, Rejection> {
        let target = self.target(lane, running).await?;
        let (now, browser, state, verifier) = (self.clock.now(), random::token(), random::token(), random::token());
        let step = |s: GatewayLogin| {
            let to = ToUpstream {
                browser: Digest::of(browser.expose()),
                upstream_state: Digest::of(state.expose()),
                verifier: verifier.clone(),
                issuer: target.issuer.clone(),
                iss_promised: target.iss_promised,
            };
            s.approve(form, to, now)
        };
        let moved = self.store.transition(flow, step).await.map_err(missed)?;
        self.waiting.left(flow.id());
        tracing::info!(
            service = asked.service,
            user = who.subject,
            client = asked.client_name.as_deref().unwrap_or(""),
            "consent given"
        );
        let state = Secret::from(format!("{}.{}", moved.handle, state.expose()));
        let challenge = Challenge::of(&verifier);
        let asking = Asking {
            state: state.expose(),
            challenge: challenge.as_str(),
            redirect_uri: &self.site.upstream_callback(&running.service),
            scopes: &asked.scopes.list(),
        };
        let location = exchange::authorize_url(&target, &asking);
        carried::fits(&moved.handle)?;
        Ok(ToSignIn {
            location,
            browser,
            flow: moved.handle,
        })
    }

    /// The user said yes, and nothing is to be asked of an authorization server upstream: the code is issued at once.
    pub(crate) async fn granted_here(&self, flow: &Flow, form: Option<&str>, obtained: Option<Obtained>) -> Result<Home, Rejection> {
        if self.store.carries() {
            return self.granted_carried(flow, form, obtained.as_ref()).await;
        }
        let (now, secret) = (self.clock.now(), random::token());
        let step = |s: GatewayLogin| s.granted(form, obtained.clone(), Digest::of(secret.expose()), now);
        let moved = self.store.transition(flow, step).await.map_err(missed)?;
        self.waiting.left(flow.id());
        let code = Secret::from(format!("{}.{}", moved.handle, secret.expose()));
        Ok(Home {
            location: moved.out.with_code(&code),
            back: moved.out,
            flow: flow.clone(),
        })
    }

    /// The user says no, on either page: the client is told.
    pub async fn deny(&self, flow: &Flow, form: Option<&str>) -> Result<ReturnAddress, Rejection> {
        // First, so that a journey that is denied never leaves a consent behind.
        self.forget(flow, form).await?;
        let now = self.clock.now();
        let back = match self.store.transition(flow, |s: GatewayLogin| s.deny(form, now)).await {
            Ok(moved) => moved.out,
            Err(Missed::OtherState) => {
                let step = |s: ClientAuthorize| s.deny(form, now);
                self.store.transition(flow, step).await.map_err(missed)?.out
            }
            Err(other) => return Err(missed(other)),
        };
        self.waiting.left(flow.id());
        Ok(back)
    }
}
