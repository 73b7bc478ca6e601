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
    a_record_expires_neither_early_nor_late, a_scan_sees_every_record_of_its_kind_once_while_others_are_inserted,
    a_sweep_removes_what_has_expired_and_nothing_else, an_expired_record_makes_room_for_another,
    what_ends_soon_is_found_among_what_does_not,
};
use self::map::{op, run};
use self::marked::{
    a_store_of_an_earlier_program_without_a_mark_is_known_by_its_records, a_store_takes_the_keys_that_it_was_filled_under_and_no_others,
    of_two_that_begin_at_once_with_other_keys_one_is_refused, what_is_imported_lies_under_the_key_of_today,
    what_is_sealed_anew_opens_without_the_old_key_and_says_what_it_said, what_lies_unmarked_under_an_older_key_is_sealed_anew,
};
use self::moves::{
    a_record_in_another_state_is_not_moved, a_record_is_read_as_it_was_inserted, a_record_is_removed_if_it_is_as_was_said_and_else_not,
    a_rejected_step_changes_nothing, a_removed_and_inserted_record_is_not_overwritten_by_an_older_move,
    a_step_that_was_overtaken_runs_again_on_what_is_there_now, an_id_is_inserted_once, no_update_of_64_concurrent_ones_is_lost,
    one_of_64_concurrent_transitions_wins, one_of_64_inserts_of_one_id_is_done, what_is_absent_is_neither_read_nor_moved,
};
use self::moving::{an_import_changes_nothing_that_is_there, everything_is_moved_as_it_lies_sealed};
use self::told::{
    a_changed_key_ring_is_used_at_once, a_listener_that_fell_behind_is_told_of_a_gap, a_newer_record_is_refused_and_kept,
    a_working_store_answers_a_ping, every_change_is_told,
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
