//! The change feed: the channel on which a backend reports its writes and those of other processes.

use std::borrow::Cow;

use tokio::sync::broadcast;

use crate::base::ids::Id;

/// The number of changes by which a receiver may lag behind before it gets a [`Change::Gap`].
const FEED_CAPACITY: usize = 4096;

/// The report of a backend about a write.
#[derive(Clone, Debug)]
pub(super) enum ChangeEvent {
    /// This process wrote the record.
    Put { space: Cow<'static, str>, id: Id },
    /// Another process wrote this row. The id is inside the sealed value.
    External { key: String, value: Vec<u8> },
    /// Some process, perhaps this one, wrote the record.
    #[cfg(any(feature = "redis", feature = "vault"))]
    SealedId { key: String, sealed_id: Vec<u8> },
    /// Other processes wrote records that can no longer be identified.
    Gap,
}

/// The channel on which a backend publishes its change events.
#[derive(Clone, Debug)]
pub(super) struct ChangeFeed(broadcast::Sender<ChangeEvent>);

impl Default for ChangeFeed {
    fn default() -> Self {
        Self(broadcast::Sender::new(FEED_CAPACITY))
    }
}

impl ChangeFeed {
    /// Subscribes to all events from now on.
    pub(super) fn subscribe(&self) -> broadcast::Receiver<ChangeEvent> {
        self.0.subscribe()
    }

    /// Sends an event to all receivers. There may be none.
    pub(super) fn publish(&self, event: ChangeEvent) {
        self.0.send(event).ok();
    }
}
