//! The header with a pasted or static credential. In `upstream = "paste"`, the user pastes it.

use http::HeaderValue;
use http::header::{AUTHORIZATION, HeaderName};

use crate::base::secret::Secret;
use crate::upstream::forward_rules;

/// The longest credential, in bytes. Both the credential and a pair around it must fit a header.
pub const MAX_CREDENTIAL_BYTES: usize = 4 * 1024;
/// The place of the credential in a template.
const PLACEHOLDER: &str = "{credential}";

/// The credential that the page asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasteSettings {
    /// The header that carries the credential to the upstream.
    pub header: AuthHeader,
    /// The operator's hint to the user, such as where to find a credential; may be empty.
    pub hint: String,
}

/// A header with a credential: `Authorization: Bearer {credential}`, `X-Api-Key: {credential}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthHeader {
    name: HeaderName,
    before: String,
    after: String,
}

/// The reason why a configured header cannot carry a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthHeaderError {
    /// It is not the name of a header.
    #[error("`{0}` is not the name of a header; write one such as `X-Api-Key`")]
    Name(String),
    /// The header is reserved for another purpose.
    #[error("the header `{0}` may not carry a credential; write `Authorization` or one such as `X-Api-Key`")]
    NotOurs(String),
    /// The template does not have `{credential}` exactly once, or has another brace.
    #[error("`{0}` must hold {PLACEHOLDER} exactly once, such as `Bearer {PLACEHOLDER}`")]
    Template(String),
    /// The template has characters other than visible ASCII and space, or space at an end.
    #[error("`{}` may hold visible ASCII and single spaces within, and nothing else", .0.escape_debug())]
    Characters(String),
}

/// The reason why a text cannot be a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialSyntaxError {
    /// It is empty.
    #[error("the key is missing")]
    Empty,
    /// It has more than [`MAX_CREDENTIAL_BYTES`] bytes.
    #[error("the key is longer than {MAX_CREDENTIAL_BYTES} characters")]
    TooLong,
    /// It has characters other than visible ASCII and space.
    #[error("the key holds characters that no key has; was it copied whole, and nothing else?")]
    Characters,
}

impl AuthHeader {
    /// `Authorization: Bearer {credential}` (RFC 6750 §2.1).
    pub fn bearer() -> Self {
        Self {
            name: AUTHORIZATION,
            before: "Bearer ".to_owned(),
            after: String::new(),
        }
    }

    /// Parses a header's name and the template of its value, or says which of them is wrong.
    pub fn parse(name: &str, template: &str) -> Result<Self, AuthHeaderError> {
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| AuthHeaderError::Name(name.to_owned()))?;
        if !forward_rules::may_carry_a_credential(&header) {
            return Err(AuthHeaderError::NotOurs(name.to_owned()));
        }
        let template_error = || AuthHeaderError::Template(template.to_owned());
        let (before, after) = template.split_once(PLACEHOLDER).ok_or_else(template_error)?;
        // A stray brace is a typing error, and would be sent.
        if [before, after].iter().any(|part| part.contains(['{', '}'])) {
            return Err(template_error());
        }
        if template.trim() != template || !is_header_safe(template) {
            return Err(AuthHeaderError::Characters(template.to_owned()));
        }
        Ok(Self {
            name: header,
            before: before.to_owned(),
            after: after.to_owned(),
        })
    }

    /// The header's name.
    pub fn name(&self) -> &HeaderName {
        &self.name
    }

    /// Checks a pasted credential. Drops white space around it, and a scheme that the user copied.
    pub fn parse_credential(&self, input: &str) -> Result<Secret, CredentialSyntaxError> {
        let mut text = input.trim();
        let scheme = self.before.trim();
        // If the template has no scheme, the user pastes one, so keep it.
        let keeps_scheme = self.name == AUTHORIZATION && scheme.is_empty();
        for prefix in [scheme, "Bearer"] {
            if !keeps_scheme && !prefix.is_empty() {
                text = without_scheme(text, prefix);
            }
        }
        match text {
            "" => Err(CredentialSyntaxError::Empty),
            _ if text.len() > MAX_CREDENTIAL_BYTES => Err(CredentialSyntaxError::TooLong),
            _ if !is_header_safe(text) => Err(CredentialSyntaxError::Characters),
            _ => Ok(Secret::from(text)),
        }
    }

    /// The header's value, marked as sensitive: `Debug` hides it and HPACK does not index it.
    pub fn value(&self, credential: &Secret) -> Option<HeaderValue> {
        let text = credential.expose();
        if text.is_empty() || text.len() > MAX_CREDENTIAL_BYTES || !is_header_safe(text) {
            return None;
        }
        let mut value = HeaderValue::from_str(&format!("{}{text}{}", self.before, self.after)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// Visible ASCII and space: all servers read these alike.
fn is_header_safe(text: &str) -> bool {
    text.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
}

/// Removes a scheme from the start of a text, ignoring case (RFC 9110 §11.1).
fn without_scheme<'a>(text: &'a str, scheme: &str) -> &'a str {
    match text.split_at_checked(scheme.len()) {
        Some((first, rest)) if first.eq_ignore_ascii_case(scheme) && (rest.is_empty() || rest.starts_with(char::is_whitespace)) => {
            rest.trim_start()
        }
        Some(_) | None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(name: &str, template: &str, credential: &str) -> String {
        let header = AuthHeader::parse(name, template).unwrap();
        let value = header.value(&Secret::from(credential)).unwrap();
        assert!(value.is_sensitive());
        format!("{}: {}", header.name(), value.to_str().unwrap())
    }

    #[test]
    fn a_template_with_one_credential_builds_its_header() {
        assert_eq!(sent("Authorization", "Bearer {credential}", "k"), "authorization: Bearer k");
        assert_eq!(sent("X-Api-Key", "{credential}", "k"), "x-api-key: k");
        assert_eq!(sent("Authorization", "token {credential}", "k"), "authorization: token k");
        assert_eq!(sent("PRIVATE-TOKEN", "{credential}", "k"), "private-token: k");
        assert_eq!(
            sent("Authorization", "ApiKey id=7,key=\"{credential}\"", "k"),
            "authorization: ApiKey id=7,key=\"k\""
        );
        let value = AuthHeader::bearer().value(&Secret::from("k"));
        assert_eq!(value.unwrap(), "Bearer k");
    }

    #[test]
    fn a_template_without_exactly_one_credential_is_refused() {
        for template in [
            "",
            "Bearer",
            "Bearer {token}",
            "{credential}{credential}",
            "{{credential}}",
            "Bearer {credential} {x}",
        ] {
            let error = AuthHeader::parse("Authorization", template).unwrap_err();
            assert!(matches!(error, AuthHeaderError::Template(_)), "{template}: {error}");
        }
        for template in [
            " {credential}",
            "{credential}\r\nX-User-Id: root",
            "Schlüssel {credential}",
            "a\t{credential}",
        ] {
            let error = AuthHeader::parse("Authorization", template).unwrap_err();
            assert!(matches!(error, AuthHeaderError::Characters(_)), "{template:?}: {error}");
        }
    }

    #[test]
    fn reserved_header_names_cannot_carry_the_credential() {
        for name in [
            "Host",
            "Content-Length",
            "Transfer-Encoding",
            "Connection",
            "Proxy-Authorization",
            "TE",
            "Trailer",
            "Upgrade",
            "Cookie",
            "cookie2",
            "Origin",
            "Expect",
            "Forwarded",
            "X-Forwarded-For",
            "x_forwarded_host",
            "X-User-Id",
            "x_user_email",
            "Content-Type",
            "Accept",
            "User-Agent",
            "Mcp-Session-Id",
            "MCP-Protocol-Version",
            "Last-Event-ID",
        ] {
            let error = AuthHeader::parse(name, PLACEHOLDER).unwrap_err();
            assert_eq!(error, AuthHeaderError::NotOurs(name.to_owned()));
        }
        for name in ["", "X Api Key", "X-Api-Key:", "x\r\ny"] {
            assert_eq!(AuthHeader::parse(name, PLACEHOLDER), Err(AuthHeaderError::Name(name.to_owned())));
        }
    }

    #[test]
    fn white_space_and_scheme_around_a_pasted_key_are_dropped() {
        let bearer = AuthHeader::bearer();
        for pasted in ["k1", "  k1\r\n", "Bearer k1", "bearer   k1", "\u{a0}k1\u{2003}", "BEARER\tk1 "] {
            assert_eq!(bearer.parse_credential(pasted).unwrap().expose(), "k1", "{pasted:?}");
        }
        // A scheme is dropped only if white space follows it.
        assert_eq!(bearer.parse_credential("Bearerk1").unwrap().expose(), "Bearerk1");
        let token = AuthHeader::parse("Authorization", "token {credential}").unwrap();
        assert_eq!(token.parse_credential("token k1").unwrap().expose(), "k1");
        assert_eq!(token.parse_credential("Bearer k1").unwrap().expose(), "k1");
        let key = AuthHeader::parse("X-Api-Key", "{credential}").unwrap();
        assert_eq!(key.parse_credential("Bearer k1").unwrap().expose(), "k1");
    }

    #[test]
    fn a_pasted_scheme_stays_if_the_template_has_none() {
        let header = AuthHeader::parse("Authorization", "{credential}").unwrap();
        assert_eq!(header.parse_credential("Bearer k1").unwrap().expose(), "Bearer k1");
        assert_eq!(header.parse_credential("Basic YTpi").unwrap().expose(), "Basic YTpi");
    }

    #[test]
    fn a_malformed_pasted_credential_is_refused() {
        let bearer = AuthHeader::bearer();
        for pasted in ["", " \n ", "Bearer", "bearer "] {
            assert_eq!(bearer.parse_credential(pasted), Err(CredentialSyntaxError::Empty), "{pasted:?}");
        }
        for pasted in ["a\r\nX-User-Id: root", "a\nb", "a\0b", "a\tb", "schlüssel", "a\u{200b}b"] {
            assert_eq!(
                bearer.parse_credential(pasted),
                Err(CredentialSyntaxError::Characters),
                "{pasted:?}"
            );
        }
        assert!(bearer.parse_credential(&"k".repeat(MAX_CREDENTIAL_BYTES)).is_ok());
        assert_eq!(
            bearer.parse_credential(&"k".repeat(MAX_CREDENTIAL_BYTES + 1)),
            Err(CredentialSyntaxError::TooLong)
        );
        assert_eq!(bearer.value(&Secret::from("a\r\nb")), None);
    }
}
