//! The events of the audit log, and their form as JSON.

use serde_json::{Map, Value, json};

use crate::base::ids::Id;
use crate::base::time::UnixTime;
use crate::observe::request_origin::RequestOrigin;

/// The longest text in an event, in characters.
const MAX_TEXT_CHARS: usize = 512;

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditEventKind {
    /// A client registered itself (RFC 7591).
    ClientRegistered,
    /// A browser arrived at the authorization endpoint.
    FlowStarted,
    /// A user signed in, or tried to.
    SignIn,
    /// A user allowed or denied access.
    Consent,
    /// A code became a grant.
    FlowCompleted,
    /// A client got its first tokens.
    TokenIssued,
    /// A client got new tokens for a refresh token.
    TokenRefreshed,
    /// A superseded refresh token got a branch of its own.
    BranchCreated,
    /// A client got no new tokens.
    RefreshFailed,
    /// A token was used that only a second holder of the grant can have.
    ReuseDetected,
    /// A grant or API key ended.
    TokenRevoked,
    /// An API key was used, for the first time since the start or after a pause.
    KeyUsed,
    /// An upstream named another authorization server, without the operator's doing.
    IssuerChanged,
    /// A tool call needs a decision.
    CallProposed,
    /// A call was refused that refers to an approval: the approval is for another call, or void.
    CallRefused,
    /// A person decided about a tool call.
    CallDecided,
    /// An approved tool call is sent.
    CallExecuted,
    /// An approved tool call returned, or its outcome is unknown.
    CallReturned,
    /// A person approved definitions of tools, or reset them.
    PinsChanged,
    /// The configuration was read again.
    ConfigurationChanged,
    /// The log began, or continues in a new file or after a restart.
    Checkpoint,
    /// Events were lost.
    Gap,
}

impl AuditEventKind {
    /// The value of `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientRegistered => "client_registered",
            Self::FlowStarted => "flow_started",
            Self::SignIn => "sign_in",
            Self::Consent => "flow_consent",
            Self::FlowCompleted => "flow_completed",
            Self::TokenIssued => "token_issued",
            Self::TokenRefreshed => "token_refreshed",
            Self::BranchCreated => "token_branch_created",
            Self::RefreshFailed => "token_refresh_failed",
            Self::ReuseDetected => "token_reuse_detected",
            Self::TokenRevoked => "token_revoked",
            Self::KeyUsed => "key_used",
            Self::IssuerChanged => "upstream_issuer_changed",
            Self::CallProposed => "tool_call_proposed",
            Self::CallRefused => "tool_call_refused",
            Self::CallDecided => "tool_call_decided",
            Self::CallExecuted => "tool_call_executed",
            Self::CallReturned => "tool_call_returned",
            Self::PinsChanged => "tool_pins_changed",
            Self::ConfigurationChanged => "configuration_changed",
            Self::Checkpoint => "audit_checkpoint",
            Self::Gap => "audit_gap",
        }
    }
}

/// The outcome of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditOutcome {
    /// It succeeded.
    Success,
    /// It was refused by a rule or a person.
    Denied,
    /// It failed.
    Failure,
}

impl AuditOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Denied => "denied",
            Self::Failure => "failure",
        }
    }
}

/// A value of an event. There is none of a secret:
/// ```compile_fail
/// use mcp_oauth_gateway::{base::secret::Secret, observe::audit::event::AuditValue};
/// fn value(secret: Secret) -> AuditValue { AuditValue::from(secret) }
/// ```
/// ```
/// use mcp_oauth_gateway::{base::ids::Id, observe::audit::event::AuditValue};
/// fn value(id: Id) -> AuditValue { AuditValue::from(id) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditValue(Value);

impl From<&str> for AuditValue {
    fn from(text: &str) -> Self {
        Self(short(text).into())
    }
}

impl From<Id> for AuditValue {
    fn from(id: Id) -> Self {
        Self(id.to_string().into())
    }
}

impl From<u64> for AuditValue {
    fn from(number: u64) -> Self {
        Self(number.into())
    }
}

impl From<u32> for AuditValue {
    fn from(number: u32) -> Self {
        Self(number.into())
    }
}

impl From<u8> for AuditValue {
    fn from(number: u8) -> Self {
        Self(number.into())
    }
}

impl From<bool> for AuditValue {
    fn from(flag: bool) -> Self {
        Self(flag.into())
    }
}

impl From<UnixTime> for AuditValue {
    fn from(time: UnixTime) -> Self {
        Self(time.to_rfc3339().into())
    }
}

impl<T: Into<Self>> From<Option<T>> for AuditValue {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self(Value::Null), Into::into)
    }
}

/// An event of the audit log.
#[derive(Clone, Debug)]
pub struct AuditEvent {
    kind: AuditEventKind,
    outcome: AuditOutcome,
    subjects: Map<String, Value>,
    data: Map<String, Value>,
}

impl AuditEvent {
    /// An event.
    pub fn new(kind: AuditEventKind, outcome: AuditOutcome) -> Self {
        Self {
            kind,
            outcome,
            subjects: Map::new(),
            data: Map::new(),
        }
    }

    /// The user whom it concerns. An empty subject is a user without a login.
    #[must_use]
    pub fn user(mut self, subject: &str) -> Self {
        if !subject.is_empty() {
            self.subjects.insert("user".to_owned(), short(subject).into());
        }
        self
    }

    /// The client whom it concerns.
    #[must_use]
    pub fn client(mut self, client_id: &str) -> Self {
        self.subjects.insert("client_id".to_owned(), short(client_id).into());
        self
    }

    /// The client's name, as it says itself.
    #[must_use]
    pub fn client_name(mut self, name: Option<&str>) -> Self {
        if let Some(name) = name {
            self.subjects.insert("client_name".to_owned(), short(name).into());
        }
        self
    }

    /// A fact of the event.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<AuditValue>) -> Self {
        let AuditValue(value) = value.into();
        self.data.insert(name.to_owned(), value);
        self
    }
}

/// An event with its time and origin.
#[derive(Clone, Debug)]
pub struct AuditRecord {
    /// When it was recorded.
    pub time: UnixTime,
    /// The request that caused it; `None` for the gateway's own work.
    pub origin: Option<RequestOrigin>,
    /// The event.
    pub event: AuditEvent,
}

impl AuditRecord {
    /// The record as JSON, without its place in the chain.
    pub fn to_json(&self) -> Map<String, Value> {
        let (time, event) = (self.time.to_rfc3339(), &self.event);
        let source = match &self.origin {
            Some(origin) => json!({
                "type": "network",
                "value": origin.address.to_string(),
                "extra": { "user_agent": origin.user_agent },
            }),
            None => json!({ "type": "local" }),
        };
        let mut record = Map::new();
        for (name, value) in [
            ("time", time.clone().into()),
            ("logged_at", time.into()),
            ("level", "AUDIT".into()),
            ("msg", "audit_event".into()),
            ("audit_id", Id::random().to_string().into()),
            ("component", "mcp-oauth-gateway".into()),
            ("type", event.kind.as_str().into()),
            ("outcome", event.outcome.as_str().into()),
            ("source", source),
            ("subjects", event.subjects.clone().into()),
            ("data", event.data.clone().into()),
        ] {
            record.insert(name.to_owned(), value);
        }
        record
    }
}

/// A text of bounded length.
fn short(text: &str) -> String {
    text.chars().take(MAX_TEXT_CHARS).collect()
}
