//! The reasons why the gateway itself answers a proxied request.

use http::StatusCode;

use crate::app::grants::error::UpstreamTokenError;
use crate::app::service_tokens::ServiceTokenError;
use crate::app::stored::error::StoredCredentialError;
use crate::app::tokens::verify::OpenError;

/// The reason why the upstream does not answer a proxied request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// The revocation list or the signing keys are not loaded yet.
    NotReady,
    /// The request has no token.
    NoToken,
    /// The token is not good. The text says why, and holds no part of the token.
    BadToken(&'static str),
    /// The token lacks a scope that the service requires.
    MissingScopes,
    /// The query holds a token beside the one in the header.
    TokenInQuery,
    /// The upstream requires more scopes: these.
    InsufficientScope(String),
    /// A HEAD of a caller that may call: the MCP endpoint answers it with nothing but a challenge.
    HeadNotAllowed,
    /// The MCP session is unknown here, or belongs to another user.
    UnknownSession,
    /// Too many requests without a token came from one address.
    RateLimited,
    /// The caller has too many open streams.
    TooManyStreams,
    /// The upstream refuses the credential of the service, which no client can change.
    CredentialRefused,
    /// The upstream redirects to this URL: the configured URL is not the final one.
    Redirected(String),
    /// The upstream cannot be reached.
    UpstreamDown(String),
    /// The connection broke after the request was sent. Whether the upstream did something is unknown.
    UpstreamBroken(String),
    /// The upstream took too long.
    UpstreamTimeout,
    /// The service has no stored credential, or it has ended: the operator must sign in.
    NeedsLogin,
    /// Approvals of tool calls or pins of tools cannot be read or written.
    ApprovalsUnavailable,
    /// The upstream token of a reference pair cannot be read or refreshed now.
    TryLater,
}

impl From<OpenError> for ProxyError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NotReady => Self::NotReady,
            OpenError::Invalid(reason) => Self::BadToken(reason),
        }
    }
}

impl From<UpstreamTokenError> for ProxyError {
    fn from(error: UpstreamTokenError) -> Self {
        match error {
            UpstreamTokenError::GrantEnded => Self::BadToken("what the token stands for has ended"),
            UpstreamTokenError::TryLater => Self::TryLater,
        }
    }
}

impl From<ServiceTokenError> for ProxyError {
    fn from(error: ServiceTokenError) -> Self {
        match error {
            ServiceTokenError::Refused => Self::CredentialRefused,
            ServiceTokenError::TryLater => Self::TryLater,
        }
    }
}

impl From<StoredCredentialError> for ProxyError {
    fn from(error: StoredCredentialError) -> Self {
        match error {
            StoredCredentialError::NotSignedIn | StoredCredentialError::NeedsLogin => Self::NeedsLogin,
            StoredCredentialError::Refused => Self::CredentialRefused,
            StoredCredentialError::TryLater => Self::TryLater,
        }
    }
}

impl ProxyError {
    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotReady | Self::ApprovalsUnavailable | Self::TryLater => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoToken | Self::BadToken(_) => StatusCode::UNAUTHORIZED,
            Self::TokenInQuery => StatusCode::BAD_REQUEST,
            Self::UnknownSession => StatusCode::NOT_FOUND,
            Self::MissingScopes | Self::InsufficientScope(_) => StatusCode::FORBIDDEN,
            Self::HeadNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RateLimited | Self::TooManyStreams => StatusCode::TOO_MANY_REQUESTS,
            Self::CredentialRefused | Self::NeedsLogin | Self::Redirected(_) | Self::UpstreamDown(_) | Self::UpstreamBroken(_) => {
                StatusCode::BAD_GATEWAY
            }
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}
