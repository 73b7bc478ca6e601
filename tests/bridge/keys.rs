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
