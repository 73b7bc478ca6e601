//! The upstream sends the browser back: its code is exchanged, and ours is issued.

use std::sync::Arc;

use crate::app::authorize::Authorize;
use crate::app::authorize::callback_params::{CallbackParams, CallbackResult, ForeignError};
use crate::app::authorize::repeated_callbacks::{Callback, request_digest, wait_for_answer};
use crate::app::error::Rejection;
use crate::app::flow_handle::{ClientRedirect, FlowHandle, flow_error};
use crate::app::grants::persistence::AcceptedCode;
use crate::app::runtime_config::ActiveService;
use crate::base::ids::Digest;
use crate::base::random;
use crate::base::secret::Secret;
use crate::flow::authorize::{CodeExchange, UpstreamCallback, UpstreamCallbackParams, UpstreamRedirect};
use crate::flow::flow_record::FlowRecord;
use crate::oauth::error::OAuthErrorCode;
use crate::oauth::form::Form;
use crate::oauth::token_response::UpstreamTokens;
use crate::store::Transitioned;

impl Authorize {
    /// Reads the callback of a service's upstream. `cookies` finds what the browser holds of a flow: the
    /// handle to use, and the cookie that only the browser has in which the user consented.
    ///
    /// # Errors
    /// If the callback does not belong to a flow of this browser, or the store fails.
    pub async fn callback(
        self: &Arc<Self>,
        active: &Arc<ActiveService>,
        query: &[u8],
        cookies: impl Fn(FlowHandle) -> (FlowHandle, Option<String>),
    ) -> Result<ClientRedirect, Rejection> {
        let form = Form::parse(query)?;
        let CallbackParams { flow, browser, .. } = CallbackParams::parse(&form, cookies)?;
        let (request, now) = (request_digest(query, browser.as_deref()), self.core.clock.now());
        let first = match self.upstream_callbacks.arrived(flow.id(), request, now) {
            Callback::Repetition(answer) => match wait_for_answer(answer).await {
                Some(redirect) if self.is_unredeemed(&redirect.flow).await => return Ok(redirect),
                Some(_) | None => None,
            },
            Callback::First(first) => Some(first),
            Callback::Other => None,
        };
        // Detached: a browser that goes away may come again for the answer.
        let (this, active) = (Arc::clone(self), Arc::clone(active));
        let work = async move {
            let result = this.answer_callback(&active, &form, flow, browser).await;
            if let (Some(first), Ok(redirect)) = (first, &result) {
                first.answered(redirect.clone(), this.core.clock.now());
            }
            result
        };
        self.core
            .tasks
            .spawn(work)
            .await
            .map_err(|_| Rejection::TryLater { retry_after: 1 })?
    }

    /// Whether the answer of a flow's callback is still of use: the client did not redeem the code yet.
    async fn is_unredeemed(&self, flow: &FlowHandle) -> bool {
        let record = self.core.store.read(flow).await;
        record.is_ok_and(|record| !matches!(record, None | Some(FlowRecord::CodeSpent(_))))
    }

    async fn answer_callback(
        self: &Arc<Self>,
        active: &Arc<ActiveService>,
        form: &Form,
        flow: FlowHandle,
        browser: Option<String>,
    ) -> Result<ClientRedirect, Rejection> {
        let params = CallbackParams::parse(form, |_| (flow.clone(), browser.clone()))?;
        let callback = UpstreamCallbackParams {
            service: &active.service.name,
            upstream_state: params.state,
            browser: params.browser.as_deref(),
            issuer: params.issuer,
        };
        match params.result {
            Some(CallbackResult::Error(error)) => self.handle_upstream_error(flow, callback, error).await,
            Some(CallbackResult::Code(code)) => self.handle_upstream_code(active, flow, callback, code).await,
            None => Err(Rejection::Unknown("the upstream sent neither a code nor an error")),
        }
    }

    async fn handle_upstream_error(
        &self,
        flow: FlowHandle,
        callback: UpstreamCallbackParams<'_>,
        error: ForeignError<'_>,
    ) -> Result<ClientRedirect, Rejection> {
        let now = self.core.clock.now();
        let step = |s: UpstreamRedirect| s.refused(callback, now);
        let transition = self.core.store.transition(&flow, step).await.map_err(flow_error)?;
        let (code, what) = match error.code {
            "access_denied" => (OAuthErrorCode::AccessDenied, "access was refused at the upstream"),
            "temporarily_unavailable" => (OAuthErrorCode::TemporarilyUnavailable, "the upstream is temporarily unavailable"),
            _ => (OAuthErrorCode::ServerError, "the upstream refused the request"),
        };
        tracing::warn!(
            error = %error.code.escape_debug(),
            description = %error.description().unwrap_or_default().escape_debug(),
            "the upstream refused to authorize"
        );
        Ok(ClientRedirect::with_error(
            flow,
            transition.effect,
            code,
            &error.message(what, "it"),
        ))
    }

    async fn handle_upstream_code(
        self: &Arc<Self>,
        active: &Arc<ActiveService>,
        flow: FlowHandle,
        callback: UpstreamCallbackParams<'_>,
        code: &str,
    ) -> Result<ClientRedirect, Rejection> {
        let acceptance = self.grants.persistence().accept_upstream_code(&self.core, &flow, callback, code);
        let transition = match acceptance.await? {
            AcceptedCode::Exchange(transition) => transition,
            AcceptedCode::Issued(redirect) => return Ok(redirect),
        };
        self.finish_exchange(active, flow, transition, &Secret::from(code)).await
    }

    async fn finish_exchange(
        &self,
        active: &ActiveService,
        flow: FlowHandle,
        transition: Transitioned<UpstreamCallback, CodeExchange>,
        code: &Secret,
    ) -> Result<ClientRedirect, Rejection> {
        match self.discovery.exchange_code(active, code, &transition.effect).await {
            Ok(tokens) => self.issue_code_after_exchange(transition.handle, tokens).await,
            Err(error) => {
                tracing::warn!(%error, "the upstream's code could not be exchanged");
                let closed = self.core.store.transition(&transition.handle, UpstreamCallback::failed).await;
                let return_address = closed.map_err(flow_error)?.effect;
                let code = if matches!(error, Rejection::UpstreamDown { .. }) {
                    OAuthErrorCode::TemporarilyUnavailable
                } else {
                    OAuthErrorCode::ServerError
                };
                let description = if let Rejection::UpstreamSetup { fault, .. } = error {
                    fault.to_string()
                } else {
                    "the upstream did not give a token; try again".to_owned()
                };
                Ok(ClientRedirect::with_error(flow, return_address, code, &description))
            }
        }
    }

    async fn issue_code_after_exchange(&self, flow: FlowHandle, tokens: UpstreamTokens) -> Result<ClientRedirect, Rejection> {
        let (now, secret) = (self.core.clock.now(), random::token());
        let step = |s: UpstreamCallback| s.exchanged(tokens.clone(), Digest::new(secret.expose()), now);
        let transition = self.core.store.transition(&flow, step).await.map_err(flow_error)?;
        let code = Secret::from(format!("{}.{}", transition.handle, secret.expose()));
        Ok(ClientRedirect::with_code(flow, transition.effect, &code))
    }
}
