//! What a later request of a conversation needs, by an id that the client repeats. It lives in memory: after a
//! restart, a client that continues such a conversation begins it again.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

/// The number of entries that the cache is laid out for.
const EXPECTED_ENTRIES: usize = 1024;
/// The most bytes of all entries.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

#[derive(Clone)]
struct Length;

impl Weighter<String, Arc<str>> for Length {
    fn weight(&self, key: &String, text: &Arc<str>) -> u64 {
        key.len() as u64 + text.len() as u64
    }
}

/// Texts by the caller and an id. The least used ones go first.
pub struct Continuations(Cache<String, Arc<str>, Length>);

impl Default for Continuations {
    fn default() -> Self {
        Self(Cache::with_weighter(EXPECTED_ENTRIES, MAX_BYTES, Length))
    }
}

impl Continuations {
    /// Remembers a text.
    pub fn put(&self, caller: &str, id: &str, text: &str) {
        self.0.insert(key(caller, id), Arc::from(text));
    }

    /// The text of an id.
    pub fn get(&self, caller: &str, id: &str) -> Option<Arc<str>> {
        self.0.get(&key(caller, id))
    }
}

fn key(caller: &str, id: &str) -> String {
    format!("{caller}\n{id}")
}
