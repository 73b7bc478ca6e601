//! The consent page's field for a key of the upstream, and the messages about refused keys.

use http::StatusCode;

use crate::app::authorize::consent_form::{CredentialError, Prompt};
use crate::web::pages::CredentialField;

/// The field that asks for this credential.
pub(super) fn credential_field<'a>(prompt: Prompt<'a>, problem: Option<&'a str>) -> CredentialField<'a> {
    CredentialField {
        host: prompt.host,
        header: prompt.header,
        hint: prompt.hint,
        readable: prompt.readable,
        problem,
    }
}

/// The status and the message for a refused credential. The message never contains the credential.
pub(super) fn credential_problem(error: Option<CredentialError>, host: &str) -> (StatusCode, Option<String>) {
    let (status, text) = match error {
        None => return (StatusCode::OK, None),
        Some(CredentialError::Empty) => (StatusCode::BAD_REQUEST, "Paste your key first.".to_owned()),
        Some(CredentialError::TooLong) => (StatusCode::BAD_REQUEST, "This text is too long for a key.".to_owned()),
        Some(CredentialError::Characters) => (
            StatusCode::BAD_REQUEST,
            "The key has characters that no key can have. Copy the whole key, and nothing else.".to_owned(),
        ),
        Some(CredentialError::Refused) => (
            StatusCode::UNAUTHORIZED,
            format!("{host} does not accept this key. Copy the whole key, and check that it is still valid."),
        ),
        Some(CredentialError::NoResponse) => (
            StatusCode::BAD_GATEWAY,
            format!("{host} does not answer, so the key could not be checked, and nothing was allowed. Try again in a moment."),
        ),
        Some(CredentialError::TooMany) => (
            StatusCode::TOO_MANY_REQUESTS,
            "Too many keys were tried. Wait a minute, then start again in your app.".to_owned(),
        ),
    };
    (status, Some(text))
}
