//! What is between the clients and the gateway itself: header limits, callbacks, buffering proxies.

use http::Method;

use crate::agent::doctor::checks;
use crate::agent::doctor::opening;
use crate::agent::doctor::rule;
use crate::agent::doctor::session::{Call, Session};
use crate::base::time::UnixTime;

/// The size of a made-up token: a pair with a large JWT of an upstream in it.
const LARGE_TOKEN_BYTES: usize = 12 * 1024;

/// Checks a service of the gateway at its public URL.
pub(super) async fn check_own(session: &mut Session<'_>, callbacks: &[String], now: UnixTime) {
    let url = session.mcp.to_string();
    let Ok(plain) = session.ask(&opening::plain_initialize(&url)).await else {
        return;
    };
    checks::check_clock(session, &plain, now);
    let token = "x".repeat(LARGE_TOKEN_BYTES);
    let call = opening::plain_initialize(&url).with("authorization", &format!("Bearer {token}"));
    let reply = session.ask(&call).await;
    let detail = match reply {
        Err(silence) => Some(silence.why),
        Ok(answer) if answer.status == 401 || answer.status == plain.status => None,
        Ok(answer) => Some(answer.shown()),
    };
    if let Some(detail) = detail {
        session.note(
            &rule::HEADER_LIMIT,
            &url,
            format!("{detail} with a token of {} KiB", LARGE_TOKEN_BYTES / 1024),
        );
    }
    if session.answers_early().await == Some(false) {
        let detail = "no answer to a request whose body does not end".to_owned();
        session.note(&rule::REQUEST_BUFFERED, &url, detail);
    }
    for callback in callbacks {
        check_callback(session, callback).await;
    }
}

/// Without parameters the gateway answers with an error page of its own, never 404 and never elsewhere.
async fn check_callback(session: &mut Session<'_>, callback: &str) {
    let reply = session.ask(&Call::new(Method::GET, callback).with("accept", "text/html")).await;
    let detail = match reply {
        Err(silence) => silence.why,
        Ok(answer) if answer.status == 400 && answer.media_type() == "text/html" => return,
        Ok(answer) => answer.shown(),
    };
    session.note(&rule::CALLBACK_DEAD, callback, detail);
}
