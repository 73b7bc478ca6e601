//! Forms and queries as a list: a parameter that comes twice is an error, not a choice (RFC 6749 §3.1, §3.2).

use std::fmt;

use serde::Deserialize;
use serde::de::{Error, MapAccess, Visitor};

/// The parameters of a request, in order.
#[derive(Clone, Default)]
pub struct Form(Vec<(String, String)>);

/// Why a form cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormError {
    /// This parameter came more than once.
    Repeated(&'static str),
    /// More than [`MAX_PARAMS`] parameters.
    TooMany,
    /// The bytes are not UTF-8 once decoded.
    NotUtf8,
    /// Not a JSON object whose members are texts.
    NotJson,
}

/// The most parameters that are read.
pub const MAX_PARAMS: usize = 100;

impl fmt::Display for FormError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repeated(name) => write!(f, "parameter '{name}' is given more than once"),
            Self::TooMany => write!(f, "more than {MAX_PARAMS} parameters"),
            Self::NotUtf8 => f.write_str("the parameters are not UTF-8"),
            Self::NotJson => f.write_str("the body must be one JSON object whose members are strings"),
        }
    }
}

impl std::error::Error for FormError {}

impl Form {
    /// Decodes `application/x-www-form-urlencoded` bytes: a request body or a query.
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

    /// Reads a JSON object whose members are strings, as some old clients send where the standard has a form. A member
    /// that comes twice stays two parameters.
    pub fn from_json(bytes: &[u8]) -> Result<Self, FormError> {
        let Members(list) = serde_json::from_slice(bytes).map_err(|_| FormError::NotJson)?;
        if list.len() > MAX_PARAMS {
            Err(FormError::TooMany)
        } else {
            Ok(Self(list))
        }
    }

    /// The one value of `name`; a parameter without a value counts as absent (OAuth 2.1 §3.1).
    pub fn single(&self, name: &'static str) -> Result<Option<&str>, FormError> {
        let mut found = self.0.iter().filter(|(n, _)| n == name);
        let first = found.next();
        if found.next().is_some() {
            return Err(FormError::Repeated(name));
        }
        Ok(first.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty()))
    }

    /// The one value of `name` where even an empty one counts: the client's `state` comes back byte for byte.
    pub fn single_or_empty(&self, name: &'static str) -> Result<Option<&str>, FormError> {
        let mut found = self.0.iter().filter(|(n, _)| n == name);
        let first = found.next();
        if found.next().is_some() {
            Err(FormError::Repeated(name))
        } else {
            Ok(first.map(|(_, value)| value.as_str()))
        }
    }

    /// All values of `name`: only `resource` may come more than once (RFC 8707 §2).
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(n, v)| n == name && !v.is_empty())
            .map(|(_, value)| value.as_str())
    }
}

/// What [`Form::from_json`] reads: a map type would keep the last of two members.
struct Members(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
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
        from.deserialize_map(Each)
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
    fn an_object_of_strings_reads_as_the_form_of_the_same_words() {
        let form = Form::from_json(br#" {"a":"1","b":"","a":"2","c":"x+y z"} "#).unwrap();
        assert_eq!(form.single("a"), Err(FormError::Repeated("a")));
        assert_eq!(
            (form.single("b"), form.single_or_empty("b"), form.single("c")),
            (Ok(None), Ok(Some("")), Ok(Some("x+y z")))
        );
        for bad in [
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
            assert_eq!(Form::from_json(bad.as_bytes()).err(), Some(FormError::NotJson), "{bad}");
        }
        let many = |count| format!("{{{}}}", vec!["\"a\":\"b\""; count].join(","));
        assert!(Form::from_json(many(MAX_PARAMS).as_bytes()).is_ok());
        assert_eq!(Form::from_json(many(MAX_PARAMS + 1).as_bytes()).err(), Some(FormError::TooMany));
        assert!(Form::from_json(many(MAX_PARAMS + 9).as_bytes()).is_err());
    }
}
