//! A full or read-only disk: forwarding continues, writes fail with an error, no data is damaged.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use http::Request;
use mcp_gateway_standin::{Profile, Standin};
use mcp_oauth_gateway::net::body::RequestBody;
use serde_json::json;

use super::cli::does_not_start;
use crate::support::browser::{Browser, Page, send};
use crate::support::client::{McpClient, Pair};
use crate::support::port::free_port;
use crate::support::process::{Process, command};

/// Runs the gateway through a shell line, which finds the command in `"$@"`.
fn run_by(before: &[&str], line: &str, dir: &Path) -> Command {
    let gateway = command();
    let words = [before, &["sh", "-c", line]].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(dir).arg(gateway.get_program());
    command.env_clear().stdin(Stdio::null());
    let given = gateway.get_envs().filter_map(|(name, value)| Some((name, value?)));
    command.envs(given);
    command
}

/// Runs a program in its own mount namespace.
const APART: [&str; 3] = ["unshare", "--map-root-user", "--mount"];

/// Whether this machine permits a private mount.
fn is_apart_allowed() -> bool {
    let tried = Command::new(APART[0])
        .args(&APART[1..])
        .args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"])
        .stderr(Stdio::null())
        .status();
    let allowed = tried.is_ok_and(|status| status.success());
    if !allowed {
        println!("skipped: this machine lets us mount nothing, not even with unshare");
    }
    allowed
}

/// A way to use up all free space and to release it.
trait Disk {
    fn fill(&self, process: &Process);
    fn make_room(&self, process: &Process);
}

/// Limits file size to the current length of the WAL. Needs no root and works on any file system.
struct Limit(PathBuf);

impl Limit {
    fn set(process: &Process, bytes: &str) {
        let done = Command::new("prlimit")
            .args(["--pid", &process.child.id().to_string(), &format!("--fsize={bytes}:")])
            .status()
            .unwrap();
        assert!(done.success());
    }
}

impl Disk for Limit {
    fn fill(&self, process: &Process) {
        let log = std::fs::metadata(self.0.join("store.sqlite3-wal")).unwrap().len();
        Self::set(process, &log.to_string());
    }

    fn make_room(&self, process: &Process) {
        Self::set(process, "unlimited");
    }
}

/// A small tmpfs in the mount namespace of the gateway.
struct Small(PathBuf);

impl Small {
    fn filler(&self, process: &Process) -> PathBuf {
        seen_by(process, &self.0).join("filler")
    }
}

impl Disk for Small {
    fn fill(&self, process: &Process) {
        let mut filler = std::fs::File::create(self.filler(process)).unwrap();
        let full = std::iter::repeat_with(|| filler.write_all(&[7; 512]))
            .find_map(Result::err)
            .unwrap();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }

    fn make_room(&self, process: &Process) {
        std::fs::remove_file(self.filler(process)).unwrap();
    }
}

/// A path in the mount namespace of this process.
fn seen_by(process: &Process, path: &Path) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{}/root", process.child.id()));
    root.join(path.strip_prefix("/").unwrap())
}

async fn ready(process: &Process) -> Page {
    let request = Request::get(format!("{}/health/ready", process.url))
        .body(RequestBody::Empty)
        .unwrap();
    send(&Browser::default().client, request).await
}

async fn is_soon_ready(process: &Process) {
    for _ in 0..500 {
        if ready(process).await.status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it is not ready again: {}", ready(process).await.text);
}

/// Waits until the gateway says that it is not ready. It asks the store once a second.
async fn until_unready(process: &Process) {
    for _ in 0..50 {
        if ready(process).await.status == 503 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it says that it is ready on a full disk");
}

/// Fills the disk before a refresh, then during one.
async fn fills_up(standin: &Standin, process: &Process, disk: &impl Disk, log: &Path) {
    let client = McpClient::register(&process.url).await;
    let first = client.login().await;
    let works = async |pair: &Pair| assert_eq!(client.call(&pair.access, "echo", json!({ "text": "x" })).await.status, 200);

    disk.fill(process);
    let refused = client.refresh(&first.refresh).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert_eq!(refused.json()["error"], "temporarily_unavailable");
    assert_eq!(
        standin.refreshes(),
        [""; 0],
        "the upstream's token is not spent for what cannot be kept"
    );
    works(&first).await;
    until_unready(process).await;
    works(&first).await;
    let said = std::fs::read_to_string(log).unwrap();
    assert!(
        ["database or disk is full", "disk I/O error"].iter().any(|why| said.contains(why)),
        "{said}"
    );

    disk.make_room(process);
    is_soon_ready(process).await;
    let second = Pair::of(&client.refresh(&first.refresh).await);
    works(&second).await;

    // The upstream has rotated the token, and there is no space to store the response.
    standin.set(|b| b.token_delay = Duration::from_millis(500));
    let (asking, refresh) = (client.clone(), second.refresh.clone());
    let asked = tokio::spawn(async move { asking.refresh(&refresh).await });
    while standin.refreshes().len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    disk.fill(process);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    works(&second).await;
    disk.make_room(process);
    standin.set(|b| b.token_delay = Duration::ZERO);
    let answer = asked.await.unwrap();
    assert!([200, 503].contains(&answer.status.as_u16()), "{} {}", answer.status, answer.text);
    is_soon_ready(process).await;
    let mut again = client.refresh(&second.refresh).await;
    for _ in 0..200 {
        if again.status != 503 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        again = client.refresh(&second.refresh).await;
    }
    let third = Pair::of(&again);
    works(&third).await;
    assert_eq!((standin.refreshes().len(), standin.reused().len()), (2, 0), "asked once, and kept");
}

fn is_whole(store: &Path) {
    let db = rusqlite::Connection::open(store).unwrap();
    let verdict: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_refreshes_but_not_forwarding_and_corrupts_nothing() {
    let (standin, data, port) = (Standin::start(Profile::Standard), tempfile::tempdir().unwrap(), free_port());
    let disk = Limit(data.path().to_owned());
    // SIGXFSZ is ignored, so that a write fails as on a full disk and does not end the process.
    let command = run_by(&[], "trap '' XFSZ; exec \"$@\"", data.path());
    let process = Process::start_as(command, &standin.mcp_url(), port, data.path(), &[]).await;
    fills_up(&standin, &process, &disk, &data.path().join("log")).await;
    process.kill();
    is_whole(&data.path().join("store.sqlite3"));
    let process = Process::start(&standin.mcp_url(), port, data.path(), &[]).await;
    assert!(process.terminate().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_file_system_is_logged_as_full_and_recovers_when_space_returns() {
    if !is_apart_allowed() {
        return;
    }
    let (standin, data, port) = (Standin::start(Profile::Standard), tempfile::tempdir().unwrap(), free_port());
    let line = "mount -t tmpfs -o size=3m,mode=0700 tmpfs \"$0\" && exec \"$@\"";
    let command = run_by(&APART, line, data.path());
    let process = Process::start_as(command, &standin.mcp_url(), port, data.path(), &[]).await;
    let disk = Small(data.path().to_owned());
    let log = data.path().join("log");
    fills_up(&standin, &process, &disk, &log).await;
    assert!(std::fs::read_to_string(log).unwrap().contains("database or disk is full"));
    let copy = tempfile::tempdir().unwrap();
    for name in ["store.sqlite3", "store.sqlite3-wal"] {
        std::fs::copy(seen_by(&process, data.path()).join(name), copy.path().join(name)).unwrap();
    }
    is_whole(&copy.path().join("store.sqlite3"));
    assert!(process.terminate().success());
}

#[tokio::test]
async fn a_read_only_data_directory_is_reported_at_startup() {
    if !is_apart_allowed() {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let start = || {
        let line = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$@\"";
        let mut command = run_by(&APART, line, data.path());
        let port = free_port().to_string();
        command.args(["--upstream-rs", "http://127.0.0.1:9/mcp", "--host", "127.0.0.1", "--port", &port]);
        command.arg("--data-dir").arg(data.path());
        command
    };
    let says = |said: String| {
        assert!(
            said.contains("Read-only file system") && said.contains("choose a directory"),
            "{said}"
        );
        assert!(said.contains(data.path().to_str().unwrap()), "{said}");
    };
    // First a new data directory, then one that was in use.
    says(does_not_start(&mut start(), "--data-dir"));
    let standin = Standin::start(Profile::Standard);
    let process = Process::start(&standin.mcp_url(), free_port(), data.path(), &[]).await;
    assert!(process.terminate().success());
    says(does_not_start(&mut start(), "--data-dir"));
    is_whole(&data.path().join("store.sqlite3"));
}
