//! An MCP client that does each OAuth step separately, so that a test can omit or change a step.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Method, Request, header};
use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::net::body::RequestBody;
use mcp_oauth_gateway::oauth::pkce::CodeChallenge;
use serde_json::{Value, json};

use super::browser::{Browser, Page, send};
use super::world::{PASSWORD, USER};

/// A registered client, and the state of one flow.
#[derive(Clone)]
pub(crate) struct McpClient {
    pub base: String,
    /// What follows the path of each OAuth endpoint: nothing, or `/mcp/{service}`.
    pub behind: String,
    pub id: String,
    pub redirect: String,
    pub verifier: Secret,
    pub state: String,
    pub http: Browser,
}

/// The response of `/token`.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub access: String,
    pub refresh: String,
    pub expires_in: u64,
}

impl Pair {
    pub(crate) fn of(page: &Page) -> Self {
        let body = page.json();
        assert_eq!(page.status, 200, "{body}");
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        Self {
            access: text("access_token"),
            refresh: text("refresh_token"),
            expires_in: body["expires_in"].as_u64().unwrap(),
        }
    }
}

impl McpClient {
    /// Registers a public client with one loopback redirect URI.
    pub(crate) async fn register(base: &str) -> Self {
        Self::register_at(base, "http://127.0.0.1:3999/callback").await
    }

    /// Registers a public client with this redirect URI.
    pub(crate) async fn register_at(base: &str, redirect: &str) -> Self {
        Self::register_with(base, redirect, Browser::default()).await
    }

    /// As `register_at`, over the connections of this browser, which may trust more certificates.
    pub(crate) async fn register_with(base: &str, redirect: &str, http: Browser) -> Self {
        let body = json!({ "client_name": "story", "redirect_uris": [redirect], "token_endpoint_auth_method": "none", "grant_types": ["authorization_code", "refresh_token"] });
        let page = post_json(&http, &format!("{base}/register"), &body).await;
        assert_eq!(page.status, 201, "{}", page.text);
        let id = page.json()["client_id"].as_str().unwrap().to_owned();
        let verifier = Secret::from(URL_SAFE_NO_PAD.encode(mcp_oauth_gateway::base::random::bytes::<32>()));
        Self {
            base: base.into(),
            behind: String::new(),
            id,
            redirect: redirect.into(),
            verifier,
            state: "the client's state".into(),
            http,
        }
    }

    /// A client from the configuration.
    pub(crate) fn configured(base: &str, id: &str, redirect: &str) -> Self {
        Self {
            base: base.into(),
            behind: String::new(),
            id: id.into(),
            redirect: redirect.into(),
            verifier: Secret::from(URL_SAFE_NO_PAD.encode(mcp_oauth_gateway::base::random::bytes::<32>())),
            state: "the client's state".into(),
            http: Browser::default(),
        }
    }

    /// The same client at the service of this name.
    pub(crate) fn at(&self, service: &str) -> Self {
        Self {
            behind: format!("/mcp/{service}"),
            ..self.clone()
        }
    }

    /// The URL of the MCP endpoint.
    pub(crate) fn resource(&self) -> String {
        let path = if self.behind.is_empty() { "/mcp" } else { &self.behind };
        format!("{}{path}", self.base)
    }

    /// The authorization URL.
    pub(crate) fn authorize_url(&self) -> String {
        self.authorize_url_with(&[])
    }

    /// The authorization URL with these parameters replaced; an empty value omits a parameter.
    pub(crate) fn authorize_url_with(&self, changes: &[(&str, &str)]) -> String {
        let challenge = CodeChallenge::of(&self.verifier);
        let resource = self.resource();
        let mut all = vec![
            ("response_type", "code"),
            ("client_id", &self.id),
            ("redirect_uri", &self.redirect),
            ("state", &self.state),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
            ("resource", &resource),
        ];
        for (name, value) in changes {
            all.retain(|(known, _)| known != name);
            if !value.is_empty() {
                all.push((name, value));
            }
        }
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(all).finish();
        format!("{}/authorize{}?{query}", self.base, self.behind)
    }

    /// Runs the flow in the browser. Returns the redirect to the client.
    pub(crate) async fn browse(&self, browser: &mut Browser) -> String {
        self.browse_from(browser, &self.authorize_url()).await
    }

    /// As `browse`, from this authorization URL.
    pub(crate) async fn browse_from(&self, browser: &mut Browser, authorize: &str) -> String {
        let consent = self.to_consent_from(browser, authorize).await;
        let onward = browser.decide(&consent, "approve").await.onward().expect("on to the upstream");
        self.follow(browser, onward).await
    }

    /// Runs the flow up to the consent page.
    pub(crate) async fn to_consent(&self, browser: &mut Browser) -> Page {
        self.to_consent_from(browser, &self.authorize_url()).await
    }

    async fn to_consent_from(&self, browser: &mut Browser, authorize: &str) -> Page {
        let mut page = browser.get(authorize).await;
        while let Some(next) = page.onward() {
            page = browser.get(&next).await;
        }
        if page.text.contains("name=\"password\"") {
            browser.sign_in(&page, USER, PASSWORD).await
        } else {
            page
        }
    }

    /// Follows redirects up to the client's redirect URI.
    pub(crate) async fn follow(&self, browser: &mut Browser, from: String) -> String {
        let mut next = from;
        for _ in 0..10 {
            if next.starts_with(&self.redirect) {
                return next;
            }
            let page = browser.get(&next).await;
            next = page
                .onward()
                .unwrap_or_else(|| panic!("stuck at {next}: {} {}", page.status, page.text));
        }
        panic!("more than 10 redirects")
    }

    /// The code in the redirect to the client.
    pub(crate) fn code(answer: &str) -> String {
        param(answer, "code").unwrap_or_else(|| panic!("no code in {answer}"))
    }

    /// Redeems a code.
    pub(crate) async fn redeem(&self, code: &str) -> Page {
        self.redeem_with(&[
            ("code", code),
            ("code_verifier", self.verifier.expose()),
            ("redirect_uri", &self.redirect),
        ])
        .await
    }

    /// Redeems with these fields, besides `grant_type` and `client_id`.
    pub(crate) async fn redeem_with(&self, fields: &[(&str, &str)]) -> Page {
        let mut all = vec![("grant_type", "authorization_code"), ("client_id", self.id.as_str())];
        all.extend_from_slice(fields);
        self.form(&format!("/token{}", self.behind), &all).await
    }

    /// Sends a refresh request.
    pub(crate) async fn refresh(&self, token: &str) -> Page {
        self.form(
            &format!("/token{}", self.behind),
            &[("grant_type", "refresh_token"), ("client_id", &self.id), ("refresh_token", token)],
        )
        .await
    }

    /// Sends a revocation request.
    pub(crate) async fn revoke(&self, token: &str) -> Page {
        self.form(&format!("/revoke{}", self.behind), &[("client_id", &self.id), ("token", token)])
            .await
    }

    /// Posts a form to an endpoint of the gateway.
    pub(crate) async fn form(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = Request::post(format!("{}{path}", self.base)).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        send(&self.http.client, request.body(RequestBody::Full(Bytes::from(body))).unwrap()).await
    }

    /// Runs a whole flow and redeems the code.
    pub(crate) async fn login(&self) -> Pair {
        let answer = self.browse(&mut Browser::default()).await;
        Pair::of(&self.redeem(&Self::code(&answer)).await)
    }

    /// Calls a tool of the upstream through the gateway.
    pub(crate) async fn call(&self, access: &str, tool: &str, arguments: Value) -> Page {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": tool, "arguments": arguments } });
        self.mcp(Method::POST, access, Some(body)).await
    }

    /// Sends any request to the MCP endpoint.
    pub(crate) async fn mcp(&self, method: Method, access: &str, body: Option<Value>) -> Page {
        let mut request = Request::builder()
            .method(method)
            .uri(self.resource())
            .header(header::ACCEPT, "application/json, text/event-stream");
        if !access.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {access}"));
        }
        let body = body.map_or(RequestBody::Empty, |json| RequestBody::Full(Bytes::from(json.to_string())));
        send(
            &self.http.client,
            request.header(header::CONTENT_TYPE, "application/json").body(body).unwrap(),
        )
        .await
    }
}

/// Posts JSON.
pub(crate) async fn post_json(http: &Browser, url: &str, body: &Value) -> Page {
    let request = Request::post(url).header(header::CONTENT_TYPE, "application/json");
    send(
        &http.client,
        request.body(RequestBody::Full(Bytes::from(body.to_string()))).unwrap(),
    )
    .await
}

/// A query parameter of a URL.
pub(crate) fn param(address: &str, name: &str) -> Option<String> {
    let query = address.split_once('?')?.1;
    url::form_urlencoded::parse(query.as_bytes())
        .find(|(n, _)| n == name)
        .map(|(_, v)| v.into_owned())
}
