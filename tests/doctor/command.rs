//! The command `doctor`: output, exit codes, and the gateway's own services at their public URLs.

use std::process::{Command, Output};

use mcp_oauth_gateway::agent::clients;
use mcp_oauth_gateway::agent::doctor::rule::RULES;
use serde_json::Value;

use crate::server::Change::{Header, Member};
use crate::server::{Mutation, Running, USUAL};
use crate::support::port::free_port;

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-oauth-gateway"));
    command.env_clear().arg("doctor").args(arguments);
    command
}

/// Runs the command on a thread of its own: the server that it asks runs on this one.
async fn run(arguments: &[&str]) -> (i32, String, String) {
    let mut command = command(arguments);
    let output: Output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

const MISMATCH: &[Mutation] = &[
    Mutation {
        on: "GET /.well-known/oauth-protected-resource/mcp",
        only: "",
        changes: &[Member("resource", r#""{base}""#)],
    },
    Mutation {
        on: "HEAD /mcp",
        only: "",
        changes: &[Header("www-authenticate", "")],
    },
];

#[tokio::test]
async fn the_exit_code_and_the_first_lines_say_whether_a_person_must_act() {
    let sound = Running::start(USUAL, &[], false);
    let (code, out, _) = run(&[&format!("{}/mcp", sound.base)]).await;
    assert_eq!(code, 0, "{out}");
    assert_eq!(out.lines().filter(|line| line.starts_with("  ok ")).count(), 20, "{out}");
    assert!(out.contains("no credential among them; nothing registered"), "{out}");

    let broken = Running::start(USUAL, MISMATCH, false);
    let url = format!("{}/mcp", broken.base);
    let (code, out, _) = run(&[&url, "--json"]).await;
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &report["exit"], &report["registered"]),
        (1, &1.into(), &Value::Array(vec![]))
    );
    let finding = &report["findings"][0];
    assert_eq!(
        (&finding["name"], &finding["severity"]),
        (&"resource-not-equal".into(), &"error".into())
    );
    assert_eq!((&finding["fault"], &finding["clause"]), (&"server".into(), &"RFC 9728 §3.3".into()));
    assert!(finding["clients"].as_array().unwrap().contains(&"gemini-cli".into()), "{finding}");
    let stopped = report["clients"]
        .as_array()
        .unwrap()
        .iter()
        .find(|client| client["client"] == "gemini-cli")
        .unwrap();
    assert_eq!(
        (&stopped["outcome"], &stopped["step"]),
        (&"refused".into(), &"resource metadata".into())
    );

    // A client that does not compare is let in: only what concerns all clients remains.
    let (code, out, _) = run(&[&url, "--client", "codex", "--register"]).await;
    assert_eq!(code, 0, "{out}");
    assert!(
        out.contains("codex            reaches the sign-in page") && out.contains("registered there: Codex"),
        "{out}"
    );
    assert!(out.contains("warning head-without-challenge"), "{out}");

    let gone = format!("http://127.0.0.1:{}/mcp", free_port());
    let (code, out, _) = run(&[&gone]).await;
    assert!(code == 2 && out.contains("error unreachable"), "{out}");
}

#[tokio::test]
async fn a_mistake_on_the_command_line_is_named_with_what_to_write_instead() {
    for (arguments, code, parts) in [
        (
            &["https://example.invalid/mcp", "--client", "emacs"][..],
            1,
            ["--client: 'emacs'", "claude-code"],
        ),
        (&["example.com/mcp"][..], 1, ["is not an absolute URL", "https://example.com/mcp"]),
        (&["ftp://example.com/mcp"][..], 1, ["no http or https URL", "https://"]),
        (
            &["--config", "/nowhere/gateway.toml"][..],
            1,
            ["no configuration file", "--config FILE"],
        ),
    ] {
        let (found, out, err) = run(arguments).await;
        assert_eq!(found, code, "{arguments:?}: {out}{err}");
        assert!(parts.iter().all(|part| err.contains(part)), "{arguments:?}: {err}");
    }
    let (code, out, _) = run(&["--list-clients"]).await;
    assert!(code == 0 && clients::all().all(|client| out.contains(client.name)), "{out}");
    let (_, out, _) = run(&["--list-clients", "--json"]).await;
    assert!(
        out.lines()
            .all(|line| serde_json::from_str::<Value>(line).unwrap()["sources"][0].is_string()),
        "{out}"
    );
}

/// A gateway of its own, over TLS with a CA of its own, examined by its configuration file.
#[tokio::test]
async fn the_services_of_a_configuration_file_are_examined_at_their_public_urls() {
    let standin = mcp_gateway_standin::Standin::start(mcp_gateway_standin::Profile::Standard);
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let config = dir.path().join("gateway.toml");
    let upstream = standin.mcp_url();
    let text = format!(
        "listen = \"127.0.0.1:{port}\"\npublic_url = \"https://localhost:{port}\"\nclient_documents = false\n\n\
        [tls]\nself_signed = true\n\n\
        [services.chained]\nurl = \"{upstream}\"\ndefault = true\n\n\
        [services.batch]\nurl = \"{upstream}\"\naccess = \"key\"\nupstream = \"none\"\n"
    );
    std::fs::write(&config, text).unwrap();
    let places = ["--config", config.to_str().unwrap(), "--data-dir", dir.path().to_str().unwrap()];
    let (code, out, err) = run(&places).await;
    assert_eq!(code, 2, "nobody listens yet: {out}{err}");
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    let mut gateway = Command::new(env!("CARGO_BIN_EXE_mcp-oauth-gateway"))
        .env_clear()
        .args(places)
        .stdout(std::process::Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut result = (2, String::new(), String::new());
    for _ in 0..100 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            let arguments = [&places[..], &["--json"]].concat();
            result = run(&arguments).await;
            break;
        }
    }
    gateway.kill().unwrap();
    gateway.wait().unwrap();
    let (code, out, err) = result;
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert_eq!(code, 0, "{out}{err}{log}");
    let reports: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let outcomes = |report: &Value| -> Vec<String> {
        let clients = report["clients"].as_array().unwrap().iter();
        clients.map(|client| client["outcome"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(reports.len(), 2);
    for report in &reports {
        assert_eq!(report["findings"], Value::Array(vec![]), "{report}");
        let expected = if report["url"].as_str().unwrap().ends_with("/batch") {
            "needs-key"
        } else {
            "sign-in"
        };
        assert!(outcomes(report).iter().all(|outcome| outcome == expected), "{report}");
    }
}

#[test]
fn the_documented_findings_and_clients_are_those_of_the_program() {
    let document = std::fs::read_to_string(format!("{}/docs/doctor.md", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (_, table) = document.split_once("## Findings\n").unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| `")).collect();
    let expected: Vec<String> = RULES
        .iter()
        .map(|rule| {
            let (name, severity, fault) = (rule.name, rule.severity.as_str(), rule.fault.as_str());
            format!("| `{name}` | {severity} | {fault} | {} | {} |", rule.clause, rule.meaning)
        })
        .collect();
    let path = format!("{}/findings.md", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&path, expected.join("\n")).unwrap();
    assert_eq!(rows, expected, "copy {path} into docs/doctor.md");
    let named = |name: &str| document.contains(&format!("`{name}`"));
    assert!(
        clients::all().all(|client| named(client.name)),
        "docs/doctor.md does not name a client"
    );
}

#[test]
fn the_documented_behaviour_of_clients_is_that_of_the_profiles() {
    let document = std::fs::read_to_string(format!("{}/docs/clients.md", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (_, section) = document.split_once("## What each client does\n").unwrap();
    let rows: Vec<&str> = section
        .lines()
        .take_while(|line| !line.starts_with("## "))
        .filter(|line| line.starts_with("| `"))
        .collect();
    let expected: Vec<String> = clients::all()
        .map(|client| {
            let names_itself = if client.document.is_some() {
                "document, or registration"
            } else {
                "registration"
            };
            let uris: Vec<String> = client
                .registration
                .redirect_uris
                .iter()
                .map(|uri| format!("`{}`", uri.replace(":41234", ":…")))
                .collect();
            let (uris, refresh) = (uris.join(", "), client.refresh.sentence());
            format!(
                "| `{}` | {} | {names_itself} | {uris} | {refresh} | {} |",
                client.name, client.title, client.limits
            )
        })
        .collect();
    let path = format!("{}/clients.md", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&path, expected.join("\n")).unwrap();
    assert_eq!(rows, expected, "copy {path} into docs/clients.md");
}
