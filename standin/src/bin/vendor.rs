//! Runs the stand-in for the model vendors beside an MCP server without sign-in, until the process is ended. The
//! first line of the output has both addresses.

use mcp_gateway_standin::{Profile, Standin, Vendor};

fn main() {
    let (vendor, server) = (Vendor::start(), Standin::start(Profile::Standard));
    server.set(|b| b.mcp_open = true);
    println!("ready {} {}", vendor.origin(), server.mcp_url());
    loop {
        std::thread::park();
    }
}
