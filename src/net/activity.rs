//! Detects idle connections.

use crate::net::body::{BodyError, ResponseBody};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Whether a connection is in use. hyper has an idle timer for HTTP/1.1, but none for HTTP/2 and
/// for connections whose protocol is not known yet.
pub(super) struct Activity(Mutex<ActivityState>);

struct ActivityState {
    running: usize,
    spoke: bool,
    since: Instant,
    /// The progress of the HTTP/2 stream that was opened last, until its task takes it.
    new_stream: Option<Arc<Progress>>,
    /// Whether the client left a response unread for too long.
    stalled: bool,
}

pub(super) enum IdleStatus {
    /// The connection is in use, or has not been idle for long.
    No,
    /// No request arrived, or the client does not read its responses. The connection is not worth its
    /// file descriptor.
    Useless,
    /// Nothing since the last response, for the given time.
    TooLong,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(ActivityState {
            running: 0,
            spoke: false,
            since: Instant::now(),
            new_stream: None,
            stalled: false,
        })))
    }

    fn change(&self, update: impl FnOnce(&mut ActivityState)) {
        update(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The progress of the HTTP/2 stream that was opened last.
    pub(super) fn take_new_stream(&self) -> Option<Arc<Progress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).new_stream.take()
    }

    /// Notes that a response was aborted because the client did not read it.
    pub(super) fn note_stall(&self) {
        self.change(|state| state.stalled = true);
    }

    /// Returns whether the connection was idle for `timeout`, or never had a request.
    pub(super) fn idle(&self, timeout: Duration) -> IdleStatus {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (state.running, state.spoke) {
            (0, false) => IdleStatus::Useless,
            (0, true) if state.stalled => IdleStatus::Useless,
            (0, true) if state.since.elapsed() >= timeout => IdleStatus::TooLong,
            _ => IdleStatus::No,
        }
    }
}

/// Whether the client of an HTTP/2 stream takes the data of its response. hyper polls a body again only
/// after the client allowed the last frame by flow control.
#[derive(Default)]
pub(super) struct Progress(Mutex<Option<Instant>>);

impl Progress {
    /// Notes that a frame waits for the client from now on, or that none does.
    fn note(&self, waits: bool) {
        let since = waits.then(Instant::now);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Resolves when a frame has waited for `limit`.
    pub(super) async fn stalled(&self, limit: Duration) {
        loop {
            let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = since.map_or(Duration::ZERO, |since| since.elapsed());
            if waited >= limit {
                return;
            }
            tokio::time::sleep(limit.saturating_sub(waited)).await;
        }
    }
}

/// One request, from its head to the end of the response body.
pub(super) struct ActiveRequest {
    activity: Arc<Activity>,
    progress: Option<Arc<Progress>>,
}

impl ActiveRequest {
    /// A request of this connection. For an HTTP/2 stream, the connection notes the progress.
    pub(super) fn new(activity: &Arc<Activity>, is_http2: bool) -> Self {
        let progress = is_http2.then(Arc::<Progress>::default);
        activity.change(|state| {
            state.running += 1;
            state.spoke = true;
            state.new_stream.clone_from(&progress);
        });
        Self {
            activity: Arc::clone(activity),
            progress,
        }
    }

    /// Attaches the request to its response body, which ends early when `cancel` is cancelled.
    pub(super) fn with(self, body: ResponseBody, cancel: Option<CancellationToken>) -> TrackedBody {
        TrackedBody {
            reply: body,
            ends: cancel.map(|token| Box::pin(token.cancelled_owned())),
            ended: false,
            request: self,
        }
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.activity.change(|state| {
            state.running -= 1;
            state.since = Instant::now();
        });
    }
}

/// A response body that keeps its connection in use.
pub(super) struct TrackedBody {
    reply: ResponseBody,
    ends: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    ended: bool,
    request: ActiveRequest,
}

impl Body for TrackedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        // `ends` must not be polled again after it resolved.
        if let Some(cancel) = this.ends.as_mut()
            && cancel.as_mut().poll(context).is_ready()
        {
            (this.ends, this.ended) = (None, true);
        }
        if this.ended {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut this.reply).poll_frame(context);
        if let Some(progress) = &this.request.progress {
            progress.note(polled.is_ready());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.reply.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.reply.size_hint()
    }
}
