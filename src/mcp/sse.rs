//! Server-sent events (WHATWG HTML, "Server-sent events"): a writer, and a parser that takes a stream in pieces.

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// The type; `message` if absent.
    pub event: Option<String>,
    /// The data. Lines are separated by `\n`.
    pub data: String,
    /// The id, by which a client resumes the stream.
    pub id: Option<String>,
    /// After how many milliseconds a client reconnects.
    pub retry: Option<u64>,
}

impl SseEvent {
    /// An event of type `message`.
    pub fn message(data: impl Into<String>) -> Self {
        Self {
            event: Some("message".to_owned()),
            data: data.into(),
            ..Self::default()
        }
    }

    /// An event of this type.
    pub fn named(event: &str, data: impl Into<String>) -> Self {
        Self {
            event: Some(event.to_owned()),
            data: data.into(),
            ..Self::default()
        }
    }

    /// The text of the event, with the empty line at its end.
    pub fn to_text(&self) -> String {
        let mut text = String::with_capacity(self.data.len() + 32);
        let mut field = |name: &str, value: &str| {
            for line in value.split('\n') {
                // A carriage return would end the line.
                let line = line.replace('\r', "");
                text.push_str(name);
                text.push_str(": ");
                text.push_str(&line);
                text.push('\n');
            }
        };
        if let Some(event) = &self.event {
            field("event", &event.replace('\n', ""));
        }
        if let Some(id) = &self.id {
            field("id", &id.replace(['\n', '\0'], ""));
        }
        if let Some(retry) = self.retry {
            field("retry", &retry.to_string());
        }
        field("data", &self.data);
        text.push('\n');
        text
    }
}

/// A comment, which keeps a connection alive and is no event.
pub fn comment(text: &str) -> String {
    format!(": {}\n\n", text.replace(['\r', '\n'], " "))
}

/// Why a stream is not parsed further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// An event is longer than the limit.
    #[error("an event of the stream is longer than {0} bytes")]
    TooLong(usize),
    /// A line is not UTF-8.
    #[error("an event of the stream is not UTF-8")]
    NotUtf8,
}

/// Parses a stream that arrives in pieces.
#[derive(Debug)]
pub struct SseParser {
    /// The line that has not ended yet.
    line: Vec<u8>,
    /// The event that has not ended yet.
    event: SseEvent,
    has_data: bool,
    is_first_line: bool,
    /// A line feed that follows a carriage return ends no second line.
    after_carriage_return: bool,
    /// The longest event, in bytes.
    max_event_bytes: usize,
    event_bytes: usize,
}

impl SseParser {
    /// A parser that refuses events longer than `max_event_bytes`.
    pub fn new(max_event_bytes: usize) -> Self {
        Self {
            line: Vec::new(),
            event: SseEvent::default(),
            has_data: false,
            is_first_line: true,
            after_carriage_return: false,
            max_event_bytes,
            event_bytes: 0,
        }
    }

    /// Takes the next piece of the stream, and returns the events that it completes. An event without data
    /// is none.
    ///
    /// # Errors
    /// If an event is too long or is not UTF-8. The parser is of no use then.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<SseEvent>, SseError> {
        let mut events = Vec::new();
        for byte in piece {
            let follows_carriage_return = std::mem::take(&mut self.after_carriage_return);
            match byte {
                b'\n' if follows_carriage_return => {}
                b'\n' | b'\r' => {
                    self.after_carriage_return = *byte == b'\r';
                    events.extend(self.end_line()?);
                }
                byte => {
                    self.event_bytes += 1;
                    if self.event_bytes > self.max_event_bytes {
                        return Err(SseError::TooLong(self.max_event_bytes));
                    }
                    self.line.push(*byte);
                }
            }
        }
        Ok(events)
    }

    fn end_line(&mut self) -> Result<Option<SseEvent>, SseError> {
        let line = std::mem::take(&mut self.line);
        let mut line = String::from_utf8(line).map_err(|_| SseError::NotUtf8)?;
        if std::mem::take(&mut self.is_first_line) && line.starts_with('\u{feff}') {
            line.remove(0);
        }
        if line.is_empty() {
            self.event_bytes = 0;
            let event = std::mem::take(&mut self.event);
            return Ok(std::mem::take(&mut self.has_data).then_some(event));
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" => {
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.has_data = true;
                self.event.data.push_str(value);
            }
            "event" => self.event.event = Some(value.to_owned()).filter(|event| !event.is_empty()),
            "id" if !value.contains('\0') => self.event.id = Some(value.to_owned()),
            "retry" if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) => self.event.retry = value.parse().ok(),
            // A comment, or a field that is not defined.
            _ => {}
        }
        Ok(None)
    }
}
