//! `store export` and `store import` from one data directory to another.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};

use mcp_gateway_standin::{Profile, Standin};

use super::cli::done;
use crate::support::client::{McpClient, Pair};
use crate::support::port::free_port;
use crate::support::process::{Process, command};

fn store(word: &str, dir: &Path) -> Command {
    let mut command = command();
    command.args(["store", word, "--data-dir"]).arg(dir);
    command
}

fn import(dir: &Path, from: &Path) -> Output {
    done(store("import", dir).stdin(File::open(from).unwrap()))
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn user_stays_signed_in_after_store_export_and_import() {
    let (standin, port) = (Standin::start(Profile::Standard), free_port());
    let [old, new] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let file = old.path().join("export");
    let process = Process::start(&standin.mcp_url(), port, old.path(), &[]).await;
    let client = McpClient::register(&process.url).await;
    let pair = client.login().await;
    // While the gateway runs, export works with a warning, and import is refused.
    let beside = done(&mut store("export", old.path()));
    assert!(
        beside.status.success() && said(&beside).contains("a gateway was using"),
        "{}",
        said(&beside)
    );
    fs::write(&file, &beside.stdout).unwrap();
    let refused = import(old.path(), &file);
    assert!(
        !refused.status.success() && said(&refused).contains("another gateway is using"),
        "{}",
        said(&refused)
    );
    process.terminate();
    let export = done(&mut store("export", old.path()));
    assert!(export.status.success() && !said(&export).contains("was using"), "{}", said(&export));
    fs::write(&file, &export.stdout).unwrap();
    fs::copy(old.path().join("keys.json"), new.path().join("keys.json")).unwrap();
    let moved = import(new.path(), &file);
    assert!(moved.status.success() && !said(&moved).starts_with("0 records"), "{}", said(&moved));
    let again = import(new.path(), &file);
    assert!(
        again.status.success() && said(&again).starts_with("0 records were moved"),
        "{}",
        said(&again)
    );
    let _process = Process::start(&standin.mcp_url(), port, new.path(), &[]).await;
    let page = client.refresh(&pair.refresh).await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert_ne!(Pair::of(&page).refresh, pair.refresh);
}

#[tokio::test]
async fn store_import_without_the_right_keys_fails_and_writes_nothing() {
    let standin = Standin::start(Profile::Standard);
    let [old, new] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    Process::start(&standin.mcp_url(), free_port(), old.path(), &[]).await.terminate();
    let file = old.path().join("export");
    fs::write(&file, done(&mut store("export", old.path())).stdout).unwrap();
    let bare = import(new.path(), &file);
    assert!(!bare.status.success() && said(&bare).contains("keys.json"), "{}", said(&bare));
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let other = done(
        store("import", new.path())
            .env("MCP_GATEWAY_KEY", key)
            .stdin(File::open(&file).unwrap()),
    );
    assert!(
        !other.status.success() && said(&other).contains("sealed with keys"),
        "{}",
        said(&other)
    );
    assert_eq!(fs::read_dir(new.path()).unwrap().count(), 0, "nothing was made");
    let memory = done(store("export", old.path()).args(["--store", "memory"]));
    assert!(!memory.status.success() && said(&memory).contains("--store"), "{}", said(&memory));
    let nobody = done(store("export", new.path()).env("MCP_GATEWAY_KEY", key));
    assert!(
        !nobody.status.success() && said(&nobody).contains("--data-dir"),
        "{}",
        said(&nobody)
    );
}
