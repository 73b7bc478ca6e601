//! A gateway with a tool policy, a user with a client, and helpers to call and decide.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use mcp_gateway_standin::Profile;
use mcp_oauth_gateway::app::approval_admin::{ApprovalView, Verdict};
use mcp_oauth_gateway::app::core::AppParts;
use mcp_oauth_gateway::base::url::ExactUrl;
use mcp_oauth_gateway::net::body::RequestBody;
use mcp_oauth_gateway::service::tool_policy::{FirstSight, NamedRule, PinRule, ToolPolicy, ToolRule};
use mcp_oauth_gateway::service::{Service, Upstream as UpstreamCredential};
use serde_json::{Value, json};

use crate::support::browser::{Browser, Page, send};
use crate::support::client::McpClient;
use crate::support::world::{USER, World};
use crate::upstream::{Upstream, tool};

/// A policy that asks for everything, and trusts the first list.
pub(crate) fn policy(rules: &[(&str, ToolRule)]) -> ToolPolicy {
    ToolPolicy {
        default: ToolRule::Ask,
        read_only: None,
        pin: PinRule::Ask,
        first_sight: FirstSight::Trust,
        approval_ttl: 1_800,
        approval_hold: 3,
        mixed: ToolRule::Allow,
        client_approvals: false,
        rules: rules
            .iter()
            .map(|(pattern, rule)| NamedRule {
                pattern: (*pattern).to_owned(),
                rule: *rule,
            })
            .collect(),
    }
}

/// See [the module](self).
pub(crate) struct Scene {
    pub world: World,
    pub upstream: Upstream,
    pub client: McpClient,
    /// The access token of the user's client.
    pub access: String,
}

/// How a client speaks MCP.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    /// 2025-11-25, with a progress token.
    Held,
    /// 2026-07-28, with URL elicitation.
    Url,
    /// 2026-07-28, without it.
    NoUrl,
}

impl Scene {
    /// Tools `allowed`, `asked` and `denied`, on two pages.
    pub(crate) async fn new() -> Self {
        let rules = [("allowed", ToolRule::Allow), ("denied*", ToolRule::Deny)];
        Self::with(policy(&rules)).await
    }

    pub(crate) async fn with(policy: ToolPolicy) -> Self {
        Self::made(policy, |_| {}).await
    }

    /// Starts with any part of the gateway changed by the test.
    pub(crate) async fn made(policy: ToolPolicy, change: impl FnOnce(&mut AppParts)) -> Self {
        let pages = vec![
            vec![tool("allowed", "Reads"), tool("asked", "Writes")],
            vec![tool("denied", "Destroys"), tool("denied_too", "Destroys")],
        ];
        let upstream = Upstream::start(pages).await;
        let url = upstream.url.clone();
        let world = World::made(Profile::Standard, |parts| {
            tracker(&mut parts.config.services[0], &url, policy);
            change(parts);
        })
        .await;
        let client = McpClient::register(&world.url).await;
        let access = client.login().await.access;
        Self {
            world,
            upstream,
            client,
            access,
        }
    }

    /// Sends a body as it is.
    pub(crate) async fn post(&self, body: impl Into<Bytes>, headers: &[(&str, &str)]) -> Page {
        self.post_with_query("", body, headers).await
    }

    /// Sends a body as it is, to the URL with this query.
    pub(crate) async fn post_with_query(&self, query: &str, body: impl Into<Bytes>, headers: &[(&str, &str)]) -> Page {
        let mut request = Request::post(format!("{}{query}", self.world.mcp()))
            .header(header::ACCEPT, "application/json, text/event-stream")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.access));
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        send(&Browser::default().client, request.body(RequestBody::Full(body.into())).unwrap()).await
    }

    /// Sends a message, and returns the JSON-RPC response, also from an event stream.
    pub(crate) async fn rpc(&self, message: &Value) -> Value {
        last_message(&self.post(message.to_string(), &[]).await)
    }

    /// Calls a tool.
    pub(crate) async fn call(&self, tool: &str, arguments: Value, era: Era) -> Value {
        self.rpc(&call(1, tool, arguments, era)).await
    }

    /// The approvals that wait.
    pub(crate) async fn pending(&self) -> Vec<ApprovalView> {
        let admin = self.world.app.approvals.admin();
        let all = admin.list().await.unwrap();
        all.into_iter().filter(|view| view.is_undecided(admin.now())).collect()
    }

    /// Waits for the only pending approval.
    pub(crate) async fn only_pending(&self) -> ApprovalView {
        for _ in 0..500 {
            let mut pending = self.pending().await;
            if let Some(view) = pending.pop() {
                assert!(pending.is_empty(), "more than one waits");
                return view;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nothing waits for a decision")
    }

    /// Decides as the user of the grant.
    pub(crate) async fn decide(&self, view: &ApprovalView, verdict: Verdict) {
        self.world.app.approvals.admin().decide(view.id, verdict, USER).await.unwrap();
    }
}

/// The service of all scenes: users sign in with a password, and the upstream takes no credential.
pub(crate) fn tracker(service: &mut Service, url: &str, policy: ToolPolicy) {
    service.mcp = ExactUrl::parse(url).unwrap();
    service.upstream = UpstreamCredential::None;
    service.tools = Some(Box::new(policy));
}

/// A call of a tool.
#[expect(clippy::needless_pass_by_value, reason = "a call is written once, with a literal")]
pub(crate) fn call(id: u64, tool: &str, arguments: Value, era: Era) -> Value {
    let meta = match era {
        Era::Held => json!({"progressToken": "p1"}),
        Era::Url => json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}, "url": {}}},
        }),
        Era::NoUrl => json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}},
        }),
    };
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": arguments, "_meta": meta}})
}

/// The same call with what a client adds when it comes again.
pub(crate) fn again(id: u64, call: &Value, state: &Value, responses: Value) -> Value {
    let mut again = call.clone();
    again["id"] = id.into();
    again["params"]["requestState"] = state.clone();
    if !responses.is_null() {
        again["params"]["inputResponses"] = responses;
    }
    again
}

/// The messages of a response.
pub(crate) fn messages(page: &Page) -> Vec<Value> {
    if !page.header("content-type").starts_with("text/event-stream") {
        return vec![page.json()];
    }
    let data = page.text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The last message of a response.
pub(crate) fn last_message(page: &Page) -> Value {
    messages(page)
        .pop()
        .unwrap_or_else(|| panic!("no message: {} {}", page.status, page.text))
}

/// The text of a tool result.
pub(crate) fn text(message: &Value) -> &str {
    message["result"]["content"][0]["text"]
        .as_str()
        .unwrap_or_else(|| panic!("no text: {message}"))
}
