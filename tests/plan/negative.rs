//! One bad file per rule, which must be refused, and good files, which must pass.

use crate::check::Finding;
use crate::exceptions;
use crate::report;
use crate::source::Code;

/// A rule and files. A file begins with its path and a colon; `---` separates files, `¶` lines.
const BAD: &str = "
import          src/flow/grant.rs: use crate::{base::ids::Id, store::Store};
import          src/flow/grant.rs: fn f(_: crate::store::Store) {}
import          src/flow/grant.rs: use super::super::store::Store;
import          src/flow/grant.rs: fn f() { vec![mcp_oauth_gateway::store::open()]; }
import          src/web/reply.rs: use crate::flow::grant;
import          src/app/x.rs: use crate::net;
import          src/config/store.rs: use crate::store::Redis;
import          src/store/mod.rs: #[cfg(test)] mod tests { use crate::flow::grant::A; }
import          src/cellar/mod.rs: fn f() {}
import          src/lib.rs: pub use crate::base::ids;
import          src/main.rs: fn main() { mcp_oauth_gateway::web::run() }
component-order src/app/grants/mod.rs: use crate::app::proxy::A; --- src/app/proxy/mod.rs: pub struct A;
component-order src/app/tokens/mod.rs: use super::Core; --- src/app/mod.rs: pub struct Core;
glob            src/flow/grant.rs: fn f() { use crate::flow::client::*; }
re-export       src/net/server.rs: pub use crate::net::server::A;
re-export       src/net/mod.rs: pub use crate::base::ids::Id;
re-export       src/net/mod.rs: pub use crate::net::tls::A; --- src/net/tls.rs: --- src/net/dial.rs: use super::A;
purity          src/token/pair.rs: use crate::base::random::fresh;
purity          src/token/pair.rs: use crate::base::time; fn f(_: time::Clock) {}
purity          src/token/pair.rs: fn f() { ::std::time::SystemTime::now() }
purity          src/token/pair.rs: use std::{fmt, thread::{self, sleep}};
purity          src/token/pair.rs: use ring::rand::SystemRandom;
purity          src/token/pair.rs: impl A { async fn f() {} }
purity          src/token/pair.rs: fn f() { async move {}; }
purity          src/token/pair.rs: static A: u8 = 0;
purity          src/base/ids.rs: use std::time::SystemTime;
purity          src/web/reply.rs: use reqwest::Client;
cycle           src/net/a.rs: use crate::net::b::B; --- src/net/b.rs: fn f(_: super::a::A) {}
cycle           src/net/mod.rs: mod a; pub use a::A; --- src/net/a.rs: use super::f;
cycle           src/net/mod.rs: pub use crate::net::a::A; fn f() {} --- src/net/a.rs: use super::f;
cycle           src/net/a.rs: impl A { pub fn f(self) { self.g() } } --- src/net/b.rs: use super::a::A; impl A { pub fn g(self) {} }
impl-folder     src/net/a.rs: pub struct A; --- src/web/b.rs: use crate::net::a::A; impl A {}
impl-folder     src/app/mod.rs: pub struct App; --- src/app/proxy/mod.rs: use super::App; impl App {}
deref           src/net/a.rs: struct A; impl std::ops::Deref for A {}
component-field src/app/grants/mod.rs: pub struct Grants { pub a: u8 }
cycle           src/app/grants/mod.rs: struct A { a: self::x::B } --- src/app/grants/x.rs: use super::grants::A; struct B; impl A {}
tuple-parameter src/net/a.rs: fn f(a: u8, b: &(u8, u8)) {}
global-state    src/net/a.rs: static A: [Option<std::sync::Mutex<u8>>; 1] = B;
trait-object    src/net/a.rs: trait A {} fn f(_: Box<dyn A>) {}
citation        src/net/a.rs: // As HOUSE says.
citation        src/net/a.rs: fn f() {} // see plan/names.md
citation        src/net/a.rs: /// Refused (asks D4).¶fn f() {}
citation        src/net/a.rs: //! MA-32, T-D2 and seed-001.
citation        src/net/a.rs: // Clause §4.2.
ignored         src/net/a.rs: #[test] #[ignore] fn f() {}
ignored         src/net/a.rs: #[cfg_attr(test, ignore)] fn f() {}
";

const GOOD: &[&str] = &[
    "src/flow/grant.rs: use std::fmt::{self, Write as _}; use crate::base::random::Fresh; use super::client::{self, A}; \
     #[derive(Clone, fmt::Debug)] struct B; fn f(_: A) -> u64 { client::g(); u64::MAX } \
     #[cfg(test)] mod tests { use super::*; use std::sync::Mutex; static A: Mutex<u8> = B; fn f(a: (u8, u8)) {} }",
    "src/web/reply.rs: use crate::flow::client::ReturnAddress;",
    "src/config/store.rs: use crate::store::RedisConfig;",
    "src/app/proxy/mod.rs: use crate::app::grants::A; --- src/app/grants/mod.rs: pub struct A; --- src/app/grants/end.rs: use super::A; impl A {}",
    "src/net/mod.rs: pub use crate::net::tls::A; --- src/net/tls.rs: pub struct A; impl std::fmt::Display for A {}",
    "src/net/a.rs: fn f(a: &[u8]) { a.iter().find(g); } --- src/net/b.rs: use super::a::A; impl B { pub fn find(&self) {} }",
    "src/net/a.rs: // RFC 9111 §5.2.2, and then §5.1; MCP; CVE-2026-1; https://a.b/README.md; ES256; see README.md.",
    "src/base/jws.rs: static PROVIDER_INSTALLED: std::sync::LazyLock<bool> = A;",
    "src/main.rs: fn main() { mcp_oauth_gateway::cli::run() }",
];

fn judged(files: &str) -> Vec<Finding> {
    let parts = files.split(" --- ").map(|file| file.split_once(':').unwrap());
    report(&Code::new(parts.map(|(path, text)| (path.to_owned(), text.to_owned())))).findings
}

#[test]
fn each_bad_file_is_refused() {
    for (rule, files) in BAD.trim().lines().map(|line| line.split_once(' ').unwrap()) {
        let found = judged(&files.trim().replace('¶', "\n"));
        let refused = found.iter().any(|finding| finding.rule == rule);
        assert!(refused, "not refused, {rule}: {files}\n{found:#?}");
    }
}

#[test]
fn good_files_pass() {
    for files in GOOD {
        let found = judged(files);
        assert!(found.is_empty(), "{files}\n{found:#?}");
    }
}

#[test]
fn a_long_file_and_long_sources_are_refused() {
    let long = |lines: usize| judged(&format!("src/net/a.rs:{}fn f() {{}}", "\n".repeat(lines)));
    assert!(long(399).is_empty());
    assert_eq!(long(400)[0].rule, "file-lines");
    let function = |lines: usize| judged(&format!("src/net/a.rs: fn f() {{{}}}", "\n".repeat(lines)));
    assert!(function(59).is_empty());
    assert_eq!(function(60)[0].rule, "function-lines");
    assert!(long(29_000).iter().any(|finding| finding.rule == "source-lines"));
    assert!(judged(&format!("src/net/a.rs: #[cfg(test)]\nmod tests {{{}}}", "\n".repeat(500))).is_empty());
}

#[test]
fn the_list_of_exceptions_only_shrinks() {
    let found = judged("src/net/a.rs: fn f(a: (u8, u8)) {}");
    let errors = |list: &str| exceptions::compare(&found, &exceptions::parse(list));
    assert!(errors("")[0].contains("[tuple-parameter]"));
    assert!(errors("tuple-parameter src/net/a.rs").is_empty());
    assert!(errors("tuple-parameter src/net/a.rs\ncycle src/net/b.rs")[0].contains("`cycle src/net/b.rs` is no longer needed"));
    let long = judged(&format!("src/net/a.rs:{}fn f() {{}}", "\n".repeat(450)));
    let errors = |list: &str| exceptions::compare(&long, &exceptions::parse(list));
    assert!(errors("file-lines src/net/a.rs 451").is_empty());
    assert!(errors("file-lines src/net/a.rs 450")[0].contains("451; the limit is 400"));
}
