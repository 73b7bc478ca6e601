//! The text that a user pastes at the end of a sign-in: the address of the last page, its query, or a
//! code.

use crate::base::secret::Secret;

/// A pasted authorization response (RFC 6749 §4.1.2).
#[derive(Debug, PartialEq, Eq)]
pub enum PastedResponse {
    /// A query with a code or an error. Its `state` and `iss` are checked.
    Query(Secret),
    /// A code alone.
    Code(Secret),
}

impl PastedResponse {
    /// Parses one line. `None`: the line has no code and no error.
    pub fn parse(line: &str) -> Option<Self> {
        let text = line.trim().trim_matches(['"', '\'', '<', '>']);
        let is_query = |query: &str| query.split('&').any(|part| part.starts_with("code=") || part.starts_with("error="));
        if text.contains("://") {
            let address = text.split('#').next().unwrap_or(text);
            let (_, query) = address.split_once('?')?;
            return is_query(query).then(|| Self::Query(Secret::from(query)));
        }
        let query = text.trim_start_matches(['?', '#']);
        if is_query(query) {
            return Some(Self::Query(Secret::from(query)));
        }
        // Some pages show the code and the state in this form.
        if let Some((code, state)) = text.split_once('#') {
            let query = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("code", code)
                .append_pair("state", state)
                .finish();
            return (!code.is_empty()).then(|| Self::Query(Secret::from(query)));
        }
        let is_code = !text.is_empty() && !text.contains(char::is_whitespace) && !text.contains(char::is_control);
        is_code.then(|| Self::Code(Secret::from(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::PastedResponse::{self, Code, Query};
    use crate::base::secret::Secret;

    #[test]
    fn an_address_a_query_and_a_code_are_distinguished() {
        let query = |text: &str| Some(Query(Secret::from(text)));
        for (line, expected) in [
            (
                "http://localhost:8002/upstream/callback/x?code=a&state=b\n",
                query("code=a&state=b"),
            ),
            (
                "\"http://localhost/cb?error=access_denied&state=b#frag\"",
                query("error=access_denied&state=b"),
            ),
            ("?code=a&state=b", query("code=a&state=b")),
            ("code=a", query("code=a")),
            ("a b#s&t", query("code=a+b&state=s%26t")),
            ("  4/0AX4XfWh=x \r\n", Some(Code(Secret::from("4/0AX4XfWh=x")))),
            ("http://localhost/cb", None),
            ("http://localhost/cb?state=b", None),
            ("two words", None),
            ("\n", None),
        ] {
            assert_eq!(PastedResponse::parse(line), expected, "{line:?}");
        }
    }
}
