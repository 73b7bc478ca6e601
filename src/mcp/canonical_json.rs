//! Canonical JSON (RFC 8785): one text for each value, so that a digest stands for a value. The text is
//! read back by [`crate::mcp::json`] only: `serde_json` rounds some fractions differently.

use serde_json::{Map, Number, Value};

use crate::base::ids::Digest;

/// Writes the canonical text of a value.
pub fn to_text(value: &Value) -> String {
    let mut text = String::new();
    write_value(&mut text, value);
    text
}

/// The SHA-256 digest of the canonical text of a value.
pub fn digest(value: &Value) -> Digest {
    Digest::new(&to_text(value))
}

fn write_value(text: &mut String, value: &Value) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        Value::Number(number) => write_number(text, number),
        Value::String(string) => write_string(text, string),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_value(text, item);
            }
            text.push(']');
        }
        Value::Object(members) => write_object(text, members),
    }
}

/// Writes an object. Its members are sorted by the UTF-16 code units of their names (RFC 8785 §3.2.3).
fn write_object(text: &mut String, members: &Map<String, Value>) {
    let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
    sorted.sort_by(|(left, _), (right, _)| left.encode_utf16().cmp(right.encode_utf16()));
    text.push('{');
    for (index, (name, value)) in sorted.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write_string(text, name);
        text.push(':');
        write_value(text, value);
    }
    text.push('}');
}

/// Writes a string with the shortest escapes (RFC 8785 §3.2.2.2).
fn write_string(text: &mut String, string: &str) {
    use std::fmt::Write as _;
    text.push('"');
    for character in string.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\u{c}' => text.push_str("\\f"),
            '\r' => text.push_str("\\r"),
            control if control < '\u{20}' => {
                let _ = write!(text, "\\u{:04x}", u32::from(control));
            }
            plain => text.push(plain),
        }
    }
    text.push('"');
}

/// Writes a number as ECMAScript prints it (RFC 8785 §3.2.2.3; ECMA-262, `Number::toString`). An integer of 64
/// bits keeps all its digits: ECMAScript would round it beyond 2^53.
fn write_number(text: &mut String, number: &Number) {
    use std::fmt::Write as _;
    if number.is_i64() || number.is_u64() {
        let _ = write!(text, "{number}");
        return;
    }
    let float = number.as_f64().unwrap_or_default();
    if float == 0.0 {
        text.push('0');
        return;
    }
    if float < 0.0 {
        text.push('-');
    }
    // The shortest digits that read back as the same number, and the exponent of the first one.
    let scientific = format!("{:e}", float.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    if (0..21).contains(&exponent) {
        let before_point = exponent + 1;
        if count <= before_point {
            text.push_str(&digits);
            text.extend(std::iter::repeat_n('0', usize::try_from(before_point - count).unwrap_or_default()));
        } else {
            let (whole, fraction) = digits.split_at(usize::try_from(before_point).unwrap_or_default());
            let _ = write!(text, "{whole}.{fraction}");
        }
    } else if (-6..0).contains(&exponent) {
        let zeros = usize::try_from(-exponent - 1).unwrap_or_default();
        let _ = write!(text, "0.{}{digits}", "0".repeat(zeros));
    } else {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(text, "{first}{point}{rest}e{sign}{}", exponent.abs());
    }
}
