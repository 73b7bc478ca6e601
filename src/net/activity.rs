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
}

pub(super) enum IdleStatus {
    /// The connection is in use, or has not been idle for long.
    No,
    /// No request ever came.
    NeverSpoke,
    /// Nothing since the last response, for the given time.
    TooLong,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(ActivityState {
            running: 0,
            spoke: false,
            since: Instant::now(),
        })))
    }

    fn change(&self, update: impl FnOnce(&mut ActivityState)) {
        update(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Returns whether the connection was idle for `timeout`, or never had a request.
    pub(super) fn idle(&self, timeout: Duration) -> IdleStatus {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (state.running, state.spoke) {
            (0, false) => IdleStatus::NeverSpoke,
            (0, true) if state.since.elapsed() >= timeout => IdleStatus::TooLong,
            _ => IdleStatus::No,
        }
    }
}

/// One request, from its head to the end of the response body.
pub(super) struct ActiveRequest(Arc<Activity>);

impl ActiveRequest {
    pub(super) fn new(activity: &Arc<Activity>) -> Self {
        activity.change(|state| {
            state.running += 1;
            state.spoke = true;
        });
        Self(Arc::clone(activity))
    }

    /// Attaches the request to its response body, which ends early when `cancel` is cancelled.
    pub(super) fn with(self, body: ResponseBody, cancel: Option<CancellationToken>) -> TrackedBody {
        TrackedBody {
            reply: body,
            ends: cancel.map(|token| Box::pin(token.cancelled_owned())),
            ended: false,
            _busy: self,
        }
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.change(|state| {
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
    _busy: ActiveRequest,
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
        Pin::new(&mut this.reply).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.reply.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.reply.size_hint()
    }
}
