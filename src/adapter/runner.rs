//! Runs a loop: sends what a [`Dialect`] says, runs its calls, and passes its output on.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http::{Response, StatusCode, header};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, MissedTickBehavior};

use crate::adapter::call::Next;
use crate::adapter::dialect::Dialect;
use crate::adapter::json::RawObject;
use crate::adapter::loops::LoopGuard;
use crate::adapter::refusal::{forbid_retry, unreachable_vendor};
use crate::adapter::rounds::LoopLimits;
use crate::adapter::toolbox::Toolbox;
use crate::adapter::vendor::{self, Vendor, VendorTarget};
use crate::app::tools::Tools;
use crate::mcp::sse::SseParser;
use crate::net::body::{ResponseBody, StreamBody, is_event_stream, read_limited};
use crate::net::generated_body::GeneratedBody;
use crate::net::http_client::HttpClient;

/// The longest event or body of a vendor, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// The longest error of a vendor that is read, in bytes.
const MAX_ERROR_BYTES: usize = 64 * 1024;
const ERROR_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a vendor may take for a whole body.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1_800);
/// How long a stream may be quiet.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What a loop runs with.
pub(super) struct LoopContext {
    /// Sends requests.
    pub(super) http: HttpClient,
    /// The vendor.
    pub(super) vendor: Vendor,
    /// Where and how requests go to it.
    pub(super) target: VendorTarget,
    /// Our tools.
    pub(super) toolbox: Toolbox,
    /// Remembers what later requests need.
    pub(super) tools: Arc<Tools>,
    /// The caller, by whom it is remembered.
    pub(super) caller: String,
    /// Whether calls of one round run at the same time.
    pub(super) is_parallel: bool,
    /// Counts the loop as running.
    pub(super) _guard: LoopGuard,
}

/// A running loop.
pub(super) struct Loop<D> {
    dialect: D,
    context: LoopContext,
    started: Instant,
}

/// Why the vendor has no answer.
enum Refusal {
    /// It answered with an error.
    Status(Response<Incoming>),
    /// It cannot be reached.
    Unreachable(String),
}

impl<D: Dialect + 'static> Loop<D> {
    /// A loop that has not begun.
    pub(super) fn new(dialect: D, context: LoopContext) -> Self {
        Self {
            dialect,
            context,
            started: Instant::now(),
        }
    }

    /// Runs the loop: to its end, or for a client that reads events until the vendor begins to answer.
    pub(super) async fn respond(mut self, is_stream: bool) -> Response<ResponseBody> {
        if self.dialect.begin() == Next::RunTools {
            self.run_tools(None).await;
            self.dialect.tools_ended();
        }
        let first = match self.ask().await {
            Ok(first) => first,
            Err(refusal) => return self.refuse(refusal),
        };
        let mut response = Response::new(());
        *response.headers_mut() = vendor::response_headers(first.headers());
        response.headers_mut().remove(header::CONTENT_LENGTH);
        if !is_stream {
            return self.run_whole(first, response).await;
        }
        if !is_event_stream(first.headers()) {
            return self.refuse(Refusal::Unreachable("it did not answer with events".to_owned()));
        }
        let response = self.with_retry_rule(response);
        let body = GeneratedBody::new(move |sender| async move { self.run_stream(first, &sender).await });
        response.map(|()| ResponseBody::Generated(Box::new(body)))
    }

    /// After a tool ran, no response invites a repetition.
    fn with_retry_rule<T>(&self, mut response: Response<T>) -> Response<T> {
        if self.dialect.has_run_tools() {
            forbid_retry(&mut response);
        }
        response
    }

    /// Sends the next request of the loop.
    async fn ask(&mut self) -> Result<Response<Incoming>, Refusal> {
        let body = self.dialect.next_request();
        match self.context.target.ask(&self.context.http, body).await {
            Ok(response) if response.status().is_success() => Ok(response),
            Ok(response) => Err(Refusal::Status(response)),
            Err(error) => Err(Refusal::Unreachable(error.to_string())),
        }
    }

    /// The vendor's error for the client, as it is, or that there is no response.
    fn refuse(&self, refusal: Refusal) -> Response<ResponseBody> {
        self.with_retry_rule(match refusal {
            Refusal::Status(response) => pass(response),
            Refusal::Unreachable(reason) => unreachable_vendor(self.context.vendor, &reason),
        })
    }

    async fn run_whole(mut self, first: Response<Incoming>, head: Response<()>) -> Response<ResponseBody> {
        let mut answer = first;
        loop {
            let body = read_limited(answer.into_body(), MAX_ANSWER_BYTES, ANSWER_TIMEOUT).await;
            if let Ok(body) = &body {
                self.dialect.whole(body);
            }
            if self.next_step(None).await == Next::End {
                break;
            }
            answer = match self.ask().await {
                Ok(answer) => answer,
                Err(refusal) => return self.refuse(refusal),
            };
        }
        let text = self.dialect.finish();
        self.remember();
        self.with_retry_rule(head.map(|()| ResponseBody::Full(Bytes::from(text))))
    }

    async fn run_stream(mut self, first: Response<Incoming>, sender: &Sender<Bytes>) {
        let mut answer = first;
        loop {
            if self.read_events(answer, sender).await.is_err() {
                return;
            }
            if self.next_step(Some(sender)).await == Next::End {
                break;
            }
            let asked = keep_alive::<D, _>(Box::pin(self.ask()), Some(sender)).await;
            answer = match asked {
                Ok(answer) => answer,
                Err(refusal) => {
                    let (code, message) = describe(refusal).await;
                    self.dialect.fail(&code, &message);
                    break;
                }
            };
        }
        let text = self.dialect.finish();
        // Before the client can continue the conversation.
        self.remember();
        let _left = sender.send(Bytes::from(text)).await;
    }

    /// Reads the events of one answer. Fails if the client left.
    async fn read_events(&mut self, answer: Response<Incoming>, sender: &Sender<Bytes>) -> Result<(), ()> {
        let mut body = answer.into_body();
        let mut parser = SseParser::new(MAX_ANSWER_BYTES);
        while let Some(Ok(frame)) = std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context)).await {
            let Ok(data) = frame.into_data() else { continue };
            self.dialect.set_elapsed(self.started.elapsed());
            let Ok(events) = parser.push(&data) else { break };
            for event in &events {
                self.dialect.event(event);
            }
            self.flush(sender).await?;
        }
        Ok(())
    }

    async fn flush(&mut self, sender: &Sender<Bytes>) -> Result<(), ()> {
        let text = self.dialect.take_text();
        if text.is_empty() {
            return Ok(());
        }
        sender.send(Bytes::from(text)).await.map_err(|_| ())
    }

    /// What follows an answer of the model, with the calls that it asks for.
    async fn next_step(&mut self, sender: Option<&Sender<Bytes>>) -> Next {
        self.dialect.set_elapsed(self.started.elapsed());
        match self.dialect.round_ended() {
            Next::RunTools => {
                self.run_tools(sender).await;
                self.dialect.tools_ended()
            }
            next @ (Next::AskModel | Next::End) => next,
        }
    }

    async fn run_tools(&mut self, sender: Option<&Sender<Bytes>>) {
        if let Some(sender) = sender {
            let _left = self.flush(sender).await;
        }
        let time_left = LoopLimits::default().time.saturating_sub(self.started.elapsed());
        let toolbox = self.context.toolbox.clone();
        let run = |(index, call)| {
            let toolbox = &toolbox;
            async move { (index, toolbox.call(&call, time_left).await) }
        };
        let most = if self.context.is_parallel { usize::MAX } else { 1 };
        let mut waiting = self.dialect.calls().into_iter();
        let mut running: FuturesUnordered<_> = waiting.by_ref().take(most).map(run).collect();
        while let Some((index, outcome)) = keep_alive::<D, _>(running.next(), sender).await {
            self.dialect.ended(index, outcome);
            if let Some(sender) = sender {
                let _left = self.flush(sender).await;
            }
            running.extend(waiting.next().map(run));
        }
    }

    fn remember(&mut self) {
        for (id, text) in self.dialect.memories() {
            self.context.tools.continuations().put(&self.context.caller, &id, &text);
        }
    }
}

/// Waits, and keeps a quiet stream open meanwhile.
async fn keep_alive<D: Dialect, F: Future>(work: F, sender: Option<&Sender<Bytes>>) -> F::Output {
    let Some(sender) = sender else { return work.await };
    tokio::pin!(work);
    let mut quiet = tokio::time::interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
    quiet.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            output = &mut work => return output,
            _ = quiet.tick() => {
                let _left = sender.send(Bytes::from(D::keep_alive())).await;
            }
        }
    }
}

/// A vendor's response, as it is.
pub(super) fn pass(response: Response<Incoming>) -> Response<ResponseBody> {
    let (mut parts, body) = response.into_parts();
    parts.headers = vendor::response_headers(&parts.headers);
    Response::from_parts(parts, ResponseBody::Stream(StreamBody::new(body, None)))
}

/// Code and message of a vendor's error, which both vendors put at the same place.
async fn describe(refusal: Refusal) -> (String, String) {
    let response = match refusal {
        Refusal::Status(response) => response,
        Refusal::Unreachable(reason) => return ("server_error".to_owned(), format!("The vendor cannot be reached: {reason}.")),
    };
    let status = response.status();
    let body = read_limited(response.into_body(), MAX_ERROR_BYTES, ERROR_TIMEOUT)
        .await
        .unwrap_or_default();
    let error = RawObject::parse(&body)
        .ok()
        .and_then(|body| body.get("error").and_then(RawObject::from_raw))
        .unwrap_or_default();
    let code = error.text("code").or_else(|| error.text("type"));
    let default = if status == StatusCode::TOO_MANY_REQUESTS {
        "rate_limit_exceeded"
    } else {
        "server_error"
    };
    let message = error
        .text("message")
        .unwrap_or_else(|| format!("The vendor answered with status {}.", status.as_u16()));
    (code.unwrap_or_else(|| default.to_owned()), message)
}
