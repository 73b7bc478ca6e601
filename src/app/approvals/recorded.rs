//! What the audit log says already of decisions.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use quick_cache::sync::Cache;

use crate::base::ids::{Digest, Id};

/// The most decisions that are remembered as recorded.
const MAX_DECISIONS: usize = 10_000;

/// The approved tools of a service: who approved which definition.
pub(super) type ApprovedTools = BTreeMap<String, (String, Digest)>;

/// What the audit log says already.
pub(super) struct RecordedDecisions {
    calls: Cache<Id, ()>,
    pins: Mutex<HashMap<Id, ApprovedTools>>,
}

impl RecordedDecisions {
    pub(super) fn new() -> Self {
        Self {
            calls: Cache::new(MAX_DECISIONS),
            pins: Mutex::default(),
        }
    }

    /// This process decides about a call, and records it itself.
    pub(super) fn note_call(&self, id: Id) {
        self.calls.insert(id, ());
    }

    /// This process did not decide about the call after all.
    pub(super) fn forget_call(&self, id: Id) {
        self.calls.remove(&id);
    }

    /// Whether the decision about a call is recorded.
    pub(super) fn has_call(&self, id: Id) -> bool {
        self.calls.get(&id).is_some()
    }

    /// The approved tools, by the id of the record of the pins.
    pub(super) fn pins(&self) -> MutexGuard<'_, HashMap<Id, ApprovedTools>> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
