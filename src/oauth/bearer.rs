//! Parses `Authorization: Bearer`, builds `WWW-Authenticate: Bearer` (RFC 6750, RFC 9728 §5.1).

use crate::oauth::error::{OAuthErrorCode, description};

/// Content of an `Authorization` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BearerHeader<'a> {
    /// There is no header, or it has another scheme.
    Nothing,
    /// A well-formed bearer token, not verified yet.
    Bearer(&'a str),
    /// The bearer scheme without a well-formed token.
    Malformed,
}

/// Parses an `Authorization` header. The scheme is case-insensitive (RFC 9110 §11.1).
pub fn parse(header: Option<&str>) -> BearerHeader<'_> {
    let Some(header) = header else { return BearerHeader::Nothing };
    let (scheme, token) = header.split_once(' ').unwrap_or((header, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return BearerHeader::Nothing;
    }
    let token = token.trim_matches(' ');
    let is_well_formed = !token.is_empty() && token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b));
    if is_well_formed {
        BearerHeader::Bearer(token)
    } else {
        BearerHeader::Malformed
    }
}

/// Whether a query has an `access_token` (RFC 6750 §2.3), which only the upstream would read. The
/// name matches in any case, and after a `;`, which some servers still accept as a separator.
pub fn is_token_in_query(query: &str) -> bool {
    query
        .split(['&', ';'])
        .flat_map(|part| url::form_urlencoded::parse(part.as_bytes()))
        .any(|(name, _)| name.trim().eq_ignore_ascii_case("access_token"))
}

/// Builds one challenge. `Bearer` is first and every value quoted, because clients parse it with
/// regular expressions. Without `resource_metadata` a client cannot find an authorization server.
pub fn challenge(resource_metadata: Option<&str>, scope: &str, error: Option<(OAuthErrorCode, &str)>) -> String {
    let mut params = Vec::new();
    if let Some((code, reason)) = error {
        params.push(format!("error=\"{code}\", error_description=\"{}\"", description(reason)));
    }
    if !scope.is_empty() {
        params.push(format!("scope=\"{scope}\""));
    }
    params.extend(resource_metadata.map(|url| format!("resource_metadata=\"{url}\"")));
    format!("Bearer {}", params.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bearer_scheme_ignores_case_and_the_token_syntax_is_strict() {
        assert_eq!(parse(Some("bearer abc")), BearerHeader::Bearer("abc"));
        assert_eq!(parse(Some("BEARER abc=")), BearerHeader::Bearer("abc="));
        assert_eq!(parse(Some("Bearer")), BearerHeader::Malformed);
        assert_eq!(parse(Some("Bearer a b")), BearerHeader::Malformed);
        assert_eq!(parse(Some("Basic abc")), BearerHeader::Nothing);
        assert_eq!(parse(None), BearerHeader::Nothing);
    }

    #[test]
    fn an_access_token_in_the_query_is_detected_in_every_spelling() {
        for query in [
            "access_token=x",
            "a=1&access_token",
            "access%5Ftoken=x",
            "ACCESS_TOKEN=x",
            "a=1;access_token=x",
            "+access_token=x",
        ] {
            assert!(is_token_in_query(query), "{query}");
        }
        for query in [
            "",
            "token=x",
            "access_tokens=x",
            "a=access_token",
            "my_access_token=x",
            "a=%26access_token=x",
        ] {
            assert!(!is_token_in_query(query), "{query}");
        }
    }

    #[test]
    fn a_challenge_without_credentials_carries_no_error() {
        assert_eq!(
            challenge(Some("https://h/m"), "a b", None),
            "Bearer scope=\"a b\", resource_metadata=\"https://h/m\""
        );
        let invalid = Some((OAuthErrorCode::InvalidToken, "expired"));
        assert!(challenge(Some("https://h/m"), "", invalid).starts_with("Bearer error=\"invalid_token\""));
        assert_eq!(
            challenge(None, "", invalid),
            "Bearer error=\"invalid_token\", error_description=\"expired\""
        );
    }
}
