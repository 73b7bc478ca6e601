//! Redirect URIs: which can be registered, and which match (OAuth 2.1 §2.3, RFC 8252 §7).

use serde::{Deserialize, Serialize};

use crate::base::url::{ExactUrl, UrlError};
use crate::oauth::app_schemes;

/// A redirect URI that can be registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RedirectUri(ExactUrl);

/// Kind of a redirect URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectKind {
    /// A web server, over https.
    Web,
    /// A program on the user's machine, over http or https to loopback or to a name below `localhost`.
    Loopback,
    /// A program on the user's machine, by its private-use scheme.
    App,
}

/// The reason why a redirect URI is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedirectUriError {
    /// The URI is malformed or ambiguous.
    #[error(transparent)]
    Text(UrlError),
    /// The scheme is http, and the host is not loopback.
    #[error("uses http for a host that is not loopback; use https")]
    PlainHttp,
    /// A scheme that a browser or the operating system handles itself, such as `javascript` or
    /// `ms-msdt`.
    #[error(
        "uses a scheme that browsers or operating systems handle themselves; use one of the app's own, such as com.example.app:/callback"
    )]
    Scheme,
}

/// Schemes that browsers and operating systems handle themselves: a redirect to one runs a script,
/// opens a file or starts a program of the system. Apps choose schemes of their own (RFC 8252 §7.1).
const FORBIDDEN_SCHEMES: &str = "javascript data file vbscript blob about view-source filesystem jar resource feed intent \
    android-app safari-extension edge brave opera mk res hcp its jnlp jnlps \
    ftp ftps sftp tftp ws wss gopher ldap ldaps smb cifs afp nfs dav davs webcal ssh telnet rlogin rdp vnc news nntp imap pop sip \
    sips magnet mailto tel sms callto facetime shell search help applescript market apt";

/// The beginnings of further such schemes, such as `ms-msdt`, `search-ms` and `itms-services`.
const FORBIDDEN_PREFIXES: &str = "ms- microsoft- microsoft. windows- search- itms x-apple chrome moz-";

impl RedirectUri {
    /// Parses a URI exactly as written. Fails if it is malformed, ambiguous or of a bad scheme.
    pub fn parse(text: &str) -> Result<Self, RedirectUriError> {
        let address = ExactUrl::parse(text).map_err(RedirectUriError::Text)?;
        let scheme = address.url().scheme();
        if is_forbidden(scheme) {
            return Err(RedirectUriError::Scheme);
        }
        match scheme {
            "https" if address.url().host().is_some() => Ok(Self(address)),
            "http" if address.is_loopback() || is_localhost_name(&address) => Ok(Self(address)),
            "http" => Err(RedirectUriError::PlainHttp),
            // A private-use URI is `scheme:/…`. This excludes nested ones such as `x:javascript:…`.
            _ if text[scheme.len()..].starts_with(":/") => Ok(Self(address)),
            _ => Err(RedirectUriError::Scheme),
        }
    }

    /// As [`RedirectUri::parse`], for a client that the operator configures: it may also use http in a private
    /// network, by an address or by a name that only such networks have.
    /// # Errors
    /// As [`RedirectUri::parse`].
    pub fn parse_configured(text: &str) -> Result<Self, RedirectUriError> {
        match (Self::parse(text), ExactUrl::parse(text)) {
            (Err(RedirectUriError::PlainHttp), Ok(address)) if is_private_host(&address) => Ok(Self(address)),
            (result, _) => result,
        }
    }

    /// Whether the URI is plain http.
    pub fn is_plain_http(&self) -> bool {
        self.0.url().scheme() == "http"
    }

    /// Whether an app may use this URI: its scheme is a reverse domain name (RFC 8252 §7.1), one of a known
    /// app, or one of `more`. Every other URI may be used.
    pub fn has_known_scheme(&self, more: &[String]) -> bool {
        let scheme = self.0.url().scheme();
        self.kind() != RedirectKind::App
            || scheme.contains('.')
            || app_schemes::is_known(scheme)
            || more.iter().any(|known| known == scheme)
    }

    /// Whether an operator may add this scheme: a word that no browser or operating system handles itself.
    pub fn is_app_scheme(text: &str) -> bool {
        let mut bytes = text.bytes();
        let is_scheme = bytes.next().is_some_and(|b| b.is_ascii_lowercase())
            && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
        is_scheme && text.len() <= 64 && !["http", "https"].contains(&text) && !is_forbidden(text)
    }

    /// Whether `requested` equals this URI byte for byte, except for a loopback port (RFC 8252
    /// §7.3). The port of a name below `localhost` is compared: such names have a server in front, which
    /// tells apart apps by name and port.
    pub fn matches(&self, requested: &Self) -> bool {
        if self.0 == requested.0 {
            return true;
        }
        let both_loopback = self.0.is_loopback() && requested.0.is_loopback() && self.kind() == requested.kind();
        both_loopback && without_port(&self.0) == without_port(&requested.0)
    }

    /// The kind of this URI.
    pub fn kind(&self) -> RedirectKind {
        match self.0.url().scheme() {
            "http" | "https" if self.0.is_loopback() || is_localhost_name(&self.0) => RedirectKind::Loopback,
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

    /// The URI, byte for byte.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// Whether the host is a name below `localhost`, which is this machine (RFC 6761 §6.3).
fn is_localhost_name(address: &ExactUrl) -> bool {
    matches!(address.url().host(), Some(url::Host::Domain(name)) if name.ends_with(".localhost"))
}

/// Whether the host is an address of a private network, or a name without a meaning on the internet: a name
/// without a dot, of multicast DNS, of home and company networks, or of a tailnet.
fn is_private_host(address: &ExactUrl) -> bool {
    const PRIVATE_SUFFIXES: [&str; 6] = [".local", ".lan", ".home", ".home.arpa", ".internal", ".ts.net"];
    match address.url().host() {
        Some(url::Host::Domain(name)) => !name.contains('.') || PRIVATE_SUFFIXES.iter().any(|suffix| name.ends_with(suffix)),
        Some(url::Host::Ipv4(ip)) => ip.is_private() || (ip.octets()[0] == 100 && (64..128).contains(&ip.octets()[1])),
        Some(url::Host::Ipv6(ip)) => ip.is_unique_local(),
        None => false,
    }
}

fn is_forbidden(scheme: &str) -> bool {
    let mut prefixes = FORBIDDEN_PREFIXES.split(' ');
    FORBIDDEN_SCHEMES.split(' ').any(|forbidden| forbidden == scheme) || prefixes.any(|prefix| scheme.starts_with(prefix))
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
            "vscode-insiders://vscode.github-authentication/did-authenticate",
            "claude://oauth/callback",
            "zed://mcp/callback",
            "x-github-client://oauth",
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
            "ms-officecmd:/anything",
            "MS-MSDT:/id",
            "search-ms:/query=x&crumb=location:%5C%5Cevil.example%5Cshare",
            "microsoft-edge:/https://evil.example",
            "itms-services:/?action=download-manifest&url=https://evil.example/m.plist",
            "x-apple.systempreferences:/com.apple.preference",
            "shell:/startup",
            "smb://evil.example/share",
            "intent://evil.example/#Intent;end",
            "chrome-extension://abc/page",
            "http://evil.com/cb",
            "https://a/cb#x",
            "https://u@a/cb",
            "https://a/../b",
            "https://a/%2e%2e/b",
            "https://\u{430}pple.example/cb",
            "https://a.example\u{2044}b.example/cb",
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
    fn a_name_below_localhost_is_loopback_and_its_port_is_compared() {
        for text in [
            "http://app.localhost:8080/cb",
            "https://app.localhost/cb",
            "http://a.b.LOCALHOST/cb",
        ] {
            assert_eq!(uri(text).kind(), RedirectKind::Loopback, "{text}");
            assert!(uri(text).matches(&uri(text)), "{text}");
        }
        for (registered, requested) in [
            ("http://app.localhost:1/cb", "http://app.localhost:2/cb"),
            ("http://app.localhost/cb", "http://app.localhost:80/cb"),
            ("http://localhost/cb", "http://app.localhost/cb"),
            ("http://a.localhost/cb", "http://b.localhost/cb"),
        ] {
            assert!(
                !uri(registered).matches(&uri(requested)) && !uri(requested).matches(&uri(registered)),
                "{registered} {requested}"
            );
        }
        for other in ["https://app.localhost.example/cb", "https://notlocalhost/cb"] {
            assert_eq!(uri(other).kind(), RedirectKind::Web, "{other}");
        }
        for other in [
            "http://app.localhost.example/cb",
            "http://notlocalhost/cb",
            "http://app.localhost./cb",
        ] {
            assert!(RedirectUri::parse(other).is_err(), "{other}");
        }
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
