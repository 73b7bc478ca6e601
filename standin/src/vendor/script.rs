//! What the model does in one turn.

use std::collections::BTreeMap;

use serde_json::Value;

/// One answer of the model. A test queues turns with [`Vendor::script`](super::Vendor::script). A program
/// that cannot writes them into its last text of the user: `script:[{…}, {…}]`, with these fields as
/// names; the turn of a request is then the number of rounds after that text.
///
/// Without a script, a model that has tools calls the first one with `{"text": the user's text}`, and
/// then repeats the result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Turn {
    /// The parts of the text, each of which is one event.
    pub say: Vec<String>,
    /// Whether a reasoning item, or a thinking block, precedes.
    pub think: bool,
    /// The calls, in order.
    pub calls: Vec<ModelCall>,
    /// Items or blocks before the calls, sent as they are.
    pub items: Vec<Value>,
    /// Events after the first one, sent as they are.
    pub events: Vec<Value>,
    /// Answer with this status instead.
    pub status: Option<u16>,
    /// The body of that answer; otherwise one in the vendor's shape.
    pub body: Option<Value>,
    /// Extra headers.
    pub headers: Vec<(String, String)>,
    /// How long the head of the answer takes.
    pub head_ms: u64,
    /// How long the first event takes after the head.
    pub first_byte_ms: u64,
    /// The time between events.
    pub pause_ms: u64,
    /// Break the connection after this number of events.
    pub cut_after: Option<usize>,
    /// Why the answer is not complete: `incomplete_details.reason`, or the `stop_reason`.
    pub stop: Option<String>,
    /// End the stream with an error event.
    pub fails: bool,
    /// Close the connection without an answer.
    pub drops: bool,
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelCall {
    /// The function's name.
    pub name: String,
    /// The arguments, as the model wrote them; perhaps no JSON.
    pub arguments: String,
}

impl Turn {
    /// A text.
    pub fn say(text: &str) -> Self {
        Self {
            say: vec![text.to_owned()],
            ..Self::default()
        }
    }

    /// One call.
    pub fn call(name: &str, arguments: &str) -> Self {
        Self::default().and_call(name, arguments)
    }

    /// A further call.
    #[must_use]
    pub fn and_call(mut self, name: &str, arguments: &str) -> Self {
        self.calls.push(ModelCall {
            name: name.to_owned(),
            arguments: arguments.to_owned(),
        });
        self
    }

    /// The same with reasoning.
    #[must_use]
    pub fn thinking(mut self) -> Self {
        self.think = true;
        self
    }

    /// An error.
    pub fn status(status: u16) -> Self {
        Self {
            status: Some(status),
            ..Self::default()
        }
    }

    /// Reads a turn from its JSON form. Unknown members are ignored.
    fn from_json(value: &Value) -> Self {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let say = match &value["say"] {
            Value::String(text) => vec![text.clone()],
            parts => list(parts).iter().map(text).collect(),
        };
        let call = |call: &Value| ModelCall {
            name: text(&call["name"]),
            arguments: text(&call["arguments"]),
        };
        let headers: BTreeMap<String, Value> = serde_json::from_value(value["headers"].clone()).unwrap_or_default();
        Self {
            say,
            think: value["think"] == true,
            calls: list(&value["calls"]).iter().map(call).collect(),
            items: list(&value["items"]),
            events: list(&value["events"]),
            status: value["status"].as_u64().and_then(|status| u16::try_from(status).ok()),
            body: value.get("body").cloned(),
            headers: headers.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
            head_ms: value["head_ms"].as_u64().unwrap_or(0),
            first_byte_ms: value["first_byte_ms"].as_u64().unwrap_or(0),
            pause_ms: value["pause_ms"].as_u64().unwrap_or(0),
            cut_after: value["cut_after"].as_u64().and_then(|n| usize::try_from(n).ok()),
            stop: value["stop"].as_str().map(str::to_owned),
            fails: value["fails"] == true,
            drops: value["drops"] == true,
        }
    }
}

/// A step of a conversation, as both vendors' requests show it.
pub(super) enum Step {
    /// A text of the user.
    User(String),
    /// Results of tools, as text.
    Results(String),
    /// Anything else.
    Other,
}

/// The turn of a request that has this conversation and these tools.
pub(super) fn turn_of(steps: &[Step], tools: &[String]) -> Turn {
    let last = steps.iter().rposition(|step| matches!(step, Step::User(_)));
    let (user, after) = match last.map(|index| (&steps[index], &steps[index + 1..])) {
        Some((Step::User(text), after)) => (text.as_str(), after),
        _ => ("", steps),
    };
    let rounds = after.iter().filter(|step| matches!(step, Step::Results(_))).count();
    if let Some(script) = user.find("script:").map(|at| &user[at + "script:".len()..]) {
        let mut values = serde_json::Deserializer::from_str(script).into_iter::<Value>();
        let turns = values.next().and_then(Result::ok);
        let turn = turns.as_ref().and_then(|turns| turns.get(rounds)).map(Turn::from_json);
        return turn.unwrap_or_else(|| Turn::say("The script has ended."));
    }
    let result = after.iter().rev().find_map(|step| match step {
        Step::Results(text) => Some(text),
        Step::User(_) | Step::Other => None,
    });
    match (result, tools.first()) {
        (Some(result), _) => Turn::say(&format!("The tool says: {result}")).thinking(),
        (None, Some(tool)) => Turn::call(tool, &serde_json::json!({ "text": user }).to_string()).thinking(),
        (None, None) => Turn::say(&format!("You said: {user}")),
    }
}
