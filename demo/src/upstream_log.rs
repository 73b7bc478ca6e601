//! Prints what the upstream sees.

use std::time::Duration;

use mcp_gateway_standin::{Seen, Standin};
use mcp_oauth_gateway::cli::serve;
use serde_json::Value;

use crate::print_line;

/// Prints each request that reaches the upstream, until the process gets a signal to stop.
pub async fn print_until_stopped(upstream: &Standin) {
    let stop_signal = serve::shutdown_signal();
    tokio::pin!(stop_signal);
    let mut printed = 0;
    loop {
        tokio::select! {
            () = &mut stop_signal => return,
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
        let issued = upstream.issued_access();
        for request in upstream.log().into_iter().skip(printed).take_while(|request| request.status != 0) {
            printed += 1;
            print_line(&line(&request, &issued));
        }
    }
}

/// One request: status, method, path, what is called, and whether the upstream issued the token.
fn line(request: &Seen, issued: &[String]) -> String {
    let message: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let [method, tool] = [&message["method"], &message["params"]["name"]].map(|name| name.as_str().unwrap_or(""));
    let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let token_origin = match token {
        Some(token) if issued.iter().any(|known| known == token) => "a token it issued",
        Some(_) => "a token it did not issue",
        None => "",
    };
    let call = format!("{:<7}{} {method} {tool}", request.method, request.path);
    let line = format!("    {}  {:<60}{token_origin}", request.status, call.trim_end());
    line.trim_end().to_owned()
}
