//! The key files of the binary.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use mcp_oauth_gateway::base::random;
use mcp_oauth_gateway::token::local_key::LocalKeyKind;

use crate::bridge::{has_newest_token, whoami};
use crate::site::Site;
use crate::support::process::logged;

fn mode(site: &Site, name: &str) -> u32 {
    let metadata = std::fs::metadata(site.path().join(name)).unwrap();
    metadata.permissions().mode() & 0o7777
}

fn set_mode(site: &Site, name: &str, mode: u32) {
    std::fs::set_permissions(site.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Waits until a call with this key gets this status.
async fn until_status(site: &Site, key: &str, status: u16) {
    for _ in 0..100 {
        if whoami(&site.program(), key).await.status == status {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("never {status}");
}

#[tokio::test]
async fn first_start_creates_private_key_files_and_restarts_keep_them() {
    let site = Site::new();
    let process = site.start().await;
    let key = site.key();
    assert!(key.starts_with("gwl_") && key.len() == 47, "{} characters", key.len());
    assert_eq!((mode(&site, "local-key"), mode(&site, "adapter-key")), (0o600, 0o600));
    // A credential that another process writes is used at once.
    site.sign_in().await;
    has_newest_token(&site.standin, &site.call().await);
    let log = std::fs::read_to_string(site.path().join("log")).unwrap();
    for secret in [&key, site.standin.issued_access().last().unwrap()] {
        assert!(!log.contains(secret.as_str()), "a secret is in the log");
    }
    assert!(process.terminate().success());
    let _process = site.start().await;
    assert_eq!(site.key(), key);
    has_newest_token(&site.standin, &site.call().await);
}

#[tokio::test]
async fn running_gateway_takes_a_new_key_and_closes_for_a_readable_file() {
    let site = Site::new();
    let _process = site.start().await;
    site.sign_in().await;
    let old = site.key();
    until_status(&site, &old, 200).await;
    let new = LocalKeyKind::Local.encode(&random::bytes());
    let temporary = site.path().join("new-key");
    std::fs::write(&temporary, new.expose()).unwrap();
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(&temporary, site.path().join("local-key")).unwrap();
    until_status(&site, new.expose(), 200).await;
    assert_eq!(whoami(&site.program(), &old).await.status, 401);
    // Other users can read the key now, so it opens nothing any more.
    set_mode(&site, "local-key", 0o644);
    until_status(&site, new.expose(), 401).await;
    set_mode(&site, "local-key", 0o600);
    until_status(&site, new.expose(), 200).await;
}

#[tokio::test]
async fn gateway_does_not_start_with_a_key_file_that_others_can_read_or_that_holds_no_key() {
    let site = Site::new();
    drop(site.start().await);
    set_mode(&site, "local-key", 0o644);
    let status = site.command().status().unwrap();
    assert!(!status.success());
    logged(&site.path().join("log"), &["chmod 600"]).await;
    set_mode(&site, "local-key", 0o600);
    std::fs::write(site.path().join("local-key"), "password\n").unwrap();
    assert!(!site.command().status().unwrap().success());
    logged(&site.path().join("log"), &["does not hold a key"]).await;
}

#[test]
fn stored_services_need_a_store() {
    let site = Site::new();
    let file = site.path().join("gateway.toml");
    let configured = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{configured}[store]\nkind = \"none\"\n")).unwrap();
    let output = site.command().stderr(std::process::Stdio::piped()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        text.contains("stored credential") && text.contains("store = \"none\"") && text.contains("'default'"),
        "{text}"
    );
}

const PASSPHRASE: &str = "four quiet words here";

/// The key file as it lies on the disk.
fn key_file(site: &Site) -> String {
    std::fs::read_to_string(site.path().join("keys.json")).unwrap()
}

/// Starts with this passphrase.
async fn started_with(site: &Site, passphrase: &str) -> crate::support::process::Process {
    site.ready(site.command().env("MCP_GATEWAY_PASSPHRASE", passphrase)).await
}

/// Asserts that no start succeeds with this passphrase, and that nothing on the disk changes.
fn does_not_start(site: &Site, passphrase: Option<&str>, text: &str) {
    let before = key_file(site);
    let mut command = site.command();
    if let Some(passphrase) = passphrase {
        command.env("MCP_GATEWAY_PASSPHRASE", passphrase);
    }
    let output = command.stderr(std::process::Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(text), "{said}");
    assert!(!said.contains(PASSPHRASE), "{said}");
    assert_eq!(key_file(site), before);
}

#[tokio::test]
async fn passphrase_locks_the_key_file_and_a_wrong_one_is_never_an_empty_store() {
    let site = Site::new();
    // A gateway without a passphrase gets one later. Its records stay readable.
    drop(site.start().await);
    site.sign_in().await;
    assert!(key_file(&site).contains("seals_from"));
    drop(started_with(&site, PASSPHRASE).await);
    let locked = key_file(&site);
    assert!(locked.contains("argon2id") && !locked.contains("seals_from") && mode(&site, "keys.json") == 0o600);
    does_not_start(&site, None, "MCP_GATEWAY_PASSPHRASE");
    does_not_start(&site, Some("four quiet words her"), "the passphrase is wrong");
    does_not_start(&site, Some(""), "MCP_GATEWAY_PASSPHRASE");
    let _process = started_with(&site, PASSPHRASE).await;
    has_newest_token(&site.standin, &site.call().await);
}

#[tokio::test]
async fn new_gateway_with_a_passphrase_never_writes_readable_keys_and_refuses_a_weak_one() {
    let site = Site::new();
    let mut weak = site.command();
    let output = weak
        .env("MCP_GATEWAY_PASSPHRASE", "short")
        .stderr(std::process::Stdio::piped())
        .output()
        .unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("passphrase"));
    assert!(!site.path().join("keys.json").exists());
    drop(started_with(&site, PASSPHRASE).await);
    assert!(key_file(&site).contains("argon2id"));
}

#[tokio::test]
async fn keyring_commands_rotate_change_and_remove_under_a_passphrase() {
    use std::io::Write as _;
    let site = Site::new();
    drop(started_with(&site, PASSPHRASE).await);
    let keyring = |action: &str, passphrase: Option<&str>, input: &str| {
        let mut command = crate::support::process::command();
        command
            .args(["keyring", action, "--data-dir"])
            .arg(site.path())
            .stdin(std::process::Stdio::piped());
        if let Some(passphrase) = passphrase {
            command.env("MCP_GATEWAY_PASSPHRASE", passphrase);
        }
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    assert!(keyring("rotate", Some(PASSPHRASE), "").0);
    assert!(key_file(&site).contains("argon2id"), "a rotation keeps the lock");
    assert_eq!(keyring("list", Some(PASSPHRASE), "").1.lines().count(), 2);
    let before = key_file(&site);
    assert!(!keyring("rotate", Some("another passphrase"), "").0);
    assert!(!keyring("passphrase", Some(PASSPHRASE), "short\n").0);
    assert!(!keyring("passphrase", None, "another passphrase\n").0);
    assert_eq!(key_file(&site), before, "a failure changes nothing");
    assert!(keyring("passphrase", Some(PASSPHRASE), "another passphrase\n").0);
    assert!(!keyring("list", Some(PASSPHRASE), "").0 && keyring("list", Some("another passphrase"), "").0);
    assert!(keyring("passphrase", Some("another passphrase"), "\n").0);
    assert_eq!(keyring("list", None, "").1.lines().count(), 2);
}
