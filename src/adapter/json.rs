//! JSON whose untouched parts keep their text, byte for byte: a vendor gets what the client wrote, and a
//! client gets what the vendor wrote, except for the members that the adapter replaces.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// A JSON value as text.
pub type Raw = Box<RawValue>;

/// Why a text is not the expected JSON.
#[derive(Debug, thiserror::Error)]
pub enum RawError {
    /// It is not JSON, not an object, or has a member twice.
    #[error("{0}")]
    Syntax(#[from] serde_json::Error),
    /// It is not UTF-8.
    #[error("the body is not UTF-8")]
    NotUtf8(#[from] std::str::Utf8Error),
}

/// An object in the order of its members.
#[derive(Clone, Debug, Default)]
pub struct RawObject {
    members: Vec<(String, Raw)>,
}

impl RawObject {
    /// Parses an object.
    ///
    /// # Errors
    /// If it is no object, or if it has a member twice: two readers could see different requests.
    pub fn parse(bytes: &[u8]) -> Result<Self, RawError> {
        Ok(serde_json::from_str(std::str::from_utf8(bytes)?)?)
    }

    /// Reads an object; `None` if the value is none.
    pub fn from_raw(raw: &RawValue) -> Option<Self> {
        serde_json::from_str(raw.get()).ok()
    }

    /// Makes an object of a value; empty if it is none.
    pub fn from_value(value: &Value) -> Self {
        serde_json::from_str(&value.to_string()).unwrap_or_default()
    }

    /// The member of this name.
    pub fn get(&self, name: &str) -> Option<&RawValue> {
        self.members.iter().find(|(member, _)| member == name).map(|(_, raw)| &**raw)
    }

    /// The member of this name, unless it is absent or null.
    pub fn get_present(&self, name: &str) -> Option<&RawValue> {
        self.get(name).filter(|raw| raw.get() != "null")
    }

    /// The member of this name as a value; null if it is absent or nested too deeply.
    pub fn value(&self, name: &str) -> Value {
        self.get(name).map_or(Value::Null, to_value)
    }

    /// The member of this name, if it is a string.
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok())
    }

    /// Whether the member of this name is the literal `true`.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|raw| raw.get() == "true")
    }

    /// The member of this name, if it is a whole number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(|raw| raw.get().parse().ok())
    }

    /// The elements of the member of this name; empty if it is no array.
    pub fn list(&self, name: &str) -> Vec<Raw> {
        self.get(name).map(elements).unwrap_or_default()
    }

    /// Sets a member, in its place if it exists.
    pub fn set_raw(&mut self, name: &str, raw: Raw) {
        match self.members.iter_mut().find(|(member, _)| member == name) {
            Some((_, place)) => *place = raw,
            None => self.members.push((name.to_owned(), raw)),
        }
    }

    /// Sets a member, in its place if it exists.
    pub fn set(&mut self, name: &str, value: impl Serialize) {
        self.set_raw(name, raw(value));
    }

    /// Removes a member.
    pub fn remove(&mut self, name: &str) {
        self.members.retain(|(member, _)| member != name);
    }

    /// The names of the members.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|(name, _)| name.as_str())
    }

    /// The object as text.
    pub fn to_raw(&self) -> Raw {
        raw(self)
    }
}

impl fmt::Display for RawObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_raw().get())
    }
}

impl Serialize for RawObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.members.len()))?;
        for (name, raw) in &self.members {
            map.serialize_entry(name, raw)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = RawObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawObject, A::Error> {
                let mut object = RawObject::default();
                while let Some((name, raw)) = map.next_entry::<String, Raw>()? {
                    if object.get(&name).is_some() {
                        return Err(de::Error::custom(format_args!("two members are named {name:?}")));
                    }
                    object.members.push((name, raw));
                }
                Ok(object)
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// The elements of an array; empty if it is none.
pub fn elements(raw: &RawValue) -> Vec<Raw> {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

/// A value of a text; null if it is nested too deeply.
pub fn to_value(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap_or(Value::Null)
}

/// A value as text. What the adapter serialises has string keys, so this never fails.
pub fn raw(value: impl Serialize) -> Raw {
    to_raw_value(&value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_keeps_its_text_and_its_place() {
        let text = r#"{"b":{"x" : 1.0, "y":[ ]},"a":"\u00e9","c":null}"#;
        let mut object = RawObject::parse(text.as_bytes()).unwrap();
        assert_eq!(object.to_string(), text);
        object.set("a", 7);
        object.remove("c");
        assert_eq!(object.to_string(), r#"{"b":{"x" : 1.0, "y":[ ]},"a":7}"#);
        assert!(RawObject::parse(br#"{"a":1,"\u0061":2}"#).is_err());
        assert!(RawObject::parse(b"[]").is_err() && RawObject::parse(b"{\"a\":\"\xff\"}").is_err());
    }
}
