//! Client registration and client authentication.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use serde_json::{Value, json};

use crate::assertion;
use crate::body::{Reply, html, json as json_reply};
use crate::server::Exchange;
use crate::token::{Refusal, Unknown};
use crate::tokens::{Client, Tokens, random};

/// The registration endpoint (RFC 7591).
pub async fn register(mut exchange: Exchange) -> io::Result<Reply> {
    let body = exchange.read().await?;
    let status = exchange.behaviour.registration_status.unwrap_or(201);
    if (400..500).contains(&status) {
        return Ok(json_reply(status, &json!({"error": "invalid_client_metadata"})));
    }
    if !(200..300).contains(&status) {
        return Ok(html(status, "<h1>Registration is not at home</h1>"));
    }
    let Some(Value::Object(mut metadata)) = serde_json::from_slice(&body).ok() else {
        return Ok(json_reply(400, &json!({"error": "invalid_client_metadata"})));
    };
    let Some(redirect_uris) = redirect_uris(metadata.get("redirect_uris")) else {
        return Ok(json_reply(400, &json!({"error": "invalid_redirect_uri"})));
    };
    let client_id = format!("client_{}", random());
    let method = metadata.get("token_endpoint_auth_method").and_then(Value::as_str);
    let method = method.unwrap_or("client_secret_basic").to_owned();
    let secret = match method.as_str() {
        "none" => None,
        "client_secret_basic" | "client_secret_post" => Some(random()),
        _ => {
            return Ok(json_reply(400, &json!({"error": "invalid_client_metadata"})));
        }
    };
    if let Some(secret) = &secret {
        metadata.insert("client_secret".into(), json!(secret));
        metadata.insert("client_secret_expires_at".into(), json!(0));
    }
    metadata.insert("client_id".into(), json!(client_id));
    metadata.insert("client_id_issued_at".into(), json!(unix_now()));
    metadata.insert("token_endpoint_auth_method".into(), json!(method));
    let client = Client {
        secret,
        redirect_uris: Some(redirect_uris),
    };
    exchange.state.tokens().clients.insert(client_id, client);
    Ok(json_reply(status, &Value::Object(metadata)))
}

/// The redirect URIs: at least one, all absolute and without a fragment.
fn redirect_uris(value: Option<&Value>) -> Option<Vec<String>> {
    let uris = value?.as_array()?;
    let good = |uri: &str| url::Url::parse(uri).is_ok_and(|u| u.fragment().is_none());
    let take = |uri: &Value| uri.as_str().filter(|u| good(u)).map(str::to_owned);
    let uris = uris.iter().map(take).collect::<Option<Vec<_>>>()?;
    (!uris.is_empty()).then_some(uris)
}

/// Unix seconds of the real clock.
pub fn unix_now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| d.as_secs())
}

/// Authenticates the client of a request to `/token` or `/revoke`: by Basic, by the secret in the
/// form, by an assertion, or by its id alone if it has no secret.
pub fn authenticate(tokens: &mut Tokens, issuer: &str, headers: &HeaderMap, form: &[(String, String)]) -> Result<String, Refusal> {
    let field = |name: &str| form.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    let authorization = headers.get("authorization").and_then(|v| v.to_str().ok());
    if let (Some(kind), Some(assertion)) = (field("client_assertion_type"), field("client_assertion")) {
        if authorization.is_some() || field("client_secret").is_some() {
            return Err(Refusal::new("invalid_request", "two ways of authentication at once"));
        }
        let id = assertion::client(tokens, issuer, &kind, &assertion).ok_or(Refusal::client(&Unknown::Form))?;
        if field("client_id").is_some_and(|named| named != id) {
            return Err(Refusal::new("invalid_request", "two clients at once"));
        }
        return Ok(id);
    }
    let (id, secret) = match authorization {
        Some(value) => {
            if field("client_secret").is_some() {
                return Err(Refusal::new("invalid_request", "two ways of authentication at once"));
            }
            let (id, secret) = basic(value).ok_or(Refusal::client(&Unknown::Basic))?;
            if field("client_id").is_some_and(|named| named != id) {
                return Err(Refusal::new("invalid_request", "two clients at once"));
            }
            (id, Some(secret))
        }
        None => (field("client_id").ok_or(Refusal::client(&Unknown::Form))?, field("client_secret")),
    };
    let how = if authorization.is_some() { Unknown::Basic } else { Unknown::Form };
    match tokens.clients.get(&id) {
        Some(client) if client.secret == secret => Ok(id),
        _ => Err(Refusal::client(&how)),
    }
}

/// Client id and secret of a Basic header, each form-decoded (RFC 6749 §2.3.1).
fn basic(value: &str) -> Option<(String, String)> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    Some((form_decoded(id), form_decoded(secret)))
}

fn form_decoded(text: &str) -> String {
    // The text is a single field, so an ampersand or equals sign must not start a new one.
    let text = text.replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(text.as_bytes())
        .next()
        .map_or_else(String::new, |(n, _)| n.into_owned())
}
