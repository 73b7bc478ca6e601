//! The endpoints that OAuth clients call: token, registration and revocation.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{StatusCode, header};
use hyper::body::Incoming;
use serde_json::json;

use crate::app::App;
use crate::app::endpoint::ServiceEndpoint;
use crate::net::body::{BodyError, read_limited};
use crate::oauth::form::{Form, FormError};
use crate::web::reply::{self, HttpResponse};
use crate::web::routes::OAuthEndpoint;

/// Maximum size of a body that an endpoint reads, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// Timeout for reading such a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);
const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// A request at such an endpoint.
pub struct OAuthRequest<'a> {
    /// The endpoint.
    pub endpoint: OAuthEndpoint,
    /// The service.
    pub service: ServiceEndpoint<'a>,
    /// The method, URI and headers.
    pub parts: Parts,
    /// The body; `None` after it is read.
    pub body: &'a mut Option<Incoming>,
    /// The caller's address, for limits only.
    pub source: IpAddr,
}

/// Reads a body.
///
/// # Errors
/// If it is too long or slow, or broken.
pub async fn read_body(body: &mut Option<Incoming>) -> Result<Bytes, BodyError> {
    match body.take() {
        Some(body) => read_limited(body, MAX_BODY_BYTES, BODY_TIMEOUT).await,
        None => Ok(Bytes::new()),
    }
}

/// The response for a body that cannot be read.
pub fn body_error(error: &BodyError) -> HttpResponse {
    let status = match error {
        BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::TimedOut => StatusCode::REQUEST_TIMEOUT,
        BodyError::Broken(_) => StatusCode::BAD_REQUEST,
    };
    reply::error(status, "invalid_request", &error.to_string())
}

/// Whether a request has this media type.
pub fn has_media_type(parts: &Parts, expected: &str) -> bool {
    let value = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = value.unwrap_or("").split(';').next().unwrap_or("");
    media_type.trim().eq_ignore_ascii_case(expected)
}

/// Parses a body as a form, or as a JSON object of strings if `accepts_json`. `None`: another media
/// type.
pub fn parse_form(parts: &Parts, body: &Bytes, accepts_json: bool) -> Option<Result<Form, FormError>> {
    if has_media_type(parts, FORM) {
        Some(Form::parse(body))
    } else if accepts_json && has_media_type(parts, JSON) {
        Some(Form::from_json(body))
    } else {
        None
    }
}

/// The response for a body of another media type.
pub fn media_type_error(expected: &str) -> HttpResponse {
    reply::error(StatusCode::BAD_REQUEST, "invalid_request", &format!("the body must be {expected}"))
}

/// Answers a request. `json_token`: the operator accepts JSON at the token endpoint.
pub async fn respond(app: &Arc<App>, request: OAuthRequest<'_>, json_token: bool) -> HttpResponse {
    let OAuthRequest {
        endpoint,
        service,
        parts,
        body,
        source,
    } = request;
    // Clients of external services may send JSON, as clients of an earlier protocol do.
    let accepts_json = match endpoint {
        OAuthEndpoint::Token => json_token || service.is_served_elsewhere(),
        OAuthEndpoint::Revoke => service.is_served_elsewhere(),
        OAuthEndpoint::Register => true,
    };
    let is_json = has_media_type(&parts, JSON) && accepts_json;
    let expected = if endpoint == OAuthEndpoint::Register { JSON } else { FORM };
    if !is_json && !has_media_type(&parts, expected) {
        return media_type_error(expected);
    }
    let body = match read_body(body).await {
        Ok(body) => body,
        Err(error) => return body_error(&error),
    };
    let authorization = parts.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let form = || if is_json { Form::from_json(&body) } else { Form::parse(&body) };
    let result = match endpoint {
        OAuthEndpoint::Token => match form() {
            Ok(form) => app.token_endpoint.respond(source, service, authorization, &form).await,
            Err(error) => Err(error.into()),
        }
        .map(|document| (StatusCode::OK, document)),
        OAuthEndpoint::Revoke => match form() {
            Ok(form) => app.token_endpoint.revoke(source, service.service, authorization, &form).await,
            Err(error) => Err(error.into()),
        }
        .map(|()| (StatusCode::OK, json!({}))),
        OAuthEndpoint::Register => app.clients.register(&body, source).map(|document| (StatusCode::CREATED, document)),
    };
    match result {
        Ok((status, document)) => {
            let mut response = reply::json(status, &document);
            response
                .headers_mut()
                .insert(header::PRAGMA, header::HeaderValue::from_static("no-cache"));
            response
        }
        Err(error) => reply::oauth_error(&error),
    }
}
