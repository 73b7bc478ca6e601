//! `upstream = "static"`: one credential of the service, the same for every user.

use http::HeaderValue;
use http::header::HeaderName;

use crate::base::secret::Secret;
use crate::service::auth_header::{AuthHeader, CredentialSyntaxError};

/// A header with the service's own credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticCredential {
    name: HeaderName,
    /// Marked as sensitive, so `Debug` hides it.
    value: HeaderValue,
}

impl StaticCredential {
    /// The credential in its header. White space around it, such as a line end, is dropped.
    pub fn new(header: &AuthHeader, credential: &Secret) -> Result<Self, CredentialSyntaxError> {
        let credential = header.parse_credential(credential.expose())?;
        Ok(Self {
            name: header.name().clone(),
            value: header.value(&credential).ok_or(CredentialSyntaxError::Characters)?,
        })
    }

    /// The header's name.
    pub fn name(&self) -> &HeaderName {
        &self.name
    }

    /// The header's name and value.
    pub fn header(&self) -> (HeaderName, HeaderValue) {
        (self.name.clone(), self.value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_key_is_trimmed_and_hidden_in_debug_output() {
        let header = AuthHeader::parse("X-Api-Key", "{credential}").unwrap();
        let credential = StaticCredential::new(&header, &Secret::from("hunter2\n")).unwrap();
        let (name, value) = credential.header();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-api-key", "hunter2"));
        assert!(!format!("{credential:?}").contains("hunter2"));
    }

    #[test]
    fn an_empty_or_multiline_static_key_is_refused() {
        let header = AuthHeader::bearer();
        assert_eq!(
            StaticCredential::new(&header, &Secret::from("\n")),
            Err(CredentialSyntaxError::Empty)
        );
        assert_eq!(
            StaticCredential::new(&header, &Secret::from("two\nlines")),
            Err(CredentialSyntaxError::Characters)
        );
    }
}
