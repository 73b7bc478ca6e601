//! A gateway with one local service, and a stand-in for the model vendors.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use mcp_gateway_standin::{Profile, Vendor, VendorRequest};
use mcp_oauth_gateway::app::api_keys::ApiKeys;
use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::base::url::ExactUrl;
use mcp_oauth_gateway::net::body::RequestBody;
use mcp_oauth_gateway::net::http_client::{HttpClient, RequestPolicy};
use mcp_oauth_gateway::net::tls::ClientTls;
use mcp_oauth_gateway::service::adapter_urls::AdapterUrls;
use mcp_oauth_gateway::service::tool_policy::{FirstSight, PinRule, ToolPolicy, ToolRule};
use mcp_oauth_gateway::service::{Access, Service, Upstream};
use mcp_oauth_gateway::token::header::ServiceDigest;
use mcp_oauth_gateway::token::local_key::LocalKeyKind;
use serde_json::{Value, json};

use crate::support::world::World;

/// The vendor's key of all tests.
pub(crate) const VENDOR_KEY: &str = "sk-vendor-key-1";

/// See [the module](self).
pub(crate) struct Site {
    pub world: World,
    pub vendor: Vendor,
    pub key: Secret,
    http: HttpClient,
    keys: Option<ApiKeys>,
}

/// A response that was read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {} {}", self.status, self.text))
    }

    /// The JSON of an answer with status 200.
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()
    }

    /// The data of all events. Each event's name is its type.
    pub(crate) fn events(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.text);
        events(&self.text)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// The data of all events of a stream.
pub(crate) fn events(text: &str) -> Vec<Value> {
    let blocks = text.split("\n\n").filter(|block| !block.is_empty() && !block.starts_with(':'));
    let event = |block: &str| {
        let (name, data) = block.split_once('\n').expect("two lines");
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON");
        assert_eq!(name.strip_prefix("event: "), data["type"].as_str(), "{block}");
        data
    };
    blocks.map(event).collect()
}

/// A copy of a service with another name and access rule.
pub(crate) fn service(from: &Service, name: &str, mcp: &str, access: Access) -> Service {
    Service {
        name: name.into(),
        digest: ServiceDigest::of(name),
        is_default: false,
        mcp: ExactUrl::parse(mcp).unwrap(),
        upstream: Upstream::None,
        access,
        ..from.clone()
    }
}

/// A policy that allows every call and does not pin definitions. A call that asks is not held.
pub(crate) fn open_policy() -> ToolPolicy {
    ToolPolicy {
        default: ToolRule::Allow,
        read_only: None,
        pin: PinRule::Off,
        first_sight: FirstSight::Trust,
        approval_ttl: 1_800,
        approval_hold: 0,
        mixed: ToolRule::Allow,
        client_approvals: false,
        rules: Vec::new(),
    }
}

impl Site {
    /// A gateway with the service `tracker`, and `guarded` and `keyed`, which need a token.
    pub(crate) async fn new() -> Self {
        Self::with_policy(None).await
    }

    /// The same, with a tool policy of all services.
    pub(crate) async fn with_policy(policy: Option<ToolPolicy>) -> Self {
        let vendor = Vendor::start();
        let origin = ExactUrl::parse(&vendor.origin()).unwrap();
        let mut keys = None;
        let world = World::made(Profile::Standard, |parts| {
            keys = Some(ApiKeys::new(parts.store.clone(), Arc::clone(&parts.keys), parts.clock.clone()));
            let first = parts.config.services[0].clone();
            let mcp = first.mcp.as_str().to_owned();
            parts.config.services = vec![
                service(&first, "tracker", &mcp, Access::Local),
                service(&first, "guarded", &mcp, Access::OAuth),
                service(&first, "keyed", &mcp, Access::Key),
            ];
            for service in &mut parts.config.services {
                service.tools = policy.clone().map(Box::new);
            }
            parts.config.adapters = AdapterUrls {
                openai: Some(origin.clone()),
                anthropic: Some(origin),
            };
        })
        .await;
        world.standin.set(|b| b.mcp_open = true);
        let key = LocalKeyKind::Adapter.encode(&[7; 32]);
        world.app.set_local_key(LocalKeyKind::Adapter, Some(&key));
        Self {
            world,
            vendor,
            key,
            http: HttpClient::new(ClientTls::load(&[]).unwrap()),
            keys,
        }
    }

    /// The API keys of the gateway's store.
    pub(crate) fn api_keys(&mut self) -> ApiKeys {
        self.keys.take().unwrap()
    }

    /// The URL below an adapter, with the key.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/k/{}{path}", self.world.url, self.key.expose())
    }

    /// The MCP endpoint of a service, as a client names it.
    pub(crate) fn mcp(&self, service: &str) -> String {
        format!("{}/mcp/{service}", self.world.url)
    }

    /// An MCP entry for OpenAI that needs no approval.
    pub(crate) fn entry(&self) -> Value {
        json!({"type": "mcp", "server_label": "tracker", "server_url": self.mcp("tracker"), "require_approval": "never"})
    }

    /// Sends any request, and returns when the head of the response is here.
    pub(crate) async fn send(&self, request: Request<RequestBody>) -> Response<Incoming> {
        let policy = RequestPolicy::for_configured(Duration::from_secs(5), Some(Duration::from_secs(20)));
        self.http.send(request, &policy).await.expect("an answer")
    }

    pub(crate) async fn read(response: Response<Incoming>) -> Answer {
        let (parts, body) = response.into_parts();
        let bytes = tokio::time::timeout(Duration::from_secs(20), body.collect())
            .await
            .expect("in time");
        let text = bytes.map(|bytes| String::from_utf8_lossy(&bytes.to_bytes()).into_owned());
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: text.unwrap_or_else(|error| format!("cut: {error}")),
        }
    }

    fn request(url: &str, body: String, headers: &[(&str, &str)]) -> Request<RequestBody> {
        let mut request = Request::post(url).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(RequestBody::Full(body.into())).unwrap()
    }

    /// Posts to the OpenAI adapter.
    pub(crate) async fn openai(&self, body: &Value) -> Answer {
        self.openai_text(body.to_string()).await
    }

    pub(crate) async fn openai_text(&self, body: String) -> Answer {
        Self::read(self.open_openai(body).await).await
    }

    pub(crate) async fn open_openai(&self, body: String) -> Response<Incoming> {
        let authorization = format!("Bearer {VENDOR_KEY}");
        let headers = [("authorization", authorization.as_str())];
        self.send(Self::request(&self.url("/openai/v1/responses"), body, &headers)).await
    }

    /// Posts to the OpenAI adapter with further headers.
    pub(crate) async fn openai_with(&self, body: &Value, more: &[(&str, &str)]) -> Answer {
        Self::read(self.open_openai_with(body, more).await).await
    }

    pub(crate) async fn open_openai_with(&self, body: &Value, more: &[(&str, &str)]) -> Response<Incoming> {
        let authorization = format!("Bearer {VENDOR_KEY}");
        let headers = [&[("authorization", authorization.as_str())], more].concat();
        let request = Self::request(&self.url("/openai/v1/responses"), body.to_string(), &headers);
        self.send(request).await
    }

    /// Posts JSON to any path.
    pub(crate) async fn post(&self, path: &str, body: String) -> Answer {
        let headers = [("authorization", "Bearer sk-1")];
        Self::read(self.send(Self::request(&self.url(path), body, &headers)).await).await
    }

    /// Posts to the Anthropic adapter.
    pub(crate) async fn anthropic(&self, body: &Value) -> Answer {
        self.anthropic_with(body, "mcp-client-2025-11-20").await
    }

    pub(crate) async fn anthropic_with(&self, body: &Value, beta: &str) -> Answer {
        Self::read(self.open_anthropic(body.to_string(), beta).await).await
    }

    pub(crate) async fn open_anthropic(&self, body: String, beta: &str) -> Response<Incoming> {
        let headers = [
            ("x-api-key", VENDOR_KEY),
            ("anthropic-version", "2023-06-01"),
            ("anthropic-beta", beta),
        ];
        self.send(Self::request(&self.url("/anthropic/v1/messages"), body, &headers)).await
    }

    /// A request for Anthropic with the service `tracker`.
    pub(crate) fn message(&self, messages: &Value, stream: bool) -> Value {
        json!({"model": "claude-1", "max_tokens": 100, "stream": stream, "messages": messages,
            "mcp_servers": [{"type": "url", "url": self.mcp("tracker"), "name": "tracker"}],
            "tools": [{"type": "mcp_toolset", "mcp_server_name": "tracker"}]})
    }

    /// The requests at the vendor's model, and forgets them.
    pub(crate) fn asked(&self) -> Vec<VendorRequest> {
        let requests = self.vendor.requests();
        self.vendor.clear();
        requests
    }

    /// The calls of tools at the MCP server: name and arguments.
    pub(crate) fn calls(&self) -> Vec<(String, Value)> {
        let log = self.world.standin.log();
        let bodies = log.iter().filter_map(|seen| serde_json::from_slice::<Value>(&seen.body).ok());
        let calls = bodies.filter(|body| body["method"] == "tools/call");
        calls
            .map(|body| {
                (
                    body["params"]["name"].as_str().unwrap().to_owned(),
                    body["params"]["arguments"].clone(),
                )
            })
            .collect()
    }
}
