//! The user says yes, or no: where the consent page leads.

use crate::app::authorize::start::{FLOW_NOT_FOUND, FlowHandle, FlowPage, LoginRedirect, flow_error};
use crate::app::authorize::upstream_callback::ClientRedirect;
use crate::app::authorize::user_credential::{ConsentForm, CredentialError};
use crate::app::error::Rejection;
use crate::app::grants::client_side;
use crate::app::runtime_config::ActiveService;
use crate::app::{Gateway, Lane};
use crate::base::ids::Digest;
use crate::base::random;
use crate::base::secret::Secret;
use crate::flow::authorize::{AuthorizationRequest, ClientAuthorize, GatewayLogin, UpstreamRedirectParams};
use crate::flow::client::ReturnAddress;
use crate::flow::code::ObtainedTokens;
use crate::flow::user::User;
use crate::oauth::pkce::CodeChallenge;
use crate::service::AfterConsent;
use crate::store::TransitionError;
use crate::upstream::token_endpoint::{self, AuthorizeUrlParams};

/// Where consent leads.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once in a journey, and taken apart at once")]
pub enum ConsentOutcome {
    /// To the upstream's authorization server.
    Upstream(LoginRedirect),
    /// Back to the client, with its code.
    ClientRedirect(ClientRedirect),
    /// To the consent page again: what the user pasted is not taken.
    AskAgain(AuthorizationRequest, User, CredentialError),
}

impl Gateway {
    /// The user says yes: the way to the upstream, and the cookie that must come back; or straight back to the client.
    pub async fn approve(&self, lane: &Lane, flow: &FlowHandle, approval: ConsentForm<'_>) -> Result<ConsentOutcome, Rejection> {
        let FlowPage::Consent(asked, who) = self.page(flow, approval.form).await? else {
            return Err(FLOW_NOT_FOUND);
        };
        let running = self.running(&asked.service).ok_or(FLOW_NOT_FOUND)?;
        let onward = self
            .after_consent(lane, flow, approval, (asked.clone(), who.clone(), &running))
            .await?;
        match onward {
            ConsentOutcome::Upstream(_) | ConsentOutcome::ClientRedirect(_) => self.remember_consent(&asked, &who, &running).await,
            ConsentOutcome::AskAgain(..) => {}
        }
        Ok(onward)
    }

    pub(crate) async fn after_consent(
        &self,
        lane: &Lane,
        flow: &FlowHandle,
        approval: ConsentForm<'_>,
        (asked, who, running): (AuthorizationRequest, User, &ActiveService),
    ) -> Result<ConsentOutcome, Rejection> {
        self.check_flow(&running.service, &asked.way, &who)?;
        let form = approval.form;
        match running.service.upstream.after_consent() {
            AfterConsent::Upstream => self
                .redirect_to_upstream(lane, running, flow, form, (&asked, &who))
                .await
                .map(ConsentOutcome::Upstream),
            AfterConsent::Form(paste) => match self.verify_user_credential(lane, (running, paste), flow, &approval).await {
                Ok(obtained) => self
                    .issue_code_after_consent(flow, form, Some(obtained))
                    .await
                    .map(ConsentOutcome::ClientRedirect),
                Err(why) => Ok(ConsentOutcome::AskAgain(asked, who, why)),
            },
            AfterConsent::Nowhere => self
                .issue_code_after_consent(flow, form, None)
                .await
                .map(ConsentOutcome::ClientRedirect),
        }
    }

    async fn redirect_to_upstream(
        &self,
        lane: &Lane,
        running: &ActiveService,
        flow: &FlowHandle,
        form: Option<&str>,
        (asked, who): (&AuthorizationRequest, &User),
    ) -> Result<LoginRedirect, Rejection> {
        let target = self.auth_server(lane, running).await?;
        let (now, browser, state, verifier) = (self.clock.now(), random::token(), random::token(), random::token());
        let step = |s: GatewayLogin| {
            let to = UpstreamRedirectParams {
                browser: Digest::new(browser.expose()),
                upstream_state: Digest::new(state.expose()),
                verifier: verifier.clone(),
                issuer: target.issuer.clone(),
                iss_promised: target.iss_promised,
            };
            s.consented(form, to, now)
        };
        let moved = self.store.transition(flow, step).await.map_err(flow_error)?;
        self.waiting.remove(flow.id());
        tracing::info!(
            service = asked.service,
            user = who.subject,
            client = asked.client_name.as_deref().unwrap_or(""),
            "consent given"
        );
        let state = Secret::from(format!("{}.{}", moved.handle, state.expose()));
        let challenge = CodeChallenge::of(&verifier);
        let asking = AuthorizeUrlParams {
            state: state.expose(),
            challenge: challenge.as_str(),
            redirect_uri: &self.site.upstream_callback(&running.service),
            scopes: &asked.scopes.list(),
        };
        let location = token_endpoint::authorize_url(&target, &asking);
        client_side::check_size(&moved.handle)?;
        Ok(LoginRedirect {
            location,
            callback_cookie: browser,
            flow: moved.handle,
        })
    }

    /// The user said yes, and nothing is to be asked of an authorization server upstream: the code is issued at once.
    pub(crate) async fn issue_code_after_consent(
        &self,
        flow: &FlowHandle,
        form: Option<&str>,
        obtained: Option<ObtainedTokens>,
    ) -> Result<ClientRedirect, Rejection> {
        if self.store.is_stateless() {
            return self.issue_code(flow, form, obtained.as_ref()).await;
        }
        let (now, secret) = (self.clock.now(), random::token());
        let step = |s: GatewayLogin| s.granted(form, obtained.clone(), Digest::new(secret.expose()), now);
        let moved = self.store.transition(flow, step).await.map_err(flow_error)?;
        self.waiting.remove(flow.id());
        let code = Secret::from(format!("{}.{}", moved.handle, secret.expose()));
        Ok(ClientRedirect {
            location: moved.effect.with_code(&code),
            back: moved.effect,
            flow: flow.clone(),
        })
    }

    /// The user says no, on either page: the client is told.
    pub async fn deny(&self, flow: &FlowHandle, form: Option<&str>) -> Result<ReturnAddress, Rejection> {
        // First, so that a journey that is denied never leaves a consent behind.
        self.forget_consent(flow, form).await?;
        let now = self.clock.now();
        let back = match self.store.transition(flow, |s: GatewayLogin| s.denied(form, now)).await {
            Ok(moved) => moved.effect,
            Err(TransitionError::WrongState) => {
                let step = |s: ClientAuthorize| s.denied(form, now);
                self.store.transition(flow, step).await.map_err(flow_error)?.effect
            }
            Err(other) => return Err(flow_error(other)),
        };
        self.waiting.remove(flow.id());
        Ok(back)
    }
}
