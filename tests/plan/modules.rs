//! The architecture as data: modules, layers, imports, crates and budgets.
//!
//! If the code shows a better way, change a row here and give the reason in `ARCHITECTURE.md`.

/// The module of the use cases.
pub const APP: &str = "gateway";

/// The constant in `src/flow/mod.rs` that lists every transition.
pub const TRANSITIONS: &str = "ARROWS";

/// Methods that are no transitions of the table: type, method, reason.
pub const NOT_LISTED: &[(&str, &str, &str)] = &[
    ("GrantRecord", "refused_upstream", "it keeps its state, or ends by `end`"),
    ("Ended", "before_it_began", "it ends a grant that does not exist yet"),
];

/// The most lines of a file, without tests.
pub const FILE_LINES: usize = 400;

/// The most lines of a part of `src`, without tests. The more specific part comes first.
pub const SOURCE_LINES: [(&str, usize); 2] = [("src/store/vault", 1_700), ("src", 29_000)];

/// One row of the layer table.
pub struct Module {
    /// The directory below `src`.
    pub name: &'static str,
    /// A module imports only from lower layers.
    pub layer: u8,
    /// The modules that it may import, or paths in them. `<Type>Config` is a type with this suffix.
    pub imports: &'static [&'static str],
    /// The crates and modules of `std` that it may name: a path, and everything below it.
    pub crates: &'static [&'static [&'static str]],
    /// No `async`, no clock, no random numbers, no `static`.
    pub pure: bool,
}

const PURE: &[&str] = &[
    "base64",
    "ring::aead",
    "ring::digest",
    "ring::hkdf",
    "ring::hmac",
    "ring::signature",
    "serde",
    "serde_json",
    "std::borrow",
    "std::cmp",
    "std::collections",
    "std::convert",
    "std::error",
    "std::fmt",
    "std::iter",
    "std::net::IpAddr",
    "std::net::Ipv4Addr",
    "std::net::Ipv6Addr",
    "std::num",
    "std::ops",
    "std::str",
    "subtle",
    "thiserror",
    "url",
    "zeroize",
];

/// Parts of the crate that verify nothing and read no clock.
const JWT: &[&str] = &[
    "jsonwebtoken::Algorithm",
    "jsonwebtoken::DecodingKey",
    "jsonwebtoken::decode_header",
    "jsonwebtoken::errors",
    "jsonwebtoken::jwk",
];

const ASYNC: &[&str] = &[
    "arc_swap",
    "bytes",
    "futures_util",
    "std::future",
    "std::hash",
    "std::io",
    "std::marker",
    "std::mem",
    "std::net",
    "std::path",
    "std::pin",
    "std::sync",
    "std::task",
    "std::time::Duration",
    "tokio::pin",
    "tokio::runtime",
    "tokio::select",
    "tokio::spawn",
    "tokio::sync",
    "tokio::task",
    "tokio::time",
    "tokio_util",
    "tracing",
];

/// HTTP messages, without a socket.
const HTTP: &[&str] = &["http", "hyper::body"];

/// The layer table.
pub const MODULES: [Module; 13] = [
    Module {
        name: "base",
        layer: 1,
        imports: &[],
        crates: &[
            PURE,
            &["argon2", "jsonwebtoken", "ring::rand"],
            &["std::sync::Arc", "std::sync::LazyLock", "std::sync::atomic", "std::time"],
        ],
        pure: false,
    },
    Module {
        name: "net",
        layer: 2,
        imports: &["base"],
        crates: &[
            PURE,
            ASYNC,
            HTTP,
            &["http_body", "http_body_util", "hyper", "hyper_util", "rcgen", "rustls"],
            &["rustls_native_certs", "rustls_pki_types", "socket2", "tokio_rustls"],
            &["std::fs", "std::os::unix", "std::time", "tokio::io", "tokio::net"],
        ],
        pure: false,
    },
    Module {
        name: "observe",
        layer: 2,
        imports: &["base"],
        crates: &[PURE, ASYNC, &["tracing_subscriber"]],
        pure: false,
    },
    Module {
        name: "oauth",
        layer: 2,
        imports: &["base"],
        crates: &[PURE, JWT],
        pure: true,
    },
    Module {
        name: "token",
        layer: 2,
        imports: &["base"],
        crates: &[PURE],
        pure: true,
    },
    Module {
        name: "store",
        layer: 3,
        imports: &["base", "net"],
        crates: &[
            PURE,
            ASYNC,
            HTTP,
            &["dashmap", "percent_encoding", "redis", "rusqlite"],
            &["std::fs", "std::os::unix", "std::thread"],
        ],
        pure: false,
    },
    Module {
        name: "flow",
        layer: 3,
        imports: &["base", "oauth", "token"],
        crates: &[PURE],
        pure: true,
    },
    Module {
        name: "upstream",
        layer: 3,
        imports: &["base", "net", "oauth", "observe"],
        crates: &[PURE, ASYNC, HTTP, &["governor", "percent_encoding", "quick_cache"]],
        pure: false,
    },
    Module {
        name: "service",
        layer: 4,
        imports: &["base", "oauth", "token", "upstream"],
        crates: &[PURE, HTTP],
        pure: false,
    },
    Module {
        name: "config",
        layer: 5,
        imports: &["base", "oauth", "token", "store::<Type>Config", "upstream", "service"],
        // `--host` may be a name: `ToSocketAddrs`. The module reads no file.
        crates: &[
            PURE,
            HTTP,
            &["clap", "strsim", "toml_edit", "std::cell::Cell", "std::path", "std::sync::Arc"],
            &["std::net::SocketAddr", "std::net::ToSocketAddrs", "std::time::Duration"],
        ],
        pure: false,
    },
    Module {
        name: APP,
        layer: 5,
        imports: &[
            "base",
            "net::body",
            "net::client",
            "net::http_client",
            "oauth",
            "token",
            "store",
            "flow",
            "upstream",
            "service",
            "observe",
        ],
        crates: &[
            PURE,
            ASYNC,
            HTTP,
            &["argon2", "dashmap", "governor", "quick_cache"],
            &["std::thread::available_parallelism"],
        ],
        pure: false,
    },
    Module {
        name: "web",
        layer: 7,
        imports: &["base", "net::body", "oauth", "flow::<Type>", "service::public_urls", APP, "observe"],
        crates: &[PURE, ASYNC, HTTP, &["askama", "cookie", "matchit", "percent_encoding"]],
        pure: false,
    },
    Module {
        name: "cli",
        layer: 9,
        imports: &[
            "base", "net", "oauth", "token", "observe", "store", "flow", "upstream", "service", "config", APP, "web",
        ],
        crates: &[
            PURE,
            ASYNC,
            HTTP,
            &["clap", "rustls", "std::env", "std::fs", "std::os::unix", "std::process"],
            &["std::thread", "std::time", "tokio::fs", "tokio::io", "tokio::net", "tokio::signal"],
        ],
        pure: false,
    },
];

/// The order inside [`APP`]: a component imports only from earlier steps. What is not listed is in
/// step 0; `mod` is the module's own `mod.rs`.
pub const STEPS: [&[&str]; 10] = [
    &[],
    &["signing_keys", "revocations"],
    &["clients", "discovery"],
    &["tokens"],
    &["grants"],
    &["api_keys", "approvals", "stored", "introspect", "servers"],
    &["token_endpoint", "authorize", "proxy"],
    &["tools"],
    &["mod"],
    &["background"],
];

/// What a pure module may not import although it may import the module above it.
pub const NOT_PURE: &[&str] = &[
    "base::random",
    "base::time::Clock",
    "base::time::Stopwatch",
    "std::collections::hash_map::RandomState",
];

/// Exceptions to [`NOT_PURE`]: values that were drawn before.
pub const DRAWN: &[&str] = &["base::random::Fresh", "base::random::SaltAndNonce"];

/// Inside `base`, only this file may name the path.
pub const ONE_FILE: &[(&str, &str)] = &[("std::time", "src/base/time.rs"), ("ring::rand", "src/base/random.rs")];

/// Global state. The JWT crate has one provider per process.
pub const GLOBAL: &[(&str, &str)] = &[("src/base/jws.rs", "IS_OURS")];

/// The row of a module.
pub fn module(name: &str) -> Option<&'static Module> {
    MODULES.iter().find(|module| module.name == name)
}

/// Whether a path is the one of the pattern, or below it.
pub fn is_below(path: &[String], pattern: &str) -> bool {
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
pub fn is_type(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase()) && name.contains(|c: char| c.is_ascii_lowercase())
}

/// The step of a component of [`APP`].
pub fn step(component: &str) -> usize {
    STEPS.iter().position(|step| step.contains(&component)).unwrap_or(0)
}

/// The name of a component's type: `TokenEndpoint` for `token_endpoint`.
pub fn type_name(component: &str) -> String {
    let capitalised = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
    component.split('_').filter(|word| !word.is_empty()).map(capitalised).collect()
}
