//! End-to-end tests: a gateway, in this process or its own, in front of a test upstream.
#![expect(clippy::too_many_lines, reason = "a story is read from top to bottom")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::large_futures, reason = "a test waits for one thing at a time")]
#![expect(clippy::format_push_string, reason = "requests are short, and read better so")]

mod access;
mod api_keys;
mod audit;
mod chain;
mod cimd;
mod cli;
mod client_assertions;
mod clients;
mod config;
mod disk;
mod documents;
mod dual_token_regressions;
mod export_import;
mod forwarding;
mod grants;
mod hostile;
mod issuers;
mod jwt;
mod kill;
mod lifecycle;
mod limits;
mod login;
mod login_hostile;
mod messages;
mod origins;
mod overload;
mod profiles;
mod provider_check;
mod proxy;
mod reconfigured;
mod reference;
mod refresh;
mod regressions;
mod remembered;
mod replicas;
mod rollback;
mod scale;
mod service_tokens;
mod services;
mod stateless;
mod storage;
mod streams;
#[expect(dead_code, reason = "each test binary uses a part of it")]
#[path = "../support/mod.rs"]
mod support;
mod unlock;
mod upstreams;
