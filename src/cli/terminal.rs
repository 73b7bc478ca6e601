//! Prints to standard error and standard output.

use std::fmt;
use std::io::{self, Write as _};

/// Prints to standard error. `eprintln!` panics if the pipe is closed, as in `… 2>&1 | head`.
pub(super) fn print_stderr(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints to standard output. Fails if the reader closed the pipe.
pub(super) fn print_stdout(text: &str) -> Result<(), String> {
    io::stdout().write_all(text.as_bytes()).map_err(|error| error.to_string())
}
