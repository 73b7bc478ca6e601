//! Asks a person at the terminal.

use std::io::{IsTerminal as _, Write as _};

use crate::cli::bridge::command_context::CommandContext;
use crate::cli::bridge::failure::Failure;

/// Asks a question that `y` or `yes` confirms. Without a terminal, or with JSON, it asks nothing.
///
/// # Errors
/// With the text `otherwise`, if it cannot ask. If the answer is no.
pub fn ask(context: &CommandContext, question: &str, otherwise: &str) -> Result<(), Failure> {
    if context.json || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Failure::Act(otherwise.to_owned()));
    }
    let mut stderr = std::io::stderr();
    // If the question cannot be written, the answer is empty, which is a no.
    let _ = write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush());
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    if read.is_ok() && ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()) {
        Ok(())
    } else {
        Err(Failure::Act("nothing was changed".to_owned()))
    }
}
