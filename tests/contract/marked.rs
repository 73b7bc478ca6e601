//! The key check: under which keys a store was filled, and how it follows a key rotation.

use mcp_oauth_gateway::store::{Export, KeyCheckError, KeyStatus};

use super::*;

/// A key ring with one key, the same ring after a rotation, and a ring with only the new key.
fn rotated() -> [String; 3] {
    let old = keyring::generate(UnixTime(0));
    let both = keyring::rotate(old.expose(), UnixTime(0)).unwrap();
    let parsed: serde_json::Value = serde_json::from_str(both.expose()).unwrap();
    let new = serde_json::json!({ "keys": [parsed["keys"][1]] }).to_string();
    [old.expose().to_owned(), both.expose().to_owned(), new]
}

fn ring(text: &str) -> KeyRing {
    KeyRing::parse(text).unwrap()
}

fn names(ring: &KeyRing) -> Vec<String> {
    ring.list().map(|(name, ..)| name).collect()
}

pub(crate) async fn a_store_accepts_only_the_keys_it_was_filled_under(bench: Bench) {
    let (ours, theirs) = (KeyRing::clone(&bench.keys.load()), KeyRing::clone(&keys().load()));
    assert_eq!(bench.store.check_keys().await, Ok(KeyStatus::Empty));
    assert_eq!(
        bench.store.check_keys_against(&theirs).await,
        Ok(KeyStatus::Empty),
        "looking leaves no mark"
    );
    bench.store.ensure_key_check().await.unwrap();
    assert_eq!(bench.store.check_keys().await, Ok(KeyStatus::Match));
    let refused = KeyCheckError::OtherKeys {
        filled: names(&ours),
        given: names(&theirs),
    };
    let said = refused.to_string();
    assert!(said.contains(&names(&ours)[0]) && said.contains(&names(&theirs)[0]), "{said}");
    assert_eq!(bench.store.check_keys_against(&theirs).await, Err(refused.clone()));
    assert_eq!(bench.store.replace_keys(theirs.clone()).await, Err(refused.clone()));
    assert_eq!(names(&bench.keys.load()), names(&ours), "they were not taken");
    bench.keys.store(Arc::new(theirs));
    assert_eq!(bench.store.ensure_key_check().await, Err(refused));
    bench.keys.store(Arc::new(ours));
    assert_eq!(bench.store.ensure_key_check().await, Ok(()));
}

pub(crate) async fn a_store_without_a_key_check_is_verified_by_its_records(bench: Bench) {
    let handle = bench.insert(2000).await;
    let (ours, theirs) = (bench.keys.load_full(), keys().load_full());
    assert_eq!(bench.store.check_keys().await, Ok(KeyStatus::Unchecked));
    bench.keys.store(theirs.clone());
    let refused = bench.store.ensure_key_check().await;
    assert!(
        matches!(&refused, Err(KeyCheckError::OtherKeys { filled, .. }) if *filled == names(&ours)),
        "{refused:?}"
    );
    bench.keys.store(ours);
    bench.store.ensure_key_check().await.unwrap();
    assert_eq!(bench.store.check_keys().await, Ok(KeyStatus::Match));
    assert!(bench.store.read(&handle).await.unwrap().is_some());
}

/// A new key check does not prove that all older records are sealed under the current key.
pub(crate) async fn records_from_before_the_key_check_are_due_for_reseal(bench: Bench) {
    let [old, both, _] = rotated();
    bench.keys.store(Arc::new(ring(&old)));
    bench.insert(5000).await;
    bench.keys.store(Arc::new(ring(&both)));
    bench.time.store(1000, Ordering::Relaxed);
    bench.store.ensure_key_check().await.unwrap();
    let due = bench.store.key_for_reseal().await.unwrap().unwrap();
    assert_eq!(bench.store.reseal_page::<Door>(None).await, Ok(None));
    // A third key began to seal meanwhile, so some records are sealed under it.
    let third = keyring::rotate(&both, UnixTime(600)).unwrap();
    bench.store.replace_keys(ring(third.expose())).await.unwrap();
    assert_eq!(bench.store.mark_resealed(due).await, Ok(false));
    assert_eq!(bench.store.is_resealed().await, Ok(false));
    bench.time.store(1400, Ordering::Relaxed);
    let due = bench.store.key_for_reseal().await.unwrap().unwrap();
    assert_eq!(bench.store.mark_resealed(due).await, Ok(true));
}

pub(crate) async fn imported_records_are_sealed_under_the_current_key(bench: Bench) {
    let [old, both, new] = rotated();
    bench.keys.store(Arc::new(ring(&old)));
    let from = Store::new(Backend::Memory(Memory::new()), bench.keys.clone(), Clock::Fixed(bench.time.clone()));
    let door = from.insert(Id::random(), shut(5000)).await.unwrap();
    let mut text = Vec::new();
    from.export(&mut text).await.unwrap();
    bench.time.store(1000, Ordering::Relaxed);
    bench.keys.store(Arc::new(ring(&both)));
    bench.store.ensure_key_check().await.unwrap();
    let export = Export::open(&text[..], &bench.keys.load()).unwrap();
    assert_eq!(bench.store.import(export).await.unwrap().moved, 1);
    bench.store.replace_keys(ring(&new)).await.unwrap();
    assert_eq!(bench.store.read(&door).await, Ok(Some(Door::Shut(shut(5000)))));
}

pub(crate) async fn one_of_two_processes_starting_with_different_keys_is_refused(bench: Bench) {
    let other = keys();
    let clock = Clock::Fixed(bench.time.clone());
    let second = Store::new(bench.backend.clone(), other.clone(), clock);
    let (first, second) = tokio::join!(bench.store.ensure_key_check(), second.ensure_key_check());
    assert_ne!(first.is_ok(), second.is_ok(), "{first:?} {second:?}");
}

pub(crate) async fn a_resealed_record_opens_unchanged_without_the_old_key(bench: Bench) {
    let [old, both, new] = rotated();
    bench.keys.store(Arc::new(ring(&old)));
    bench.store.ensure_key_check().await.unwrap();
    let handle = bench.insert(5000).await;
    let bell = bench.store.insert(Id::random(), Doorbell { rings: 3 }).await.unwrap();
    assert_eq!(bench.store.is_resealed().await, Ok(true));
    bench.store.replace_keys(ring(&both)).await.unwrap();
    bench.time.store(330, Ordering::Relaxed);
    assert_eq!(
        bench.store.is_resealed().await,
        Ok(true),
        "the new key may not have been read everywhere"
    );
    bench.time.store(1000, Ordering::Relaxed);
    assert_eq!(bench.store.is_resealed().await, Ok(false));
    assert!(
        bench.store.check_keys_against(&ring(&new)).await.is_err(),
        "the old key may not go yet"
    );
    assert_eq!(bench.store.reseal_page::<Door>(None).await, Ok(None));
    let due = bench.store.key_for_reseal().await.unwrap().unwrap();
    assert_eq!(bench.store.mark_resealed(due).await, Ok(true));
    assert_eq!(bench.store.is_resealed().await, Ok(true));
    // A process with the older ring still passes the key check.
    assert_eq!(bench.store.check_keys_against(&ring(&both)).await, Ok(KeyStatus::Match));
    bench.store.replace_keys(ring(&new)).await.unwrap();
    assert_eq!(bench.store.read(&handle).await, Ok(Some(Door::Shut(shut(5000)))));
    let lost = bench.store.read(&bell).await;
    assert!(
        matches!(lost, Err(StoreError::DoesNotOpen { .. })),
        "only what was sealed anew opens: {lost:?}"
    );
    bench.time.store(6000, Ordering::Relaxed);
    assert_eq!(bench.store.read(&handle).await, Ok(None), "and it ends when it would have ended");
}
