//! Typed records over interchangeable backends. A backend sees a key, a version, an expiry and
//! sealed bytes. Sealing, expiry, types and [`Store::transition`] are implemented here, once for
//! all backends. A transition is optimistic, so its step must be pure: it may run twice.

mod attempts;
mod backend;
mod change_feed;
mod client_side;
mod error;
mod export;
mod handle;
mod key_check;
mod memory;
mod redis;
mod sealed_record;
mod sqlite;
#[cfg(test)]
mod tests;
mod vault;

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::base::ids::Id;
use crate::base::keyring::KeyRing;
use crate::base::record::{Record, State};
use crate::base::time::{Clock, UnixTime};
use crate::store::attempts::{MAX_ATTEMPTS, backoff, check_unanswered, contention_error};
use crate::store::backend::{Page, Row, Version, Write, WriteOp, WriteOutcome};
use crate::store::change_feed::ChangeEvent;
use crate::store::client_side::Current;
use crate::store::handle::storage_key;
use crate::store::sealed_record::AssociatedData;

pub use crate::store::backend::Backend;
pub use crate::store::change_feed::{Change, ChangeReceiver};
pub use crate::store::error::{InsertError, StoreError, TransitionError, UpsertError};
pub use crate::store::export::{Export, ImportReport, TransferError};
pub use crate::store::handle::{Cursor, Handle, Transitioned};
pub use crate::store::key_check::{KeyCheckError, KeyStatus};
pub use crate::store::memory::Memory;
pub use crate::store::redis::{DEFAULT_PREFIX as REDIS_PREFIX, RedisConfig, RedisConfigError};
#[cfg(feature = "redis")]
pub use crate::store::redis::{Redis, RedisOpenError};
pub use crate::store::sqlite::{FILE_NAME as SQLITE_FILE, Sqlite, SqliteOpenError};
pub use crate::store::vault::{
    DEFAULT_APPROLE_MOUNT as VAULT_APPROLE, DEFAULT_MOUNT as VAULT_MOUNT, VaultConfig, VaultConfigError, VaultLogin,
};
#[cfg(feature = "vault")]
pub use crate::store::vault::{Vault, VaultNotOpened};

/// The keys that seal and open records. A reload replaces them.
pub type SharedKeyRing = Arc<ArcSwap<KeyRing>>;

/// The records of a page, and the cursor of the next page, if there is one.
type RecordPage<R> = (Vec<(Handle<R>, R)>, Option<Cursor>);

/// The maximum number of rows in a page of a scan.
const MAX_PAGE_SIZE: usize = 1000;

/// All records of an installation. Clones share the backend. Methods return a [`StoreError`] if the
/// backend fails, or if a record cannot be opened or read.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Backend,
    /// Stateless mode: client-side records are in handles; the backend has what was seen here last.
    carries: bool,
    keys: SharedKeyRing,
    clock: Clock,
}

impl Store {
    /// Creates a store over `backend`. It seals with `keys`, and records expire by `clock`.
    pub fn new(backend: Backend, keys: SharedKeyRing, clock: Clock) -> Self {
        Self {
            backend,
            carries: false,
            keys,
            clock,
        }
    }

    /// Inserts a record in state `state` under `id`. Replaces an expired record.
    ///
    /// # Errors
    /// [`InsertError::AlreadyExists`] if there is a record under `id`, or if the store fails.
    pub async fn insert<S: State>(&self, id: Id, state: S) -> Result<Handle<S::Record>, InsertError> {
        self.insert_record(id, state.into()).await
    }

    async fn insert_record<R: Record>(&self, id: Id, record: R) -> Result<Handle<R>, InsertError> {
        let handle = Handle::new(id);
        let mut unanswered = Vec::new();
        let mut seen_version = None;
        for attempt in 0..MAX_ATTEMPTS {
            let row = self.sealed(&handle, &record, seen_version)?;
            let (version, new_handle) = (row.version, self.outgoing_handle(&handle, &row));
            let operation = WriteOp::replace_or_insert(seen_version, row);
            match self.put(&handle, operation).await? {
                WriteOutcome::Written => return Ok(new_handle),
                WriteOutcome::Stale => {}
                WriteOutcome::Unknown => unanswered.push(version),
            }
            let stored = self.backend.get(&storage_key(&handle)).await?;
            seen_version = stored.as_ref().map(|row| row.version);
            if let Some(row) = stored {
                if unanswered.contains(&row.version) {
                    return Ok(self.outgoing_handle(&handle, &row));
                }
                if self.opened(&handle, &row)?.is_some() {
                    return Err(InsertError::AlreadyExists);
                }
            }
            check_unanswered(unanswered.len())?;
            backoff(attempt).await;
        }
        Err(contention_error().into())
    }

    /// Reads the record behind `handle`. `None`: there is no record, or it has expired.
    pub async fn read<R: Record>(&self, handle: &Handle<R>) -> Result<Option<R>, StoreError> {
        match self.current(handle).await? {
            Some(current) => self.opened(handle, &current.row),
            None => Ok(None),
        }
    }

    /// Applies `step` to the record behind `handle`, which must be in state `S`, and stores the
    /// result. Starts again if another writer was faster, so `step` must be pure.
    ///
    /// # Errors
    /// If there is no record, it is in another state, `step` rejects it, or the store fails.
    pub async fn transition<S, N, T, E>(
        &self,
        handle: &Handle<S::Record>,
        step: impl Fn(S) -> Result<(N, T), E>,
    ) -> Result<Transitioned<N, T>, TransitionError<E>>
    where
        S: State,
        N: State<Record = S::Record>,
    {
        let step = |record: S::Record| {
            let state = S::from_record(record).ok_or(TransitionError::WrongState)?;
            let (next, effect) = step(state).map_err(TransitionError::Rejected)?;
            Ok((next.into(), effect))
        };
        let (handle, effect) = self.apply(handle, step).await?;
        Ok(Transitioned { handle, effect })
    }

    /// Like [`Store::transition`], but from any state of the record.
    pub async fn update<R: Record, T, E>(
        &self,
        handle: &Handle<R>,
        step: impl Fn(R) -> Result<(R, T), E>,
    ) -> Result<(Handle<R>, T), TransitionError<E>> {
        self.apply(handle, |record| step(record).map_err(TransitionError::Rejected)).await
    }

    /// Updates the record behind `handle`, or inserts one; then the pure `step` gets `None`. If the
    /// handle's own record has expired or does not open, the copy of this process is updated.
    ///
    /// # Errors
    /// If `step` rejects the record, or the store fails.
    pub async fn upsert<R: Record, T, E>(
        &self,
        handle: &Handle<R>,
        step: impl Fn(Option<R>) -> Result<(R, T), E>,
    ) -> Result<(Handle<R>, T), UpsertError<E>> {
        let mut handle = handle.clone();
        loop {
            match self.update(&handle, |record| step(Some(record))).await {
                Ok(updated) => return Ok(updated),
                // `WrongState` cannot occur: an update accepts any state.
                Err(TransitionError::NotFound | TransitionError::WrongState) => {}
                Err(TransitionError::Rejected(error)) => return Err(UpsertError::Rejected(error)),
                Err(TransitionError::Store(error)) => return Err(UpsertError::Store(error)),
            }
            let (record, value) = step(None).map_err(UpsertError::Rejected)?;
            match self.insert_record(handle.id(), record).await {
                Ok(inserted) => return Ok((inserted, value)),
                // Another writer inserted it meanwhile, or this process has a copy.
                Err(InsertError::AlreadyExists) => handle = Handle::new(handle.id()),
                Err(InsertError::Store(error)) => return Err(UpsertError::Store(error)),
            }
        }
    }

    async fn apply<R: Record, T, E>(
        &self,
        handle: &Handle<R>,
        step: impl Fn(R) -> Result<(R, T), TransitionError<E>>,
    ) -> Result<(Handle<R>, T), TransitionError<E>> {
        let mut unanswered: Vec<(Version, T)> = Vec::new();
        for attempt in 0..MAX_ATTEMPTS {
            let Current {
                row: current,
                stored_version,
            } = self.current(handle).await?.ok_or(TransitionError::NotFound)?;
            // An earlier attempt was written, but its answer was lost. Do not run the step again.
            if let Some(index) = unanswered.iter().position(|(version, _)| *version == current.version) {
                return Ok((self.outgoing_handle(handle, &current), unanswered.swap_remove(index).1));
            }
            check_unanswered(unanswered.len())?;
            let record = self.opened(handle, &current)?.ok_or(TransitionError::NotFound)?;
            let (next, effect) = step(record)?;
            let row = self.sealed(handle, &next, Some(current.version))?;
            let (version, new_handle) = (row.version, self.outgoing_handle(handle, &row));
            let operation = WriteOp::replace_or_insert(stored_version, row);
            match self.put(handle, operation).await? {
                WriteOutcome::Written => return Ok((new_handle, effect)),
                WriteOutcome::Stale => {}
                WriteOutcome::Unknown => unanswered.push((version, effect)),
            }
            backoff(attempt).await;
        }
        Err(contention_error().into())
    }

    /// Removes the record behind `handle`, even if it does not open. Fails for a newer version.
    pub async fn remove<R: Record>(&self, handle: &Handle<R>) -> Result<(), StoreError> {
        let is_removable = |result: Result<Option<R>, StoreError>| match result {
            Err(error @ StoreError::NewerVersion { .. }) => Err(error),
            Ok(_) | Err(_) => Ok(true),
        };
        self.remove_with(handle, is_removable).await.map(drop)
    }

    /// Removes the record behind `handle` if `condition` holds for it. Returns whether it was
    /// removed.
    pub async fn remove_if<R: Record>(&self, handle: &Handle<R>, condition: impl Fn(&R) -> bool) -> Result<bool, StoreError> {
        self.remove_with(handle, |result| Ok(result?.as_ref().is_some_and(&condition)))
            .await
    }

    async fn remove_with<R: Record>(
        &self,
        handle: &Handle<R>,
        should_remove: impl Fn(Result<Option<R>, StoreError>) -> Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        let mut unanswered = 0;
        for attempt in 0..MAX_ATTEMPTS {
            let Some(stored) = self.backend.get(&storage_key(handle)).await? else {
                return Ok(unanswered > 0);
            };
            check_unanswered(unanswered)?;
            if !should_remove(self.opened(handle, &stored))? {
                return Ok(false);
            }
            match self.put(handle, WriteOp::Delete(stored.version)).await? {
                WriteOutcome::Written => return Ok(true),
                WriteOutcome::Stale => {}
                WriteOutcome::Unknown => unanswered += 1,
            }
            backoff(attempt).await;
        }
        Err(contention_error())
    }

    /// Reads all records of a kind, page by page, until there is no cursor. A record that exists
    /// throughout is returned exactly once. A page before the last one may be short or empty.
    pub async fn scan<R: Record>(&self, cursor: Option<Cursor>, limit: usize) -> Result<RecordPage<R>, StoreError> {
        let after = cursor.map(|cursor| cursor.0);
        self.opened_page(self.backend.scan(R::KIND, after, limit.clamp(1, MAX_PAGE_SIZE)).await?)
    }

    /// Like [`Store::scan`], but reads only records that expire by `deadline`, to find few among
    /// many. The expiry in the row decides here, not the sealed one.
    pub async fn scan_ending<R: Record>(
        &self,
        deadline: UnixTime,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<RecordPage<R>, StoreError> {
        let after = cursor.map(|cursor| cursor.0);
        self.opened_page(
            self.backend
                .scan_ending(R::KIND, deadline, after, limit.clamp(1, MAX_PAGE_SIZE))
                .await?,
        )
    }

    fn opened_page<R: Record>(&self, page: Page) -> Result<RecordPage<R>, StoreError> {
        let (now, ring) = (self.clock.now(), self.keys.load_full());
        let mut records = Vec::with_capacity(page.rows.len());
        for (key, row) in page.rows {
            let (id, record) = match sealed_record::open::<R>(&ring, self.bound::<R>(&key, &row), &row.value) {
                // Client-side records are not resealed, so a copy under a removed key is skipped.
                Err(StoreError::DoesNotOpen { .. }) if self.is_client_side::<R>() => continue,
                result => result?,
            };
            if record.expires_at() >= now {
                records.push((Handle::new(id), record));
            }
        }
        Ok((records, page.next.map(Cursor)))
    }

    /// Checks that the store answers and can write.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.backend.ping().await
    }

    /// Subscribes to all changes from now on.
    pub fn changes(&self) -> ChangeReceiver {
        ChangeReceiver::new(self.backend.feed(), self.keys.clone())
    }

    /// Removes expired records. Returns their number, if the backend counts them.
    pub async fn sweep(&self) -> Result<usize, StoreError> {
        let now = self.clock.now();
        let mut removed = 0;
        loop {
            match self.backend.sweep(now).await? {
                0 => return Ok(removed),
                count => removed += count,
            }
        }
    }

    /// Whether no other instance uses the store. The command line on the same machine still may.
    pub fn is_single(&self) -> bool {
        match self.backend {
            Backend::Memory(_) | Backend::Sqlite(_) => !self.carries,
            #[cfg(feature = "redis")]
            Backend::Redis(_) => false,
            #[cfg(feature = "vault")]
            Backend::Vault(_) => false,
        }
    }

    /// Seals `record` as the successor of the version `previous`.
    fn sealed<R: Record>(&self, handle: &Handle<R>, record: &R, previous: Option<Version>) -> Result<Row, StoreError> {
        let is_client_side = self.is_client_side::<R>();
        let mut row = Row {
            value: Vec::new(),
            version: if is_client_side {
                Version::next(previous)
            } else {
                Version::fresh()
            },
            expires: record.expires_at(),
        };
        let key = storage_key(handle);
        row.value = sealed_record::seal(
            &self.keys.load(),
            self.clock.now(),
            self.bound::<R>(&key, &row),
            handle.id(),
            record,
        )?;
        Ok(row)
    }

    fn bound<'a, R: Record>(&self, key: &'a str, row: &Row) -> AssociatedData<'a> {
        let version = self.is_client_side::<R>().then_some(row.version);
        AssociatedData { key, travels: version }
    }

    /// Opens the record in `row`. `None`: it has expired. The sealed expiry decides, not the row's.
    fn opened<R: Record>(&self, handle: &Handle<R>, row: &Row) -> Result<Option<R>, StoreError> {
        let key = storage_key(handle);
        let (_, record) = sealed_record::open::<R>(&self.keys.load(), self.bound::<R>(&key, row), &row.value)?;
        Ok(Some(record).filter(|record| record.expires_at() >= self.clock.now()))
    }

    async fn put<R: Record>(&self, handle: &Handle<R>, operation: WriteOp) -> Result<WriteOutcome, StoreError> {
        let event = ChangeEvent::Put {
            space: R::KIND.into(),
            id: handle.id(),
        };
        let key = storage_key(handle);
        self.backend
            .compare_and_set(Write {
                key,
                act: operation,
                news: event,
            })
            .await
    }
}
