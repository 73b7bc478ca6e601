//! JSON-RPC 2.0 messages and batches, as MCP uses them.

use serde_json::{Map, Value, json};

use crate::mcp::canonical_json;
use crate::mcp::json::{self, JsonError};

/// JSON-RPC: the text is not JSON.
pub const PARSE_ERROR: i64 = -32_700;
/// JSON-RPC: the JSON is no message.
pub const INVALID_REQUEST: i64 = -32_600;
/// JSON-RPC: the method is unknown.
pub const METHOD_NOT_FOUND: i64 = -32_601;
/// JSON-RPC: the parameters of the method are wrong.
pub const INVALID_PARAMS: i64 = -32_602;
/// JSON-RPC: the server failed.
pub const INTERNAL_ERROR: i64 = -32_603;
/// MCP 2026-07-28: a header disagrees with the body.
pub const HEADER_MISMATCH: i64 = -32_020;
/// MCP 2026-07-28: the client lacks a capability that the request needs.
pub const MISSING_CAPABILITY: i64 = -32_021;

/// Why a text is no JSON-RPC message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It is not JSON that every reader understands alike.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// It is JSON, but no JSON-RPC message.
    #[error("the body is no JSON-RPC 2.0 message: {0}")]
    Invalid(&'static str),
}

impl MessageError {
    /// The JSON-RPC error code of the answer.
    pub fn code(&self) -> i64 {
        match self {
            Self::Json(_) => PARSE_ERROR,
            Self::Invalid(_) => INVALID_REQUEST,
        }
    }
}

/// The id of a request: a string or a number (JSON-RPC 2.0 §4; MCP forbids null).
#[derive(Clone, Debug, PartialEq)]
pub struct RequestId(Value);

impl RequestId {
    /// `None` for anything but a string or a number.
    pub fn new(value: Value) -> Option<Self> {
        (value.is_string() || value.is_number()).then_some(Self(value))
    }

    /// The id as JSON.
    pub fn as_value(&self) -> &Value {
        &self.0
    }
}

impl From<u64> for RequestId {
    fn from(number: u64) -> Self {
        Self(Value::from(number))
    }
}

impl From<&str> for RequestId {
    fn from(text: &str) -> Self {
        Self(Value::from(text))
    }
}

/// What kind of message an object is.
#[derive(Clone, Debug, PartialEq)]
pub enum MessageKind {
    /// It calls a method and expects a response.
    Request {
        /// The id that the response repeats.
        id: RequestId,
        /// The method.
        method: String,
    },
    /// It calls a method and expects no response.
    Notification {
        /// The method.
        method: String,
    },
    /// The result of the request with this id.
    Result {
        /// The id of the request.
        id: RequestId,
    },
    /// The error of the request with this id; `None` if the sender could not read the id.
    Error {
        /// The id of the request.
        id: Option<RequestId>,
    },
}

/// The members that JSON-RPC 2.0 defines.
pub const MEMBERS: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];

/// A JSON-RPC message. Members that JSON-RPC does not define are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    kind: MessageKind,
    members: Map<String, Value>,
}

impl Message {
    /// Parses one message.
    ///
    /// # Errors
    /// If it is no message.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        Self::from_value(json::parse(bytes)?)
    }

    /// Parses a message of an upstream, with any numbers: see [`json::parse_answer`].
    ///
    /// # Errors
    /// If it is no message.
    pub fn parse_answer(bytes: &[u8]) -> Result<Self, MessageError> {
        Self::from_value(json::parse_answer(bytes)?)
    }

    /// Reads a message from parsed JSON.
    ///
    /// # Errors
    /// If it is no message.
    pub fn from_value(value: Value) -> Result<Self, MessageError> {
        let Value::Object(members) = value else {
            return Err(MessageError::Invalid("it is no object"));
        };
        let kind = kind_of(&members)?;
        Ok(Self { kind, members })
    }

    /// Makes a request. Without parameters if `params` is null.
    pub fn request(id: RequestId, method: &str, params: Value) -> Self {
        let mut members = base_members(Some(&id));
        members.insert("method".to_owned(), Value::from(method));
        insert_params(&mut members, params);
        let method = method.to_owned();
        Self {
            kind: MessageKind::Request { id, method },
            members,
        }
    }

    /// Makes a notification. Without parameters if `params` is null.
    pub fn notification(method: &str, params: Value) -> Self {
        let mut members = base_members(None);
        members.insert("method".to_owned(), Value::from(method));
        insert_params(&mut members, params);
        let method = method.to_owned();
        Self {
            kind: MessageKind::Notification { method },
            members,
        }
    }

    /// Makes a successful response.
    pub fn result(id: RequestId, result: Value) -> Self {
        let mut members = base_members(Some(&id));
        members.insert("result".to_owned(), result);
        Self {
            kind: MessageKind::Result { id },
            members,
        }
    }

    /// Makes an error response; `data` is left out if it is null.
    pub fn error(id: Option<RequestId>, code: i64, message: &str, data: Value) -> Self {
        let mut error = json!({"code": code, "message": message});
        if !data.is_null() {
            error["data"] = data;
        }
        let mut members = base_members(id.as_ref());
        members.entry("id").or_insert(Value::Null);
        members.insert("error".to_owned(), error);
        Self {
            kind: MessageKind::Error { id },
            members,
        }
    }

    /// What kind of message it is.
    pub fn kind(&self) -> &MessageKind {
        &self.kind
    }

    /// The method of a request or notification.
    pub fn method(&self) -> Option<&str> {
        match &self.kind {
            MessageKind::Request { method, .. } | MessageKind::Notification { method } => Some(method),
            MessageKind::Result { .. } | MessageKind::Error { .. } => None,
        }
    }

    /// The id of a request or response.
    pub fn id(&self) -> Option<&RequestId> {
        match &self.kind {
            MessageKind::Request { id, .. } | MessageKind::Result { id } => Some(id),
            MessageKind::Error { id } => id.as_ref(),
            MessageKind::Notification { .. } => None,
        }
    }

    /// Whether it expects a response.
    pub fn is_request(&self) -> bool {
        matches!(self.kind, MessageKind::Request { .. })
    }

    /// The whole message.
    pub fn as_members(&self) -> &Map<String, Value> {
        &self.members
    }

    /// The parameters of a request or notification.
    pub fn params(&self) -> Option<&Value> {
        self.members.get("params")
    }

    /// The parameter of this name.
    pub fn param(&self, name: &str) -> Option<&Value> {
        self.params()?.get(name)
    }

    /// The parameters as an object, made if absent; `None` if they are an array.
    pub fn params_mut(&mut self) -> Option<&mut Map<String, Value>> {
        let params = self.members.entry("params").or_insert_with(|| Value::Object(Map::new()));
        params.as_object_mut()
    }

    /// The result of a successful response.
    pub fn result_value(&self) -> Option<&Value> {
        self.members.get("result")
    }

    /// The result of a successful response.
    pub fn result_mut(&mut self) -> Option<&mut Value> {
        self.members.get_mut("result")
    }

    /// Code and message of an error response.
    pub fn error_value(&self) -> Option<&Value> {
        self.members.get("error")
    }

    /// Removes the members that JSON-RPC does not have. A reader without regard to case could take one of them
    /// for another member.
    pub fn remove_other_members(&mut self) {
        self.members.retain(|name, _| MEMBERS.contains(&name.as_str()));
    }

    /// The message as JSON.
    pub fn into_value(self) -> Value {
        Value::Object(self.members)
    }

    /// The message as canonical JSON: what is forwarded is what a digest was made of.
    pub fn to_text(&self) -> String {
        canonical_json::to_text(&Value::Object(self.members.clone()))
    }
}

/// The content of one body.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// One message.
    Single(Message),
    /// A batch, with at least one message (MCP 2025-03-26 only).
    Batch(Vec<Message>),
}

impl Payload {
    /// Parses a body.
    ///
    /// # Errors
    /// If it is neither a message nor a batch of messages.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        Self::from_value(json::parse(bytes)?)
    }

    /// Parses a body of an upstream, with any numbers: see [`json::parse_answer`].
    ///
    /// # Errors
    /// If it is neither a message nor a batch of messages.
    pub fn parse_answer(bytes: &[u8]) -> Result<Self, MessageError> {
        Self::from_value(json::parse_answer(bytes)?)
    }

    fn from_value(value: Value) -> Result<Self, MessageError> {
        let Value::Array(items) = value else {
            return Ok(Self::Single(Message::from_value(value)?));
        };
        if items.is_empty() {
            return Err(MessageError::Invalid("the batch is empty"));
        }
        let messages: Result<_, _> = items.into_iter().map(Message::from_value).collect();
        Ok(Self::Batch(messages?))
    }

    /// The messages.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        let (single, batch) = match self {
            Self::Single(message) => (Some(message), [].as_slice()),
            Self::Batch(messages) => (None, messages.as_slice()),
        };
        single.into_iter().chain(batch)
    }

    /// The payload as canonical JSON.
    pub fn to_text(&self) -> String {
        match self {
            Self::Single(message) => message.to_text(),
            Self::Batch(messages) => {
                let texts: Vec<String> = messages.iter().map(Message::to_text).collect();
                format!("[{}]", texts.join(","))
            }
        }
    }
}

fn base_members(id: Option<&RequestId>) -> Map<String, Value> {
    let mut members = Map::new();
    members.insert("jsonrpc".to_owned(), Value::from("2.0"));
    if let Some(id) = id {
        members.insert("id".to_owned(), id.as_value().clone());
    }
    members
}

fn insert_params(members: &mut Map<String, Value>, params: Value) {
    if !params.is_null() {
        members.insert("params".to_owned(), params);
    }
}

fn kind_of(members: &Map<String, Value>) -> Result<MessageKind, MessageError> {
    if members.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(MessageError::Invalid("`jsonrpc` is not \"2.0\""));
    }
    let id = match members.get("id") {
        None => None,
        Some(Value::Null) if members.contains_key("error") => None,
        Some(id) => Some(RequestId::new(id.clone()).ok_or(MessageError::Invalid("`id` is neither a string nor a number"))?),
    };
    let (result, error) = (members.contains_key("result"), members.get("error"));
    if let Some(method) = members.get("method") {
        let method = method.as_str().ok_or(MessageError::Invalid("`method` is no string"))?.to_owned();
        if result || error.is_some() {
            return Err(MessageError::Invalid("it is a request and a response"));
        }
        if members
            .get("params")
            .is_some_and(|params| !params.is_object() && !params.is_array())
        {
            return Err(MessageError::Invalid("`params` is neither an object nor an array"));
        }
        return Ok(match id {
            Some(id) => MessageKind::Request { id, method },
            None => MessageKind::Notification { method },
        });
    }
    match (result, error, id) {
        (true, None, Some(id)) => Ok(MessageKind::Result { id }),
        (false, Some(Value::Object(_)), id) => Ok(MessageKind::Error { id }),
        (true, None, None) => Err(MessageError::Invalid("a result has no `id`")),
        (true, Some(_), _) => Err(MessageError::Invalid("it has a result and an error")),
        (false, Some(_), _) => Err(MessageError::Invalid("`error` is no object")),
        (false, None, _) => Err(MessageError::Invalid("it has no `method`, `result` or `error`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_json_rpc_does_not_have_can_be_removed() {
        let text = r#"{"id":1,"jsonrpc":"2.0","result":{},"reſult":{"tools":[]},"x":1}"#;
        let mut message = Message::parse_answer(text.as_bytes()).unwrap();
        message.remove_other_members();
        assert_eq!(message.to_text(), r#"{"id":1,"jsonrpc":"2.0","result":{}}"#);
    }
}
