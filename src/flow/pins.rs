//! The pins of a service: the definitions of its tools, as the gateway saw them first or a person
//! approved them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::base::ids::{Digest, Id};
use crate::base::record::{Record, states};
use crate::base::time::UnixTime;
use crate::mcp::canonical_json;
use crate::mcp::json;
use crate::mcp::tool::{PinStatus, ToolDefinition};

/// The most tools of a service.
pub const MAX_TOOLS: usize = 2_000;
/// The longest definition whose text is kept, in bytes. Of a longer one, only the digest is.
const MAX_TEXT_BYTES: usize = 32 * 1024;
/// The most bytes of texts that are kept.
const MAX_TEXTS_BYTES: usize = 512 * 1024;

/// Why pins are not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// The digest is another one than the person saw.
    #[error("the definition is another one than the expected one")]
    OtherDigest,
    /// There is no such tool.
    #[error("the service has no such tool")]
    NoSuchTool,
    /// The upstream lists too many tools.
    #[error("the upstream lists more than {MAX_TOOLS} tools")]
    TooMany,
}

/// One definition of a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedDefinition {
    /// Its digest.
    pub digest: Digest,
    /// Its canonical text; `None` if it is too long.
    pub text: Option<String>,
    /// Whether it says that the tool changes nothing.
    pub is_read_only: bool,
    /// When the gateway saw it first.
    pub seen: UnixTime,
}

/// The pin of one tool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolPin {
    /// The definition that counts; `None` for a tool that is new since the first list.
    pub pinned: Option<PinnedDefinition>,
    /// Who approved it; `None` if nobody did.
    pub approved_by: Option<String>,
    /// Another definition, which the gateway saw last.
    pub candidate: Option<PinnedDefinition>,
    /// Whether a person must approve the tool before it can be called.
    pub is_quarantined: bool,
}

impl ToolPin {
    /// The definition that a person would approve.
    pub fn latest(&self) -> Option<&PinnedDefinition> {
        self.candidate.as_ref().or(self.pinned.as_ref())
    }
}

/// The pins of a service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pinned {
    service: String,
    tools: BTreeMap<String, ToolPin>,
}

/// The record of the pins of a service.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
pub enum PinsRecord {
    /// See [`Pinned`].
    Pinned(Pinned),
}

states!(PinsRecord: Pinned);

impl Pinned {
    /// The first list of a service. With `is_quarantined`, a person must approve it. Of a name with several
    /// definitions, none is pinned.
    ///
    /// # Errors
    /// If there are too many tools.
    pub fn new(service: &str, tools: &[ToolDefinition], is_quarantined: bool, now: UnixTime) -> Result<Self, PinError> {
        let mut texts = 0;
        let mut pin = |tool: &ToolDefinition| {
            let seen = Some(definition(tool, &mut texts, now));
            let (pinned, candidate) = if tool.is_ambiguous() { (None, seen) } else { (seen, None) };
            ToolPin {
                pinned,
                candidate,
                is_quarantined,
                ..ToolPin::default()
            }
        };
        let tools: BTreeMap<_, _> = tools.iter().map(|tool| (tool.name().to_owned(), pin(tool))).collect();
        check_count(&tools)?;
        Ok(Self {
            service: service.to_owned(),
            tools,
        })
    }

    /// The gateway saw this list. What differs from its pin becomes a candidate; an absent tool changes
    /// nothing.
    ///
    /// # Errors
    /// If there are too many tools.
    pub fn listed(mut self, tools: &[ToolDefinition], now: UnixTime) -> Result<Self, PinError> {
        let mut texts = self.text_bytes();
        for tool in tools {
            let pin = self.tools.entry(tool.name().to_owned()).or_default();
            let is_known = |known: &Option<PinnedDefinition>, digest| known.as_ref().is_some_and(|known| known.digest == digest);
            let digest = tool.digest();
            if !is_known(&pin.pinned, digest.clone()) && !is_known(&pin.candidate, digest) {
                pin.candidate = Some(definition(tool, &mut texts, now));
            }
        }
        check_count(&self.tools)?;
        Ok(self)
    }

    /// A person approves the latest definition of a tool, which must have this digest.
    ///
    /// # Errors
    /// If there is no such tool, or its latest definition is another one.
    pub fn approved(mut self, tool: &str, expected: &Digest, by: &str) -> Result<Self, PinError> {
        let pin = self.tools.get_mut(tool).ok_or(PinError::NoSuchTool)?;
        if pin.latest().is_none_or(|latest| latest.digest != *expected) {
            return Err(PinError::OtherDigest);
        }
        pin.approve(by);
        Ok(self)
    }

    /// A person approves the latest definitions of all tools, which must have this digest together.
    ///
    /// # Errors
    /// If the definitions are others.
    pub fn all_approved(mut self, expected: &Digest, by: &str) -> Result<Self, PinError> {
        if self.digest() != *expected {
            return Err(PinError::OtherDigest);
        }
        for pin in self.tools.values_mut() {
            pin.approve(by);
        }
        Ok(self)
    }

    /// Whether [`Pinned::listed`] would change nothing.
    pub fn knows(&self, tools: &[ToolDefinition]) -> bool {
        let is_known = |tool: &ToolDefinition| {
            let (Some(pin), digest) = (self.tools.get(tool.name()), tool.digest()) else {
                return false;
            };
            [&pin.pinned, &pin.candidate]
                .into_iter()
                .flatten()
                .any(|known| known.digest == digest)
        };
        tools.iter().all(is_known)
    }

    /// How the definition that the upstream lists compares with the pin of this tool.
    pub fn status(&self, tool: &str, listed: Option<&Digest>) -> PinStatus {
        let Some(listed) = listed else { return PinStatus::Unlisted };
        let Some(pin) = self.tools.get(tool) else { return PinStatus::New };
        match &pin.pinned {
            _ if pin.is_quarantined => PinStatus::Quarantined,
            None => PinStatus::New,
            Some(pinned) if pinned.digest == *listed => PinStatus::Pinned {
                is_read_only: pinned.is_read_only && pin.approved_by.is_some(),
            },
            Some(_) => PinStatus::Changed,
        }
    }

    /// The pinned part of the definition that counts. `None` if there is none, or its text is not kept.
    pub fn pinned_part(&self, tool: &str) -> Option<Map<String, Value>> {
        let text = self.tools.get(tool)?.pinned.as_ref()?.text.as_ref()?;
        match json::parse_answer(text.as_bytes()) {
            Ok(Value::Object(members)) => Some(members),
            Ok(_) | Err(_) => None,
        }
    }

    /// The service.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The pins by tool name.
    pub fn tools(&self) -> &BTreeMap<String, ToolPin> {
        &self.tools
    }

    /// The digest of the latest definitions of all tools.
    pub fn digest(&self) -> Digest {
        let latest = |(name, pin): (&String, &ToolPin)| json!([name, pin.latest().map(|latest| latest.digest.to_hex())]);
        canonical_json::digest(&self.tools.iter().map(latest).collect())
    }

    fn text_bytes(&self) -> usize {
        let definitions = self.tools.values().flat_map(|pin| [&pin.pinned, &pin.candidate]);
        definitions.flatten().filter_map(|known| known.text.as_ref()).map(String::len).sum()
    }
}

impl ToolPin {
    fn approve(&mut self, by: &str) {
        if let Some(candidate) = self.candidate.take() {
            self.pinned = Some(candidate);
        }
        self.approved_by = Some(by.to_owned());
        self.is_quarantined = false;
    }
}

impl PinsRecord {
    /// The pins.
    pub fn pins(&self) -> &Pinned {
        let Self::Pinned(pins) = self;
        pins
    }

    /// The id of the record of a service.
    pub fn id(service: &str) -> Id {
        Id(Digest::new(&format!("pins of the tools of service {service}")).truncated())
    }
}

impl Record for PinsRecord {
    const KIND: &'static str = "tool-pins";

    fn expires_at(&self) -> UnixTime {
        UnixTime::NEVER
    }
}

fn definition(tool: &ToolDefinition, texts: &mut usize, now: UnixTime) -> PinnedDefinition {
    let text = canonical_json::to_text(&tool.pinned());
    let is_kept = text.len() <= MAX_TEXT_BYTES && *texts + text.len() <= MAX_TEXTS_BYTES;
    *texts += if is_kept { text.len() } else { 0 };
    PinnedDefinition {
        digest: Digest::new(&text),
        text: is_kept.then_some(text),
        is_read_only: tool.has_read_only_hint(),
        seen: now,
    }
}

fn check_count(tools: &BTreeMap<String, ToolPin>) -> Result<(), PinError> {
    if tools.len() > MAX_TOOLS { Err(PinError::TooMany) } else { Ok(()) }
}
