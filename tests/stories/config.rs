//! A gateway with a configuration file: several services in one process, and reloads under load.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::BodyExt as _;
use mcp_gateway_standin::{CLIENT_ID, CLIENT_SECRET, Profile, Standin};
use mcp_oauth_gateway::net::body::RequestBody;
use mcp_oauth_gateway::net::dial::AddressPolicy;
use serde_json::json;

use crate::support::browser::{Browser, Page, send};
use crate::support::client::{McpClient, Pair};
use crate::support::port::free_port;
use crate::support::process::{Process, command};

/// A gateway process with a configuration file.
struct Configured {
    process: Process,
    data: tempfile::TempDir,
    top: String,
}

/// The section of one service in the file.
fn described(name: &str, upstream: &Standin, more: &str) -> String {
    format!(
        "[services.{name}]\nurl = \"{}\"\nclient_id = \"{CLIENT_ID}\"\nclient_secret = \"${{UPSTREAM_SECRET}}\"\nscopes = [\"repo\"]\n{more}\n",
        upstream.mcp_url()
    )
}

fn write(data: &Path, text: &str) -> std::path::PathBuf {
    let file = data.join("gateway.toml");
    std::fs::write(&file, text).unwrap();
    file
}

impl Configured {
    async fn start(services: &str) -> Self {
        let (data, port) = (tempfile::tempdir().unwrap(), free_port());
        let top =
            format!("public_url = \"http://127.0.0.1:{port}\"\nlisten = [\"127.0.0.1:{port}\"]\ndata_dir = \"data\"\nlog = \"debug\"\n");
        let file = write(data.path(), &format!("{top}{services}"));
        let log = std::fs::File::create(data.path().join("log")).unwrap();
        let mut command = command();
        command.arg("--config").arg(file).env("UPSTREAM_SECRET", CLIENT_SECRET);
        let process = Process::ready(command.stdout(Stdio::null()).stderr(log), port, data.path()).await;
        Self { process, data, top }
    }

    /// Writes another file and sends SIGHUP.
    fn say(&self, services: &str) {
        write(self.data.path(), &format!("{}{services}", self.top));
        let told = Command::new("kill")
            .arg("-HUP")
            .arg(self.process.child.id().to_string())
            .status()
            .unwrap();
        assert!(told.success());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.data.path().join("log")).unwrap()
    }

    async fn logged(&self, words: &str, times: usize) {
        for _ in 0..500 {
            if self.log().matches(words).count() >= times {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("not logged {times} times: {words}\n{}", self.log());
    }
}

async fn get(http: &Browser, url: &str) -> Page {
    send(&http.client, Request::get(url).body(RequestBody::Empty).unwrap()).await
}

async fn call(http: &Browser, url: &str, access: &str) -> Page {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
    let request = Request::post(url)
        .header(header::ACCEPT, "application/json, text/event-stream")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, format!("Bearer {access}"));
    send(
        &http.client,
        request.body(RequestBody::Full(Bytes::from(body.to_string()))).unwrap(),
    )
    .await
}

/// Signs in at a service other than the default, through its own endpoints.
async fn signed_in(configured: &Configured, service: &str) -> Pair {
    let url = &configured.process.url;
    let client = McpClient::register(url).await;
    let resource = format!("{url}/mcp/{service}");
    let authorize = client.authorize_url_with(&[("resource", &resource)]);
    let authorize = authorize.replace("/authorize?", &format!("/authorize/mcp/{service}?"));
    let mut browser = Browser::default();
    let answer = client.browse_from(&mut browser, &authorize).await;
    let fields = [
        ("grant_type", "authorization_code"),
        ("client_id", client.id.as_str()),
        ("code", &McpClient::code(&answer)),
        ("code_verifier", client.verifier.expose()),
        ("redirect_uri", &client.redirect),
    ];
    Pair::of(&client.form(&format!("/token/mcp/{service}"), &fields).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_in_one_file_have_separate_metadata_and_tokens() {
    let (one, other) = (Standin::start(Profile::GitHub), Standin::start(Profile::GitHub));
    let services = format!("{}{}", described("one", &one, "default = true"), described("other", &other, ""));
    let configured = Configured::start(&services).await;
    let (http, url) = (Browser::default(), configured.process.url.clone());
    for (path, resource, issuer) in [
        ("", "/mcp", ""),
        ("/mcp", "/mcp", ""),
        ("/mcp/one", "/mcp/one", "/mcp/one"),
        ("/one/mcp", "/one/mcp", "/mcp/one"),
        ("/mcp/other", "/mcp/other", "/mcp/other"),
        ("/other/mcp", "/other/mcp", "/mcp/other"),
    ] {
        let page = get(&http, &format!("{url}/.well-known/oauth-protected-resource{path}"))
            .await
            .json();
        assert_eq!(page["resource"], format!("{url}{resource}"), "{path}");
        assert_eq!(page["authorization_servers"], json!([format!("{url}{issuer}")]), "{path}");
        let page = get(&http, &format!("{url}/.well-known/oauth-authorization-server{issuer}"))
            .await
            .json();
        assert_eq!(page["issuer"], format!("{url}{issuer}"));
    }
    let client = McpClient::register(&url).await;
    let (at_one, at_other) = (client.login().await, signed_in(&configured, "other").await);
    for (path, right, wrong, upstream) in [
        ("/mcp", &at_one, &at_other, &one),
        ("/mcp/one", &at_one, &at_other, &one),
        ("/one/mcp", &at_one, &at_other, &one),
        ("/mcp/other", &at_other, &at_one, &other),
        ("/other/mcp", &at_other, &at_one, &other),
    ] {
        let before = upstream.log().len();
        let page = call(&http, &format!("{url}{path}"), &wrong.access).await;
        assert_eq!(page.status, 401, "{path}");
        assert!(
            page.headers[header::WWW_AUTHENTICATE]
                .to_str()
                .unwrap()
                .contains("error=\"invalid_token\""),
            "{path}"
        );
        assert_eq!(upstream.log().len(), before, "{path}");
        assert_eq!(call(&http, &format!("{url}{path}"), &right.access).await.status, 200, "{path}");
    }
}

/// Opens an event stream of the default service.
async fn stream(url: &str, access: &str) -> hyper::body::Incoming {
    let request = Request::builder()
        .method(Method::GET)
        .uri(format!("{url}/mcp"))
        .header(header::ACCEPT, "text/event-stream")
        .header(header::AUTHORIZATION, format!("Bearer {access}"));
    let http = Browser::default();
    let policy = mcp_oauth_gateway::net::http_client::RequestPolicy {
        addresses: AddressPolicy::Anything,
        connect: Duration::from_secs(5),
        first_byte: None,
        http2: false,
    };
    let answer = http.client.send(request.body(RequestBody::Empty).unwrap(), &policy).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.into_body()
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_reloads_under_load_interrupt_no_request_and_no_stream() {
    const TIMES: usize = 20;
    let (one, other) = (Standin::start(Profile::GitHub), Standin::start(Profile::GitHub));
    let alone = described("one", &one, "default = true");
    let configured = Configured::start(&alone).await;
    let url = configured.process.url.clone();
    let pair = McpClient::register(&url).await.login().await;
    let mut events = stream(&url, &pair.access).await;
    let (done, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let busy: Vec<_> = (0..4)
        .map(|_| {
            let (url, access, done, calls) = (format!("{url}/mcp"), pair.access.clone(), Arc::clone(&done), Arc::clone(&calls));
            tokio::spawn(async move {
                let http = Browser::default();
                while !done.load(Ordering::Relaxed) {
                    let page = call(&http, &url, &access).await;
                    assert_eq!(page.status, 200, "{}", page.text);
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for time in 1..=TIMES {
        let both = format!("{alone}refresh_grace = {time}\n{}", described("other", &other, ""));
        configured.say(if time % 2 == 0 { &alone } else { &both });
        configured.logged("the configuration was read again", time).await;
        // The new configuration is active, and requests continue.
        let known = get(
            &Browser::default(),
            &format!("{url}/.well-known/oauth-protected-resource/mcp/other"),
        )
        .await;
        assert_eq!(known.status, if time % 2 == 0 { 404 } else { 200 });
        let before = calls.load(Ordering::Relaxed);
        while calls.load(Ordering::Relaxed) < before + 8 {
            assert!(!busy.iter().any(tokio::task::JoinHandle::is_finished), "a request was lost");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    done.store(true, Ordering::Relaxed);
    for task in busy {
        task.await.unwrap();
    }
    // The stream from before the reloads is still open on both sides.
    assert_eq!(one.open_streams(), 1);
    let ended = tokio::time::timeout(Duration::from_millis(300), async { while events.frame().await.is_some() {} }).await;
    assert!(ended.is_err(), "the stream has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_configuration_file_is_logged_and_the_old_one_stays_active() {
    let one = Standin::start(Profile::GitHub);
    let good = described("one", &one, "default = true");
    let configured = Configured::start(&good).await;
    let url = configured.process.url.clone();
    let pair = McpClient::register(&url).await.login().await;
    for (bad, why) in [
        (good.replace("scopes", "scope"), "services.one.scope: there is no such key"),
        (good.replace("UPSTREAM_SECRET", "NO_SECRET"), "the variable NO_SECRET is not set"),
        (format!("{good}x = ["), "this is not TOML"),
        (format!("{good}upstream = \"paste\""), "services.one."),
    ] {
        configured.say(&bad);
        configured.logged(why, 1).await;
        assert_eq!(
            call(&Browser::default(), &format!("{url}/mcp"), &pair.access).await.status,
            200,
            "{why}"
        );
    }
    assert!(configured.log().contains("the one that was there stays"));
    // The log names settings that need a restart. The other settings take effect.
    configured.say(&format!("[store]\nkind = \"memory\"\n{good}"));
    configured.logged("holds from the next start on", 1).await;
    assert!(configured.log().contains("[store]") && !configured.log().contains(CLIENT_SECRET));
    assert_eq!(call(&Browser::default(), &format!("{url}/mcp"), &pair.access).await.status, 200);
}

/// Runs `check` on this file. Returns its output.
fn checked(text: &str, more: &[&str]) -> (Output, String) {
    let data = tempfile::tempdir().unwrap();
    let file = write(data.path(), text);
    #[cfg(unix)]
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let mut command = command();
    command.arg("check").arg("--config").arg(file).args(more);
    let output = command.env("UPSTREAM_SECRET", CLIENT_SECRET).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains(CLIENT_SECRET) && !said.contains("panicked"), "{said}");
    assert!(!data.path().join("data").exists());
    (output, said)
}

#[tokio::test(flavor = "multi_thread")]
async fn check_prints_urls_to_register_probes_upstreams_and_reports_errors() {
    let (one, other) = (Standin::start(Profile::GitHub), Standin::start(Profile::Standard));
    let top = "public_url = \"https://mcp.example.com/gw\"\ndata_dir = \"data\"\n";
    let more = format!("[services.other]\nurl = \"{}\"\n", other.mcp_url());
    let text = format!("{top}{}{more}", described("one", &one, "default = true"));
    let (output, said) = checked(&text, &[]);
    assert!(output.status.success(), "{said}");
    for words in [
        "https://mcp.example.com/gw/mcp\n",
        "https://mcp.example.com/gw/mcp/one\n",
        "https://mcp.example.com/gw/mcp/other\n",
        "https://mcp.example.com/gw/upstream/callback  (",
        "https://mcp.example.com/gw/upstream/callback/other  (",
        "users sign in here with a password; they sign in upstream",
        "/.well-known/oauth-protected-resource",
        &one.issuer(),
        "everything is good",
    ] {
        assert!(said.contains(words), "{words} in:\n{said}");
    }
    let (output, said) = checked(&text.replace(&other.mcp_url(), "http://127.0.0.1:9/mcp"), &[]);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("NOT FOUND") && said.contains("127.0.0.1:9"), "{said}");
    let (output, said) = checked(&text.replace(&other.mcp_url(), "http://127.0.0.1:9/mcp"), &["--offline"]);
    assert!(output.status.success() && !said.contains("looked at"), "{said}");
    let (output, said) = checked(&text.replace("scopes", "scope"), &["--offline"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("gateway.toml:") && said.contains("did you mean `scopes`?"), "{said}");
}

/// Some upstreams expect a key in their URL, and some operators write secrets into the file.
#[tokio::test(flavor = "multi_thread")]
async fn check_prints_no_secret_and_warns_about_readable_secrets_in_the_file() {
    let one = Standin::start(Profile::Standard);
    one.set(|b| b.mcp_open = true);
    let url = format!("{}?key=in-the-address", one.mcp_url());
    let oauth = format!("[services.one]\nurl = \"{url}\"\nclient_id = \"c\"\nclient_secret = \"written-out\"\n");
    let text = format!("data_dir = \"data\"\n{oauth}[services.two]\nurl = \"{url}\"\nupstream = \"none\"\n");
    for redirect in [None, Some("/elsewhere?key=in-the-address".to_owned())] {
        one.set(|b| b.mcp_redirect = redirect);
        let (_, said) = checked(&text, &[]);
        assert!(said.contains("looked at") && said.contains(&one.mcp_url()), "{said}");
        assert!(!said.contains("in-the-address") && !said.contains("written-out"), "{said}");
        let warned = said.contains("services.one.client_secret: a secret is written here") && said.contains("chmod 600");
        assert_eq!(warned, cfg!(unix), "{said}");
    }
    let (_, said) = checked(&text.replace("written-out", "${UPSTREAM_SECRET}"), &["--offline"]);
    assert!(!said.contains("chmod"), "{said}");
}

#[test]
fn check_advises_reference_mode_for_an_upstream_with_short_tokens() {
    let text = |more: &str| format!("data_dir = \"data\"\n[services.one]\nurl = \"http://127.0.0.1:9/mcp\"\n{more}");
    for (more, is_advised) in [
        ("profile = \"keycloak\"\n", true),
        ("profile = \"keycloak\"\ntoken_mode = \"reference\"\n", false),
        ("profile = \"okta\"\n", false),
    ] {
        let (output, said) = checked(&text(more), &["--offline"]);
        assert!(output.status.success(), "{said}");
        assert_eq!(
            said.contains("advice     this upstream's access tokens"),
            is_advised,
            "{more}{said}"
        );
    }
}

#[test]
fn check_accepts_command_line_flags_without_a_file() {
    let data = tempfile::tempdir().unwrap();
    let mut command = command();
    command
        .args(["check", "--offline", "--upstream-rs", "http://127.0.0.1:9/mcp", "--data-dir"])
        .arg(data.path());
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && said.contains("http://localhost:8002/upstream/callback"),
        "{said}"
    );
}

/// GitHub registers no clients and requires a client secret. Offline, the profile tells that.
#[test]
fn check_reports_a_missing_client_id_and_warns_about_a_missing_secret() {
    let text = "data_dir = \"data\"\n[services.github]\nurl = \"https://api.githubcopilot.com/mcp/\"\n";
    let (output, said) = checked(text, &["--offline"]);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("MISSING    client_id") && said.contains("one check failed"), "{said}");
    assert!(said.contains("(in the upstream's OAuth app)"), "{said}");
    let (output, said) = checked(&format!("{text}client_id = \"Ov23\"\n"), &["--offline"]);
    assert!(output.status.success() && said.contains("WARNING    client_secret"), "{said}");
    let both = "client_id = \"Ov23\"\nclient_secret = \"${UPSTREAM_SECRET}\"\n";
    let (output, said) = checked(&format!("{text}{both}"), &["--offline"]);
    assert!(
        output.status.success() && !said.contains("WARNING") && !said.contains("MISSING"),
        "{said}"
    );
    let (_, said) = checked(&text.replace("api.githubcopilot.com", "mcp.example.com"), &["--offline"]);
    assert!(said.contains("(the gateway registers it, if the upstream allows that)"), "{said}");
}

#[cfg(not(feature = "vault"))]
#[test]
fn a_store_kind_missing_from_this_build_is_refused_with_its_location() {
    let store = "[store]\nkind = \"vault\"\nurl = \"https://vault.example\"\ntoken = \"t\"\n";
    let (output, said) = checked(
        &format!("data_dir = \"data\"\n[services.one]\nurl = \"http://127.0.0.1:9/mcp\"\n{store}"),
        &["--offline"],
    );
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("gateway.toml:5: store.kind:"), "{said}");
    assert!(said.contains("is not in this build") && said.contains("--features vault"), "{said}");
}
