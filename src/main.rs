//! A call into the command line; everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp_oauth_gateway::cli::main()
}
