//! The error page: the problem, the reason, and the advice for the user.

use http::StatusCode;

use crate::app::App;
use crate::app::error::Rejection;
use crate::flow::client::ReturnAddress;
use crate::flow::error::RejectReason;
use crate::oauth::error::OAuthErrorCode;
use crate::web::pages::{self, ErrorPage, ReturnLink};
use crate::web::reply::{self, HttpResponse};

/// The advice about a fault that lasts until the operator corrects it.
pub(super) const ASK_OPERATOR: &str =
    "Tell the operator of this gateway. Another attempt fails too, until the operator has corrected this.";

/// The error page for a refusal, with a reference that the log repeats.
pub(super) fn error_page(app: &App, rejection: &Rejection, return_link: Option<(&ReturnAddress, &str)>) -> HttpResponse {
    let reference = reply::reference();
    tracing::warn!(reference, error = rejection.code().as_str(), reason = ?rejection.to_string(), "a page showed an error");
    let redirect_host = return_link
        .map(|(return_address, _)| return_address.uri().display_host())
        .unwrap_or_default();
    let todo = match (rejection.advice(), rejection.retry_after()) {
        (Some(more), Some(_)) => format!("{} {more}", advice(rejection)),
        (Some(more), None) => more.to_owned(),
        (None, _) => advice(rejection).to_owned(),
    };
    let view = ErrorPage {
        base: app.urls().prefix(),
        title: "This did not work",
        what: "The sign-in could not continue.",
        why: &reason_sentence(&rejection.public_message()),
        todo: &todo,
        reference: &reference,
        back: return_link.map(|(_, location)| ReturnLink {
            href: location,
            host: &redirect_host,
        }),
    };
    let page = reply::page(status(rejection), pages::error(&view));
    match rejection.retry_after() {
        Some(seconds) => reply::with_retry_after(page, seconds),
        None => page,
    }
}

fn status(rejection: &Rejection) -> StatusCode {
    let code = rejection.code();
    if rejection.retry_after().is_some() {
        StatusCode::SERVICE_UNAVAILABLE
    } else if code == OAuthErrorCode::AccessDenied {
        StatusCode::FORBIDDEN
    } else if code == OAuthErrorCode::ServerError {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        StatusCode::BAD_REQUEST
    }
}

/// The advice for the user. Only a temporary fault gets the advice to try again.
fn advice(rejection: &Rejection) -> &'static str {
    if rejection.retry_after().is_some() {
        "Wait a moment, then try again: start again in your client."
    } else if matches!(
        rejection,
        Rejection::Client { .. } | Rejection::Flow(RejectReason::UnregisteredRedirect)
    ) {
        "Remove the server in your client and add it again, so that it registers again. With mcp-remote 0.1.x, delete ~/.mcp-auth instead."
    } else if matches!(rejection, Rejection::UpstreamSetup { .. } | Rejection::IdpSetup(_)) {
        ASK_OPERATOR
    } else if matches!(rejection, Rejection::Document(_)) {
        "Tell the maker of your client. Another attempt fails too, until the document is corrected."
    } else {
        "Close this page and start again in your client."
    }
}

/// A reason as a sentence, without the advice at the end of messages for programs.
fn reason_sentence(message: &str) -> String {
    let advice = ["; try again", "; start again in your client", "; start again"];
    let reason = advice.iter().find_map(|advice| message.strip_suffix(advice)).unwrap_or(message);
    let first_word = reason.split(' ').next().unwrap_or_default();
    let mut sentence = String::new();
    if first_word.contains('_') {
        sentence.push_str("The parameter ");
        sentence.push_str(reason);
    } else {
        let mut characters = reason.chars();
        sentence.extend(characters.next().map(|first| first.to_ascii_uppercase()));
        sentence.push_str(characters.as_str());
    }
    if !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::error::SetupFault;

    #[test]
    fn a_reason_is_a_sentence_without_advice() {
        for (message, expected) in [
            ("it has expired", "It has expired."),
            (
                "the identity provider does not answer; try again",
                "The identity provider does not answer.",
            ),
            (
                "this sign-in has ended or has moved on; start again in your client",
                "This sign-in has ended or has moved on.",
            ),
            ("redirect_uri is missing", "The parameter redirect_uri is missing."),
            ("It is done.", "It is done."),
        ] {
            assert_eq!(reason_sentence(message), expected);
        }
    }

    #[test]
    fn the_page_of_a_lasting_fault_never_advises_to_try_again() {
        for fault in [
            SetupFault::NoClientId,
            SetupFault::RegistrationRefused,
            SetupFault::ClientRefused,
            SetupFault::RequestRefused,
            SetupFault::NotFound,
            SetupFault::OtherIssuer,
        ] {
            let rejection = fault.because("the log says more".to_owned());
            let page = format!("{} {}", rejection.public_message(), advice(&rejection));
            assert!(
                !page.contains("again") && page.contains("operator") && !page.contains("log says more"),
                "{page}"
            );
            assert_eq!((status(&rejection).as_u16(), rejection.retry_after()), (500, None));
            let refresh = rejection.keep_tokens();
            assert_eq!(
                (refresh.code(), refresh.retry_after()),
                (OAuthErrorCode::TemporarilyUnavailable, Some(30))
            );
        }
    }
}
