//! Reads the response to one JSON-RPC request from an HTTP response, which is JSON or an event stream.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::CONTENT_TYPE;
use http_body::Body;

use tokio::sync::mpsc;

use crate::mcp::jsonrpc::{Message, Payload, RequestId};
use crate::mcp::sse::SseParser;
use crate::net::body::{is_event_stream, read_limited};

/// The longest response, and the longest event, in bytes.
pub(super) const MAX_RESPONSE_BYTES: usize = 8 * 1024 * 1024;

/// The reason why there is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReadError {
    /// The connection broke, or the stream ended before the response.
    #[error("the upstream's response broke off")]
    Broken,
    /// The response is too long.
    #[error("the upstream's response is too long")]
    TooLong,
    /// The response is no JSON-RPC response to the request.
    #[error("the upstream's response is no JSON-RPC response")]
    NotJsonRpc,
}

/// Reads the response to the request with this id. `others` gets the messages that
/// precede it, unless it is full.
pub(super) async fn read<B>(
    response: Response<B>,
    id: &RequestId,
    timeout: Duration,
    others: Option<&mpsc::Sender<Message>>,
) -> Result<Message, ReadError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let is_json = |value: &http::HeaderValue| value.as_bytes().to_ascii_lowercase().starts_with(b"application/json");
    if is_event_stream(response.headers()) {
        let events = read_events(response.into_body(), id, others);
        return tokio::time::timeout(timeout, events).await.unwrap_or(Err(ReadError::Broken));
    }
    if !response.headers().get(CONTENT_TYPE).is_some_and(is_json) {
        return Err(ReadError::NotJsonRpc);
    }
    let bytes = read_limited(response.into_body(), MAX_RESPONSE_BYTES, timeout).await;
    let bytes = bytes.map_err(|error| match error {
        crate::net::body::BodyError::TooLarge { .. } => ReadError::TooLong,
        crate::net::body::BodyError::TimedOut | crate::net::body::BodyError::Broken(_) => ReadError::Broken,
    })?;
    let message = Message::parse_answer(&bytes).map_err(|_| ReadError::NotJsonRpc)?;
    if is_response_to(&message, id) {
        Ok(message)
    } else {
        Err(ReadError::NotJsonRpc)
    }
}

async fn read_events<B>(body: B, id: &RequestId, others: Option<&mpsc::Sender<Message>>) -> Result<Message, ReadError>
where
    B: Body<Data = Bytes>,
{
    let (mut body, mut parser) = (std::pin::pin!(body), SseParser::new(MAX_RESPONSE_BYTES));
    loop {
        let frame = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
        let Some(Ok(frame)) = frame else { return Err(ReadError::Broken) };
        let Ok(data) = frame.into_data() else { continue };
        for event in parser.push(&data).map_err(|_| ReadError::TooLong)? {
            // An empty event primes the client to resume.
            let Ok(payload) = Payload::parse_answer(event.data.as_bytes()) else {
                continue;
            };
            let messages = match payload {
                Payload::Single(message) => vec![message],
                Payload::Batch(messages) => messages,
            };
            for message in messages {
                if is_response_to(&message, id) {
                    return Ok(message);
                }
                // A caller who left, or is slow, misses progress.
                if let Some(others) = others {
                    let _ = others.try_send(message);
                }
            }
        }
    }
}

fn is_response_to(message: &Message, id: &RequestId) -> bool {
    message.method().is_none() && message.id() == Some(id)
}
