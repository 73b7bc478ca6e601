//! Checks beyond the steps of a client: wrong tokens, wrong codes, HEAD, web pages and clocks.

use http::Method;
use serde_json::Value;

use crate::agent::clients::profile::ClientProfile;
use crate::agent::doctor::metadata::DiscoveredMetadata;
use crate::agent::doctor::opening;
use crate::agent::doctor::rule::{self, Rule};
use crate::agent::doctor::session::{Answer, Call, Session, printable};
use crate::base::time::UnixTime;
use crate::base::url::encode_query;
use crate::oauth::www_authenticate::BearerChallenge;

/// A token that no server issued.
const INVALID_TOKEN: &str = "doctor-made-this-token-up";
/// An id that no server issued.
const UNKNOWN_CLIENT: &str = "doctor-unknown-client";
/// A redirect URI that no client registered. The host cannot exist (RFC 2606 §2).
const FOREIGN_REDIRECT: &str = "https://doctor.invalid/callback";
/// The maximum difference between two clocks, in seconds.
const MAX_SKEW_SECONDS: u64 = 60;

/// Checks that apply to all clients, at a server that requires a token.
pub(super) async fn check_protected_server(session: &mut Session<'_>, discovered: Option<&DiscoveredMetadata>, now: UnixTime) {
    let url = session.mcp.to_string();
    let Ok(plain) = session.ask(&opening::plain_initialize(&url)).await else {
        return;
    };
    check_clock(session, &plain, now);
    let challenge = BearerChallenge::parse(fields(&plain));
    // A missing challenge is a finding of its own, and has no missing parts.
    if challenge.is_some() {
        check_head(session, &url).await;
        check_invalid_token(session, &url).await;
    }
    let Some(discovered) = discovered else { return };
    let names_none = challenge.is_some_and(|challenge| challenge.resource_metadata.is_none());
    if discovered.resource.is_some() && names_none {
        session.note(&rule::CHALLENGE_NO_METADATA, &url, printable(&fields(&plain).join(", ")));
    }
    check_token_endpoint(session, &discovered.server.token).await;
    if let Some(endpoint) = &discovered.server.register {
        check_registration(session, endpoint).await;
    }
    check_open_redirect(session, &discovered.server.authorize).await;
}

fn fields(answer: &Answer) -> Vec<&str> {
    let values = answer.headers.get_all("www-authenticate").iter();
    values.filter_map(|value| value.to_str().ok()).collect()
}

/// Compares `Date` (RFC 9110 §6.6.1) with this machine's clock.
pub(super) fn check_clock(session: &mut Session<'_>, answer: &Answer, now: UnixTime) {
    let Some(theirs) = answer.header("date").and_then(UnixTime::parse_http_date) else {
        return;
    };
    let skew = theirs.seconds_since(now).max(now.seconds_since(theirs));
    if skew > MAX_SKEW_SECONDS {
        let url = session.mcp.to_string();
        session.note(&rule::CLOCK_SKEW, &url, format!("{skew} seconds apart"));
    }
}

async fn check_head(session: &mut Session<'_>, url: &str) {
    let call = Call::new(Method::HEAD, url).with("accept", "application/json");
    if let Ok(answer) = session.ask(&call).await
        && fields(&answer).is_empty()
    {
        session.note(&rule::HEAD_NO_CHALLENGE, url, answer.summary());
    }
}

async fn check_invalid_token(session: &mut Session<'_>, url: &str) {
    let call = opening::plain_initialize(url).with("authorization", &format!("Bearer {INVALID_TOKEN}"));
    let Ok(answer) = session.ask(&call).await else { return };
    match answer.status.as_u16() {
        401 => {
            let challenge = BearerChallenge::parse(fields(&answer)).unwrap_or_default();
            if challenge.error.as_deref() != Some("invalid_token") {
                session.note(&rule::BAD_TOKEN_NO_ERROR, url, printable(&fields(&answer).join(", ")));
            }
        }
        200..300 => session.note(&rule::BAD_TOKEN_ACCEPTED, url, answer.summary()),
        429 => {}
        _ => session.note(&rule::BAD_TOKEN_NOT_401, url, answer.summary()),
    }
}

/// Checks the responses to a wrong code and a wrong refresh token of an unknown client.
async fn check_token_endpoint(session: &mut Session<'_>, endpoint: &str) {
    let code = [
        ("grant_type", "authorization_code"),
        ("code", "doctor-made-this-code-up"),
        ("code_verifier", "doctor-made-this-verifier-up-0123456789abcdef"),
        ("redirect_uri", "http://127.0.0.1:41234/callback"),
        ("client_id", UNKNOWN_CLIENT),
    ];
    let refresh = [
        ("grant_type", "refresh_token"),
        ("refresh_token", "doctor-made-this-refresh-token-up"),
        ("client_id", UNKNOWN_CLIENT),
    ];
    for body in [encode_query(code), encode_query(refresh)] {
        let reply = session.ask(&Call::form(endpoint, body)).await;
        let (rule, detail) = match reply {
            Err(failure) => (&rule::TOKEN_ERROR, failure.why),
            Ok(answer) => match token_error(&answer) {
                Some(rule) => (rule, answer.summary()),
                None => continue,
            },
        };
        session.note(rule, endpoint, detail);
    }
}

fn token_error(answer: &Answer) -> Option<&'static Rule> {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let has_error = body.get("error").is_some_and(Value::is_string);
    match answer.status.as_u16() {
        404 | 405 if !has_error => Some(&rule::TOKEN_GONE),
        429 => None,
        500.. => Some(&rule::TOKEN_ERROR),
        200..400 if has_error => Some(&rule::TOKEN_ERROR_200),
        _ if has_error => None,
        _ => Some(&rule::TOKEN_NOT_JSON),
    }
}

async fn check_registration(session: &mut Session<'_>, endpoint: &str) {
    let Ok(answer) = session.ask(&Call::broken_registration(endpoint)).await else {
        return;
    };
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let has_error = body.get("error").is_some_and(Value::is_string);
    let rule = match answer.status.as_u16() {
        401 | 403 => &rule::REGISTRATION_NEEDS_TOKEN,
        404 | 405 => &rule::REGISTRATION_GONE,
        429 => return,
        500.. => &rule::REGISTRATION_ERROR,
        _ if has_error => return,
        _ => &rule::REGISTRATION_NOT_JSON,
    };
    session.note(rule, endpoint, answer.summary());
}

async fn check_open_redirect(session: &mut Session<'_>, endpoint: &str) {
    let parameters = [
        ("response_type", "code"),
        ("client_id", UNKNOWN_CLIENT),
        ("redirect_uri", FOREIGN_REDIRECT),
        ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
        ("code_challenge_method", "S256"),
        ("state", "doctor"),
    ];
    let separator = if endpoint.contains('?') { '&' } else { '?' };
    let url = format!("{endpoint}{separator}{}", encode_query(parameters));
    let Ok(answer) = session.ask(&Call::new(Method::GET, &url).with("accept", "text/html")).await else {
        return;
    };
    let location = answer.header("location").unwrap_or_default();
    if answer.status.is_redirection() && location.starts_with(FOREIGN_REDIRECT) {
        session.note(
            &rule::OPEN_REDIRECT,
            endpoint,
            format!("status {} to {FOREIGN_REDIRECT}", answer.status.as_u16()),
        );
    }
}

/// Checks CORS for a client that is a web page.
pub(super) async fn check_web_page(session: &mut Session<'_>, client: &'static ClientProfile, discovered: Option<&DiscoveredMetadata>) {
    let Some(origin) = client.origin else { return };
    let mcp = session.mcp.to_string();
    let page = Page { client, origin };
    page.send_preflight(session, &mcp, &rule::CORS_MCP, "POST").await;
    let Ok(answer) = session.ask(&opening::plain_initialize(&mcp).with("origin", origin)).await else {
        return;
    };
    let exposed = answer
        .header("access-control-expose-headers")
        .unwrap_or_default()
        .to_ascii_lowercase();
    if answer.status.as_u16() == 401 && !exposed.contains("www-authenticate") && exposed != "*" {
        session.note_for(client.name, &rule::CORS_MCP, &mcp, "`WWW-Authenticate` is not exposed".to_owned());
    }
    if let Some(discovered) = discovered {
        page.send_preflight(session, &discovered.server_url, &rule::CORS_METADATA, "GET")
            .await;
        page.send_preflight(session, &discovered.server.token, &rule::CORS_TOKEN, "POST")
            .await;
    }
}

/// A web page that calls a server on another origin.
struct Page {
    client: &'static ClientProfile,
    origin: &'static str,
}

impl Page {
    /// Sends the preflight request of a browser.
    async fn send_preflight(&self, session: &mut Session<'_>, url: &str, rule: &'static Rule, method: &str) {
        let call = Call::new(Method::OPTIONS, url)
            .with("origin", self.origin)
            .with("access-control-request-method", method)
            .with("access-control-request-headers", "content-type,mcp-protocol-version");
        let Ok(answer) = session.ask(&call).await else { return };
        let allowed = answer.header("access-control-allow-origin").unwrap_or_default();
        let headers = answer
            .header("access-control-allow-headers")
            .unwrap_or_default()
            .to_ascii_lowercase();
        let detail = if !answer.status.is_success() {
            answer.summary()
        } else if allowed != "*" && allowed != self.origin {
            format!(
                "`Access-Control-Allow-Origin` is {}",
                printable(if allowed.is_empty() { "missing" } else { allowed })
            )
        } else if !headers.contains("mcp-protocol-version") && headers != "*" {
            "`Access-Control-Allow-Headers` lacks mcp-protocol-version".to_owned()
        } else {
            return;
        };
        session.note_for(self.client.name, rule, url, detail);
    }
}
