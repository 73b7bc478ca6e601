//! `/introspect` and `/userinfo`, for resource servers that the gateway does not proxy.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use hyper::body::Incoming;

use crate::app::App;
use crate::app::endpoint::ServiceEndpoint;
use crate::app::introspection::introspect::{IntrospectionError, IntrospectionRequest, IntrospectionResponse};
use crate::app::introspection::user_info::UserInfoError;
use crate::oauth::bearer::{self, BearerHeader};
use crate::oauth::error::OAuthErrorCode;
use crate::oauth::introspection;
use crate::web::oauth_endpoints::{body_error, media_type_error, parse_form, read_body};
use crate::web::reply::{self, HttpResponse};

const FORM_OR_JSON: &str = "application/x-www-form-urlencoded or application/json";
const WRONG_KEY: &str = "the key of the resource server is missing, wrong, expired or revoked";
const BAD_TOKEN: &str = "the token is not an active access token of this service";
const MISSING_SCOPE: &str = "the token has neither the scope openid nor the scope profile";
const TWO_HEADERS: &str = "the request has no well-formed bearer token, or more than one Authorization header";

/// Answers an introspection request. `endpoint`: the service that the path names, if it names one.
pub async fn introspect(
    app: &Arc<App>,
    endpoint: Option<ServiceEndpoint<'_>>,
    parts: &Parts,
    body: &mut Option<Incoming>,
    source: IpAddr,
) -> HttpResponse {
    let body: Bytes = match read_body(body).await {
        Ok(body) => body,
        Err(error) => return body_error(&error),
    };
    let form = match parse_form(parts, &body, true) {
        Some(Ok(form)) => form,
        Some(Err(error)) => return reply::oauth_error(&error.into()),
        None => return media_type_error(FORM_OR_JSON),
    };
    let Ok(authorization) = only_authorization(&parts.headers) else {
        return reply::error(StatusCode::BAD_REQUEST, "invalid_request", TWO_HEADERS);
    };
    let accept = parts.headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let request = IntrospectionRequest {
        service: endpoint.map(|endpoint| endpoint.service),
        authorization,
        form: &form,
        is_signed: accept.into_iter().any(introspection::accepts_signed_response),
        source,
    };
    match app.introspection.introspect(request).await {
        Ok(IntrospectionResponse::Plain(document)) => reply::json(StatusCode::OK, &document),
        Ok(IntrospectionResponse::Signed(jwt)) => {
            let mut response = reply::response(StatusCode::OK, introspection::JWT_MEDIA_TYPE, Bytes::from(jwt));
            let no_store = HeaderValue::from_static("no-store");
            response.headers_mut().insert(header::CACHE_CONTROL, no_store);
            response
        }
        Err(IntrospectionError::Key { is_bearer }) => wrong_key(is_bearer),
        Err(IntrospectionError::Rejection(rejection)) => reply::oauth_error(&rejection),
    }
}

/// Answers a userinfo request.
pub async fn user_info(app: &Arc<App>, endpoint: ServiceEndpoint<'_>, headers: &HeaderMap) -> HttpResponse {
    let authorization = only_authorization(headers);
    let token = match authorization.map(bearer::parse) {
        Ok(BearerHeader::Bearer(token)) => token,
        Ok(BearerHeader::Nothing) => return challenge(StatusCode::UNAUTHORIZED, None),
        Ok(BearerHeader::Malformed) | Err(()) => {
            return challenge(StatusCode::BAD_REQUEST, Some((OAuthErrorCode::InvalidRequest, TWO_HEADERS)));
        }
    };
    match app.introspection.user_info(endpoint.service, token).await {
        Ok(document) => reply::json(StatusCode::OK, &document),
        Err(UserInfoError::BadToken) => challenge(StatusCode::UNAUTHORIZED, Some((OAuthErrorCode::InvalidToken, BAD_TOKEN))),
        Err(UserInfoError::MissingScope) => challenge(StatusCode::FORBIDDEN, Some((OAuthErrorCode::InsufficientScope, MISSING_SCOPE))),
        Err(UserInfoError::Rejection(rejection)) => reply::oauth_error(&rejection),
    }
}

/// The response at the MCP path of a service that the gateway does not proxy: the server's own URL.
pub fn external_server_response(endpoint: ServiceEndpoint<'_>) -> HttpResponse {
    let message = format!("the gateway does not proxy this server: call {}", endpoint.resource());
    reply::error(StatusCode::NOT_FOUND, "not_found", &message)
}

/// The value of `Authorization`; an error if there are several.
fn only_authorization(headers: &HeaderMap) -> Result<Option<&str>, ()> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let first = values.next().map(|value| value.to_str().map_err(|_| ())).transpose()?;
    match values.next() {
        Some(_) => Err(()),
        None => Ok(first),
    }
}

fn wrong_key(is_bearer: bool) -> HttpResponse {
    if is_bearer {
        return challenge(StatusCode::UNAUTHORIZED, Some((OAuthErrorCode::InvalidToken, WRONG_KEY)));
    }
    let mut response = reply::error(StatusCode::UNAUTHORIZED, "invalid_client", WRONG_KEY);
    let basic = HeaderValue::from_static("Basic realm=\"mcp-oauth-gateway\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
    response
}

/// A challenge (RFC 6750 §3), with the scope that `/userinfo` requires if it is missing.
fn challenge(status: StatusCode, error: Option<(OAuthErrorCode, &str)>) -> HttpResponse {
    let code = error.map_or("unauthorized", |(code, _)| code.as_str());
    let text = error.map_or("send an access token as Bearer", |(_, text)| text);
    let mut response = reply::error(status, code, text);
    let scope = if status == StatusCode::FORBIDDEN { "openid" } else { "" };
    let value = match error {
        None => "Bearer realm=\"mcp-oauth-gateway\"".to_owned(),
        Some(_) => bearer::challenge(None, scope, error),
    };
    if let Ok(value) = HeaderValue::from_str(&value) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
    }
    response
}
