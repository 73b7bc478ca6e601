//! The store: it seals and opens typed records over a backend, and scans them.

use crate::base::record::Record;
use crate::base::time::{Clock, UnixTime};
use crate::store::backend::Backend;
use crate::store::change_feed::ChangeEvent;
use crate::store::change_receiver::ChangeReceiver;
use crate::store::error::StoreError;
use crate::store::handle::{Cursor, Handle, storage_key};
use crate::store::row::{Page, Row, Version, Write, WriteOp, WriteOutcome};
use crate::store::sealed_record::{self, AssociatedData, SharedKeyRing};

/// The records of a page, and the cursor of the next page, if there is one.
type RecordPage<R> = (Vec<(Handle<R>, R)>, Option<Cursor>);

/// The maximum number of rows in a page of a scan.
pub(super) const MAX_PAGE_SIZE: usize = 1000;

/// All records of an installation. Clones share the backend. Methods return a [`StoreError`] if the
/// backend fails, or if a record cannot be opened or read.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) backend: Backend,
    /// Stateless mode: client-side records are in handles; the backend has what was seen here last.
    pub(super) carries: bool,
    pub(super) keys: SharedKeyRing,
    pub(super) clock: Clock,
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

    /// Whether records of this kind travel in their handles.
    pub(super) fn is_client_side<R: Record>(&self) -> bool {
        self.carries && R::CLIENT_SIDE
    }

    /// Seals `record` as the successor of the version `previous`.
    pub(super) fn sealed<R: Record>(&self, handle: &Handle<R>, record: &R, previous: Option<Version>) -> Result<Row, StoreError> {
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
    pub(super) fn opened<R: Record>(&self, handle: &Handle<R>, row: &Row) -> Result<Option<R>, StoreError> {
        let key = storage_key(handle);
        let (_, record) = sealed_record::open::<R>(&self.keys.load(), self.bound::<R>(&key, row), &row.value)?;
        Ok(Some(record).filter(|record| record.expires_at() >= self.clock.now()))
    }

    pub(super) async fn put<R: Record>(&self, handle: &Handle<R>, operation: WriteOp) -> Result<WriteOutcome, StoreError> {
        let event = ChangeEvent::Put {
            space: R::KIND.into(),
            id: handle.id(),
        };
        let key = storage_key(handle);
        self.backend.compare_and_set(Write { key, operation, event }).await
    }
}
