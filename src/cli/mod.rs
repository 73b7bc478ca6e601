//! The command line: reads flags and files, and starts and stops everything.

mod access_keys;
pub mod api_keys;
mod approvals;
mod arguments;
mod audit;
pub mod banner;
pub mod bridge;
pub mod check;
mod check_local;
pub mod config_file;
pub mod data_dir;
mod decider;
pub mod doctor;
pub mod grants;
pub mod greeting;
mod healthcheck;
pub mod key_file;
mod keyring;
pub mod load_config;
pub mod local_keys;
pub mod password_users;
mod pins;
mod policy;
mod registered_servers;
pub mod reload;
pub mod reload_request;
mod running_audit;
pub mod serve;
mod servers;
pub mod storage;
pub mod store;
pub mod table;
mod terminal;
pub mod users;

use std::process::ExitCode;

use crate::cli::bridge::command_context;
use crate::cli::storage::Storage;
use crate::cli::terminal::{print_stderr, print_stdout};
use crate::config::approval_flags::ApprovalCommand;
use crate::config::flags::{Serve, Subcommand};
use crate::config::storage_flags::StorageFlags;
use crate::flow;
use crate::net::tls;

/// Runs the command line.
pub fn main() -> ExitCode {
    // First, so that no library installs another TLS provider.
    tls::install_provider();
    let command = arguments::parse();
    let read = |flags: StorageFlags| Storage::read(&command_context::add_default_file(flags));
    let result = match command.other {
        None => serve::run(&command_context::add_default_file_to_serve(command.serve)),
        Some(Subcommand::Start { serve }) => start(*serve),
        Some(Subcommand::Bridge(command)) => return bridge::run(&command),
        Some(Subcommand::Check { serve, offline }) => check::run(&command_context::add_default_file_to_serve(*serve), offline),
        Some(Subcommand::Doctor(flags)) => return doctor::run(&flags),
        Some(Subcommand::Flow) => print_stdout(&flow::mermaid()),
        Some(Subcommand::Keyring { action, storage: flags }) => read(flags).and_then(|storage| keyring::run(action, &storage)),
        Some(Subcommand::ApiKeys { action, storage: flags }) => read(flags).and_then(|storage| api_keys::run(action, &storage)),
        Some(Subcommand::Servers { action, storage: flags }) => read(flags).and_then(|storage| servers::run(action, &storage)),
        Some(Subcommand::AdminKeys { action, storage: flags }) => read(flags).and_then(|storage| servers::run_admin_keys(action, &storage)),
        Some(Subcommand::Grants { action, storage: flags }) => read(flags).and_then(|storage| grants::run(&action, &storage)),
        Some(Subcommand::Approvals(command)) => match command {
            ApprovalCommand::Approvals { action, storage: flags } => read(flags).and_then(|storage| approvals::run(&action, &storage)),
            ApprovalCommand::Pins { action, storage: flags } => read(flags).and_then(|storage| pins::run(&action, &storage)),
            ApprovalCommand::Policy { action, storage: flags } => policy::run(&action, flags),
        },
        Some(Subcommand::Users { action, storage: flags }) => read(flags).and_then(|storage| users::run(action, &storage)),
        Some(Subcommand::Audit { action }) => audit::run(&action),
        Some(Subcommand::Store { action, storage: flags }) => read(flags).and_then(|storage| store::run(&action, &storage)),
        Some(Subcommand::Healthcheck { config, port }) => healthcheck::run(config.as_deref(), port),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_stderr(format_args!("mcp-oauth-gateway: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// `start`: serves with the configuration file of `init`, unless flags name another one.
fn start(flags: Serve) -> Result<(), String> {
    let flags = command_context::add_default_file_to_serve(flags);
    if flags.storage.config.is_none() && flags.upstream_rs.is_none() {
        return Err("there is no configuration file yet\n  run: mcp-oauth-gateway init".to_owned());
    }
    serve::run(&flags)
}
