//! The page at the end of a sign-in that a command started.

use std::time::Duration;

use http::StatusCode;

use crate::app::stored_logins::LoginProgress;
use crate::web::error_pages::error_page;
use crate::web::pages::{self, ErrorPage};
use crate::web::reply::{self, HttpResponse};
use crate::web::request::BrowserRequest;

/// Looks of the page for the result, and the pause between two: twenty seconds in all.
const RESULT_POLLS: u32 = 100;
const RESULT_PAUSE: Duration = Duration::from_millis(200);

/// `GET /upstream/callback/{service}` with the `state` of such a sign-in. Waits until the command in the
/// terminal has exchanged the code, so that the page shows the result.
pub async fn callback(request: &BrowserRequest<'_>, service: &str) -> HttpResponse {
    let app = request.app;
    let handle = match app.stored_logins.receive(service, request.query.as_bytes()).await {
        Ok(handle) => handle,
        Err(rejection) => return error_page(app, &rejection, None),
    };
    for _ in 0..RESULT_POLLS {
        match app.stored_logins.progress(&handle).await {
            Ok(LoginProgress::Done) => {
                let what = format!("The gateway is signed in at '{service}'.");
                return page(
                    request,
                    StatusCode::OK,
                    ["You are signed in", &what, "", "You can close this window."],
                );
            }
            Ok(LoginProgress::Failed(reason)) => {
                let what = format!("The sign-in at '{service}' did not succeed.");
                let todo = "See the terminal in which you started it.";
                return page(request, StatusCode::BAD_REQUEST, ["You are not signed in", &what, &reason, todo]);
            }
            Ok(LoginProgress::Waiting | LoginProgress::CodeReceived) => tokio::time::sleep(RESULT_PAUSE).await,
            Ok(LoginProgress::Expired) | Err(_) => break,
        }
    }
    let what = format!("The answer for '{service}' has arrived.");
    let todo = "Go back to the terminal: the command there must finish the sign-in.";
    page(request, StatusCode::ACCEPTED, ["Go back to the terminal", &what, "", todo])
}

fn page(request: &BrowserRequest<'_>, status: StatusCode, [title, what, why, todo]: [&str; 4]) -> HttpResponse {
    let view = ErrorPage {
        base: request.app.urls().prefix(),
        title,
        what,
        why,
        todo,
        reference: "",
        back: None,
    };
    reply::page(status, pages::error(&view))
}
