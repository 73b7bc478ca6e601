//! Runs the command line. Everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp_oauth_gateway::cli::main()
}
