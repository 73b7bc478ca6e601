//! A machine of one user: a home directory, and the gateway's commands in it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use http::{Request, header};
use mcp_oauth_gateway::net::body::RequestBody;
use serde_json::{Value, json};

use crate::support::browser::{Browser, Page, send};
use crate::support::port::free_port;
use crate::support::process::Process;

/// How often a command is looked at, every ten milliseconds, before it counts as hanging.
const PATIENCE: u32 = 6_000;

/// A home directory with a gateway on a port of its own.
pub(crate) struct Machine {
    home: tempfile::TempDir,
    pub port: u16,
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ended {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Fails unless the command succeeded.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// Fails unless the command ended with this code and all of these texts.
    pub(crate) fn failed(self, code: i32, texts: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        for text in texts {
            assert!(self.err.contains(text), "{text}: {self:?}");
        }
        self
    }

    /// The JSON objects of the output, one on each line.
    pub(crate) fn json(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Machine {
    /// A machine on which nothing was done yet.
    pub(crate) fn new() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
            port: free_port(),
        }
    }

    /// A machine after `init`, with a gateway on its own port.
    pub(crate) fn initialised() -> Self {
        let machine = Self::new();
        machine.run(&["init"]).ok();
        let text = fs::read_to_string(machine.config()).unwrap();
        let listen = format!("listen = \"127.0.0.1:{0}\"\npublic_url = \"{1}\"\n", machine.port, machine.url());
        fs::write(machine.config(), format!("# by hand\n{listen}{text}")).unwrap();
        machine
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.home().join(".config/mcp-oauth-gateway/gateway.toml")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.home().join(".local/share/mcp-oauth-gateway")
    }

    /// The text of the configuration file.
    pub(crate) fn text(&self) -> String {
        fs::read_to_string(self.config()).unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The addresses that the commands opened in the browser.
    fn opened(&self) -> Vec<String> {
        let text = fs::read_to_string(self.home().join("opened")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until the commands have opened `count` addresses, and returns the last one.
    pub(crate) async fn opened_after(&self, count: usize) -> String {
        for _ in 0..PATIENCE {
            let opened = self.opened();
            if opened.len() >= count {
                return opened[count - 1].clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no browser was opened: {:?}", self.opened());
    }

    /// Starts the gateway of this machine.
    pub(crate) async fn start(&self) -> Process {
        let log = fs::File::options().create(true).append(true).open(self.home().join("log")).unwrap();
        let mut command = self.command(&["start", "--log", "debug"]);
        Process::ready(command.stdout(Stdio::null()).stderr(log), self.port, self.home()).await
    }

    /// Calls a tool of a service with the local key.
    pub(crate) async fn call(&self, service: &str) -> Page {
        let key = fs::read_to_string(self.data().join("local-key")).unwrap();
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "whoami", "arguments": {}}});
        let request = Request::post(format!("{}/mcp/{service}", self.url()))
            .header(header::AUTHORIZATION, format!("Bearer {}", key.trim()))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .body(RequestBody::Full(call.to_string().into()));
        send(&Browser::default().client, request.unwrap()).await
    }

    /// Runs a command whose browser signs in, to its end. `opened` counts the browsers so far.
    pub(crate) async fn sign_in(&self, arguments: &[&str], opened: usize) -> (Ended, Page) {
        let child = self.command(arguments).spawn().unwrap();
        let page = visit(&self.opened_after(opened + 1).await).await;
        (wait(child), page)
    }

    /// The command of the binary in this home. Its browser only notes the address.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let browser = self.home().join("browser");
        if !browser.exists() {
            let script = format!("#!/bin/sh\nprintf '%s\\n' \"$1\" >> '{}'\n", self.home().join("opened").display());
            fs::write(&browser, script).unwrap();
            fs::set_permissions(&browser, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-oauth-gateway"));
        command
            .env_clear()
            .env("HOME", self.home())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("BROWSER", browser)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        wait(self.command(arguments).spawn().unwrap())
    }
}

/// Opens an address and follows all redirects, as a browser does.
pub(crate) async fn visit(url: &str) -> Page {
    let mut browser = Browser::default();
    let mut page = browser.get(url).await;
    while let Some(next) = page.onward() {
        page = browser.get(&next).await;
    }
    page
}

/// Waits for a command. It must not hang.
pub(crate) fn wait(mut child: Child) -> Ended {
    for _ in 0..PATIENCE {
        if child.try_wait().unwrap().is_some() {
            return Ended::of(&child.wait_with_output().unwrap());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    panic!("a command did not end: {:?}", Ended::of(&output));
}

/// The mode of a file.
pub(crate) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
