//! The data of a stored credential: an API key, or the tokens of an OAuth login with the endpoints and the
//! client of a refresh. A refresh therefore fetches no metadata document.

use serde::{Deserialize, Serialize};

use crate::base::endpoint_network::EndpointNetwork;
use crate::base::secret::{Secret, at_rest, at_rest_option};
use crate::oauth::token_response::UpstreamTokens;

/// The two kinds of stored credentials.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum CredentialKind {
    /// A key that the operator gave.
    ApiKey {
        /// The key.
        #[serde(with = "at_rest")]
        key: Secret,
    },
    /// The result of an OAuth login.
    #[serde(rename = "oauth")]
    OAuth(Box<OAuthCredential>),
}

/// The tokens of an OAuth login, with their authorization server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OAuthCredential {
    /// The issuer of the upstream AS.
    pub issuer: String,
    /// The token endpoint at the time of the login.
    pub token_endpoint: String,
    /// The revocation endpoint, if the upstream AS has one.
    pub revocation_endpoint: Option<String>,
    /// The network in which these endpoints may be. `None`: any, because the operator configured them.
    pub network: Option<EndpointNetwork>,
    /// The gateway's client at the upstream AS.
    pub client: LoginClient,
    /// The scopes that were requested, separated by spaces.
    pub scopes: String,
    /// The MCP server's canonical identifier (RFC 8707).
    #[serde(default)]
    pub resource: Option<String>,
    /// The tokens.
    pub tokens: UpstreamTokens,
}

/// The client with which the operator signed in. Only it can refresh the tokens (RFC 6749 §6).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LoginClient {
    /// The client id.
    pub id: String,
    /// The client secret.
    #[serde(with = "at_rest_option")]
    pub secret: Option<Secret>,
    /// The registered name of the authentication method, such as `client_secret_basic`.
    pub auth_method: String,
}

impl OAuthCredential {
    /// The credential with newer tokens. Without a new refresh token the old one stays (RFC 6749 §6).
    #[must_use]
    pub(super) fn with_tokens(self, tokens: UpstreamTokens) -> Self {
        let old = self.tokens;
        let keeps_old = tokens.refresh.is_none();
        let tokens = UpstreamTokens {
            refresh_expires: if keeps_old { old.refresh_expires } else { tokens.refresh_expires },
            refresh: tokens.refresh.or(old.refresh),
            scope: tokens.scope.or(old.scope),
            ..tokens
        };
        Self { tokens, ..self }
    }
}
