//! The gateway's binary as a process, which tests stop, kill and restart on the same data.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::browser::{Browser, send};
use super::world::{PASSWORD, USER};
use http::Request;
use mcp_oauth_gateway::net::body::RequestBody;

/// A running gateway. Dropping it kills the process.
pub(crate) struct Process {
    pub child: Child,
    pub url: String,
}

/// The command of the binary, with the user of all stories and an otherwise empty environment.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-oauth-gateway"));
    command
        .env_clear()
        .env("MCP_GATEWAY_USERNAME", USER)
        .env("MCP_GATEWAY_PASSWORD", PASSWORD)
        .stdin(Stdio::null());
    command
}

/// Waits until a log has one of these texts, and returns the log. A thread of the gateway writes it.
pub(crate) async fn logged(log: &Path, texts: &[&str]) -> String {
    let mut said = String::new();
    for _ in 0..500 {
        said = std::fs::read_to_string(log).unwrap();
        if texts.iter().any(|text| said.contains(text)) {
            return said;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not logged: {texts:?}\n{said}");
}

impl Process {
    /// Starts the gateway on this port and data in front of this upstream. Waits for readiness.
    pub(crate) async fn start(upstream: &str, port: u16, data: &Path, more: &[&str]) -> Self {
        Self::start_as(command(), upstream, port, data, more).await
    }

    /// As `start`, with a command that the test has changed, such as its environment.
    pub(crate) async fn start_as(mut command: Command, upstream: &str, port: u16, data: &Path, more: &[&str]) -> Self {
        let port_text = port.to_string();
        let url = format!("http://127.0.0.1:{port}");
        let log = std::fs::File::options().create(true).append(true).open(data.join("log")).unwrap();
        // Several instances can share one public URL, which the test sets.
        if !more.contains(&"--public-url") {
            command.args(["--public-url", &url]);
        }
        let child = command
            .args([
                "--upstream-rs",
                upstream,
                "--host",
                "127.0.0.1",
                "--port",
                &port_text,
                "--log",
                "debug",
            ])
            .arg("--data-dir")
            .arg(data)
            .args(more)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut process = Self { child, url };
        process.wait_until_ready(data).await;
        process
    }

    /// Starts a prepared command and waits until `port` is ready. The log is in `data`.
    pub(crate) async fn ready(command: &mut Command, port: u16, data: &Path) -> Self {
        let url = format!("http://127.0.0.1:{port}");
        let child = command.spawn().unwrap();
        let mut process = Self { child, url };
        process.wait_until_ready(data).await;
        process
    }

    async fn wait_until_ready(&mut self, data: &Path) {
        let http = Browser::default();
        for _ in 0..2_000 {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!(
                    "the gateway ended ({status}): {}",
                    std::fs::read_to_string(data.join("log")).unwrap()
                );
            }
            if std::net::TcpStream::connect(self.url.trim_start_matches("http://")).is_ok() {
                let ready = Request::get(format!("{}/health/ready", self.url)).body(RequestBody::Empty).unwrap();
                if send(&http.client, ready).await.status == 200 {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the gateway did not become ready");
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends SIGTERM and returns the exit status.
    pub(crate) fn terminate(mut self) -> std::process::ExitStatus {
        let done = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status().unwrap();
        assert!(done.success());
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
