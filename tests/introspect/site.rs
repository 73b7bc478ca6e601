//! The gateway as a process, with a configuration file in a directory in which commands run.

use std::path::Path;
use std::process::{Output, Stdio};

use tempfile::TempDir;

use crate::support::port::free_port;
use crate::support::process::{Process, command};

/// See [the module](self).
pub(crate) struct Site {
    dir: TempDir,
    pub gateway: Process,
}

impl Site {
    /// Starts the gateway with this configuration, in which `public_url` is the text of the public URL.
    pub(crate) async fn start(config: &str, public_url: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let url = format!("http://127.0.0.1:{port}");
        let config = format!(
            "listen = [\"127.0.0.1:{port}\"]\ndata_dir = \"{}\"\n{}",
            dir.path().display(),
            config.replace(public_url, &url)
        );
        std::fs::write(dir.path().join("gateway.toml"), config).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let mut serve = command();
        serve.current_dir(dir.path()).args(["--config", "gateway.toml"]);
        serve.stdout(Stdio::null()).stderr(log);
        let gateway = Process::ready(&mut serve, port, dir.path()).await;
        Self { dir, gateway }
    }

    /// The directory with `gateway.toml`.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Runs a command of the gateway with these words.
    pub(crate) fn run(&self, words: &str) -> Output {
        let words = words.split_whitespace();
        command()
            .current_dir(self.dir())
            .args(words)
            .args(["--config", "gateway.toml"])
            .output()
            .unwrap()
    }

    /// Runs a command that succeeds. Returns its standard output without the last line end.
    #[track_caller]
    pub(crate) fn output(&self, words: &str) -> String {
        let done = self.run(words);
        assert!(done.status.success(), "{words}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim_end().to_owned()
    }

    /// Runs a command that fails and prints nothing. Returns its error message.
    #[track_caller]
    pub(crate) fn error(&self, words: &str) -> String {
        let done = self.run(words);
        let error = String::from_utf8(done.stderr).unwrap();
        assert!(matches!(done.status.code(), Some(1 | 2)), "{words}: {error}");
        assert!(done.stdout.is_empty() && !error.contains("panicked"), "{words}: {error}");
        error
    }
}
