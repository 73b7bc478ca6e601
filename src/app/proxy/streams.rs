//! Streams of proxied responses: limited in number, checked again when their token expires, and ended
//! with their grant or API key.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::request::Parts;
use tokio_util::sync::CancellationToken;

use crate::app::core::Core;
use crate::app::grants::Grants;
use crate::app::grants::check_stream::StreamCheck;
use crate::app::proxy::Proxy;
use crate::app::proxy::caller::Caller;
use crate::app::proxy::error::ProxyError;
use crate::app::revocations::event_streams::StreamOwner;
use crate::base::special_ip;
use crate::net::body::{EarlyEnd, GracefulEnd, opens_endless_stream};
use crate::service::Service;
use crate::token::header::PairHeader;

/// The time for which a check that the store did not answer is repeated before the stream ends, in seconds.
const CHECK_TIMEOUT_SECONDS: u64 = 60;
/// The pause between such a check and the next, in seconds.
const CHECK_RETRY_SECONDS: u64 = 5;
/// The shortest and the longest wait for the expiry of a token. The clock can be set meanwhile.
const MIN_WAIT: Duration = Duration::from_millis(100);
const MAX_WAIT: Duration = Duration::from_secs(3_600);

impl Proxy {
    /// Counts the stream that this request opens, if it opens one in any case. Other requests may get an
    /// event stream too, so they are refused while the caller has too many.
    ///
    /// # Errors
    /// If the caller has as many open streams as the service allows.
    pub(super) fn open_endless_stream(
        &self,
        service: &Service,
        caller: &Caller,
        source: IpAddr,
        head: &Parts,
    ) -> Result<Option<Box<EarlyEnd>>, ProxyError> {
        if opens_endless_stream(&head.method, &head.headers) {
            return self.open_stream(service, caller, source, service.max_streams);
        }
        let owner = self.stream_owner(caller, source);
        if head.method == Method::POST && owner.is_some_and(|owner| self.revocations.has_streams(owner, service.max_streams)) {
            return Err(ProxyError::TooManyStreams);
        }
        Ok(None)
    }

    /// Counts a stream of this caller, and watches over it.
    ///
    /// # Errors
    /// If the caller has `max` open streams.
    pub(super) fn open_stream(
        &self,
        service: &Service,
        caller: &Caller,
        source: IpAddr,
        max: usize,
    ) -> Result<Option<Box<EarlyEnd>>, ProxyError> {
        let Some(owner) = self.stream_owner(caller, source) else {
            return Ok(None);
        };
        let stream = self.revocations.open_stream(owner, max).ok_or(ProxyError::TooManyStreams)?;
        if let Caller::TokenHolder(header) = caller {
            let watch = StreamWatch {
                core: Arc::clone(&self.core),
                grants: Arc::clone(&self.grants),
                service: service.name.clone(),
                header: header.clone(),
                ends: stream.ends,
            };
            tokio::spawn(watch.run());
        }
        Ok(Some(Box::new(EarlyEnd::Cancelled(stream.guard))))
    }

    /// The key under which the caller's streams are counted; `None` if they are not counted.
    fn stream_owner(&self, caller: &Caller, source: IpAddr) -> Option<StreamOwner> {
        match caller {
            Caller::TokenHolder(header) => Some(StreamOwner::Grant(header.grant)),
            Caller::LocalKey(key) => Some(StreamOwner::Grant(key.0)),
            Caller::Adapter(caller) => Some(StreamOwner::Grant(caller.key.id())),
            // As in `AnonymousLimit`: a proxy on this machine that is not configured hides its callers.
            Caller::Anonymous if source.is_loopback() && self.core.urls.trusted_proxies.is_empty() => None,
            Caller::Anonymous => Some(StreamOwner::Source(special_ip::rate_limit_key(source))),
            #[cfg(feature = "raw")]
            Caller::RawBearer => None,
        }
    }

    /// Ends a response that is no stream a while after its grant.
    pub(super) fn graceful_end(&self, caller: &Caller) -> Option<Box<EarlyEnd>> {
        let grant = caller.grant_id()?;
        Some(Box::new(EarlyEnd::Grace(GracefulEnd::new(Arc::clone(&self.has_ended), grant))))
    }
}

/// Checks the grant of one stream each time a token of it would expire, and ends the stream.
struct StreamWatch {
    core: Arc<Core>,
    grants: Arc<Grants>,
    service: String,
    header: PairHeader,
    ends: CancellationToken,
}

impl StreamWatch {
    /// Runs until the stream ends.
    async fn run(self) {
        let ends = self.ends.clone();
        tokio::select! {
            () = ends.cancelled() => {}
            reason = self.until_refused() => {
                tracing::info!(grant = %self.header.grant, service = self.service, reason, "stream ended");
                ends.cancel();
            }
        }
    }

    /// Resolves when the stream must end, with the reason.
    async fn until_refused(&self) -> &'static str {
        let clock = &self.core.clock;
        let mut valid_until = self.header.expires;
        let mut next_check = valid_until;
        loop {
            while clock.now() < next_check {
                let wait = Duration::from_secs(next_check.seconds_since(clock.now()));
                tokio::time::sleep(wait.clamp(MIN_WAIT, MAX_WAIT)).await;
            }
            let Some(active) = self.core.active_service(&self.service) else {
                return "the service is no longer configured";
            };
            match self.grants.check_stream(&active, &self.header).await {
                StreamCheck::GoesOn => {
                    valid_until = clock.now().plus_seconds(active.service.ttl.access);
                    next_check = valid_until;
                }
                StreamCheck::MustEnd(reason) => return reason,
                StreamCheck::Unknown if clock.now() >= valid_until.plus_seconds(CHECK_TIMEOUT_SECONDS) => {
                    return "the store does not answer";
                }
                StreamCheck::Unknown => next_check = clock.now().plus_seconds(CHECK_RETRY_SECONDS),
            }
        }
    }
}
