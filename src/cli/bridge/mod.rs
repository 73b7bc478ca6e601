//! The commands that set up the gateway on one's own machine.

pub mod failure;
pub mod init;
pub mod list;
pub mod place;

use std::process::ExitCode;

use serde_json::json;

use crate::cli::bridge::failure::Failure;
use crate::cli::bridge::place::Place;
use crate::cli::grants::print_json;
use crate::cli::terminal::print_stderr;
use crate::config::bridge_flags::{Bridge, PlaceFlags};

/// Runs a command. Prints its failure, with `--json` also as JSON.
pub fn run(command: &Bridge) -> ExitCode {
    let flags = place_flags(command);
    let result = Place::of(flags).and_then(|place| dispatch(command, &place));
    let Err(failure) = result else { return ExitCode::SUCCESS };
    if flags.json {
        let _ = print_json(&json!({ "error": failure.text(), "exit": failure.code() }));
    }
    print_stderr(format_args!("mcp-oauth-gateway: {}", failure.text()));
    ExitCode::from(&failure)
}

fn dispatch(command: &Bridge, place: &Place) -> Result<(), Failure> {
    match command {
        Bridge::Init { username, .. } => init::run(username.as_deref(), place),
        Bridge::List { .. } => list::run(place),
    }
}

fn place_flags(command: &Bridge) -> &PlaceFlags {
    match command {
        Bridge::Init { place, .. } | Bridge::List { place } => place,
    }
}
