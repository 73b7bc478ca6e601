//! Open streams: they are counted and limited, and end with their grant or API key.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use tokio_util::sync::CancellationToken;

use crate::base::ids::Id;
use crate::net::body::StreamGuard;

/// The key under which a stream is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamOwner {
    /// A grant or an API key.
    Grant(Id),
    /// A source of a service without authentication.
    Source(IpAddr),
}

/// The open streams of one owner.
#[derive(Debug, Default)]
struct OwnedStreams {
    ends: CancellationToken,
    open: Arc<AtomicUsize>,
}

/// An open stream.
#[derive(Debug)]
pub struct OpenStream {
    /// Counts the stream, and ends its body.
    pub guard: StreamGuard,
    /// Cancelled when the stream ends, and by the guard. Cancelling it ends the stream.
    pub ends: CancellationToken,
}

/// Open streams by owner.
#[derive(Debug, Default)]
pub struct EventStreams {
    by_owner: DashMap<StreamOwner, OwnedStreams>,
}

impl EventStreams {
    /// Counts a stream, which ends with its owner. Dropping the guard closes it. `None` if the owner has
    /// `max` open streams.
    pub fn open(&self, owner: StreamOwner, max: usize) -> Option<OpenStream> {
        let streams = self.by_owner.entry(owner).or_default();
        // The entry is locked, so that no other stream of this owner opens at the same time.
        if streams.open.load(Ordering::Acquire) >= max {
            return None;
        }
        let ends = streams.ends.child_token();
        let guard = StreamGuard::new(&streams.open, Some(ends.clone()));
        Some(OpenStream { guard, ends })
    }

    /// Whether this owner has at least `max` open streams.
    pub fn has(&self, owner: StreamOwner, max: usize) -> bool {
        self.by_owner
            .get(&owner)
            .is_some_and(|streams| streams.open.load(Ordering::Acquire) >= max)
    }

    /// Ends every stream of `grant`.
    pub fn end(&self, grant: Id) {
        if let Some((_, streams)) = self.by_owner.remove(&StreamOwner::Grant(grant)) {
            streams.ends.cancel();
        }
    }

    /// Removes owners without an open stream.
    pub fn sweep(&self) {
        self.by_owner.retain(|_, streams| streams.open.load(Ordering::Acquire) > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_has_at_most_the_allowed_number_of_streams() {
        let streams = EventStreams::default();
        let owner = StreamOwner::Grant(Id::random());
        let first = streams.open(owner, 2).unwrap();
        let second = streams.open(owner, 2).unwrap();
        assert!(streams.open(owner, 2).is_none());
        let source = StreamOwner::Source([192, 0, 2, 1].into());
        assert!(
            streams.open(source, 1).is_some() && streams.open(source, 1).is_some(),
            "the first one is closed"
        );
        drop(second);
        assert!(streams.open(owner, 2).is_some() && !first.ends.is_cancelled());
        streams.sweep();
        let StreamOwner::Grant(grant) = owner else { unreachable!() };
        streams.end(grant);
        assert!(first.ends.is_cancelled());
    }

    #[test]
    fn closing_one_stream_ends_no_other() {
        let streams = EventStreams::default();
        let owner = StreamOwner::Grant(Id::random());
        let (first, second) = (streams.open(owner, 9).unwrap(), streams.open(owner, 9).unwrap());
        let ends = first.ends.clone();
        drop(first);
        assert!(ends.is_cancelled() && !second.ends.is_cancelled());
    }
}
