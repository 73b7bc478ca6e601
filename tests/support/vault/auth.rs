//! Access control of the fake Vault: AppRole and policies.

use mcp_oauth_gateway::base::time::Stopwatch;
use serde_json::{Value, json};

use super::{Asked, ROLE, State, Token, no};

impl State {
    pub(super) fn login(&mut self, body: &Value) -> (u16, Value) {
        if body["role_id"] != ROLE.0 || body["secret_id"] != ROLE.1 {
            return no(400, "invalid role or secret ID");
        }
        self.logins += 1;
        let token = format!("hvs.of-login-{}", self.logins);
        let (ttl, left) = self.ttl;
        let made = Token {
            since: Stopwatch::start(),
            ttl,
            left,
            is_root: false,
        };
        self.tokens.insert(token.clone(), made);
        (
            200,
            json!({ "auth": { "client_token": token, "lease_duration": ttl.as_secs(), "renewable": true } }),
        )
    }

    /// Whether the policy allows this request, by an exact path or by a prefix.
    pub(super) fn allows(&self, asked: &Asked) -> bool {
        let Some(policy) = &self.policy else { return true };
        let name = asked.path.splitn(3, '/').nth(2).unwrap_or("").to_owned();
        let needs = match asked.method.as_str() {
            "GET" => "read",
            "LIST" => "list",
            "DELETE" => "delete",
            _ if self.keys.contains_key(&(asked.namespace.clone(), name)) => "update",
            _ => "create",
        };
        policy.lines().filter(|line| line.contains(&format!("\"{needs}\""))).any(|line| {
            let path = line.split('"').nth(1).unwrap();
            path.strip_suffix('*')
                .map_or(asked.path == path, |front| asked.path.starts_with(front))
        })
    }
}
