//! The `api-keys` command, run as a separate process beside a gateway on the same directory.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use mcp_gateway_standin::Profile;
use mcp_oauth_gateway::base::keyring::{self, KeyRing};
use mcp_oauth_gateway::base::time::Clock;
use mcp_oauth_gateway::cli::data_dir;
use mcp_oauth_gateway::service::Access;
use mcp_oauth_gateway::store::{Backend, Sqlite, Store};

use super::access::{beside, call};
use super::cli::{does_not_start, done};
use crate::support::port::free_port;
use crate::support::process::{Process, command};
use crate::support::world::World;

/// Runs the `api-keys` command on a data directory.
struct Operator {
    data: PathBuf,
}

impl Operator {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = command();
        command.arg("api-keys").args(words).arg("--data-dir").arg(&self.data);
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        let output = done(&mut self.command(words));
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Creates a key. Returns the key and its id.
    fn add(&self, words: &[&str]) -> (String, String) {
        let output = self.run(&[&["add"], words].concat());
        let (key, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        let key = key.strip_suffix('\n').unwrap();
        assert!(!key.contains(char::is_whitespace), "nothing but the key can be piped on: {key}");
        assert!(!said.contains(key), "{said}");
        let id = said.split("api-keys revoke ").nth(1).unwrap().split_whitespace().next().unwrap();
        (key.to_owned(), id.to_owned())
    }

    /// Lists one line of columns for each key, without the heading.
    fn list(&self) -> Vec<Vec<String>> {
        let text = String::from_utf8(self.run(&["list"]).stdout).unwrap();
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
        text.lines().skip(1).map(words).collect()
    }
}

/// Starts a gateway on this directory, with the API-key service `batch`.
async fn serving(data: &Path) -> World {
    let file = data.join(data_dir::KEY_FILE);
    if !file.exists() {
        data_dir::write_secret(&file, &keyring::generate(Clock::System.now())).unwrap();
    }
    let ring = KeyRing::parse(data_dir::read_secret(&file).unwrap().expose()).unwrap();
    // A gateway does the same at startup.
    let backend = Backend::Sqlite(Sqlite::open(data).unwrap());
    let store = Store::new(backend, Arc::new(ArcSwap::from_pointee(ring.clone())), Clock::System);
    store.ensure_key_check().await.unwrap();
    drop(store);
    let world = World::made(Profile::Standard, |parts| {
        let keys = Arc::new(ArcSwap::from_pointee(ring));
        let backend = Backend::Sqlite(Sqlite::open(data).unwrap());
        parts.store = Store::new(backend, Arc::clone(&keys), parts.clock.clone());
        parts.keys = keys;
        let batch = beside(&parts.config.services[0], "batch", Access::Key);
        parts.config.services.push(batch);
    })
    .await;
    world.standin.set(|b| b.mcp_open = true);
    world
}

async fn status(world: &World, key: &str) -> u16 {
    let page = call(world, "batch", &[("authorization", &format!("Bearer {key}"))]).await;
    page.status.as_u16()
}

/// Waits until the gateway refuses the key.
async fn until_refused(world: &World, key: &str) {
    for _ in 0..1_000 {
        if status(world, key).await == 403 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it is still let in");
}

#[tokio::test]
async fn an_api_key_works_immediately_and_is_refused_soon_after_revocation() {
    let dir = tempfile::tempdir().unwrap();
    let operator = Operator { data: dir.path().into() };
    let world = serving(dir.path()).await;
    let (key, id) = operator.add(&[
        "batch",
        "--name",
        "nightly",
        "--scope",
        "read",
        "--scope",
        "write",
        "--expires",
        "30",
    ]);
    assert_eq!(status(&world, &key).await, 200);
    let (other, _) = operator.add(&["batch"]);
    let listed = operator.list();
    assert_eq!(listed.len(), 2);
    let row = listed.iter().find(|row| row[0] == id).unwrap();
    assert_eq!((row[1].as_str(), row[2].as_str(), row[3].as_str()), ("active", "batch", "nightly"));
    assert_eq!(&row[7..], ["read", "write"]);
    let digest = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
    let begins = format!("{:02x}{:02x}", digest.as_ref()[0], digest.as_ref()[1]);
    assert!(row[6].len() == 16 && row[6].starts_with(&begins), "as sha256sum says it: {row:?}");
    let said = operator.run(&["revoke", &id]);
    assert!(said.stdout.is_empty());
    until_refused(&world, &key).await;
    assert_eq!(status(&world, &other).await, 200, "only that one");
    assert_eq!(operator.list().iter().find(|row| row[0] == id).unwrap()[1], "revoked");
    operator.run(&["revoke", &id]);
    // No file contains either key in clear text.
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(
            [&key, &other]
                .iter()
                .all(|key| !bytes.windows(key.len()).any(|part| part == key.as_bytes()))
        );
    }
}

#[tokio::test]
async fn a_revoked_api_key_stays_revoked_after_a_restart_and_years_later() {
    let dir = tempfile::tempdir().unwrap();
    let operator = Operator { data: dir.path().into() };
    let world = serving(dir.path()).await;
    let ((gone, id), (day, _), (kept, _)) = (
        operator.add(&["batch"]),
        operator.add(&["batch", "--expires", "1"]),
        operator.add(&["batch"]),
    );
    operator.run(&["revoke", &id]);
    until_refused(&world, &gone).await;
    // Revoke a key while no gateway runs.
    drop(world);
    let (late, late_id) = operator.add(&["batch"]);
    operator.run(&["revoke", &late_id]);
    let world = serving(dir.path()).await;
    for (key, expected) in [(&gone, 403), (&late, 403), (&day, 200), (&kept, 200)] {
        assert_eq!(status(&world, key).await, expected);
    }
    // Five years later, after a sweep.
    world.pass(5 * 365 * 86_400);
    for (key, expected) in [(&gone, 403), (&late, 403), (&day, 403), (&kept, 200)] {
        assert_eq!(status(&world, key).await, expected);
    }
}

/// Runs the released binary: both processes open the directory without disturbing each other.
#[tokio::test]
async fn a_lost_store_revives_no_api_key() {
    let dir = tempfile::tempdir().unwrap();
    let operator = Operator { data: dir.path().into() };
    let world = serving(dir.path()).await;
    let (key, _) = operator.add(&["batch"]);
    assert_eq!(status(&world, &key).await, 200);
    drop(world);
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("store.sqlite3") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let world = serving(dir.path()).await;
    assert_eq!(status(&world, &key).await, 403, "it may have been revoked in the lost store");
}

#[tokio::test]
async fn the_api_keys_command_and_a_running_gateway_share_the_data_directory() {
    let (standin, dir) = (mcp_gateway_standin::Standin::start(Profile::Standard), tempfile::tempdir().unwrap());
    let operator = Operator { data: dir.path().into() };
    let port = free_port();
    let process = Process::start(&standin.mcp_url(), port, dir.path(), &[]).await;
    let (key, id) = operator.add(&["default"]);
    operator.run(&["revoke", &id]);
    process.kill();
    let (_, other) = operator.add(&["default"]);
    let process = Process::start(&standin.mcp_url(), port, dir.path(), &[]).await;
    let listed = operator.list();
    assert!(listed.iter().any(|row| row[0] == id && row[1] == "revoked"), "{listed:?}");
    assert!(listed.iter().any(|row| row[0] == other && row[1] == "active"), "{listed:?}");
    assert!(process.terminate().success());
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(!log.contains(&key) && !log.contains("cannot be read"), "{log}");
}

#[tokio::test]
async fn the_api_keys_command_refuses_invalid_arguments_and_creates_nothing() {
    let (empty, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let nobody = Operator { data: empty.path().into() };
    for words in [&["add", "batch"][..], &["list"], &["revoke", "x"]] {
        assert!(does_not_start(&mut nobody.command(words), "--data-dir").contains("start it once"));
    }
    assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0);
    drop(serving(dir.path()).await);
    let operator = Operator { data: dir.path().into() };
    for (words, names) in [
        (&["add"][..], "SERVICE"),
        (&["add", "Batch"], "'Batch'"),
        (&["add", "mcp"], "'mcp'"),
        (&["add", "batch", "--scope", "read write"], "--scope read --scope write"),
        (&["add", "batch", "--scope", ""], "--scope"),
        (&["add", "batch", "--scope", "a\"b"], "--scope"),
        (&["add", "batch", "--name", "a b"], "--name"),
        (&["add", "batch", "--name", "\u{202e}x"], "--name"),
        (&["add", "batch", "--name", ""], "--name"),
        (&["add", "batch", "--expires", "0"], "--expires"),
        (&["add", "batch", "--expires", "-1"], "--expires"),
        (&["add", "batch", "--expires", "soon"], "--expires"),
        (&["add", "batch", "--store", "memory"], "--store: "),
        (&["revoke"], "ID"),
        (&["revoke", "nothing"], "api-keys list"),
        (&["revoke", "AAAAAAAAAAAAAAAAAAAAAA"], "api-keys list"),
    ] {
        let output = done(operator.command(words).stdout(Stdio::piped()));
        assert!(output.stdout.is_empty(), "{words:?}");
        does_not_start(&mut operator.command(words), names);
    }
    let long = "x".repeat(256);
    let many: Vec<&str> = ["add", "batch"]
        .into_iter()
        .chain((0..20).flat_map(|_| ["--scope", &long]))
        .collect();
    does_not_start(&mut operator.command(&many), "--scope");
    does_not_start(operator.command(&["list"]).env("MCP_GATEWAY_STORE", "memory"), "--store");
    assert!(operator.list().is_empty());
    // A record sealed under a foreign key ring would prevent the gateway from starting.
    operator.add(&["batch"]);
    let mut foreign = operator.command(&["add", "batch"]);
    foreign.env("MCP_GATEWAY_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    does_not_start(&mut foreign, "MCP_GATEWAY_KEY");
    assert_eq!(operator.list().len(), 1);
}

/// `--config` supplies the data directory, the key file and the services that take API keys.
#[tokio::test]
async fn the_api_keys_command_reads_paths_and_services_from_the_configuration_file() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let world = serving(&data).await;
    let file = dir.path().join("gateway.toml");
    let say = |top: &str| {
        let services = "[services.batch]\nurl = \"http://127.0.0.1:9/mcp\"\naccess = \"key\"\nupstream = \"none\"\n\
            [services.open]\nurl = \"http://127.0.0.1:9/mcp\"\naccess = \"public\"\nupstream = \"none\"\n";
        std::fs::write(&file, format!("{top}\n{services}")).unwrap();
    };
    let typed = |words: &[&str]| {
        let mut command = command();
        command.args(words).arg("--config").arg(&file);
        command
    };
    let run = |command: &mut Command| {
        let output = done(command);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    say("data_dir = \"data\"");
    let key = run(&mut typed(&["api-keys", "add", "batch", "--name", "nightly"]))
        .trim()
        .to_owned();
    assert_eq!(status(&world, &key).await, 200);
    let listed = run(&mut typed(&["api-keys", "list"]));
    let id = listed.lines().nth(1).unwrap().split_whitespace().next().unwrap();
    assert!(listed.contains("nightly"), "{listed}");
    run(&mut typed(&["api-keys", "revoke", id]));
    until_refused(&world, &key).await;
    let ring = run(&mut typed(&["keyring", "list"]));
    for (words, names) in [
        (&["api-keys", "add", "open"][..], "these services accept keys: batch"),
        (&["api-keys", "add", "other"], "no service 'other'"),
        (&["api-keys", "list", "--store", "sqlite"], "[store]"),
    ] {
        let why = does_not_start(&mut typed(words), "");
        assert!(why.contains(names), "{words:?}: {why}");
    }
    // Flags take precedence over the file, and the key file may be elsewhere.
    say("data_dir = \"nowhere\"");
    does_not_start(&mut typed(&["api-keys", "list"]), "gateway.toml:1: data_dir: no gateway");
    run(typed(&["api-keys", "add", "batch"]).arg("--data-dir").arg(&data));
    std::fs::rename(data.join("keys.json"), dir.path().join("ring")).unwrap_or_else(|_| {
        let there: Vec<_> = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        panic!("{there:?}")
    });
    say("data_dir = \"data\"\nkeys.file = \"ring\"");
    run(&mut typed(&["api-keys", "add", "batch"]));
    assert_eq!(run(&mut typed(&["keyring", "list"])), ring);
    drop(world);
}
