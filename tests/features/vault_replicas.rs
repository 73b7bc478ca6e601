//! Two replicas on one simulated Vault, as processes with a configuration file.

use std::path::Path;
use std::process::{Command, Stdio};

use mcp_gateway_standin::{Profile, Standin};
use serde_json::json;

use crate::support::browser::Browser;
use crate::support::client::McpClient;
use crate::support::port::free_port;
use crate::support::process::{Process, command};
use crate::support::vault::{ROLE, Vault};

/// Starts a replica on this port. Clients use `public_url`.
async fn instance(vault: &Vault, standin: &Standin, public_url: &str, port: u16, data: &Path) -> Process {
    Process::ready(&mut prepared(vault, standin, public_url, port, data), port, data).await
}

fn prepared(vault: &Vault, standin: &Standin, public_url: &str, port: u16, data: &Path) -> Command {
    let config = data.join("config.toml");
    let text = format!(
        "public_url = \"{public_url}\"\nlisten = [\"127.0.0.1:{port}\"]\nallowed_hosts = [\"127.0.0.1:{port}\"]\ndata_dir = \"{}\"\nlog = \"debug\"\n[services.default]\nurl = \"{}\"\ndefault = true\n[store]\nkind = \"vault\"\nurl = \"{}\"\nrole_id = \"{}\"\nsecret_id = \"{}\"\n",
        data.display(),
        standin.mcp_url(),
        vault.url(),
        ROLE.0,
        ROLE.1
    );
    std::fs::write(&config, text).unwrap();
    let log = std::fs::File::options().create(true).append(true).open(data.join("log")).unwrap();
    let mut command = command();
    command.env("MCP_GATEWAY_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
    command.arg("--config").arg(&config).stdout(Stdio::null()).stderr(log);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vault_behind_a_private_ca_requires_the_ca_setting() {
    let (vault, standin) = (Vault::with_tls(&["127.0.0.1"]), Standin::start(Profile::Standard));
    let (port, data) = (free_port(), tempfile::tempdir().unwrap());
    let public_url = format!("http://127.0.0.1:{port}");
    let mut command = prepared(&vault, &standin, &public_url, port, data.path());
    assert!(!command.status().unwrap().success());
    let log = std::fs::read_to_string(data.path().join("log")).unwrap();
    assert!(log.contains("certificate") && log.contains("ca = "), "{log}");
    assert!(!log.contains(ROLE.1), "{log}");

    let config = data.path().join("config.toml");
    let mut text = std::fs::read_to_string(&config).unwrap();
    text += &format!("ca = \"{}\"\n", vault.ca().display());
    std::fs::write(&config, text).unwrap();
    let process = Process::ready(&mut command, port, data.path()).await;
    let client = McpClient::register(&process.url).await;
    let pair = client.login().await;
    let called = client.call(&pair.access, "echo", json!({ "text": "x" })).await;
    assert_eq!(called.status, 200, "{}", called.text);
    assert!(process.terminate().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vault_replicas_share_refreshes_and_revocations_after_a_kill() {
    let (vault, standin) = (Vault::start(), Standin::start(Profile::Standard));
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let ports = [free_port(), free_port()];
    let public_url = format!("http://127.0.0.1:{}", ports[0]);
    let first = instance(&vault, &standin, &public_url, ports[0], dirs[0].path()).await;
    let second = instance(&vault, &standin, &public_url, ports[1], dirs[1].path()).await;
    let client = McpClient::register(&first.url).await;
    let mut there = client.clone();
    there.base.clone_from(&second.url);
    there.http = Browser::default();

    let pair = client.login().await;
    let called = async |client: &McpClient, access: &str| client.call(access, "echo", json!({ "text": "x" })).await.status;
    assert_eq!(called(&there, &pair.access).await, 200);
    let refreshed = there.refresh(&pair.refresh).await;
    assert_eq!(refreshed.status, 200, "{}", refreshed.text);
    // The replica that signed the user in is killed and restarted.
    first.kill();
    let first = instance(&vault, &standin, &public_url, ports[0], dirs[0].path()).await;
    let token = refreshed.json()["refresh_token"].as_str().unwrap().to_owned();
    let again = client.refresh(&token).await.json();
    let (access, refresh) = (again["access_token"].as_str().unwrap(), again["refresh_token"].as_str().unwrap());
    assert_eq!(called(&there, access).await, 200);
    assert_eq!(client.revoke(refresh).await.status, 200);
    let mut status = called(&there, access).await;
    for _ in 0..1000 {
        if status == 401 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        status = called(&there, access).await;
    }
    assert_eq!(status, 401);
    assert_eq!(there.refresh(refresh).await.json()["error"], "invalid_grant");
    assert!(second.terminate().success() && first.terminate().success());
}
