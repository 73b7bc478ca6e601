//! The endpoint of the adapters: who may call, what passes through, and what becomes a loop.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;

use crate::adapter::access::AdapterContext;
use crate::adapter::idempotency::{Begun, IdempotentRequests, KeyedRequest};
use crate::adapter::loops::RunningLoops;
use crate::adapter::own_entries::Place;
use crate::adapter::own_request::{OwnRequest, RunContext};
use crate::adapter::refusal::{error, forbid_retry, unreachable_vendor};
use crate::adapter::runner::pass;
use crate::adapter::vendor::{self, Vendor, VendorTarget};
use crate::app::App;
use crate::app::proxy::caller::CallerAddress;
use crate::base::secret::Secret;
use crate::net::body::{BodyError, RequestBody, ResponseBody, read_limited};
use crate::net::http_client::HttpClient;
use crate::observe::refusal_limit::REFUSALS;
use crate::upstream::forward_rules::ADAPTER_KEY_HEADER;

/// The types of bodies that are files, which pass unread. MCP entries are in JSON.
const FILE_TYPES: [&str; 5] = ["multipart/", "application/octet-stream", "audio/", "image/", "video/"];
/// The longest request that is read, in bytes. The vendors accept images and files in it.
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
    requests: IdempotentRequests,
}

impl Adapters {
    /// The adapters of this app.
    pub fn new(app: Arc<App>) -> Self {
        Self {
            app,
            loops: RunningLoops::default(),
            requests: IdempotentRequests::default(),
        }
    }

    /// Responds to one request.
    pub async fn respond(&self, http: &HttpClient, request: AdapterRequest<'_>) -> Response<ResponseBody> {
        let vendor = request.vendor;
        let key = match request.path_key {
            Some(ref key) => Some(key.expose()),
            None => request.head.headers.get(ADAPTER_KEY_HEADER).and_then(|value| value.to_str().ok()),
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
        let base = match vendor {
            Vendor::OpenAi => config.configured.adapters.openai(),
            Vendor::Anthropic => config.configured.adapters.anthropic(),
        };
        let query = request.head.uri.query().map_or_else(String::new, |query| format!("?{query}"));
        let headers = vendor::request_headers(&request.head.headers);
        let Ok(target) = VendorTarget::new(base, &format!("{}{query}", request.path), headers) else {
            return error(vendor, StatusCode::BAD_REQUEST, "The path makes no URL at the vendor.");
        };
        let context = AdapterContext {
            app: Arc::clone(&self.app),
            config,
            http: http.clone(),
            caller,
            address: request.address,
        };
        // Boxed: large.
        if request.head.method == Method::POST && request.path == vendor.loop_path() {
            Box::pin(self.answer(context, target, request)).await
        } else {
            Box::pin(pass_other_path(&context, target, request)).await
        }
    }

    /// A request that can have entries of the gateway.
    async fn answer(&self, context: AdapterContext, target: VendorTarget, request: AdapterRequest<'_>) -> Response<ResponseBody> {
        let AdapterRequest { vendor, head, body, .. } = request;
        let body = match read_body(vendor, &head, body.take()).await {
            Ok(body) => body,
            Err(response) => return *response,
        };
        let own = match OwnRequest::read(&context, vendor, &head, &body) {
            Ok(Some(own)) => own,
            Ok(None) => return forward(&context, vendor, target, Method::POST, RequestBody::Full(body)).await,
            Err(response) => return *response,
        };
        let keyed = match KeyedRequest::read(&context.caller_key(), vendor, &head.headers, &body) {
            Ok(keyed) => keyed,
            Err(message) => return error(vendor, StatusCode::BAD_REQUEST, message),
        };
        drop(body);
        match keyed {
            Some(keyed) => self.run_once(context, target, own, &keyed).await,
            // Counted before the tools are opened, which takes time and memory too.
            None => match self.loops.begin(context.caller.key.id()) {
                Some(guard) => {
                    let access = context;
                    Box::pin(own.respond(RunContext { access, target, guard })).await
                }
                None => too_many_loops(vendor),
            },
        }
    }

    /// Runs a request whose repetitions get the same response. It goes on when the client leaves, because a
    /// repetition may follow.
    async fn run_once(
        &self,
        context: AdapterContext,
        target: VendorTarget,
        own: OwnRequest,
        keyed: &KeyedRequest,
    ) -> Response<ResponseBody> {
        let vendor = own.vendor();
        let recording = match self.requests.begin(keyed, context.tools().tickets().now()) {
            Begun::First(recorder) => {
                let Some(guard) = self.loops.begin(context.caller.key.id()) else {
                    return too_many_loops(vendor);
                };
                let recording = recorder.recording();
                let tools = Arc::clone(context.tools());
                tools.detach(move |http| {
                    let access = AdapterContext { http, ..context };
                    recorder.record(own.respond(RunContext { access, target, guard }))
                });
                recording
            }
            Begun::Repeated(recording) => recording,
            Begun::OtherRequest => {
                let message = "This Idempotency-Key belongs to another request: use a new key for a new request.";
                return error(vendor, StatusCode::UNPROCESSABLE_ENTITY, message);
            }
            Begun::Forgotten => return already_run(vendor),
            Begun::Full => return too_many_loops(vendor),
        };
        recording.replay().await.unwrap_or_else(|| already_run(vendor))
    }
}

/// Forwards a request to a path at which no tools run, unless it has an entry of the gateway.
async fn pass_other_path(context: &AdapterContext, target: VendorTarget, request: AdapterRequest<'_>) -> Response<ResponseBody> {
    let AdapterRequest { vendor, head, body, .. } = request;
    let Some(body) = body.take() else {
        return forward(context, vendor, target, head.method, RequestBody::Empty).await;
    };
    let kind = head.headers.get(CONTENT_TYPE).map(|value| value.as_bytes().to_ascii_lowercase());
    let is_file = |kind: &[u8]| FILE_TYPES.iter().any(|prefix| kind.starts_with(prefix.as_bytes()));
    if body.is_end_stream() || kind.as_deref().is_some_and(is_file) {
        return forward(context, vendor, target, head.method, RequestBody::Stream(body)).await;
    }
    let body = match read_body(vendor, &head, Some(body)).await {
        Ok(body) => body,
        Err(response) => return *response,
    };
    let is_json = kind.is_none_or(|kind| String::from_utf8_lossy(&kind).contains("json"));
    match context.own_names().are_in(&body, Place::Elsewhere) {
        Ok(true) => {
            let message = format!(
                "The gateway serves its MCP entries only at {}, and the vendor must not get them: leave them out of this request.",
                vendor.loop_path()
            );
            error(vendor, StatusCode::BAD_REQUEST, &message)
        }
        Err(_) if is_json => error(vendor, StatusCode::BAD_REQUEST, "The body of the request is not JSON."),
        Ok(false) | Err(_) => forward(context, vendor, target, head.method, RequestBody::Full(body)).await,
    }
}

/// Reads a whole body. The error is the response to the client.
async fn read_body(vendor: Vendor, head: &Parts, body: Option<Incoming>) -> Result<Bytes, Box<Response<ResponseBody>>> {
    let refused = |status, message: &str| Err(Box::new(error(vendor, status, message)));
    let encoding = head.headers.get(CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != "identity") {
        return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Send the body without Content-Encoding.");
    }
    let Some(body) = body else { return Ok(Bytes::new()) };
    match read_limited(body, MAX_REQUEST_BYTES, REQUEST_TIMEOUT).await {
        Ok(body) => Ok(body),
        Err(BodyError::TooLarge { .. }) => refused(StatusCode::PAYLOAD_TOO_LARGE, "The request is longer than 32 MiB."),
        Err(problem) => refused(StatusCode::BAD_REQUEST, &format!("The request cannot be read: {problem}.")),
    }
}

fn too_many_loops(vendor: Vendor) -> Response<ResponseBody> {
    let message = "This key already runs 8 requests with tools; wait until one of them ends.";
    let mut response = error(vendor, StatusCode::TOO_MANY_REQUESTS, message);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

/// The response to a repetition whose own response is not stored. Its tools may have run.
fn already_run(vendor: Vendor) -> Response<ResponseBody> {
    let message = "The request with this Idempotency-Key already ran, and its response is no longer stored here.";
    let mut response = error(vendor, StatusCode::CONFLICT, message);
    forbid_retry(&mut response);
    response
}

/// Forwards a request as it is, and relays the response as it arrives.
async fn forward(
    context: &AdapterContext,
    vendor: Vendor,
    target: VendorTarget,
    method: Method,
    body: RequestBody,
) -> Response<ResponseBody> {
    match target.forward(&context.http, method, body).await {
        Ok(response) => pass(response),
        Err(problem) => unreachable_vendor(vendor, &problem.to_string()),
    }
}
