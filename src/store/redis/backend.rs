//! The Redis backend: its thread and its operations.

use std::sync::{Arc, mpsc};
use std::{fmt, thread};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::base::ids::Id;
use crate::base::time::{Clock, UnixTime};
use crate::store::change_feed::{ChangeEvent, ChangeFeed};
use crate::store::error::StoreError;
use crate::store::redis::config::RedisConfig;
use crate::store::redis::connect::Connector;
use crate::store::redis::connection::Connection;
use crate::store::redis::error::CommandError;
use crate::store::redis::startup_check::{self, RedisOpenError};
use crate::store::redis::{change_feed, row, scan};
use crate::store::row::{Page, Row, Write, WriteOp, WriteOutcome};
use crate::store::scan_cache::ScanCache;
use crate::store::sealed_record::{self, SharedKeyRing};

/// A backend in Redis. Clones share its thread, which ends when the last clone is dropped.
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    feed: ChangeFeed,
    runtime: Handle,
    /// Dropping this sender wakes the thread, which then ends.
    _until: oneshot::Sender<()>,
}

struct Shared {
    link: Connection,
    keys: SharedKeyRing,
    clock: Clock,
    listings: ScanCache<Id>,
}

impl Redis {
    /// Connects, checks the server and subscribes to the change feed. Blocks until this is done.
    ///
    /// # Errors
    /// Redis is unreachable or may evict records, or the CA file cannot be read.
    pub fn open(config: RedisConfig, keys: SharedKeyRing, clock: Clock) -> Result<Self, RedisOpenError> {
        let connector = Connector::new(config).map_err(RedisOpenError::Ca)?;
        let feed = ChangeFeed::default();
        let (shutdown_sender, shutdown_receiver) = oneshot::channel();
        let (result_sender, result_receiver) = mpsc::channel();
        let run_backend = {
            let feed = feed.clone();
            move || {
                let runtime = match Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(result_sender.send(Err(RedisOpenError::Unreachable(error.to_string())))),
                };
                runtime.block_on(async {
                    let shared = Shared {
                        link: Connection::begin(connector),
                        keys,
                        clock,
                        listings: ScanCache::default(),
                    };
                    let result = startup_check::check_server(&shared.link).await;
                    let result = match result {
                        Ok(()) => change_feed::begin(&shared.link, feed).await.map_err(RedisOpenError::from),
                        Err(error) => Err(error),
                    };
                    let result = result.map(|()| (Arc::new(shared), Handle::current()));
                    let is_open = result.is_ok();
                    if result_sender.send(result).is_ok() && is_open {
                        drop(shutdown_receiver.await);
                    }
                });
                runtime.shutdown_background();
            }
        };
        let unreachable_error = |reason: String| RedisOpenError::Unreachable(reason);
        thread::Builder::new()
            .name("store-redis".to_owned())
            .spawn(run_backend)
            .map_err(|error| unreachable_error(error.to_string()))?;
        let (shared, runtime) = result_receiver
            .recv()
            .map_err(|_| unreachable_error("its thread ended".to_owned()))??;
        Ok(Self(Arc::new(Inner {
            shared,
            feed,
            runtime,
            _until: shutdown_sender,
        })))
    }

    pub(in crate::store) async fn get(&self, key: &str) -> Result<Option<Row>, StoreError> {
        let key = key.to_owned();
        self.run(async move |shared| {
            let reply = shared.link.read(&row::get(shared.prefix(), &key)).await.map_err(unavailable)?;
            Ok(row::read(&reply))
        })
        .await
    }

    pub(in crate::store) async fn put_if(&self, write: Write) -> Result<WriteOutcome, StoreError> {
        self.run(async move |shared| shared.put_if(&write).await).await
    }

    pub(in crate::store) async fn scan(
        &self,
        space: &str,
        deadline: Option<UnixTime>,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let space = space.to_owned();
        self.run(async move |shared| {
            let page = shared.scan(&space, deadline, after, limit).await;
            page.map_err(unavailable)
        })
        .await
    }

    pub(in crate::store) async fn spaces(&self) -> Result<Vec<String>, StoreError> {
        self.run(async move |shared| scan::spaces(&shared.link).await.map_err(unavailable))
            .await
    }

    /// Writes a key, because a Redis that is full or read-only still answers reads.
    pub(in crate::store) async fn ping(&self) -> Result<(), StoreError> {
        self.run(async move |shared| {
            let result = shared.link.read(&row::touch(shared.prefix())).await;
            result.map(drop).map_err(unavailable)
        })
        .await
    }

    pub(in crate::store) fn feed(&self) -> &ChangeFeed {
        &self.0.feed
    }

    /// Runs an operation on the backend's thread, to its end, even if the caller stops waiting.
    async fn run<T, F>(&self, operation: impl FnOnce(Arc<Shared>) -> F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let result = self.0.runtime.spawn(operation(Arc::clone(&self.0.shared))).await;
        result.unwrap_or_else(|_| Err(StoreError::Unavailable("it is closed".to_owned())))
    }
}

impl Shared {
    fn prefix(&self) -> &str {
        &self.link.dial.at.prefix
    }

    /// Returns a page of a scan, ordered by id, limited to records that expire by `deadline`.
    async fn scan(&self, space: &str, deadline: Option<UnixTime>, after: Option<String>, limit: usize) -> Result<Page, CommandError> {
        let after = after.and_then(|key| scan::hash(space, &key));
        let name = deadline.map_or_else(|| space.to_owned(), |deadline| format!("{space} until {}", deadline.0));
        let (ids, next) = self
            .listings
            .page(&name, after, limit, scan::list_ids(&self.link, space, deadline))
            .await?;
        let key = |id: Id| format!("{space}/{id}");
        let rows = scan::rows(&self.link, ids.into_iter().map(key).collect()).await?;
        Ok(Page { rows, next: next.map(key) })
    }

    async fn put_if(&self, write: &Write) -> Result<WriteOutcome, StoreError> {
        let ChangeEvent::Put { space, id } = &write.event else {
            return Err(StoreError::Unavailable("this write has no news".to_owned()));
        };
        let now = self.clock.now();
        let sealed_id = sealed_record::seal_id(&self.keys.load(), now, space, &write.key, *id);
        let message = change_feed::Message {
            channel: change_feed::channel(&self.link.dial.at),
            message: change_feed::message(&write.key, &sealed_id),
        };
        match row::put(&self.link, write, &message, now).await {
            Ok(row::RowWrite::Written) => Ok(WriteOutcome::Written),
            // The cluster client retries by itself, so the first attempt may have deleted the row.
            Ok(row::RowWrite::Gone) if self.link.dial.at.is_cluster() && matches!(write.operation, WriteOp::Delete(_)) => {
                Ok(WriteOutcome::Unknown)
            }
            Ok(row::RowWrite::Stale | row::RowWrite::Gone) => Ok(WriteOutcome::Stale),
            Err(CommandError::Lost(_) | CommandError::Late) => Ok(WriteOutcome::Unknown),
            Err(error @ (CommandError::NotAsked(_) | CommandError::Refused(..))) => Err(unavailable(error)),
        }
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redis")
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed over by map_err")]
fn unavailable(error: CommandError) -> StoreError {
    StoreError::Unavailable(format!("Redis: {error}"))
}
