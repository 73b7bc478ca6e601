//! Logs to standard error: text on a terminal, JSON otherwise. Secrets are never logged.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts logging at `level`, one of `error` to `trace`. Other crates log warnings and errors.
pub fn init(level: &str) {
    let gateway_level = level.parse().unwrap_or(LevelFilter::INFO);
    let levels = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("mcp_oauth_gateway", gateway_level);
    let (registry, stderr_layer) = (
        tracing_subscriber::registry().with(levels),
        fmt::layer().with_writer(std::io::stderr).with_target(false),
    );
    // A second subscriber in the same process (in tests) changes nothing.
    let _ = if std::io::stderr().is_terminal() {
        registry.with(stderr_layer).try_init()
    } else {
        registry.with(stderr_layer.json().flatten_event(true)).try_init()
    };
}
