//! The last list of tools that each caller got from a service, by digest. It lives in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use quick_cache::sync::Cache;

use crate::base::ids::Digest;
use crate::base::time::UnixTime;
use crate::mcp::tool::ToolDefinition;

/// How long a list counts, in seconds.
const FRESH_SECONDS: u64 = 600;
/// The most lists that are remembered.
const MAX_LISTINGS: usize = 10_000;

/// Who listed the tools of which service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::app) struct ListingKey {
    /// The service.
    pub service: String,
    /// The holder of the credential.
    pub caller: String,
}

/// A list of tools.
#[derive(Debug)]
pub(in crate::app) struct Listing {
    digests: HashMap<String, Digest>,
    at: UnixTime,
    epoch: u64,
}

impl Listing {
    /// The digest of a tool's definition; `None` if the upstream does not list the tool.
    pub(in crate::app) fn digest(&self, tool: &str) -> Option<&Digest> {
        self.digests.get(tool)
    }
}

pub(super) struct Listings {
    lists: Cache<ListingKey, Arc<Listing>>,
    epochs: DashMap<String, Arc<AtomicU64>>,
}

impl Default for Listings {
    fn default() -> Self {
        Self {
            lists: Cache::new(MAX_LISTINGS),
            epochs: DashMap::new(),
        }
    }
}

impl Listings {
    pub(super) fn get(&self, key: &ListingKey, now: UnixTime) -> Option<Arc<Listing>> {
        let epoch = self.epoch(&key.service).load(Ordering::Acquire);
        let listing = self.lists.get(key)?;
        (listing.epoch == epoch && now.seconds_since(listing.at) < FRESH_SECONDS).then_some(listing)
    }

    pub(super) fn put(&self, key: &ListingKey, tools: &[ToolDefinition], now: UnixTime, epoch: u64) -> Arc<Listing> {
        let listing = Arc::new(Listing {
            digests: tools.iter().map(|tool| (tool.name().to_owned(), tool.digest())).collect(),
            at: now,
            epoch,
        });
        self.lists.insert(key.clone(), Arc::clone(&listing));
        listing
    }

    pub(super) fn forget(&self, key: &ListingKey) {
        self.lists.remove(key);
    }

    /// Counts how often the service said that its tools changed. A list of an earlier count is stale.
    pub(super) fn epoch(&self, service: &str) -> Arc<AtomicU64> {
        if let Some(epoch) = self.epochs.get(service) {
            return Arc::clone(&epoch);
        }
        Arc::clone(&self.epochs.entry(service.to_owned()).or_default())
    }
}
