//! Forms and queries as a list: a parameter that comes twice is an error, not a choice (RFC 6749 §3.1, §3.2).

use std::fmt;

use serde::Deserialize;
use serde::de::{Error, MapAccess, Visitor};

/// The parameters of a request, in order.
#[derive(Clone, Default)]
pub struct Form(Vec<(String, String)>);

/// Why a form cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadForm {
    /// This parameter came more than once.
    Repeated(&'static str),
    /// More than [`MOST`] parameters.
    TooMany,
    /// The bytes are not UTF-8 once decoded.
    NotUtf8,
    /// Not a JSON object whose members are texts.
    NotJson,
}

/// The most parameters that are read.
pub const MOST: usize = 100;

impl fmt::Display for BadForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repeated(name) => write!(f, "parameter '{name}' is given more than once"),
            Self::TooMany => write!(f, "more than {MOST} parameters"),
            Self::NotUtf8 => f.write_str("the parameters are not UTF-8"),
            Self::NotJson => f.write_str("the body must be one JSON object whose members are strings"),
        }
    }
}

impl std::error::Error for BadForm {}

impl Form {
    /// Decodes `application/x-www-form-urlencoded` bytes: a request body or a query.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadForm> {
        let mut list = Vec::new();
        for (name, value) in url::form_urlencoded::parse(bytes) {
            if list.len() == MOST {
                return Err(BadForm::TooMany);
            }
            if name.contains('\u{fffd}') || value.contains('\u{fffd}') {
                return Err(BadForm::NotUtf8);
            }
            list.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(list))
    }

    /// Reads a JSON object whose members are strings, as some old clients send where the standard has a form. A member
    /// that comes twice stays two parameters.
    pub fn from_json(bytes: &[u8]) -> Result<Self, BadForm> {
        let Members(list) = serde_json::from_slice(bytes).map_err(|_| BadForm::NotJson)?;
        if list.len() > MOST { Err(BadForm::TooMany) } else { Ok(Self(list)) }
    }

    /// The one value of `name`; a parameter without a value counts as absent (OAuth 2.1 §3.1).
    pub fn one(&self, name: &'static str) -> Result<Option<&str>, BadForm> {
        let mut found = self.0.iter().filter(|(n, _)| n == name);
        let first = found.next();
        if found.next().is_some() {
            return Err(BadForm::Repeated(name));
        }
        Ok(first.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty()))
    }

    /// The one value of `name` where even an empty one counts: the client's `state` comes back byte for byte.
    pub fn exact(&self, name: &'static str) -> Result<Option<&str>, BadForm> {
        let mut found = self.0.iter().filter(|(n, _)| n == name);
        let first = found.next();
        if found.next().is_some() {
            Err(BadForm::Repeated(name))
        } else {
            Ok(first.map(|(_, value)| value.as_str()))
        }
    }

    /// All values of `name`: only `resource` may come more than once (RFC 8707 §2).
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
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
                    if list.len() > MOST {
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
        assert_eq!(form.one("a"), Err(BadForm::Repeated("a")));
        assert_eq!(form.one("b"), Ok(None));
        assert_eq!(form.exact("b"), Ok(Some("")));
        assert_eq!(form.one("c"), Ok(Some("x y z")));
        assert_eq!(form.one("d"), Ok(None));
    }

    #[test]
    fn an_object_of_strings_reads_as_the_form_of_the_same_words() {
        let form = Form::from_json(br#" {"a":"1","b":"","a":"2","c":"x+y z"} "#).unwrap();
        assert_eq!(form.one("a"), Err(BadForm::Repeated("a")));
        assert_eq!(
            (form.one("b"), form.exact("b"), form.one("c")),
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
            assert_eq!(Form::from_json(bad.as_bytes()).err(), Some(BadForm::NotJson), "{bad}");
        }
        let many = |count| format!("{{{}}}", vec!["\"a\":\"b\""; count].join(","));
        assert!(Form::from_json(many(MOST).as_bytes()).is_ok());
        assert_eq!(Form::from_json(many(MOST + 1).as_bytes()).err(), Some(BadForm::TooMany));
        assert!(Form::from_json(many(MOST + 9).as_bytes()).is_err());
    }
}
