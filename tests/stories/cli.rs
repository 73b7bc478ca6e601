//! The command line of the binary: errors, files that it writes, and secrets that it never prints.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use mcp_gateway_standin::{CLIENT_ID, CLIENT_SECRET, Profile, Standin};
use mcp_oauth_gateway::base::keyring;
use mcp_oauth_gateway::base::time::UnixTime;
use serde_json::{Value, json};

use super::hostile::refused;
use crate::support::browser::Browser;
use crate::support::client::{McpClient, Pair, param};
use crate::support::port::free_port;
use crate::support::process::{Process, command};
use crate::support::world::{PASSWORD, USER};

/// An address without a listener.
const NOWHERE: &str = "http://127.0.0.1:9/mcp";

/// Runs the command until it exits by itself.
pub(crate) fn done(command: &mut Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    for _ in 0..2_000 {
        if child.try_wait().unwrap().is_some() {
            return child.wait_with_output().unwrap();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    panic!("it runs on: {:?}", child.wait_with_output().unwrap());
}

/// Checks that the command fails without a panic and names this flag. Returns its stderr.
#[track_caller]
pub(crate) fn does_not_start(command: &mut Command, names: &str) -> String {
    let output = done(command);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(matches!(output.status.code(), Some(1 | 2)), "{:?}: {said}", output.status);
    assert!(said.contains(names), "{names} in: {said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

fn gateway(data: &Path) -> Command {
    gateway_on(free_port(), data)
}

fn gateway_on(port: u16, data: &Path) -> Command {
    let mut command = command();
    command
        .args(["--upstream-rs", NOWHERE, "--host", "127.0.0.1", "--data-dir"])
        .arg(data);
    command.args(["--port", &port.to_string()]);
    command
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Starts this command and waits until it is ready. Its log is in `data`.
fn started(mut command: Command, port: u16, data: &Path) -> Process {
    let log = std::fs::File::create(data.join("log")).unwrap();
    let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let mut process = Process {
        child,
        url: format!("http://127.0.0.1:{port}"),
    };
    for _ in 0..500 {
        if let Some(status) = process.child.try_wait().unwrap() {
            panic!("it ended ({status}): {}", log_of(data));
        }
        if healthcheck(port).status.success() {
            return process;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("it is not ready: {}", log_of(data));
}

fn healthcheck(port: u16) -> Output {
    done(command().args(["healthcheck", "--port", &port.to_string()]))
}

fn log_of(data: &Path) -> String {
    std::fs::read_to_string(data.join("log")).unwrap()
}

async fn logged(data: &Path, words: &str) {
    for _ in 0..150 {
        if log_of(data).contains(words) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("never logged: {words}");
}

#[test]
fn invalid_flags_are_refused_and_the_error_names_the_flag() {
    let data = tempfile::tempdir().unwrap();
    for (args, names) in [
        (&["--no-such-flag"][..], "--no-such-flag"),
        (&["--port", "70000"], "--port"),
        (&["--port", "x"], "--port"),
        (&["--store", "shelf"], "--store"),
        (&["--store", "redis"], "--redis-url"),
        (&["--log", "loud"], "--log"),
        (&["--token-mode", "open"], "--token-mode"),
        (&["--tls-cert", "x"], "--tls-key"),
        (&["no-such-command"], "no-such-command"),
        (&[], "--upstream-rs"),
        (&["--upstream-rs", ""], "--upstream-rs"),
        (&["--upstream-rs", "example.com/mcp"], "--upstream-rs"),
        (&["--upstream-rs", "ftp://example.com/mcp"], "--upstream-rs"),
        (&["--upstream-rs", "javascript:alert(1)"], "--upstream-rs"),
        (&["--upstream-rs", "https://user:pass@example.com/mcp"], "--upstream-rs"),
        (&["--upstream-rs", "https://example.com/mcp#x"], "--upstream-rs"),
        (&["--upstream-rs", "https://example.com/a/../mcp"], "--upstream-rs"),
        (&["--upstream-rs", NOWHERE, "--upstream-as", "nonsense"], "--upstream-as"),
        (&["--upstream-rs", NOWHERE, "--public-url", "nonsense"], "--public-url"),
        (&["--upstream-rs", NOWHERE, "--public-url", "http://example.com"], "--public-url"),
        (
            &["--upstream-rs", NOWHERE, "--public-url", "https://example.com/?x"],
            "--public-url",
        ),
        (&["--upstream-rs", NOWHERE, "--host", "0.0.0.0"], "--host"),
        (&["--upstream-rs", NOWHERE, "--host", "no such host"], "--host"),
        (&["--upstream-rs", NOWHERE, "--token-mode", "plain"], "--allow-token-passthrough"),
        (&["--upstream-rs", NOWHERE, "--access-ttl", "1"], "--access-ttl"),
        (&["--upstream-rs", NOWHERE, "--upstream-client-secret", "s"], "--upstream-client-id"),
        (&["--upstream-rs", NOWHERE, "--upstream-ca", "/nowhere/ca.pem"], "--upstream-ca"),
    ] {
        does_not_start(command().args(args).env("MCP_GATEWAY_DATA_DIR", data.path()), names);
    }
    assert_eq!(
        std::fs::read_dir(data.path())
            .unwrap()
            .filter(|f| f.as_ref().unwrap().file_name() != "keys.json" && f.as_ref().unwrap().file_name() != "lock")
            .count(),
        0
    );
}

#[test]
fn a_secret_in_the_environment_is_not_printed_by_help() {
    let output = done(command().arg("--help").env("MCP_GATEWAY_UPSTREAM_CLIENT_SECRET", "canary-secret"));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("--upstream-client-secret"));
    assert!(!said.contains("canary-secret") && !said.contains(PASSWORD), "{said}");
}

/// `check … 2>&1 | head` must not end in a panic.
#[test]
fn a_command_does_not_panic_when_its_output_pipe_is_closed() {
    let data = tempfile::tempdir().unwrap();
    for args in [
        &["check", "--offline", "--upstream-rs", NOWHERE][..],
        &["check", "--upstream-rs", NOWHERE],
        &["keyring", "list"],
        &["keyring", "rotate"],
        &["store", "export"],
        &["flow"],
        &["--upstream-rs", NOWHERE, "--host", "0.0.0.0"],
    ] {
        if args[0] == "keyring" {
            let made = keyring::generate(UnixTime(0));
            std::fs::write(data.path().join("keys.json"), made.expose()).unwrap();
            std::fs::set_permissions(data.path().join("keys.json"), std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let (gone, out) = std::io::pipe().unwrap();
        drop(gone);
        let err = out.try_clone().unwrap();
        let mut command = command();
        command.args(args).env("MCP_GATEWAY_DATA_DIR", data.path());
        let status = command.stdout(out).stderr(err).status().unwrap();
        assert!(matches!(status.code(), Some(0..=2)), "{args:?}: {status}");
    }
}

#[test]
fn a_port_in_use_is_an_error_that_names_the_flag() {
    let (data, other) = (tempfile::tempdir().unwrap(), std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap());
    let port = other.local_addr().unwrap().port();
    let mut command = command();
    command.args(["--upstream-rs", NOWHERE, "--host", "127.0.0.1", "--port", &port.to_string()]);
    does_not_start(command.arg("--data-dir").arg(data.path()), "--port");
}

/// The workers of one gateway share a port. A second gateway would take half of the requests.
#[tokio::test]
async fn a_second_gateway_cannot_listen_on_the_port_of_the_first() {
    let (data, other, port) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), free_port());
    let _first = Process::start(NOWHERE, port, data.path(), &[]).await;
    let mut command = command();
    command.args(["--upstream-rs", NOWHERE, "--host", "127.0.0.1", "--port", &port.to_string()]);
    does_not_start(command.arg("--data-dir").arg(other.path()), "--port");
}

#[test]
fn a_port_in_use_names_the_port_or_the_file_and_never_the_host() {
    let (dir, other) = (tempfile::tempdir().unwrap(), std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap());
    let port = other.local_addr().unwrap().port().to_string();
    let start = |args: &[&str]| {
        let mut command = command();
        command.args(args).arg("--data-dir").arg(dir.path().join("data"));
        does_not_start(&mut command, "cannot listen on 127.0.0.1")
    };
    for host in [&[][..], &["--host", "127.0.0.1"]] {
        let said = start(&[&["--upstream-rs", NOWHERE, "--port", &port], host].concat());
        assert!(said.contains("--port: cannot") && !said.contains("--host"), "{said}");
    }
    let file = dir.path().join("gateway.toml");
    let path = file.to_str().unwrap();
    let service = format!("[services.a]\nurl = \"{NOWHERE}\"\n");
    std::fs::write(&file, format!("listen = \"127.0.0.1:{port}\"\n{service}")).unwrap();
    assert!(start(&["--config", path]).contains("gateway.toml:1: listen: cannot"));
    // Only if the default port is free, this start takes it.
    let default = std::net::TcpListener::bind(("127.0.0.1", 8002));
    std::fs::write(&file, &service).unwrap();
    let said = start(&["--config", path]);
    assert!(said.contains("gateway.toml: cannot") && said.contains("write `listen = "), "{said}");
    drop(default);
}

#[test]
fn a_flag_that_the_file_forbids_is_named_as_it_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gateway.toml");
    std::fs::write(&file, format!("[services.a]\nurl = \"{NOWHERE}\"\n")).unwrap();
    for (flags, names) in [
        (&["--port", "8010"][..], "--port: it cannot be given beside --config"),
        (&["--host", "localhost"], "--host: it cannot be given beside --config"),
        (&["--tls", "self-signed"], "--tls: it cannot be given beside --config"),
        (&["--upstream-rs", NOWHERE], "--upstream-rs: it cannot be given beside --config"),
    ] {
        does_not_start(command().arg("--config").arg(&file).args(flags), names);
    }
}

#[test]
fn an_empty_variable_is_unset_and_a_file_may_precede_the_command() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gateway.toml");
    std::fs::write(&file, format!("data_dir = \"data\"\n[services.a]\nurl = \"{NOWHERE}\"\n")).unwrap();
    let mut check = command();
    for name in [
        "USERNAME",
        "PORT",
        "HOST",
        "TLS",
        "STORE",
        "INSECURE_HTTP",
        "PASSWORD",
        "KEY",
        "LOG",
    ] {
        check.env(format!("MCP_GATEWAY_{name}"), "");
    }
    let output = done(check.arg("--config").arg(&file).args(["check", "--offline"]));
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("service 'a'") && said.contains("gateway, with a password that is made"),
        "{said}"
    );
}

#[tokio::test]
async fn a_data_directory_that_others_may_write_to_is_refused_and_a_readable_one_is_tightened() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    for loose in [0o777, 0o770, 0o720, 0o1777] {
        std::fs::set_permissions(&data, PermissionsExt::from_mode(loose)).unwrap();
        let said = does_not_start(&mut gateway(&data), "other users may write to");
        assert!(said.contains(&format!("run: chmod 700 {}", data.display())), "{said}");
        let mut check = command();
        check
            .args(["check", "--offline", "--upstream-rs", NOWHERE, "--data-dir"])
            .arg(&data);
        let output = done(&mut check);
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!output.status.success() && report.contains("chmod 700"), "{report}");
    }
    std::fs::set_permissions(&data, PermissionsExt::from_mode(0o755)).unwrap();
    let (log_dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let log = std::fs::File::create(log_dir.path().join("log")).unwrap();
    let mut child = gateway_on(port, &data)
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    for _ in 0..2_000 {
        if healthcheck(port).status.success() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(mode(&data), 0o700);
    child.kill().unwrap();
    child.wait().unwrap();
    let said = std::fs::read_to_string(log_dir.path().join("log")).unwrap();
    assert!(
        said.contains("other users could read the data directory; its mode is 0700 now"),
        "{said}"
    );
}

#[test]
fn an_unusable_data_directory_is_an_error_that_names_the_flag() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let said = does_not_start(&mut gateway(&file), "--data-dir");
    assert!(said.contains("is a file, not a directory"), "{said}");
    does_not_start(&mut gateway(&file.join("below")), "--data-dir");
    let nowhere = command().args(["--upstream-rs", NOWHERE]).env_remove("HOME").output().unwrap();
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("--data-dir"));
}

#[test]
fn a_key_file_that_is_broken_or_readable_by_others_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let keys = data.path().join("keys.json");
    std::fs::write(&keys, "{}").unwrap();
    for loose in [0o644, 0o640, 0o604, 0o660] {
        std::fs::set_permissions(&keys, PermissionsExt::from_mode(loose)).unwrap();
        let said = does_not_start(&mut gateway(data.path()), "keys.json");
        assert!(said.contains("chmod 600"), "{said}");
        assert!(
            !done(command().args(["keyring", "--data-dir"]).arg(data.path()).arg("list"))
                .status
                .success()
        );
    }
    std::fs::set_permissions(&keys, PermissionsExt::from_mode(0o600)).unwrap();
    for broken in [
        "",
        "{}",
        "{\"keys\":[]}",
        "{\"keys\":[{\"key\":\"c2hvcnQ=\",\"made\":0,\"seals_from\":0}]}",
    ] {
        std::fs::write(&keys, broken).unwrap();
        does_not_start(&mut gateway(data.path()), "keys.json");
        assert_eq!(std::fs::read_to_string(&keys).unwrap(), broken, "it is not overwritten");
    }
    let said = does_not_start(
        gateway(tempfile::tempdir().unwrap().path()).env("MCP_GATEWAY_KEY", "c2hvcnQ="),
        "MCP_GATEWAY_KEY",
    );
    assert!(!said.contains("c2hvcnQ="), "{said}");
}

#[tokio::test]
async fn the_first_start_generates_a_working_password_and_never_logs_it() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let data = dir.path().join("made/by/us");
    let start = |log: &Path| {
        let mut command = command();
        command.env_remove("MCP_GATEWAY_PASSWORD").env_remove("MCP_GATEWAY_USERNAME");
        command.args([
            "--upstream-rs",
            NOWHERE,
            "--host",
            "127.0.0.1",
            "--log",
            "trace",
            "--port",
            &port.to_string(),
        ]);
        command.arg("--data-dir").arg(&data);
        started(command, port, log)
    };
    let running = start(dir.path());
    let initial = data.join("initial-password");
    let password = std::fs::read_to_string(&initial).unwrap().trim().to_owned();
    assert!(password.len() >= 20, "{password}");
    assert_eq!(mode(&data), 0o700);
    let kept = kept_hash(&data).await;
    for file in std::fs::read_dir(&data).unwrap().map(|file| file.unwrap().path()) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    let log = log_of(dir.path());
    assert!(log.contains("initial-password") && !log.contains(&password), "{log}");
    assert!(kept.starts_with("$argon2id$") && !kept.contains(&password));
    assert!(!data.join("pending-password").exists());
    assert!(lets_in(&running.url, &password).await);
    assert!(running.terminate().success());
    std::fs::remove_file(&initial).unwrap();
    let again = start(dir.path());
    assert!(!initial.exists(), "a password is made once");
    assert_eq!(std::fs::read_to_string(data.join("password-hash")).unwrap(), kept);
    assert!(again.terminate().success());
}

/// Waits for the password hash, which the gateway computes after startup.
async fn kept_hash(data: &Path) -> String {
    for _ in 0..1_000 {
        // The gateway deletes the pending password only after it stored the hash.
        if !data.join("pending-password").exists()
            && let Ok(kept) = std::fs::read_to_string(data.join("password-hash"))
        {
            return kept;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no hash is kept");
}

async fn lets_in(url: &str, password: &str) -> bool {
    let client = McpClient::register(url).await;
    let mut browser = Browser::default();
    let next = browser.get(&client.authorize_url()).await.onward().unwrap();
    let page = browser.get(&next).await;
    browser.sign_in(&page, "gateway", password).await.text.contains("value=\"approve\"")
}

/// A first start without a configured password: the gateway generates one.
fn first_start(data: &Path, port: u16) -> Command {
    let mut command = gateway_on(port, data);
    command.args(["--public-url", &format!("http://127.0.0.1:{port}")]);
    command.env_remove("MCP_GATEWAY_PASSWORD").env_remove("MCP_GATEWAY_USERNAME");
    command
}

/// Kills the process before, while and after it writes the password and stores its hash.
#[tokio::test]
async fn the_initial_password_works_wherever_the_first_start_is_killed() {
    let mut counts = std::collections::BTreeMap::new();
    for round in 0..12_u64 {
        let (data, log, port) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), free_port());
        let told = || std::fs::read_to_string(data.path().join("initial-password")).ok();
        let mut command = first_start(data.path(), port);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // The first rounds kill at any moment, the others once the password file exists.
        let mut left = 5_000;
        while round > 3 && told().is_none() && left > 0 {
            left -= 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(round % 4 * 8 + round / 8 * 40)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let first = told();
        let kept = std::fs::read_to_string(data.path().join("password-hash")).ok();
        *counts.entry((first.is_some(), kept.is_some())).or_insert(0) += 1;
        assert!(
            kept.is_none() || first.is_some(),
            "no hash is kept of a password that nobody was told"
        );

        let running = started(first_start(data.path(), port), port, log.path());
        let password = told().unwrap();
        assert!(
            first.is_none_or(|first| first == password),
            "the password that was told stays the password"
        );
        assert!(lets_in(&running.url, password.trim()).await);
        assert!(!lets_in(&running.url, "").await && !lets_in(&running.url, "another-password").await);
        let now = kept_hash(data.path()).await;
        assert!(kept.is_none_or(|kept| kept == now), "it was made once");
    }
    println!("first starts killed, (told, kept): {counts:?}");
    assert!(
        counts.contains_key(&(true, false)),
        "one fell between telling and keeping: {counts:?}"
    );
}

#[tokio::test]
async fn the_pending_password_is_deleted_and_a_removed_hash_gives_a_new_password() {
    let (data, log, port) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), free_port());
    let (pending, hash) = (data.path().join("pending-password"), data.path().join("password-hash"));
    let running = started(first_start(data.path(), port), port, log.path());
    let kept = kept_hash(data.path()).await;
    running.kill();
    let first = std::fs::read_to_string(data.path().join("initial-password")).unwrap();
    // The state after a kill between storing the hash and deleting the pending password.
    std::fs::write(&pending, &first).unwrap();
    std::fs::set_permissions(&pending, PermissionsExt::from_mode(0o600)).unwrap();
    let running = started(first_start(data.path(), port), port, log.path());
    assert!(!pending.exists() && std::fs::read_to_string(&hash).unwrap() == kept);
    assert!(lets_in(&running.url, first.trim()).await);
    running.kill();
    // An operator removes the hash to start over. An empty pending file is no password.
    std::fs::remove_file(&hash).unwrap();
    std::fs::write(&pending, "").unwrap();
    std::fs::set_permissions(&pending, PermissionsExt::from_mode(0o600)).unwrap();
    let running = started(first_start(data.path(), port), port, log.path());
    let second = std::fs::read_to_string(data.path().join("initial-password")).unwrap();
    assert_ne!(first, second);
    assert!(lets_in(&running.url, second.trim()).await && !lets_in(&running.url, first.trim()).await);
}

#[tokio::test]
async fn one_gateway_locks_a_data_directory_and_a_kill_releases_it() {
    let (data, port) = (tempfile::tempdir().unwrap(), free_port());
    let first = Process::start(NOWHERE, port, data.path(), &[]).await;
    let said = does_not_start(&mut gateway(data.path()), "--data-dir");
    assert!(
        said.contains("another gateway is using") && said.contains("a directory of its own"),
        "{said}"
    );
    assert!(healthcheck(port).status.success(), "the first one runs on");
    first.kill();
    let second = Process::start(NOWHERE, free_port(), data.path(), &[]).await;
    does_not_start(&mut gateway(data.path()), "another gateway is using");
    assert!(second.terminate().success());
}

#[tokio::test]
async fn a_flow_shows_an_error_page_until_the_upstream_is_reachable() {
    let (data, port) = (tempfile::tempdir().unwrap(), free_port());
    let upstream_port = free_port();
    let gateway = Process::start(&format!("http://127.0.0.1:{upstream_port}/mcp"), port, data.path(), &[]).await;
    let client = McpClient::register(&gateway.url).await;
    let mut browser = Browser::default();
    let consent = client.to_consent(&mut browser).await;
    let page = browser.decide(&consent, "approve").await;
    assert_eq!(page.status, 503);
    assert!(page.text.contains("upstream") && page.text.contains("Reference"), "{}", page.text);
    let reference = page.text.split("Reference <code>").nth(1).unwrap().split('<').next().unwrap();
    // The operator finds it in the log.
    logged(data.path(), reference).await;
    // Once the upstream starts, the same page works after the next discovery.
    let _upstream = Standin::start_on(Profile::Standard, upstream_port).unwrap();
    let mut page = browser.decide(&consent, "approve").await;
    for _ in 0..200 {
        if page.status != 503 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        page = browser.decide(&consent, "approve").await;
    }
    let onward = page.onward().expect("on to the upstream");
    let answer = client.follow(&mut browser, onward).await;
    let pair = Pair::of(&client.redeem(&McpClient::code(&answer)).await);
    assert_eq!(client.call(&pair.access, "echo", json!({ "text": "x" })).await.status, 200);
}

#[test]
fn the_flow_command_prints_the_state_machines_as_a_diagram() {
    let output = done(command().arg("flow"));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("stateDiagram"), "{text}");
    for state in [
        "ClientAuthorize",
        "GatewayLogin",
        "UpstreamRedirect",
        "UpstreamCallback",
        "CodeIssued",
    ] {
        assert!(text.contains(state), "{state}");
    }
}

#[tokio::test]
async fn the_healthcheck_command_reports_health_by_its_exit_status() {
    let (data, port) = (tempfile::tempdir().unwrap(), free_port());
    assert_eq!(healthcheck(port).status.code(), Some(1), "nothing listens");
    let gateway = Process::start(NOWHERE, port, data.path(), &[]).await;
    assert_eq!(healthcheck(port).status.code(), Some(0));
    assert!(gateway.terminate().success());
    let upstream = Standin::start(Profile::Standard);
    let other: u16 = upstream.origin().rsplit(':').next().unwrap().parse().unwrap();
    assert_eq!(healthcheck(other).status.code(), Some(1), "something else listens");
}

#[tokio::test]
async fn pairs_survive_a_key_rotation_and_a_broken_key_file_is_ignored() {
    let (upstream, data, port) = (Standin::start(Profile::Standard), tempfile::tempdir().unwrap(), free_port());
    let gateway = Process::start(&upstream.mcp_url(), port, data.path(), &[]).await;
    let client = McpClient::register(&gateway.url).await;
    let before = client.login().await;
    let keys = data.path().join("keys.json");
    let first = std::fs::read_to_string(&keys).unwrap();
    let run = |action: &str| {
        let output = done(command().args(["keyring", "--data-dir"]).arg(data.path()).arg(action));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run("list").lines().count(), 1);
    run("rotate");
    assert_eq!((mode(&keys), run("list").lines().count()), (0o600, 2));
    let secret: Value = serde_json::from_str(&first).unwrap();
    assert!(!run("list").contains(secret["keys"][0]["key"].as_str().unwrap()));
    // As if the five minutes before the new key seals had passed.
    let mut ring: Value = serde_json::from_str(&std::fs::read_to_string(&keys).unwrap()).unwrap();
    ring["keys"][1]["seals_from"] = json!(0);
    std::fs::write(&keys, ring.to_string()).unwrap();
    logged(data.path(), "the key ring was read again").await;
    let works = async |pair: &Pair| client.call(&pair.access, "echo", json!({ "text": "x" })).await.status == 200;
    let after = client.login().await;
    assert!(works(&before).await && works(&after).await, "a registration of the old key, too");
    let next = Pair::of(&client.refresh(&before.refresh).await);
    assert!(works(&next).await);
    std::fs::write(&keys, "broken").unwrap();
    logged(data.path(), "the new key file is not good").await;
    assert!(works(&after).await);
    // With the first key alone, newer pairs are refused: the second key had sealed them.
    std::fs::write(&keys, first).unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(works(&before).await && !works(&after).await);
}

/// A gateway without `--host` is not reachable from other machines.
#[tokio::test]
async fn a_gateway_listens_on_loopback_only_by_default() {
    let (data, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut command = command();
    command
        .args(["--upstream-rs", NOWHERE, "--port", &port.to_string(), "--data-dir"])
        .arg(data.path());
    let _gateway = started(command, port, data.path());
    let mut found = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in std::fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (address, local_port) = fields[1].split_once(':').unwrap();
            if local_port == format!("{port:04X}") && fields[3] == "0A" {
                found.push(address.to_owned());
            }
        }
    }
    assert!(!found.is_empty());
    for address in found {
        assert!(
            ["0100007F", "00000000000000000000000001000000"].contains(&address.as_str()),
            "{address}"
        );
    }
}

/// Logs at `trace` level through a complete flow and searches the log for every secret.
#[tokio::test]
async fn the_trace_log_of_a_complete_flow_contains_no_secret() {
    for profile in [Profile::Standard, Profile::GitHub] {
        let (upstream, data, port) = (Standin::start(profile), tempfile::tempdir().unwrap(), free_port());
        let mut command = command();
        command.args([
            "--upstream-rs",
            &upstream.mcp_url(),
            "--host",
            "127.0.0.1",
            "--log",
            "trace",
            "--port",
            &port.to_string(),
        ]);
        command
            .args(["--public-url", &format!("http://127.0.0.1:{port}"), "--data-dir"])
            .arg(data.path());
        if profile == Profile::GitHub {
            command
                .env("MCP_GATEWAY_UPSTREAM_CLIENT_ID", CLIENT_ID)
                .env("MCP_GATEWAY_UPSTREAM_CLIENT_SECRET", CLIENT_SECRET);
        }
        let gateway = started(command, port, data.path());
        let client = McpClient::register(&gateway.url).await;
        let mut browser = Browser::default();
        let next = browser.get(&client.authorize_url()).await.onward().unwrap();
        let page = browser.get(&next).await;
        browser.sign_in(&page, USER, "canary-wrong-password").await;
        let consent = browser.sign_in(&page, USER, PASSWORD).await;
        let mut secrets = vec![
            PASSWORD.to_owned(),
            "canary-wrong-password".to_owned(),
            client.state.clone(),
            page.field("form"),
            consent.field("form"),
        ];
        secrets.extend(browser.cookies.values().cloned());
        let onward = browser.decide(&consent, "approve").await.onward().unwrap();
        secrets.extend(browser.cookies.values().cloned());
        let callback = browser.get(&onward).await.onward().unwrap();
        secrets.extend([param(&callback, "state").unwrap(), param(&callback, "code").unwrap()]);
        let answer = browser.get(&callback).await.onward().unwrap();
        browser.get(&callback).await;
        let code = McpClient::code(&answer);
        refused(
            &client.redeem_with(&[("code", &code), ("code_verifier", "canary-verifier")]).await,
            400,
            "invalid_grant",
        );
        let pair = Pair::of(&client.redeem(&code).await);
        let next = Pair::of(&client.refresh(&pair.refresh).await);
        client.call(&next.access, "echo", json!({ "text": "canary-argument" })).await;
        client.call(&next.refresh, "echo", json!({ "text": "canary-argument" })).await;
        upstream.revoke_all();
        client.call(&next.access, "echo", json!({ "text": "canary-argument" })).await;
        client.refresh(&next.refresh).await;
        client.revoke(&next.refresh).await;
        refused(&client.redeem(&code).await, 400, "invalid_grant");
        secrets.extend([
            code.split_once('.').unwrap().1.to_owned(),
            client.verifier.expose().to_owned(),
            "canary".to_owned(),
        ]);
        secrets.extend([pair.access, pair.refresh, next.access, next.refresh, CLIENT_SECRET.to_owned()]);
        secrets.extend(upstream.issued_access());
        secrets.extend(upstream.refreshes());
        let keys: Value = serde_json::from_str(&std::fs::read_to_string(data.path().join("keys.json")).unwrap()).unwrap();
        secrets.push(keys["keys"][0]["key"].as_str().unwrap().to_owned());
        assert!(gateway.terminate().success());
        let log = log_of(data.path());
        assert!(log.contains("signed in") && log.contains("consent given"), "{log}");
        for secret in secrets {
            assert!(secret.len() >= 5, "{secret:?} would be found anywhere");
            assert!(!log.contains(&secret), "{secret} in {log}");
        }
        // The store contains no upstream token in clear text either.
        let store = std::fs::read_dir(data.path()).unwrap().map(|file| file.unwrap().path());
        for file in store.filter(|file| file.extension().is_some() && !file.ends_with("keys.json")) {
            let bytes = std::fs::read(&file).unwrap();
            for token in upstream.issued_access() {
                assert!(!bytes.windows(token.len()).any(|w| w == token.as_bytes()), "{}", file.display());
            }
        }
    }
}

/// On a terminal, a person reads what to do next instead of log lines.
#[test]
fn a_terminal_gets_a_greeting_instead_of_log_lines() {
    let (data, port) = (tempfile::tempdir().unwrap(), free_port());
    let flags = "--upstream-client-id id --token-mode plain --allow-token-passthrough";
    let text = on_a_terminal(flags, port, data.path());
    for part in [
        format!("Address    http://localhost:{port}/mcp"),
        format!("Register   http://localhost:{port}/upstream/callback"),
        "MCP OAuth Gateway is listening.".to_owned(),
        "User       gateway, with the password above".to_owned(),
        format!("claude mcp add --transport http gateway http://localhost:{port}/mcp"),
        "can read the upstream's token in it".to_owned(),
    ] {
        assert!(text.contains(&part), "{part}: {text}");
    }
    assert!(!text.contains("listening; give"), "{text}");
    // The gateway registers itself, so there is nothing to register. The password was shown before.
    let text = on_a_terminal("--token-mode plain --allow-token-passthrough", free_port(), data.path());
    assert!(!text.contains("Register"), "{text}");
    assert!(text.contains("User       gateway, with the password of the first start"), "{text}");
}

/// What a gateway prints on a terminal until it is ready.
fn on_a_terminal(flags: &str, port: u16, data: &Path) -> String {
    let gateway = command();
    let line = format!(
        "exec '{}' --upstream-rs {NOWHERE} {flags} --port {port} --data-dir '{}'",
        gateway.get_program().to_string_lossy(),
        data.display()
    );
    // `script` gives the command a pseudo-terminal.
    let mut terminal = Command::new("script")
        .args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(terminal.stdout.take().unwrap());
    let mut text = String::new();
    // The greeting, the warning, and that the upstream is not reachable, in any order.
    let last = [
        "Ctrl-C stops the gateway",
        "can read the upstream's token",
        "authorization server was not found",
    ];
    while !last.iter().all(|part| text.contains(part)) {
        assert_ne!(std::io::BufRead::read_line(&mut lines, &mut text).unwrap(), 0, "{text}");
    }
    // The hash of the new password is stored after the start.
    for _ in 0..1_000 {
        if data.join("password-hash").exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    text
}
