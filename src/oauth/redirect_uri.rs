//! Redirect URIs: which can be registered, and which match (OAuth 2.1 §2.3, RFC 8252 §7).

use serde::{Deserialize, Serialize};

use crate::base::url::{ExactUrl, UrlError};

/// A redirect URI that can be registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RedirectUri(ExactUrl);

/// Kind of a redirect URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectKind {
    /// A web server, over https.
    Web,
    /// A program on the user's machine, over http or https to loopback.
    Loopback,
    /// A program on the user's machine, by its private-use scheme.
    App,
}

/// Why a redirect URI is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedirectUriError {
    /// The URI is malformed or ambiguous.
    #[error(transparent)]
    Text(UrlError),
    /// The scheme is http, and the host is not loopback.
    #[error("uses http for a host that is not loopback; use https")]
    PlainHttp,
    /// A scheme that a browser runs, reads or shows, such as `javascript`, `data` or `file`.
    #[error("uses a scheme that is never allowed")]
    Scheme,
}

const FORBIDDEN_SCHEMES: [&str; 17] = [
    "javascript",
    "data",
    "file",
    "vbscript",
    "blob",
    "about",
    "ftp",
    "ftps",
    "ws",
    "wss",
    "view-source",
    "filesystem",
    "jar",
    "chrome",
    "resource",
    "mailto",
    "tel",
];

impl RedirectUri {
    /// Parses a URI exactly as written. Fails if it is malformed, ambiguous or of a bad scheme.
    pub fn parse(text: &str) -> Result<Self, RedirectUriError> {
        let address = ExactUrl::parse(text).map_err(RedirectUriError::Text)?;
        let scheme = address.url().scheme();
        if FORBIDDEN_SCHEMES.contains(&scheme) {
            return Err(RedirectUriError::Scheme);
        }
        match scheme {
            "https" if address.url().host().is_some() => Ok(Self(address)),
            "http" if address.is_loopback() => Ok(Self(address)),
            "http" => Err(RedirectUriError::PlainHttp),
            // A private-use URI is `scheme:/…`. This excludes nested ones such as `x:javascript:…`.
            _ if text[scheme.len()..].starts_with(":/") => Ok(Self(address)),
            _ => Err(RedirectUriError::Scheme),
        }
    }

    /// Whether `requested` equals this URI byte for byte, except for a loopback port (RFC 8252
    /// §7.3).
    pub fn matches(&self, requested: &Self) -> bool {
        if self.0 == requested.0 {
            return true;
        }
        let both_loopback = self.kind() == RedirectKind::Loopback && requested.kind() == RedirectKind::Loopback;
        both_loopback && without_port(&self.0) == without_port(&requested.0)
    }

    /// The kind of this URI.
    pub fn kind(&self) -> RedirectKind {
        match self.0.url().scheme() {
            "http" | "https" if self.0.is_loopback() => RedirectKind::Loopback,
            "http" | "https" => RedirectKind::Web,
            _ => RedirectKind::App,
        }
    }

    /// Short form for users: `host[:port]`, or `scheme://` for an app.
    pub fn display_host(&self) -> String {
        let url = self.0.url();
        match (self.kind(), url.host_str(), url.port()) {
            (RedirectKind::App, _, _) => format!("{}://", url.scheme()),
            (RedirectKind::Web | RedirectKind::Loopback, host, Some(port)) => format!("{}:{port}", host.unwrap_or("")),
            (RedirectKind::Web | RedirectKind::Loopback, host, None) => host.unwrap_or("").to_owned(),
        }
    }

    /// The host in lower case, if there is one.
    pub fn host(&self) -> Option<&str> {
        self.0.url().host_str()
    }

    /// The URI, byte for byte.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// Removes the port and leaves the rest byte for byte. The text counts and not the parse, which
/// drops `:80`. A `:` without digits after it is not a port and stays.
fn without_port(address: &ExactUrl) -> String {
    let text = address.as_str();
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => host,
        Some(_) | None => authority,
    };
    format!("{scheme}://{host}{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> RedirectUri {
        RedirectUri::parse(text).unwrap()
    }

    #[test]
    fn redirect_uris_of_real_clients_are_accepted() {
        for text in [
            "http://localhost:3334/oauth/callback",
            "http://127.0.0.1:33418/",
            "http://[::1]:1/cb",
            "https://claude.ai/api/mcp/auth_callback",
            "cursor://anysphere.cursor-mcp/oauth/callback",
            "vscode://vscode.github-authentication/did-authenticate",
            "windsurf://codeium.windsurf/cb",
            "com.example.app:/oauth2redirect",
        ] {
            assert!(RedirectUri::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn dangerous_or_ambiguous_redirect_uris_are_refused() {
        for text in [
            "javascript:alert(1)",
            "JaVaScRiPt://x/%0aalert(1)",
            "java\nscript:alert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "vbscript:x",
            "blob:https://x/y",
            "http://evil.com/cb",
            "https://a/cb#x",
            "https://u@a/cb",
            "https://a/../b",
            "https://a/%2e%2e/b",
            "//a/b",
            "x:javascript:alert(1)",
            "",
        ] {
            assert!(RedirectUri::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_the_port_of_a_loopback_redirect_may_differ() {
        assert!(uri("http://localhost/callback").matches(&uri("http://localhost:49152/callback")));
        assert!(uri("http://127.0.0.1:1/cb").matches(&uri("http://127.0.0.1:2/cb")));
        assert!(uri("http://[::1]/cb").matches(&uri("http://[::1]:9/cb")));
        assert!(!uri("http://localhost:1/cb").matches(&uri("http://127.0.0.1:1/cb")));
        assert!(!uri("http://localhost:1/cb").matches(&uri("http://localhost:1/cb2")));
        assert!(!uri("http://localhost:1/cb").matches(&uri("http://localhost:1/cb?x=1")));
        assert!(!uri("https://a:1/cb").matches(&uri("https://a:2/cb")));
        assert!(!uri("cursor://a:1/cb").matches(&uri("cursor://a:2/cb")));
    }

    #[test]
    fn a_loopback_redirect_matches_any_port_but_not_an_empty_one() {
        for (registered, requested) in [
            ("http://127.0.0.1/cb", "http://127.0.0.1:80/cb"),
            ("http://127.0.0.1:80/cb", "http://127.0.0.1:3334/cb"),
            ("http://localhost?x=1", "http://localhost:80?x=1"),
            ("https://[::1]/cb", "https://[::1]:443/cb"),
        ] {
            assert!(
                uri(registered).matches(&uri(requested)) && uri(requested).matches(&uri(registered)),
                "{registered} {requested}"
            );
        }
        for other in ["http://127.0.0.1/cb", "http://127.0.0.1:80/cb", "http://127.0.0.1:3334/cb"] {
            assert!(!uri(other).matches(&uri("http://127.0.0.1:/cb")) && !uri("http://127.0.0.1:/cb").matches(&uri(other)));
        }
        assert!(uri("http://127.0.0.1:/cb").matches(&uri("http://127.0.0.1:/cb")));
        assert!(!uri("https://a/cb").matches(&uri("https://a:443/cb")));
        assert!(!uri("http://127.0.0.1/cb").matches(&uri("https://127.0.0.1:80/cb")));
    }
}
