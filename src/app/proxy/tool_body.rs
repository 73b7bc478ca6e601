//! What a POST to a service with a tool policy must look like.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Response, StatusCode};
use serde_json::Value;

use crate::app::proxy::tool_answer;
use crate::mcp::jsonrpc::{HEADER_MISMATCH, INVALID_REQUEST, Message, Payload, RequestId};
use crate::mcp::look_alike;
use crate::net::body::{BodyError, RequestBody, ResponseBody, read_limited};

/// The longest body, in bytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// The most messages of a batch. Each call in it is decided.
const MAX_BATCH: usize = 64;
/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a body is not accepted.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: i64,
    text: String,
    id: Option<RequestId>,
}

impl Refusal {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            code: INVALID_REQUEST,
            text: text.into(),
            id: None,
        }
    }

    pub(super) fn into_response(self) -> Response<ResponseBody> {
        tool_answer::error(self.status, Message::error(self.id, self.code, &self.text, Value::Null))
    }
}

/// Reads the body of a POST: one JSON document in UTF-8, without encoding, of at most 1 MiB.
pub(super) async fn read(headers: &HeaderMap, body: RequestBody) -> Result<Bytes, Refusal> {
    let unsupported = |text: &str| Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    let mut encodings = headers.get_all(CONTENT_ENCODING).iter();
    if encodings.any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return unsupported("send the body without Content-Encoding: this service has a tool policy");
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter().map(|value| value.to_str().unwrap_or_default());
    let (Some(content_type), None) = (types.next(), types.next()) else {
        return unsupported("send one Content-Type: application/json");
    };
    if !is_utf8_json(content_type) {
        return unsupported("send the body as application/json in UTF-8: this service has a tool policy");
    }
    match read_limited(body, MAX_BODY_BYTES, BODY_TIMEOUT).await {
        Ok(bytes) => Ok(bytes),
        Err(BodyError::TooLarge { limit }) => {
            let text = format!("the body is longer than {limit} bytes, the limit of services with a tool policy");
            Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text))
        }
        Err(error @ BodyError::TimedOut) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, error.to_string())),
        Err(error @ BodyError::Broken(_)) => Err(Refusal::new(StatusCode::BAD_REQUEST, error.to_string())),
    }
}

fn is_utf8_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("application/json"));
    let is_utf8 = |part: &str| match part.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8"),
        Some(_) | None => true,
    };
    is_json && parts.all(is_utf8)
}

/// Parses a body. Each reader of JSON-RPC must see the same messages in it: the policy acts on one reading,
/// the upstream on its own.
pub(super) fn parse(bytes: &[u8]) -> Result<Payload, Refusal> {
    let refused = |code, text: String, id| Refusal {
        status: StatusCode::BAD_REQUEST,
        code,
        text,
        id,
    };
    let payload = Payload::parse(bytes).map_err(|error| refused(error.code(), error.to_string(), None))?;
    if payload.messages().count() > MAX_BATCH {
        let text = format!("a batch to a service with a tool policy has at most {MAX_BATCH} messages; send several");
        return Err(refused(INVALID_REQUEST, text, None));
    }
    for message in payload.messages() {
        look_alike::check(message).map_err(|error| refused(INVALID_REQUEST, error.to_string(), message.id().cloned()))?;
    }
    Ok(payload)
}

/// Compares `Mcp-Method` and `Mcp-Name` with the body (MCP 2026-07-28). An upstream or a proxy in between
/// may act on the headers, while the policy acts on the body.
pub(super) fn check_headers(headers: &HeaderMap, payload: &Payload) -> Result<(), Refusal> {
    let id = match payload {
        Payload::Single(message) => message.id().cloned(),
        Payload::Batch(_) => None,
    };
    let mismatch = |name: &str| Refusal {
        status: StatusCode::BAD_REQUEST,
        code: HEADER_MISMATCH,
        text: format!("the header {name} disagrees with the body"),
        id: id.clone(),
    };
    for (name, expected) in [("Mcp-Method", method_of(payload)), ("Mcp-Name", name_of(payload))] {
        let mut values = headers.get_all(name).iter();
        let Some(value) = values.next() else { continue };
        let value = value.to_str().ok().and_then(decoded);
        let agrees = values.next().is_none() && value.is_some_and(|value| Some(value.as_str()) == expected);
        if !agrees {
            return Err(mismatch(name));
        }
    }
    Ok(())
}

fn method_of(payload: &Payload) -> Option<&str> {
    match payload {
        Payload::Single(message) => message.method(),
        Payload::Batch(_) => None,
    }
}

/// What `Mcp-Name` repeats: the name of a tool or prompt, or the URI of a resource.
fn name_of(payload: &Payload) -> Option<&str> {
    let Payload::Single(message) = payload else { return None };
    let member = match message.method()? {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        _ => return None,
    };
    message.param(member)?.as_str()
}

/// A header value that is plain, or `=?base64?…?=` for what a header cannot hold.
fn decoded(value: &str) -> Option<String> {
    let Some(encoded) = value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) else {
        return Some(value.to_owned());
    };
    String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(lines: &[(&'static str, &str)], body: &str) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        check_headers(&headers, &Payload::parse(body.as_bytes()).unwrap()).is_err()
    }

    #[test]
    fn headers_that_disagree_with_the_body_are_refused() {
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"größe"}}"#;
        let name = "=?base64?Z3LDtsOfZQ==?=";
        assert!(!refused(&[], call));
        assert!(!refused(&[("mcp-method", "tools/call"), ("mcp-name", name)], call));
        for wrong in [
            &[("mcp-method", "tools/list")][..],
            &[("mcp-method", "tools/call"), ("mcp-method", "tools/call")],
            &[("mcp-name", "other")],
            &[("mcp-name", "=?base64?!?=")],
            &[("mcp-name", name), ("mcp-name", "other")],
        ] {
            assert!(refused(wrong, call), "{wrong:?}");
        }
        assert!(refused(&[("mcp-name", "x")], r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#));
        assert!(refused(&[("mcp-method", "ping")], r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#));
    }

    #[test]
    fn only_json_in_utf8_is_read() {
        for accepted in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
        ] {
            assert!(is_utf8_json(accepted), "{accepted}");
        }
        for refused in [
            "text/json",
            "application/json; charset=utf-16",
            "application/jsonp",
            "",
            "application/x-www-form-urlencoded",
        ] {
            assert!(!is_utf8_json(refused), "{refused}");
        }
    }
}
