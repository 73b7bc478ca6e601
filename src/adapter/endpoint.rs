//! The endpoint of the adapters: who may call, what passes through, and what becomes a loop.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::Value;

use crate::adapter::access::AdapterContext;
use crate::adapter::anthropic;
use crate::adapter::dialect::Dialect;
use crate::adapter::loops::RunningLoops;
use crate::adapter::openai;
use crate::adapter::runner::{Loop, LoopContext, pass};
use crate::adapter::toolbox::Toolbox;
use crate::adapter::vendor::{self, KEY_HEADER, Vendor, VendorTarget};
use crate::app::App;
use crate::app::proxy::caller::CallerAddress;
use crate::base::secret::Secret;
use crate::net::body::{BodyError, RequestBody, ResponseBody, read_limited};
use crate::net::http_client::HttpClient;
use crate::observe::refusal_limit::REFUSALS;

/// The longest request with MCP entries, in bytes. The vendors accept images and files in it.
const MAX_REQUEST_BYTES: usize = 32 * 1024 * 1024;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
const KEY_NEEDED: &str = "This is the gateway's endpoint for programs with its key. Use the base URL that `mcp-oauth-gateway env` prints, or send \
                          the key in the header X-MCP-Gateway-Key. The vendor's key stays in the vendor's header.";

/// A request to an adapter.
pub struct AdapterRequest<'a> {
    /// The vendor.
    pub vendor: Vendor,
    /// The path at the vendor.
    pub path: String,
    /// The head. Its path has no key.
    pub head: Parts,
    /// The body.
    pub body: &'a mut Option<Incoming>,
    /// The key that was in the path.
    pub path_key: Option<Secret>,
    /// The caller's address.
    pub address: CallerAddress,
}

/// The adapters.
pub struct Adapters {
    app: Arc<App>,
    loops: RunningLoops,
}

impl Adapters {
    /// The adapters of this app.
    pub fn new(app: Arc<App>) -> Self {
        Self {
            app,
            loops: RunningLoops::default(),
        }
    }

    /// Responds to one request.
    pub async fn respond(&self, http: &HttpClient, request: AdapterRequest<'_>) -> Response<ResponseBody> {
        let vendor = request.vendor;
        let key = match request.path_key {
            Some(ref key) => Some(key.expose()),
            None => request.head.headers.get(KEY_HEADER).and_then(|value| value.to_str().ok()),
        };
        let caller = match key {
            Some(key) => self.app.tools.identify(key, request.address, &request.head.headers).await,
            None => None,
        };
        let Some(caller) = caller else {
            tracing::info!(target: REFUSALS, "a request to an adapter has no key, or a wrong one");
            return error(vendor, StatusCode::UNAUTHORIZED, KEY_NEEDED);
        };
        let config = self.app.config();
        let context = AdapterContext {
            app: &self.app,
            tools: &self.app.tools,
            config: &config,
            http,
            caller,
            address: request.address,
        };
        let base = match vendor {
            Vendor::OpenAi => config.configured.adapters.openai(),
            Vendor::Anthropic => config.configured.adapters.anthropic(),
        };
        let query = request.head.uri.query().map_or_else(String::new, |query| format!("?{query}"));
        let headers = vendor::request_headers(&request.head.headers);
        let Ok(target) = VendorTarget::new(base, &format!("{}{query}", request.path), headers) else {
            return error(vendor, StatusCode::BAD_REQUEST, "The path makes no URL at the vendor.");
        };
        if request.head.method == Method::POST && request.path == vendor.loop_path() {
            return self.answer(&context, target, request).await;
        }
        let body = request.body.take().map_or(RequestBody::Empty, RequestBody::Stream);
        forward(&context, vendor, target, request.head.method, body).await
    }

    /// A request that can have entries of the gateway.
    async fn answer(&self, context: &AdapterContext<'_>, target: VendorTarget, request: AdapterRequest<'_>) -> Response<ResponseBody> {
        let vendor = request.vendor;
        let encoding = request.head.headers.get(CONTENT_ENCODING);
        if encoding.is_some_and(|encoding| encoding != "identity") {
            return error(
                vendor,
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Send the body without Content-Encoding.",
            );
        }
        let body = match request.body.take() {
            Some(body) => read_limited(body, MAX_REQUEST_BYTES, REQUEST_TIMEOUT).await,
            None => Ok(Bytes::new()),
        };
        let body = match body {
            Ok(body) => body,
            Err(BodyError::TooLarge { .. }) => return error(vendor, StatusCode::PAYLOAD_TOO_LARGE, "The request is longer than 32 MiB."),
            Err(problem) => return error(vendor, StatusCode::BAD_REQUEST, &format!("The request cannot be read: {problem}.")),
        };
        // Boxed: rare, and large.
        match vendor {
            Vendor::OpenAi => Box::pin(self.openai(context, target, body)).await,
            Vendor::Anthropic => Box::pin(self.anthropic(context, target, body, &request.head)).await,
        }
    }

    async fn openai(&self, context: &AdapterContext<'_>, target: VendorTarget, body: Bytes) -> Response<ResponseBody> {
        let read = openai::request::ClientRequest::read(&body, self.app.urls(), context.config);
        let request = match read {
            Ok(request) => request,
            Err(refused) => {
                return {
                    let (status, body) = openai::prepare::describe(&refused.into());
                    refusal(status, &body)
                };
            }
        };
        let (is_stream, is_parallel) = (request.is_stream(), request.is_parallel());
        match openai::prepare::prepare(context, request).await {
            Ok(openai::prepare::Prepared::Pass) => forward(context, Vendor::OpenAi, target, Method::POST, RequestBody::Full(body)).await,
            Ok(openai::prepare::Prepared::Loop(turn, toolbox)) => {
                let mode = LoopMode {
                    vendor: Vendor::OpenAi,
                    is_stream,
                    is_parallel,
                };
                self.run(context, *turn, LoopParts { target, toolbox, mode }).await
            }
            Err(refused) => {
                let (status, body) = openai::prepare::describe(&refused);
                refusal(status, &body)
            }
        }
    }

    async fn anthropic(&self, context: &AdapterContext<'_>, target: VendorTarget, body: Bytes, head: &Parts) -> Response<ResponseBody> {
        let read = anthropic::request::ClientRequest::read(&body, self.app.urls(), context.config);
        let request = match read {
            Ok(request) => request,
            Err(message) => return error(Vendor::Anthropic, StatusCode::BAD_REQUEST, &message),
        };
        let (is_stream, is_parallel) = (request.is_stream(), request.is_parallel());
        match anthropic::prepare::prepare(context, request, &head.headers).await {
            Ok(anthropic::prepare::Prepared::Pass) => {
                forward(context, Vendor::Anthropic, target, Method::POST, RequestBody::Full(body)).await
            }
            Ok(anthropic::prepare::Prepared::Loop(turn, toolbox)) => {
                let mode = LoopMode {
                    vendor: Vendor::Anthropic,
                    is_stream,
                    is_parallel,
                };
                self.run(context, *turn, LoopParts { target, toolbox, mode }).await
            }
            Err(refused) => {
                let (status, body) = anthropic::prepare::describe(&refused);
                refusal(status, &body)
            }
        }
    }

    async fn run<D: Dialect + 'static>(&self, context: &AdapterContext<'_>, turn: D, parts: LoopParts) -> Response<ResponseBody> {
        let LoopParts { target, toolbox, mode } = parts;
        let Some(guard) = self.loops.begin(context.caller.key.id()) else {
            let message = "This key already runs 8 requests with tools; wait until one of them ends.";
            let mut response = error(mode.vendor, StatusCode::TOO_MANY_REQUESTS, message);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
            return response;
        };
        let running = Loop::new(
            turn,
            LoopContext {
                http: context.http.clone(),
                target,
                toolbox,
                tools: Arc::clone(context.tools),
                caller: context.caller_key(),
                is_parallel: mode.is_parallel,
                _guard: guard,
            },
        );
        match running.respond(mode.is_stream).await {
            Ok(response) => response,
            Err(reason) => unreachable_vendor(mode.vendor, &reason),
        }
    }
}

/// How a loop's client reads its answer.
#[derive(Clone, Copy)]
struct LoopMode {
    vendor: Vendor,
    is_stream: bool,
    is_parallel: bool,
}

/// What a loop needs besides its dialect.
struct LoopParts {
    target: VendorTarget,
    toolbox: Toolbox,
    mode: LoopMode,
}

/// Forwards a request as it is, and relays the response as it arrives.
async fn forward(
    context: &AdapterContext<'_>,
    vendor: Vendor,
    target: VendorTarget,
    method: Method,
    body: RequestBody,
) -> Response<ResponseBody> {
    match target.forward(context.http, method, body).await {
        Ok(response) => pass(response),
        Err(problem) => unreachable_vendor(vendor, &problem.to_string()),
    }
}

fn unreachable_vendor(vendor: Vendor, reason: &str) -> Response<ResponseBody> {
    tracing::warn!(reason, "the model vendor did not answer");
    error(vendor, StatusCode::BAD_GATEWAY, &format!("The vendor does not answer: {reason}."))
}

/// An error of the gateway, in the vendor's shape.
pub fn error(vendor: Vendor, status: StatusCode, message: &str) -> Response<ResponseBody> {
    let body = match vendor {
        Vendor::OpenAi => {
            let kind = if status.is_server_error() {
                "server_error"
            } else {
                "invalid_request_error"
            };
            openai::error::body(message, kind, None, None)
        }
        Vendor::Anthropic => anthropic::error::body(anthropic::error::kind(status.as_u16()), message),
    };
    refusal(status, &body)
}

fn refusal(status: StatusCode, body: &Value) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Full(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
