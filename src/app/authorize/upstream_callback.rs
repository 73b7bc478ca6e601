//! The upstream sends the browser back: exchange its code, issue ours.

use std::sync::Arc;

use crate::app::Gateway;
use crate::app::authorize::start::{FlowHandle, flow_error};
use crate::app::error::Rejection;
use crate::app::runtime_config::ActiveService;
use crate::base::ids::{Digest, Id};
use crate::base::random;
use crate::base::secret::Secret;
use crate::flow::authorize::{CodeExchange, UpstreamCallback, UpstreamCallbackParams, UpstreamRedirect};
use crate::flow::client::ReturnAddress;
use crate::oauth::error::OAuthErrorCode;
use crate::oauth::form::Form;
use crate::oauth::token_response::UpstreamTokens;
use crate::store::Transitioned;
use crate::upstream::token_endpoint::{code_request, send_with_retry};

/// Where the browser goes next: to the client, with a code or an error.
#[derive(Debug)]
pub struct ClientRedirect {
    /// The client's address.
    pub back: ReturnAddress,
    /// The whole `Location`.
    pub location: String,
    /// The journey, whose cookies are done with.
    pub flow: FlowHandle,
}

impl Gateway {
    /// Reads the redirect of a service's upstream. `brings` finds what the browser brings for a flow: the handle to use, and the
    /// cookie which only the browser has that consented.
    pub async fn callback(
        &self,
        running: &Arc<ActiveService>,
        query: &[u8],
        brings: impl Fn(FlowHandle) -> (FlowHandle, Option<String>),
    ) -> Result<ClientRedirect, Rejection> {
        let form = Form::parse(query)?;
        let state = form.single("state")?.ok_or(UNKNOWN_CALLBACK)?;
        let (flow, upstream_state) = state.split_once('.').ok_or(UNKNOWN_CALLBACK)?;
        let flow = FlowHandle::parse(flow).ok_or(UNKNOWN_CALLBACK)?;
        let (flow, browser) = brings(flow);
        let brought = UpstreamCallbackParams {
            service: &running.service.name,
            upstream_state,
            browser: browser.as_deref(),
            issuer: form.single("iss")?,
        };
        match (form.single("error")?, form.single("code")?) {
            (Some(error), _) => self.handle_upstream_error(flow, brought, error).await,
            (None, Some(code)) if self.store.is_stateless() => self.accept_upstream_code(flow, brought, code).await,
            (None, Some(code)) => self.handle_upstream_code(running, flow, brought, code).await,
            (None, None) => Err(Rejection::Unknown("the upstream sent neither a code nor an error")),
        }
    }

    async fn handle_upstream_error(
        &self,
        flow: FlowHandle,
        brought: UpstreamCallbackParams<'_>,
        error: &str,
    ) -> Result<ClientRedirect, Rejection> {
        let now = self.clock.now();
        let moved = self
            .store
            .transition(&flow, |s: UpstreamRedirect| s.refused(brought, now))
            .await
            .map_err(flow_error)?;
        let (code, why) = match error {
            "access_denied" => (OAuthErrorCode::AccessDenied, "access was refused at the upstream"),
            "temporarily_unavailable" => (OAuthErrorCode::TemporarilyUnavailable, "the upstream is temporarily unavailable"),
            _ => (OAuthErrorCode::ServerError, "the upstream refused the request"),
        };
        tracing::warn!(error = %error.escape_debug(), "the upstream refused to authorize");
        Ok(ClientRedirect {
            location: moved.effect.with_error(code, why),
            back: moved.effect,
            flow,
        })
    }

    async fn handle_upstream_code(
        &self,
        running: &Arc<ActiveService>,
        flow: FlowHandle,
        brought: UpstreamCallbackParams<'_>,
        code: &str,
    ) -> Result<ClientRedirect, Rejection> {
        let now = self.clock.now();
        let moved = self
            .store
            .transition(&flow, |s: UpstreamRedirect| s.returned(brought, now))
            .await
            .map_err(flow_error)?;
        // Detached: a browser that goes away does not burn the upstream's code.
        let (gateway, service, code) = (self.clone(), Arc::clone(running), Secret::from(code));
        let running = self.inflight.lock(Id::random());
        let detached = self.back.spawn(async move {
            let _running = running;
            gateway.finish_exchange(&service, flow, moved, &code).await
        });
        detached.await.map_err(|_| Rejection::TryLater { retry_after: 1 })?
    }

    async fn finish_exchange(
        &self,
        running: &ActiveService,
        flow: FlowHandle,
        moved: Transitioned<UpstreamCallback, CodeExchange>,
        code: &Secret,
    ) -> Result<ClientRedirect, Rejection> {
        match self.exchange_code(running, code, &moved.effect).await {
            Ok(tokens) => self.issue_code_after_exchange(moved.handle, tokens).await,
            Err(why) => {
                tracing::warn!(%why, "the upstream's code could not be exchanged");
                let back = self
                    .store
                    .transition(&moved.handle, UpstreamCallback::failed)
                    .await
                    .map_err(flow_error)?
                    .effect;
                let code = if matches!(why, Rejection::UpstreamDown { .. }) {
                    OAuthErrorCode::TemporarilyUnavailable
                } else {
                    OAuthErrorCode::ServerError
                };
                Ok(ClientRedirect {
                    location: back.with_error(code, "the upstream did not give a token; try again"),
                    back,
                    flow,
                })
            }
        }
    }

    pub(crate) async fn exchange_code(
        &self,
        running: &ActiveService,
        code: &Secret,
        exchange: &CodeExchange,
    ) -> Result<UpstreamTokens, Rejection> {
        let target = self.auth_server(&self.back_lane, running).await?;
        if target.issuer != exchange.issuer {
            return Err(Rejection::Unknown(
                "the upstream has moved to another authorization server; start again",
            ));
        }
        let callback = self.site.upstream_callback(&running.service);
        let request = || code_request(&target, code, &exchange.verifier, &callback);
        match send_with_retry(&self.back_lane.client, &self.clock, &target.addresses, request).await {
            Ok(tokens) => {
                running.discovery.clear_unknown_client();
                Ok(tokens)
            }
            Err(why) => Err(self.map_token_error(running, &target, why).await),
        }
    }

    async fn issue_code_after_exchange(&self, flow: FlowHandle, tokens: UpstreamTokens) -> Result<ClientRedirect, Rejection> {
        let (now, secret) = (self.clock.now(), random::token());
        let step = |s: UpstreamCallback| s.exchanged(tokens.clone(), Digest::new(secret.expose()), now);
        let moved = self.store.transition(&flow, step).await.map_err(flow_error)?;
        let code = Secret::from(format!("{}.{}", moved.handle, secret.expose()));
        Ok(ClientRedirect {
            location: moved.effect.with_code(&code),
            back: moved.effect,
            flow,
        })
    }
}

const UNKNOWN_CALLBACK: Rejection = Rejection::Unknown("this answer does not belong to a sign-in of this gateway");
