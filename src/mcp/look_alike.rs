//! Names of members that resemble a name which the gateway reads. Some JSON decoders (`encoding/json` of Go,
//! cJSON, some serializers of .NET) compare names without regard to case: from `Arguments` beside
//! `arguments` they read other arguments than those that a person approved.

use serde_json::{Map, Value};

use crate::mcp::jsonrpc::{MEMBERS, Message};

/// The members of parameters that the gateway reads.
const PARAMS_MEMBERS: [&str; 7] = ["name", "arguments", "_meta", "requestState", "inputResponses", "cursor", "uri"];

/// Why a message could be another one to another reader.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookAlike {
    /// A member has almost the name of another one.
    #[error("a member {found:?} is not accepted, because some JSON readers take it for {expected:?}; use the exact name")]
    Member {
        /// The name in the message.
        found: String,
        /// The name that it resembles.
        expected: &'static str,
    },
    /// The method or the name in the parameters has a control character. Decoders in C end a text at its first
    /// NUL, and so read another method or tool.
    #[error("a `{0}` with a control character is not accepted; send the exact text")]
    ControlCharacter(&'static str),
    /// A response has parameters.
    #[error("a response with `params` is not accepted, because some readers take it for a request")]
    ResponseWithParams,
}

/// Checks the names of the members of a message and of its parameters, and the texts that choose a rule.
///
/// # Errors
/// If a name differs from one that the gateway reads and has the same letters, a response has parameters, or
/// the method or the name of a tool has a control character.
pub fn check(message: &Message) -> Result<(), LookAlike> {
    check_names(message.as_members(), &MEMBERS)?;
    for (name, value) in [
        ("method", message.as_members().get("method")),
        ("params.name", message.param("name")),
    ] {
        if value.and_then(Value::as_str).is_some_and(|text| text.contains(char::is_control)) {
            return Err(LookAlike::ControlCharacter(name));
        }
    }
    match message.params() {
        Some(_) if message.method().is_none() => Err(LookAlike::ResponseWithParams),
        Some(Value::Object(params)) => check_names(params, &PARAMS_MEMBERS),
        Some(_) | None => Ok(()),
    }
}

fn check_names(members: &Map<String, Value>, exact: &[&'static str]) -> Result<(), LookAlike> {
    for name in members.keys() {
        if let Some(expected) = resembled(name, exact) {
            return Err(LookAlike::Member {
                found: name.clone(),
                expected,
            });
        }
    }
    Ok(())
}

/// The one of these names that another name resembles. `None` if it is one of them, or resembles none.
pub fn resembled(name: &str, exact: &[&'static str]) -> Option<&'static str> {
    if exact.contains(&name) {
        return None;
    }
    let name = folded(name);
    exact.iter().copied().find(|exact| folded(exact) == name)
}

/// The name without regard to case: uppercase, then lowercase, so that `ſ` is `s`, and the Kelvin sign is
/// `k`. Decoders in C end a name at its first NUL.
fn folded(name: &str) -> String {
    let name = name.split('\0').next().unwrap_or_default();
    name.to_uppercase().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> bool {
        check(&Message::parse(text.as_bytes()).expect(text)).is_err()
    }

    #[test]
    fn names_that_a_reader_without_regard_to_case_confuses_are_refused() {
        for hostile in [
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","Arguments":{}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","argumentſ":{}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"},"paramſ":{"name":"b"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","NAME":"b"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name\u0000":"b"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call\u0000","params":{"name":"a"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete\u0000"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_META":{}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","ID":2}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","ıd":2}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","JSONRPC":"1.0"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","Result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{},"Method":"tools/call"}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{},"params":{"name":"a"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"a"},"params":{}}"#,
        ] {
            assert!(refused(hostile), "{hostile}");
        }
    }

    #[test]
    fn other_names_pass_and_arguments_may_have_any() {
        for harmless in [
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"Name":1,"name":2,"Arguments":3}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"Method":"tools/call"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"x","params":["Name"],"methods":1,"Other":2}"#,
        ] {
            assert!(!refused(harmless), "{harmless}");
        }
    }
}
