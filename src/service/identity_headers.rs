//! `upstream = "identity"`: operator-chosen headers tell a trusted backend who the user is.
//!
//! All values are percent-encoded UTF-8 (RFC 3986 §2.1). Visible ASCII except `%`, and single
//! spaces within a value, stay as they are. Every other byte becomes `%` and two hexadecimal
//! digits. So plain names stay readable, `Zoë Müller` becomes `Zo%C3%AB M%C3%BCller`, and no value
//! can end its header. A backend percent-decodes each value; a `+` is a plus sign.

use std::fmt;

use http::HeaderValue;
use http::header::HeaderName;
use serde::{Deserialize, Serialize};

use crate::base::secret::Secret;

/// A fact about the user that a backend can receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityField {
    /// `x-user-id`: the stable id at the provider, or the name of a password user.
    Id,
    /// `x-user-email`: an address that the provider says is verified.
    Email,
    /// `x-user-name`: the display name.
    Name,
    /// `x-user-provider`: provider name, `password` or `key`. An id is unique only within it.
    Provider,
    /// `x-user-avatar`: the URL of a picture.
    Avatar,
}

/// Every field with its value in the configuration.
pub const FIELDS: [(&str, IdentityField); 5] = [
    ("id", IdentityField::Id),
    ("email", IdentityField::Email),
    ("name", IdentityField::Name),
    ("provider", IdentityField::Provider),
    ("avatar", IdentityField::Avatar),
];

/// The identity headers that a backend receives, in the order of [`FIELDS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityHeaders {
    fields: Vec<IdentityField>,
    has_assertion: bool,
}

/// The reason why a list of fields is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityFieldsError {
    /// A value that is not a field.
    #[error("`{0}` is none of {words}", words = field_words())]
    Unknown(String),
    /// The list is empty, so the backend would get no identity.
    #[error("nothing is chosen; write some of {words}", words = field_words())]
    Empty,
}

fn field_words() -> String {
    FIELDS.map(|(word, _)| word).join(", ")
}

/// The identity of a user for the backend. As JSON, it is the upstream half of the access pair.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityPayload {
    /// See [`IdentityField::Id`]; never empty.
    pub id: String,
    /// See [`IdentityField::Provider`].
    pub provider: String,
    /// See [`IdentityField::Email`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// See [`IdentityField::Name`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// See [`IdentityField::Avatar`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar: Option<String>,
}

impl IdentityHeaders {
    /// Parses a list of fields. Fails if it is empty or has an unknown field.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, IdentityFieldsError> {
        let mut is_chosen = [false; FIELDS.len()];
        for name in names {
            let index = FIELDS.iter().position(|(field_name, _)| *field_name == name);
            is_chosen[index.ok_or_else(|| IdentityFieldsError::Unknown(name.to_owned()))?] = true;
        }
        let fields: Vec<IdentityField> = FIELDS
            .iter()
            .zip(is_chosen)
            .filter(|(_, is_chosen)| *is_chosen)
            .map(|((_, field), _)| *field)
            .collect();
        if fields.is_empty() {
            return Err(IdentityFieldsError::Empty);
        }
        Ok(Self {
            fields,
            has_assertion: false,
        })
    }

    /// Adds `x-user-assertion`: a signed JWT with id, provider, e-mail address and name.
    #[must_use]
    pub fn with_assertion(self) -> Self {
        Self {
            has_assertion: true,
            ..self
        }
    }

    /// Whether the backend receives an assertion.
    pub fn has_assertion(&self) -> bool {
        self.has_assertion
    }

    /// The payload of a pair: id, provider, and only those other fields that the backend receives.
    pub fn to_payload(&self, identity: &IdentityPayload) -> Secret {
        let in_assertion = |field| self.has_assertion && matches!(field, IdentityField::Email | IdentityField::Name);
        let included = |field, value: &Option<String>| value.clone().filter(|_| in_assertion(field) || self.fields.contains(&field));
        let payload = IdentityPayload {
            id: identity.id.clone(),
            provider: identity.provider.clone(),
            email: included(IdentityField::Email, &identity.email),
            name: included(IdentityField::Name, &identity.name),
            avatar: included(IdentityField::Avatar, &identity.avatar),
        };
        Secret::from(serde_json::to_string(&payload).unwrap_or_default())
    }

    /// Parses the payload of a pair; `None` if it names no user.
    pub fn from_payload(payload: &Secret) -> Option<IdentityPayload> {
        serde_json::from_str(payload.expose())
            .ok()
            .filter(|identity: &IdentityPayload| !identity.id.is_empty())
    }

    /// The headers for the payload of a pair; `None` if it names no user.
    pub fn headers(&self, payload: &Secret) -> Option<Vec<(HeaderName, HeaderValue)>> {
        self.of(&Self::from_payload(payload)?)
    }

    /// The headers for a user, without unknown fields; `None` if the id is empty.
    pub fn of(&self, identity: &IdentityPayload) -> Option<Vec<(HeaderName, HeaderValue)>> {
        if identity.id.is_empty() {
            return None;
        }
        let header = |field: &IdentityField| {
            let (name, value) = match field {
                IdentityField::Id => ("x-user-id", Some(identity.id.as_str())),
                IdentityField::Email => ("x-user-email", identity.email.as_deref()),
                IdentityField::Name => ("x-user-name", identity.name.as_deref()),
                IdentityField::Provider => ("x-user-provider", Some(identity.provider.as_str())),
                IdentityField::Avatar => ("x-user-avatar", identity.avatar.as_deref()),
            };
            let value = HeaderValue::from_str(&encoded(value.filter(|text| !text.is_empty())?)).ok()?;
            Some((HeaderName::from_static(name), value))
        };
        Some(self.fields.iter().filter_map(header).collect())
    }
}

/// Percent-encodes a value, see [the module](self).
fn encoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(bytes.len());
    for (i, b) in bytes.iter().enumerate() {
        // A receiver can trim a space at an end, and fold several spaces into one.
        let is_inner = i > 0 && bytes[i - 1] != b' ' && i + 1 < bytes.len();
        match b {
            b' ' if is_inner => out.push(' '),
            b'!'..=b'~' if *b != b'%' => out.push(char::from(*b)),
            _ => {
                let _ = fmt::Write::write_fmt(&mut out, format_args!("%{b:02X}"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> IdentityPayload {
        IdentityPayload {
            id: "4711".into(),
            provider: "corp".into(),
            email: Some("zoe+mcp@example.com".into()),
            name: Some("Zoë Müller".into()),
            avatar: Some("https://pics.example/a%20b.png".into()),
        }
    }

    fn told(names: &[&str], identity: &IdentityPayload) -> Vec<String> {
        let fields = IdentityHeaders::parse(names.iter().copied()).unwrap();
        let headers = fields.headers(&fields.to_payload(identity)).unwrap();
        let text = |(name, value): &(HeaderName, HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
        headers.iter().map(text).collect()
    }

    #[test]
    fn only_the_chosen_identity_fields_reach_the_upstream() {
        let all_names = ["avatar", "id", "email", "name", "provider"];
        assert_eq!(
            told(&all_names, &known()),
            [
                "x-user-id: 4711",
                "x-user-email: zoe+mcp@example.com",
                "x-user-name: Zo%C3%AB M%C3%BCller",
                "x-user-provider: corp",
                "x-user-avatar: https://pics.example/a%2520b.png",
            ]
        );
        assert_eq!(told(&["id"], &known()), ["x-user-id: 4711"]);
        let fields = IdentityHeaders::parse(["id"]).unwrap();
        let payload = fields.to_payload(&known());
        assert!(!payload.expose().contains("example") && !payload.expose().contains("Zo"));
    }

    #[test]
    fn an_assertion_extends_the_identity_payload_without_further_headers() {
        let fields = IdentityHeaders::parse(["id"]).unwrap().with_assertion();
        let payload = fields.to_payload(&known());
        let expected = IdentityPayload { avatar: None, ..known() };
        assert_eq!(IdentityHeaders::from_payload(&payload), Some(expected));
        assert_eq!(fields.headers(&payload).unwrap().len(), 1);
    }

    #[test]
    fn a_missing_identity_field_sends_no_header() {
        let identity = IdentityPayload {
            name: Some(String::new()),
            email: None,
            ..known()
        };
        assert_eq!(told(&["id", "email", "name"], &identity), ["x-user-id: 4711"]);
    }

    /// A name with characters beyond ASCII once gave status 500.
    #[test]
    fn encoded_identity_values_decode_unchanged_and_cannot_inject_headers() {
        for text in [
            "a\r\nx-user-id: root",
            "100%",
            "%0d%0a",
            " led and trailed ",
            "two  spaces",
            "tab\there",
            "nul\0",
            "\u{202e}gnp",
            "李小龙",
            "Ωmega, \"quoted\"; and more",
            "é",
        ] {
            let value = encoded(text);
            assert!(value.bytes().all(|b| b == b' ' || b.is_ascii_graphic()), "{value}");
            assert_eq!(value.trim(), value);
            let decoded = percent_decoded(&value);
            assert_eq!(decoded, text.as_bytes(), "{value}");
        }
    }

    fn percent_decoded(value: &str) -> Vec<u8> {
        let mut parts = value.split('%');
        let mut out = parts.next().unwrap().as_bytes().to_vec();
        for part in parts {
            out.push(u8::from_str_radix(&part[..2], 16).unwrap());
            out.extend_from_slice(&part.as_bytes()[2..]);
        }
        out
    }

    #[test]
    fn a_pair_without_a_valid_identity_yields_no_headers() {
        let fields = IdentityHeaders::parse(["id"]).unwrap();
        for text in ["", "{}", "gho_token", "{\"id\":\"\",\"provider\":\"corp\"}"] {
            assert_eq!(fields.headers(&Secret::from(text)), None, "{text}");
        }
    }

    #[test]
    fn identity_fields_are_parsed_by_name_in_any_order() {
        let none: [&str; 0] = [];
        assert_eq!(IdentityHeaders::parse(none), Err(IdentityFieldsError::Empty));
        assert_eq!(
            IdentityHeaders::parse(["id", "phone"]),
            Err(IdentityFieldsError::Unknown("phone".into()))
        );
        assert_eq!(IdentityHeaders::parse(["name", "id", "id"]), IdentityHeaders::parse(["id", "name"]));
    }
}
