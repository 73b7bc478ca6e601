//! The commands of `docs/resource-servers.md`, run as the document has them, and their output compared with the document.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::servers::FILES;
use crate::site::Site;
use crate::support::browser::Browser;
use crate::support::client::{McpClient, Pair};
use crate::support::world::{PASSWORD, USER};

const DOCUMENT: &str = include_str!("../../docs/resource-servers.md");
/// The public URL in the document.
const PUBLIC_URL: &str = "https://gateway.example.com";
/// A variable or a placeholder of the document, and its value, which an earlier command printed.
type Printed = (&'static str, String);

/// A command of the document, and the output that the document shows below it.
struct Step {
    command: String,
    output: Option<&'static str>,
}

/// The code blocks of a section with this info string.
fn blocks(section: &str, language: &str) -> Vec<&'static str> {
    let (_, text) = DOCUMENT.split_once(&format!("\n## {section}\n")).expect(section);
    let text = text.split("\n## ").next().unwrap();
    let parts = text.split("```").skip(1).step_by(2);
    parts.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n')).collect()
}

/// The commands of a section, in their order.
fn steps(section: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut is_continued = false;
    for line in blocks(section, "").into_iter().flat_map(str::lines).filter(|line| !line.is_empty()) {
        match steps.last_mut() {
            Some(step) if is_continued => step.command.extend(["\n", line]),
            Some(step) if line.starts_with('{') => step.output = Some(line),
            _ => steps.push(Step {
                command: line.to_owned(),
                output: None,
            }),
        }
        is_continued = line.ends_with('\\');
    }
    steps
}

/// Whether `text` is what the document shows, where `…` stands for anything.
fn is_shown(shown: &str, text: &str) -> bool {
    let mut parts = shown.split('…');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let mut last = "";
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        last = part;
    }
    rest.is_empty() || (shown.contains('…') && text.ends_with(last))
}

/// Runs a command of the document in a shell. Returns its output, with the URL of the document.
fn run(site: &Site, step: &Step, values: &[Printed]) -> String {
    let mut text = step.command.replace(PUBLIC_URL, &site.gateway.url);
    let mut shell = Command::new("sh");
    for (name, value) in values {
        match name.strip_prefix('$') {
            Some(variable) => {
                shell.env(variable, value);
            }
            None => text = text.replace(name, value),
        }
    }
    let path = format!("{}:{}", site.dir().join("bin").display(), std::env::var("PATH").unwrap());
    let done = shell
        .args(["-euc", &text])
        .current_dir(site.dir())
        .env("PATH", path)
        .env("MCP_GATEWAY_USERNAME", USER)
        .env("MCP_GATEWAY_PASSWORD", PASSWORD)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{text}: {errors}\nthe commands need curl on the PATH");
    let output = String::from_utf8(done.stdout).unwrap().replace(&site.gateway.url, PUBLIC_URL);
    let output = output.trim_end().to_owned();
    if let Some(shown) = step.output {
        assert!(
            is_shown(shown, &output),
            "{text}\nthe document shows {shown}\nbut it prints   {output}"
        );
    }
    output
}

fn member(output: &str, name: &str) -> String {
    let value: Value = serde_json::from_str(output).unwrap();
    value[name].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_of_the_document_print_what_the_document_shows() {
    let [config] = blocks("Set up", "toml")[..] else {
        panic!("one configuration")
    };
    let site = Site::start(config, PUBLIC_URL).await;
    std::fs::create_dir(site.dir().join("bin")).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_mcp-oauth-gateway"), site.dir().join("bin/mcp-oauth-gateway")).unwrap();
    let mut values: Vec<Printed> = Vec::new();
    // A key for the server of the configuration file.
    let [add_key] = &steps("Set up")[..] else { panic!("one command") };
    values.push(("$KEY", run(&site, add_key, &values)));
    // A server that its owner registers.
    let [add_admin_key, register, add_server_key] = &steps("While the gateway runs")[..] else {
        panic!("three commands")
    };
    values.push(("$ADMIN_KEY", run(&site, add_admin_key, &values)));
    let server = member(&run(&site, register, &values), "server_id");
    values.push(("srv_…", server));
    assert!(member(&run(&site, add_server_key, &values), "key_secret").starts_with("sk_"));
    // A user signs in with a client, and the server asks about the token.
    let client = McpClient::register(&site.gateway.url).await.at("files");
    let url = client.authorize_url_with(&[("resource", FILES), ("scope", "files:read openid profile")]);
    let answer = client.browse_from(&mut Browser::default(), &url).await;
    let pair = Pair::of(&client.redeem(&McpClient::code(&answer)).await);
    values.extend([("$TOKEN", pair.access), ("$CLIENT", client.id)]);
    let [introspect, user_data, revoke, introspect_again] = &steps("With curl")[..] else {
        panic!("four commands")
    };
    assert_eq!(introspect.command, introspect_again.command);
    for step in [introspect, user_data, revoke, introspect_again] {
        let output = run(&site, step, &values);
        assert_eq!(output.is_empty(), step.output.is_none(), "{}: {output}", step.command);
    }
}

#[test]
fn the_walk_through_compares_output_with_what_is_shown() {
    assert!(is_shown(r#"{"a":"…","b":1}"#, r#"{"a":"x","b":1}"#));
    assert!(is_shown(r#"{"a":1,…}"#, r#"{"a":1,"b":2}"#));
    assert!(!is_shown(r#"{"a":1}"#, r#"{"a":1,"b":2}"#));
    assert!(!is_shown(r#"{"active":false}"#, r#"{"active":true}"#));
    assert!(!is_shown(r#"{"a":"…","b":1}"#, r#"{"a":"x","c":1}"#));
}
