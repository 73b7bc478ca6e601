//! The backend itself: its thread, and the verbs.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::base::time::{Clock, UnixTime};
use crate::store::Keys;
use crate::store::at_rest;
use crate::store::backend::{Act, Page, Put, Row, Write};
use crate::store::changes::{Feed, News};
use crate::store::error::StoreError;
use crate::store::redis::at::RedisAt;
use crate::store::redis::dial::Dial;
use crate::store::redis::link::{Failed, Link};
use crate::store::redis::listing::Listings;
use crate::store::redis::start::NotOpened;
use crate::store::redis::{listing, news, row, start};

/// A backend in Redis. Clones share its thread, which ends with the last of them.
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

struct Inner {
    shelf: Arc<Shelf>,
    feed: Feed,
    runtime: Handle,
    /// Dropped with the rest, and the thread ends.
    _until: oneshot::Sender<()>,
}

/// What every verb needs.
pub(super) struct Shelf {
    pub(super) link: Link,
    pub(super) keys: Keys,
    pub(super) clock: Clock,
    listings: Listings,
}

impl Redis {
    /// Connects, refuses a Redis that may lose records by itself, and listens to what
    /// others write. Blocks for a few seconds at most.
    pub fn open(at: RedisAt, keys: Keys, clock: Clock) -> Result<Self, NotOpened> {
        Self::begin(at, keys, clock, true)
    }

    /// As [`Redis::open`], for a set of marks: nothing is listened to.
    pub fn open_set(at: RedisAt, keys: Keys, clock: Clock) -> Result<Self, NotOpened> {
        Self::begin(at, keys, clock, false)
    }

    fn begin(at: RedisAt, keys: Keys, clock: Clock, listens: bool) -> Result<Self, NotOpened> {
        let dial = Dial::new(at).map_err(NotOpened::Ca)?;
        let feed = Feed::default();
        let (until, ends) = oneshot::channel();
        let (opened, wait) = mpsc::channel();
        let begin = {
            let feed = feed.clone();
            move || {
                let runtime = match Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime,
                    Err(why) => return drop(opened.send(Err(NotOpened::Unreachable(why.to_string())))),
                };
                runtime.block_on(async {
                    let shelf = Shelf {
                        link: Link::begin(dial),
                        keys,
                        clock,
                        listings: Listings::default(),
                    };
                    let begun = start::checked(&shelf).await;
                    let begun = match begun {
                        Ok(()) if listens => news::begin(&shelf.link, feed).await.map_err(NotOpened::from),
                        done => done,
                    };
                    let begun = begun.map(|()| (Arc::new(shelf), Handle::current()));
                    let is_open = begun.is_ok();
                    if opened.send(begun).is_ok() && is_open {
                        // An error is the end as well: the sender was dropped.
                        drop(ends.await);
                    }
                });
                runtime.shutdown_background();
            }
        };
        let failed = |why: String| NotOpened::Unreachable(why);
        thread::Builder::new()
            .name("store-redis".to_owned())
            .spawn(begin)
            .map_err(|why| failed(why.to_string()))?;
        let (shelf, runtime) = wait.recv().map_err(|_| failed("its thread ended".to_owned()))??;
        Ok(Self(Arc::new(Inner {
            shelf,
            feed,
            runtime,
            _until: until,
        })))
    }

    pub(in crate::store) async fn get(&self, key: &str) -> Result<Option<Row>, StoreError> {
        let key = key.to_owned();
        self.on(async move |shelf| {
            let found = shelf.link.read(&row::get(shelf.prefix(), &key)).await.map_err(unavailable)?;
            Ok(row::read(&found))
        })
        .await
    }

    pub(in crate::store) async fn put_if(&self, write: Write) -> Result<Put, StoreError> {
        self.on(async move |shelf| shelf.put_if(&write).await).await
    }

    pub(in crate::store) async fn scan(
        &self,
        space: &str,
        last: Option<UnixTime>,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let space = space.to_owned();
        self.on(async move |shelf| {
            let page = shelf.listings.page(&shelf.link, (&space, last), after.as_deref(), limit).await;
            page.map_err(unavailable)
        })
        .await
    }

    pub(in crate::store) async fn spaces(&self) -> Result<Vec<String>, StoreError> {
        self.on(async move |shelf| listing::spaces(&shelf.link).await.map_err(unavailable))
            .await
    }

    /// Writes, for a Redis that is full or read-only answers every question.
    pub(in crate::store) async fn ping(&self) -> Result<(), StoreError> {
        self.on(async move |shelf| {
            let done = shelf.link.read(&row::touch(shelf.prefix())).await;
            done.map(drop).map_err(unavailable)
        })
        .await
    }

    pub(in crate::store) fn feed(&self) -> &Feed {
        &self.0.feed
    }

    /// Runs on the thread of the connections, to its end, also when nobody waits for it any more.
    pub(super) async fn on<T, F>(&self, verb: impl FnOnce(Arc<Shelf>) -> F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let done = self.0.runtime.spawn(verb(Arc::clone(&self.0.shelf))).await;
        done.unwrap_or_else(|_| Err(StoreError::Unavailable("it is closed".to_owned())))
    }
}

impl Shelf {
    pub(super) fn prefix(&self) -> &str {
        &self.link.dial.at.prefix
    }

    async fn put_if(&self, write: &Write) -> Result<Put, StoreError> {
        let News::Put { space, id } = &write.news else {
            return Err(StoreError::Unavailable("this write has no news".to_owned()));
        };
        let now = self.clock.now();
        let note = at_rest::note(&self.keys.load(), now, space, &write.key, *id);
        let news = news::Told {
            channel: news::channel(&self.link.dial.at),
            message: news::message(&write.key, &note),
        };
        match row::put(&self.link, write, &news, now).await {
            Ok(row::Done::Written) => Ok(Put::Written),
            // Of a cluster the client asks again by itself, so what is gone may be gone by us.
            Ok(row::Done::Gone) if self.link.dial.at.is_cluster() && matches!(write.act, Act::Delete(_)) => Ok(Put::Unknown),
            Ok(row::Done::Stale | row::Done::Gone) => Ok(Put::Stale),
            Err(Failed::Lost(_) | Failed::Late) => Ok(Put::Unknown),
            Err(why @ (Failed::NotAsked(_) | Failed::Refused(..))) => Err(unavailable(why)),
        }
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redis")
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed over by map_err")]
pub(super) fn unavailable(why: Failed) -> StoreError {
    StoreError::Unavailable(format!("Redis: {why}"))
}
