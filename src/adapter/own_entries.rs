//! Finds MCP entries of this gateway where it does not serve them. A vendor that got one would get the
//! gateway's address, and the token in it.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::adapter::json::RawObject;
use crate::adapter::target::{self, Target};
use crate::app::runtime_config::RuntimeConfig;
use crate::service::public_urls::PublicUrls;

/// The most MCP entries of this gateway in one request. Each one opens a session, and lists tools.
pub const MAX_OWN_SERVERS: usize = 16;

/// What makes an entry one of this gateway.
#[derive(Clone, Copy)]
pub struct OwnNames<'a> {
    /// The URLs of the gateway.
    pub urls: &'a PublicUrls,
    /// Its services.
    pub config: &'a RuntimeConfig,
}

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In `mcp_servers`, whose elements have the members `url` and `name`.
    Servers,
    /// In `tool_choice`, which only refers to entries.
    Choice,
    /// Anywhere else.
    Elsewhere,
}

impl Place {
    fn of_member(self, name: &str) -> Self {
        match name {
            _ if self == Self::Choice => self,
            "tool_choice" => Self::Choice,
            "mcp_servers" => Self::Servers,
            _ => Self::Elsewhere,
        }
    }
}

impl OwnNames<'_> {
    /// Whether a text of JSON documents has an entry of this gateway.
    ///
    /// # Errors
    /// If the text is not JSON, or is nested deeper than 128 levels.
    pub fn are_in(self, text: &[u8], place: Place) -> Result<bool, serde_json::Error> {
        let found = Cell::new(false);
        let mut documents = serde_json::Deserializer::from_slice(text);
        while documents.end().is_err() {
            let search = Search {
                names: self,
                place,
                found: &found,
            };
            search.deserialize(&mut documents)?;
        }
        Ok(found.get())
    }

    /// Whether a request has an entry of this gateway, apart from the elements of `list` at the places `served`.
    ///
    /// # Errors
    /// As [`OwnNames::are_in`].
    pub fn are_unserved(self, request: &RawObject, list: &str, served: &[usize]) -> Result<bool, serde_json::Error> {
        for name in request.names() {
            let place = Place::Elsewhere.of_member(name);
            let elements = if name == list { request.list(name) } else { Vec::new() };
            let rest = elements.iter().enumerate().filter(|(position, _)| !served.contains(position));
            for (_, element) in rest {
                if self.are_in(element.get().as_bytes(), place)? {
                    return Ok(true);
                }
            }
            let text = request.get(name).map_or("", |raw| raw.get());
            if elements.is_empty() && self.are_in(text.as_bytes(), place)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_own(self, url: Option<&str>, label: &str) -> bool {
        !matches!(target::find(url, label, self.urls, self.config), Target::Foreign)
    }
}

/// A value, as far as the object around it needs to know.
enum Node {
    Text(String),
    Null,
    Other,
}

/// Reads one value. It keeps no tree, so that a long text takes no more memory than its longest string.
struct Search<'a> {
    names: OwnNames<'a>,
    place: Place,
    found: &'a Cell<bool>,
}

/// The members of an object that can make it an entry. A member can stand there twice, and each reader may
/// take another one: all count.
#[derive(Default)]
struct Members {
    is_mcp: bool,
    /// `server_url`, or `url` in `mcp_servers`.
    urls: Vec<String>,
    /// `server_label`, or `name` in `mcp_servers`.
    labels: Vec<String>,
    /// Whether the entry says in another way whose server it is.
    has_other_target: bool,
}

impl Members {
    fn add(&mut self, name: &str, node: Node, place: Place) {
        match (name, place, node) {
            (_, _, Node::Null) => {}
            ("type", _, Node::Text(kind)) => self.is_mcp |= kind == "mcp",
            ("server_url", _, Node::Text(url)) | ("url", Place::Servers, Node::Text(url)) => self.urls.push(url),
            ("server_label", _, Node::Text(label)) | ("name", Place::Servers, Node::Text(label)) => self.labels.push(label),
            ("server_url" | "connector_id" | "tunnel_id", _, _) | ("url", Place::Servers, _) => self.has_other_target = true,
            (_, _, Node::Text(_) | Node::Other) => {}
        }
    }

    fn are_own(&self, names: OwnNames<'_>, place: Place) -> bool {
        let is_entry = match place {
            Place::Servers => true,
            Place::Elsewhere => self.is_mcp,
            Place::Choice => false,
        };
        let has_no_target = self.urls.is_empty() && !self.has_other_target;
        let by_label = || self.labels.iter().any(|label| names.is_own(None, label));
        self.urls.iter().any(|url| names.is_own(Some(url), "")) || (is_entry && has_no_target && by_label())
    }
}

impl<'de> DeserializeSeed<'de> for Search<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Search<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Node, A::Error> {
        let element = || Search { ..self };
        while elements.next_element_seed(element())?.is_some() {}
        Ok(Node::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut members = Members::default();
        while let Some(name) = map.next_key::<String>()? {
            let value = Search {
                place: self.place.of_member(&name),
                ..self
            };
            members.add(&name, map.next_value_seed(value)?, self.place);
        }
        if members.are_own(self.names, self.place) {
            self.found.set(true);
        }
        Ok(Node::Other)
    }
}
