//! Reports changes in the store to code that caches a part of it.

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::base::ids::Id;
use crate::base::keyring::KeyRing;
use crate::base::record::Record;
use crate::store::change_feed::{ChangeEvent, ChangeFeed};
use crate::store::handle::Handle;
use crate::store::sealed_record::{self, SharedKeyRing};

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
    events: broadcast::Receiver<ChangeEvent>,
    keys: SharedKeyRing,
}

impl ChangeReceiver {
    pub(super) fn new(feed: &ChangeFeed, keys: SharedKeyRing) -> Self {
        Self {
            events: feed.subscribe(),
            keys,
        }
    }

    /// Waits for the next change, or forever once the store is closed. It is cancel safe.
    pub async fn next(&mut self) -> Change {
        match self.events.recv().await {
            Ok(ChangeEvent::Put { space, id }) => Change::Put {
                space: space.into_owned(),
                handle: id.to_string(),
            },
            Ok(ChangeEvent::External { key, value }) => self.change(&key, &value, sealed_record::id).unwrap_or(Change::Gap),
            #[cfg(any(feature = "redis", feature = "vault"))]
            Ok(ChangeEvent::SealedId { key, sealed_id }) => {
                self.change(&key, &sealed_id, sealed_record::open_sealed_id).unwrap_or(Change::Gap)
            }
            Ok(ChangeEvent::Gap) | Err(RecvError::Lagged(_)) => Change::Gap,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }

    fn change(&self, key: &str, sealed: &[u8], open_id: impl Fn(&KeyRing, &str, &str, &[u8]) -> Option<Id>) -> Option<Change> {
        let (space, _) = key.split_once('/')?;
        let id = open_id(&self.keys.load(), space, key, sealed)?;
        Some(Change::Put {
            space: space.to_owned(),
            handle: id.to_string(),
        })
    }
}
