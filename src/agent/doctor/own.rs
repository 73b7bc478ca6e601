//! Checks of the network between clients and the gateway itself: header limits, callbacks, buffering.

use http::Method;

use crate::agent::doctor::checks;
use crate::agent::doctor::opening;
use crate::agent::doctor::rule;
use crate::agent::doctor::session::{Call, Session};
use crate::base::time::UnixTime;

/// The size of the token that is sent: that of a pair with a large JWT of an upstream.
const LARGE_TOKEN_BYTES: usize = 12 * 1024;

/// Checks a service of the gateway at its public URL.
pub(super) async fn check_own_service(session: &mut Session<'_>, callbacks: &[String], now: UnixTime) {
    let url = session.mcp.to_string();
    let Ok(plain) = session.ask(&opening::plain_initialize(&url)).await else {
        return;
    };
    checks::check_clock(session, &plain, now);
    let token = "x".repeat(LARGE_TOKEN_BYTES);
    let call = opening::plain_initialize(&url).with("authorization", &format!("Bearer {token}"));
    let reply = session.ask(&call).await;
    let detail = match reply {
        Err(failure) => Some(failure.why),
        Ok(answer) if answer.status == 401 || answer.status == plain.status => None,
        Ok(answer) => Some(answer.summary()),
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

/// Checks that a callback URL reaches the gateway, which answers a request without parameters with an
/// error page and status 400.
async fn check_callback(session: &mut Session<'_>, callback: &str) {
    let reply = session.ask(&Call::new(Method::GET, callback).with("accept", "text/html")).await;
    let detail = match reply {
        Err(failure) => failure.why,
        Ok(answer) if answer.status == 400 && answer.media_type() == "text/html" => return,
        Ok(answer) => answer.summary(),
    };
    session.note(&rule::CALLBACK_DEAD, callback, detail);
}
