//! The user consents, or denies.

use crate::app::audit_events;
use crate::app::authorize::Authorize;
use crate::app::authorize::consent_form::ConsentForm;
use crate::app::authorize::idp_outcome::LoginRedirect;
use crate::app::authorize::results::{ConsentOutcome, FlowPage};
use crate::app::error::Rejection;
use crate::app::flow_handle::{ClientRedirect, FLOW_NOT_FOUND, FlowHandle, flow_error};
use crate::app::runtime_config::ActiveService;
use crate::app::user_policy;
use crate::base::ids::Digest;
use crate::base::random;
use crate::base::secret::Secret;
use crate::flow::authorize::{AuthorizationRequest, ClientAuthorize, Denial, GatewayLogin, UpstreamRedirectParams};
use crate::flow::code::ObtainedTokens;
use crate::flow::consent::RememberConsent;
use crate::flow::user::User;
use crate::net::http_client::HttpClient;
use crate::oauth::pkce::CodeChallenge;
use crate::service::AfterConsent;
use crate::store::TransitionError;
use crate::upstream::token_endpoint::{self, AuthorizeUrlParams};

/// A flow at consent.
struct AtConsent<'a> {
    active: &'a ActiveService,
    request: AuthorizationRequest,
    who: User,
}

impl Authorize {
    /// The user consents: to the upstream's authorization server, or straight back to the client.
    ///
    /// # Errors
    /// If the flow is not at consent, the configuration changed, or the upstream or the store does not
    /// answer.
    pub async fn approve(&self, http: &HttpClient, form: ConsentForm<'_>) -> Result<ConsentOutcome, Rejection> {
        let FlowPage::Consent(request, user) = self.page(form.flow, form.form).await? else {
            return Err(FLOW_NOT_FOUND);
        };
        let active = self.core.active_service(&request.service).ok_or(FLOW_NOT_FOUND)?;
        let context = AtConsent {
            active: &active,
            request: request.clone(),
            who: user.clone(),
        };
        let flow = form.flow.id();
        let outcome = self.continue_flow(http, context, form).await?;
        match outcome {
            ConsentOutcome::Upstream(_) | ConsentOutcome::ClientRedirect(_) => {
                let given = audit_events::consent_given(flow, &request, &user, false);
                self.core.audit.record(given);
                self.remember_consent(&request, &user, &active).await;
            }
            ConsentOutcome::AskAgain(..) => {}
        }
        Ok(outcome)
    }

    /// Goes on without the consent page, as [`Authorize::approve`] does, if the user consented to the
    /// same before and the client need not ask each time. `None`: the page is shown.
    ///
    /// # Errors
    /// As [`Authorize::approve`].
    pub async fn try_remembered(&self, http: &HttpClient, form: ConsentForm<'_>) -> Result<Option<ConsentOutcome>, Rejection> {
        let FlowPage::Consent(request, user) = self.page(form.flow, form.form).await? else {
            return Ok(None);
        };
        if request.remember != RememberConsent::Use {
            return Ok(None);
        }
        let active = self.core.active_service(&request.service).ok_or(FLOW_NOT_FOUND)?;
        if !self.is_consent_remembered(&request, &user, &active).await? {
            return Ok(None);
        }
        tracing::info!(
            service = request.service,
            user = user.subject,
            client = request.client_id,
            "consent was given before"
        );
        let given = audit_events::consent_given(form.flow.id(), &request, &user, true);
        let context = AtConsent {
            active: &active,
            request,
            who: user,
        };
        let outcome = self.continue_flow(http, context, form).await?;
        self.core.audit.record(given);
        Ok(Some(outcome))
    }

    async fn continue_flow(&self, http: &HttpClient, context: AtConsent<'_>, form: ConsentForm<'_>) -> Result<ConsentOutcome, Rejection> {
        user_policy::check_flow(&self.core.config(), &context.active.service, &context.request.way, &context.who)?;
        let tokens = match context.active.service.upstream.after_consent() {
            AfterConsent::Upstream => {
                let redirect = self.redirect_to_upstream(http, &context, &form).await?;
                return Ok(ConsentOutcome::Upstream(redirect));
            }
            AfterConsent::Form(paste) => match self.verify_user_credential(http, &context.active.service, paste, &form).await {
                Ok(tokens) => Some(tokens),
                Err(error) => return Ok(ConsentOutcome::AskAgain(context.request, context.who, error)),
            },
            AfterConsent::Nowhere => None,
        };
        let redirect = self.issue_code(form.flow, form.form, tokens).await?;
        Ok(ConsentOutcome::ClientRedirect(redirect))
    }

    async fn redirect_to_upstream(
        &self,
        http: &HttpClient,
        context: &AtConsent<'_>,
        form: &ConsentForm<'_>,
    ) -> Result<LoginRedirect, Rejection> {
        let server = self.discovery.auth_server(http, context.active).await?;
        let (now, browser, state, verifier) = (self.core.clock.now(), random::token(), random::token(), random::token());
        let step = |s: GatewayLogin| {
            let redirect_params = UpstreamRedirectParams {
                browser: Digest::new(browser.expose()),
                upstream_state: Digest::new(state.expose()),
                verifier: verifier.clone(),
                issuer_is_guess: server.issuer_is_guess,
                issuer: server.issuer.clone(),
                iss_promised: server.iss_promised,
            };
            s.consented(form.form, redirect_params, now)
        };
        let transition = self.core.store.transition(form.flow, step).await.map_err(flow_error)?;
        self.pending_flows.remove(form.flow.id());
        tracing::info!(
            service = context.request.service,
            user = context.who.subject,
            client = context.request.client_name.as_deref().unwrap_or(""),
            "consent given"
        );
        let state = Secret::from(format!("{}.{}", transition.handle, state.expose()));
        let challenge = CodeChallenge::of(&verifier);
        let params = AuthorizeUrlParams {
            state: state.expose(),
            challenge: challenge.as_str(),
            redirect_uri: &self.core.urls.upstream_callback(&context.active.service),
            scopes: &context.request.scopes.list(),
        };
        let location = token_endpoint::authorize_url(&server, &params);
        self.grants.persistence().check_size(&transition.handle)?;
        Ok(LoginRedirect {
            location,
            callback_cookie: browser,
            flow: transition.handle,
        })
    }

    /// Issues the code immediately, without a sign-in at an upstream.
    async fn issue_code(&self, flow: &FlowHandle, form: Option<&str>, tokens: Option<ObtainedTokens>) -> Result<ClientRedirect, Rejection> {
        let redirect = self.grants.persistence().issue_code(&self.core, flow, form, tokens).await?;
        self.pending_flows.remove(flow.id());
        Ok(redirect)
    }

    /// The user denies, on either page. The client may receive `access_denied`.
    ///
    /// # Errors
    /// If the flow is past consent, or the store fails.
    pub async fn deny(&self, flow: &FlowHandle, form: Option<&str>) -> Result<Denial, Rejection> {
        // First, so that a denied flow never leaves a consent behind.
        self.forget_consent(flow, form).await?;
        let now = self.core.clock.now();
        let denial = match self.core.store.transition(flow, |s: GatewayLogin| s.denied(form, now)).await {
            Ok(transition) => transition.effect,
            Err(TransitionError::WrongState) => {
                let step = |s: ClientAuthorize| s.denied(form, now);
                self.core.store.transition(flow, step).await.map_err(flow_error)?.effect
            }
            Err(error) => return Err(flow_error(error)),
        };
        self.pending_flows.remove(flow.id());
        self.core.audit.record(audit_events::consent_denied(flow.id()));
        Ok(denial)
    }
}
