//! The scripted client and browser: one sign-in and one tool call.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use mcp_gateway_standin::Standin;
use mcp_oauth_gateway::base::random;
use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::net::body::{RequestBody, read_limited};
use mcp_oauth_gateway::net::dial::AddressPolicy;
use mcp_oauth_gateway::net::http_client::{HttpClient, RequestPolicy};
use mcp_oauth_gateway::net::tls::ClientTls;
use mcp_oauth_gateway::oauth::pkce::CodeChallenge;
use serde_json::{Value, json};
use url::Url;

use crate::{USER, now, print_line};

/// The client's redirect URI. Nothing listens there: the script reads the redirect and does not follow it.
const REDIRECT: &str = "http://127.0.0.1:3999/callback";
/// Limit for connecting, for the first byte and for the body of each response.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest response that is read.
const MAX_BODY_BYTES: usize = 1 << 20;

/// Signs in at the gateway at `base`, calls a tool, and checks which tokens the upstream received.
///
/// # Errors
///
/// Returns what failed, for a person to read.
pub async fn run(base: &str, password: &Secret, upstream: &Standin) -> Result<(), String> {
    let call = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": "add", "arguments": { "a": 2, "b": 3 } },
    });
    let mut script = Script::new(base);
    let server = script.discover(&call).await?;
    let client_id = script.register(&server).await?;
    let pair = script.authorize(&server, &client_id, password).await?;
    script.call_tool(&call, &pair).await?;
    let has_own_token = upstream.issued_access().iter().any(|token| has_received(upstream, token));
    if !has_own_token || has_received(upstream, &pair) {
        return Err("the upstream did not receive its own token, or received the client's".to_owned());
    }
    script.print_step("the upstream received its own token, never the client's");
    Ok(())
}

/// A response with its whole body.
struct Page {
    url: Url,
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Page {
    /// The attribute `name` of the first tag that contains `tag_text`.
    fn attribute(&self, tag_text: &str, name: &str) -> Option<String> {
        let tag = self.text.split('<').find(|tag| tag.contains(tag_text))?;
        let value = tag.split_once(&format!("{name}=\""))?.1.split('"').next()?;
        Some(value.replace("&#38;", "&").replace("&amp;", "&"))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// The string at a JSON pointer of the body.
    fn json(&self, pointer: &str) -> Result<String, String> {
        let document: Value = serde_json::from_str(&self.text).map_err(|error| format!("{error} in {}", self.text))?;
        let value = document.pointer(pointer).and_then(Value::as_str);
        value.map(str::to_owned).ok_or_else(|| format!("no {pointer} in {}", self.text))
    }

    /// The target of a redirect, or of a page with a `refresh` tag.
    fn next_url(&self) -> Result<String, String> {
        if self.status.is_redirection() {
            return self.absolute(self.header("location"));
        }
        let refresh = self.attribute("http-equiv=\"refresh\"", "content");
        let target = refresh.and_then(|content| Some(content.split_once("url=")?.1.to_owned()));
        self.absolute(&target.ok_or_else(|| format!("no redirect: {} {}", self.status, self.text))?)
    }

    fn absolute(&self, target: &str) -> Result<String, String> {
        self.url
            .join(target)
            .map(String::from)
            .map_err(|error| format!("{target}: {error}"))
    }
}

/// A minimal client and browser, which prints each step.
struct Script {
    base: String,
    http: HttpClient,
    cookies: Vec<(String, String)>,
    step_start: Instant,
}

impl Script {
    fn new(base: &str) -> Self {
        Self {
            base: base.to_owned(),
            http: HttpClient::new(ClientTls::load(&[]).expect("the root certificates of the system are optional")),
            cookies: Vec::new(),
            step_start: now(),
        }
    }

    /// Calls a tool without a token, and follows the metadata to the authorization server's document.
    async fn discover(&mut self, call: &Value) -> Result<Page, String> {
        let unauthorized = self.post_json(&self.mcp_url(), "", call).await?;
        let challenge = unauthorized.header("www-authenticate").split("resource_metadata=\"").nth(1);
        let metadata = challenge
            .and_then(|rest| rest.split('"').next())
            .ok_or("the 401 response names no resource metadata")?
            .to_owned();
        self.print_step("the gateway answers 401 and names its resource metadata");
        let issuer = self.get(&metadata).await?.json("/authorization_servers/0")?;
        let server = self.get(&format!("{issuer}/.well-known/oauth-authorization-server")).await?;
        self.print_step("the client reads the authorization server metadata");
        Ok(server)
    }

    /// Registers a client and returns its `client_id`.
    async fn register(&mut self, server: &Page) -> Result<String, String> {
        let client = json!({ "client_name": "self-check", "redirect_uris": [REDIRECT], "token_endpoint_auth_method": "none" });
        let registered = self.post_json(&server.json("/registration_endpoint")?, "", &client).await?;
        let client_id = registered.json("/client_id")?;
        self.print_step("the client registers");
        Ok(client_id)
    }

    /// Runs the authorization code flow and returns the access token, a token pair.
    async fn authorize(&mut self, server: &Page, client_id: &str, password: &Secret) -> Result<String, String> {
        let verifier = random::token();
        let challenge = CodeChallenge::of(&verifier);
        let request = [
            ("response_type", "code"),
            ("client_id", client_id),
            ("redirect_uri", REDIRECT),
            ("state", "s"),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
            ("resource", &self.mcp_url()),
        ];
        let response = self.browse(&server.json("/authorization_endpoint")?, &request, password).await?;
        let query = response.split_once('?').map_or("", |(_, query)| query);
        let mut parameters = form_urlencoded::parse(query.as_bytes());
        let code = parameters.find(|(name, _)| name == "code").ok_or("the redirect has no code")?.1;
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", client_id),
            ("redirect_uri", REDIRECT),
            ("code", &code),
            ("code_verifier", verifier.expose()),
        ];
        let tokens = self.post_form(&server.json("/token_endpoint")?, &form).await?;
        let pair = tokens.json("/access_token")?;
        self.print_step("the client redeems the code for a token pair");
        Ok(pair)
    }

    /// Calls the tool `add` and checks its result.
    async fn call_tool(&mut self, call: &Value, pair: &str) -> Result<(), String> {
        let answer = self.post_json(&self.mcp_url(), pair, call).await?;
        let sum = answer.json("/result/content/0/text")?;
        if sum != "5" {
            return Err(format!("the tool answers that 2 + 3 is {sum}"));
        }
        self.print_step("the client calls a tool through the gateway");
        Ok(())
    }

    /// Does what the user does: signs in, approves the client, and authorizes the gateway at the upstream.
    async fn browse(&mut self, endpoint: &str, request: &[(&str, &str)], password: &Secret) -> Result<String, String> {
        let redirect = self.get(&format!("{endpoint}?{}", form_encoded(request))).await?;
        let sign_in = self.get(&redirect.next_url()?).await?;
        self.print_step("the browser shows the sign-in page");
        let credentials = [("username", USER), ("password", password.expose())];
        let signed_in = self.submit(&sign_in, &credentials).await?;
        let consent = self.get(&signed_in.next_url()?).await?;
        self.print_step("the user signs in");
        let approved = self.submit(&consent, &[("decision", "approve")]).await?;
        let upstream_consent = self.get(&approved.next_url()?).await?;
        self.print_step("the user approves the client");
        let authorized = self.submit(&upstream_consent, &[("decision", "authorize")]).await?;
        let callback = self.get(&authorized.next_url()?).await?;
        self.print_step("the user authorizes the gateway at the upstream");
        callback.next_url()
    }

    /// Prints a finished step and how long it took.
    fn print_step(&mut self, step: &str) {
        print_line(&format!("  {:>5} ms  {step}", self.step_start.elapsed().as_millis()));
        self.step_start = now();
    }

    fn mcp_url(&self) -> String {
        format!("{}/mcp", self.base)
    }

    async fn get(&mut self, url: &str) -> Result<Page, String> {
        self.send(Request::get(url), RequestBody::Empty).await
    }

    /// Posts the form of a page, with its hidden field.
    async fn submit(&mut self, page: &Page, fields: &[(&str, &str)]) -> Result<Page, String> {
        let action = page
            .attribute("method=\"post\"", "action")
            .ok_or_else(|| format!("no form: {}", page.text))?;
        let hidden = page.attribute("name=\"form\"", "value").unwrap_or_default();
        let form = [&[("form", hidden.as_str())], fields].concat();
        self.post_form(&page.absolute(&action)?, &form).await
    }

    async fn post_form(&mut self, url: &str, fields: &[(&str, &str)]) -> Result<Page, String> {
        let request = Request::post(url)
            .header(header::ORIGIN, &self.base)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request, RequestBody::Full(Bytes::from(form_encoded(fields)))).await
    }

    async fn post_json(&mut self, url: &str, token: &str, body: &Value) -> Result<Page, String> {
        let mut request = Request::post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream");
        if !token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        self.send(request, RequestBody::Full(Bytes::from(body.to_string()))).await
    }

    async fn send(&mut self, request: http::request::Builder, body: RequestBody) -> Result<Page, String> {
        let mut request = request.body(body).map_err(|error| error.to_string())?;
        let url = request.uri().to_string();
        // Only the gateway sets cookies, and they are sent to the gateway only.
        let jar: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if url.starts_with(&self.base) && !jar.is_empty() {
            let jar = jar.join("; ").parse().map_err(|_| "a cookie is not a valid header value")?;
            request.headers_mut().insert(header::COOKIE, jar);
        }
        let policy = RequestPolicy {
            addresses: AddressPolicy::Anything,
            connect: TIMEOUT,
            first_byte: Some(TIMEOUT),
            http2: false,
        };
        let failed = |error: &dyn std::fmt::Display| format!("{url}: {error}");
        let (head, body) = self.http.send(request, &policy).await.map_err(|error| failed(&error))?.into_parts();
        let body = read_limited(body, MAX_BODY_BYTES, TIMEOUT).await.map_err(|error| failed(&error))?;
        self.store_cookies(&head.headers);
        Ok(Page {
            url: Url::parse(&url).map_err(|error| failed(&error))?,
            status: head.status,
            headers: head.headers,
            text: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    fn store_cookies(&mut self, headers: &HeaderMap) {
        for cookie in headers.get_all(header::SET_COOKIE).iter().filter_map(|value| value.to_str().ok()) {
            let (name, rest) = cookie.split_once('=').unwrap_or((cookie, ""));
            self.cookies.retain(|(known, _)| known != name);
            if !rest.contains("Max-Age=0") {
                let value = rest.split(';').next().unwrap_or("");
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
    }
}

fn form_encoded(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// Whether a request to the upstream's MCP endpoint carried this token.
fn has_received(upstream: &Standin, token: &str) -> bool {
    let bearer = format!("Bearer {token}");
    let log = upstream.log();
    log.iter()
        .any(|request| request.path == "/mcp" && request.header("authorization") == Some(&bearer))
}
