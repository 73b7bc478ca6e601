//! Tests that need private access: copied rows, lost answers, stale versions.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use super::*;
use crate::base::ids::Id;
use crate::base::keyring::{self, KeyRing};
use crate::base::record::{Record, State};
use crate::base::time::{Clock, UnixTime};
use crate::store::change_feed::ChangeEvent;
use crate::store::handle::storage_key;
use crate::store::memory::faults::Lost;
use crate::store::row::{Row, Version, Write, WriteOp, WriteOutcome};

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Tally(u32);

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Twin(u32);

impl Record for Tally {
    const KIND: &'static str = "tally";

    fn expires_at(&self) -> UnixTime {
        UnixTime::NEVER
    }
}

impl Record for Twin {
    const KIND: &'static str = "twin";

    fn expires_at(&self) -> UnixTime {
        UnixTime::NEVER
    }
}

impl State for Tally {
    type Record = Self;

    fn from_record(record: Self) -> Option<Self> {
        Some(record)
    }
}

fn over(backend: Backend) -> Store {
    let ring = KeyRing::parse(keyring::generate(UnixTime(0)).expose()).unwrap();
    Store::new(backend, Arc::new(ArcSwap::from_pointee(ring)), Clock::default())
}

fn in_memory() -> (Store, Memory) {
    let memory = Memory::new();
    (over(Backend::Memory(memory.clone())), memory)
}

#[expect(clippy::unnecessary_wraps, reason = "a step may fail")]
fn one_more(Tally(n): Tally) -> Result<(Tally, u32), ()> {
    Ok((Tally(n + 1), n))
}

#[tokio::test]
async fn a_record_copied_to_another_storage_key_does_not_open() {
    let (store, _) = in_memory();
    let handle = store.insert(Id::random(), Tally(7)).await.unwrap();
    let row = store.backend.get(&storage_key(&handle)).await.unwrap().unwrap();
    let other_handle = Handle::<Tally>::new(Id::random());
    store.put(&other_handle, WriteOp::Insert(row.clone())).await.unwrap();
    let twin_handle = Handle::<Twin>::new(handle.id());
    store.put(&twin_handle, WriteOp::Insert(row)).await.unwrap();
    assert_eq!(store.read(&other_handle).await, Err(StoreError::DoesNotOpen { space: "tally" }));
    assert_eq!(store.read(&twin_handle).await, Err(StoreError::DoesNotOpen { space: "twin" }));
    assert_eq!(store.read(&handle).await, Ok(Some(Tally(7))));
}

#[tokio::test]
async fn a_transition_with_a_lost_response_is_written_exactly_once() {
    let (store, memory) = in_memory();
    let handle = store.insert(Id::random(), Tally(0)).await.unwrap();
    memory.lose(vec![Lost::Answer]);
    assert_eq!(store.transition(&handle, one_more).await.unwrap().effect, 0);
    assert_eq!(store.read(&handle).await, Ok(Some(Tally(1))));
    memory.lose(vec![Lost::Answer, Lost::Write, Lost::Write]);
    assert_eq!(store.update(&handle, one_more).await.unwrap().1, 1);
    assert_eq!(store.read(&handle).await, Ok(Some(Tally(2))));
}

#[tokio::test]
async fn a_transition_that_never_arrives_is_reported_as_unavailable() {
    let (store, memory) = in_memory();
    let handle = store.insert(Id::random(), Tally(0)).await.unwrap();
    memory.lose(vec![Lost::Write; 3]);
    let error = store.update(&handle, one_more).await.unwrap_err();
    assert!(matches!(error, TransitionError::Store(StoreError::Unavailable(_))));
    assert_eq!(store.read(&handle).await, Ok(Some(Tally(0))));
}

#[tokio::test]
async fn an_insert_with_a_lost_response_is_distinguished_from_a_foreign_one() {
    let (store, memory) = in_memory();
    memory.lose(vec![Lost::Answer, Lost::Write]);
    let handle = store.insert(Id::random(), Tally(0)).await.unwrap();
    assert_eq!(store.insert(handle.id(), Tally(1)).await, Err(InsertError::AlreadyExists));
    memory.lose(vec![Lost::Write; 3]);
    let result = store.insert(Id::random(), Tally(0)).await;
    assert!(matches!(result, Err(InsertError::Store(StoreError::Unavailable(_)))));
}

#[tokio::test]
async fn a_removal_with_a_lost_response_succeeds() {
    let (store, memory) = in_memory();
    let handle = store.insert(Id::random(), Tally(0)).await.unwrap();
    memory.lose(vec![Lost::Answer, Lost::Write, Lost::Write]);
    store.remove(&handle).await.unwrap();
    assert_eq!(store.read(&handle).await, Ok(None));
}

#[tokio::test]
async fn a_write_against_an_outdated_version_is_stale() {
    let dir = tempfile::tempdir().unwrap();
    let sqlite = Backend::Sqlite(Sqlite::open(dir.path()).unwrap());
    for store in [in_memory().0, over(sqlite)] {
        let handle = store.insert(Id::random(), Tally(0)).await.unwrap();
        let old = store.backend.get(&storage_key(&handle)).await.unwrap().unwrap();
        let row = || store.sealed(&handle, &Tally(9), None).unwrap();
        assert_eq!(store.put(&handle, WriteOp::Insert(row())).await, Ok(WriteOutcome::Stale));
        assert_eq!(store.put(&handle, WriteOp::Delete(old.version)).await, Ok(WriteOutcome::Written));
        assert_eq!(
            store.put(&handle, WriteOp::Replace(old.version, row())).await,
            Ok(WriteOutcome::Stale)
        );
        assert_eq!(store.put(&handle, WriteOp::Delete(old.version)).await, Ok(WriteOutcome::Stale));
        store.insert(handle.id(), Tally(0)).await.unwrap();
        assert_eq!(
            store.put(&handle, WriteOp::Replace(old.version, row())).await,
            Ok(WriteOutcome::Stale)
        );
        assert_eq!(store.put(&handle, WriteOp::Delete(old.version)).await, Ok(WriteOutcome::Stale));
        assert_eq!(store.read(&handle).await, Ok(Some(Tally(0))));
    }
}

#[tokio::test]
async fn an_opened_record_of_the_wrong_shape_is_an_error() {
    #[derive(Serialize, Deserialize)]
    struct Text(String);
    impl Record for Text {
        const KIND: &'static str = "tally";
        fn expires_at(&self) -> UnixTime {
            UnixTime::NEVER
        }
    }
    let (store, _) = in_memory();
    let handle = Handle::<Text>::new(Id::random());
    let row = store.sealed(&handle, &Text("seven".to_owned()), None).unwrap();
    store.put(&handle, WriteOp::Insert(row)).await.unwrap();
    let result = store.read(&Handle::<Tally>::new(handle.id())).await;
    assert_eq!(result, Err(StoreError::Unreadable { space: "tally" }));
}

#[tokio::test]
async fn a_storage_key_does_not_reveal_the_record_id() {
    let handle = Handle::<Tally>::new(Id::random());
    let key = storage_key(&handle);
    assert!(key.starts_with("tally/") && !key.contains(&handle.to_string()));
}

#[tokio::test]
async fn a_full_memory_store_evicts_the_soonest_expiring_of_the_largest_kind() {
    let memory = Memory::bounded(100);
    let insert = |kind: &str, expires: u64| {
        let key = format!("{kind}/{expires}");
        let (value, version) = (Vec::new(), Version::fresh());
        let row = Row {
            value,
            version,
            expires: UnixTime(expires),
        };
        let (operation, id) = (WriteOp::Insert(row), Id::random());
        let event = ChangeEvent::Put { space: "".into(), id };
        assert_eq!(memory.put_if(Write { key, operation, event }), WriteOutcome::Written);
    };
    let stored_expiries = |kind: &str| {
        let rows = memory.scan(kind, None, 1_000).rows;
        rows.iter().map(|(_, row)| row.expires.0).collect::<std::collections::BTreeSet<_>>()
    };
    // Flows expire within minutes, grants within weeks.
    (1..=20).for_each(|n| insert("flow", n));
    (1..=80).for_each(|n| insert("grant", 1_000_000 + n));
    assert_eq!((stored_expiries("flow").len(), stored_expiries("grant").len()), (20, 80));
    (81..=400).for_each(|n| insert("grant", 1_000_000 + n));
    assert_eq!(stored_expiries("flow"), (1..=20).collect(), "no journey is driven out by grants");
    let grants = stored_expiries("grant");
    assert!((70..=80).contains(&grants.len()), "{}", grants.len());
    let last_expiry = 1_000_000 + 400;
    assert_eq!(
        grants,
        (last_expiry - grants.len() as u64 + 1..=last_expiry).collect(),
        "those that end last stay"
    );
}
