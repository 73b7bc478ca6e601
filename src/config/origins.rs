//! Origins of pages and schemes of apps, as the operator lists them.

use crate::config::spanned::{ConfigError, Spanned};
use crate::oauth::redirect_uri::RedirectUri;

/// Reads a scheme of `redirect_schemes`.
///
/// # Errors
/// If it is no scheme, or one that browsers or operating systems handle themselves.
pub(super) fn redirect_scheme(spanned: &Spanned<String>) -> Result<String, ConfigError> {
    if RedirectUri::is_app_scheme(&spanned.value) {
        return Ok(spanned.value.clone());
    }
    Err(spanned.wrong(
        format!("'{}' cannot be the scheme of an app", spanned.value),
        "write only the scheme, in small letters, such as acme-desktop; no scheme that browsers or operating systems handle",
    ))
}

/// Reads an origin of `cors.origins`.
///
/// # Errors
/// If it is no origin, or a pattern.
pub(super) fn origin(spanned: &Spanned<String>) -> Result<String, ConfigError> {
    let is_origin = spanned.value == "*"
        || is_app_origin(&spanned.value)
        || crate::base::url::ExactUrl::parse(&spanned.value).is_ok_and(|address| address.origin() == spanned.value);
    let has_pattern = spanned.value != "*" && spanned.value.contains('*');
    if is_origin && !has_pattern {
        return Ok(spanned.value.clone());
    }
    if has_pattern {
        let what = format!("'{}' is a pattern, and origins are compared as they are", spanned.value);
        return Err(spanned.wrong(what, "list each origin, or write `*` for everyone"));
    }
    Err(spanned.wrong(
        format!("'{}' is not an origin", spanned.value),
        "write it like https://app.example.com, without a path, or `*` for everyone",
    ))
}

/// Whether this is the origin of a browser extension or a desktop app, such as `chrome-extension://abc` and
/// `app://obsidian.md`.
fn is_app_origin(text: &str) -> bool {
    const OTHERS: [&str; 8] = ["http", "https", "ws", "wss", "ftp", "file", "data", "javascript"];
    text.split_once("://").is_some_and(|(scheme, id)| {
        let is_scheme_byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b);
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase()) && scheme.bytes().all(is_scheme_byte);
        let is_id = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        is_scheme && is_id && !OTHERS.contains(&scheme)
    })
}
