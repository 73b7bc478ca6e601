//! Form and query parameters as a list: a repeated one is an error (RFC 6749 §3.1, §3.2).

use std::fmt;

use serde::Deserialize;
use serde::de::{Error, MapAccess, Visitor};

/// The parameters of a request, in order.
#[derive(Clone, Default)]
pub struct Form(Vec<(String, String)>);

/// The reason why parameters cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// The parameter occurs more than once.
    #[error("parameter '{0}' is given more than once")]
    Repeated(&'static str),
    /// There are more than [`MAX_PARAMS`] parameters.
    #[error("more than {MAX_PARAMS} parameters")]
    TooMany,
    /// The decoded bytes are not UTF-8.
    #[error("the parameters are not UTF-8")]
    NotUtf8,
    /// Not a JSON object whose members are all strings.
    #[error("the body must be one JSON object whose members are strings")]
    NotJson,
}

/// Largest accepted number of parameters.
pub const MAX_PARAMS: usize = 100;

impl Form {
    /// Decodes `application/x-www-form-urlencoded`; fails on invalid UTF-8 or too many parameters.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormError> {
        let mut list = Vec::new();
        for (name, value) in url::form_urlencoded::parse(bytes) {
            if list.len() == MAX_PARAMS {
                return Err(FormError::TooMany);
            }
            if name.contains('\u{fffd}') || value.contains('\u{fffd}') {
                return Err(FormError::NotUtf8);
            }
            list.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(list))
    }

    /// Parses a JSON object of strings, which some old clients send in place of a form. Fails for
    /// other JSON. A repeated member stays two parameters.
    pub fn from_json(bytes: &[u8]) -> Result<Self, FormError> {
        let Members(list) = serde_json::from_slice(bytes).map_err(|_| FormError::NotJson)?;
        if list.len() > MAX_PARAMS {
            Err(FormError::TooMany)
        } else {
            Ok(Self(list))
        }
    }

    /// The only value of `name`; fails if repeated. An empty one counts as absent (OAuth 2.1 §3.1).
    pub fn single(&self, name: &'static str) -> Result<Option<&str>, FormError> {
        let mut matches = self.0.iter().filter(|(n, _)| n == name);
        let first = matches.next();
        if matches.next().is_some() {
            return Err(FormError::Repeated(name));
        }
        Ok(first.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty()))
    }

    /// The only value of `name`, even if it is empty: `state` must return byte for byte.
    pub fn single_or_empty(&self, name: &'static str) -> Result<Option<&str>, FormError> {
        let mut matches = self.0.iter().filter(|(n, _)| n == name);
        let first = matches.next();
        if matches.next().is_some() {
            Err(FormError::Repeated(name))
        } else {
            Ok(first.map(|(_, value)| value.as_str()))
        }
    }

    /// All non-empty values of `name`. OAuth allows only `resource` more than once (RFC 8707 §2).
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(n, v)| n == name && !v.is_empty())
            .map(|(_, value)| value.as_str())
    }
}

/// The members for [`Form::from_json`]. A map type would keep only the last of two equal names.
struct Members(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Members, A::Error> {
                let mut list = Vec::new();
                while let Some(member) = members.next_entry()? {
                    if list.len() > MAX_PARAMS {
                        return Err(A::Error::custom("too many members"));
                    }
                    list.push(member);
                }
                Ok(Members(list))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_parameter_is_refused_and_an_empty_one_is_absent() {
        let form = Form::parse(b"a=1&b=&a=2&c=x+y%20z").unwrap();
        assert_eq!(form.single("a"), Err(FormError::Repeated("a")));
        assert_eq!(form.single("b"), Ok(None));
        assert_eq!(form.single_or_empty("b"), Ok(Some("")));
        assert_eq!(form.single("c"), Ok(Some("x y z")));
        assert_eq!(form.single("d"), Ok(None));
    }

    #[test]
    fn a_json_object_of_strings_is_read_like_a_form() {
        let form = Form::from_json(br#" {"a":"1","b":"","a":"2","c":"x+y z"} "#).unwrap();
        assert_eq!(form.single("a"), Err(FormError::Repeated("a")));
        assert_eq!(
            (form.single("b"), form.single_or_empty("b"), form.single("c")),
            (Ok(None), Ok(Some("")), Ok(Some("x+y z")))
        );
        for invalid in [
            "",
            "[]",
            "{",
            "{} {}",
            "null",
            r#"{"a":1}"#,
            r#"{"a":["b"]}"#,
            r#"{"a":null}"#,
            "\u{1}",
        ] {
            assert_eq!(Form::from_json(invalid.as_bytes()).err(), Some(FormError::NotJson), "{invalid}");
        }
        let repeat_member = |count| format!("{{{}}}", vec!["\"a\":\"b\""; count].join(","));
        assert!(Form::from_json(repeat_member(MAX_PARAMS).as_bytes()).is_ok());
        assert_eq!(
            Form::from_json(repeat_member(MAX_PARAMS + 1).as_bytes()).err(),
            Some(FormError::TooMany)
        );
        assert!(Form::from_json(repeat_member(MAX_PARAMS + 9).as_bytes()).is_err());
    }
}
