//! Stateless mode (`store = "none"`): a client-side record is sealed into its handle. A bounded
//! cache has the last state of each record that this process saw, and wins over an older copy. So
//! one process keeps the guarantees of a store in memory. Another process, or this one after a
//! restart, accepts any copy until its record expires. The later copy is the one with the higher
//! transition count.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::base::record::Record;
use crate::base::time::{Clock, UnixTime};
use crate::store::backend::Backend;
use crate::store::error::StoreError;
use crate::store::handle::{Handle, storage_key};
use crate::store::memory::Memory;
use crate::store::records::Store;
use crate::store::row::{Row, Version};
use crate::store::sealed_record::SharedKeyRing;

/// The maximum number of cached records: some tens of MB. Those that expire first are evicted.
const MAX_CACHED_RECORDS: usize = 30_000;
/// The maximum length of an encoded record, in bytes. A refresh pair holds less.
const MAX_RECORD_BYTES: usize = 16 * 1024;

/// The current state of the record behind a handle.
pub(super) struct Current {
    /// The later copy: of the backend, or of the handle.
    pub(super) row: Row,
    /// The version in the backend, which the next write expects.
    pub(super) stored_version: Option<Version>,
}

impl Store {
    /// Creates a store in stateless mode. Handles hold the client-side records, sealed with `keys`.
    pub fn stateless(keys: SharedKeyRing, clock: Clock) -> Self {
        Self {
            carries: true,
            ..Self::new(Backend::Memory(Memory::bounded(MAX_CACHED_RECORDS)), keys, clock)
        }
    }

    /// Whether the store is in stateless mode, where records travel in their handles.
    pub fn is_stateless(&self) -> bool {
        self.carries
    }

    /// The record inside `handle`, unless it has expired or is forged. A later copy may be cached.
    pub fn supplied<R: Record>(&self, handle: &Handle<R>) -> Result<Option<R>, StoreError> {
        match self.brought_row(handle)? {
            Supplied::Row(row) => self.opened(handle, &row),
            Supplied::Nothing | Supplied::Bad => Ok(None),
        }
    }

    /// The later copy of the record: that in the backend, or that in the handle.
    pub(super) async fn current<R: Record>(&self, handle: &Handle<R>) -> Result<Option<Current>, StoreError> {
        let row = self.backend.get(&storage_key(handle)).await?;
        let stored_version = row.as_ref().map(|row| row.version);
        let row = match self.brought_row(handle)? {
            Supplied::Nothing => row,
            // A forged copy does not even give access to the cached record.
            Supplied::Bad => None,
            // With equal counts both copies are authentic. The client has only its own: it wins.
            Supplied::Row(supplied) => match row {
                Some(row) if row.version.transition_count() > supplied.version.transition_count() => Some(row),
                Some(_) | None => Some(supplied),
            },
        };
        Ok(row.map(|row| Current { row, stored_version }))
    }

    /// The handle to return to the caller. It holds the record if that is client-side.
    pub(super) fn outgoing_handle<R: Record>(&self, handle: &Handle<R>, row: &Row) -> Handle<R> {
        if self.is_client_side::<R>() {
            let text = URL_SAFE_NO_PAD.encode([&row.version.0, &*row.value].concat());
            Handle::new(handle.id()).with_record(&text)
        } else {
            handle.clone()
        }
    }

    /// The row in `handle`. Only a row that opens is returned: its transition count is authentic.
    fn brought_row<R: Record>(&self, handle: &Handle<R>) -> Result<Supplied, StoreError> {
        let Some(text) = handle.client_side_record().filter(|_| self.is_client_side::<R>()) else {
            return Ok(Supplied::Nothing);
        };
        let Some(row) = row(text) else { return Ok(Supplied::Bad) };
        match self.opened(handle, &row) {
            Ok(_) => Ok(Supplied::Row(row)),
            Err(StoreError::DoesNotOpen { .. } | StoreError::Unreadable { .. }) => Ok(Supplied::Bad),
            Err(error @ (StoreError::NewerVersion { .. } | StoreError::Unavailable(_))) => Err(error),
        }
    }
}

enum Supplied {
    /// The handle holds only an id.
    Nothing,
    /// The handle holds text that our keys did not seal, or that belongs to another record.
    Bad,
    Row(Row),
}

fn row(text: &str) -> Option<Row> {
    if text.len() > MAX_RECORD_BYTES {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (version, value) = bytes.split_first_chunk::<16>()?;
    Some(Row {
        value: value.to_vec(),
        version: Version(*version),
        // The expiry is inside the sealed record.
        expires: UnixTime::NEVER,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use arc_swap::ArcSwap;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::base::ids::Id;
    use crate::base::keyring::{self, KeyRing};
    use crate::base::record::State;
    use crate::store::{InsertError, TransitionError};

    #[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
    struct Step(u32);

    #[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
    struct Twin(u32);

    macro_rules! travels {
        ($record:ident, $space:literal) => {
            impl Record for $record {
                const KIND: &'static str = $space;
                const CLIENT_SIDE: bool = true;

                fn expires_at(&self) -> UnixTime {
                    UnixTime(100)
                }
            }

            impl State for $record {
                type Record = Self;

                fn from_record(record: Self) -> Option<Self> {
                    Some(record)
                }
            }
        };
    }
    travels!(Step, "step");
    travels!(Twin, "twin");

    struct Fleet {
        stores: [Store; 2],
        hand: Arc<AtomicU64>,
    }

    fn fleet() -> Fleet {
        let ring = KeyRing::parse(keyring::generate(UnixTime(0)).expose()).unwrap();
        let (keys, now) = (Arc::new(ArcSwap::from_pointee(ring)), Arc::new(AtomicU64::new(1)));
        let stores = [(); 2].map(|()| Store::stateless(Arc::clone(&keys), Clock::Fixed(Arc::clone(&now))));
        Fleet { stores, hand: now }
    }

    async fn on(store: &Store, handle: &Handle<Step>) -> Result<(Handle<Step>, u32), TransitionError<()>> {
        let transitioned = store.transition(handle, |Step(n)| Ok::<_, ()>((Step(n + 1), n))).await?;
        Ok((transitioned.handle, transitioned.effect))
    }

    #[tokio::test]
    async fn every_process_with_the_keys_can_transition_a_client_side_record() {
        let Fleet { stores: [a, b], .. } = fleet();
        let mut handle = a.insert(Id::random(), Step(0)).await.unwrap();
        for n in 0..6 {
            let (next, effect) = on(if n % 2 == 0 { &b } else { &a }, &handle).await.unwrap();
            assert_eq!(effect, n);
            handle = next;
        }
        let other_stores = fleet().stores;
        assert_eq!(other_stores[0].read(&handle).await, Ok(None));
        // An id alone works only where the record was seen before.
        let other_fleet = fleet();
        assert_eq!(other_fleet.stores[0].read(&Handle::<Step>::new(handle.id())).await, Ok(None));
    }

    #[tokio::test]
    async fn an_older_copy_is_superseded_only_where_a_newer_was_seen() {
        let Fleet { stores: [a, b], .. } = fleet();
        let first = a.insert(Id::random(), Step(0)).await.unwrap();
        let (second, _) = on(&a, &first).await.unwrap();
        assert_eq!(a.read(&first).await, Ok(Some(Step(1))));
        assert_eq!(on(&a, &first).await.unwrap().1, 1);
        assert_eq!(on(&b, &first).await.unwrap().1, 0);
        // `supplied` returns the copy in the handle, not the cached one.
        assert_eq!(a.supplied(&first), Ok(Some(Step(0))));
        assert_eq!(a.supplied(&second), Ok(Some(Step(1))));
    }

    #[tokio::test]
    async fn concurrent_transitions_of_the_same_copy_are_serialized() {
        let Fleet { stores: [a, _], .. } = fleet();
        let handle = fleet().stores[0].insert(Id::random(), Step(0)).await.unwrap();
        assert_eq!(a.read(&handle).await, Ok(None), "other keys");
        let handle = a.insert(Id::random(), Step(0)).await.unwrap();
        let results = futures_util::future::join_all((0..32).map(|_| on(&a, &handle))).await;
        let mut effects: Vec<u32> = results.into_iter().map(|result| result.unwrap().1).collect();
        effects.sort_unstable();
        assert_eq!(effects, (0..32).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_changed_or_foreign_client_side_record_does_not_open() {
        let Fleet { stores: [a, b], hand: now } = fleet();
        let handle = a.insert(Id::random(), Step(7)).await.unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(handle.client_side_record().unwrap()).unwrap();
        for store in [&a, &b] {
            for bit in 0..bytes.len() * 8 {
                let mut changed = bytes.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                let forged = Handle::<Step>::new(handle.id()).with_record(&URL_SAFE_NO_PAD.encode(changed));
                assert_eq!(store.read(&forged).await, Ok(None), "bit {bit}");
            }
            let text = handle.client_side_record().unwrap();
            assert_eq!(store.read(&Handle::<Step>::new(Id::random()).with_record(text)).await, Ok(None));
            assert_eq!(store.read(&Handle::<Twin>::new(handle.id()).with_record(text)).await, Ok(None));
            for text in ["", "AAAA", "?", &"A".repeat(MAX_RECORD_BYTES + 1)] {
                assert_eq!(store.read(&Handle::<Step>::new(handle.id()).with_record(text)).await, Ok(None));
            }
        }
        // A record from a store does not open as a client-side record either.
        let memory_store = Store::new(Backend::Memory(Memory::new()), Arc::clone(&a.keys), a.clock.clone());
        let stored_handle = memory_store.insert(Id::random(), Step(7)).await.unwrap();
        let row = memory_store.backend.get(&storage_key(&stored_handle)).await.unwrap().unwrap();
        let encoded = URL_SAFE_NO_PAD.encode([&row.version.0, &*row.value].concat());
        assert_eq!(
            b.read(&Handle::<Step>::new(stored_handle.id()).with_record(&encoded)).await,
            Ok(None)
        );
        assert!(
            stored_handle.client_side_record().is_none(),
            "nothing travels where there is a store"
        );
        assert_eq!(memory_store.read(&handle).await, Ok(None), "and nothing is believed there");
        now.store(101, Ordering::SeqCst);
        assert_eq!((a.read(&handle).await, b.read(&handle).await), (Ok(None), Ok(None)));
    }

    #[tokio::test]
    async fn a_second_insert_of_a_client_side_record_is_refused() {
        let Fleet { stores: [a, _], .. } = fleet();
        let id = Id::random();
        a.insert(id, Step(0)).await.unwrap();
        assert_eq!(a.insert(id, Step(1)).await, Err(InsertError::AlreadyExists));
    }

    #[tokio::test]
    async fn the_client_side_cache_is_bounded_and_evicted_handles_still_work() {
        let Fleet { stores: [a, _], hand: now } = fleet();
        let handle = a.insert(Id::random(), Step(0)).await.unwrap();
        let bounded = Store {
            backend: Backend::Memory(Memory::bounded(50)),
            ..a
        };
        let mut handles = vec![handle];
        for _ in 0..500 {
            handles.push(bounded.insert(Id::random(), Step(0)).await.unwrap());
        }
        let (page, _) = bounded.scan::<Step>(None, 1_000).await.unwrap();
        assert!(page.len() <= 50, "{}", page.len());
        for handle in &handles {
            assert_eq!(bounded.read(handle).await, Ok(Some(Step(0))));
        }
        now.store(2, Ordering::SeqCst);
    }

    #[tokio::test]
    async fn a_scan_skips_client_side_records_under_removed_keys() {
        let Fleet { stores: [a, _], .. } = fleet();
        a.insert(Id::random(), Step(1)).await.unwrap();
        a.keys.store(fleet().stores[0].keys.load_full());
        a.insert(Id::random(), Step(2)).await.unwrap();
        let (page, next) = a.scan::<Step>(None, 10).await.unwrap();
        let steps: Vec<Step> = page.into_iter().map(|(_, step)| step).collect();
        assert_eq!((steps, next.is_none()), (vec![Step(2)], true));
        // In a store that is not stateless, this is an error.
        let memory_store = Store::new(Backend::Memory(Memory::new()), Arc::clone(&a.keys), a.clock.clone());
        memory_store.insert(Id::random(), Step(1)).await.unwrap();
        memory_store.keys.store(fleet().stores[0].keys.load_full());
        let result = memory_store.scan::<Step>(None, 10).await.map(drop);
        assert_eq!(result, Err(StoreError::DoesNotOpen { space: "step" }));
    }
}
