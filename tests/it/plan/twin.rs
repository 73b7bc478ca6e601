//! The twin of the guard: files that smuggle, each of which must be refused, and clean ones that pass. A guard that
//! nobody tries to get past rots.

use super::check::{Refusal, check};
use super::names::House;

fn judged(files: &[(&str, &str)]) -> Vec<Refusal> {
    check(&House::of(
        files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())),
    ))
}

/// The file must be refused, on `line`, with `words` in the message.
#[track_caller]
fn refused_among(files: &[(&str, &str)], at: &str, words: &str) {
    let refusals = judged(files);
    let messages: Vec<String> = refusals.iter().map(Refusal::to_string).collect();
    assert!(
        messages.iter().any(|message| message.starts_with(at) && message.contains(words)),
        "not refused at {at} for `{words}`: {files:#?}\n{messages:#?}"
    );
}

#[track_caller]
fn refused(path: &str, text: &str, line: usize, words: &str) {
    refused_among(&[(path, text)], &format!("{path}:{line}:"), words);
}

#[track_caller]
fn passes(files: &[(&str, &str)]) {
    let refusals = judged(files);
    assert!(refusals.is_empty(), "{}", super::refused(&refusals));
}

const GRANT: &str = "src/flow/grant.rs";
const PAIR: &str = "src/token/pair.rs";

#[test]
fn a_clean_file_passes() {
    let clean = "
        //! A state.
        use std::fmt::{self, Write as _};
        use std::net::IpAddr;
        use ring::{aead, digest as sha};
        use serde::{Deserialize, Serialize};
        use crate::base::random::SaltAndNonce;
        use crate::base::time::UnixTime;
        use crate::base::record::states;
        use crate::flow::error::RejectReason;
        use super::client::{self, Authenticated};

        #[derive(Serialize, Deserialize)]
        #[serde(bound = \"T: std::fmt::Debug\")]
        pub struct Active { #[serde(with = \"crate::base::secret::at_rest\")] held: String, alone: Option<IpAddr> }

        const TABLE: [&str; 2] = [\"a\", \"b\"];

        impl Active {
            pub fn after<'a>(self, by: &'a Authenticated, _: SaltAndNonce, now: UnixTime) -> Result<(Self, ()), RejectReason> {
                assert!(client::same(by) && u64::from(1_u8) < u64::MAX && sha::SHA256 != self::helped());
                let _: Box<dyn fmt::Write> = Box::new(String::new());
                let _ = ::std::str::from_utf8(&[]);
                Ok((self, ()))
            }
        }

        #[cfg(test)]
        mod tests {
            use std::sync::Mutex;
            use crate::base::random;
            use super::*;
            static SEEN: Mutex<u32> = Mutex::new(0);
            #[test]
            fn it_is_done() { std::thread::sleep(std::time::Duration::ZERO); random::fresh(); }
        }
    ";
    passes(&[(GRANT, clean)]);
}

#[test]
fn super_does_not_leave_its_room() {
    refused(GRANT, "use super::super::store::Store;", 1, "leaves the room");
    refused(GRANT, "\nfn f() { super::super::store::open() }", 2, "leaves the room");
    refused(GRANT, "fn f() { self::super::super::store::open() }", 1, "leaves the room");
    refused("src/flow/mod.rs", "use super::store;", 1, "leaves the room");
    refused(GRANT, "mod deeper { use super::super::super::store; }", 1, "leaves the room");
    refused(GRANT, "fn f() { assert!(super::super::store::open()) }", 1, "leaves the room");
    passes(&[(GRANT, "mod deeper { use super::super::client::Registered; }")]);
}

#[test]
fn no_arrow_runs_up_however_it_is_written() {
    let up = "flow` may use base, oauth, token";
    refused(GRANT, "use crate::{base::ids::Id, store::Store};", 1, up);
    refused(GRANT, "use crate::{store as s};\nfn f() { s::open() }", 1, up);
    refused(GRANT, "use crate::{store as s};\nfn f() { s::open() }", 2, up);
    refused(GRANT, "fn f(_: crate::store::Store) {}", 1, up);
    refused(GRANT, "impl From<crate::store::Row> for u8 {}", 1, up);
    refused(GRANT, "fn f(x: u8) { match x { crate::store::PAGE => (), _ => () } }", 1, up);
    refused(GRANT, "fn f() { <u8 as crate::store::Kept>::keep() }", 1, up);
    refused(GRANT, "fn f<T: crate::store::Kept>() {}", 1, up);
    refused(GRANT, "fn f() { mcp_oauth_gateway::store::open() }", 1, up);
    refused(GRANT, "#[derive(crate::store::Kept)] struct A;", 1, up);
    refused(GRANT, "struct A { #[serde(with = \"crate::store::sealed_record\")] a: u8 }", 1, up);
    refused("src/web/reply.rs", "use crate::flow::grant::GrantData;", 1, "web` may use");
    refused("src/app/proxy.rs", "use crate::net;", 1, "app` may use");
    refused(
        "src/store/mod.rs",
        "#[cfg(test)] mod tests { use crate::flow::grant::GrantData; }",
        1,
        "store` may use",
    );
    passes(&[("src/web/reply.rs", "use crate::flow::client::ReturnAddress;")]);
}

#[test]
fn the_house_has_no_other_name() {
    refused(
        GRANT,
        "use crate as house;\nfn f() { house::store::open() }",
        1,
        "a path of ours goes through a room",
    );
    refused(
        GRANT,
        "use crate::{self as house};\nfn f() { house::store::open() }",
        2,
        "flow` may use",
    );
    refused(GRANT, "use crate::Store;", 1, "a path of ours goes through a room");
}

#[test]
fn macros_hide_nothing() {
    refused(GRANT, "macro_rules! m { () => { $crate::store::open() } }", 1, "flow` may use");
    refused(GRANT, "fn f() {\n vec![crate::store::open()]; }", 2, "flow` may use");
    refused(
        GRANT,
        "fn f() { println!(\"{}\", [(std::time::SystemTime::now())]) }",
        1,
        "std::time::SystemTime",
    );
    refused(
        GRANT,
        "macro_rules! m { () => { use crate::{base::ids::Id, store as s}; } }",
        1,
        "names `crate::store`",
    );
    refused(GRANT, "macro_rules! m { () => { use std as x; } }", 1, "names `std`");
    refused(GRANT, "macro_rules! m { () => { use std::{self as x}; } }", 1, "names `std`");
    refused(
        GRANT,
        "macro_rules! m { ($a:ident) => { std::$a::sleep() } }",
        1,
        "is part of a path",
    );
    refused(
        GRANT,
        "macro_rules! m { ($a:ident) => { $a::thread::sleep() } }",
        1,
        "is part of a path",
    );
    refused(GRANT, "macro_rules! m { () => { extern crate tokio; } }", 1, "extern crate");
    refused(PAIR, "macro_rules! m { () => { async { x.await } } }", 1, "waits inside a macro");
    refused(PAIR, "macro_rules! m { () => { static X: A = A; } }", 1, "inside a macro");
    refused(PAIR, "fn f() { tokio::select! {} }", 1, "names `tokio::select`");
    refused(PAIR, "fn f() { println!() }", 1, "is pure");
    refused(PAIR, "include!(\"../store/mod.rs\");", 1, "no code from elsewhere");
    refused(PAIR, "#[path = \"../store/mod.rs\"] mod s;", 1, "the tree of files");
    refused(
        PAIR,
        "macro_rules! m { ($a:ident) => { &'static $a } }\nfn f() { std::env::var(); }",
        2,
        "std::env",
    );
}

#[test]
fn pure_rooms_do_not_wait() {
    refused(PAIR, "pub async fn open() {}", 1, "`async fn`");
    refused(PAIR, "impl A { async fn open() {} }", 1, "`async fn`");
    refused(PAIR, "fn f() { async move {}; }", 1, "`async` block");
    refused(PAIR, "fn f() { async || {}; }", 1, "`async` closure");
    refused(PAIR, "async fn f() { g().await }", 1, "`.await`");
    refused(
        GRANT,
        "use std::{fmt, thread::{self, sleep}};\nfn f() { sleep() }",
        1,
        "names `std::thread::sleep`",
    );
    refused(GRANT, "fn f() { std::thread::sleep(d) }", 1, "names `std::thread::sleep`");
    refused(
        GRANT,
        "fn f() { use std::thread as t; t::sleep(d) }",
        1,
        "names `std::thread::sleep`",
    );
    refused(GRANT, "fn f() -> impl core::future::Future {}", 1, "names `std::future::Future`");
    refused(GRANT, "use std::net::TcpStream;", 1, "names `std::net::TcpStream`");
}

#[test]
fn pure_rooms_ask_no_time() {
    refused(
        GRANT,
        "fn f() { ::std::time::SystemTime::now() }",
        1,
        "names `std::time::SystemTime::now`",
    );
    refused(GRANT, "use std::{self as x};\nfn f() { x::time::Instant::now() }", 1, "names `std`");
    refused(
        GRANT,
        "use std::{self as x};\nfn f() { x::time::Instant::now() }",
        2,
        "names `std::time::Instant::now`",
    );
    refused(
        GRANT,
        "extern crate std as x;\nfn f() { x::time::Instant::now() }",
        1,
        "extern crate",
    );
    refused(
        GRANT,
        "mod std {}\nfn f() { std::time::Instant::now() }",
        2,
        "names `std::time::Instant::now`",
    );
    refused(GRANT, "use crate::base::time::Clock;", 1, "never asks the time");
    refused(
        GRANT,
        "use crate::base as b;\nfn f(c: &b::time::Clock) {}",
        2,
        "never asks the time",
    );
    refused(
        GRANT,
        "use crate::base::time;\nfn f(c: &self::time::Clock) {}",
        2,
        "never asks the time",
    );
    refused(
        GRANT,
        "#[cfg(any(test, unix))] mod tests { use std::time::Instant; }",
        1,
        "names `std::time::Instant`",
    );
    refused(GRANT, "#[cfg(not(test))] use std::time::Instant;", 1, "names `std::time::Instant`");
}

#[test]
fn a_room_below_does_not_pass_a_clock_up() {
    let ground = ("src/base/time.rs", "pub use std::time::Instant as Moment;");
    refused_among(
        &[ground, (GRANT, "use crate::base::time::Moment;")],
        "src/flow/grant.rs:1:",
        "names `std::time::Instant`",
    );
    refused(
        "src/base/ids.rs",
        "fn f() { std::time::SystemTime::now() }",
        1,
        "one clock and one die",
    );
    refused("src/base/ids.rs", "use ring::rand;", 1, "one clock and one die");
}

#[test]
fn pure_rooms_roll_no_die() {
    refused(PAIR, "use ring::rand::SystemRandom;", 1, "names `ring::rand::SystemRandom`");
    refused(PAIR, "use ring as r;", 1, "names `ring`");
    refused(
        PAIR,
        "use crate::base::random::{SaltAndNonce, salt_and_nonce};",
        1,
        "never rolls a die",
    );
    refused(PAIR, "use crate::base::random;", 1, "never rolls a die");
    refused(PAIR, "use std::collections::hash_map::RandomState;", 1, "never rolls a die");
    refused(PAIR, "fn f() { getrandom::fill(&mut []) }", 1, "names `getrandom::fill`");
}

#[test]
fn a_waiting_room_names_only_what_is_its_job() {
    refused("src/config/mod.rs", "use std::fs;", 1, "config` may name only");
    refused("src/app/proxy.rs", "use tokio::net::TcpStream;", 1, "app` may name only");
    refused("src/web/reply.rs", "use reqwest::Client;", 1, "web` may name only");
    refused("src/base/ids.rs", "use tokio::sync::Notify;", 1, "base` may name only");
}

#[test]
fn nothing_is_global() {
    refused(PAIR, "static X: Mutex<u8> = Mutex::new(0);", 1, "no global state");
    refused(PAIR, "static X: Wrapped = Wrapped(0);", 1, "a `static`");
    refused(
        "src/app/runtime_config.rs",
        "static X: std::sync::Mutex<u8> = A;",
        1,
        "no global state",
    );
    refused(
        "src/app/runtime_config.rs",
        "static X: [Option<std::sync::atomic::AtomicU8>; 1] = A;",
        1,
        "no global state",
    );
    let planned = "static PROVIDER_INSTALLED: LazyLock<bool> = A;";
    refused("src/base/time.rs", planned, 1, "no global state");
    passes(&[("src/base/jws.rs", planned)]);
    refused(
        "src/app/runtime_config.rs",
        "thread_local! { static X: u8 = 0; }",
        1,
        "no global state",
    );
    passes(&[("src/upstream/quirks.rs", "static ALL: [&str; 1] = [\"a\"];")]);
}

#[test]
fn names_come_from_their_owner() {
    refused(GRANT, "use crate::flow::client::*;", 1, "no glob imports");
    refused(GRANT, "fn f() { use Kind::*; }", 1, "no glob imports");
    refused("src/lib.rs", "pub use crate::base::ids;", 1, "codemap");
    refused("src/main.rs", "fn main() { mcp_oauth_gateway::app::run() }", 1, "a call into `cli`");
    refused("src/cellar/mod.rs", "", 1, "outside the rooms");
    passes(&[
        ("src/main.rs", "fn main() { mcp_oauth_gateway::cli::run() }"),
        ("src/lib.rs", "//! Codemap.\npub mod cli;"),
    ]);
}

#[test]
fn there_is_no_trait_object_of_our_own() {
    refused("src/store/mod.rs", "trait Kept {} fn f(_: &dyn Kept) {}", 1, "no trait object");
    refused(
        "src/store/mod.rs",
        "use crate::base::record::Record as R; fn f(_: Box<dyn Send + R>) {}",
        1,
        "no trait object",
    );
    refused(
        "src/store/mod.rs",
        "trait Kept {} fn f() { vec![a as &dyn Kept]; }",
        1,
        "no trait object",
    );
    passes(&[("src/store/mod.rs", "fn f(_: Box<dyn std::error::Error + Send>) {}")]);
}

#[test]
fn some_words_stand_nowhere() {
    for text in [
        "fn f() { unsafe {} }",
        "unsafe impl Send for A {}",
        "macro_rules! m { () => { unsafe {} } }",
        "#[unsafe(no_mangle)] fn f() {}",
        "fn f() { todo!() }",
        "fn f() { assert!(unimplemented!(\"later\")) }",
        "#[test] #[ignore] fn f() {}",
        "#[cfg_attr(unix, ignore = \"slow\")] fn f() {}",
        "#![allow(dead_code)]",
        "#[cfg_attr(unix, allow(dead_code))] fn f() {}",
    ] {
        refused("src/store/mod.rs", text, 1, "stands nowhere");
        assert!(!super::check::words("tests/it/moves.rs", text).is_empty(), "{text}");
    }
    passes(&[
        (
            "src/base/record.rs",
            "macro_rules! states { () => { #[allow(clippy::unused)] fn f() {} }; }",
        ),
        (
            "src/store/mod.rs",
            "#[expect(dead_code, reason = \"a\")] fn allow(ignore: u8) { let _ = [ignore]; }",
        ),
    ]);
}

#[test]
fn things_stay_small() {
    let lines = |n: usize| "\n".repeat(n);
    refused("src/store/mod.rs", &format!("{}fn f() {{}}", lines(400)), 1, "401 lines");
    passes(&[("src/store/mod.rs", &format!("#[cfg(test)]\nmod tests {{ {} }}", lines(500)))]);
    refused("src/store/mod.rs", &format!("\nfn f() {{ g();{} }}", lines(80)), 2, "has 81 lines");
    passes(&[("src/store/mod.rs", &format!("fn f() {{ match x {{ {} }} }}", lines(100)))]);
    passes(&[("src/store/mod.rs", &format!("fn f() {{ [{}] }}", lines(100)))]);
    let eight = "fn f(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8) {}";
    refused("src/store/mod.rs", eight, 1, "takes 8 parameters");
}
