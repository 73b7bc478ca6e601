//! Tool definitions, and the digests by which a person approves them.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::base::ids::Digest;
use crate::mcp::canonical_json;

/// The members of a definition that its digest covers. What a model or a person reads to decide about a
/// call is among them; `icons`, `_meta` and `execution` are not.
pub const PINNED_MEMBERS: [&str; 6] = ["name", "title", "description", "inputSchema", "outputSchema", "annotations"];

/// The definition of one tool, as `tools/list` sends it.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolDefinition {
    name: String,
    members: Map<String, Value>,
    /// The pinned parts of the further definitions of this name in the same list.
    duplicates: Vec<Value>,
}

/// The member of the pinned part that has further definitions of the same name. No definition of an
/// upstream can bring it.
const DUPLICATES_MEMBER: &str = "duplicates";

impl ToolDefinition {
    /// Reads a definition. `None` if it has no name.
    pub fn from_value(value: &Value) -> Option<Self> {
        let members = value.as_object()?.clone();
        let name = members.get("name")?.as_str()?.to_owned();
        Some(Self {
            name,
            members,
            duplicates: Vec::new(),
        })
    }

    /// Reads a list. Several definitions of one name become one, with a digest of its own: the gateway cannot
    /// know which of them a client shows.
    pub fn from_list<'a>(values: impl IntoIterator<Item = &'a Value>) -> Vec<Self> {
        let mut tools: Vec<Self> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for tool in values.into_iter().filter_map(Self::from_value) {
            if let Some(first) = places.get(tool.name()).and_then(|place| tools.get_mut(*place)) {
                first.duplicates.push(tool.pinned());
            } else {
                places.insert(tool.name.clone(), tools.len());
                tools.push(tool);
            }
        }
        tools
    }

    /// Whether the list has more than one definition of this name.
    pub fn is_ambiguous(&self) -> bool {
        !self.duplicates.is_empty()
    }

    /// The name. Names compare by bytes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The title: that of the definition, or that of the annotations.
    pub fn title(&self) -> Option<&str> {
        let annotated = || self.members.get("annotations")?.get("title");
        self.members.get("title").or_else(annotated)?.as_str()
    }

    /// The description.
    pub fn description(&self) -> Option<&str> {
        self.members.get("description")?.as_str()
    }

    /// The JSON schema of the arguments.
    pub fn input_schema(&self) -> Option<&Value> {
        self.members.get("inputSchema")
    }

    /// The JSON schema of the structured result.
    pub fn output_schema(&self) -> Option<&Value> {
        self.members.get("outputSchema")
    }

    /// The annotations.
    pub fn annotations(&self) -> Option<&Value> {
        self.members.get("annotations")
    }

    /// Whether the server says that the tool changes nothing. Believed only in a definition that a person
    /// approved.
    pub fn has_read_only_hint(&self) -> bool {
        self.annotations().and_then(|annotations| annotations.get("readOnlyHint")) == Some(&Value::Bool(true))
    }

    /// The pinned part of the definition: members without a value are left out.
    pub fn pinned(&self) -> Value {
        let is_pinned = |(name, value): &(&String, &Value)| PINNED_MEMBERS.contains(&name.as_str()) && !value.is_null();
        let members = self.members.iter().filter(is_pinned);
        let mut members: Map<String, Value> = members.map(|(name, value)| (name.clone(), value.clone())).collect();
        if self.is_ambiguous() {
            members.insert(DUPLICATES_MEMBER.to_owned(), self.duplicates.clone().into());
        }
        Value::Object(members)
    }

    /// The definition of an upstream with this pinned part instead of its own. `None` if the pinned part is of
    /// several definitions.
    pub fn with_pinned(upstream: &Value, pinned: Map<String, Value>) -> Option<Value> {
        let mut members = upstream.as_object()?.clone();
        members.retain(|name, _| !PINNED_MEMBERS.contains(&name.as_str()));
        if pinned.contains_key(DUPLICATES_MEMBER) {
            return None;
        }
        members.extend(pinned);
        Some(Value::Object(members))
    }

    /// The digest of the pinned part.
    pub fn digest(&self) -> Digest {
        canonical_json::digest(&self.pinned())
    }

    /// The whole definition.
    pub fn as_members(&self) -> &Map<String, Value> {
        &self.members
    }
}

/// The digest of a set of names.
pub fn names_digest<'a>(names: impl IntoIterator<Item = &'a str>) -> Digest {
    let mut sorted: Vec<&str> = names.into_iter().collect();
    sorted.sort_by(|left, right| left.encode_utf16().cmp(right.encode_utf16()));
    sorted.dedup();
    canonical_json::digest(&Value::from(sorted))
}

/// The arguments of a `tools/call`: an absent member is an empty object.
pub fn call_arguments(params: Option<&Value>) -> Value {
    let arguments = params.and_then(|params| params.get("arguments"));
    arguments.cloned().unwrap_or_else(|| Value::Object(Map::new()))
}

/// How the definition of a tool compares with its pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinStatus {
    /// Definitions are not pinned here.
    Off,
    /// The definition is the pinned one.
    Pinned {
        /// A person approved it, and it says that the tool changes nothing.
        is_read_only: bool,
    },
    /// The pin comes from the first list of the service, which a person must approve first.
    Quarantined,
    /// The definition is another one than the pinned one.
    Changed,
    /// The upstream lists the tool, and it has no pin.
    New,
    /// The upstream does not list the tool.
    Unlisted,
}
