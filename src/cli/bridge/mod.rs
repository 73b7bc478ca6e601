//! The commands of the local bridge: a gateway on the user's own machine.

pub mod add;
pub mod browser;
pub mod browser_wait;
pub mod callback;
pub mod command_context;
pub mod confirm;
pub mod env;
pub mod failure;
pub mod init;
pub mod list;
pub mod local_gateway;
pub mod login;
pub mod outcome;
pub mod pasted_response;
pub mod rejection;
pub mod revoke;
pub mod sign_in;
pub mod status;

use std::process::ExitCode;

use serde_json::json;

use crate::cli::bridge::command_context::CommandContext;
use crate::cli::bridge::failure::Failure;
use crate::cli::grants::print_json;
use crate::cli::terminal::print_stderr;
use crate::config::bridge_flags::{Bridge, CommonFlags, LocalKey};

/// Runs a command. Prints its failure, with `--json` also as JSON.
pub fn run(command: &Bridge) -> ExitCode {
    let flags = common_flags(command);
    let result = CommandContext::from_flags(flags).and_then(|context| dispatch(command, &context));
    let Err(failure) = result else { return ExitCode::SUCCESS };
    if flags.json {
        let _ = print_json(&json!({ "error": failure.text(), "exit": failure.code() }));
    }
    print_stderr(format_args!("mcp-oauth-gateway: {}", failure.text()));
    ExitCode::from(&failure)
}

fn dispatch(command: &Bridge, context: &CommandContext) -> Result<(), Failure> {
    match command {
        Bridge::Init { username, .. } => init::run(username.as_deref(), context),
        Bridge::Add(flags) => add::run(flags, context),
        Bridge::Login { name, login, key, .. } => login::login(name, login, *key, context),
        Bridge::Logout { name, .. } => login::logout(name, context),
        Bridge::List { .. } => list::run(context),
        Bridge::Status { .. } => status::run(context),
        Bridge::Remove { name, yes, .. } => login::remove(name, *yes, context),
        Bridge::Refresh { name, login, .. } => login::refresh(name, login, context),
        Bridge::Env { .. } => env::env(context),
        Bridge::LocalKey {
            action: LocalKey::Rotate { .. },
        } => env::rotate(context),
    }
}

fn common_flags(command: &Bridge) -> &CommonFlags {
    match command {
        Bridge::Add(flags) => &flags.common,
        Bridge::Init { common, .. }
        | Bridge::Login { common, .. }
        | Bridge::Logout { common, .. }
        | Bridge::List { common }
        | Bridge::Status { common }
        | Bridge::Remove { common, .. }
        | Bridge::Refresh { common, .. }
        | Bridge::Env { common }
        | Bridge::LocalKey {
            action: LocalKey::Rotate { common },
        } => common,
    }
}
