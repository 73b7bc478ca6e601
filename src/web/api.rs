//! The management API, `/api`. `docs/openapi.json` describes it.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::app::App;
use crate::app::servers::ApiError;
use crate::app::servers::admin::ServerInput;
use crate::app::servers::keys::KeyInput;
use crate::app::servers::lookup::Admin;
use crate::web::oauth_endpoints::{body_error, has_media_type, read_body};
use crate::web::reply::{self, HttpResponse};
use crate::web::routes::ApiRoute;

/// Answers a request of a program with an admin key.
pub async fn respond(app: &Arc<App>, route: ApiRoute, parts: &Parts, body: &mut Option<Incoming>, source: IpAddr) -> HttpResponse {
    let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
    let authorization = values
        .next()
        .and_then(|value| value.to_str().ok())
        .filter(|_| values.next().is_none());
    let admin = match app.servers.authenticate(authorization, source).await {
        Ok(admin) => admin,
        Err(error) => return refusal(&error),
    };
    let body = match read_body(body).await {
        Ok(body) => body,
        Err(error) => return body_error(&error),
    };
    if !body.is_empty() && !has_media_type(parts, "application/json") {
        return reply::error(StatusCode::BAD_REQUEST, "invalid_request", "the body must be application/json");
    }
    match answer(
        app,
        &route,
        &admin,
        Call {
            method: &parts.method,
            body: &body,
        },
    )
    .await
    {
        Ok((status, Some(document))) => reply::json(status, &document),
        Ok((status, None)) => {
            let mut response = reply::response(status, "application/json", bytes::Bytes::new());
            response
                .headers_mut()
                .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(error) => refusal(&error),
    }
}

/// The method and body of a request.
struct Call<'a> {
    method: &'a Method,
    body: &'a [u8],
}

/// The status and the document of a response.
type Answer = (StatusCode, Option<Value>);

async fn answer(app: &Arc<App>, route: &ApiRoute, admin: &Admin, call: Call<'_>) -> Result<Answer, ApiError> {
    let servers = &app.servers;
    let ok = |document| (StatusCode::OK, Some(document));
    let created = |document| (StatusCode::CREATED, Some(document));
    let no_content = |()| (StatusCode::NO_CONTENT, None);
    match route {
        ApiRoute::Servers if call.method == Method::POST => servers.register(admin, parse::<ServerInput>(call.body)?).await.map(created),
        ApiRoute::Servers => servers.list(admin).await.map(ok),
        ApiRoute::Server(id) if call.method == Method::PATCH => servers.change(admin, id, parse(call.body)?).await.map(ok),
        ApiRoute::Server(id) if call.method == Method::DELETE => servers.remove(admin, id).await.map(no_content),
        ApiRoute::Server(id) => servers.show(admin, id).await.map(ok),
        ApiRoute::Proof(id) => servers.check_proof(admin, id).await.map(ok),
        ApiRoute::Keys(id) if call.method == Method::POST => servers.add_key(admin, id, parse::<KeyInput>(call.body)?).await.map(created),
        ApiRoute::Keys(id) => servers.list_keys(admin, id).await.map(ok),
        ApiRoute::Key(id, key) => servers.revoke_key(admin, id, key).await.map(no_content),
        ApiRoute::Grants => servers.list_grants(admin).await.map(ok),
        ApiRoute::Grant(grant) => servers.end_grant(admin, grant).await.map(no_content),
    }
}

/// The members of a body; an empty body has none.
fn parse<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, ApiError> {
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|error| ApiError::Invalid(format!("the body cannot be read: {error}")))
}

fn refusal(error: &ApiError) -> HttpResponse {
    match error {
        ApiError::Unauthorized => {
            let text = "send an admin key as Bearer; `mcp-oauth-gateway admin-keys add` creates one";
            let mut response = reply::error(StatusCode::UNAUTHORIZED, "unauthorized", text);
            let challenge = HeaderValue::from_static("Bearer realm=\"mcp-oauth-gateway management\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            response
        }
        ApiError::NotFound => reply::error(
            StatusCode::NOT_FOUND,
            "not_found",
            "no server, key or grant of this id is managed by this admin key",
        ),
        ApiError::Invalid(text) => reply::error(StatusCode::BAD_REQUEST, "invalid_request", text),
        ApiError::Conflict(text) => reply::error(StatusCode::CONFLICT, "conflict", text),
        ApiError::TooMany => {
            let response = reply::error(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_requests",
                "too many wrong keys; try again later",
            );
            reply::with_retry_after(response, 10)
        }
        ApiError::Unavailable(text) => {
            tracing::warn!(reason = text, "the store of the management API failed");
            let response = reply::error(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", "try again later");
            reply::with_retry_after(response, 1)
        }
    }
}
