//! A gateway with a local service that is signed in at the upstream.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, header};
use mcp_gateway_standin::{CLIENT_ID, CLIENT_SECRET, Profile, Standin};
use mcp_oauth_gateway::app::core::AppParts;
use mcp_oauth_gateway::app::runtime_config::ActiveService;
use mcp_oauth_gateway::base::endpoint_network::EndpointNetwork;
use mcp_oauth_gateway::base::random;
use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::base::time::UnixTime;
use mcp_oauth_gateway::flow::stored_credential::StoredCredentialRecord;
use mcp_oauth_gateway::flow::stored_token::{LoginClient, OAuthCredential};
use mcp_oauth_gateway::net::body::RequestBody;
use mcp_oauth_gateway::oauth::pkce::CodeChallenge;
use mcp_oauth_gateway::oauth::token_response::{UpstreamAccessToken, UpstreamRefreshToken, UpstreamTokens};
use mcp_oauth_gateway::service::{Access, Upstream};
use mcp_oauth_gateway::token::local_key::LocalKeyKind;
use serde_json::json;

use crate::support::browser::{Browser, Page, send};
use crate::support::client::{McpClient, param};
use crate::support::world::World;

/// The lifetime of the upstream's tokens, in seconds.
pub(crate) const HOUR: u64 = 3_600;

/// See [the module](self).
pub(crate) struct Bridge {
    pub world: World,
    /// The local key.
    pub key: String,
}

impl Bridge {
    /// A gateway whose only service is signed in.
    pub(crate) async fn signed_in() -> Self {
        let bridge = Self::new().await;
        bridge.sign_in().await;
        bridge
    }

    /// A gateway whose only service has no credential yet.
    pub(crate) async fn new() -> Self {
        Self::made(|_| {}).await
    }

    /// As `new`, with any part changed.
    pub(crate) async fn made(change: impl FnOnce(&mut AppParts)) -> Self {
        let world = World::made(Profile::Standard, |parts| {
            let service = &mut parts.config.services[0];
            (service.access, service.upstream) = (Access::Local, Upstream::Stored(Box::default()));
            change(parts);
        })
        .await;
        let bridge = Self {
            key: LocalKeyKind::Local.encode(&random::bytes()).expose().to_owned(),
            world,
        };
        bridge.accept(Some(&bridge.key));
        bridge
    }

    /// Makes this the local key of the gateway.
    pub(crate) fn accept(&self, key: Option<&str>) {
        self.world.app.set_local_key(LocalKeyKind::Local, key.map(Secret::from).as_ref());
    }

    pub(crate) fn standin(&self) -> &Standin {
        &self.world.standin
    }

    /// The service as it is configured now.
    pub(crate) fn active(&self) -> Arc<ActiveService> {
        Arc::clone(self.world.app.config().find("default").unwrap())
    }

    /// Signs in at the upstream and stores the result, as the command does.
    pub(crate) async fn sign_in(&self) {
        let login = login(self.standin(), self.now()).await;
        self.world.app.stored.put_login(&self.active(), login).await.unwrap();
    }

    /// The time of the gateway.
    pub(crate) fn now(&self) -> UnixTime {
        self.world.now()
    }

    /// The stored record.
    pub(crate) async fn record(&self) -> StoredCredentialRecord {
        self.world.app.stored.read("default").await.unwrap().expect("a record")
    }

    /// A program that holds the local key, over its own connection.
    pub(crate) fn program(&self) -> McpClient {
        McpClient::configured(&self.world.url, "", "")
    }

    /// Calls a tool with the local key.
    pub(crate) async fn call(&self) -> Page {
        whoami(&self.program(), &self.key).await
    }

    /// Asserts that a call succeeds with the newest upstream token.
    pub(crate) async fn works(&self) {
        has_newest_token(self.standin(), &self.call().await);
    }

    /// Concurrent calls, each on its own connection.
    pub(crate) async fn together(&self, count: usize) -> Vec<u16> {
        let one = |_| {
            let (program, key) = (self.program(), self.key.clone());
            tokio::spawn(async move { whoami(&program, &key).await.status.as_u16() })
        };
        let calls: Vec<_> = (0..count).map(one).collect();
        let mut statuses = Vec::new();
        for call in calls {
            statuses.push(call.await.unwrap());
        }
        statuses
    }

    /// The number of refreshes at the upstream. Asserts that no token was presented twice.
    pub(crate) fn refreshes(&self) -> usize {
        assert_eq!(self.standin().reused(), [""; 0]);
        self.standin().refreshes().len()
    }

    /// The statuses of the upstream's MCP endpoint since the log was cleared.
    pub(crate) fn answers(&self) -> Vec<u16> {
        let calls = self.standin().log().into_iter();
        calls
            .filter(|seen| seen.path == "/mcp" && seen.method == "POST")
            .map(|seen| seen.status)
            .collect()
    }
}

/// Asks the upstream who calls.
pub(crate) async fn whoami(client: &McpClient, token: &str) -> Page {
    client.call(token, "whoami", json!({})).await
}

/// Asserts that the upstream answered, to a call with the newest token that it issued.
pub(crate) fn has_newest_token(standin: &Standin, page: &Page) {
    assert_eq!(page.status, 200, "{}", page.text);
    let digest = ring::digest::digest(&ring::digest::SHA256, standin.issued_access().last().unwrap().as_bytes());
    assert!(page.text.contains(&URL_SAFE_NO_PAD.encode(digest)), "not the newest: {}", page.text);
}

/// Asserts the answer of a service whose operator must sign in.
pub(crate) fn says_login(page: &Page) {
    assert_eq!(page.status, 502, "{}", page.text);
    let body = page.json();
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains("mcp-oauth-gateway login default"), "{message}");
    assert_eq!(
        (&body["jsonrpc"], page.header("www-authenticate")),
        (&json!("2.0"), ""),
        "no client can help"
    );
}

/// Waits until something is so.
pub(crate) async fn eventually(what: impl Fn() -> bool) {
    for _ in 0..500 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to pass");
}

/// Signs in at the upstream with its static client. `now` is the time of the gateway.
pub(crate) async fn login(standin: &Standin, now: UnixTime) -> OAuthCredential {
    const REDIRECT: &str = "http://127.0.0.1:3999/upstream/callback/default";
    let verifier = Secret::from(URL_SAFE_NO_PAD.encode(random::bytes::<32>()));
    let challenge = CodeChallenge::of(&verifier);
    let query = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([
            ("response_type", "code"),
            ("client_id", CLIENT_ID),
            ("redirect_uri", REDIRECT),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
        ])
        .finish();
    let mut browser = Browser::default();
    let metadata = browser
        .get(&format!("{}/.well-known/oauth-authorization-server", standin.issuer()))
        .await;
    let metadata = metadata.json();
    let endpoint = |name: &str| metadata[name].as_str().unwrap().to_owned();
    let page = browser.get(&format!("{}?{query}", endpoint("authorization_endpoint"))).await;
    let code = param(&page.onward().expect("back to us"), "code").unwrap();
    let form = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", REDIRECT),
            ("code_verifier", verifier.expose()),
        ])
        .finish();
    let answer = post_form(&browser, &endpoint("token_endpoint"), form).await.json();
    let text = |name: &str| answer[name].as_str().map(Secret::from);
    OAuthCredential {
        issuer: standin.issuer(),
        token_endpoint: endpoint("token_endpoint"),
        revocation_endpoint: Some(endpoint("revocation_endpoint")),
        network: Some(EndpointNetwork {
            loopback: true,
            private: false,
            plain_http: true,
        }),
        client: LoginClient {
            id: CLIENT_ID.to_owned(),
            secret: Some(Secret::from(CLIENT_SECRET)),
            auth_method: "client_secret_basic".to_owned(),
        },
        scopes: String::new(),
        resource: Some(standin.mcp_url()),
        tokens: UpstreamTokens {
            access: UpstreamAccessToken::new(text("access_token").unwrap()),
            refresh: text("refresh_token").map(UpstreamRefreshToken::new),
            expires: Some(now.plus_seconds(HOUR)),
            refresh_expires: None,
            scope: None,
        },
    }
}

/// Posts a form as the upstream's static client.
async fn post_form(browser: &Browser, url: &str, form: String) -> Page {
    let basic = STANDARD.encode(format!("{CLIENT_ID}:{CLIENT_SECRET}"));
    let request = Request::post(url)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::AUTHORIZATION, format!("Basic {basic}"))
        .body(RequestBody::Full(Bytes::from(form)))
        .unwrap();
    let answer = send(&browser.client, request).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer
}
