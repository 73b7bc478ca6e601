//! A real `redis-server` on a free port of this machine. Each test starts and stops its own.
//!
//! `GATEWAY_REDIS=1`, which the Makefile sets, requires `redis-server`. Without it these tests
//! print that they are skipped, and pass.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::port::free_port;

/// Whether tests with Redis run.
pub(crate) fn wanted() -> bool {
    let wanted = std::env::var_os("GATEWAY_REDIS").is_some_and(|value| value == "1");
    if !wanted {
        println!("skipped: needs redis-server; set GATEWAY_REDIS=1 to run it");
    }
    wanted
}

/// A free port. The port plus 10,000 is free too, for the cluster bus.
fn low_port() -> u16 {
    loop {
        let port = free_port();
        if port < 55_000 && std::net::TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
}

/// A running server. Dropping it kills the process.
pub(crate) struct Server {
    child: Option<Child>,
    port: u16,
    dir: TempDir,
    arguments: Vec<String>,
}

impl Server {
    /// Starts a server that syncs every write to disk, as production should.
    pub(crate) fn start() -> Self {
        Self::with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Starts a server with these arguments; `{dir}` in them is its directory.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        Self::in_dir(TempDir::new().unwrap(), arguments)
    }

    /// Starts a server in a directory that is already prepared.
    pub(crate) fn in_dir(dir: TempDir, arguments: &[&str]) -> Self {
        let here = dir.path().to_str().unwrap().to_owned();
        let arguments = arguments.iter().map(|argument| argument.replace("{dir}", &here)).collect();
        let mut server = Self {
            child: None,
            port: low_port(),
            dir,
            arguments,
        };
        server.start_again();
        server
    }

    /// Restarts the server with the same port and data.
    pub(crate) fn start_again(&mut self) {
        assert!(self.child.is_none());
        let tls = self.arguments.iter().any(|argument| argument == "--tls-port");
        let port = if tls { "--tls-port" } else { "--port" };
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        // A configuration file must be the first argument, and a sentinel does not know `save`.
        let is_sentinel = self.arguments.iter().any(|argument| argument == "--sentinel");
        let mut command = Command::new("redis-server");
        command.args(self.arguments.iter().filter(|argument| *argument != "--tls-port"));
        if !is_sentinel {
            command.args(["--save", ""]);
        }
        let child = command
            .args(["--bind", "127.0.0.1", "--dir"])
            .arg(self.dir.path())
            .args([port, &self.port.to_string()])
            .stdin(Stdio::null())
            .stdout(log)
            .spawn()
            .expect("redis-server must be on the PATH; on Debian: apt-get install redis-server");
        self.child = Some(child);
        for _ in 0..1000 {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() && !self.is_loading() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let log = std::fs::read_to_string(self.dir.path().join("log"));
        panic!("redis-server did not start: {log:?}");
    }

    fn is_loading(&self) -> bool {
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        log.rmatches("Ready to accept connections").count() < log.matches("Server initialized").count()
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Suspends the process, like a network partition: no response, no refused connection.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    /// Resumes the process.
    pub(crate) fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        let done = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(done.success());
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a server without a password.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The output of `redis-cli`.
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        cli(self.port, arguments)
    }

    /// All files that the server has written.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut dirs = vec![self.dir.path().to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { dirs.push(path) } else { files.push(path) }
            }
        }
        files
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A connection to a server that can break after a write arrived and before its response returns.
pub(crate) struct Wire {
    port: u16,
    lose: Arc<AtomicBool>,
    cut: Arc<AtomicBool>,
}

impl Wire {
    pub(crate) async fn to(server: &Server) -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let wire = Self {
            port: listener.local_addr().unwrap().port(),
            lose: Arc::default(),
            cut: Arc::default(),
        };
        let (lose, cut, port) = (Arc::clone(&wire.lose), Arc::clone(&wire.cut), server.port);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if !cut.load(Ordering::SeqCst) {
                    let far = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    tokio::spawn(carry(near, far, Arc::clone(&lose), Arc::clone(&cut)));
                }
            }
        });
        wire
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Loses the response to the next write. With `stays_cut`, new connections fail until `mend`.
    pub(crate) fn lose_an_answer(&self, stays_cut: bool) {
        self.cut.store(stays_cut, Ordering::SeqCst);
        self.lose.store(true, Ordering::SeqCst);
    }

    pub(crate) fn has_lost_it(&self) -> bool {
        !self.lose.load(Ordering::SeqCst)
    }

    pub(crate) fn mend(&self) {
        self.cut.store(false, Ordering::SeqCst);
    }
}

async fn carry(mut near: tokio::net::TcpStream, mut far: tokio::net::TcpStream, lose: Arc<AtomicBool>, cut: Arc<AtomicBool>) {
    let (mut out, mut back) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = near.read(&mut out) => {
                let Ok(count @ 1..) = read else { return };
                far.write_all(&out[..count]).await.unwrap();
                if out[..count].windows(7).any(|word| word == b"EVALSHA") && lose.swap(false, Ordering::SeqCst) {
                    // The response exists, so the write is done. The client never receives it.
                    let _answer = far.read(&mut back).await.unwrap();
                    return;
                }
            }
            read = far.read(&mut back) => {
                let Ok(count @ 1..) = read else { return };
                if cut.load(Ordering::SeqCst) && !lose.load(Ordering::SeqCst) {
                    return;
                }
                near.write_all(&back[..count]).await.unwrap();
            }
        }
    }
}

/// A cluster of three masters.
pub(crate) struct Cluster(pub Vec<Server>);

impl Cluster {
    pub(crate) fn start() -> Self {
        let arguments = [
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "2000",
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
        ];
        let servers: Vec<Server> = (0..3).map(|_| Server::with(&arguments)).collect();
        let mut create = vec!["--cluster".to_owned(), "create".to_owned()];
        create.extend(servers.iter().map(|server| format!("127.0.0.1:{}", server.port)));
        create.push("--cluster-yes".to_owned());
        let create: Vec<&str> = create.iter().map(String::as_str).collect();
        let said = cli(servers[0].port, &create);
        let cluster = Self(servers);
        cluster.wait_until_whole(&said);
        cluster
    }

    /// Waits until all masters know each other.
    pub(crate) fn wait_until_whole(&self, said: &str) {
        let is_whole = |server: &Server| server.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok");
        for _ in 0..1000 {
            if self.0.iter().all(is_whole) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the cluster is not whole: {said}");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis-cluster://127.0.0.1:{},127.0.0.1:{}", self.0[0].port, self.0[1].port)
    }
}

/// A master, its replica, and a sentinel that monitors them.
pub(crate) struct Watched {
    pub master: Server,
    pub replica: Server,
    pub sentinel: Server,
}

impl Watched {
    pub(crate) fn start() -> Self {
        let master = Server::start();
        let (host, port) = ("127.0.0.1", master.port.to_string());
        let replica = Server::with(&["--replicaof", &format!("{host} {port}"), "--repl-diskless-sync-delay", "0"]);
        let dir = TempDir::new().unwrap();
        let watch = format!(
            "sentinel monitor group {host} {port} 1\nsentinel down-after-milliseconds group 500\nsentinel failover-timeout group 3000\n"
        );
        std::fs::write(dir.path().join("sentinel.conf"), watch).unwrap();
        let sentinel = Server::in_dir(dir, &["{dir}/sentinel.conf", "--sentinel"]);
        let watched = Self { master, replica, sentinel };
        watched.wait_until_replicated();
        watched
    }

    fn wait_until_replicated(&self) {
        for _ in 0..1000 {
            let is_up = self.replica.cli(&["INFO", "replication"]).contains("master_link_status:up");
            if is_up && self.sentinel.cli(&["SENTINEL", "replicas", "group"]).contains("slave") {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("no replica, or the sentinel does not know it");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis-sentinel://127.0.0.1:1,127.0.0.1:{}/group", self.sentinel.port)
    }
}

/// Runs `redis-cli` against a port of this machine.
pub(crate) fn cli(port: u16, arguments: &[&str]) -> String {
    let done = Command::new("redis-cli")
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "--raw"])
        .args(arguments)
        .output()
        .expect("redis-cli must be on the PATH; on Debian: apt-get install redis-tools");
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}
