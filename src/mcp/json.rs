//! A strict JSON reader (RFC 8259, with the restrictions of I-JSON, RFC 7493). What it accepts has one
//! meaning for every other reader: an upstream never sees other arguments than those that a person
//! approved.

use std::str::Chars;

use serde_json::{Map, Number, Value};

/// How deep arrays and objects may be nested.
pub const MAX_DEPTH: usize = 64;

/// The largest integer that every reader of JSON represents exactly: 2^53 − 1 (RFC 7493 §2.2).
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

const MAX_SAFE_FLOAT: f64 = 9_007_199_254_740_991.0;

/// From here on ECMAScript prints a number with an exponent, so it is no integer to any reader.
const FIRST_PRINTED_WITH_EXPONENT: f64 = 1e21;

/// Why a text is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The bytes are not UTF-8.
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// The text is not JSON.
    #[error("the body is not JSON (at byte {0})")]
    Syntax(usize),
    /// An object has two members of this name.
    #[error("an object of the body has two members {0:?}")]
    DuplicateKey(String),
    /// A string escapes half of a surrogate pair.
    #[error("a string of the body has a lone surrogate (at byte {0})")]
    LoneSurrogate(usize),
    /// Arrays and objects are nested deeper than [`MAX_DEPTH`].
    #[error("the body is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// An integer beyond ±(2^53 − 1), or a number that is not finite.
    #[error("a number of the body is out of the range that JSON readers agree on: {0}")]
    NumberOutOfRange(String),
}

/// Parses one JSON document.
///
/// # Errors
/// If it is not JSON, or two readers could understand it differently.
pub fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    read(bytes, Numbers::Exact)
}

/// Parses one JSON document of an upstream, with any numbers: schemas and results have integers of 64 bits, which
/// keep all their digits. Another number counts as the nearest double (IEEE 754), and a larger one than all
/// doubles as the largest. So each text has one canonical form, and one digest.
///
/// # Errors
/// As [`parse`], except for numbers.
pub fn parse_answer(bytes: &[u8]) -> Result<Value, JsonError> {
    read(bytes, Numbers::Any)
}

fn read(bytes: &[u8], numbers: Numbers) -> Result<Value, JsonError> {
    let text = std::str::from_utf8(bytes).map_err(|_| JsonError::NotUtf8)?;
    let mut reader = Reader { text, at: 0, numbers };
    let value = reader.value(0)?;
    reader.skip_whitespace();
    if reader.at == text.len() { Ok(value) } else { Err(reader.syntax()) }
}

/// Which numbers are accepted.
#[derive(Clone, Copy)]
enum Numbers {
    /// Those that each reader represents exactly.
    Exact,
    /// All.
    Any,
}

struct Reader<'a> {
    text: &'a str,
    /// The offset of the next byte; always the start of a character.
    at: usize,
    numbers: Numbers,
}

impl Reader<'_> {
    fn syntax(&self) -> JsonError {
        JsonError::Syntax(self.at)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_whitespace(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Takes this ASCII character, after whitespace.
    fn take(&mut self, expected: u8) -> bool {
        self.skip_whitespace();
        let is_next = self.peek() == Some(expected);
        self.at += usize::from(is_next);
        is_next
    }

    fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.skip_whitespace();
        match self.peek() {
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b'"') => Ok(Value::String(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true", Value::Bool(true)),
            Some(b'f') => self.literal("false", Value::Bool(false)),
            Some(b'n') => self.literal("null", Value::Null),
            Some(_) | None => Err(self.syntax()),
        }
    }

    fn literal(&mut self, word: &str, value: Value) -> Result<Value, JsonError> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.syntax());
        }
        self.at += word.len();
        Ok(value)
    }

    fn array(&mut self, depth: usize) -> Result<Value, JsonError> {
        if depth > MAX_DEPTH {
            return Err(JsonError::TooDeep);
        }
        self.at += 1;
        let mut items = Vec::new();
        if self.take(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth)?);
            if self.take(b']') {
                return Ok(Value::Array(items));
            }
            if !self.take(b',') {
                return Err(self.syntax());
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, JsonError> {
        if depth > MAX_DEPTH {
            return Err(JsonError::TooDeep);
        }
        self.at += 1;
        let mut members = Map::new();
        if self.take(b'}') {
            return Ok(Value::Object(members));
        }
        loop {
            self.skip_whitespace();
            if self.peek() != Some(b'"') {
                return Err(self.syntax());
            }
            let name = self.string()?;
            if !self.take(b':') {
                return Err(self.syntax());
            }
            let value = self.value(depth)?;
            if members.contains_key(&name) {
                return Err(JsonError::DuplicateKey(name));
            }
            members.insert(name, value);
            if self.take(b'}') {
                return Ok(Value::Object(members));
            }
            if !self.take(b',') {
                return Err(self.syntax());
            }
        }
    }

    /// Reads a string that begins here.
    fn string(&mut self) -> Result<String, JsonError> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest
                .find(|c: char| c == '"' || c == '\\' || c < '\u{20}')
                .ok_or(JsonError::Syntax(self.text.len()))?;
            text.push_str(&rest[..plain]);
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => text.push(self.escape()?),
                Some(_) | None => return Err(self.syntax()),
            }
        }
    }

    /// Reads an escape sequence that begins here.
    fn escape(&mut self) -> Result<char, JsonError> {
        let start = self.at;
        self.at += 1;
        let letter = self.peek().ok_or_else(|| self.syntax())?;
        let plain = match letter {
            b'"' | b'\\' | b'/' => char::from(letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(start),
            _ => return Err(self.syntax()),
        };
        self.at += 1;
        Ok(plain)
    }

    /// Reads `uXXXX`, and the second half of a surrogate pair.
    fn unicode_escape(&mut self, start: usize) -> Result<char, JsonError> {
        let first = self.code_unit()?;
        if let Some(character) = char::from_u32(u32::from(first)) {
            return Ok(character);
        }
        let lone = JsonError::LoneSurrogate(start);
        if !self.text[self.at..].starts_with("\\u") {
            return Err(lone);
        }
        self.at += 1;
        let second = self.code_unit()?;
        char::decode_utf16([first, second]).next().and_then(Result::ok).ok_or(lone)
    }

    /// Reads `u` and four hexadecimal digits.
    fn code_unit(&mut self) -> Result<u16, JsonError> {
        let digits = self.text.get(self.at + 1..self.at + 5).ok_or_else(|| self.syntax())?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(self.syntax());
        }
        let unit = u16::from_str_radix(digits, 16).map_err(|_| self.syntax())?;
        self.at += 5;
        Ok(unit)
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.syntax()) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        let mut is_integer = true;
        if self.peek() == Some(b'.') {
            (self.at, is_integer) = (self.at + 1, false);
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            (self.at, is_integer) = (self.at + 1, false);
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        let token = &self.text[start..self.at];
        match self.numbers {
            Numbers::Exact => exact_number(token, is_integer),
            Numbers::Any => any_number(token, is_integer),
        }
    }
}

/// The value of a number, if every reader gets the same.
fn exact_number(token: &str, is_integer: bool) -> Result<Value, JsonError> {
    let out_of_range = || JsonError::NumberOutOfRange(shortened(token.chars()));
    if is_integer && let Ok(integer) = token.parse::<i64>() {
        let is_safe = integer.unsigned_abs() <= MAX_SAFE_INTEGER;
        return if is_safe { Ok(Value::from(integer)) } else { Err(out_of_range()) };
    }
    let float: f64 = token.parse().map_err(|_| out_of_range())?;
    let is_safe = float.abs() <= MAX_SAFE_FLOAT || (!is_integer && float.abs() >= FIRST_PRINTED_WITH_EXPONENT);
    let number = Number::from_f64(float).filter(|_| is_safe);
    number.map(Value::Number).ok_or_else(out_of_range)
}

/// The value of a number: an integer of 64 bits, or the nearest double.
fn any_number(token: &str, is_integer: bool) -> Result<Value, JsonError> {
    if is_integer {
        let signed = token.parse::<i64>().map(Value::from);
        if let Ok(integer) = signed.or_else(|_| token.parse::<u64>().map(Value::from)) {
            return Ok(integer);
        }
    }
    let out_of_range = || JsonError::NumberOutOfRange(shortened(token.chars()));
    let float: f64 = token.parse().map_err(|_| out_of_range())?;
    let number = Number::from_f64(float.clamp(f64::MIN, f64::MAX));
    number.map(Value::Number).ok_or_else(out_of_range)
}

fn shortened(mut characters: Chars<'_>) -> String {
    characters.by_ref().take(32).collect()
}
