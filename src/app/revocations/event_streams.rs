//! Open event streams, which end with their grant or API key.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;

use crate::base::ids::Id;
use crate::net::body::StreamGuard;
use crate::net::stop::{Ender, Ends};

/// What ends the streams of one grant, and how many are open.
#[derive(Debug)]
struct GrantStreams {
    ender: Ender,
    ends: Ends,
    open: Arc<AtomicUsize>,
}

impl GrantStreams {
    fn new() -> Self {
        let (ender, ends) = Ends::new();
        let open = Arc::default();
        Self { ender, ends, open }
    }
}

/// Open streams by grant or API key.
#[derive(Debug, Default)]
pub struct EventStreams {
    by_grant: DashMap<Id, GrantStreams>,
}

impl EventStreams {
    /// Counts a stream of `grant`, which ends with the grant. Dropping the guard closes it.
    pub fn open(&self, grant: Id) -> StreamGuard {
        let streams = self.by_grant.entry(grant).or_insert_with(GrantStreams::new);
        StreamGuard::new(&streams.open, Some(streams.ends.clone()))
    }

    /// Ends every stream of `grant`.
    pub fn end(&self, grant: Id) {
        if let Some((_, streams)) = self.by_grant.remove(&grant) {
            streams.ender.end();
        }
    }

    /// Removes grants without an open stream.
    pub fn sweep(&self) {
        self.by_grant.retain(|_, streams| streams.open.load(Ordering::Acquire) > 0);
    }
}
