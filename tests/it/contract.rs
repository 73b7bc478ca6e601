//! What every backend of the store promises: each promise is a function over a store, run for each backend.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use mcp_oauth_gateway::base::ids::Id;
use mcp_oauth_gateway::base::keyring::{self, KeyRing};
use mcp_oauth_gateway::base::record::{Record, State};
use mcp_oauth_gateway::base::time::{Clock, UnixTime};
use mcp_oauth_gateway::store::{Backend, Change, Handle, Keys, Memory, Missed, NotInserted, Redis, RedisAt, Sqlite, Store, StoreError};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::time::timeout;

use self::marked::{
    a_store_of_an_earlier_program_without_a_mark_is_known_by_its_records, a_store_takes_the_keys_that_it_was_filled_under_and_no_others,
    of_two_that_begin_at_once_with_other_keys_one_is_refused, what_is_imported_lies_under_the_key_of_today,
    what_is_sealed_anew_opens_without_the_old_key_and_says_what_it_said, what_lies_unmarked_under_an_older_key_is_sealed_anew,
};
use self::moving::{an_import_changes_nothing_that_is_there, everything_is_moved_as_it_lies_sealed};
use crate::support::redis::{Server, wanted};

mod marked;
mod moving;
mod shapes;
mod shared;
#[cfg(feature = "vault")]
mod vault;

// A door: shut, then open, then gone. Of another kind: a note, which is only there to be counted.

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Shut {
    until: u64,
    note: String,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Open {
    until: u64,
    by: u32,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(tag = "state", content = "is")]
enum Door {
    Shut(Shut),
    Open(Open),
}

impl Record for Door {
    const SPACE: &'static str = "door";

    fn keep_until(&self) -> UnixTime {
        let (Self::Shut(Shut { until, .. }) | Self::Open(Open { until, .. })) = self;
        UnixTime(*until)
    }
}

/// The same kind, as a later program writes it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct LaterDoor {
    hinges: u32,
}

impl Record for LaterDoor {
    const SPACE: &'static str = "door";
    const VERSION: u32 = 2;

    fn keep_until(&self) -> UnixTime {
        UnixTime::NEVER
    }
}

/// Another kind, whose name begins like the first one's.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Doorbell {
    rings: u32,
}

impl Record for Doorbell {
    const SPACE: &'static str = "doorbell";

    fn keep_until(&self) -> UnixTime {
        UnixTime::NEVER
    }
}

macro_rules! state {
    ($record:ident::$state:ident) => {
        impl From<$state> for $record {
            fn from(state: $state) -> Self {
                Self::$state(state)
            }
        }

        impl State for $state {
            type Record = $record;

            fn from_record(record: $record) -> Option<Self> {
                if let $record::$state(state) = record {
                    Some(state)
                } else {
                    None
                }
            }
        }
    };
    ($state:ident) => {
        impl State for $state {
            type Record = Self;

            fn from_record(record: Self) -> Option<Self> {
                Some(record)
            }
        }
    };
}

state!(Door::Shut);
state!(Door::Open);
state!(LaterDoor);
state!(Doorbell);

fn shut(until: u64) -> Shut {
    Shut {
        until,
        note: "a note".to_owned(),
    }
}

impl Shut {
    fn opened(self, by: u32) -> (Open, String) {
        let Self { until, note } = self;
        (Open { until, by }, note)
    }
}

/// A use case may be spawned: a move is `Send` also when its step borrows.
#[expect(clippy::manual_async_fn, reason = "an async fn cannot promise Send")]
fn opened_by<'a>(store: &'a Store, door: &'a Handle<Door>, by: &'a u32) -> impl Future<Output = bool> + Send + 'a {
    async move { store.transition(door, |door: Shut| Ok::<_, ()>(door.opened(*by))).await.is_ok() }
}

// A store under test, with the hand that moves its clock.

struct Bench {
    store: Store,
    backend: Backend,
    time: Arc<AtomicU64>,
    keys: Keys,
    dir: Option<TempDir>,
    redis: Option<Server>,
    is_shared: bool,
}

fn keys() -> Keys {
    let ring = KeyRing::parse(keyring::made(UnixTime(0)).expose()).unwrap();
    Arc::new(ArcSwap::from_pointee(ring))
}

impl Bench {
    fn new(backend: Backend, dir: Option<TempDir>) -> Self {
        let (time, keys) = (Arc::new(AtomicU64::new(1000)), keys());
        let store = Store::new(backend.clone(), keys.clone(), Clock::Fixed(time.clone()));
        Self {
            store,
            backend,
            time,
            keys,
            dir,
            redis: None,
            is_shared: false,
        }
    }

    fn memory() -> Self {
        Self::new(Backend::Memory(Memory::new()), None)
    }

    fn sqlite() -> Self {
        let dir = TempDir::new().unwrap();
        Self::new(Backend::Sqlite(Sqlite::open(dir.path()).unwrap()), Some(dir))
    }

    /// On a server of its own, if there shall be servers.
    fn redis() -> Option<Self> {
        wanted().then(|| {
            let server = Server::start();
            let mut bench = Self::on(&server.url(), "contract");
            bench.redis = Some(server);
            bench
        })
    }

    fn on(url: &str, prefix: &str) -> Self {
        let (time, keys) = (Arc::new(AtomicU64::new(1000)), keys());
        let clock = Clock::Fixed(time.clone());
        let at = RedisAt::parse(url, prefix, None).unwrap();
        let backend = Backend::Redis(Redis::open(at, keys.clone(), clock.clone()).unwrap());
        Self {
            store: Store::new(backend.clone(), keys.clone(), clock),
            backend,
            time,
            keys,
            dir: None,
            redis: None,
            is_shared: true,
        }
    }

    /// What a sweep says when so many records have expired: Redis removes them by itself, by a clock that no test moves.
    fn swept(&self, expired: usize) -> usize {
        if self.is_shared { 0 } else { expired }
    }

    fn path(&self) -> &Path {
        self.dir.as_ref().expect("a bench of SQLite").path()
    }

    /// As another process would see the same file.
    fn other(&self) -> Store {
        let backend = Backend::Sqlite(Sqlite::open(self.path()).unwrap());
        Store::new(backend, self.keys.clone(), Clock::Fixed(self.time.clone()))
    }

    async fn insert(&self, until: u64) -> Handle<Door> {
        self.store.insert(Id::fresh(), shut(until)).await.unwrap()
    }
}

macro_rules! contract {
    ($($promise:ident),+ $(,)?) => {
        mod memory {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() {
                    super::$promise(super::Bench::memory()).await;
                }
            )+
        }

        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() {
                    super::$promise(super::Bench::sqlite()).await;
                }
            )+
        }

        mod redis {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() {
                    if let Some(bench) = super::Bench::redis() {
                        super::$promise(bench).await;
                    }
                }
            )+
        }

        #[cfg(feature = "vault")]
        mod in_vault {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() {
                    let (server, bench) = super::vault::bench();
                    super::$promise(bench).await;
                    drop(server);
                }
            )+
        }

        /// Everything on the same Redis, of whatever shape, one after the other.
        async fn all_of_it(url: &str) {
            $(
                println!("{}", stringify!($promise));
                $promise(Bench::on(url, &Id::fresh().to_string())).await;
            )+
        }
    };
}

contract! {
    a_record_is_read_as_it_was_inserted,
    an_id_is_inserted_once,
    one_of_64_inserts_of_one_id_is_done,
    one_of_64_concurrent_transitions_wins,
    no_update_of_64_concurrent_ones_is_lost,
    a_record_in_another_state_is_not_moved,
    a_rejected_step_changes_nothing,
    a_record_is_removed_if_it_is_as_was_said_and_else_not,
    what_is_absent_is_neither_read_nor_moved,
    a_step_that_was_overtaken_runs_again_on_what_is_there_now,
    a_removed_and_inserted_record_is_not_overwritten_by_an_older_move,
    a_record_expires_neither_early_nor_late,
    an_expired_record_makes_room_for_another,
    a_sweep_removes_what_has_expired_and_nothing_else,
    a_scan_sees_every_record_of_its_kind_once_while_others_are_inserted,
    what_ends_soon_is_found_among_what_does_not,
    a_newer_record_is_refused_and_kept,
    every_change_is_told,
    a_listener_that_fell_behind_is_told_of_a_gap,
    a_changed_key_ring_is_used_at_once,
    a_working_store_answers_a_ping,
    everything_is_moved_as_it_lies_sealed,
    an_import_changes_nothing_that_is_there,
    a_store_takes_the_keys_that_it_was_filled_under_and_no_others,
    a_store_of_an_earlier_program_without_a_mark_is_known_by_its_records,
    of_two_that_begin_at_once_with_other_keys_one_is_refused,
    what_is_sealed_anew_opens_without_the_old_key_and_says_what_it_said,
    what_lies_unmarked_under_an_older_key_is_sealed_anew,
    what_is_imported_lies_under_the_key_of_today,
}

async fn a_record_is_read_as_it_was_inserted(bench: Bench) {
    let handle = bench.insert(2000).await;
    assert_eq!(bench.store.read(&handle).await, Ok(Some(Door::Shut(shut(2000)))));
    let again = Handle::parse(&handle.to_string()).unwrap();
    assert_eq!(again, handle);
    assert_eq!(bench.store.read(&again).await, Ok(Some(Door::Shut(shut(2000)))));
    assert!(Handle::<Door>::parse("door/of/nobody").is_none());
    bench.store.remove(&handle).await.unwrap();
    assert_eq!(bench.store.read(&handle).await, Ok(None));
    bench.store.remove(&handle).await.unwrap();
}

async fn an_id_is_inserted_once(bench: Bench) {
    let handle = bench.insert(2000).await;
    let second = bench.store.insert(handle.id(), shut(3000)).await;
    assert_eq!(second, Err(NotInserted::AlreadyThere));
    assert_eq!(bench.store.read(&handle).await, Ok(Some(Door::Shut(shut(2000)))));
    bench.store.insert(handle.id(), Doorbell { rings: 0 }).await.unwrap();
}

async fn one_of_64_inserts_of_one_id_is_done(bench: Bench) {
    let id = Id::fresh();
    let inserts = (0..64).map(|n| {
        let store = bench.store.clone();
        tokio::spawn(async move { store.insert(id, shut(2000 + n)).await.map(|_| n) })
    });
    let mut winner = None;
    for insert in inserts.collect::<Vec<_>>() {
        match insert.await.unwrap() {
            Ok(n) => assert_eq!(winner.replace(n), None),
            Err(why) => assert_eq!(why, NotInserted::AlreadyThere),
        }
    }
    let there = bench.store.read(&Handle::of(id)).await;
    assert_eq!(there, Ok(Some(Door::Shut(shut(2000 + winner.unwrap())))));
}

async fn one_of_64_concurrent_transitions_wins(bench: Bench) {
    let handle = bench.insert(2000).await;
    let moves = (0..64).map(|by| {
        let (store, handle) = (bench.store.clone(), handle.clone());
        tokio::spawn(async move {
            let moved = store.transition(&handle, |door: Shut| Ok::<_, ()>(door.opened(by))).await;
            moved.map(|moved| (moved.handle, moved.out, by))
        })
    });
    let mut winner = None;
    for moved in moves.collect::<Vec<_>>() {
        match moved.await.unwrap() {
            Ok((moved_to, note, by)) => {
                assert_eq!((moved_to, note.as_str()), (handle.clone(), "a note"));
                assert_eq!(winner.replace(by), None);
            }
            Err(why) => assert_eq!(why, Missed::OtherState),
        }
    }
    let by = winner.unwrap();
    assert_eq!(bench.store.read(&handle).await, Ok(Some(Door::Open(Open { until: 2000, by }))));
}

async fn no_update_of_64_concurrent_ones_is_lost(bench: Bench) {
    let bell = bench.store.insert(Id::fresh(), Doorbell { rings: 0 }).await.unwrap();
    let updates = (0..64).map(|_| {
        let (store, bell) = (bench.store.clone(), bell.clone());
        let rung = |bell: Doorbell| Ok::<_, ()>((Doorbell { rings: bell.rings + 1 }, bell.rings));
        tokio::spawn(async move { store.update(&bell, rung).await.map(|(_, before)| before) })
    });
    let mut seen = BTreeSet::new();
    for update in updates.collect::<Vec<_>>() {
        assert!(seen.insert(update.await.unwrap().unwrap()));
    }
    assert_eq!(bench.store.read(&bell).await, Ok(Some(Doorbell { rings: 64 })));
}

async fn a_record_in_another_state_is_not_moved(bench: Bench) {
    let handle = bench.insert(2000).await;
    let open = |door: Shut| Ok::<_, ()>(door.opened(1));
    assert!(opened_by(&bench.store, &handle, &1).await);
    assert_eq!(bench.store.transition(&handle, open).await.unwrap_err(), Missed::OtherState);
}

async fn a_rejected_step_changes_nothing(bench: Bench) {
    let handle = bench.insert(2000).await;
    let refused = bench.store.transition(&handle, |_: Shut| Err::<(Open, ()), _>("locked")).await;
    assert_eq!(refused.unwrap_err(), Missed::Rejected("locked"));
    let refused = bench.store.update(&handle, |_| Err::<(Door, ()), _>("locked")).await;
    assert_eq!(refused.unwrap_err(), Missed::Rejected("locked"));
    assert_eq!(bench.store.read(&handle).await, Ok(Some(Door::Shut(shut(2000)))));
}

async fn a_record_is_removed_if_it_is_as_was_said_and_else_not(bench: Bench) {
    let is_shut = |door: &Door| matches!(door, Door::Shut(_));
    let (moved, still) = (bench.insert(2000).await, bench.insert(2000).await);
    assert!(opened_by(&bench.store, &moved, &1).await);
    assert_eq!(bench.store.remove_if(&moved, is_shut).await, Ok(false));
    assert!(bench.store.read(&moved).await.unwrap().is_some());
    assert_eq!(bench.store.remove_if(&still, is_shut).await, Ok(true));
    assert_eq!(bench.store.read(&still).await, Ok(None));
    assert_eq!(bench.store.remove_if(&still, is_shut).await, Ok(false));
}

async fn what_is_absent_is_neither_read_nor_moved(bench: Bench) {
    let nowhere = Handle::of(Id::fresh());
    assert_eq!(bench.store.read::<Door>(&nowhere).await, Ok(None));
    let moved = bench.store.transition(&nowhere, |door: Shut| Ok::<_, ()>(door.opened(1))).await;
    assert_eq!(moved.unwrap_err(), Missed::Absent);
    let updated = bench.store.update(&nowhere, |door: Door| Ok::<_, ()>((door, ()))).await;
    assert_eq!(updated.unwrap_err(), Missed::Absent);
}

/// Runs `between` after the first run of a step and before its write, and returns how often the step ran.
async fn overtaken(bench: &Bench, bell: &Handle<Doorbell>, between: impl AsyncFn(&Store)) -> u32 {
    let (at_step, stepped) = std::sync::mpsc::channel::<()>();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let (store, handle) = (bench.store.clone(), bell.clone());
    let gate = std::sync::Mutex::new((at_step, may_go_on, 0));
    let moving = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let step = |bell: Doorbell| {
            let mut gate = gate.lock().unwrap();
            gate.2 += 1;
            if gate.2 == 1 {
                gate.0.send(()).unwrap();
                gate.1.recv().unwrap();
            }
            Ok::<_, ()>((Doorbell { rings: bell.rings + 1 }, gate.2))
        };
        runtime.block_on(store.update(&handle, step)).unwrap().1
    });
    tokio::task::spawn_blocking(move || stepped.recv().unwrap()).await.unwrap();
    between(&bench.store).await;
    go_on.send(()).unwrap();
    tokio::task::spawn_blocking(move || moving.join().unwrap()).await.unwrap()
}

async fn a_step_that_was_overtaken_runs_again_on_what_is_there_now(bench: Bench) {
    let bell = bench.store.insert(Id::fresh(), Doorbell { rings: 0 }).await.unwrap();
    let ran = overtaken(&bench, &bell, async |store| {
        store.update(&bell, |_| Ok::<_, ()>((Doorbell { rings: 100 }, ()))).await.unwrap();
    });
    assert_eq!(ran.await, 2);
    assert_eq!(bench.store.read(&bell).await, Ok(Some(Doorbell { rings: 101 })));
}

async fn a_removed_and_inserted_record_is_not_overwritten_by_an_older_move(bench: Bench) {
    let bell = bench.store.insert(Id::fresh(), Doorbell { rings: 0 }).await.unwrap();
    let ran = overtaken(&bench, &bell, async |store| {
        store.remove(&bell).await.unwrap();
        store.insert(bell.id(), Doorbell { rings: 0 }).await.unwrap();
    });
    assert_eq!(ran.await, 2, "the same content under another version must be stale");
    assert_eq!(bench.store.read(&bell).await, Ok(Some(Doorbell { rings: 1 })));
}

async fn a_record_expires_neither_early_nor_late(bench: Bench) {
    let handle = bench.insert(1500).await;
    let open = |door: Shut| Ok::<_, ()>(door.opened(1));
    bench.time.store(1500, Ordering::SeqCst);
    assert_eq!(bench.store.sweep().await, Ok(0));
    assert!(bench.store.read(&handle).await.unwrap().is_some());
    assert_eq!(bench.store.scan::<Door>(None, 10).await.unwrap().0.len(), 1);
    bench.time.store(1501, Ordering::SeqCst);
    assert_eq!(bench.store.read(&handle).await, Ok(None));
    assert_eq!(bench.store.transition(&handle, open).await.unwrap_err(), Missed::Absent);
    assert_eq!(bench.store.scan::<Door>(None, 10).await.unwrap().0.len(), 0);
    assert_eq!(bench.store.sweep().await, Ok(bench.swept(1)));
    let never = bench.insert(u64::MAX).await;
    bench.time.store(u64::MAX, Ordering::SeqCst);
    assert_eq!(bench.store.sweep().await, Ok(0));
    assert!(bench.store.read(&never).await.unwrap().is_some());
}

async fn an_expired_record_makes_room_for_another(bench: Bench) {
    let handle = bench.insert(1500).await;
    bench.time.store(1501, Ordering::SeqCst);
    let again = bench.store.insert(handle.id(), shut(1600)).await.unwrap();
    assert_eq!(again, handle);
    assert_eq!(bench.store.read(&handle).await, Ok(Some(Door::Shut(shut(1600)))));
}

async fn a_sweep_removes_what_has_expired_and_nothing_else(bench: Bench) {
    let mut kept = BTreeSet::new();
    for n in 0..40 {
        let handle = bench.insert(1000 + n).await;
        if n >= 15 {
            kept.insert(handle.id());
        }
    }
    bench.time.store(1015, Ordering::SeqCst);
    assert_eq!(bench.store.sweep().await, Ok(bench.swept(15)));
    if !bench.is_shared {
        bench.time.store(0, Ordering::SeqCst);
    }
    let (there, _) = bench.store.scan::<Door>(None, 100).await.unwrap();
    assert_eq!(there.iter().map(|(handle, _)| handle.id()).collect::<BTreeSet<_>>(), kept);
}

async fn a_scan_sees_every_record_of_its_kind_once_while_others_are_inserted(bench: Bench) {
    let mut expected = HashMap::new();
    for n in 0..60 {
        expected.insert(bench.insert(2000 + n).await.id(), 2000 + n);
        bench.store.insert(Id::fresh(), Doorbell { rings: 0 }).await.unwrap();
    }
    let mut seen = HashMap::new();
    let mut cursor = None;
    loop {
        let (page, next) = bench.store.scan::<Door>(cursor, 7).await.unwrap();
        assert!(page.len() <= 7);
        for (handle, door) in page {
            assert!(seen.insert(handle.id(), door.keep_until().0).is_none(), "seen twice");
        }
        if next.is_none() {
            break;
        }
        cursor = next;
        bench.insert(9999).await;
    }
    assert!(expected.iter().all(|(id, until)| seen.get(id) == Some(until)));
    assert!(seen.iter().all(|(id, until)| *until == 9999 || expected.contains_key(id)));
}

async fn what_ends_soon_is_found_among_what_does_not(bench: Bench) {
    let mut soon = BTreeSet::new();
    for n in 0..40 {
        // Several end in the same second, one on the last.
        soon.insert(bench.insert(2000 + n / 4).await.id());
        bench.insert(2010 + n).await;
        bench.store.insert(Id::fresh(), Doorbell { rings: 0 }).await.unwrap();
    }
    bench.insert(900).await;
    for last in [2009, 1999] {
        let (mut seen, mut cursor) = (BTreeSet::new(), None);
        loop {
            let (page, next) = bench.store.scan_ending::<Door>(UnixTime(last), cursor, 7).await.unwrap();
            assert!(page.len() <= 7);
            for (handle, _) in page {
                assert!(seen.insert(handle.id()), "seen twice");
            }
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, if last == 2009 { soon.clone() } else { BTreeSet::new() });
    }
    let (all, _) = bench.store.scan_ending::<Doorbell>(UnixTime::NEVER, None, 1000).await.unwrap();
    assert_eq!(all.len(), 40);
}

async fn a_newer_record_is_refused_and_kept(bench: Bench) {
    let later = LaterDoor { hinges: 3 };
    let written = bench.store.insert(Id::fresh(), later.clone()).await.unwrap();
    let handle = Handle::<Door>::of(written.id());
    let newer = StoreError::NewerVersion { space: "door", version: 2 };
    assert_eq!(bench.store.read(&handle).await, Err(newer.clone()));
    assert_eq!(
        bench.store.insert(handle.id(), shut(2000)).await,
        Err(NotInserted::Store(newer.clone()))
    );
    let moved = bench.store.transition(&handle, |door: Shut| Ok::<_, ()>(door.opened(1))).await;
    assert_eq!(moved.unwrap_err(), Missed::Store(newer.clone()));
    let updated = bench.store.update(&handle, |_| Ok::<_, ()>((Door::Shut(shut(1)), ()))).await;
    assert_eq!(updated.unwrap_err(), Missed::Store(newer.clone()));
    assert_eq!(bench.store.remove(&handle).await, Err(newer.clone()));
    assert_eq!(bench.store.scan::<Door>(None, 10).await.unwrap_err(), newer);
    assert_eq!(bench.store.read(&written).await, Ok(Some(later)));
}

async fn every_change_is_told(bench: Bench) {
    let mut changes = bench.store.changes();
    let handle = bench.insert(2000).await;
    bench
        .store
        .transition(&handle, |door: Shut| Ok::<_, ()>(door.opened(1)))
        .await
        .unwrap();
    bench.store.remove(&handle).await.unwrap();
    let bell = bench.store.insert(Id::fresh(), Doorbell { rings: 0 }).await.unwrap();
    let mut told = Vec::new();
    for _ in 0..4 {
        told.push(changes.next().await);
    }
    // A cluster keeps no order among its nodes.
    if bench.is_shared {
        told.sort_by_key(|change| change.of::<Doorbell>().is_some());
    }
    for change in &told[..3] {
        assert_eq!(change.of::<Door>(), Some(handle.clone()));
    }
    assert_eq!((told[3].of::<Door>(), told[3].of::<Doorbell>()), (None, Some(bell)));
    assert!(timeout(Duration::from_millis(20), changes.next()).await.is_err());
}

async fn a_listener_that_fell_behind_is_told_of_a_gap(bench: Bench) {
    let mut changes = bench.store.changes();
    let writers = (0..16).map(|_| {
        let store = bench.store.clone();
        tokio::spawn(async move {
            for n in 0..320 {
                store.insert(Id::fresh(), Doorbell { rings: n }).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(changes.next().await, Change::Gap);
    assert!(changes.next().await.of::<Doorbell>().is_some());
}

async fn a_changed_key_ring_is_used_at_once(bench: Bench) {
    let handle = bench.insert(2000).await;
    let old = bench.keys.load_full();
    bench.keys.store(keys().load_full());
    let does_not_open = StoreError::DoesNotOpen { space: "door" };
    assert_eq!(bench.store.read(&handle).await, Err(does_not_open));
    bench.store.remove(&handle).await.unwrap();
    bench.keys.store(old);
    assert_eq!(bench.store.read(&handle).await, Ok(None));
}

async fn a_working_store_answers_a_ping(bench: Bench) {
    assert_eq!(bench.store.ping().await, Ok(()));
    assert_eq!(bench.store.is_single(), !bench.is_shared);
}

// Random operations, against a map.

#[derive(Clone, Debug)]
enum Op {
    Insert(u8, u64),
    Read(u8),
    Open(u8, u32),
    Shut(u8, u64),
    Remove(u8),
    Sweep,
    Wait(u64),
    Scan(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let id = 0..6_u8;
    prop_oneof![
        4 => (id.clone(), 990..1060_u64).prop_map(|(id, until)| Op::Insert(id, until)),
        4 => id.clone().prop_map(Op::Read),
        3 => (id.clone(), any::<u32>()).prop_map(|(id, by)| Op::Open(id, by)),
        3 => (id.clone(), 990..1060_u64).prop_map(|(id, until)| Op::Shut(id, until)),
        1 => id.prop_map(Op::Remove),
        1 => Just(Op::Sweep),
        1 => (1..10_u64).prop_map(Op::Wait),
        1 => (1..4_usize).prop_map(Op::Scan),
    ]
}

async fn behaves_as_a_map(bench: Bench, ops: Vec<Op>) {
    let mut model: HashMap<u8, Door> = HashMap::new();
    let mut now = 1000;
    let id = |n: u8| Id([n; 16]);
    for op in ops {
        let live = |n: &u8| model.get(n).filter(|door| door.keep_until().0 >= now).cloned();
        match op {
            Op::Insert(n, until) => {
                let done = bench.store.insert(id(n), shut(until)).await;
                assert_eq!(done.is_ok(), live(&n).is_none());
                if done.is_ok() {
                    model.insert(n, Door::Shut(shut(until)));
                }
            }
            Op::Read(n) => assert_eq!(bench.store.read(&Handle::of(id(n))).await, Ok(live(&n))),
            Op::Open(n, by) => {
                let open = |door: Shut| Ok::<_, ()>(door.opened(by));
                let moved = bench.store.transition(&Handle::of(id(n)), open).await;
                match live(&n) {
                    None => assert_eq!(moved.unwrap_err(), Missed::Absent),
                    Some(Door::Open(_)) => assert_eq!(moved.unwrap_err(), Missed::OtherState),
                    Some(Door::Shut(door)) => {
                        let (open, note) = door.opened(by);
                        assert_eq!(moved.unwrap().out, note);
                        model.insert(n, Door::Open(open));
                    }
                }
            }
            Op::Shut(n, until) => {
                let step = |_: Door| Ok::<_, ()>((Door::Shut(shut(until)), ()));
                let done = bench.store.update(&Handle::of(id(n)), step).await;
                assert_eq!(done.is_ok(), live(&n).is_some());
                if done.is_ok() {
                    model.insert(n, Door::Shut(shut(until)));
                }
            }
            Op::Remove(n) => {
                bench.store.remove(&Handle::<Door>::of(id(n))).await.unwrap();
                model.remove(&n);
            }
            Op::Sweep => {
                let expired = model.values().filter(|door| door.keep_until().0 < now).count();
                assert_eq!(bench.store.sweep().await, Ok(bench.swept(expired)));
                model.retain(|_, door| door.keep_until().0 >= now);
            }
            Op::Wait(seconds) => {
                now += seconds;
                bench.time.store(now, Ordering::SeqCst);
            }
            Op::Scan(limit) => {
                let mut there = HashMap::new();
                let mut cursor = None;
                loop {
                    let (page, next) = bench.store.scan::<Door>(cursor, limit).await.unwrap();
                    there.extend(page.into_iter().map(|(handle, door)| (handle.id().0[0], door)));
                    cursor = next;
                    if cursor.is_none() {
                        break;
                    }
                }
                let expected = model.keys().filter_map(|n| Some((*n, live(n)?))).collect::<HashMap<_, _>>();
                assert_eq!(there, expected);
            }
        }
    }
}

fn run(bench: Bench, ops: Vec<Op>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(behaves_as_a_map(bench, ops));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_behaves_as_a_map(ops in proptest::collection::vec(op(), 1..60)) {
        run(Bench::memory(), ops);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_behaves_as_a_map(ops in proptest::collection::vec(op(), 1..60)) {
        run(Bench::sqlite(), ops);
    }
}

// What only a file can promise.

#[tokio::test]
async fn a_closed_file_is_opened_again_with_all_that_was_answered() {
    let bench = Bench::sqlite();
    let handle = bench.insert(2000).await;
    let Bench {
        store, time, keys, dir, ..
    } = bench;
    drop(store);
    let dir = dir.unwrap();
    let again = Sqlite::open(dir.path()).unwrap();
    let again = Store::new(Backend::Sqlite(again), keys, Clock::Fixed(time));
    assert_eq!(again.read(&handle).await, Ok(Some(Door::Shut(shut(2000)))));
}

#[tokio::test]
async fn what_another_process_writes_is_seen_and_told() {
    let bench = Bench::sqlite();
    let other = bench.other();
    let mut changes = bench.store.changes();
    let handle = other.insert(Id::fresh(), shut(2000)).await.unwrap();
    assert!(bench.store.read(&handle).await.unwrap().is_some());
    let soon = Duration::from_secs(5);
    let told = timeout(soon, changes.next()).await.unwrap();
    assert_eq!(told.of::<Door>(), Some(handle.clone()));

    other.remove(&handle).await.unwrap();
    assert_eq!(timeout(soon, changes.next()).await.unwrap(), Change::Gap);

    // Also when it is our own write that comes upon it.
    let theirs = other.insert(Id::fresh(), Doorbell { rings: 1 }).await.unwrap();
    let ours = bench.store.insert(Id::fresh(), Doorbell { rings: 2 }).await.unwrap();
    for bell in [theirs, ours] {
        assert_eq!(timeout(soon, changes.next()).await.unwrap().of::<Doorbell>(), Some(bell));
    }
    assert!(timeout(Duration::from_millis(1500), changes.next()).await.is_err(), "told twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_have_one_winner() {
    let bench = Bench::sqlite();
    let other = bench.other();
    let handle = bench.insert(2000).await;
    let moves = (0..32).map(|by| {
        let store = if by % 2 == 0 { bench.store.clone() } else { other.clone() };
        let handle = handle.clone();
        tokio::spawn(async move { store.transition(&handle, |door: Shut| Ok::<_, ()>(door.opened(by))).await.is_ok() })
    });
    let mut winners = 0;
    for moved in moves.collect::<Vec<_>>() {
        winners += u32::from(moved.await.unwrap());
    }
    assert_eq!(winners, 1);
}

#[tokio::test]
async fn no_file_holds_a_record_in_clear_or_an_id() {
    let bench = Bench::sqlite();
    let canary = "canary-4711-at-rest";
    let note = Shut {
        until: 2000,
        note: canary.to_owned(),
    };
    let handle = bench.store.insert(Id::fresh(), note).await.unwrap();
    let name = handle.to_string();
    let mut files = 0;
    for file in std::fs::read_dir(bench.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        files += 1;
        for word in [canary.as_bytes(), name.as_bytes(), &handle.id().0, b"note"] {
            assert!(!bytes.windows(word.len()).any(|window| window == word));
        }
    }
    assert_eq!(files, 3, "the file, its log and its index");
}

#[cfg(unix)]
#[tokio::test]
async fn the_files_are_closed_to_others() {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt as _;
    let outer = TempDir::new().unwrap();
    let dir = outer.path().join("data/store");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    for loosen in [false, true] {
        let sqlite = Sqlite::open(&dir).unwrap();
        let store = Store::new(Backend::Sqlite(sqlite), keys(), Clock::System);
        store.insert(Id::fresh(), Doorbell { rings: 1 }).await.unwrap();
        assert_eq!(mode(&dir), 0o700);
        for beside in ["", "-wal", "-shm"] {
            let file = dir.join(format!("store.sqlite3{beside}"));
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
        drop(store);
        if !loosen {
            set_permissions(dir.join("store.sqlite3"), Permissions::from_mode(0o644)).unwrap();
        }
    }
}
