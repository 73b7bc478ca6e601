//! The field of the consent page for a key of the upstream, and what the page says when one is not taken.

use http::StatusCode;

use crate::gateway::paste::{NotTaken, Wanted};
use crate::web::pages::KeyField;

/// The field for what is wanted.
pub fn field<'a>(wanted: Wanted<'a>, problem: Option<&'a str>) -> KeyField<'a> {
    KeyField {
        host: wanted.host,
        header: wanted.header,
        hint: wanted.hint,
        readable: wanted.readable,
        problem,
    }
}

/// The status of the page and what it says about what was pasted, which it never shows.
pub fn told(why: Option<NotTaken>, host: &str) -> (StatusCode, Option<String>) {
    let (status, text) = match why {
        None => return (StatusCode::OK, None),
        Some(NotTaken::Empty) => (StatusCode::BAD_REQUEST, "Paste your key first.".to_owned()),
        Some(NotTaken::TooLong) => (StatusCode::BAD_REQUEST, "That is too long for a key.".to_owned()),
        Some(NotTaken::Characters) => (
            StatusCode::BAD_REQUEST,
            "That holds characters that no key has. Was it copied whole, and nothing else?".to_owned(),
        ),
        Some(NotTaken::Refused) => (
            StatusCode::UNAUTHORIZED,
            format!("{host} does not take this key. Was it copied whole, and is it still valid?"),
        ),
        Some(NotTaken::Silent) => (
            StatusCode::BAD_GATEWAY,
            format!("{host} does not answer, so the key could not be tried, and nothing was allowed. Try again in a moment."),
        ),
        Some(NotTaken::TooMany) => (
            StatusCode::TOO_MANY_REQUESTS,
            "Too many keys were tried. Wait a minute, then start again in your app.".to_owned(),
        ),
    };
    (status, Some(text))
}
