//! The backend itself: its thread, and the verbs.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Mutex;

use crate::base::time::{Clock, UnixTime};
use crate::store::Keys;
use crate::store::at_rest;
use crate::store::backend::{Act, Page, Put, Row, Write};
use crate::store::changes::{Feed, News};
use crate::store::error::StoreError;
use crate::store::vault::at::VaultAt;
use crate::store::vault::calls::Failed;
use crate::store::vault::link::{Link, pause};
use crate::store::vault::listing::{self, Listings};
use crate::store::vault::news::{self, Teller};
use crate::store::vault::row::{self, Done, Found, New};
use crate::store::vault::start::{self, NotOpened};
use crate::store::vault::sweep;

/// A backend in Vault. Clones share its thread, which ends with the last of them.
#[derive(Clone)]
pub struct Vault(Arc<Inner>);

struct Inner {
    shelf: Arc<Shelf>,
    /// Always there, until it is dropped.
    runtime: Option<Runtime>,
}

/// What every verb needs.
pub(super) struct Shelf {
    pub(super) link: Arc<Link>,
    pub(super) keys: Keys,
    pub(super) clock: Clock,
    /// When each record that was seen has to be looked at, for the sweep.
    pub(super) due: Mutex<HashMap<String, UnixTime>>,
    listings: Listings,
    teller: Teller,
    feed: Feed,
}

impl Vault {
    /// Signs in, refuses a mount that is no KV version 2 and begins to look at what others
    /// write. Blocks for a few seconds at most.
    pub fn open(at: VaultAt, keys: Keys, clock: Clock) -> Result<Self, NotOpened> {
        let failed = |why: String| NotOpened::Unreachable(why);
        // Before there is a runtime, which may not be dropped on another one.
        let link = Arc::new(Link::new(at).map_err(NotOpened::Ca)?);
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name("store-vault").enable_all().build();
        let runtime = runtime.map_err(|why| failed(why.to_string()))?;
        let (opened, wait) = mpsc::channel();
        // Not `block_on`: the caller may be on a runtime itself.
        runtime.spawn(async move {
            drop(opened.send(Shelf::begin(link, keys, clock).await));
        });
        let shelf = match wait.recv().map_err(|_| failed("its thread ended".to_owned())) {
            Ok(Ok(shelf)) => Arc::new(shelf),
            Ok(Err(why)) | Err(why) => {
                runtime.shutdown_background();
                return Err(why);
            }
        };
        let runtime = Some(runtime);
        Ok(Self(Arc::new(Inner { shelf, runtime })))
    }

    pub(in crate::store) async fn get(&self, key: &str) -> Result<Option<Row>, StoreError> {
        let key = key.to_owned();
        self.on(async move |shelf| match row::find(&shelf.link, &key).await? {
            Found::Row(_, row) => Ok(Some(row)),
            Found::Nothing | Found::Gone(..) | Found::Closing(_) => Ok(None),
        })
        .await
    }

    pub(in crate::store) async fn put_if(&self, write: Write) -> Result<Put, StoreError> {
        self.on(async move |shelf| shelf.put_if(write).await).await
    }

    pub(in crate::store) async fn scan(&self, space: &str, after: Option<String>, limit: usize) -> Result<Page, StoreError> {
        let space = space.to_owned();
        self.on(async move |shelf| shelf.listings.page(&shelf.link, &space, after.as_deref(), limit).await)
            .await
    }

    pub(in crate::store) async fn spaces(&self) -> Result<Vec<String>, StoreError> {
        self.on(async move |shelf| listing::spaces(&shelf.link).await).await
    }

    /// Writes: a Vault that cannot may still answer questions.
    pub(in crate::store) async fn ping(&self) -> Result<(), StoreError> {
        self.on(async move |shelf| row::keep_one(&shelf.link, start::START).await).await
    }

    /// Vault removes nothing by itself. All that is due is looked at in one go, so nothing is left to do.
    pub(in crate::store) async fn sweep(&self) -> Result<(), StoreError> {
        self.on(async move |shelf| {
            let ended = sweep::all(&shelf).await?;
            tracing::debug!(ended, "records in Vault have ended");
            Ok(())
        })
        .await
    }

    pub(in crate::store) fn feed(&self) -> &Feed {
        &self.0.shelf.feed
    }

    /// Runs on the thread of the connections, to its end, also when nobody waits for it any more.
    async fn on<T, F>(&self, verb: impl FnOnce(Arc<Shelf>) -> F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failed>> + Send + 'static,
    {
        let closed = || StoreError::Unavailable("it is closed".to_owned());
        let runtime = self.0.runtime.as_ref().ok_or_else(closed)?;
        let done = runtime.spawn(verb(Arc::clone(&self.0.shelf))).await.map_err(|_| closed())?;
        done.map_err(|why| StoreError::Unavailable(format!("Vault: {why}")))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A runtime that is dropped by itself waits, which no task may.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shelf {
    async fn begin(link: Arc<Link>, keys: Keys, clock: Clock) -> Result<Self, NotOpened> {
        start::checked(&link).await?;
        let feed = Feed::default();
        let teller = news::begin(&link, clock.clone(), feed.clone()).await;
        Ok(Self {
            teller: teller.map_err(|why| start::refused(&link, &why))?,
            link,
            keys,
            clock,
            due: Mutex::default(),
            listings: Listings::default(),
            feed,
        })
    }

    async fn put_if(self: Arc<Self>, write: Write) -> Result<Put, Failed> {
        let News::Put { space, id } = &write.news else {
            return Err(Failed::NotAsked("this write has no news".to_owned()));
        };
        let note = at_rest::note(&self.keys.load(), self.clock.now(), space, &write.key, *id);
        match self.acted(&write).await {
            Ok(Done::Written) => {
                if matches!(write.act, Act::Insert(_)) {
                    let (link, key) = (Arc::clone(&self.link), write.key.clone());
                    tokio::spawn(async move {
                        for _ in 0..4 {
                            if row::keep_one(&link, &key).await.is_ok() {
                                return;
                            }
                            pause().await;
                        }
                    });
                }
                self.feed.tell(write.news);
                self.teller.tell(write.key, note).await;
                Ok(Put::Written)
            }
            Ok(Done::Stale) => Ok(Put::Stale),
            Err(Acted::Not(why)) => Err(why),
            Err(Acted::Perhaps) => {
                // Now too: whoever asked may end before it is told again.
                self.teller.tell(write.key.clone(), note.clone()).await;
                // If it is done it is done soon, and whoever keeps a copy must look then.
                tokio::spawn(async move {
                    for _ in 0..3 {
                        pause().await;
                        self.feed.tell(write.news.clone());
                        self.teller.tell(write.key.clone(), note.clone()).await;
                        tokio::time::sleep(crate::store::vault::calls::ANSWER).await;
                    }
                });
                Ok(Put::Unknown)
            }
        }
    }

    /// Compares the name of the write that is there, and then has Vault compare its count.
    async fn acted(&self, write: &Write) -> Result<Done, Acted> {
        let (key, now) = (write.key.as_str(), self.clock.now());
        let (count, new) = match &write.act {
            Act::Insert(row) => match self.written(key, 0, New::Row(row)).await? {
                Done::Written => return Ok(Done::Written),
                Done::Stale => match row::find(&self.link, key).await.map_err(Acted::Not)? {
                    Found::Gone(count, _) => (count, New::Row(row)),
                    Found::Nothing | Found::Row(..) | Found::Closing(_) => return Ok(Done::Stale),
                },
            },
            Act::Replace(seen, row) => match self.there(key, seen).await? {
                Some(count) => (count, New::Row(row)),
                None => return Ok(Done::Stale),
            },
            Act::Delete(seen) => match self.there(key, seen).await? {
                Some(count) => (count, New::Gone(now)),
                None => return Ok(Done::Stale),
            },
        };
        self.written(key, count, new).await
    }

    async fn there(&self, key: &str, seen: &crate::store::backend::Version) -> Result<Option<u64>, Acted> {
        match row::find(&self.link, key).await.map_err(Acted::Not)? {
            Found::Row(count, row) if row.version == *seen => Ok(Some(count)),
            Found::Nothing | Found::Row(..) | Found::Gone(..) | Found::Closing(_) => Ok(None),
        }
    }

    async fn written(&self, key: &str, count: u64, new: New<'_>) -> Result<Done, Acted> {
        match row::write(&self.link, key, count, new).await {
            Ok(Done::Written) => {
                self.due.lock().await.insert(key.to_owned(), sweep::due(new));
                Ok(Done::Written)
            }
            Ok(Done::Stale) => Ok(Done::Stale),
            Err(Failed::Lost(_)) => Err(Acted::Perhaps),
            Err(why @ (Failed::NotAsked(_) | Failed::Untrusted(_) | Failed::Refused(..))) => Err(Acted::Not(why)),
        }
    }
}

/// Why it is not known that a write was done.
enum Acted {
    Not(Failed),
    Perhaps,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault")
    }
}
