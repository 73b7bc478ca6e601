//! What the demo prints for a person: how to connect a client.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::cli::greeting::client_snippets;

use crate::USER;

/// The address, the credentials and a configuration for each known client.
pub fn text(base: &str, password: &Secret) -> String {
    let (bold, dim, off) = if std::io::stdout().is_terminal() {
        ("\x1b[1m", "\x1b[2m", "\x1b[0m")
    } else {
        ("", "", "")
    };
    let url = format!("{base}/mcp");
    let mut out = format!(
        "
  {bold}MCP OAuth Gateway{off}, in front of an upstream that behaves like GitHub. No account anywhere.

    URL        {bold}{url}{off}
    User       {bold}{USER}{off}
    Password   {bold}{}{off}   {dim}for this run only{off}

  Give the URL to a client. A browser opens: sign in, approve, and press Authorize at the upstream.

",
        password.expose()
    );
    for (client, place, snippet) in client_snippets("demo", &url) {
        let _ = writeln!(out, "    {bold}{client:<16}{off}{dim}{place}{off}\n      {snippet}\n");
    }
    out + "  Tools: echo, add, whoami, slow, stream. Ctrl-C ends it. What the upstream sees:\n"
}
