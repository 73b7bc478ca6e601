//! The upstream sends the browser back: exchange its code, issue ours.

use std::sync::Arc;

use crate::base::ids::{Digest, Id};
use crate::base::random;
use crate::base::secret::Secret;
use crate::flow::authorize::{CodeExchange, Returned, UpstreamCallback, UpstreamRedirect};
use crate::flow::client::ReturnAddress;
use crate::gateway::Gateway;
use crate::gateway::authorize::{Flow, missed};
use crate::gateway::live::Running;
use crate::gateway::rejection::Rejection;
use crate::oauth::answer::Tokens;
use crate::oauth::error::Code;
use crate::oauth::form::Form;
use crate::store::Moved;
use crate::upstream::exchange::{ask, code_request};

/// Where the browser goes next: to the client, with a code or an error.
#[derive(Debug)]
pub struct Home {
    /// The client's address.
    pub back: ReturnAddress,
    /// The whole `Location`.
    pub location: String,
    /// The journey, whose cookies are done with.
    pub flow: Flow,
}

impl Gateway {
    /// Reads the redirect of a service's upstream. `brings` finds what the browser brings for a flow: the handle to use, and the
    /// cookie which only the browser has that consented.
    pub async fn callback(
        &self,
        running: &Arc<Running>,
        query: &[u8],
        brings: impl Fn(Flow) -> (Flow, Option<String>),
    ) -> Result<Home, Rejection> {
        let form = Form::parse(query)?;
        let state = form.one("state")?.ok_or(UNKNOWN)?;
        let (flow, upstream_state) = state.split_once('.').ok_or(UNKNOWN)?;
        let flow = Flow::parse(flow).ok_or(UNKNOWN)?;
        let (flow, browser) = brings(flow);
        let brought = Returned {
            service: &running.service.name,
            upstream_state,
            browser: browser.as_deref(),
            issuer: form.one("iss")?,
        };
        match (form.one("error")?, form.one("code")?) {
            (Some(error), _) => self.upstream_said_no(flow, brought, error).await,
            (None, Some(code)) if self.store.carries() => self.handed_on(flow, brought, code).await,
            (None, Some(code)) => self.upstream_said_yes(running, flow, brought, code).await,
            (None, None) => Err(Rejection::Unknown("the upstream sent neither a code nor an error")),
        }
    }

    async fn upstream_said_no(&self, flow: Flow, brought: Returned<'_>, error: &str) -> Result<Home, Rejection> {
        let now = self.clock.now();
        let moved = self
            .store
            .transition(&flow, |s: UpstreamRedirect| s.refused(brought, now))
            .await
            .map_err(missed)?;
        let (code, why) = match error {
            "access_denied" => (Code::AccessDenied, "access was refused at the upstream"),
            "temporarily_unavailable" => (Code::TemporarilyUnavailable, "the upstream is temporarily unavailable"),
            _ => (Code::ServerError, "the upstream refused the request"),
        };
        tracing::warn!(error = %error.escape_debug(), "the upstream refused to authorize");
        Ok(Home {
            location: moved.out.with_error(code, why),
            back: moved.out,
            flow,
        })
    }

    async fn upstream_said_yes(&self, running: &Arc<Running>, flow: Flow, brought: Returned<'_>, code: &str) -> Result<Home, Rejection> {
        let now = self.clock.now();
        let moved = self
            .store
            .transition(&flow, |s: UpstreamRedirect| s.returned(brought, now))
            .await
            .map_err(missed)?;
        // Detached: a browser that goes away does not burn the upstream's code.
        let (gateway, service, code) = (self.clone(), Arc::clone(running), Secret::from(code));
        let running = self.inflight.begin(Id::fresh());
        let detached = self.back.spawn(async move {
            let _running = running;
            gateway.finished_exchange(&service, flow, moved, &code).await
        });
        detached.await.map_err(|_| Rejection::Busy { retry_after: 1 })?
    }

    async fn finished_exchange(
        &self,
        running: &Running,
        flow: Flow,
        moved: Moved<UpstreamCallback, CodeExchange>,
        code: &Secret,
    ) -> Result<Home, Rejection> {
        match self.exchanged(running, code, &moved.out).await {
            Ok(tokens) => self.code_issued(moved.handle, tokens).await,
            Err(why) => {
                tracing::warn!(%why, "the upstream's code could not be exchanged");
                let back = self
                    .store
                    .transition(&moved.handle, UpstreamCallback::failed)
                    .await
                    .map_err(missed)?
                    .out;
                let code = if matches!(why, Rejection::UpstreamDown { .. }) {
                    Code::TemporarilyUnavailable
                } else {
                    Code::ServerError
                };
                Ok(Home {
                    location: back.with_error(code, "the upstream did not give a token; try again"),
                    back,
                    flow,
                })
            }
        }
    }

    pub(super) async fn exchanged(&self, running: &Running, code: &Secret, exchange: &CodeExchange) -> Result<Tokens, Rejection> {
        let target = self.target(&self.back_lane, running).await?;
        if target.issuer != exchange.issuer {
            return Err(Rejection::Unknown(
                "the upstream has moved to another authorization server; start again",
            ));
        }
        let callback = self.site.upstream_callback(&running.service);
        let request = || code_request(&target, code, &exchange.verifier, &callback);
        match ask(&self.back_lane.client, &self.clock, &target.addresses, request).await {
            Ok(tokens) => {
                running.resolver.is_known_there();
                Ok(tokens)
            }
            Err(why) => Err(self.failure(running, &target, why).await),
        }
    }

    async fn code_issued(&self, flow: Flow, tokens: Tokens) -> Result<Home, Rejection> {
        let (now, secret) = (self.clock.now(), random::token());
        let step = |s: UpstreamCallback| s.exchanged(tokens.clone(), Digest::of(secret.expose()), now);
        let moved = self.store.transition(&flow, step).await.map_err(missed)?;
        let code = Secret::from(format!("{}.{}", moved.handle, secret.expose()));
        Ok(Home {
            location: moved.out.with_code(&code),
            back: moved.out,
            flow,
        })
    }
}

const UNKNOWN: Rejection = Rejection::Unknown("this answer does not belong to a sign-in of this gateway");
