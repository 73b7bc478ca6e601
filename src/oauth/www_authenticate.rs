//! Challenges in an upstream's `WWW-Authenticate` (RFC 9110 §11.6.1, RFC 6750 §3, RFC 9728 §5.1).

/// A Bearer challenge. The upstream chooses all its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BearerChallenge {
    /// URL of the protected resource metadata (RFC 9728 §5.1).
    pub resource_metadata: Option<String>,
    /// Scopes that the request needs.
    pub scope: Option<String>,
    /// The reason why the token was refused (RFC 6750 §3.1).
    pub error: Option<String>,
}

impl BearerChallenge {
    /// The first Bearer challenge in all `WWW-Authenticate` fields. Other schemes are skipped.
    pub fn parse<'a>(fields: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        fields.into_iter().find_map(of_field)
    }

    /// The valid scopes as a list; empty if there are none.
    pub fn scopes(&self) -> Vec<String> {
        let scopes = self.scope.as_deref().unwrap_or_default().split(' ');
        let is_valid = |scope: &&str| !scope.is_empty() && scope.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
        scopes.filter(is_valid).map(str::to_owned).collect()
    }
}

/// A field may hold several challenges: each a scheme and parameters, all separated by commas.
fn of_field(field: &str) -> Option<BearerChallenge> {
    let mut bearer: Option<BearerChallenge> = None;
    let mut in_bearer = false;
    for part in parts(field) {
        let (scheme, parameter) = split_scheme(part);
        if let Some(scheme) = scheme {
            if bearer.is_some() {
                break;
            }
            in_bearer = scheme.eq_ignore_ascii_case("bearer");
            if in_bearer {
                bearer = Some(BearerChallenge::default());
            }
        }
        if let (true, Some(challenge), Some((name, value))) = (in_bearer, bearer.as_mut(), parameter.split_once('=')) {
            keep(challenge, name.trim(), unquoted(value.trim()));
        }
    }
    bearer
}

/// Keeps the first value of a repeated parameter. RFC 6750 §3 forbids repetition.
fn keep(challenge: &mut BearerChallenge, name: &str, value: String) {
    let field = match name.to_ascii_lowercase().as_str() {
        "resource_metadata" => &mut challenge.resource_metadata,
        "scope" => &mut challenge.scope,
        "error" => &mut challenge.error,
        _ => return,
    };
    if field.is_none() {
        *field = Some(value);
    }
}

/// Splits at commas outside quotes.
fn parts(field: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let is_separator = move |c: char| {
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && quoted && !escaped;
        c == ',' && !quoted
    };
    field.split(is_separator).map(str::trim).filter(|part| !part.is_empty())
}

/// `Bearer realm="x"` is a scheme and a parameter, `Bearer` a scheme, `scope="a b"` a parameter.
fn split_scheme(part: &str) -> (Option<&str>, &str) {
    let end = part.find([' ', '\t', '=', '"']).unwrap_or(part.len());
    let (scheme, rest) = part.split_at(end);
    let rest = rest.trim_start();
    if rest.starts_with('=') {
        (None, part)
    } else {
        (Some(scheme), rest)
    }
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"') else {
        return value.to_owned();
    };
    let mut out = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => out.extend(chars.next()),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(field: &str) -> BearerChallenge {
        BearerChallenge::parse([field]).unwrap_or_else(|| panic!("no challenge in {field}"))
    }

    #[test]
    fn a_bearer_challenge_is_read_in_every_spelling() {
        for field in [
            r#"Bearer resource_metadata="https://h/x", scope="a b", error="invalid_token""#,
            r#"bearer error=invalid_token,scope="a b" , resource_metadata="https://h/x""#,
            r#"BEARER realm="a, b=\"c\"", Resource_Metadata = "https://h/x", scope = "a b", error="invalid_token", scope="z""#,
            r#"Basic realm="Bearer scope=no", Bearer resource_metadata="https:\/\/h/x", scope="a b", error="invalid_token""#,
            r#"Negotiate, Bearer resource_metadata="https://h/x", scope="a b", error="invalid_token", DPoP scope="z", error="z""#,
        ] {
            let challenge = read(field);
            assert_eq!(challenge.resource_metadata.as_deref(), Some("https://h/x"), "{field}");
            assert_eq!(challenge.scopes(), ["a", "b"], "{field}");
            assert_eq!(challenge.error.as_deref(), Some("invalid_token"), "{field}");
        }
    }

    #[test]
    fn a_bare_or_broken_challenge_yields_no_parameters() {
        for field in ["Bearer", "Bearer ", "Bearer realm=\"open", "Bearer ,,,", "Bearer scope"] {
            assert_eq!(read(field), BearerChallenge::default(), "{field}");
        }
        for field in ["", "Basic realm=\"x\"", ",", "\"Bearer\"", "scope=\"a\"", "Bearer ="] {
            assert_eq!(BearerChallenge::parse([field]), None, "{field}");
        }
        assert!(read(r#"Bearer scope="a\" b""#).scopes().contains(&"b".to_owned()));
    }

    #[test]
    fn the_bearer_challenge_is_found_in_any_header_line() {
        let challenge = BearerChallenge::parse(["Basic realm=\"x\"", "Bearer scope=\"a\""]).unwrap();
        assert_eq!(challenge.scopes(), ["a"]);
    }
}
