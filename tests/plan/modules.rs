//! The architecture as data: modules, layers, imports, crates and budgets.
//!
//! If the code shows a better way, change a row here and give the reason in `ARCHITECTURE.md`.

use std::sync::LazyLock;

/// Methods that are no transitions of the table: type, method, reason.
pub(crate) const NOT_LISTED: &[(&str, &str, &str)] = &[
    ("GrantRecord", "used", "it keeps its state; the effect says what the use means"),
    ("GrantRecord", "upstream_401_seen", "it keeps its state, or ends by `ended`"),
    ("StoredCredentialRecord", "failed", "it keeps its state, and notes a failure"),
    ("Ended", "without_grant", "it ends a grant that does not exist yet"),
];

/// The most lines of a file, without tests.
pub(crate) const FILE_LINES: usize = 400;

/// The most lines of a function, without its documentation.
pub(crate) const FUNCTION_LINES: usize = 60;

/// The most lines of a part of `src`, without tests. A part inside another one comes first.
pub(crate) const SOURCE_LINES: [(&str, usize); 2] = [("src/store/vault", 1_700), ("src", 29_000)];

/// What a module imports of another one, where that is not all of it. `<Type>` is any type, and
/// `<Type>Config` one with this suffix.
const PARTS: &str = "
config store::<Type>Config store::<Type>ConfigError store::VaultLogin
app    net::body net::byte_watch net::generated_body net::http_client
adapter net::body net::generated_body net::http_client upstream::forward_rules
web    net::body net::http_client flow::<Type> service::public_urls
";

/// Modules without `async`, clock, random numbers and `static`.
const PURE: &[&str] = &["oauth", "token", "mcp", "flow"];

/// Module, and the crates and modules of `std` that it may name: a path, and everything below it. A
/// name in capitals is a row of its own. `config` resolves `--host` (`ToSocketAddrs`) and reads no
/// file. Of `jsonwebtoken`, `oauth` names nothing that verifies or reads the clock.
const CRATES: &str = "
PURE     base64 serde serde_json subtle thiserror url zeroize
PURE     ring::aead ring::digest ring::hkdf ring::hmac ring::signature
PURE     std::borrow std::cmp std::collections std::convert std::error std::fmt std::iter std::mem std::num std::ops std::str
PURE     std::net::IpAddr std::net::Ipv4Addr std::net::Ipv6Addr
HTTP     http hyper::body
ASYNC    arc_swap bytes futures_util tokio_util tracing
ASYNC    tokio::pin tokio::runtime tokio::select tokio::spawn tokio::sync tokio::task tokio::time
ASYNC    std::future std::hash std::io std::marker std::mem std::net std::path std::pin std::sync std::task
ASYNC    std::time::Duration
base     PURE argon2 jsonwebtoken ring::rand std::sync::Arc std::sync::LazyLock std::sync::atomic std::time
net      PURE ASYNC HTTP http_body http_body_util hyper hyper_util rcgen rustls rustls_native_certs
net      rustix::process rustls_pki_types socket2 tokio_rustls tokio::io tokio::net std::fs std::os::unix std::time
observe  PURE ASYNC http tracing_subscriber std::fs std::os::unix std::thread tokio::task_local
oauth    PURE jsonwebtoken::Algorithm jsonwebtoken::DecodingKey jsonwebtoken::decode_header
oauth    jsonwebtoken::errors jsonwebtoken::jwk
token    PURE
mcp      PURE
store    PURE ASYNC HTTP dashmap percent_encoding redis rusqlite std::fs std::os::unix std::thread
flow     PURE
upstream PURE ASYNC HTTP governor percent_encoding quick_cache
service  PURE HTTP tokio::fs tokio::sync tokio::task::spawn_blocking tracing std::path std::sync
config   PURE HTTP clap strsim toml_edit std::cell::Cell std::marker std::path std::sync::Arc std::net::SocketAddr
config   std::net::ToSocketAddrs std::time::Duration
app      PURE ASYNC HTTP argon2 dashmap http_body governor quick_cache std::thread::available_parallelism
agent    PURE ASYNC HTTP
adapter  PURE ASYNC HTTP http_body quick_cache std::cell::Cell
web      PURE ASYNC HTTP askama cookie matchit percent_encoding
cli      PURE ASYNC HTTP clap rustix::termios rustix::io rustls tokio::fs tokio::io tokio::net tokio::signal
cli      std::env std::fs std::os::unix std::process std::thread std::time
";

/// The order inside `app`: a component imports only from earlier steps. What is not listed is in
/// step 0; `mod` is the module's own `mod.rs`.
const STEPS: &str = "
signing_keys revocations
clients discovery
tokens
grants
api_keys grant_admin approvals introspection servers stored service_tokens
stored_logins
token_endpoint authorize proxy
tools
mod
reseal
background
";

/// What a pure module may not import although it may import the module above it.
pub(crate) const NOT_PURE: &[&str] = &[
    "base::random",
    "base::time::Clock",
    "base::time::Stopwatch",
    "std::collections::hash_map::RandomState",
];

/// Exceptions to [`NOT_PURE`]: values that were drawn before.
pub(crate) const DRAWN: &[&str] = &["base::random::SaltAndNonce"];

/// Inside `base`, only this file may name the path.
pub(crate) const ONE_FILE: &[(&str, &str)] = &[("std::time", "src/base/time.rs"), ("ring::rand", "src/base/random.rs")];

/// Global state. The JWT crate has one provider per process.
pub(crate) const GLOBAL: &[(&str, &str)] = &[("src/base/jws.rs", "PROVIDER_INSTALLED")];

/// A directory below `src`.
pub(crate) struct Module {
    pub name: &'static str,
    pub layer: u8,
    pub imports: Vec<&'static str>,
    pub crates: Vec<&'static str>,
    pub pure: bool,
}

/// The table of modules in `ARCHITECTURE.md`: layer, name, content, imports.
pub(crate) static MODULES: LazyLock<Vec<Module>> = LazyLock::new(|| {
    let row = |line: &'static str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [layer, name, _, imports] = cells[..] else { return None };
        let (layer, name) = (layer.parse().ok()?, name.trim_matches('`'));
        let parts = words(PARTS, name);
        let part_of = |import| move |part: &&str| part.split("::").next() == Some(import);
        let narrowed = |import: &'static str| {
            let parts: Vec<&str> = parts.iter().copied().filter(part_of(import)).collect();
            if parts.is_empty() { vec![import] } else { parts }
        };
        let imports = imports.split(", ").flat_map(narrowed).collect();
        let (crates, pure) = (crates(name), PURE.contains(&name));
        Some(Module {
            name,
            layer,
            imports,
            crates,
            pure,
        })
    };
    include_str!("../../ARCHITECTURE.md").lines().filter_map(row).collect()
});

/// The words of the rows of a table that begin with this name.
fn words(table: &'static str, name: &str) -> Vec<&'static str> {
    let rows = table
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(row, _)| *row == name);
    rows.flat_map(|(_, words)| words.split_whitespace()).collect()
}

fn crates(name: &str) -> Vec<&'static str> {
    let expand = |word: &'static str| {
        if word.starts_with(char::is_uppercase) {
            crates(word)
        } else {
            vec![word]
        }
    };
    words(CRATES, name).into_iter().flat_map(expand).collect()
}

/// The row of a module.
pub(crate) fn module(name: &str) -> Option<&'static Module> {
    MODULES.iter().find(|module| module.name == name)
}

/// Whether a path is the one of the pattern, or below it.
pub(crate) fn is_below(path: &[String], pattern: &str) -> bool {
    let mut rest = path;
    for part in pattern.split("::") {
        if let Some(suffix) = part.strip_prefix("<Type>") {
            return rest.last().is_some_and(|name| is_type(name) && name.ends_with(suffix));
        }
        match rest.split_first() {
            Some((name, below)) if name == part => rest = below,
            _ => return false,
        }
    }
    true
}

/// Whether a name is written as a type is.
pub(crate) fn is_type(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase()) && name.contains(|c: char| c.is_ascii_lowercase())
}

/// The step of a component of `app`.
pub(crate) fn step(component: &str) -> usize {
    let step = STEPS.trim().lines().position(|step| step.split(' ').any(|name| name == component));
    step.map_or(0, |step| step + 1)
}

/// The name of a component's type: `TokenEndpoint` for `token_endpoint`.
pub(crate) fn type_name(component: &str) -> String {
    let capitalised = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
    component.split('_').filter(|word| !word.is_empty()).map(capitalised).collect()
}
