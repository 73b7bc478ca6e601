//! Resource indicators (RFC 8707): which protected resource a token is for.

use url::Url;

/// The reason why a `resource` is refused with `invalid_target`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceError {
    /// Not an absolute URI, or one with a fragment or a user name.
    Malformed,
    /// Not a URL of this service.
    NotOurs,
}

/// Checks each `resource` of a request against `service_urls`: the service's canonical URL and its
/// aliases.
///
/// Accepts any case of scheme and host, a trailing slash, and the bare origin (clients of MCP
/// 2025-03-26). Refuses all others. The gateway itself *emits* one form only.
pub fn check<'a>(requested: impl Iterator<Item = &'a str>, service_urls: &[String]) -> Result<(), ResourceError> {
    for text in requested {
        let url = Url::parse(text).map_err(|_| ResourceError::Malformed)?;
        if url.fragment().is_some() || url.cannot_be_a_base() || !url.username().is_empty() {
            return Err(ResourceError::Malformed);
        }
        let normalized = normal(&url);
        let is_match = |service_url: &String| {
            Url::parse(service_url).is_ok_and(|url| normal(&url) == normalized || url.origin().ascii_serialization() == normalized)
        };
        if !service_urls.iter().any(is_match) {
            return Err(ResourceError::NotOurs);
        }
    }
    Ok(())
}

fn normal(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path().trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Result<(), ResourceError> {
        check([text].into_iter(), &["https://gw.example.com/mcp".to_owned()])
    }

    #[test]
    fn every_usual_spelling_of_the_resource_url_is_accepted() {
        for text in [
            "https://gw.example.com/mcp",
            "https://gw.example.com/mcp/",
            "HTTPS://GW.example.com:443/mcp",
            "https://gw.example.com",
        ] {
            assert_eq!(asked(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn other_resources_and_fragments_are_refused() {
        assert_eq!(asked("https://gw.example.com/other"), Err(ResourceError::NotOurs));
        assert_eq!(asked("https://evil.example.com/mcp"), Err(ResourceError::NotOurs));
        assert_eq!(asked("https://gw.example.com/mcp#x"), Err(ResourceError::Malformed));
        assert_eq!(asked("mcp"), Err(ResourceError::Malformed));
    }
}
