//! Responses of the gateway itself, in the vendor's shape.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use serde_json::Value;

use crate::adapter::vendor::Vendor;
use crate::adapter::{anthropic, openai};
use crate::net::body::ResponseBody;

/// The header by which the vendors tell their SDKs whether to repeat a request.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

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

/// A response with this body.
pub fn refusal(status: StatusCode, body: &Value) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Full(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The response to a request that the vendor does not answer.
pub fn unreachable_vendor(vendor: Vendor, reason: &str) -> Response<ResponseBody> {
    tracing::warn!(reason, "the model vendor did not answer");
    error(vendor, StatusCode::BAD_GATEWAY, &format!("The vendor does not answer: {reason}."))
}

/// Tells the SDK not to repeat the request. Otherwise it repeats a 5xx by itself, and the tools run twice.
pub fn forbid_retry<T>(response: &mut Response<T>) {
    response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
}

/// Whether [`forbid_retry`] marked the response.
pub fn is_retry_forbidden<T>(response: &Response<T>) -> bool {
    response.headers().get(SHOULD_RETRY).is_some_and(|value| value == "false")
}
