//! Export of all records, and import into another backend.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mcp_oauth_gateway::base::ids::Id;
use mcp_oauth_gateway::base::time::Clock;
use mcp_oauth_gateway::store::{Backend, Export, Handle, ImportReport, Memory, Store, StoreError, TransferError};
use tokio::time::timeout;

use super::{Bench, Door, Doorbell, LaterDoor, Shut, keys, shut};

/// More records than one scan page, and more than one write batch.
const MANY: u32 = 1_100;

async fn exported(store: &Store) -> Vec<u8> {
    let mut text = Vec::new();
    let records = store.export(&mut text).await.unwrap();
    let lines = text.split_inclusive(|byte| *byte == b'\n').count();
    assert_eq!(u64::try_from(lines).unwrap(), records + 2);
    text
}

async fn imported(bench: &Bench, into: &Store, text: &[u8]) -> Result<ImportReport, TransferError> {
    into.import(Export::open(text, &bench.keys.load())?).await
}

/// A memory store with the same keys and clock.
fn beside(bench: &Bench) -> Store {
    let clock = Clock::Fixed(Arc::clone(&bench.time));
    Store::new(Backend::Memory(Memory::new()), Arc::clone(&bench.keys), clock)
}

fn moved(moved: u64) -> ImportReport {
    ImportReport {
        moved,
        ..ImportReport::default()
    }
}

pub(crate) async fn import_copies_every_record_and_the_export_stays_sealed(bench: Bench) {
    let from = beside(&bench);
    let canary = Shut {
        until: 2000,
        note: "canary-4711-at-rest".to_owned(),
    };
    let door = from.insert(Id::random(), canary.clone()).await.unwrap();
    let newer = from.insert(Id::random(), LaterDoor { hinges: 3 }).await.unwrap();
    let mut bells = Vec::new();
    for rings in 0..MANY {
        bells.push(from.insert(Id::random(), Doorbell { rings }).await.unwrap());
    }
    let text = exported(&from).await;
    for secret in [canary.note.clone(), door.to_string(), bells[7].to_string()] {
        assert!(!text.windows(secret.len()).any(|part| part == secret.as_bytes()), "{secret}");
    }
    let all = u64::from(MANY) + 2;
    assert_eq!(imported(&bench, &bench.store, &text).await, Ok(moved(all)));
    let again = ImportReport {
        already_there: all,
        ..ImportReport::default()
    };
    assert_eq!(imported(&bench, &bench.store, &text).await, Ok(again));
    // Export again, from the backend under test.
    let to = beside(&bench);
    let text = exported(&bench.store).await;
    assert_eq!(imported(&bench, &to, &text).await, Ok(moved(all)));
    for store in [&bench.store, &to] {
        assert_eq!(store.read(&door).await, Ok(Some(Door::Shut(canary.clone()))));
        for (rings, bell) in (0..).zip(&bells) {
            assert_eq!(store.read(bell).await, Ok(Some(Doorbell { rings })));
        }
        // A record of a newer version is copied unchanged, and reading it is still refused.
        let refused = store.read(&Handle::<Door>::new(newer.id())).await;
        assert_eq!(refused, Err(StoreError::NewerVersion { space: "door", version: 2 }));
        assert_eq!(store.read(&newer).await, Ok(Some(LaterDoor { hinges: 3 })));
    }
}

pub(crate) async fn an_import_does_not_change_existing_records(bench: Bench) {
    let from = beside(&bench);
    let ids = [(); 5].map(|()| Id::random());
    for (id, until) in ids.into_iter().zip([2000, 2000, 2000, 1100, 2000]) {
        from.insert(id, shut(until)).await.unwrap();
    }
    from.insert(ids[4], Doorbell { rings: 1 }).await.unwrap();
    let text = exported(&from).await;
    // A changed record, one of a newer version, and one that expires before the import.
    let further = bench.store.insert(ids[0], shut(3000)).await.unwrap();
    let newer = bench.store.insert(ids[1], LaterDoor { hinges: 3 }).await.unwrap();
    let gone = bench.store.insert(ids[2], shut(1100)).await.unwrap();
    bench.time.store(1500, Ordering::SeqCst);
    let mut changes = bench.store.changes();
    let done = ImportReport {
        moved: 3,
        already_there: 2,
        expired: 1,
        foreign: 0,
    };
    assert_eq!(imported(&bench, &bench.store, &text).await, Ok(done));
    assert_eq!(bench.store.read(&further).await, Ok(Some(Door::Shut(shut(3000)))));
    assert_eq!(bench.store.read(&newer).await, Ok(Some(LaterDoor { hinges: 3 })));
    assert_eq!(bench.store.read(&gone).await, Ok(Some(Door::Shut(shut(2000)))));
    assert_eq!(bench.store.read(&Handle::<Door>::new(ids[3])).await, Ok(None));
    // The change feed reports the import. On a cluster, older changes may come first.
    let mut untold = vec![("door", ids[2]), ("door", ids[4]), ("doorbell", ids[4])];
    while !untold.is_empty() {
        let change = timeout(Duration::from_secs(5), changes.next()).await.unwrap();
        let door = change.of::<Door>().map(|handle| ("door", handle.id()));
        let told = door.or_else(|| change.of::<Doorbell>().map(|handle| ("doorbell", handle.id())));
        untold.retain(|one| told != Some(*one));
    }
}

#[tokio::test]
async fn an_export_with_other_keys_or_an_unknown_format_is_refused() {
    let bench = Bench::memory();
    bench.insert(2000).await;
    let text = String::from_utf8(exported(&bench.store).await).unwrap();
    let refused = |text: &str| Export::open(text.as_bytes(), &bench.keys.load()).err();
    assert_eq!(refused(&text), None);
    let newer = text.replacen("\"version\":1", "\"version\":2", 1);
    assert_eq!(refused(&newer), Some(TransferError::Newer(2)));
    for other in ["", "\n", "{}", "nonsense", "{\"format\":\"another\",\"version\":2}"] {
        assert_eq!(refused(other), Some(TransferError::NotAnExport), "{other}");
    }
    let strange = Export::open(text.as_bytes(), &keys().load()).err();
    assert_eq!(strange, Some(TransferError::OtherKeys));
}

#[tokio::test]
async fn a_truncated_or_changed_export_is_detected_during_import() {
    let bench = Bench::memory();
    for _ in 0..3 {
        bench.insert(2000).await;
    }
    let text = String::from_utf8(exported(&bench.store).await).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let (cut, half) = (lines[..3].concat(), &text[..text.len() - 30]);
    let less = [lines[0], lines[1], lines[2], lines[4]].concat();
    let more = format!("{text}{}", lines[1]);
    for (text, why) in [
        (cut.as_str(), TransferError::CutOff(3)),
        (half, TransferError::CutOff(3)),
        (&less, TransferError::Broken(4)),
        (&more, TransferError::Broken(6)),
        (&text.replace("\"value\"", "\"worth\""), TransferError::Broken(2)),
    ] {
        assert_eq!(imported(&bench, &beside(&bench), text.as_bytes()).await, Err(why));
    }
    // The lines before the cut are imported. The complete export imports the rest.
    let to = beside(&bench);
    imported(&bench, &to, cut.as_bytes()).await.unwrap_err();
    let rest = ImportReport {
        moved: 1,
        already_there: 2,
        ..ImportReport::default()
    };
    assert_eq!(imported(&bench, &to, text.as_bytes()).await, Ok(rest));
    // A record under another record's key does not open.
    let key = |line: &str| line.split('"').nth(3).unwrap().to_owned();
    let swapped = text.replacen(&key(lines[1]), &key(lines[2]).replace("door/", "bell/"), 1);
    let done = imported(&bench, &beside(&bench), swapped.as_bytes()).await.unwrap();
    assert_eq!((done.moved, done.foreign), (2, 1));
}
