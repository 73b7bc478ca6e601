//! Bodies that are sent over time.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};

use crate::body::{Feed, Out, Reply};
use crate::tools;

/// Waits. A zero duration returns immediately, because even an empty sleep costs a timer tick.
pub async fn pause(length: Duration) {
    if !length.is_zero() {
        tokio::time::sleep(length).await;
    }
}

const CHUNK: usize = 64 * 1024;

fn streamed(content_type: &'static str) -> (Feed, Reply) {
    let (feed, out) = Out::stream();
    let mut reply = Reply::new(out);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    (feed, reply)
}

fn event(id: u64, data: &Value) -> Bytes {
    format!("id: {id}\nevent: message\ndata: {data}\n\n").into()
}

fn notification(number: u64) -> Value {
    let params = json!({"level": "info", "logger": "standin", "data": {"n": number}});
    json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params})
}

/// One event, then the end.
pub fn one(message: &Value) -> Reply {
    let (feed, reply) = streamed("text/event-stream");
    feed.try_send(Ok(event(1, message))).expect("a new channel has room");
    reply
}

/// The stream of GET and of `subscriptions/listen`: one event immediately, then one after each gap, without end.
pub fn events(gap: Duration) -> Reply {
    let (feed, reply) = streamed("text/event-stream");
    tokio::spawn(async move {
        for number in 1.. {
            if feed.send(Ok(event(number, &notification(number)))).await.is_err() {
                return;
            }
            tokio::select! {
                () = feed.closed() => return,
                () = tokio::time::sleep(gap) => {}
            }
        }
    });
    reply
}

/// The tool `stream`: `count` notifications, `gap_ms` apart, then the result.
pub fn counted(id: Value, arguments: &Value) -> Reply {
    let count = arguments["count"].as_u64().unwrap_or(3);
    let gap = Duration::from_millis(arguments["gap_ms"].as_u64().unwrap_or(100));
    let (feed, reply) = streamed("text/event-stream");
    tokio::spawn(async move {
        for number in 1..=count {
            if feed.send(Ok(event(number, &notification(number)))).await.is_err() {
                return;
            }
            tokio::select! {
                () = feed.closed() => return,
                () = tokio::time::sleep(gap) => {}
            }
        }
        let done = tools::result(&id, &tools::text(&format!("{count} events")));
        // Fails only if the client has disconnected.
        let _left = feed.send(Ok(event(count + 1, &done))).await;
    });
    reply
}

/// A body of `left` bytes, in chunks, at the client's pace.
pub fn bytes(mut left: usize) -> Reply {
    let (feed, reply) = streamed("application/octet-stream");
    tokio::spawn(async move {
        let chunk = Bytes::from(vec![b'x'; CHUNK]);
        while left > 0 {
            let next = chunk.slice(..left.min(CHUNK));
            left -= next.len();
            if feed.send(Ok(next)).await.is_err() {
                return;
            }
        }
    });
    reply
}
