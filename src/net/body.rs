//! Request and response bodies: a closed set, so enums, and the hot path allocates nothing.

use crate::base::ids::Id;
use crate::net::byte_watch::ByteWatch;
use crate::net::generated_body::GeneratedBody;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, mem};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

/// The reason why a body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The body is longer than the limit.
    #[error("the body is longer than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The body did not end in time.
    #[error("the body did not end in time")]
    TimedOut,
    /// The connection failed.
    #[error("the connection broke while the body was read")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<hyper::Error> for BodyError {
    fn from(cause: hyper::Error) -> Self {
        Self::Broken(Box::new(cause))
    }
}

/// The body of an outgoing request.
#[derive(Default)]
pub enum RequestBody {
    /// No body.
    #[default]
    Empty,
    /// The whole body, in memory.
    Full(Bytes),
    /// A client's body, forwarded as it arrives.
    Stream(Incoming),
    /// The part of a client's body that was already read, then the rest as it arrives.
    Prefixed(Bytes, Incoming),
    /// A first part, and then no data until the request is dropped. A proxy that buffers requests
    /// shows itself by waiting for the rest.
    Unfinished(Bytes),
}

impl fmt::Debug for RequestBody {
    /// Prints only the variant, because bodies contain tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Full(_) => "Full(..)",
            Self::Stream(_) => "Stream(..)",
            Self::Prefixed(..) => "Prefixed(..)",
            Self::Unfinished(_) => "Unfinished(..)",
        })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = mem::take(bytes);
                *this = Self::Empty;
                Poll::Ready(one_frame(bytes))
            }
            Self::Prefixed(prefix, rest) if prefix.is_empty() => poll_incoming(rest, context),
            Self::Prefixed(prefix, _) => Poll::Ready(one_frame(mem::take(prefix))),
            Self::Stream(incoming) => poll_incoming(incoming, context),
            Self::Unfinished(first) if first.is_empty() => Poll::Pending,
            Self::Unfinished(first) => Poll::Ready(one_frame(mem::take(first))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Unfinished(_) => false,
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Stream(incoming) => incoming.is_end_stream(),
            Self::Prefixed(prefix, rest) => prefix.is_empty() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(incoming) => incoming.size_hint(),
            Self::Prefixed(prefix, rest) => longer(&rest.size_hint(), prefix.len() as u64),
            Self::Unfinished(_) => SizeHint::default(),
        }
    }
}

/// The body of a response to a client.
#[derive(Debug)]
pub enum ResponseBody {
    /// The whole body, in memory.
    Full(Bytes),
    /// An upstream's body, forwarded as it arrives.
    Stream(StreamBody),
    /// A body that work of the gateway writes.
    Generated(Box<GeneratedBody>),
}

impl Default for ResponseBody {
    fn default() -> Self {
        Self::Full(Bytes::new())
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(one_frame(mem::take(bytes))),
            Self::Stream(stream) => stream.poll(context),
            Self::Generated(generated) => generated.poll(context).map(|part| part.map(|part| Ok(Frame::data(part)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_empty(),
            Self::Stream(stream) => stream.body.is_end_stream(),
            Self::Generated(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(stream) => stream.body.size_hint(),
            Self::Generated(_) => SizeHint::default(),
        }
    }
}

/// An upstream's body on its way to a client. Dropping it cancels the upstream's response.
#[derive(Debug)]
pub struct StreamBody {
    body: Incoming,
    early_end: Option<Box<EarlyEnd>>,
    watch: Option<Box<ByteWatch>>,
    ended: bool,
}

/// The events that can end a body before its upstream does.
#[derive(Debug)]
pub enum EarlyEnd {
    /// The stream ends when it is cancelled, and counts as open until then.
    Cancelled(StreamGuard),
    /// The response ends a while after its grant.
    Grace(GracefulEnd),
}

impl StreamBody {
    /// Forwards `body`, until `early_end` at the latest.
    pub fn new(body: Incoming, early_end: Option<Box<EarlyEnd>>) -> Self {
        Self {
            body,
            early_end,
            watch: None,
            ended: false,
        }
    }

    /// Watches for a text in the body.
    #[must_use]
    pub fn watched(self, watch: ByteWatch) -> Self {
        Self {
            watch: Some(Box::new(watch)),
            ..self
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.ended {
            self.ended = match self.early_end.as_deref_mut() {
                Some(EarlyEnd::Cancelled(guard)) => guard.is_cancelled(context),
                Some(EarlyEnd::Grace(end)) => end.is_over(),
                None => false,
            };
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let polled = poll_incoming(&mut self.body, context);
        // Trailers are never forwarded: a client could take them for header fields. They are the last
        // frame.
        if matches!(&polled, Poll::Ready(Some(Ok(frame))) if frame.is_trailers()) {
            return Poll::Ready(None);
        }
        if let Some(watch) = &mut self.watch
            && let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            watch.note(data);
        }
        polled
    }
}

/// Counts an open stream until dropped, and can end it early.
#[derive(Debug)]
pub struct StreamGuard {
    count: Arc<AtomicUsize>,
    cancel: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// Cancels the token, so that what watches the stream ends too.
    _cancels: Option<DropGuard>,
}

impl StreamGuard {
    /// Adds one to `count` until dropped. When `cancel` is cancelled, the body ends at once. A
    /// chunked or HTTP/2 body ends cleanly; for a body with `Content-Length` the connection is
    /// closed. Dropping the guard cancels `cancel`.
    pub fn new(count: &Arc<AtomicUsize>, cancel: Option<CancellationToken>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self {
            count: Arc::clone(count),
            _cancels: cancel.clone().map(CancellationToken::drop_guard),
            cancel: cancel.map(|token| Box::pin(token.cancelled_owned())),
        }
    }

    /// Whether the stream is cancelled. Must not be called again after that.
    fn is_cancelled(&mut self, context: &mut Context<'_>) -> bool {
        self.cancel.as_mut().is_some_and(|cancel| cancel.as_mut().poll(context).is_ready())
    }
}

/// Says whether a grant or API key has ended.
pub type HasEnded = Arc<dyn Fn(Id) -> bool + Send + Sync>;

/// The time for which a response may continue after its grant ended.
const GRACE: Duration = Duration::from_secs(60);
/// The interval at which a long response checks whether its grant has ended.
const GRACE_CHECK: Duration = Duration::from_secs(5);

/// Ends a response at most [`GRACE`] after its grant ended. It asks when the body is polled, and not
/// for the first frames: nearly all responses have only these.
pub struct GracefulEnd {
    has_grant_ended: HasEnded,
    grant: Id,
    polls: u32,
    /// When the grant was last known not to have ended.
    last_good: Instant,
    has_ended: bool,
}

impl fmt::Debug for GracefulEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GracefulEnd").field("grant", &self.grant).finish_non_exhaustive()
    }
}

impl GracefulEnd {
    /// Ends a response of `grant`, which has not ended yet.
    pub fn new(has_grant_ended: HasEnded, grant: Id) -> Self {
        Self {
            has_grant_ended,
            grant,
            polls: 0,
            last_good: Instant::now(),
            has_ended: false,
        }
    }

    fn is_over(&mut self) -> bool {
        const FIRST_POLLS: u32 = 4;
        self.polls = self.polls.saturating_add(1);
        self.polls > FIRST_POLLS && self.is_over_at(Instant::now())
    }

    fn is_over_at(&mut self, now: Instant) -> bool {
        let since_good = now.saturating_duration_since(self.last_good);
        if !self.has_ended && since_good >= GRACE_CHECK {
            self.has_ended = (self.has_grant_ended)(self.grant);
            if !self.has_ended {
                self.last_good = now;
            }
        }
        self.has_ended && since_good >= GRACE
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether the response to this request has no end of its own: that to a GET, or to the MCP method
/// `subscriptions/listen`, which replaces the GET since revision 2026-07-28.
pub fn opens_endless_stream(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::GET || headers.get("mcp-method").is_some_and(|method| method == "subscriptions/listen")
}

/// Whether the body is an event stream (`text/event-stream`).
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .eq_ignore_ascii_case("text/event-stream")
}

/// Reads a whole body of at most `max` bytes, within `timeout`.
///
/// # Errors
/// [`BodyError::TooLarge`] as soon as the size is known (`Content-Length` is trusted),
/// [`BodyError::TimedOut`] or [`BodyError::Broken`].
pub async fn read_limited<B>(body: B, max: usize, timeout: Duration) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if body.size_hint().lower() > max as u64 {
        return Err(BodyError::TooLarge { limit: max });
    }
    match tokio::time::timeout(timeout, collect(body, max)).await {
        Ok(result) => result,
        Err(_elapsed) => Err(BodyError::TimedOut),
    }
}

async fn collect<B>(body: B, max: usize) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut body = std::pin::pin!(body);
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let frame = frame.map_err(|cause| BodyError::Broken(cause.into()))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if first.len() + whole.len() + data.len() > max {
            return Err(BodyError::TooLarge { limit: max });
        }
        // Most bodies are one frame, which is not copied.
        if first.is_empty() && whole.is_empty() {
            first = data;
            continue;
        }
        whole.extend_from_slice(&mem::take(&mut first));
        whole.extend_from_slice(&data);
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

fn poll_incoming(incoming: &mut Incoming, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
    Pin::new(incoming).poll_frame(context).map_err(BodyError::from)
}

fn one_frame(bytes: Bytes) -> Option<Result<Frame<Bytes>, BodyError>> {
    (!bytes.is_empty()).then(|| Ok(Frame::data(bytes)))
}

fn longer(rest: &SizeHint, prefix_len: u64) -> SizeHint {
    let mut hint = SizeHint::new();
    if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(prefix_len)) {
        hint.set_upper(upper);
    }
    hint.set_lower(rest.lower().saturating_add(prefix_len));
    hint
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, Full};

    const SOON: Duration = Duration::from_secs(2);

    /// Yields `left` frames of ten bytes, then ends, or stays pending if `hangs`.
    struct Frames {
        left: usize,
        given: Arc<AtomicUsize>,
        hangs: bool,
    }

    impl Body for Frames {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            if self.left == 0 {
                return if self.hangs { Poll::Pending } else { Poll::Ready(None) };
            }
            self.left -= 1;
            self.given.fetch_add(1, Ordering::Relaxed);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"0123456789")))))
        }
    }

    fn frames(left: usize, hangs: bool) -> (Frames, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        (
            Frames {
                left,
                given: Arc::clone(&count),
                hangs,
            },
            count,
        )
    }

    #[tokio::test]
    async fn a_body_within_its_limit_is_read_whole() {
        let (body, _) = frames(3, false);
        let bytes = read_limited(body, 30, SOON).await.expect("read");
        assert_eq!(&bytes[..], b"012345678901234567890123456789");
        assert_eq!(read_limited(RequestBody::Empty, 0, SOON).await.expect("read"), Bytes::new());
    }

    #[tokio::test]
    async fn reading_a_body_stops_at_the_limit() {
        let (body, count) = frames(1_000_000, false);
        let refused = read_limited(body, 25, SOON).await;
        assert!(matches!(refused, Err(BodyError::TooLarge { limit: 25 })));
        assert_eq!(count.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn a_content_length_beyond_the_limit_is_refused_unread() {
        let refused = read_limited(Full::new(Bytes::from_static(b"long")), 3, SOON).await;
        assert!(matches!(refused, Err(BodyError::TooLarge { limit: 3 })));
    }

    #[tokio::test]
    async fn a_body_that_never_ends_times_out() {
        let (body, _) = frames(1, true);
        let refused = read_limited(body, 1000, Duration::from_millis(20)).await;
        assert!(matches!(refused, Err(BodyError::TimedOut)));
    }

    #[tokio::test]
    async fn a_full_body_has_an_exact_length_and_one_frame() {
        let mut body = RequestBody::Full(Bytes::from_static(b"abc"));
        assert_eq!(body.size_hint().exact(), Some(3));
        let frame = body.frame().await.expect("frame").expect("frame");
        assert_eq!(frame.into_data().expect("data"), "abc");
        assert!(body.is_end_stream() && body.frame().await.is_none());
    }

    #[test]
    fn a_response_ends_within_a_minute_after_its_grant() {
        let ended = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let read = Arc::clone(&ended);
        let has_ended: HasEnded = Arc::new(move |_| read.load(Ordering::Relaxed));
        let mut end = GracefulEnd::new(Arc::clone(&has_ended), Id::random());
        let start = end.last_good;
        let mut is_over = |seconds: u64| end.is_over_at(start + Duration::from_secs(seconds));
        assert!(!is_over(1_000) && !is_over(1_004));
        ended.store(true, Ordering::Relaxed);
        assert!(!is_over(1_004), "not asked again yet");
        assert!(!is_over(1_010) && !is_over(1_059), "a response may still finish");
        assert!(is_over(1_060));
        // After a long silence, the end may be long ago.
        let mut silent = GracefulEnd::new(has_ended, Id::random());
        assert!(silent.is_over_at(silent.last_good + GRACE));
    }

    #[test]
    fn a_stream_guard_counts_a_stream_until_it_is_dropped() {
        let count = Arc::new(AtomicUsize::new(0));
        let guard = StreamGuard::new(&count, None);
        assert_eq!(count.load(Ordering::Relaxed), 1);
        drop(guard);
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }
}
