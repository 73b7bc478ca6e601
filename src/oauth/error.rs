//! OAuth error codes (RFC 6749 §4.1.2.1 and §5.2, RFC 6750 §3.1, RFC 7591 §3.2.2, RFC 8707 §2).

use std::fmt;

/// An OAuth error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OAuthErrorCode {
    /// A parameter is missing, repeated or malformed.
    InvalidRequest,
    /// The client is unknown or did not authenticate.
    InvalidClient,
    /// The code or refresh token is invalid, expired, revoked or of another client.
    InvalidGrant,
    /// The client may not use this grant type.
    UnauthorizedClient,
    /// The server does not support this grant type.
    UnsupportedGrantType,
    /// The server does not support this response type.
    UnsupportedResponseType,
    /// The user or the server denied the request.
    AccessDenied,
    /// The server failed.
    ServerError,
    /// The server cannot answer now. The client can try again later.
    TemporarilyUnavailable,
    /// The resource does not belong to this server (RFC 8707).
    InvalidTarget,
    /// The redirect URI cannot be registered (RFC 7591).
    InvalidRedirectUri,
    /// The client metadata cannot be registered (RFC 7591).
    InvalidClientMetadata,
    /// The bearer token is expired, revoked or malformed (RFC 6750).
    InvalidToken,
    /// The token lacks a required scope (RFC 6750).
    InsufficientScope,
    /// The server does not support request objects (RFC 9101).
    RequestNotSupported,
    /// The server does not support request objects by reference (RFC 9101).
    RequestUriNotSupported,
}

impl OAuthErrorCode {
    /// The code as it appears in a response.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::UnsupportedResponseType => "unsupported_response_type",
            Self::AccessDenied => "access_denied",
            Self::ServerError => "server_error",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
            Self::InvalidTarget => "invalid_target",
            Self::InvalidRedirectUri => "invalid_redirect_uri",
            Self::InvalidClientMetadata => "invalid_client_metadata",
            Self::InvalidToken => "invalid_token",
            Self::InsufficientScope => "insufficient_scope",
            Self::RequestNotSupported => "request_not_supported",
            Self::RequestUriNotSupported => "request_uri_not_supported",
        }
    }

    /// HTTP status of a JSON response with this code.
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidClient | Self::InvalidToken => 401,
            Self::InsufficientScope => 403,
            Self::ServerError => 500,
            Self::TemporarilyUnavailable => 503,
            Self::InvalidRequest
            | Self::InvalidGrant
            | Self::UnauthorizedClient
            | Self::UnsupportedGrantType
            | Self::UnsupportedResponseType
            | Self::AccessDenied
            | Self::InvalidTarget
            | Self::InvalidRedirectUri
            | Self::InvalidClientMetadata
            | Self::RequestNotSupported
            | Self::RequestUriNotSupported => 400,
        }
    }
}

impl fmt::Display for OAuthErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Limits `text` to 300 bytes: printable ASCII without `"` and `\`, as in RFC 6749 §5.2.
pub fn description(text: &str) -> String {
    let sanitize = |c: char| if matches!(c, ' '..='~') && c != '"' && c != '\\' { c } else { '\'' };
    text.chars().take(300).map(sanitize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_description_contains_only_permitted_characters() {
        assert_eq!(description("a \"b\" \\ \n\u{e9}"), "a 'b' ' ''");
    }
}
