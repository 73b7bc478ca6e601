//! Logs to standard error: text on a terminal, JSON otherwise. Secrets are never logged.
//!
//! A thread writes the lines, so that a reader who stalls stops no request.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::observe::log_queue::{self, LogFormat, LogGuard};
use crate::observe::refusal_limit::RefusalLimit;

/// Starts logging at `level`, one of `error` to `trace`. Other crates log warnings and errors. Dropping
/// the result writes what waits.
pub fn init(level: &str) -> LogGuard {
    let gateway_level = level.parse().unwrap_or(LevelFilter::INFO);
    let levels = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("mcp_oauth_gateway", gateway_level);
    let is_terminal = std::io::stderr().is_terminal();
    let format = if is_terminal { LogFormat::Text } else { LogFormat::Json };
    let (queue, guard) = log_queue::start(std::io::stderr(), format);
    let limit = RefusalLimit::new(queue.suppressed());
    let stderr_layer = fmt::layer().with_writer(move || queue.clone()).with_target(false);
    let registry = tracing_subscriber::registry().with(levels);
    // A second subscriber in the same process (in tests) changes nothing.
    let _ = if is_terminal {
        registry.with(stderr_layer.with_filter(limit)).try_init()
    } else {
        let json_layer = stderr_layer.json().flatten_event(true);
        registry.with(json_layer.with_filter(limit)).try_init()
    };
    guard
}
