//! The revocation list, and the event streams that end with a grant or API key.
//!
//! The list is loaded whole before the first MCP request is answered, and follows the changes of the
//! store. So a proxied request reads no store.

pub mod event_streams;
pub mod list;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;

use crate::app::audit_events;
use crate::app::core::Core;
use crate::app::revocations::event_streams::{EventStreams, OpenStream, StreamOwner};
use crate::app::revocations::list::{RevocationList, TokenStatus};
use crate::base::ids::Id;
use crate::base::record::Record;
use crate::base::time::UnixTime;
use crate::flow::api_key::ApiKeyRecord;
use crate::flow::branches::{AbandonedBranches, AbandonedRecord};
use crate::flow::grant::GrantRecord;
use crate::store::{Change, Handle, StoreError};
use crate::token::header::PairHeader;

/// The number of records in one page of a scan.
const PAGE_SIZE: usize = 500;

/// The shortest time, in seconds, for which tombstones are read at the start: `access_ttl` may have
/// been longer than it is now. A tombstone that lasts longer still is found by the first pass over
/// all grants.
const MIN_TOMBSTONE_SECONDS: u64 = 86_400;

/// By how much a tombstone outlives the access tokens, and by how much the clocks of two instances may
/// differ, in seconds.
const CLOCK_MARGIN_SECONDS: u64 = 3_600;

/// The delay of the audit event for an end that the store reports. By then, this process knows its own ends.
const OWN_END_DELAY: Duration = Duration::from_secs(1);
/// The maximum number of its own ends that this process remembers.
const MAX_ENDED_HERE: usize = 1_000;

/// The effect of a change in the store on the revocation list.
#[derive(Debug, PartialEq, Eq)]
pub enum ChangeOutcome {
    /// This grant or API key has just ended.
    Ended(Id),
    /// Nothing has ended.
    Unrelated,
    /// A change may have been missed: the list must be loaded again.
    Missed,
}

/// Knows which grants have ended and which API keys are revoked.
pub struct Revocations {
    core: Arc<Core>,
    list: RevocationList,
    streams: EventStreams,
    /// The ends that this process caused, for the audit log.
    ended_here: Arc<Cache<Id, ()>>,
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Revocations")
    }
}

impl Revocations {
    pub(in crate::app) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            list: RevocationList::default(),
            streams: EventStreams::default(),
            ended_here: Arc::new(Cache::new(MAX_ENDED_HERE)),
        }
    }

    /// Whether this grant has ended, or this API key is revoked.
    pub(in crate::app) fn is_revoked(&self, id: Id) -> bool {
        self.list.contains(id)
    }

    /// The status of a token with this header.
    pub(in crate::app) fn status(&self, header: &PairHeader) -> TokenStatus {
        self.list.status(header)
    }

    /// Lists abandoned branches of a grant until `until`.
    pub(in crate::app) fn add_abandoned(&self, grant: Id, branches: AbandonedBranches, until: UnixTime) {
        self.list.add_abandoned(grant, branches, until);
    }

    /// Lists a grant that this process has ended, as [`Self::add`] does.
    pub(in crate::app) fn add_ended_here(&self, id: Id, until: UnixTime) {
        self.ended_here.insert(id, ());
        self.add(id, until);
    }

    /// Records the end of a grant by another process. This process may be about to note that it was its
    /// own, so that is looked up later.
    fn record_end_elsewhere(&self, id: Id) {
        let (audit, ended_here) = (self.core.audit.clone(), Arc::clone(&self.ended_here));
        self.core.tasks.spawn(async move {
            tokio::time::sleep(OWN_END_DELAY).await;
            if ended_here.get(&id).is_none() {
                audit.record(audit_events::other_process_ended(id));
            }
        });
    }

    /// Lists a grant until `until`, and ends its streams.
    pub(in crate::app) fn add(&self, id: Id, until: UnixTime) {
        self.list.add(id, until);
        self.streams.end(id);
    }

    /// Whether the list is loaded.
    pub(in crate::app) fn is_loaded(&self) -> bool {
        self.list.is_complete()
    }

    /// Waits until the list is loaded, at most `timeout`. Returns whether it is.
    pub(in crate::app) async fn wait_loaded(&self, timeout: Duration) -> bool {
        self.list.wait_complete(timeout).await
    }

    /// Counts a stream, which ends with its grant or API key. `None` if its owner has `max` open streams.
    pub(in crate::app) fn open_stream(&self, owner: StreamOwner, max: usize) -> Option<OpenStream> {
        self.streams.open(owner, max)
    }

    /// Whether this owner has at least `max` open streams.
    pub(in crate::app) fn has_streams(&self, owner: StreamOwner, max: usize) -> bool {
        self.streams.has(owner, max)
    }

    /// Ends the streams of a grant or API key.
    pub(in crate::app) fn end_streams(&self, id: Id) {
        self.streams.end(id);
    }

    /// All ids on the list.
    pub(in crate::app) fn ids(&self) -> Vec<Id> {
        self.list.ids()
    }

    /// Reads all tombstones. The caller subscribes to the changes of the store before, so that no
    /// change is missed in between. Of the grants, only those that expire within the longest life of a
    /// tombstone are read: of a million active grants, hardly any.
    ///
    /// # Errors
    /// If the store fails.
    pub(in crate::app) async fn load(&self) -> Result<(), StoreError> {
        let ttl = self.core.config().max_access_ttl().max(MIN_TOMBSTONE_SECONDS);
        let last = self.core.clock.now().plus_seconds(ttl).plus_seconds(CLOCK_MARGIN_SECONDS);
        self.scan(last, |handle, record: &GrantRecord| {
            if let Some(until) = record.ended_until() {
                self.list.add(handle.id(), until);
            }
        })
        .await?;
        self.scan(UnixTime::NEVER, |_, record: &AbandonedRecord| self.list_abandoned(record))
            .await?;
        self.load_api_keys().await?;
        self.list.set_complete();
        Ok(())
    }

    /// Reads the revoked API keys, which are few: a message about one may have been lost.
    ///
    /// # Errors
    /// If the store fails.
    pub(in crate::app) async fn load_api_keys(&self) -> Result<(), StoreError> {
        self.scan(UnixTime::NEVER, |handle, record: &ApiKeyRecord| {
            if let Some(until) = record.ended_until() {
                self.list.add(handle.id(), until);
            }
        })
        .await
    }

    fn list_abandoned(&self, record: &AbandonedRecord) {
        let (grant, branches) = record.branches();
        self.list.add_abandoned(grant, branches, record.expires_at());
    }

    /// Calls `add` for each record that expires by `last`.
    async fn scan<R: Record>(&self, last: UnixTime, add: impl Fn(&Handle<R>, &R)) -> Result<(), StoreError> {
        let mut cursor = None;
        loop {
            let (page, next) = self.core.store.scan_ending::<R>(last, cursor, PAGE_SIZE).await?;
            for (handle, record) in &page {
                add(handle, record);
            }
            cursor = next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    /// Lists what a change in the store has ended.
    pub(in crate::app) async fn apply_change(&self, change: &Change) -> ChangeOutcome {
        match self.read_tombstone(change).await {
            Ok(Some((id, until))) => {
                if !self.is_revoked(id) && self.core.audit.is_on() {
                    self.record_end_elsewhere(id);
                }
                self.add(id, until);
                ChangeOutcome::Ended(id)
            }
            Ok(None) if *change != Change::Gap => ChangeOutcome::Unrelated,
            // It may have ended: a store that fails for a moment must not hide that.
            Ok(None) | Err(_) => ChangeOutcome::Missed,
        }
    }

    async fn read_tombstone(&self, change: &Change) -> Result<Option<(Id, UnixTime)>, StoreError> {
        let store = &self.core.store;
        if let Some(handle) = change.of::<GrantRecord>() {
            let until = store.read(&handle).await?.and_then(|record| record.ended_until());
            return Ok(until.map(|until| (handle.id(), until)));
        }
        if let Some(handle) = change.of::<AbandonedRecord>() {
            if let Some(record) = store.read(&handle).await? {
                self.list_abandoned(&record);
            }
            return Ok(None);
        }
        let Some(handle) = change.of::<ApiKeyRecord>() else {
            return Ok(None);
        };
        let until = store.read(&handle).await?.and_then(|record| record.ended_until());
        Ok(until.map(|until| (handle.id(), until)))
    }

    /// Removes what can no longer be presented, and grants without an open stream.
    pub(in crate::app) fn sweep(&self) {
        self.list.sweep(self.core.clock.now());
        self.streams.sweep();
    }
}
