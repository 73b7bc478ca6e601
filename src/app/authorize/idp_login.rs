//! A login at an identity provider: the browser goes there and comes back, before consent.

use std::net::IpAddr;
use std::sync::Arc;

use crate::app::audit_events;
use crate::app::authorize::Authorize;
use crate::app::authorize::callback_params::{CallbackParams, CallbackResult, ForeignError};
use crate::app::authorize::idp_outcome::{DeniedUser, IdpOutcome, LoginRedirect};
use crate::app::authorize::repeated_callbacks::{Callback, request_digest, wait_for_answer};
use crate::app::authorize::results::FlowPage;
use crate::app::error::{IDP_SETUP_MESSAGE, Rejection};
use crate::app::flow_handle::{ClientRedirect, FLOW_NOT_FOUND, FlowHandle, flow_error};
use crate::app::idp_cache::ActiveIdp;
use crate::app::user_policy::allow_list_subject;
use crate::base::ids::{Digest, Id};
use crate::base::random;
use crate::base::secret::Secret;
use crate::flow::authorize::ClientAuthorize;
use crate::flow::error::RejectReason;
use crate::flow::flow_record::FlowRecord;
use crate::flow::login::{IdpCallback, IdpCallbackParams, IdpRedirect, IdpRedirectParams, LoginExchange};
use crate::flow::user::{LoginMethod, User};
use crate::net::http_client::HttpClient;
use crate::oauth::error::OAuthErrorCode;
use crate::oauth::form::Form;
use crate::oauth::pkce::CodeChallenge;
use crate::store::{TransitionError, Transitioned};
use crate::upstream::oidc::{IdpError, LoginParams, Provider};
use crate::upstream::token_endpoint::AuthorizeUrlParams;

/// The provider refuses a scope (RFC 6749 §4.1.2.1).
const INVALID_SCOPE: &str = "invalid_scope";

/// The random values of one redirect to a provider.
struct NewLogin {
    browser: Secret,
    state: Secret,
    nonce: Secret,
    verifier: Secret,
    is_offline: bool,
    max_age: Option<u64>,
}

impl NewLogin {
    fn new(is_offline: bool) -> Self {
        Self {
            browser: random::token(),
            state: random::token(),
            nonce: random::token(),
            verifier: random::token(),
            is_offline,
            max_age: None,
        }
    }

    fn params(&self, active: &ActiveIdp, provider: &Provider) -> IdpRedirectParams {
        IdpRedirectParams {
            provider: active.idp.name.clone(),
            browser: Digest::new(self.browser.expose()),
            idp_state: Digest::new(self.state.expose()),
            nonce: Digest::new(self.nonce.expose()),
            verifier: self.verifier.clone(),
            issuer: provider.target.issuer.clone(),
            iss_promised: provider.target.iss_promised,
            is_offline: self.is_offline,
        }
    }
}

impl Authorize {
    /// Sends the browser to the provider of the flow's service. `source` is the caller's address, which
    /// counts pending flows.
    ///
    /// # Errors
    /// If the flow does not wait for this login, or the provider or the store does not answer.
    pub async fn redirect_to_idp(
        self: &Arc<Self>,
        http: &HttpClient,
        flow: &FlowHandle,
        form: Option<&str>,
        source: IpAddr,
    ) -> Result<LoginRedirect, Rejection> {
        let FlowPage::ToProvider(request, _) = self.page(flow, form).await? else {
            return Err(FLOW_NOT_FOUND);
        };
        let LoginMethod::Provider(name) = request.way.by else {
            return Err(FLOW_NOT_FOUND);
        };
        let active = self.core.config().idp(&name).cloned().ok_or(FLOW_NOT_FOUND)?;
        let provider = self.discovery.provider(http, &active).await?;
        let now = self.core.clock.now();
        let keeps_session = self.grants.persistence().keeps_provider_sessions();
        let mut login = NewLogin::new(keeps_session && provider.requests_offline_access(&active.idp.scopes));
        login.max_age = request.max_age;
        let step = |s: ClientAuthorize| s.sent_to_idp(form, login.params(&active, &provider), now);
        let transition = self.core.store.transition(flow, step).await.map_err(flow_error)?;
        // The flow still waits for a login, and its lifetime starts again.
        if let Some(evicted) = self.pending_flows.restart(flow.id(), source, now) {
            self.evict(evicted).await;
        }
        self.grants.persistence().check_size(&transition.handle)?;
        Ok(self.login_redirect(&active, &provider, login, transition.handle))
    }

    fn login_redirect(&self, active: &ActiveIdp, provider: &Provider, login: NewLogin, flow: FlowHandle) -> LoginRedirect {
        let login_params = LoginParams {
            nonce: &login.nonce,
            is_offline: login.is_offline,
            max_age: login.max_age,
        };
        let state = Secret::from(format!("{flow}.{}", login.state.expose()));
        let challenge = CodeChallenge::of(&login.verifier);
        let params = AuthorizeUrlParams {
            state: state.expose(),
            challenge: challenge.as_str(),
            redirect_uri: &self.core.urls.login_callback(&active.idp.name),
            scopes: &active.idp.requested_scopes(),
        };
        LoginRedirect {
            location: provider.authorize_url(&params, &login_params),
            callback_cookie: login.browser,
            flow,
        }
    }

    /// Sends the browser to the provider again, without `offline_access`, which the provider refused.
    /// `None`: this flow did not request it. The refusal is not remembered: any browser can report one, and
    /// would turn the checks of all users off.
    async fn repeat_login(
        &self,
        active: &ActiveIdp,
        flow: &FlowHandle,
        callback: IdpCallbackParams<'_>,
    ) -> Result<Option<LoginRedirect>, Rejection> {
        let provider = self.discovery.provider(self.core.tasks.http(), active).await?;
        let (now, mut login) = (self.core.clock.now(), NewLogin::new(false));
        let step = |s: IdpRedirect| s.repeated(callback, login.params(active, &provider), now);
        let handle = match self.core.store.transition(flow, step).await {
            Ok(transition) => {
                login.max_age = transition.effect;
                transition.handle
            }
            Err(TransitionError::Rejected(RejectReason::WrongStep)) => return Ok(None),
            Err(error) => return Err(flow_error(error)),
        };
        tracing::info!(
            idp = active.idp.name,
            "the identity provider refused offline_access; the sign-in is repeated without it"
        );
        Ok(Some(self.login_redirect(active, &provider, login, handle)))
    }

    /// Reads the callback of a provider. `cookies` finds what the browser holds of a flow: the handle to
    /// use, and the cookie that was set when the browser left.
    ///
    /// # Errors
    /// If the callback does not belong to a flow of this browser, or the store fails.
    pub async fn idp_callback(
        self: &Arc<Self>,
        active: &Arc<ActiveIdp>,
        query: &[u8],
        cookies: impl Fn(FlowHandle) -> (FlowHandle, Option<String>),
    ) -> Result<IdpOutcome, Rejection> {
        let form = Form::parse(query)?;
        let CallbackParams { flow, browser, .. } = CallbackParams::parse(&form, cookies)?;
        let (request, now) = (request_digest(query, browser.as_deref()), self.core.clock.now());
        let first = match self.idp_callbacks.arrived(flow.id(), request, now) {
            Callback::Repetition(answer) => match wait_for_answer(answer).await {
                Some(outcome) if self.is_at_consent(&flow, &outcome).await => return Ok(outcome),
                Some(_) | None => None,
            },
            Callback::First(first) => Some(first),
            Callback::Other => None,
        };
        // Detached: a browser that goes away may come again for the answer.
        let (this, active) = (Arc::clone(self), Arc::clone(active));
        let work = async move {
            let result = this.answer_idp_callback(&active, &form, flow, browser).await;
            if let (Some(first), Ok(outcome)) = (first, &result) {
                first.answered(outcome.clone(), this.core.clock.now());
            }
            result
        };
        self.core
            .tasks
            .spawn(work)
            .await
            .map_err(|_| Rejection::TryLater { retry_after: 1 })?
    }

    /// Whether the answer of a flow's callback is still of use: the user did not decide yet.
    async fn is_at_consent(&self, flow: &FlowHandle, outcome: &IdpOutcome) -> bool {
        let flow = if let IdpOutcome::SignedIn(flow, _) = outcome { flow } else { flow };
        match self.core.store.read(flow).await {
            Ok(Some(FlowRecord::GatewayLogin(_) | FlowRecord::IdpRedirect(_) | FlowRecord::Closed(_))) => true,
            Ok(_) | Err(_) => false,
        }
    }

    async fn answer_idp_callback(
        self: &Arc<Self>,
        active: &Arc<ActiveIdp>,
        form: &Form,
        flow: FlowHandle,
        browser: Option<String>,
    ) -> Result<IdpOutcome, Rejection> {
        let params = CallbackParams::parse(form, |_| (flow.clone(), browser.clone()))?;
        let callback = IdpCallbackParams {
            provider: &active.idp.name,
            idp_state: params.state,
            browser: params.browser.as_deref(),
            issuer: params.issuer,
        };
        let now = self.core.clock.now();
        let code = match params.result {
            Some(CallbackResult::Error(error)) => {
                if error.code == INVALID_SCOPE
                    && let Some(redirect) = self.repeat_login(active, &flow, callback).await?
                {
                    return Ok(IdpOutcome::Repeat(redirect));
                }
                let transition = self.core.store.transition(&flow, |s: IdpRedirect| s.refused(callback, now)).await;
                let return_address = transition.map_err(flow_error)?.effect;
                self.pending_flows.remove(flow.id());
                let description = error.description();
                tracing::warn!(
                    idp = active.idp.name,
                    error = %error.code.escape_debug(),
                    description = %description.as_deref().unwrap_or_default().escape_debug(),
                    "the identity provider refused to sign in"
                );
                let (code, what) = idp_error(error);
                let redirect = ClientRedirect::with_error(flow, return_address, code, &error.message(what, "it"));
                return Ok(IdpOutcome::Failed(redirect, description));
            }
            Some(CallbackResult::Code(code)) => Secret::from(code),
            None => return Err(Rejection::Unknown("the identity provider sent neither a code nor an error")),
        };
        let transition = self.core.store.transition(&flow, |s: IdpRedirect| s.returned(callback, now)).await;
        let transition = transition.map_err(flow_error)?;
        self.pending_flows.remove(flow.id());
        self.finish_login(active, flow, transition, &code).await
    }

    async fn finish_login(
        &self,
        active: &ActiveIdp,
        flow: FlowHandle,
        transition: Transitioned<IdpCallback, LoginExchange>,
        code: &Secret,
    ) -> Result<IdpOutcome, Rejection> {
        let name = &active.idp.name;
        let (identity, session) = match self.discovery.fetch_identity(active, code, &transition.effect).await {
            Ok(fetched) => fetched,
            Err(error) => {
                tracing::warn!(idp = name, %error, "a sign-in at the identity provider failed");
                self.record_refusal(flow.id(), None, "provider_failed");
                return self.provider_failed(&transition.handle, flow, &error).await;
            }
        };
        let user = User::with_identity(identity.clone());
        // The allow list of now, which may differ from the one when the browser left.
        let config = self.core.config();
        if !config
            .idp(name)
            .is_some_and(|current| current.idp.is_allowed(allow_list_subject(&identity)))
        {
            tracing::warn!(
                idp = name,
                user = user.subject,
                email = identity.email.as_deref().unwrap_or(""),
                "a user is not allowed to sign in"
            );
            self.record_refusal(flow.id(), Some(&user.subject), "not_allowed");
            let description = "this user may not use the gateway";
            let redirect = self
                .login_failed(&transition.handle, flow, OAuthErrorCode::AccessDenied, description)
                .await?;
            let denied = DeniedUser {
                who: user.display_name().to_owned(),
                provider: active.idp.display_name().to_owned(),
            };
            return Ok(IdpOutcome::NotAdmitted(redirect, denied));
        }
        let (now, form) = (self.core.clock.now(), random::token());
        let session = session.filter(|_| self.grants.persistence().keeps_provider_sessions());
        let step = |s: IdpCallback| s.identified(identity.clone(), session.clone(), Digest::new(form.expose()), now);
        let transition = self.core.store.transition(&transition.handle, step).await.map_err(flow_error)?;
        self.grants.persistence().check_size(&transition.handle)?;
        tracing::info!(idp = name, user = user.subject, "signed in");
        self.core.audit.record(audit_events::signed_in(flow.id(), &user, name));
        Ok(IdpOutcome::SignedIn(transition.handle, form))
    }

    /// Closes the flow: the provider did not identify a user.
    async fn provider_failed(&self, handle: &FlowHandle, flow: FlowHandle, error: &IdpError) -> Result<IdpOutcome, Rejection> {
        let code = match error {
            IdpError::Down(_) => OAuthErrorCode::TemporarilyUnavailable,
            IdpError::Refused(_) | IdpError::SessionEnded(_) => OAuthErrorCode::AccessDenied,
            IdpError::Setup(_) => {
                let failed = self.login_failed(handle, flow, OAuthErrorCode::ServerError, IDP_SETUP_MESSAGE);
                return failed.await.map(IdpOutcome::SetupFault);
            }
        };
        let failed = self.login_failed(handle, flow, code, "the sign-in at the identity provider failed; try again");
        failed.await.map(|redirect| IdpOutcome::Failed(redirect, None))
    }

    fn record_refusal(&self, flow: Id, user: Option<&str>, reason: &'static str) {
        self.core.audit.record(audit_events::sign_in_refused(flow, user, reason));
    }

    async fn login_failed(
        &self,
        handle: &FlowHandle,
        flow: FlowHandle,
        code: OAuthErrorCode,
        description: &str,
    ) -> Result<ClientRedirect, Rejection> {
        let return_address = self
            .core
            .store
            .transition(handle, IdpCallback::failed)
            .await
            .map_err(flow_error)?
            .effect;
        Ok(ClientRedirect::with_error(flow, return_address, code, description))
    }
}

/// The provider's error (OpenID Connect Core, section 3.1.2.6) as an error for the client.
fn idp_error(error: ForeignError<'_>) -> (OAuthErrorCode, &'static str) {
    match error.code {
        // A provider that gives a reason refused, and the user did not cancel.
        "access_denied" if error.description.is_some() => (OAuthErrorCode::AccessDenied, "the identity provider refused the sign-in"),
        "access_denied" => (
            OAuthErrorCode::AccessDenied,
            "the sign-in was refused or cancelled at the identity provider",
        ),
        "temporarily_unavailable" => (
            OAuthErrorCode::TemporarilyUnavailable,
            "the identity provider is temporarily unavailable",
        ),
        _ => (OAuthErrorCode::ServerError, "the identity provider refused the request"),
    }
}
