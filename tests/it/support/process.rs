//! The gateway as it is shipped: a process that can be stopped, killed and started again on the same data.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::browser::{Browser, send};
use super::world::{PASSWORD, USER};
use http::Request;
use mcp_oauth_gateway::net::body::RequestBody;

/// A running gateway. Dropping it kills it.
pub struct Process {
    pub child: Child,
    pub url: String,
}

/// The binary under test, with the user of all stories and nothing else of this environment.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-oauth-gateway"));
    command
        .env_clear()
        .env("MCP_GATEWAY_USERNAME", USER)
        .env("MCP_GATEWAY_PASSWORD", PASSWORD)
        .stdin(Stdio::null());
    command
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

impl Process {
    /// Starts it on this port and data, in front of this upstream; ready when this returns.
    pub async fn start(upstream: &str, port: u16, data: &Path, more: &[&str]) -> Self {
        Self::start_as(command(), upstream, port, data, more).await
    }

    /// The same with a command that the test has changed, such as its environment.
    pub async fn start_as(mut command: Command, upstream: &str, port: u16, data: &Path, more: &[&str]) -> Self {
        let port_text = port.to_string();
        let url = format!("http://127.0.0.1:{port}");
        let log = std::fs::File::options().create(true).append(true).open(data.join("log")).unwrap();
        // Unless the test says another, because several instances are one gateway.
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

    /// Started by this command, which says where it listens; ready when this returns. The log is beside the data.
    pub async fn ready(command: &mut Command, port: u16, data: &Path) -> Self {
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

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and its exit status.
    pub fn terminate(mut self) -> std::process::ExitStatus {
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
