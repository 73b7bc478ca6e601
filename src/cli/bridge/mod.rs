//! The commands that set up the gateway on one's own machine.

pub mod add;
pub mod browser;
pub mod browser_wait;
pub mod callback;
pub mod confirm;
pub mod env;
pub mod failure;
pub mod init;
pub mod list;
pub mod local;
pub mod login;
pub mod outcome;
pub mod pasted;
pub mod place;
pub mod rejection;
pub mod revoke;
pub mod sign_in;
pub mod status;

use std::process::ExitCode;

use serde_json::json;

use crate::cli::bridge::failure::Failure;
use crate::cli::bridge::place::Place;
use crate::cli::grants::print_json;
use crate::cli::terminal::print_stderr;
use crate::config::bridge_flags::{Bridge, LocalKey, PlaceFlags};

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
        Bridge::Add(flags) => add::run(flags, place),
        Bridge::Login { name, login, key, .. } => login::login(name, login, *key, place),
        Bridge::Logout { name, .. } => login::logout(name, place),
        Bridge::List { .. } => list::run(place),
        Bridge::Status { .. } => status::run(place),
        Bridge::Remove { name, yes, .. } => login::remove(name, *yes, place),
        Bridge::Refresh { name, login, .. } => login::refresh(name, login, place),
        Bridge::Env { .. } => env::env(place),
        Bridge::LocalKey {
            action: LocalKey::Rotate { .. },
        } => env::rotate(place),
    }
}

fn place_flags(command: &Bridge) -> &PlaceFlags {
    match command {
        Bridge::Add(flags) => &flags.place,
        Bridge::Init { place, .. }
        | Bridge::Login { place, .. }
        | Bridge::Logout { place, .. }
        | Bridge::List { place }
        | Bridge::Status { place }
        | Bridge::Remove { place, .. }
        | Bridge::Refresh { place, .. }
        | Bridge::Env { place }
        | Bridge::LocalKey {
            action: LocalKey::Rotate { place },
        } => place,
    }
}
