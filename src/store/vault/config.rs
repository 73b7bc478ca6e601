//! The address of a Vault and its login, checked before connecting.

use std::fmt;
use std::path::PathBuf;

use crate::base::secret::Secret;
use crate::base::url::ExactUrl;

/// A Vault, its KV mount, the path prefix and the login. `Display` omits the credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultConfig {
    /// The base URL, such as `https://vault.example:8200`. Its path precedes `/v1`.
    pub url: ExactUrl,
    /// The namespace, if any (Vault Enterprise, HCP, OpenBao).
    pub namespace: Option<String>,
    /// The mount of a KV engine, version 2.
    pub mount: String,
    /// The first segment of the gateway's paths below the mount.
    pub prefix: String,
    /// The login method.
    pub login: VaultLogin,
    /// A PEM file. If it is given, no other CA is trusted.
    pub ca: Option<PathBuf>,
}

/// The login method at Vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VaultLogin {
    /// A token from the operator.
    Token(Secret),
    /// An AppRole, with its secret id if it has one.
    AppRole {
        /// The path of the auth method, without `auth/`.
        mount: String,
        /// The role id.
        role: String,
        /// The secret id, if the role requires one.
        secret: Option<Secret>,
    },
}

const PATH_RULE: &str = "must be a path of letters, digits, dots, underscores and dashes, such as team/secret";

/// The reason why a configuration is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaultConfigError {
    /// The URL is plain http and the host is not loopback.
    #[error("is plain http to another machine, which would show the token to the network")]
    NotHttps,
    /// The URL has a query.
    #[error("has a query")]
    Query,
    /// The mount is not a valid path.
    #[error("{PATH_RULE}")]
    Mount,
    /// The mount of AppRole is not a valid path.
    #[error("{PATH_RULE}")]
    AppRoleMount,
    /// The prefix is longer than 64, or not a single valid path segment.
    #[error("must be 1 to 64 letters, digits, dots, underscores or dashes")]
    Prefix,
    /// The namespace is not a valid path.
    #[error("{PATH_RULE}")]
    Namespace,
    /// A CA is given, but the URL does not use TLS.
    #[error("is a CA for a URL without TLS; begin the URL with https")]
    CaWithoutTls,
    /// The token has a character that cannot be in a header.
    #[error("has a character that no token has")]
    Token,
}

impl VaultConfig {
    /// The mount of the KV engine if none is configured.
    pub const DEFAULT_MOUNT: &str = "secret";
    /// The mount of AppRole if none is configured.
    pub const DEFAULT_APPROLE_MOUNT: &str = "approle";

    /// Checks all parts.
    ///
    /// # Errors
    /// [`VaultConfigError`] for the first mistake found.
    pub fn validate(self) -> Result<Self, VaultConfigError> {
        if !self.url.is_secure_or_loopback() {
            return Err(VaultConfigError::NotHttps);
        }
        if self.url.url().query().is_some() {
            return Err(VaultConfigError::Query);
        }
        if self.ca.is_some() && self.url.url().scheme() != "https" {
            return Err(VaultConfigError::CaWithoutTls);
        }
        if !is_path(&self.mount) {
            return Err(VaultConfigError::Mount);
        }
        if self.prefix.len() > 64 || !is_part(&self.prefix) {
            return Err(VaultConfigError::Prefix);
        }
        if self.namespace.as_deref().is_some_and(|namespace| !is_path(namespace)) {
            return Err(VaultConfigError::Namespace);
        }
        match &self.login {
            VaultLogin::Token(token) if !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) => Err(VaultConfigError::Token),
            VaultLogin::AppRole { mount, .. } if !is_path(mount) => Err(VaultConfigError::AppRoleMount),
            VaultLogin::Token(_) | VaultLogin::AppRole { .. } => Ok(self),
        }
    }
}

impl fmt::Display for VaultConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}/{})", self.url.without_query(), self.mount, self.prefix)
    }
}

fn is_path(text: &str) -> bool {
    text.split('/').all(is_part)
}

fn is_part(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !text.is_empty() && text != "." && text != ".." && text.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str, mount: &str, prefix: &str) -> Result<VaultConfig, VaultConfigError> {
        VaultConfig {
            url: ExactUrl::parse(url).unwrap(),
            namespace: None,
            mount: mount.to_owned(),
            prefix: prefix.to_owned(),
            login: VaultLogin::Token(Secret::from("canary-1")),
            ca: None,
        }
        .validate()
    }

    #[test]
    fn invalid_vault_settings_are_refused_and_the_token_is_never_shown() {
        for (url, mount, prefix, expected) in [
            ("http://vault.example:8200", "kv", "p", VaultConfigError::NotHttps),
            ("https://vault.example?x=1", "kv", "p", VaultConfigError::Query),
            ("https://vault.example", "kv/", "p", VaultConfigError::Mount),
            ("https://vault.example", "../sys", "p", VaultConfigError::Mount),
            ("https://vault.example", "kv", "a/b", VaultConfigError::Prefix),
            ("https://vault.example", "kv", "", VaultConfigError::Prefix),
        ] {
            assert_eq!(at(url, mount, prefix).unwrap_err(), expected, "{url}");
        }
        let config = at("http://127.0.0.1:8200", "team/kv", "mcp-gateway").unwrap();
        assert!(!format!("{config} {config:?}").contains("canary"));
    }
}
