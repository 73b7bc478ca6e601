//! What has changed in the store, told to whoever keeps a copy of a part of it.

use std::borrow::Cow;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::base::ids::Id;
use crate::base::keyring::KeyRing;
use crate::base::record::Record;
use crate::store::SharedKeyRing;
use crate::store::handle::Handle;
use crate::store::sealed_record;

/// How many changes a slow listener may fall behind before it has to scan again.
const FEED_CAPACITY: usize = 4096;

/// Something was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This record was put or removed: look at it.
    Put {
        /// The kind of the record.
        space: String,
        /// Its handle, as text.
        handle: String,
    },
    /// Something was missed: scan again.
    Gap,
}

impl Change {
    /// The record that was put, if it is of this kind.
    pub fn of<R: Record>(&self) -> Option<Handle<R>> {
        match self {
            Self::Put { space, handle } if space == R::KIND => Handle::parse(handle),
            Self::Put { .. } | Self::Gap => None,
        }
    }
}

/// Everything that is written from the moment on when this was asked for: ask first, then scan, then listen.
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

    /// Waits for the next change. Waits for ever once the store is closed. May be dropped and called again.
    pub async fn next(&mut self) -> Change {
        match self.news.recv().await {
            Ok(ChangeEvent::Put { space, id }) => Change::Put {
                space: space.into_owned(),
                handle: id.to_string(),
            },
            Ok(ChangeEvent::External { key, value }) => self.opened(&key, &value, sealed_record::id).unwrap_or(Change::Gap),
            #[cfg(any(feature = "redis", feature = "vault"))]
            Ok(ChangeEvent::SealedId { key, note }) => self.opened(&key, &note, sealed_record::open_sealed_id).unwrap_or(Change::Gap),
            Ok(ChangeEvent::Gap) | Err(RecvError::Lagged(_)) => Change::Gap,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }

    fn opened(&self, key: &str, sealed: &[u8], id: impl Fn(&KeyRing, &str, &str, &[u8]) -> Option<Id>) -> Option<Change> {
        let (space, _) = key.split_once('/')?;
        let id = id(&self.keys.load(), space, key, sealed)?;
        Some(Change::Put {
            space: space.to_owned(),
            handle: id.to_string(),
        })
    }
}

/// What a backend says of a write.
#[derive(Clone, Debug)]
pub(super) enum ChangeEvent {
    /// This process wrote it.
    Put { space: Cow<'static, str>, id: Id },
    /// Another process wrote it; only its seal tells the id.
    External { key: String, value: Vec<u8> },
    /// Somebody, perhaps this process, wrote it; the note tells the id to whoever has the keys.
    #[cfg(any(feature = "redis", feature = "vault"))]
    SealedId { key: String, note: Vec<u8> },
    /// Another process wrote something that cannot be told any more.
    Gap,
}

/// Where a backend tells its news.
#[derive(Clone, Debug)]
pub(super) struct ChangeFeed(broadcast::Sender<ChangeEvent>);

impl Default for ChangeFeed {
    fn default() -> Self {
        Self(broadcast::Sender::new(FEED_CAPACITY))
    }
}

impl ChangeFeed {
    /// Tells all listeners, of whom there may be none.
    pub(super) fn publish(&self, news: ChangeEvent) {
        self.0.send(news).ok();
    }
}
