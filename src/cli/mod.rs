//! FLOOR 7. The command line: reads flags and files, starts and stops everything.

pub mod api_keys;
pub mod check;
pub mod data;
pub mod moving;
pub mod reload;
pub mod serve;
pub mod source;
pub mod told;

use std::process::ExitCode;

use clap::Parser as _;

use crate::base::keyring::{self, KeyRing};
use crate::base::time::Clock;
use crate::cli::source::Kept;
use crate::config::flags::{Command, Keyring, Other};
use crate::flow;
use crate::net::probe;
use crate::net::tls;

/// Runs the command line.
pub fn main() -> ExitCode {
    // Before anything else, so that no library chooses another.
    tls::install_provider();
    let command = Command::parse();
    let done = match command.other {
        None => serve::run(&command.serve),
        Some(Other::Check { serve, offline }) => check::run(&serve, offline),
        Some(Other::Flow) => said(&flow::mermaid()),
        Some(Other::Keyring { action, config, data_dir }) => {
            source::kept(config.as_deref(), data_dir, None).and_then(|at| keys(action, &at))
        }
        Some(Other::ApiKeys {
            action,
            config,
            data_dir,
            store,
        }) => source::kept(config.as_deref(), data_dir, store).and_then(|at| api_keys::run(action, &at)),
        Some(Other::Store { action }) => moving::run(&action),
        Some(Other::Healthcheck { port }) => healthy(port),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("mcp-oauth-gateway: {why}");
            ExitCode::FAILURE
        }
    }
}

fn keys(action: Keyring, at: &Kept) -> Result<(), String> {
    let path = &at.key_file;
    let text = data::read_secret(path)?;
    let bad = |why: keyring::BadKeys| format!("{}: {why}", path.display());
    match action {
        Keyring::List => {
            let now = Clock::System.now();
            for (name, made, seals_from) in KeyRing::parse(text.expose()).map_err(bad)?.list() {
                let state = if seals_from <= now {
                    "opens and may seal".to_owned()
                } else {
                    format!("opens; seals in {} s", seals_from.since(now))
                };
                said(&format!("{name}  made {}  {state}\n", made.day()))?;
            }
        }
        Keyring::Rotate => {
            let next = keyring::rotated(text.expose(), Clock::System.now()).map_err(bad)?;
            data::write_secret(path, &next)?;
            println!(
                "a new key was added to {}; it seals in {} s, and nobody is signed out",
                path.display(),
                keyring::ACTIVATE_AFTER
            );
        }
    }
    Ok(())
}

/// Prints; whoever reads it may have gone.
fn said(text: &str) -> Result<(), String> {
    use std::io::Write as _;
    std::io::stdout().write_all(text.as_bytes()).map_err(|why| why.to_string())
}

/// Enough for a container's health check.
fn healthy(port: u16) -> Result<(), String> {
    let line = probe::first_line(port, "/health/ready").map_err(|why| format!("no gateway answers on port {port}: {why}"))?;
    if line.starts_with("HTTP/1.") && line.get(9..12) == Some("200") {
        Ok(())
    } else {
        Err(format!("not ready: {}", if line.is_empty() { "no answer" } else { &line }))
    }
}
