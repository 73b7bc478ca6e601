//! Random moves over the state machines, beside the model of the tests: whatever the bytes say, both agree.
#![no_main]

#[path = "../../tests/transitions/moves/acts.rs"]
mod acts;
#[path = "../../tests/transitions/moves/carried.rs"]
mod carried;
#[path = "../../tests/transitions/moves/grants.rs"]
mod grants;
#[path = "../../tests/transitions/moves/journeys.rs"]
mod journeys;
#[path = "../../tests/transitions/moves/logins.rs"]
mod logins;
#[path = "../../tests/transitions/moves/world.rs"]
mod world;

use acts::Act;
use libfuzzer_sys::fuzz_target;
use mcp_oauth_gateway::token::header::TokenMode;
use tokio::runtime::{Builder, Runtime};
use world::World;

/// The most acts of one world: more say nothing new.
const MOST: usize = 200;

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let (chunks, _) = rest.as_chunks::<{ Act::BYTES }>();
    let acts: Vec<Act> = chunks.iter().take(MOST).copied().map(Act::read).collect();
    let mut world = World::new(
        if first % 4 == 0 { 0 } else { 60 },
        if first % 3 == 0 { TokenMode::Reference } else { TokenMode::Sealed },
    );
    RUNTIME.with(|runtime| runtime.block_on(world.live(&acts)));
});
