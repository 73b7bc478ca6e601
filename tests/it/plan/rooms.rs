//! The plan as data. Where the code has a better way, change a line here and say why in ARCHITECTURE.md.

/// One room: a directory of `src`.
pub struct Room {
    /// Its name.
    pub name: &'static str,
    /// The rooms it may name, or the parts of them.
    pub may_use: &'static [&'static str],
    /// What it may name from outside, std and crates alike: a path, and everything below it.
    pub outside: &'static [&'static [&'static str]],
    /// It decides: it never waits, never asks the time, never rolls a die.
    pub pure: bool,
}

/// What a room that decides may name from outside.
const PURE: &[&str] = &[
    "serde",
    "serde_json",
    "base64",
    "url",
    "zeroize",
    "subtle",
    "ring::aead",
    "ring::digest",
    "ring::hkdf",
    "ring::hmac",
    "ring::signature",
    "std::fmt",
    "std::collections",
    "std::borrow",
    "std::cmp",
    "std::str",
    "std::ops",
    "std::convert",
    "std::iter",
    "std::num",
    "std::error",
    "std::net::IpAddr",
    "std::net::Ipv4Addr",
    "std::net::Ipv6Addr",
];

/// JWTs as words. What verifies, signs, decodes unverified or asks the time is in `base::jws` or nowhere.
const JWT: &[&str] = &[
    "jsonwebtoken::Algorithm",
    "jsonwebtoken::DecodingKey",
    "jsonwebtoken::decode_header",
    "jsonwebtoken::errors",
    "jsonwebtoken::jwk",
];

/// What every room that waits may name besides.
const WAITING: &[&str] = &[
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
    "arc_swap",
    "bytes",
    "futures_util",
    "tokio::pin",
    "tokio::runtime",
    "tokio::select",
    "tokio::spawn",
    "tokio::sync",
    "tokio::task",
    "tokio::time",
    "tracing",
];

/// HTTP as words, without a socket.
const HTTP: &[&str] = &["http", "hyper::body"];

/// All rooms, from the ground up: a room may name only rooms above it in this list.
pub const ROOMS: [Room; 13] = [
    Room {
        name: "base",
        may_use: &[],
        outside: &[
            PURE,
            &[
                "jsonwebtoken",
                "ring::rand",
                "std::sync::Arc",
                "std::sync::LazyLock",
                "std::sync::atomic",
                "std::time",
            ],
        ],
        pure: false,
    },
    Room {
        name: "net",
        may_use: &["base"],
        outside: &[
            PURE,
            WAITING,
            HTTP,
            &[
                "http_body",
                "http_body_util",
                "hyper",
                "hyper_util",
                "rcgen",
                "rustls",
                "rustls_native_certs",
                "rustls_pki_types",
                "socket2",
                "std::fs",
                "std::os::unix",
                "std::time",
                "tokio::io",
                "tokio::net",
                "tokio_rustls",
            ],
        ],
        pure: false,
    },
    Room {
        name: "oauth",
        may_use: &["base"],
        outside: &[PURE, JWT],
        pure: true,
    },
    Room {
        name: "token",
        may_use: &["base"],
        outside: &[PURE],
        pure: true,
    },
    Room {
        name: "observe",
        may_use: &["base"],
        outside: &[PURE, WAITING, &["tracing_subscriber"]],
        pure: false,
    },
    Room {
        name: "store",
        may_use: &["base", "net"],
        outside: &[
            PURE,
            WAITING,
            HTTP,
            &[
                "dashmap",
                "percent_encoding",
                "redis",
                "rusqlite",
                "std::fs",
                "std::os::unix",
                "std::thread",
            ],
        ],
        pure: false,
    },
    Room {
        name: "flow",
        may_use: &["base", "oauth", "token"],
        outside: &[PURE],
        pure: true,
    },
    Room {
        name: "upstream",
        may_use: &["base", "net", "oauth", "observe"],
        // The last two bound what strangers can make it fetch and keep.
        outside: &[PURE, WAITING, HTTP, &["percent_encoding", "governor", "quick_cache"]],
        pure: false,
    },
    Room {
        name: "service",
        may_use: &["base", "oauth", "token", "upstream"],
        outside: &[PURE, HTTP],
        pure: false,
    },
    Room {
        name: "app",
        may_use: &[
            "base",
            "net::body",
            "net::http_client",
            "net::dial",
            "net::stop",
            "oauth",
            "token",
            "flow",
            "store",
            "upstream",
            "service",
            "observe",
        ],
        outside: &[
            PURE,
            WAITING,
            HTTP,
            &["argon2", "dashmap", "governor", "quick_cache", "std::thread::available_parallelism"],
        ],
        pure: false,
    },
    Room {
        name: "config",
        may_use: &["base", "net", "oauth", "token", "store", "upstream", "service", "observe", "app"],
        // It asks the machine one thing: `--host` may be a name. No file is read here, and nothing waits. The table of keys
        // is laid out by hand, a line for each.
        outside: &[
            PURE,
            HTTP,
            &[
                "clap",
                "rustfmt::skip",
                "strsim",
                "toml_edit",
                "std::cell::Cell",
                "std::net::SocketAddr",
                "std::net::ToSocketAddrs",
                "std::path",
                "std::sync::Arc",
                "std::time::Duration",
            ],
        ],
        pure: false,
    },
    Room {
        name: "web",
        // Of `flow` three words, no move: the page shows what was asked and of whom, and only a return address makes a `Location`.
        may_use: &[
            "base",
            "net",
            "oauth",
            "flow::authorize::AuthorizationRequest",
            "flow::client::ReturnAddress",
            "flow::user::User",
            "app",
            "observe",
        ],
        outside: &[PURE, WAITING, HTTP, &["askama", "cookie", "matchit", "percent_encoding"]],
        pure: false,
    },
    Room {
        name: "cli",
        may_use: &[
            "base", "net", "oauth", "token", "observe", "store", "flow", "upstream", "service", "app", "config", "web",
        ],
        outside: &[
            PURE,
            WAITING,
            HTTP,
            &[
                "clap",
                "rustls",
                "std::env",
                "std::fs",
                "std::os::unix",
                "std::process",
                "std::thread",
                "std::time",
                "tokio::fs",
                "tokio::io",
                "tokio::net",
                "tokio::signal",
            ],
        ],
        pure: false,
    },
];

/// Parts of a room below that a pure room may not name although it may name the room.
pub const NOT_PURE: &[&str] = &[
    "base::random",
    "base::time::Clock",
    "base::time::Stopwatch",
    "std::collections::hash_map::RandomState",
];
/// What was drawn already is a fact like any other.
pub const DRAWN: &str = "base::random::SaltAndNonce";

/// What only these files of `base` may name: else the house would have a second clock, or a second die.
pub const ONE_PLACE: &[(&str, &str)] = &[("std::time", "src/base/time.rs"), ("ring::rand", "src/base/random.rs")];

/// What changes and belongs to no owner: the JWT crate has one provider for each process, and whether it is ours is asked
/// where tokens are verified.
pub const GLOBAL: &[(&str, &str)] = &[("src/base/jws.rs", "PROVIDER_INSTALLED")];

/// The most lines of a file, without its tests.
pub const FILE_LINES: usize = 400;
/// The most lines of a function.
pub const FN_LINES: usize = 80;
/// The most parameters of a function, `self` among them.
pub const PARAMETERS: usize = 7;

/// Files that are longer, and how long at most. To be made shorter, never longer.
pub const LONGER: &[(&str, usize)] = &[];
