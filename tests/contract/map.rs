//! Random operations on a store, compared with a map.

use super::*;

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Insert(u8, u64),
    Read(u8),
    Open(u8, u32),
    Shut(u8, u64),
    Remove(u8),
    Sweep,
    Wait(u64),
    Scan(usize),
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
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

pub(crate) async fn behaves_as_a_map(bench: Bench, ops: Vec<Op>) {
    let mut model: HashMap<u8, Door> = HashMap::new();
    let mut now = 1000;
    let id = |n: u8| Id([n; 16]);
    for op in ops {
        let live = |n: &u8| model.get(n).filter(|door| door.expires_at().0 >= now).cloned();
        match op {
            Op::Insert(n, until) => {
                let done = bench.store.insert(id(n), shut(until)).await;
                assert_eq!(done.is_ok(), live(&n).is_none());
                if done.is_ok() {
                    model.insert(n, Door::Shut(shut(until)));
                }
            }
            Op::Read(n) => assert_eq!(bench.store.read(&Handle::new(id(n))).await, Ok(live(&n))),
            Op::Open(n, by) => {
                let open = |door: Shut| Ok::<_, ()>(door.opened(by));
                let moved = bench.store.transition(&Handle::new(id(n)), open).await;
                match live(&n) {
                    None => assert_eq!(moved.unwrap_err(), TransitionError::NotFound),
                    Some(Door::Open(_)) => assert_eq!(moved.unwrap_err(), TransitionError::WrongState),
                    Some(Door::Shut(door)) => {
                        let (open, note) = door.opened(by);
                        assert_eq!(moved.unwrap().effect, note);
                        model.insert(n, Door::Open(open));
                    }
                }
            }
            Op::Shut(n, until) => {
                let step = |_: Door| Ok::<_, ()>((Door::Shut(shut(until)), ()));
                let done = bench.store.update(&Handle::new(id(n)), step).await;
                assert_eq!(done.is_ok(), live(&n).is_some());
                if done.is_ok() {
                    model.insert(n, Door::Shut(shut(until)));
                }
            }
            Op::Remove(n) => {
                bench.store.remove(&Handle::<Door>::new(id(n))).await.unwrap();
                model.remove(&n);
            }
            Op::Sweep => {
                let expired = model.values().filter(|door| door.expires_at().0 < now).count();
                assert_eq!(bench.store.sweep().await, Ok(bench.swept(expired)));
                model.retain(|_, door| door.expires_at().0 >= now);
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

pub(crate) fn run(bench: Bench, ops: Vec<Op>) {
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
