//! The contract of a store backend. Each promise is an async function that runs on every backend.
#![expect(clippy::too_many_lines, reason = "a promise is read from top to bottom")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

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
use mcp_oauth_gateway::store::{
    Backend, Change, Handle, InsertError, Memory, Redis, RedisConfig, SharedKeyRing, Sqlite, Store, StoreError, TransitionError,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::time::timeout;

use self::ending::{
    a_record_expires_neither_early_nor_late, a_scan_returns_every_record_of_its_kind_once_during_inserts,
    a_sweep_removes_exactly_the_expired_records, an_insert_can_replace_an_expired_record,
    scan_ending_finds_exactly_the_records_that_expire_soon,
};
use self::map::{op, run};
use self::marked::{
    a_resealed_record_opens_unchanged_without_the_old_key, a_store_accepts_only_the_keys_it_was_filled_under,
    a_store_without_a_key_check_is_verified_by_its_records, imported_records_are_sealed_under_the_current_key,
    one_of_two_processes_starting_with_different_keys_is_refused, records_from_before_the_key_check_are_due_for_reseal,
};
use self::moves::{
    a_record_is_read_as_it_was_inserted, a_rejected_transition_leaves_the_record_unchanged, a_transition_from_the_wrong_state_is_refused,
    an_absent_record_is_neither_read_nor_changed, an_id_can_be_inserted_only_once_per_kind,
    an_overtaken_update_runs_again_on_the_current_record, an_update_detects_a_removed_and_reinserted_record,
    none_of_64_concurrent_updates_is_lost, one_of_64_concurrent_inserts_of_an_id_succeeds, one_of_64_concurrent_transitions_succeeds,
    remove_if_removes_only_a_record_that_matches_its_predicate,
};
use self::moving::{an_import_does_not_change_existing_records, import_copies_every_record_and_the_export_stays_sealed};
use self::told::{
    a_changed_key_ring_is_used_at_once, a_record_of_a_newer_version_is_refused_and_unchanged,
    a_slow_subscriber_of_the_change_feed_receives_a_gap, a_working_store_answers_a_ping, every_change_reaches_the_change_feed,
};
use crate::support::redis::{Server, wanted};

mod ending;
mod file;
mod map;
mod marked;
mod moves;
mod moving;
mod shapes;
mod shared;
#[expect(dead_code, reason = "each test binary uses a part of it")]
#[path = "../support/stores.rs"]
mod support;
mod told;
#[cfg(feature = "vault")]
mod vault;

// Sample records: `Door` has the states shut and open. `Doorbell` has one state and a counter.

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
    const KIND: &'static str = "door";

    fn expires_at(&self) -> UnixTime {
        let (Self::Shut(Shut { until, .. }) | Self::Open(Open { until, .. })) = self;
        UnixTime(*until)
    }
}

/// The same kind, as a newer program version writes it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct LaterDoor {
    hinges: u32,
}

impl Record for LaterDoor {
    const KIND: &'static str = "door";
    const VERSION: u32 = 2;

    fn expires_at(&self) -> UnixTime {
        UnixTime::NEVER
    }
}

/// Another kind. Its name starts with the name of the first kind.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Doorbell {
    rings: u32,
}

impl Record for Doorbell {
    const KIND: &'static str = "doorbell";

    fn expires_at(&self) -> UnixTime {
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

/// Use cases can be spawned: a transition is `Send` even if its closure borrows.
#[expect(clippy::manual_async_fn, reason = "an async fn cannot promise Send")]
fn opened_by<'a>(store: &'a Store, door: &'a Handle<Door>, by: &'a u32) -> impl Future<Output = bool> + Send + 'a {
    async move { store.transition(door, |door: Shut| Ok::<_, ()>(door.opened(*by))).await.is_ok() }
}

// A store under test, and the clock that the test controls.

struct Bench {
    store: Store,
    backend: Backend,
    time: Arc<AtomicU64>,
    keys: SharedKeyRing,
    dir: Option<TempDir>,
    redis: Option<Server>,
    is_shared: bool,
}

fn keys() -> SharedKeyRing {
    let ring = KeyRing::parse(keyring::generate(UnixTime(0)).expose()).unwrap();
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

    /// A store on its own Redis server, or `None` if no test servers are wanted.
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
        let at = RedisConfig::parse(url, prefix, None).unwrap();
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

    /// The expected sweep result. A shared store returns 0: Redis expires records by its own clock.
    fn swept(&self, expired: usize) -> usize {
        if self.is_shared { 0 } else { expired }
    }

    fn path(&self) -> &Path {
        self.dir.as_ref().expect("a bench of SQLite").path()
    }

    /// Opens the same file as another process would.
    fn other(&self) -> Store {
        let backend = Backend::Sqlite(Sqlite::open(self.path()).unwrap());
        Store::new(backend, self.keys.clone(), Clock::Fixed(self.time.clone()))
    }

    async fn insert(&self, until: u64) -> Handle<Door> {
        self.store.insert(Id::random(), shut(until)).await.unwrap()
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

        /// Runs all promises on one Redis, standalone or cluster, one after another.
        async fn all_of_it(url: &str) {
            $(
                println!("{}", stringify!($promise));
                $promise(Bench::on(url, &Id::random().to_string())).await;
            )+
        }
    };
}

contract! {
    a_record_is_read_as_it_was_inserted,
    an_id_can_be_inserted_only_once_per_kind,
    one_of_64_concurrent_inserts_of_an_id_succeeds,
    one_of_64_concurrent_transitions_succeeds,
    none_of_64_concurrent_updates_is_lost,
    a_transition_from_the_wrong_state_is_refused,
    a_rejected_transition_leaves_the_record_unchanged,
    remove_if_removes_only_a_record_that_matches_its_predicate,
    an_absent_record_is_neither_read_nor_changed,
    an_overtaken_update_runs_again_on_the_current_record,
    an_update_detects_a_removed_and_reinserted_record,
    a_record_expires_neither_early_nor_late,
    an_insert_can_replace_an_expired_record,
    a_sweep_removes_exactly_the_expired_records,
    a_scan_returns_every_record_of_its_kind_once_during_inserts,
    scan_ending_finds_exactly_the_records_that_expire_soon,
    a_record_of_a_newer_version_is_refused_and_unchanged,
    every_change_reaches_the_change_feed,
    a_slow_subscriber_of_the_change_feed_receives_a_gap,
    a_changed_key_ring_is_used_at_once,
    a_working_store_answers_a_ping,
    import_copies_every_record_and_the_export_stays_sealed,
    an_import_does_not_change_existing_records,
    a_store_accepts_only_the_keys_it_was_filled_under,
    a_store_without_a_key_check_is_verified_by_its_records,
    one_of_two_processes_starting_with_different_keys_is_refused,
    a_resealed_record_opens_unchanged_without_the_old_key,
    records_from_before_the_key_check_are_due_for_reseal,
    imported_records_are_sealed_under_the_current_key,
}
