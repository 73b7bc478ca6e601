//! Logs: to standard error, readable on a terminal, JSON otherwise. Never a secret.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Begins to log at `level` (`error`, `warn`, `info`, `debug` or `trace`); other crates only warn.
pub fn begin(level: &str) {
    let filter = EnvFilter::new(format!("warn,mcp_oauth_gateway={level}"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    // A second subscriber in the same process (tests) changes nothing.
    let _ = if std::io::stderr().is_terminal() {
        logs.try_init()
    } else {
        logs.json().flatten_event(true).try_init()
    };
}
