//! The user assertions that were recently sent to one backend. A signature costs as much as the
//! rest of a proxied request.

use std::fmt;
use std::sync::OnceLock;

use http::HeaderValue;
use quick_cache::sync::Cache;

use crate::base::ids::Id;
use crate::base::time::UnixTime;

/// For how many seconds an assertion is sent again: half of its lifetime.
const REUSE_SECONDS: u64 = 30;
/// The maximum number of callers of one service whose assertion is cached.
const MAX_CALLERS: usize = 10_000;

/// Cached assertions by grant and generation. A reload empties the cache, because the backend may be
/// another one.
#[derive(Default)]
pub struct AssertionCache(OnceLock<Cache<(Id, u32), (UnixTime, HeaderValue)>>);

impl AssertionCache {
    /// The cached header value, if it is recent.
    pub fn get(&self, grant: Id, generation: u32, now: UnixTime) -> Option<HeaderValue> {
        let (created, value) = self.0.get()?.get(&(grant, generation))?;
        (created <= now && now.seconds_since(created) < REUSE_SECONDS).then_some(value)
    }

    /// Caches a header value that was created now.
    pub fn insert(&self, grant: Id, generation: u32, now: UnixTime, value: HeaderValue) {
        let cache = self.0.get_or_init(|| Cache::new(MAX_CALLERS));
        cache.insert((grant, generation), (now, value));
    }
}

impl fmt::Debug for AssertionCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AssertionCache(..)")
    }
}
