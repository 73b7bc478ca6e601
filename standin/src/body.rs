//! Response bodies that detect when they are dropped, and helpers to build responses.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use serde_json::Value;
use tokio::sync::mpsc;

/// Counts one MCP request as open while it exists.
pub struct Open(Arc<AtomicUsize>);

impl Open {
    pub fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The sending half of a streamed body.
pub type Feed = mpsc::Sender<io::Result<Bytes>>;

enum Source {
    Whole(Option<Bytes>),
    Stream(mpsc::Receiver<io::Result<Bytes>>),
}

/// A body: complete or streamed. Hyper drops it when it is sent, when a write fails, or when the
/// client disconnects. Its `Open` is dropped with it.
pub struct Out {
    source: Source,
    open: Option<Open>,
}

impl Out {
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let source = Source::Whole((!bytes.is_empty()).then_some(bytes));
        Self { source, open: None }
    }

    /// A streamed body. The small channel slows down a sender that is faster than the client.
    pub fn stream() -> (Feed, Self) {
        let (feed, source) = mpsc::channel(2);
        let source = Source::Stream(source);
        (feed, Self { source, open: None })
    }

    /// The bytes of a complete body; empty for a streamed one.
    pub fn into_bytes(self) -> Bytes {
        match self.source {
            Source::Whole(bytes) => bytes.unwrap_or_default(),
            Source::Stream(_) => Bytes::new(),
        }
    }

    pub fn carry(&mut self, open: Open) {
        self.open = Some(open);
    }
}

impl Body for Out {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.get_mut().source {
            Source::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Source::Stream(feed) => feed.poll_recv(cx).map(|n| n.map(|r| r.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.source, Source::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Source::Stream(_) => SizeHint::default(),
        }
    }
}

/// The response of a handler.
pub type Reply = Response<Out>;

/// A response with this status, content type and body.
pub fn reply(status: u16, content_type: &'static str, bytes: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Out::whole(bytes));
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::IM_A_TEAPOT);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// A response without a body.
pub fn empty(status: u16) -> Reply {
    let mut reply = reply(status, "text/plain", Bytes::new());
    reply.headers_mut().remove(CONTENT_TYPE);
    reply
}

/// A JSON response.
pub fn json(status: u16, value: &Value) -> Reply {
    reply(status, "application/json", value.to_string())
}

/// An HTML page with this content.
pub fn html(status: u16, inner: &str) -> Reply {
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Stand-in for an upstream</title><body>{inner}</body></html>"
    );
    reply(status, "text/html; charset=utf-8", page)
}

/// Adds a header. An invalid header is ignored.
pub fn add_header(reply: &mut Reply, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
        reply.headers_mut().append(name, value);
    }
}

/// Escapes text for HTML, attribute values included.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
