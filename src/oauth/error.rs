//! The words in which OAuth says no (RFC 6749 §4.1.2.1 and §5.2, RFC 7591 §3.2.2, RFC 8707 §2, RFC 6750 §3.1).

use std::fmt;

/// An OAuth error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OAuthErrorCode {
    /// A parameter is missing, repeated or malformed.
    InvalidRequest,
    /// The client is unknown or did not authenticate.
    InvalidClient,
    /// The code or refresh token is not good (any more), or is somebody else's.
    InvalidGrant,
    /// This client may not use this grant.
    UnauthorizedClient,
    /// Not a grant of this server.
    UnsupportedGrantType,
    /// Not a response type of this server.
    UnsupportedResponseType,
    /// The user or the server said no.
    AccessDenied,
    /// Something is wrong here.
    ServerError,
    /// Try again later.
    TemporarilyUnavailable,
    /// The resource is not this server's (RFC 8707).
    InvalidTarget,
    /// A redirect URI that cannot be registered (RFC 7591).
    InvalidRedirectUri,
    /// Registration metadata that cannot be used (RFC 7591).
    InvalidClientMetadata,
    /// The bearer token is expired, revoked or malformed (RFC 6750).
    InvalidToken,
    /// The token does not cover this (RFC 6750).
    InsufficientScope,
    /// Request objects are not spoken here (RFC 9101).
    RequestNotSupported,
    /// Request objects by reference are not spoken here (RFC 9101).
    RequestUriNotSupported,
}

impl OAuthErrorCode {
    /// The word on the wire.
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

    /// The HTTP status at an endpoint that answers JSON.
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

/// Restricts `text` to what `error_description` may hold: printable ASCII without `"` and `\` (RFC 6749 §5.2), at most 300 bytes.
pub fn description(text: &str) -> String {
    let fit = |c: char| if matches!(c, ' '..='~') && c != '"' && c != '\\' { c } else { '\'' };
    text.chars().take(300).map(fit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_keeps_to_the_characters_of_the_rfc() {
        assert_eq!(description("a \"b\" \\ \n\u{e9}"), "a 'b' ' ''");
    }
}
