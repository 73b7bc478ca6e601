//! Watches a body for a text.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts how often a text occurs in a body.
#[derive(Debug)]
pub struct ByteWatch {
    text: &'static [u8],
    /// The number of bytes of the text before the next byte.
    matched: usize,
    count: Arc<AtomicU64>,
}

impl ByteWatch {
    /// Adds one to `count` for each occurrence of `text`, whose first byte must occur once in it.
    pub fn new(text: &'static str, count: Arc<AtomicU64>) -> Self {
        Self {
            text: text.as_bytes(),
            matched: 0,
            count,
        }
    }

    pub(super) fn note(&mut self, bytes: &[u8]) {
        for byte in bytes {
            // The first byte occurs once, so after a mismatch a match can only begin here.
            self.matched = if *byte == self.text[self.matched] {
                self.matched + 1
            } else {
                usize::from(*byte == self.text[0])
            };
            if self.matched == self.text.len() {
                self.matched = 0;
                self.count.fetch_add(1, Ordering::Release);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_across_chunks_and_after_mismatches() {
        let count = Arc::new(AtomicU64::new(0));
        let mut watch = ByteWatch::new("\"ab/ab", Arc::clone(&count));
        for chunk in ["\"ab/", "ab\"", "ab/\"\"ab", "/a", "b", "ab/ab"] {
            watch.note(chunk.as_bytes());
        }
        assert_eq!(count.load(Ordering::Acquire), 2);
    }
}
