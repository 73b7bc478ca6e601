//! The gateway in front of an upstream that behaves like GitHub, all in one process and with no account anywhere.
//!
//! `make demo` is for a person, `--self-check` for a machine: it signs in with a scripted browser and calls a tool.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::builder::Resettable;
use clap::{CommandFactory as _, FromArgMatches as _, Parser};
use http::{HeaderMap, Request, StatusCode, header};
use mcp_gateway_standin::{CLIENT_ID, CLIENT_SECRET, Profile, Standin};
use mcp_oauth_gateway::base::random;
use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::cli::{data_dir, serve};
use mcp_oauth_gateway::config::flags::{Command, Serve};
use mcp_oauth_gateway::net::body::{RequestBody, read_limited};
use mcp_oauth_gateway::net::dial::AddressPolicy;
use mcp_oauth_gateway::net::http_client::{HttpClient, RequestPolicy};
use mcp_oauth_gateway::net::listen;
use mcp_oauth_gateway::net::tls::{self, ClientTls};
use mcp_oauth_gateway::oauth::pkce::CodeChallenge;
use mcp_oauth_gateway::observe::log;
use serde_json::{Value, json};
use url::Url;

const USER: &str = "demo";
const PORT: u16 = 8002;
/// Where the scripted client would wait for its answer. Nothing listens there: the script stops before it.
const REDIRECT: &str = "http://127.0.0.1:3999/callback";

/// How long the script waits for anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// The gateway with an upstream of its own, to try
#[derive(Parser)]
struct Demo {
    /// The port to listen on; 8002, or a free one if that is taken
    #[arg(long)]
    port: Option<u16>,
    /// Sign in with a scripted browser, call a tool, say how long each step took, and end
    #[arg(long)]
    self_check: bool,
}

fn main() -> ExitCode {
    tls::install_provider();
    log::init("warn");
    match demo(&Demo::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("demo: {why}");
            ExitCode::FAILURE
        }
    }
}

fn demo(asked: &Demo) -> Result<(), String> {
    let upstream = Standin::start(Profile::GitHub);
    upstream.set(|behaviour| behaviour.authorize_page = true);
    // Removed when it is dropped, after the gateway has stopped.
    let dir = tempfile::Builder::new()
        .prefix("mcp-oauth-gateway-demo-")
        .tempdir()
        .map_err(|why| why.to_string())?;
    let flags = flags(asked.port.map_or_else(free_port, Ok)?, &upstream, dir.path())?;
    let base = format!("http://localhost:{}", flags.port.unwrap_or(PORT));
    let given = std::env::var("MCP_GATEWAY_PASSWORD").ok().map(Secret::from);
    let shown = given.as_ref().map(|_| Secret::from("the one in MCP_GATEWAY_PASSWORD"));
    let password = given.map_or_else(|| password(dir.path()), Ok)?;
    if !asked.self_check {
        return serve::run_until(&flags, async {
            say(&invitation(&base, shown.as_ref().unwrap_or(&password)));
            watch(&upstream).await;
            say("\n  Stopping; nothing stays behind.");
        });
    }
    say(&format!("demo: one whole sign-in at {base}"));
    let (start, mut checked) = (now(), Ok(()));
    serve::run_until(&flags, async { checked = Script::new(&base).run(&password, &upstream).await })?;
    checked?;
    say(&format!("demo: passed in {} ms", start.elapsed().as_millis()));
    Ok(())
}

/// What the binary would be started with. The variables that it takes are not asked: the demo is the same everywhere.
fn flags(port: u16, upstream: &Standin, dir: &Path) -> Result<Serve, String> {
    let (port, mcp, dir) = (port.to_string(), upstream.mcp_url(), dir.display().to_string());
    let given = [
        ["--upstream-rs", &mcp],
        ["--upstream-client-id", CLIENT_ID],
        ["--upstream-client-secret", CLIENT_SECRET],
        ["--username", USER],
        ["--port", &port],
        ["--data-dir", &dir],
    ];
    let words = std::iter::once("demo").chain(given.into_iter().flatten());
    Command::command()
        .mut_args(|arg| arg.env(Resettable::Reset))
        .try_get_matches_from(words)
        .and_then(|found| Command::from_arg_matches(&found))
        .map(|command| command.serve)
        .map_err(|why| why.to_string())
}

fn free_port() -> Result<u16, String> {
    let is_free = |port| {
        let six = listen::bind((Ipv6Addr::LOCALHOST, port).into(), false);
        listen::bind((Ipv4Addr::LOCALHOST, port).into(), false).is_ok() && six.map_or_else(|why| listen::is_missing_address(&why), |_| true)
    };
    let any = || Some(listen::bind((Ipv4Addr::LOCALHOST, 0).into(), false).ok()?.local_addr().ok()?.port());
    std::iter::once(PORT)
        .chain(std::iter::repeat_with(any).take(20).flatten())
        .find(|port| is_free(*port))
        .ok_or_else(|| "no port is free".to_owned())
}

/// The one-time password: easy to type, kept as a hash in a directory that is gone with the demo.
fn password(dir: &Path) -> Result<Secret, String> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut made = String::new();
    for (i, byte) in random::bytes::<12>().into_iter().enumerate() {
        if i % 4 == 0 && i > 0 {
            made.push('-');
        }
        made.push(char::from(LETTERS[usize::from(byte % 32)]));
    }
    let made = Secret::from(made);
    data_dir::keep_password(dir, &made)?;
    Ok(made)
}

#[expect(clippy::disallowed_methods, reason = "how long a step takes is what is shown")]
fn now() -> Instant {
    Instant::now()
}

/// What a person needs, and no more.
fn invitation(base: &str, password: &Secret) -> String {
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
    let server = |field: &str| format!(r#"{{ "mcpServers": {{ "demo": {{ "{field}": "{url}" }} }} }}"#);
    for (client, place, snippet) in [
        ("Claude Code", "a shell", format!("claude mcp add --transport http demo {url}")),
        (
            "Claude Desktop",
            "claude_desktop_config.json",
            format!(r#"{{ "mcpServers": {{ "demo": {{ "command": "npx", "args": ["-y", "mcp-remote", "{url}"] }} }} }}"#),
        ),
        ("Cursor", "~/.cursor/mcp.json", server("url")),
        (
            "VS Code",
            ".vscode/mcp.json",
            format!(r#"{{ "servers": {{ "demo": {{ "type": "http", "url": "{url}" }} }} }}"#),
        ),
        ("Windsurf", "~/.codeium/windsurf/mcp_config.json", server("serverUrl")),
        (
            "None of these",
            "a shell; choose Streamable HTTP",
            "npx @modelcontextprotocol/inspector".to_owned(),
        ),
    ] {
        let _ = writeln!(out, "    {bold}{client:<16}{off}{dim}{place}{off}\n      {snippet}\n");
    }
    out + "  Tools: echo, add, whoami, slow, stream. Ctrl-C ends it. What the upstream sees:\n"
}

/// Shows what reaches the upstream, until told to stop.
async fn watch(upstream: &Standin) {
    let end = serve::shutdown_signal();
    tokio::pin!(end);
    let mut shown = 0;
    loop {
        tokio::select! {
            () = &mut end => return,
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
        let issued = upstream.issued_access();
        for seen in upstream.log().into_iter().skip(shown).take_while(|seen| seen.status != 0) {
            shown += 1;
            let message: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
            let words = [&message["method"], &message["params"]["name"]].map(|word| word.as_str().unwrap_or(""));
            let token = seen.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
            let whose = match token {
                Some(token) if issued.iter().any(|known| known == token) => "a token of its own",
                Some(_) => "a token it does not know",
                None => "",
            };
            let what = format!("{:<5}{} {} {}", seen.method, seen.path, words[0], words[1]);
            say(format!("    {}  {:<56}{whose}", seen.status, what.trim_end()).trim_end());
        }
    }
}

/// Prints a line. Nobody reading it is no reason to stop.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// An answer, read whole.
struct Page {
    url: Url,
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Page {
    /// An attribute of the first tag that has `mark` in it.
    fn attribute(&self, mark: &str, name: &str) -> Option<String> {
        let tag = self.text.split('<').find(|tag| tag.contains(mark))?;
        let value = tag.split_once(&format!("{name}=\""))?.1.split('"').next()?;
        Some(value.replace("&#38;", "&").replace("&amp;", "&"))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    fn json(&self, name: &str) -> Result<String, String> {
        let all: Value = serde_json::from_str(&self.text).map_err(|why| format!("{why} in {}", self.text))?;
        let found = all.pointer(name).and_then(Value::as_str);
        found.map(str::to_owned).ok_or_else(|| format!("no {name} in {}", self.text))
    }

    /// Where a redirect or a page that goes on by itself leads.
    fn onward(&self) -> Result<String, String> {
        if self.status.is_redirection() {
            return self.absolute(self.header("location"));
        }
        let refresh = self.attribute("http-equiv=\"refresh\"", "content");
        let target = refresh.and_then(|content| Some(content.split_once("url=")?.1.to_owned()));
        self.absolute(&target.ok_or_else(|| format!("no way on: {} {}", self.status, self.text))?)
    }

    fn absolute(&self, target: &str) -> Result<String, String> {
        self.url.join(target).map(String::from).map_err(|why| format!("{target}: {why}"))
    }
}

/// A client and a browser, as short as they can be. Each step is said as it is done.
struct Script {
    base: String,
    http: HttpClient,
    cookies: Vec<(String, String)>,
    since: Instant,
}

impl Script {
    fn new(base: &str) -> Self {
        Self {
            base: base.to_owned(),
            http: HttpClient::new(ClientTls::load(&[]).expect("the machine's roots are optional")),
            cookies: Vec::new(),
            since: now(),
        }
    }

    async fn run(&mut self, password: &Secret, upstream: &Standin) -> Result<(), String> {
        let base = self.base.clone();
        let call =
            json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "add", "arguments": { "a": 2, "b": 3 } } });
        let refused = self.post_json(&format!("{base}/mcp"), "", &call).await?;
        let metadata = refused.header("www-authenticate").split("resource_metadata=\"").nth(1);
        let metadata = metadata
            .and_then(|rest| rest.split('"').next())
            .ok_or("the 401 names no metadata")?
            .to_owned();
        self.said("an unknown client is told where to ask");

        let issuer = self.get(&metadata).await?.json("/authorization_servers/0")?;
        let server = self.get(&format!("{issuer}/.well-known/oauth-authorization-server")).await?;
        self.said("it reads who signs people in");

        let client = json!({ "client_name": "self-check", "redirect_uris": [REDIRECT], "token_endpoint_auth_method": "none" });
        let registered = self.post_json(&server.json("/registration_endpoint")?, "", &client).await?;
        let id = registered.json("/client_id")?;
        self.said("it registers");

        let verifier = random::token();
        let challenge = CodeChallenge::of(&verifier);
        let asked = [
            ("response_type", "code"),
            ("client_id", &id),
            ("redirect_uri", REDIRECT),
            ("state", "s"),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
            ("resource", &format!("{base}/mcp")),
        ];
        let answer = self.browse(&server.json("/authorization_endpoint")?, &asked, password).await?;
        let mut answered = form_urlencoded::parse(answer.split_once('?').map_or("", |(_, query)| query).as_bytes());
        let code = answered.find(|(name, _)| name == "code").ok_or("no code came back")?.1;

        let fields = [
            ("grant_type", "authorization_code"),
            ("client_id", &id),
            ("redirect_uri", REDIRECT),
            ("code", &code),
            ("code_verifier", verifier.expose()),
        ];
        let pair = self
            .post_form(&server.json("/token_endpoint")?, &fields)
            .await?
            .json("/access_token")?;
        self.said("the client holds one token, which is a pair");

        let sum = self
            .post_json(&format!("{base}/mcp"), &pair, &call)
            .await?
            .json("/result/content/0/text")?;
        if sum != "5" {
            return Err(format!("the tool says that 2 + 3 is {sum}"));
        }
        self.said("a tool is called through the gateway");
        if !upstream.issued_access().iter().any(|token| seen_with(upstream, token)) || seen_with(upstream, &pair) {
            return Err("the upstream was not called with its own token".to_owned());
        }
        self.said("the upstream saw its own token, never the client's");
        Ok(())
    }

    /// What the person does: signs in, approves, and presses Authorize at the upstream.
    async fn browse(&mut self, authorize: &str, asked: &[(&str, &str)], password: &Secret) -> Result<String, String> {
        let begun = self.get(&format!("{authorize}?{}", encoded(asked))).await?;
        let sign_in = self.get(&begun.onward()?).await?;
        self.said("the browser comes to the sign-in page");
        let typed = [("username", USER), ("password", password.expose())];
        let signed_in = self.submit(&sign_in, &typed).await?;
        let consent = self.get(&signed_in.onward()?).await?;
        self.said("the person signs in");
        let approved = self.submit(&consent, &[("decision", "approve")]).await?;
        let theirs = self.get(&approved.onward()?).await?;
        self.said("and approves");
        let authorized = self.submit(&theirs, &[("decision", "authorize")]).await?;
        let back = self.get(&authorized.onward()?).await?;
        self.said("and authorizes the gateway at the upstream");
        back.onward()
    }

    /// Says that a step is done, and how long it took.
    fn said(&mut self, step: &str) {
        say(&format!("  {:>5} ms  {step}", self.since.elapsed().as_millis()));
        self.since = now();
    }

    async fn get(&mut self, url: &str) -> Result<Page, String> {
        self.send(Request::get(url), RequestBody::Empty).await
    }

    /// Posts the form of a page, as the page would.
    async fn submit(&mut self, page: &Page, fields: &[(&str, &str)]) -> Result<Page, String> {
        let action = page
            .attribute("method=\"post\"", "action")
            .ok_or_else(|| format!("no form: {}", page.text))?;
        let hidden = page.attribute("name=\"form\"", "value").unwrap_or_default();
        let all = [&[("form", hidden.as_str())], fields].concat();
        self.post_form(&page.absolute(&action)?, &all).await
    }

    async fn post_form(&mut self, url: &str, fields: &[(&str, &str)]) -> Result<Page, String> {
        let request = Request::post(url)
            .header(header::ORIGIN, &self.base)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request, RequestBody::Full(Bytes::from(encoded(fields)))).await
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
        let mut request = request.body(body).map_err(|why| why.to_string())?;
        let url = request.uri().to_string();
        // Only the gateway sets cookies, and only to the gateway do they go back.
        let jar: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if url.starts_with(&self.base) && !jar.is_empty() {
            let jar = jar.join("; ").parse().map_err(|_| "a cookie that is no header")?;
            request.headers_mut().insert(header::COOKIE, jar);
        }
        let policy = RequestPolicy {
            addresses: AddressPolicy::Anything,
            connect: PATIENCE,
            first_byte: Some(PATIENCE),
            http2: false,
        };
        let failed = |why: &dyn std::fmt::Display| format!("{url}: {why}");
        let (head, body) = self.http.send(request, &policy).await.map_err(|why| failed(&why))?.into_parts();
        let body = read_limited(body, 1 << 20, PATIENCE).await.map_err(|why| failed(&why))?;
        for cookie in head
            .headers
            .get_all(header::SET_COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
        {
            let (name, rest) = cookie.split_once('=').unwrap_or((cookie, ""));
            self.cookies.retain(|(known, _)| known != name);
            if !rest.contains("Max-Age=0") {
                self.cookies
                    .push((name.to_owned(), rest.split(';').next().unwrap_or("").to_owned()));
            }
        }
        Ok(Page {
            url: Url::parse(&url).map_err(|why| failed(&why))?,
            status: head.status,
            headers: head.headers,
            text: String::from_utf8_lossy(&body).into_owned(),
        })
    }
}

fn encoded(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// Whether this token reached the upstream's MCP endpoint.
fn seen_with(upstream: &Standin, token: &str) -> bool {
    let bearer = format!("Bearer {token}");
    let log = upstream.log();
    log.iter()
        .any(|seen| seen.path == "/mcp" && seen.header("authorization") == Some(&bearer))
}
