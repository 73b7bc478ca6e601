//! The headers of forwarded requests and responses that a service adds to the usual ones.

use http::HeaderValue;
use http::header::HeaderName;

use crate::config::keys::service as key;
use crate::config::section::Section;
use crate::config::spanned::{ConfigError, Spanned};
use crate::service::Upstream;
use crate::upstream::forward_rules;

/// Reads `forward_headers`. Refuses credential, identity and hop-by-hop headers.
///
/// # Errors
/// If a name is not the name of a header, or the header never passes.
pub fn request_headers(service: &Section) -> Result<Vec<HeaderName>, ConfigError> {
    let texts = service.get(&key::FORWARD_HEADERS)?;
    let reason = "is never sent on: it is a credential, it vouches for somebody, or it belongs to one connection";
    let parse = |text| parse_name(text, forward_rules::is_forbidden_request_header, reason);
    texts.iter().map(parse).collect()
}

/// Reads `forward_response_headers`. Refuses headers that act for the gateway's origin.
///
/// # Errors
/// If a name is not the name of a header, or the header never passes.
pub fn response_headers(service: &Section) -> Result<Vec<HeaderName>, ConfigError> {
    let texts = service.get(&key::FORWARD_RESPONSE_HEADERS)?;
    let reason = "is never sent on: it acts for the gateway's own origin, steers a cache or a proxy, or belongs to one connection";
    let parse = |text| parse_name(text, forward_rules::is_forbidden_response_header, reason);
    texts.iter().map(parse).collect()
}

fn parse_name(text: &Spanned<String>, is_forbidden: impl Fn(&str) -> bool, reason: &str) -> Result<HeaderName, ConfigError> {
    let name = text.value.parse::<HeaderName>().map_err(|_| {
        let what = format!("'{}' is not the name of a header", text.value);
        text.wrong(what, "write names like X-Tenant")
    })?;
    if is_forbidden(name.as_str()) {
        return Err(text.wrong(format!("'{}' {reason}", text.value), "take it out"));
    }
    Ok(name)
}

/// Reads `headers`: the headers of every forwarded request. No message shows a value.
///
/// # Errors
/// If a name or a value cannot be in a header, or the header belongs to the client, to one connection
/// or to the upstream credential.
pub fn fixed_headers(service: &Section, upstream: &Upstream) -> Result<Vec<(HeaderName, HeaderValue)>, ConfigError> {
    let location = service.location(&key::HEADERS);
    let parse = |(name, value): (String, String)| {
        let header = name.parse::<HeaderName>().map_err(|_| {
            let what = format!("'{name}' is not the name of a header");
            location.wrong(what, "write it like { \"X-Tenant\" = \"acme\" }")
        })?;
        if !forward_rules::may_be_fixed(&header) {
            let what = format!("'{name}' is the client's, is a credential, vouches for somebody, or belongs to one connection");
            return Err(location.wrong(what, "take it out"));
        }
        if credential_header(upstream) == Some(&header) {
            return Err(location.wrong(format!("'{name}' carries the service's credential"), "take it out"));
        }
        let mut value = HeaderValue::from_str(&value).map_err(|_| {
            let what = format!("the value of '{name}' has characters that cannot be in a header");
            location.wrong(what, "write visible ASCII on one line")
        })?;
        value.set_sensitive(true);
        Ok((header, value))
    };
    service.get(&key::HEADERS)?.into_iter().map(parse).collect()
}

/// The header that carries the upstream credential, if its name is the operator's choice.
fn credential_header(upstream: &Upstream) -> Option<&HeaderName> {
    match upstream {
        Upstream::Paste(settings) => Some(settings.header.name()),
        Upstream::Static(credential) => Some(credential.name()),
        Upstream::Stored(settings) => Some(settings.header.name()),
        Upstream::OAuth(_) | Upstream::ServiceToken(_) | Upstream::Identity(_) | Upstream::None => None,
    }
}
