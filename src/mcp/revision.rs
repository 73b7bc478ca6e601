//! The revisions of MCP.

/// A revision of MCP that the gateway knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Revision {
    /// HTTP with a separate SSE endpoint.
    V2024_11_05,
    /// Streamable HTTP, with batches.
    V2025_03_26,
    /// No batches; the header `MCP-Protocol-Version`.
    V2025_06_18,
    /// URL elicitation.
    V2025_11_25,
    /// No sessions: each request carries its metadata; `input_required` results.
    V2026_07_28,
}

/// All revisions, oldest first.
pub const REVISIONS: [Revision; 5] = [
    Revision::V2024_11_05,
    Revision::V2025_03_26,
    Revision::V2025_06_18,
    Revision::V2025_11_25,
    Revision::V2026_07_28,
];

impl Revision {
    /// The revision of this name. `None` if it is unknown.
    pub fn parse(text: &str) -> Option<Self> {
        REVISIONS.into_iter().find(|revision| revision.as_str() == text)
    }

    /// The name, as in `MCP-Protocol-Version`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    /// Whether a text names this revision or a later one. Revisions are dates, so later ones sort after.
    pub fn is_at_most(self, text: &str) -> bool {
        is_date(text) && text >= self.as_str()
    }

    /// Whether a client opens a session by `initialize`.
    pub fn has_sessions(self) -> bool {
        self < Self::V2026_07_28
    }
}

fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 10
        && bytes.iter().enumerate().all(|(index, byte)| match index {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}
