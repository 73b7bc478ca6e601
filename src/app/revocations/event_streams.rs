//! Open event streams, which end with their grant or API key.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use tokio_util::sync::CancellationToken;

use crate::base::ids::Id;
use crate::net::body::StreamGuard;

/// The open streams of one grant.
#[derive(Debug, Default)]
struct GrantStreams {
    ends: CancellationToken,
    open: Arc<AtomicUsize>,
}

/// Open streams by grant or API key.
#[derive(Debug, Default)]
pub struct EventStreams {
    by_grant: DashMap<Id, GrantStreams>,
}

impl EventStreams {
    /// Counts a stream of `grant`, which ends with the grant. Dropping the guard closes it.
    pub fn open(&self, grant: Id) -> StreamGuard {
        let streams = self.by_grant.entry(grant).or_default();
        StreamGuard::new(&streams.open, Some(streams.ends.clone()))
    }

    /// Ends every stream of `grant`.
    pub fn end(&self, grant: Id) {
        if let Some((_, streams)) = self.by_grant.remove(&grant) {
            streams.ends.cancel();
        }
    }

    /// Removes grants without an open stream.
    pub fn sweep(&self) {
        self.by_grant.retain(|_, streams| streams.open.load(Ordering::Acquire) > 0);
    }
}
