//! Runs the gateway in front of an upstream that behaves like GitHub. Everything is in one process; no account is needed.
//!
//! `make demo` is for a person. `make demo-check` passes `--self-check`: a scripted browser signs in and calls a tool.

use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use clap::builder::Resettable;
use clap::{CommandFactory as _, FromArgMatches as _, Parser};
use mcp_gateway_standin::{CLIENT_ID, CLIENT_SECRET, Profile, Standin};
use mcp_oauth_gateway::base::random;
use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::cli::{data_dir, serve};
use mcp_oauth_gateway::config::flags::{Command, Serve};
use mcp_oauth_gateway::net::{listen, tls};
use mcp_oauth_gateway::observe::log;

mod instructions;
mod self_check;
mod upstream_log;

const USER: &str = "demo";
/// The port to listen on, if it is free.
const PORT: u16 = 8002;

/// The gateway with an upstream of its own, to try
#[derive(Parser)]
struct Demo {
    /// The port to listen on; 8002, or a free one if that is taken
    #[arg(long)]
    port: Option<u16>,
    /// Sign in with a scripted browser, call a tool, say how long each step took, and end
    #[arg(long)]
    self_check: bool,
}

fn main() -> ExitCode {
    tls::install_provider();
    log::init("warn");
    match run(&Demo::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(demo: &Demo) -> Result<(), String> {
    let upstream = Standin::start(Profile::GitHub);
    upstream.set(|behaviour| behaviour.authorize_page = true);
    // The directory is removed when it is dropped, after the gateway has stopped.
    let dir = tempfile::Builder::new()
        .prefix("mcp-oauth-gateway-demo-")
        .tempdir()
        .map_err(|error| error.to_string())?;
    let port = demo.port.map_or_else(free_port, Ok)?;
    let flags = flags(port, &upstream, dir.path())?;
    let base = format!("http://localhost:{port}");
    let password_variable = std::env::var("MCP_GATEWAY_PASSWORD")
        .ok()
        .filter(|text| !text.is_empty())
        .map(Secret::from);
    if demo.self_check {
        let password = password_variable.map_or_else(|| store_password(dir.path()), Ok)?;
        return check(&flags, &base, &password, &upstream);
    }
    let shown_password = match password_variable {
        Some(_) => Secret::from("the one in MCP_GATEWAY_PASSWORD"),
        None => store_password(dir.path())?,
    };
    serve::run_until(&flags, async {
        print_line(&instructions::text(&base, &shown_password));
        upstream_log::print_until_stopped(&upstream).await;
        print_line("\n  The demo stops and removes its files.");
    })
}

/// Runs the gateway for one scripted sign-in and tool call.
fn check(flags: &Serve, base: &str, password: &Secret, upstream: &Standin) -> Result<(), String> {
    print_line(&format!("demo: one whole sign-in at {base}"));
    let (start, mut result) = (now(), Ok(()));
    serve::run_until(flags, async { result = self_check::run(base, password, upstream).await })?;
    result?;
    print_line(&format!("demo: passed in {} ms", start.elapsed().as_millis()));
    Ok(())
}

/// The flags of `serve`. Environment variables are ignored, so that the demo is the same on every machine.
fn flags(port: u16, upstream: &Standin, dir: &Path) -> Result<Serve, String> {
    let (port, mcp, dir) = (port.to_string(), upstream.mcp_url(), dir.display().to_string());
    let options = [
        ["--upstream-rs", &mcp],
        ["--upstream-client-id", CLIENT_ID],
        ["--upstream-client-secret", CLIENT_SECRET],
        ["--username", USER],
        ["--port", &port],
        ["--data-dir", &dir],
    ];
    let args = std::iter::once("demo").chain(options.into_iter().flatten());
    Command::command()
        .mut_args(|arg| arg.env(Resettable::Reset))
        .try_get_matches_from(args)
        .and_then(|matches| Command::from_arg_matches(&matches))
        .map(|command| command.serve)
        .map_err(|error| error.to_string())
}

/// Port 8002, or a free one chosen by the system, on IPv4 and, where the machine has it, on IPv6.
fn free_port() -> Result<u16, String> {
    let is_free = |port| {
        let ipv6 = listen::bind((Ipv6Addr::LOCALHOST, port).into(), false);
        listen::bind((Ipv4Addr::LOCALHOST, port).into(), false).is_ok()
            && ipv6.map_or_else(|error| listen::is_missing_address(&error), |_| true)
    };
    let any_port = || Some(listen::bind((Ipv4Addr::LOCALHOST, 0).into(), false).ok()?.local_addr().ok()?.port());
    std::iter::once(PORT)
        .chain(std::iter::repeat_with(any_port).take(20).flatten())
        .find(|port| is_free(*port))
        .ok_or_else(|| "no port is free".to_owned())
}

/// Creates a password that is easy to type, and stores its hash in `dir`.
fn store_password(dir: &Path) -> Result<Secret, String> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut password = String::new();
    for (i, byte) in random::bytes::<12>().into_iter().enumerate() {
        if i % 4 == 0 && i > 0 {
            password.push('-');
        }
        password.push(char::from(LETTERS[usize::from(byte % 32)]));
    }
    let password = Secret::from(password);
    data_dir::store_password(dir, &password)?;
    Ok(password)
}

#[expect(clippy::disallowed_methods, reason = "the demo shows how long each step takes")]
fn now() -> Instant {
    Instant::now()
}

/// Prints a line. A closed standard output is not an error.
fn print_line(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
