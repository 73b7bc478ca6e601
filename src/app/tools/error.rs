//! Why a tool cannot be listed or called.

use crate::app::proxy::error::ProxyError;

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolError {
    /// The gateway refused the request, or the MCP server answered with an HTTP error.
    Http {
        /// The status.
        status: u16,
        /// What went wrong, and what to do.
        message: String,
    },
    /// The MCP server answered with a JSON-RPC error.
    Protocol {
        /// The code.
        code: i64,
        /// The message.
        message: String,
    },
}

impl ToolError {
    /// An answer that is not MCP.
    pub(super) fn malformed(message: &str) -> Self {
        Self::Protocol {
            code: -32603,
            message: message.to_owned(),
        }
    }

    pub(super) fn of(error: &ProxyError, service: &str) -> Self {
        let message = match error {
            ProxyError::NoToken | ProxyError::BadToken(_) => {
                format!("the service '{service}' needs a token: put one into the entry ('authorization', 'authorization_token')")
            }
            ProxyError::MissingScopes | ProxyError::InsufficientScope(_) => {
                format!("the token of the entry lacks scopes that the service '{service}' needs")
            }
            ProxyError::NeedsLogin => format!("the service '{service}' is not signed in: run `mcp-oauth-gateway login {service}`"),
            ProxyError::CredentialRefused => format!("the MCP server of '{service}' refuses the credential of the service"),
            ProxyError::RateLimited => "too many requests: try again later".to_owned(),
            ProxyError::UpstreamTimeout => format!("the MCP server of '{service}' does not answer in time"),
            ProxyError::NotReady | ProxyError::ApprovalsUnavailable | ProxyError::TryLater => {
                format!("the service '{service}' is not ready: try again")
            }
            ProxyError::TokenInQuery
            | ProxyError::HeadNotAllowed
            | ProxyError::UnknownSession
            | ProxyError::TooManyStreams
            | ProxyError::Redirected(_)
            | ProxyError::UpstreamBroken(_)
            | ProxyError::UpstreamDown(_) => format!("the MCP server of '{service}' cannot be used now"),
        };
        Self::Http {
            status: error.status().as_u16(),
            message,
        }
    }

    /// What went wrong.
    pub fn message(&self) -> &str {
        match self {
            Self::Http { message, .. } | Self::Protocol { message, .. } => message,
        }
    }
}
