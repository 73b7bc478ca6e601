//! Key ring and store: every command opens the same ones, and `check` and startup report errors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use mcp_gateway_standin::{Profile, Standin};
use mcp_oauth_gateway::net::body::RequestBody;

use super::cli::{does_not_start, done};
use crate::support::browser::{Browser, send};
use crate::support::port::free_port;
use crate::support::process::{Process, command};
use crate::support::redis::{Server, wanted};

const NOWHERE: &str = "http://127.0.0.1:9/mcp";
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A command with these flags and this data directory.
fn typed(words: &[&str], flags: &[&str], data: &Path) -> Command {
    let mut command = command();
    command.args(words).args(flags).arg("--data-dir").arg(data);
    command
}

fn good(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = done(command);
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// The name of the only key.
fn name(listed: &str) -> &str {
    assert_eq!(listed.lines().count(), 1, "{listed}");
    listed.split_whitespace().next().unwrap()
}

#[tokio::test]
async fn every_command_looks_for_the_key_ring_where_the_gateway_does() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("ring.json"));
    std::fs::create_dir(&data).unwrap();
    let named = ["--key-file", file.to_str().unwrap()];
    let gateway = Process::start(NOWHERE, free_port(), &data, &named).await;
    let listed = good(&mut typed(&["keyring", "list"], &named, &data));
    let ours = name(&listed);
    good(&mut typed(&["api-keys", "add", "default"], &named, &data));
    assert_eq!(good(&mut typed(&["api-keys", "list"], &named, &data)).lines().count(), 2);
    good(&mut typed(&["store", "export"], &named, &data));
    // Without `--key-file` every command uses the default path and creates nothing there.
    for words in [
        &["keyring", "list"][..],
        &["keyring", "rotate"],
        &["api-keys", "list"],
        &["store", "export"],
    ] {
        does_not_start(&mut typed(words, &[], &data), "--data-dir");
    }
    assert!(!data.join("keys.json").exists());
    // The variable takes precedence over the file, as for the gateway.
    let with_variable = |words: &[&str]| {
        let mut command = typed(words, &named, &data);
        command.env("MCP_GATEWAY_KEY", KEY);
        command
    };
    let listed = good(&mut with_variable(&["keyring", "list"]));
    let theirs = name(&listed);
    assert_ne!(ours, theirs);
    does_not_start(&mut with_variable(&["keyring", "rotate"]), "MCP_GATEWAY_KEY");
    for words in [&["api-keys", "add", "default"][..], &["api-keys", "list"], &["store", "export"]] {
        let said = does_not_start(&mut with_variable(words), "MCP_GATEWAY_KEY: ");
        assert!(said.contains(ours) && said.contains(theirs), "{said}");
    }
    assert_eq!(
        good(&mut typed(&["api-keys", "list"], &named, &data)).lines().count(),
        2,
        "none was added"
    );
    good(&mut typed(&["keyring", "rotate"], &named, &data));
    assert_eq!(good(&mut typed(&["keyring", "list"], &named, &data)).lines().count(), 2);
    assert!(gateway.terminate().success());
    // Commands refuse two conflicting locations.
    let config = dir.path().join("gateway.toml");
    std::fs::write(&config, format!("[services.a]\nurl = \"{NOWHERE}\"\n")).unwrap();
    for words in [&["keyring", "list"][..], &["api-keys", "list"], &["store", "export"]] {
        let flags = ["--config", config.to_str().unwrap(), "--store", "sqlite"];
        does_not_start(&mut typed(words, &flags, &data), "--store: it cannot be given beside --config");
    }
}

/// A gateway on `data` that is expected to fail at startup.
fn serving(data: &Path) -> Command {
    let port = free_port().to_string();
    typed(&["--upstream-rs", NOWHERE], &["--port", &port], data)
}

#[tokio::test]
async fn a_gateway_refuses_a_store_sealed_under_other_or_missing_keys() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_owned();
    // The store contains only the key check.
    assert!(Process::start(NOWHERE, free_port(), &data, &[]).await.terminate().success());
    let listed = good(&mut typed(&["keyring", "list"], &[], &data));
    let ours = name(&listed);
    let said = does_not_start(serving(&data).env("MCP_GATEWAY_KEY", KEY), "MCP_GATEWAY_KEY: ");
    assert!(said.contains(ours) && said.contains("store.sqlite3"), "{said}");
    // The gateway does not replace a lost key file if a store exists that needs it.
    let (keys, away) = (data.join("keys.json"), data.join("away"));
    std::fs::rename(&keys, &away).unwrap();
    let said = does_not_start(&mut serving(&data), "--data-dir: ");
    assert!(said.contains("keys.json is not there") && said.contains(ours), "{said}");
    assert!(!keys.exists());
    std::fs::rename(&away, &keys).unwrap();
    // A running gateway refuses the new keys too.
    let gateway = Process::start(NOWHERE, free_port(), &data, &[]).await;
    let made = mcp_oauth_gateway::base::keyring::generate(mcp_oauth_gateway::base::time::UnixTime(0));
    let old = std::fs::read_to_string(&keys).unwrap();
    std::fs::write(&keys, made.expose()).unwrap();
    let log = || std::fs::read_to_string(data.join("log")).unwrap();
    for _ in 0..150 {
        if log().contains("the new key file is not good") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(log().contains("the new key file is not good") && log().contains("filled under other keys"));
    assert!(gateway.terminate().success());
    // To start over, the operator removes the store, as the error message says.
    does_not_start(&mut serving(&data), "store.sqlite3");
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(data.join(format!("store.sqlite3{end}")));
    }
    assert!(Process::start(NOWHERE, free_port(), &data, &[]).await.terminate().success());
    std::fs::write(&keys, old).unwrap();
    does_not_start(&mut serving(&data), "filled under other keys");
}

/// A gateway with a file, and a service that takes API keys with the scope `read`.
struct Configured {
    dir: tempfile::TempDir,
    file: PathBuf,
    port: u16,
    upstream: Standin,
}

impl Configured {
    fn new(top: &str, more: &str) -> Self {
        let (dir, port, upstream) = (tempfile::tempdir().unwrap(), free_port(), Standin::start(Profile::Standard));
        upstream.set(|b| b.mcp_open = true);
        let file = dir.path().join("gateway.toml");
        let it = Self { dir, file, port, upstream };
        it.say(top, more);
        it
    }

    fn say(&self, top: &str, more: &str) {
        let (port, url) = (self.port, self.upstream.mcp_url());
        let text = format!(
            "{top}\npublic_url = \"http://127.0.0.1:{port}\"\nlisten = [\"127.0.0.1:{port}\"]\ndata_dir = \"data\"\n{more}\n\
            [services.batch]\nurl = \"{url}\"\naccess = \"key\"\nupstream = \"none\"\nrequired_scopes = [\"read\"]\n"
        );
        std::fs::write(&self.file, text).unwrap();
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = command();
        command.args(words).arg("--config").arg(&self.file);
        command
    }

    async fn start(&self, key: Option<&str>) -> Process {
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        let mut command = self.command(&[]);
        if let Some(key) = key {
            command.env("MCP_GATEWAY_KEY", key);
        }
        Process::ready(command.stdout(Stdio::null()).stderr(log), self.port, self.dir.path()).await
    }

    async fn status(&self, key: &str) -> u16 {
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        let request = Request::post(format!("http://127.0.0.1:{}/mcp/batch", self.port))
            .header(header::ACCEPT, "application/json, text/event-stream")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {key}"));
        let request = request.body(RequestBody::Full(Bytes::from(body))).unwrap();
        send(&Browser::default().client, request).await.status.as_u16()
    }

    /// Runs `check` and verifies that it changes no file. Returns success and output.
    fn checked(&self, change: impl FnOnce(&mut Command) -> &mut Command) -> (bool, String) {
        let mut command = self.command(&["check", "--offline"]);
        change(&mut command);
        let before = tree(self.dir.path());
        let output = done(&mut command);
        let after = tree(self.dir.path());
        let changed: Vec<_> = before
            .keys()
            .chain(after.keys())
            .filter(|path| before.get(*path) != after.get(*path))
            .collect();
        assert!(changed.is_empty(), "check changed {changed:?}");
        let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.success(), said)
    }
}

/// All files below a directory, with their contents.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

#[tokio::test]
async fn an_api_key_without_the_required_scopes_cannot_be_created() {
    let configured = Configured::new("", "");
    let gateway = configured.start(None).await;
    let said = does_not_start(
        &mut configured.command(&["api-keys", "add", "batch", "--scope", "write"]),
        "--scope: ",
    );
    assert!(said.contains("required_scopes") && said.contains("add --scope read"), "{said}");
    let key = good(&mut configured.command(&["api-keys", "add", "batch", "--scope", "write", "--scope", "read"]));
    assert_eq!(configured.status(key.trim()).await, 200);
    assert_eq!(good(&mut configured.command(&["api-keys", "list"])).lines().count(), 2);
    assert!(gateway.terminate().success());
}

#[tokio::test]
async fn api_keys_in_redis_can_be_created_and_revoked_beside_a_gateway() {
    if !wanted() {
        return;
    }
    let redis = Server::start();
    let store = format!("[store]\nkind = \"redis\"\nurl = \"{}\"", redis.url());
    let configured = Configured::new("", &store);
    let with = |words: &[&str], key: &str| {
        let mut command = configured.command(words);
        command.env("MCP_GATEWAY_KEY", key);
        command
    };
    let add = ["api-keys", "add", "batch", "--scope", "read"];
    does_not_start(&mut configured.command(&add), "needs keys that all of them have");
    does_not_start(&mut with(&add, KEY), "start it once");
    let gateway = configured.start(Some(KEY)).await;
    let other = "QUJDREVGMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk=";
    does_not_start(&mut with(&add, other), "filled under other keys");
    let key = good(&mut with(&add, KEY)).trim().to_owned();
    assert_eq!(configured.status(&key).await, 200);
    let listed = good(&mut with(&["api-keys", "list"], KEY));
    let id = listed.lines().nth(1).unwrap().split_whitespace().next().unwrap();
    good(&mut with(&["api-keys", "revoke", id], KEY));
    for _ in 0..500 {
        if configured.status(&key).await == 403 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(configured.status(&key).await, 403);
    // The same with flags instead of a file.
    let mut by_flags = command();
    by_flags.args(["api-keys", "list", "--store", "redis"]).env("MCP_GATEWAY_KEY", KEY);
    by_flags
        .env("MCP_GATEWAY_REDIS_URL", redis.url())
        .arg("--data-dir")
        .arg(configured.dir.path());
    assert!(good(&mut by_flags).contains("revoked"));
    assert!(gateway.terminate().success());
}

#[tokio::test]
async fn check_inspects_everything_that_startup_opens_and_changes_nothing() {
    let configured = Configured::new("", "");
    let (fine, said) = configured.checked(|command| command);
    assert!(fine && said.matches("(made at the first start)").count() == 3, "{said}");
    assert!(configured.start(None).await.terminate().success());
    let listed = good(&mut configured.command(&["keyring", "list"]));
    let (fine, said) = configured.checked(|command| command);
    assert!(
        fine && said.contains(name(&listed)) && said.contains("filled under these keys"),
        "{said}"
    );
    let (fine, said) = configured.checked(|command| command.env("MCP_GATEWAY_KEY", KEY));
    assert!(
        !fine && said.contains("filled under other keys") && said.contains("one check failed"),
        "{said}"
    );
    let within = |name: &str| configured.dir.path().join(name);
    std::fs::write(within("a.pem"), "nonsense").unwrap();
    std::fs::write(within("bad-ring"), "{}").unwrap();
    for (top, more, words) in [
        ("", "[tls]\ncert = \"none.pem\"\nkey = \"none.pem\"", "tls.cert: cannot read"),
        ("", "[tls]\ncert = \"a.pem\"\nkey = \"a.pem\"", "tls.cert: no PEM"),
        (
            "",
            "[store]\nkind = \"redis\"\nurl = \"redis://127.0.0.1:1\"",
            "store.kind: a store that several",
        ),
        (
            "",
            "[store]\nkind = \"redis\"\nurl = \"redis://127.0.0.1:1\"\n[keys]\nfile = \"none\"",
            "none is not there",
        ),
        ("", "[keys]\nfile = \"bad-ring\"", "keys.file: "),
        ("", "[keys]\nfile = \"no-ring\"", "was filled under keys that are not here"),
    ] {
        configured.say(top, more);
        let (fine, said) = configured.checked(|command| command);
        assert!(!fine && said.contains("NOT GOOD") && said.contains(words), "{words} in: {said}");
    }
    configured.say("", "");
    let (fine, said) = configured.checked(|command| command.arg("--data-dir").arg(within("a.pem")));
    assert!(!fine && said.contains("--data-dir: "), "{said}");
    let used = "[idp.corp]\npreset = \"okta\"\nissuer = \"https://corp.example\"\nclient_id = \"a\"\nallow = \"anyone\"\n";
    let hash = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b2dWRWJTmaaVRZvHX7CjvrQ9Yk";
    configured.say(
        "",
        &format!("{used}[login.password]\nusers = [{{ name = \"a\", hash = \"{hash}\" }}]"),
    );
    let (fine, said) = configured.checked(|command| command);
    assert!(
        fine && said.contains("idp:corp") && said.contains("no service's users sign in there"),
        "{said}"
    );
    for given in ["--username", "MCP_GATEWAY_PASSWORD"] {
        assert!(said.contains(&format!("warning: {given}")), "{given} in: {said}");
    }
}

#[tokio::test]
async fn startup_errors_name_the_line_and_key_of_the_configuration_file() {
    let configured = Configured::new("", "");
    let taken = std::net::TcpListener::bind(("127.0.0.1", configured.port)).unwrap();
    let said = does_not_start(&mut configured.command(&[]), "gateway.toml:3: listen: cannot listen");
    assert!(!said.contains("--"), "{said}");
    drop(taken);
    configured.say("", "[tls]\ncert = \"none.pem\"\nkey = \"none.pem\"");
    does_not_start(&mut configured.command(&[]), "gateway.toml:6: tls.cert: cannot read");
    configured.say("", "");
    std::fs::remove_dir_all(configured.dir.path().join("data")).unwrap();
    std::fs::write(configured.dir.path().join("data"), "a file").unwrap();
    does_not_start(&mut configured.command(&[]), "gateway.toml:4: data_dir: ");
}

#[tokio::test]
async fn the_healthcheck_command_takes_the_address_from_the_configuration_file() {
    let configured = Configured::new("", "");
    let asked = || done(&mut configured.command(&["healthcheck"]));
    assert!(!asked().status.success(), "nothing listens");
    let gateway = configured.start(None).await;
    assert!(asked().status.success(), "{}", String::from_utf8_lossy(&asked().stderr));
    // Later changes of the file and unreadable secret files do not affect the health check.
    configured.say("", "[store]\nurl_file = \"/nowhere/secret\"");
    assert!(asked().status.success());
    let other = free_port().to_string();
    assert!(!done(&mut configured.command(&["healthcheck", "--port", &other])).status.success());
    assert!(gateway.terminate().success());
}

#[cfg(unix)]
#[tokio::test]
async fn a_key_file_may_be_group_readable_only_if_it_is_read_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    assert!(Process::start(NOWHERE, free_port(), dir.path(), &[]).await.terminate().success());
    let keys = dir.path().join("keys.json");
    for (mode, is_taken) in [
        (0o400, true),
        (0o440, true),
        (0o600, true),
        (0o640, false),
        (0o444, false),
        (0o460, false),
    ] {
        std::fs::set_permissions(&keys, PermissionsExt::from_mode(mode)).unwrap();
        let output = done(&mut typed(&["keyring", "list"], &[], dir.path()));
        assert_eq!(
            output.status.success(),
            is_taken,
            "{mode:o}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
