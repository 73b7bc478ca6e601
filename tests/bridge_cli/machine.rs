//! A machine of one user: a home directory, and the gateway's commands in it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::port::free_port;

/// The longest time that a command may take.
const PATIENCE: Duration = Duration::from_secs(60);

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

    /// The command of the binary in this home. It opens no real browser.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-oauth-gateway"));
        command
            .env_clear()
            .env("HOME", self.home())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("BROWSER", "true")
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

/// Waits for a command. It must not hang.
#[expect(clippy::disallowed_methods, reason = "a test waits for a real process")]
pub(crate) fn wait(mut child: Child) -> Ended {
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            panic!("a command did not end: {:?}", Ended::of(&output));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ended::of(&child.wait_with_output().unwrap())
}

/// The mode of a file.
pub(crate) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
