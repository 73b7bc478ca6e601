//! URLs that are compared exactly: equality uses the text, decisions use the parsed form.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

/// An absolute URL as written, with its parsed form. Equality and output use the text.
#[derive(Clone, Debug)]
pub struct ExactUrl {
    text: String,
    parsed: Url,
}

/// The reason why a text is rejected as a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Longer than [`MAX_URL_BYTES`] bytes.
    #[error("is longer than 2048 bytes")]
    TooLong,
    /// White space, a control character, a backslash, or a character outside ASCII.
    #[error("has white space, a control character, a backslash or a non-ASCII character")]
    SurprisingCharacter,
    /// No scheme, no host after `https://`, or not a URL at all.
    #[error("is not an absolute URL")]
    NotAbsolute,
    /// A fragment, after `#`.
    #[error("has a fragment")]
    Fragment,
    /// `user@` or `user:password@`.
    #[error("has a user name in it")]
    UserInfo,
    /// `.` or `..` as a path segment, plain or percent-encoded.
    #[error("has a `.` or `..` path segment")]
    DotSegment,
}

/// Maximum length of a URL, in bytes.
pub const MAX_URL_BYTES: usize = 2048;

impl ExactUrl {
    /// Parses an absolute URL. An unusual text is rejected, not repaired.
    ///
    /// # Errors
    /// [`UrlError`] says why.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if text.len() > MAX_URL_BYTES {
            return Err(UrlError::TooLong);
        }
        if text.bytes().any(|b| b <= b' ' || b >= 0x7f || b == b'\\') {
            return Err(UrlError::SurprisingCharacter);
        }
        if text.contains('#') {
            return Err(UrlError::Fragment);
        }
        let parsed = Url::parse(text).map_err(|_| UrlError::NotAbsolute)?;
        // `https:evil.com` and `https:///evil.com` parse as `https://evil.com`; browsers differ.
        let after_scheme = text.get(parsed.scheme().len()..).and_then(|rest| rest.strip_prefix("://"));
        let has_host = || after_scheme.is_some_and(|rest| !rest.starts_with(['/', '@', '?', ':']));
        if matches!(parsed.scheme(), "http" | "https") && !has_host() {
            return Err(UrlError::NotAbsolute);
        }
        if !parsed.username().is_empty() || parsed.password().is_some() || authority(text).contains('@') {
            return Err(UrlError::UserInfo);
        }
        if has_dot_segment(text) {
            return Err(UrlError::DotSegment);
        }
        Ok(Self {
            text: text.to_owned(),
            parsed,
        })
    }

    /// The URL as browsers write its origin: host in lower case, and no default port. The path stays.
    #[must_use]
    pub fn with_normalized_origin(&self) -> Self {
        let rest = self.text.split_once("://").map_or("", |(_, rest)| rest);
        let path = rest.find(['/', '?']).map_or("", |start| &rest[start..]);
        Self::parse(&format!("{}{path}", self.origin())).unwrap_or_else(|_| self.clone())
    }

    /// The text as written, byte for byte.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text without its query, for logs and display, because a query can contain an API key.
    pub fn without_query(&self) -> &str {
        self.text.split('?').next().unwrap_or("")
    }

    /// The parsed form, for decisions.
    pub fn url(&self) -> &Url {
        &self.parsed
    }

    /// Whether the URL is `https`, or `http` to a loopback host, as OAuth endpoints must be.
    pub fn is_secure_or_loopback(&self) -> bool {
        match self.parsed.scheme() {
            "https" => self.parsed.host().is_some(),
            "http" => self.is_loopback(),
            _ => false,
        }
    }

    /// Whether the host is `localhost`, in `127.0.0.0/8`, or `[::1]`.
    pub fn is_loopback(&self) -> bool {
        match self.parsed.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        }
    }

    /// The host for display, with the port if it is not the scheme's default.
    pub fn host_and_port(&self) -> String {
        let host = self.parsed.host_str().unwrap_or_default();
        match self.parsed.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// The origin, `scheme://host[:port]`, in normalized form.
    pub fn origin(&self) -> String {
        self.parsed.origin().ascii_serialization()
    }
}

fn authority(text: &str) -> &str {
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or("")
}

fn has_dot_segment(text: &str) -> bool {
    let path = text.split('?').next().unwrap_or("");
    let lower = path
        .to_ascii_lowercase()
        .replace("%2e", ".")
        .replace("%2f", "/")
        .replace("%5c", "/");
    lower.split('/').any(|segment| segment == "." || segment == "..")
}

impl PartialEq for ExactUrl {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for ExactUrl {}

impl fmt::Display for ExactUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for ExactUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for ExactUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Encodes the parameters of a URL. A space becomes `%20`, because some programs show a `+` as it is.
pub fn encode_query<'p>(parameters: impl IntoIterator<Item = (&'p str, &'p str)>) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    // The serializer writes a plus sign as `%2B`, so each `+` is a space.
    query.extend_pairs(parameters).finish().replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ambiguous_url_is_refused_and_not_normalized() {
        for (text, expected) in [
            ("https://a\\b/", UrlError::SurprisingCharacter),
            ("https://a/\tb", UrlError::SurprisingCharacter),
            ("https://a/#x", UrlError::Fragment),
            ("https://u@a/", UrlError::UserInfo),
            ("https://@a/", UrlError::NotAbsolute),
            ("https://a/b/../c", UrlError::DotSegment),
            ("https://a/b/%2E%2e/c", UrlError::DotSegment),
            ("/relative", UrlError::NotAbsolute),
            ("https:evil.com/cb", UrlError::NotAbsolute),
            ("https:/evil.com/cb", UrlError::NotAbsolute),
            ("https:/ohttp://7.cl", UrlError::NotAbsolute),
            ("https:///evil.com/cb", UrlError::NotAbsolute),
            ("https:@evil.com/cb", UrlError::NotAbsolute),
        ] {
            assert_eq!(ExactUrl::parse(text).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn a_normalized_origin_is_written_as_browsers_write_it() {
        for (text, expected) in [
            ("https://Gw.Example:443/Base/?q=1", "https://gw.example/Base/?q=1"),
            ("HTTPS://gw.example", "https://gw.example"),
            ("http://gw.example:80", "http://gw.example"),
            ("http://gw.example:443/", "http://gw.example:443/"),
            ("http://[0:0::1]:8002", "http://[::1]:8002"),
        ] {
            assert_eq!(ExactUrl::parse(text).unwrap().with_normalized_origin().as_str(), expected);
        }
    }

    #[test]
    fn urls_are_equal_only_byte_for_byte() {
        assert_ne!(ExactUrl::parse("https://h").unwrap(), ExactUrl::parse("https://h/").unwrap());
    }
}
