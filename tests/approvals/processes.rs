//! The binary: commands beside it, a kill while a call is executed, two instances on one Redis.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::service::password_user;
use serde_json::{Value, json};

use crate::scene::{Era, again, call, last_message, text};
use crate::support::client::McpClient;
use crate::support::port::free_port;
use crate::support::process::{Process, command};
use crate::support::world::{PASSWORD, USER};
use crate::upstream::{Upstream, tool};

/// Writes a configuration file with one service that asks for each call.
pub(crate) fn configure(dir: &Path, port: u16, upstream: &Upstream) -> std::path::PathBuf {
    let file = dir.join("gateway.toml");
    let text = format!(
        "public_url = \"http://127.0.0.1:{port}\"\nlisten = [\"127.0.0.1:{port}\"]\ndata_dir = \"{}\"\n[services.tracker]\nurl = \"{}\"\nupstream = \"none\"\n[services.tracker.tools]\ndefault = \"ask\"\napproval_hold = 2\nrules = {{ \"read_*\" = \"allow\" }}\n",
        dir.display(),
        upstream.url
    );
    std::fs::write(&file, text).unwrap();
    file
}

pub(crate) async fn start(dir: &Path, port: u16, file: &Path) -> Process {
    let log = std::fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
    let mut command = command();
    command.arg("--config").arg(file).stdout(Stdio::null()).stderr(log);
    Process::ready(&mut command, port, dir).await
}

/// Runs a command with the password on standard input.
pub(crate) fn run(file: &Path, arguments: &[&str], password: &str) -> Output {
    run_with(&[], file, arguments, password)
}

/// Runs a command with more of an environment.
pub(crate) fn run_with(environment: &[(&str, &str)], file: &Path, arguments: &[&str], password: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-oauth-gateway"));
    command
        .env_clear()
        .env("MCP_GATEWAY_USERNAME", USER)
        .env("MCP_GATEWAY_PASSWORD", PASSWORD)
        .envs(environment.iter().copied());
    let file = ["--config", file.to_str().unwrap()];
    run_as(command, &[arguments, &file].concat(), password)
}

/// Runs a command in its own environment.
fn run_as(mut command: Command, arguments: &[&str], password: &str) -> Output {
    let mut child = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

pub(crate) fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) async fn rpc(client: &McpClient, access: &str, message: &Value) -> Value {
    last_message(&client.mcp(http::Method::POST, access, Some(message.clone())).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_list_decide_and_manage_pins_beside_a_running_gateway() {
    let upstream = Upstream::start(vec![vec![tool("pay", "Pays \u{1b}[31m"), tool("read_all", "Reads")]]).await;
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let file = configure(dir.path(), port, &upstream);
    let gateway = start(dir.path(), port, &file).await;
    let client = McpClient::register(&gateway.url).await;
    let access = client.login().await.access;
    let first = call(1, "pay", json!({"to": "mallory\u{1b}[2J"}), Era::Url);
    let state = rpc(&client, &access, &first).await["result"]["requestState"].clone();
    let listed = lines(&run(&file, &["approvals", "list", "--json"], ""));
    assert_eq!(
        (listed.len(), &listed[0]["tool"], &listed[0]["state"]),
        (1, &"pay".into(), &"proposed".into())
    );
    let id = listed[0]["id"].as_str().unwrap();
    let table = run(&file, &["approvals", "list"], "");
    assert!(!table.stdout.contains(&0x1b), "no control characters reach the terminal");
    for (password, arguments) in [
        ("wrong", vec!["approvals", "approve", id, "--password-stdin"]),
        ("", vec!["approvals", "approve", id]),
    ] {
        let refused = run(&file, &arguments, password);
        assert!(!refused.status.success(), "{refused:?}");
    }
    assert!(upstream.calls().is_empty());
    let approved = run(&file, &["approvals", "approve", id, "--password-stdin"], PASSWORD);
    assert!(approved.status.success(), "{approved:?}");
    let shown = String::from_utf8(approved.stderr).unwrap();
    assert!(
        shown.contains("pay at tracker") && shown.contains("\"to\": \"mallory\\u001b[2J\""),
        "{shown}"
    );
    assert_eq!(text(&rpc(&client, &access, &again(2, &first, &state, Value::Null)).await), "done 1");
    let twice = run(&file, &["approvals", "deny", id, "--password-stdin"], PASSWORD);
    assert!(String::from_utf8_lossy(&twice.stderr).contains("already decided"), "{twice:?}");
    let pins = lines(&run(&file, &["pins", "list", "tracker", "--json"], ""));
    let (all, digest) = (pins[0]["digest"].as_str().unwrap(), pins[1]["latest"].as_str().unwrap());
    for (expected, succeeds) in [(digest, false), (all, true)] {
        let done = run(
            &file,
            &["pins", "approve", "tracker", "--expect", expected, "--password-stdin"],
            PASSWORD,
        );
        assert_eq!(done.status.success(), succeeds, "{done:?}");
    }
    let policy = lines(&run(&file, &["policy", "show", "--json"], ""));
    assert_eq!(
        policy.iter().map(|row| row["rule"].as_str().unwrap()).collect::<Vec<_>>(),
        ["ask", "allow", "ask"]
    );
    assert!(run(&file, &["pins", "diff", "tracker"], "").status.success());
    assert!(
        run(&file, &["pins", "reset", "tracker", "--password-stdin"], PASSWORD)
            .status
            .success()
    );
    assert!(!run(&file, &["pins", "list", "tracker"], "").status.success());
}

/// A program on this machine may start the commands, too, with a configuration and variables of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_and_a_password_of_ones_own_cannot_decide() {
    const OWN: &str = "mallory-is-here-17";
    let upstream = Upstream::start(vec![vec![tool("pay", "Pays")]]).await;
    let (dir, own, port) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), free_port());
    let file = configure(dir.path(), port, &upstream);
    let gateway = start(dir.path(), port, &file).await;
    let client = McpClient::register(&gateway.url).await;
    let access = client.login().await.access;
    let first = call(1, "pay", json!({}), Era::Url);
    let state = rpc(&client, &access, &first).await["result"]["requestState"].clone();
    let listed = lines(&run(&file, &["approvals", "list", "--json"], ""));
    let id = listed[0]["id"].as_str().unwrap();
    let pins = lines(&run(&file, &["pins", "list", "tracker", "--json"], ""));
    let digest = pins[0]["digest"].as_str().unwrap();
    // The same data directory, with the gateway's user or another one as approver, and an own password.
    let hash = password_user::hash(&Secret::from(OWN)).unwrap();
    for user in [USER, "mallory"] {
        let forged = own.path().join("gateway.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let login =
            format!("[console]\napprovers = [\"{user}\"]\n[login.password]\nusers = [{{ name = \"{user}\", hash = \"{hash}\" }}]\n");
        std::fs::write(&forged, text + &login).unwrap();
        for arguments in [
            vec!["approvals", "approve", id, "--password-stdin"],
            vec!["approvals", "approve", id, "--password-stdin", "--user", user],
            vec!["pins", "approve", "tracker", "--expect", digest, "--password-stdin", "--user", user],
            vec!["pins", "reset", "tracker", "--password-stdin", "--user", user],
        ] {
            let refused = run(&forged, &arguments, OWN);
            assert!(!refused.status.success(), "{arguments:?}: {refused:?}");
            assert!(String::from_utf8_lossy(&refused.stderr).contains("is wrong"), "{refused:?}");
        }
    }
    // Nor does a password that the command's own environment names.
    let data = dir.path().to_str().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-oauth-gateway"));
    command.env_clear().env("MCP_GATEWAY_PASSWORD", OWN);
    let refused = run_as(command, &["approvals", "approve", id, "--password-stdin", "--data-dir", data], OWN);
    assert!(!refused.status.success(), "{refused:?}");
    assert!(upstream.calls().is_empty());
    let approved = run(&file, &["approvals", "approve", id, "--password-stdin"], PASSWORD);
    assert!(approved.status.success(), "{approved:?}");
    assert_eq!(text(&rpc(&client, &access, &again(2, &first, &state, Value::Null)).await), "done 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_set_writes_a_rule_that_the_running_gateway_applies() {
    let upstream = Upstream::start(vec![vec![tool("pay", "Pays"), tool("read_all", "Reads")]]).await;
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let file = configure(dir.path(), port, &upstream);
    let before = std::fs::read_to_string(&file).unwrap();
    let set = |arguments: &[&str], password: &str| {
        let output = run(&file, &[&["policy"], arguments].concat(), password);
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let gateway = start(dir.path(), port, &file).await;
    let client = McpClient::register(&gateway.url).await;
    let access = client.login().await.access;
    let pay = call(1, "pay", json!({}), Era::Url);
    let asked = rpc(&client, &access, &pay).await;
    assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");

    for (arguments, password, reason) in [
        (&["set", "tracker", "deny", "--password-stdin"][..], "wrong", "password is wrong"),
        (&["set", "tracker", "deny"], "", "no terminal"),
        (
            &["set", "nothing", "deny", "--password-stdin"],
            PASSWORD,
            "there is no [services.nothing]",
        ),
        (
            &["unset", "tracker", "--tool", "pay", "--password-stdin"],
            PASSWORD,
            "has no such rule",
        ),
    ] {
        let (is_done, message) = set(arguments, password);
        assert!(!is_done && message.contains(reason), "{arguments:?}: {message}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    }

    let (is_done, message) = set(&["set", "tracker", "allow", "--tool", "pay", "--password-stdin"], PASSWORD);
    assert!(is_done && message.contains("has read the configuration again"), "{message}");
    assert_eq!(text(&rpc(&client, &access, &pay).await), "done 1");
    let (is_done, message) = set(&["unset", "tracker", "--tool", "pay", "--password-stdin"], PASSWORD);
    assert!(is_done, "{message}");
    let asked = rpc(&client, &access, &pay).await;
    assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
    let (is_done, message) = set(&["set", "tracker", "deny", "--password-stdin"], PASSWORD);
    assert!(is_done, "{message}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before.replace("\"ask\"", "\"deny\""));
    assert_eq!(upstream.calls().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_while_a_call_is_executed_never_sends_it_twice() {
    for round in 0..4u64 {
        let upstream = Upstream::start(vec![vec![tool("pay", "Pays")]]).await;
        upstream.set(|script| script.delay = Duration::from_secs(30));
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let file = configure(dir.path(), port, &upstream);
        let gateway = start(dir.path(), port, &file).await;
        let client = McpClient::register(&gateway.url).await;
        let access = client.login().await.access;
        let first = call(1, "pay", json!({}), Era::Url);
        let state = rpc(&client, &access, &first).await["result"]["requestState"].clone();
        let listed = lines(&run(&file, &["approvals", "list", "--json"], ""));
        let approved = run(
            &file,
            &["approvals", "approve", listed[0]["id"].as_str().unwrap(), "--password-stdin"],
            PASSWORD,
        );
        assert!(approved.status.success(), "{approved:?}");
        let retry = again(2, &first, &state, Value::Null);
        let calling = {
            let (client, access, retry) = (client.clone(), access.clone(), retry.clone());
            tokio::spawn(async move { client.mcp(http::Method::POST, &access, Some(retry)).await })
        };
        if round == 0 {
            // Certainly sent.
            while upstream.calls().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        } else {
            tokio::time::sleep(Duration::from_millis(round * 7)).await;
        }
        gateway.kill();
        assert!(calling.await.is_err(), "the connection broke");
        let sent = upstream.calls().len();
        assert!(sent <= 1);
        upstream.set(|script| script.delay = Duration::ZERO);
        let _gateway = start(dir.path(), port, &file).await;
        let answer = rpc(&client, &access, &again(3, &first, &state, Value::Null)).await;
        if sent == 1 {
            assert!(text(&answer).contains("outcome is unknown"), "{answer}");
        }
        let again_later = rpc(&client, &access, &again(4, &first, &state, Value::Null)).await;
        assert_eq!(text(&again_later), text(&answer));
        assert!(upstream.calls().len() <= 1, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_has_the_decisions_of_commands() {
    let upstream = Upstream::start(vec![vec![tool("pay", "Pays"), tool("ship", "Ships")]]).await;
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let file = configure(dir.path(), port, &upstream);
    let log = dir.path().join("audit.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}[audit]\nfile = \"{}\"\n", log.display())).unwrap();
    let gateway = start(dir.path(), port, &file).await;
    let client = McpClient::register(&gateway.url).await;
    let access = client.login().await.access;
    let (pay, ship) = (call(1, "pay", json!({}), Era::Url), call(2, "ship", json!({}), Era::Url));
    rpc(&client, &access, &pay).await;
    rpc(&client, &access, &ship).await;
    let listed = lines(&run(&file, &["approvals", "list", "--json"], ""));
    for (verdict, approval) in [("approve", &listed[0]), ("deny", &listed[1])] {
        let id = approval["id"].as_str().unwrap();
        let decided = run(&file, &["approvals", verdict, id, "--password-stdin"], PASSWORD);
        assert!(decided.status.success(), "{decided:?}");
    }
    let pins = lines(&run(&file, &["pins", "list", "tracker", "--json"], ""));
    let digest = pins[0]["digest"].as_str().unwrap();
    let events = |kind: &str| -> Vec<Value> {
        let text = std::fs::read_to_string(&log).unwrap();
        let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        all.filter(|event| event["type"] == kind).collect()
    };
    for (count, arguments) in [
        (1, vec!["pins", "approve", "tracker", "--expect", digest, "--password-stdin"]),
        (2, vec!["pins", "reset", "tracker", "--password-stdin"]),
    ] {
        assert!(run(&file, &arguments, PASSWORD).status.success());
        if count == 2 {
            // Only the next list of the tools shows a reset, on SQLite.
            tokio::time::sleep(Duration::from_secs(1)).await;
            rpc(&client, &access, &json!({"jsonrpc": "2.0", "id": 9, "method": "tools/list"})).await;
        }
        for _ in 0..100 {
            if events("tool_pins_changed").len() == count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let decided = events("tool_call_decided");
    let said: Vec<_> = decided.iter().map(|event| event["data"]["decision"].as_str().unwrap()).collect();
    assert_eq!(said, ["approved", "denied"], "{decided:?}");
    let changed = events("tool_pins_changed");
    let said: Vec<_> = changed.iter().map(|event| event["data"]["change"].as_str().unwrap()).collect();
    assert_eq!(said, ["approved", "reset"], "{changed:?}");
    for event in decided.iter().chain(&changed[..1]) {
        let said = (&event["subjects"]["user"], &event["data"]["by"]);
        assert_eq!(said, (&USER.into(), &"other_process".into()), "{event}");
    }
    assert_eq!(changed[0]["data"]["tools"], "pay ship");
}
