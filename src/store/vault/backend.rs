//! The Vault backend: its thread and its operations.

use std::fmt;
use std::sync::{Arc, mpsc};

use tokio::runtime::{Builder, Runtime};

use crate::base::time::Clock;
use crate::store::change_feed::{ChangeEvent, ChangeFeed};
use crate::store::error::StoreError;
use crate::store::row::{Page, Row, Version, Write, WriteOp, WriteOutcome};
use crate::store::scan_cache::ScanCache;
use crate::store::sealed_record::{self, SharedKeyRing};
use crate::store::vault::api::ApiError;
use crate::store::vault::change_feed::{self, Publisher};
use crate::store::vault::config::VaultConfig;
use crate::store::vault::connection::{Connection, pause};
use crate::store::vault::row::{self, NewValue, RowWrite, StoredValue};
use crate::store::vault::scan;
use crate::store::vault::startup_check::{self, VaultOpenError};
use crate::store::vault::sweep::{self, DueTimes};

/// A backend in Vault. Clones share its thread, which ends when the last clone is dropped.
#[derive(Clone)]
pub struct Vault(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

struct Shared {
    link: Arc<Connection>,
    keys: SharedKeyRing,
    clock: Clock,
    due: DueTimes,
    listings: ScanCache<String>,
    teller: Publisher,
    feed: ChangeFeed,
}

impl Vault {
    /// Logs in, checks the mount and starts to read the journals. Blocks until this is done.
    ///
    /// # Errors
    /// [`VaultOpenError`] says why this Vault cannot be used.
    pub fn open(config: VaultConfig, keys: SharedKeyRing, clock: Clock) -> Result<Self, VaultOpenError> {
        let unreachable_error = |reason: String| VaultOpenError::Unreachable(reason);
        // Before the runtime is built: on an error, no runtime is dropped inside another one.
        let link = Arc::new(Connection::new(config).map_err(VaultOpenError::Ca)?);
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name("store-vault").enable_all().build();
        let runtime = runtime.map_err(|error| unreachable_error(error.to_string()))?;
        let (result_sender, result_receiver) = mpsc::channel();
        // Not `block_on`: the caller may itself be on a runtime.
        runtime.spawn(async move {
            drop(result_sender.send(Shared::begin(link, keys, clock).await));
        });
        let shared = match result_receiver.recv().map_err(|_| unreachable_error("its thread ended".to_owned())) {
            Ok(Ok(shared)) => Arc::new(shared),
            Ok(Err(error)) | Err(error) => {
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let runtime = Some(runtime);
        Ok(Self(Arc::new(Inner { shared, runtime })))
    }

    pub(in crate::store) async fn get(&self, key: &str) -> Result<Option<Row>, StoreError> {
        let key = key.to_owned();
        self.run(async move |shared| match row::find(&shared.link, &key).await? {
            StoredValue::Row(_, row) => Ok(Some(row)),
            StoredValue::Nothing | StoredValue::Tombstone(..) | StoredValue::Deleting(_) => Ok(None),
        })
        .await
    }

    pub(in crate::store) async fn put_if(&self, write: Write) -> Result<WriteOutcome, StoreError> {
        self.run(async move |shared| shared.put_if(write).await).await
    }

    pub(in crate::store) async fn scan(&self, space: &str, after: Option<String>, limit: usize) -> Result<Page, StoreError> {
        let space = space.to_owned();
        self.run(async move |shared| scan::page(&shared.listings, &shared.link, &space, after, limit).await)
            .await
    }

    pub(in crate::store) async fn spaces(&self) -> Result<Vec<String>, StoreError> {
        self.run(async move |shared| scan::spaces(&shared.link).await).await
    }

    /// Writes, because a Vault that cannot write may still answer reads.
    pub(in crate::store) async fn ping(&self) -> Result<(), StoreError> {
        self.run(async move |shared| row::limit_versions(&shared.link, startup_check::PING_PATH).await)
            .await
    }

    /// Removes expired records, which Vault never does by itself. One call handles all that is due.
    pub(in crate::store) async fn sweep(&self) -> Result<(), StoreError> {
        self.run(async move |shared| {
            let count = sweep::sweep(&shared.link, &shared.clock, &shared.due).await?;
            tracing::debug!(ended = count, "records in Vault have ended");
            Ok(())
        })
        .await
    }

    pub(in crate::store) fn feed(&self) -> &ChangeFeed {
        &self.0.shared.feed
    }

    /// Runs an operation on the backend's thread, to its end, even if the caller stops waiting.
    async fn run<T, F>(&self, operation: impl FnOnce(Arc<Shared>) -> F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ApiError>> + Send + 'static,
    {
        let closed_error = || StoreError::Unavailable("it is closed".to_owned());
        let runtime = self.0.runtime.as_ref().ok_or_else(closed_error)?;
        let result = runtime
            .spawn(operation(Arc::clone(&self.0.shared)))
            .await
            .map_err(|_| closed_error())?;
        result.map_err(|error| StoreError::Unavailable(format!("Vault: {error}")))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A plain drop of a runtime blocks, which no async task may do.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    async fn begin(link: Arc<Connection>, keys: SharedKeyRing, clock: Clock) -> Result<Self, VaultOpenError> {
        startup_check::checked(&link).await?;
        let feed = ChangeFeed::default();
        let publisher = change_feed::begin(&link, clock.clone(), feed.clone()).await;
        Ok(Self {
            teller: publisher.map_err(|error| startup_check::refused(&link, &error))?,
            link,
            keys,
            clock,
            due: DueTimes::default(),
            listings: ScanCache::default(),
            feed,
        })
    }

    async fn put_if(self: Arc<Self>, write: Write) -> Result<WriteOutcome, ApiError> {
        let ChangeEvent::Put { space, id } = &write.event else {
            return Err(ApiError::NotAsked("this write has no news".to_owned()));
        };
        let sealed_id = sealed_record::seal_id(&self.keys.load(), self.clock.now(), space, &write.key, *id);
        match self.compare_and_write(&write).await {
            Ok(RowWrite::Written) => {
                if matches!(write.operation, WriteOp::Insert(_)) {
                    let (link, key) = (Arc::clone(&self.link), write.key.clone());
                    tokio::spawn(async move {
                        for _ in 0..4 {
                            if row::limit_versions(&link, &key).await.is_ok() {
                                return;
                            }
                            pause().await;
                        }
                    });
                }
                self.feed.publish(write.event);
                self.teller.publish(write.key, sealed_id).await;
                Ok(WriteOutcome::Written)
            }
            Ok(RowWrite::Stale) => Ok(WriteOutcome::Stale),
            Err(WriteError::Not(error)) => Err(error),
            Err(WriteError::Perhaps) => {
                // Publish now as well: the process may end before the repetitions.
                self.teller.publish(write.key.clone(), sealed_id.clone()).await;
                // If Vault executes it, then soon. Repeat the event so that caches look again.
                tokio::spawn(async move {
                    for _ in 0..3 {
                        pause().await;
                        self.feed.publish(write.event.clone());
                        self.teller.publish(write.key.clone(), sealed_id.clone()).await;
                        tokio::time::sleep(crate::store::vault::api::REQUEST_TIMEOUT).await;
                    }
                });
                Ok(WriteOutcome::Unknown)
            }
        }
    }

    /// Compares the version in the stored row, then lets Vault compare its write count (`cas`).
    async fn compare_and_write(&self, write: &Write) -> Result<RowWrite, WriteError> {
        let (key, now) = (write.key.as_str(), self.clock.now());
        let (count, value) = match &write.operation {
            WriteOp::Insert(row) => match self.written(key, 0, NewValue::Row(row)).await? {
                RowWrite::Written => return Ok(RowWrite::Written),
                RowWrite::Stale => match row::find(&self.link, key).await.map_err(WriteError::Not)? {
                    StoredValue::Tombstone(count, _) => (count, NewValue::Row(row)),
                    StoredValue::Nothing | StoredValue::Row(..) | StoredValue::Deleting(_) => return Ok(RowWrite::Stale),
                },
            },
            WriteOp::Replace(expected, row) => match self.there(key, expected).await? {
                Some(count) => (count, NewValue::Row(row)),
                None => return Ok(RowWrite::Stale),
            },
            WriteOp::Delete(expected) => match self.there(key, expected).await? {
                Some(count) => (count, NewValue::Tombstone(now)),
                None => return Ok(RowWrite::Stale),
            },
        };
        self.written(key, count, value).await
    }

    async fn there(&self, key: &str, expected: &Version) -> Result<Option<u64>, WriteError> {
        match row::find(&self.link, key).await.map_err(WriteError::Not)? {
            StoredValue::Row(count, row) if row.version == *expected => Ok(Some(count)),
            StoredValue::Nothing | StoredValue::Row(..) | StoredValue::Tombstone(..) | StoredValue::Deleting(_) => Ok(None),
        }
    }

    async fn written(&self, key: &str, count: u64, value: NewValue<'_>) -> Result<RowWrite, WriteError> {
        match row::write(&self.link, key, count, value).await {
            Ok(RowWrite::Written) => {
                self.due.lock().await.insert(key.to_owned(), sweep::next_sweep_at(value));
                Ok(RowWrite::Written)
            }
            Ok(RowWrite::Stale) => Ok(RowWrite::Stale),
            Err(ApiError::Lost(_)) => Err(WriteError::Perhaps),
            Err(error @ (ApiError::NotAsked(_) | ApiError::Untrusted(_) | ApiError::Refused(..))) => Err(WriteError::Not(error)),
        }
    }
}

/// The reason why a write is not known to be done.
enum WriteError {
    Not(ApiError),
    Perhaps,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault")
    }
}
