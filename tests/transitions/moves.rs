//! Random acts on flows and grants, run on the real store and on a hand-written model.
//!
//! Both must agree on whether an act is allowed, on the reason, and on the stored result.

pub(crate) mod acts;
mod carried;
mod grants;
mod journeys;
mod logins;
pub(crate) mod world;

use std::cell::RefCell;
use std::collections::BTreeSet;

use mcp_oauth_gateway::flow::{TRANSITIONS, Transition};
use mcp_oauth_gateway::token::header::TokenMode;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRng, TestRunner};

use self::acts::Act;
use self::world::World;

fn acts(most: usize) -> impl Strategy<Value = Vec<Act>> {
    prop::collection::vec(any::<[u8; Act::BYTES]>().prop_map(Act::read), 1..most)
}

/// Runs `acts` in a new world and returns the world.
fn lived(grace: u64, mode: TokenMode, acts: &[Act]) -> World {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut world = World::new(grace, mode);
    runtime.block_on(world.live(acts));
    world
}

proptest! {
    #![proptest_config(Config { cases: 320, max_shrink_iters: 20_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn flows_and_grants_follow_the_model_under_random_transitions(
        grace in prop_oneof![Just(0), Just(60)],
        mode in prop_oneof![Just(TokenMode::Sealed), Just(TokenMode::Reference)],
        acts in acts(160),
    ) {
        lived(grace, mode, &acts);
    }
}

/// Rare cases that the random acts must cover.
const RARE: [&str; 17] = [
    "a generation that the store had forgotten",
    "a grant that was ended before it was there",
    "a code at another service",
    "a lease that was taken over",
    "a replay before the grant was there",
    "a replay that proves nothing",
    "a return to another provider",
    "a return to another service",
    "a second attempt while the first holds the lease",
    "a step off the way",
    "a successor of what is kept, of which the client knows nothing",
    "a use of an abandoned branch",
    "an answer to an attempt that lost its lease",
    "an older pair in grace",
    "an older pair in grace that carries nothing",
    "an older pair too late",
    "an upstream that refuses in circles",
];

#[test]
fn random_transitions_cover_every_edge_and_every_rare_case() {
    let (walked, met) = (RefCell::new(BTreeSet::new()), RefCell::new(BTreeSet::new()));
    let config = Config {
        cases: 560,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(config.rng_algorithm);
    let lives = TestRunner::new_with_rng(config, rng).run(&acts(200), |acts| {
        let mode = if acts.len() % 2 == 0 {
            TokenMode::Sealed
        } else {
            TokenMode::Reference
        };
        let world = lived(60, mode, &acts);
        walked.borrow_mut().extend(world.walked);
        met.borrow_mut().extend(world.met);
        Ok(())
    });
    lives.unwrap();
    // The machines of other records have tests of their own.
    let reachable = reachable_from(["ClientAuthorize", "Active"]);
    let listed = TRANSITIONS.iter().filter(|transition| reachable.contains(transition.to));
    let drawn: BTreeSet<_> = listed.map(|Transition { from, by, to }| (*from, *by, *to)).collect();
    assert_eq!(walked.into_inner(), drawn);
    assert_eq!(met.into_inner(), BTreeSet::from(RARE));
}

/// The states that a walk from these states can reach.
fn reachable_from<const N: usize>(states: [&'static str; N]) -> BTreeSet<&'static str> {
    let mut reachable = BTreeSet::from(states);
    loop {
        let known = reachable.len();
        let steps = TRANSITIONS.iter().filter(|transition| reachable.contains(transition.from));
        let next: Vec<_> = steps.map(|transition| transition.to).collect();
        reachable.extend(next);
        if reachable.len() == known {
            return reachable;
        }
    }
}
