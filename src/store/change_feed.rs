//! The change feed: reports changes in the store to code that caches a part of it.

use std::borrow::Cow;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::base::ids::Id;
use crate::base::keyring::KeyRing;
use crate::base::record::Record;
use crate::store::SharedKeyRing;
use crate::store::handle::Handle;
use crate::store::sealed_record;

/// How many changes a receiver may lag behind before it gets a [`Change::Gap`].
const FEED_CAPACITY: usize = 4096;

/// A change in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This record was written or removed: read it.
    Put {
        /// The kind of the record.
        space: String,
        /// The handle of the record, as text.
        handle: String,
    },
    /// Changes were missed: scan again.
    Gap,
}

impl Change {
    /// The handle of the changed record, if it is of kind `R`.
    pub fn of<R: Record>(&self) -> Option<Handle<R>> {
        match self {
            Self::Put { space, handle } if space == R::KIND => Handle::parse(handle),
            Self::Put { .. } | Self::Gap => None,
        }
    }
}

/// Receives all changes since its creation. To miss none, subscribe first, then scan, then receive.
#[derive(Debug)]
pub struct ChangeReceiver {
    news: broadcast::Receiver<ChangeEvent>,
    keys: SharedKeyRing,
}

impl ChangeReceiver {
    pub(super) fn new(feed: &ChangeFeed, keys: SharedKeyRing) -> Self {
        Self {
            news: feed.0.subscribe(),
            keys,
        }
    }

    /// Waits for the next change, or forever once the store is closed. It is cancel safe.
    pub async fn next(&mut self) -> Change {
        match self.news.recv().await {
            Ok(ChangeEvent::Put { space, id }) => Change::Put {
                space: space.into_owned(),
                handle: id.to_string(),
            },
            Ok(ChangeEvent::External { key, value }) => self.opened(&key, &value, sealed_record::id).unwrap_or(Change::Gap),
            #[cfg(any(feature = "redis", feature = "vault"))]
            Ok(ChangeEvent::SealedId { key, note: sealed_id }) => {
                self.opened(&key, &sealed_id, sealed_record::open_sealed_id).unwrap_or(Change::Gap)
            }
            Ok(ChangeEvent::Gap) | Err(RecvError::Lagged(_)) => Change::Gap,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }

    fn opened(&self, key: &str, sealed: &[u8], open_id: impl Fn(&KeyRing, &str, &str, &[u8]) -> Option<Id>) -> Option<Change> {
        let (space, _) = key.split_once('/')?;
        let id = open_id(&self.keys.load(), space, key, sealed)?;
        Some(Change::Put {
            space: space.to_owned(),
            handle: id.to_string(),
        })
    }
}

/// What a backend reports about a write.
#[derive(Clone, Debug)]
pub(super) enum ChangeEvent {
    /// This process wrote the record.
    Put { space: Cow<'static, str>, id: Id },
    /// Another process wrote this row. The id is inside the sealed value.
    External { key: String, value: Vec<u8> },
    /// Some process, perhaps this one, wrote the record. The note is its sealed id.
    #[cfg(any(feature = "redis", feature = "vault"))]
    SealedId { key: String, note: Vec<u8> },
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
    /// Sends an event to all receivers. There may be none.
    pub(super) fn publish(&self, event: ChangeEvent) {
        self.0.send(event).ok();
    }
}
