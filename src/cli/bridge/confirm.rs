//! Asks a person at the terminal.

use std::io::{IsTerminal as _, Write as _};

use crate::cli::bridge::failure::Failure;
use crate::cli::bridge::place::Place;

/// Asks a question that `y` or `yes` confirms. Without a terminal, or with JSON, nobody is asked.
///
/// # Errors
/// `otherwise`, if nobody is asked; else if the answer is no.
pub fn ask(place: &Place, question: &str, otherwise: &str) -> Result<(), Failure> {
    if place.json || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Failure::Act(otherwise.to_owned()));
    }
    let mut stderr = std::io::stderr();
    // A terminal that takes no question gives no answer either.
    let _ = write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush());
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    if read.is_ok() && ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()) {
        Ok(())
    } else {
        Err(Failure::Act("nothing was changed".to_owned()))
    }
}
