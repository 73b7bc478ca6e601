//! Reload requests of commands to the running gateway, by a file in the data directory. This works on
//! every platform and across containers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::app::App;
use crate::base::random;
use crate::base::secret::Secret;
use crate::cli::data_dir;
use crate::cli::reload::Reloader;

/// The file of the request: a random text.
const REQUEST_FILE: &str = "reload";
/// The file of the answer: the same text, and the error, if there was one.
const ANSWER_FILE: &str = "reloaded";

/// The pause between two looks of the gateway for a request.
const WATCH_INTERVAL: Duration = Duration::from_millis(300);
/// Looks of a command for the answer, and the pause between two: six seconds in all.
const ANSWER_POLLS: u32 = 60;
const ANSWER_PAUSE: Duration = Duration::from_millis(100);

/// The answer of the running gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadAnswer {
    /// The gateway uses the new configuration.
    Done,
    /// The gateway still uses the old configuration, for this reason.
    Refused(String),
    /// The gateway did not answer in time.
    Silent,
}

/// Asks the gateway of this data directory to read its configuration again, and waits for its answer.
///
/// # Errors
/// If the request cannot be written.
pub fn request(dir: &Path) -> Result<ReloadAnswer, String> {
    let nonce = random::token();
    data_dir::write_secret(&dir.join(REQUEST_FILE), &nonce)?;
    for _ in 0..ANSWER_POLLS {
        let answer = std::fs::read_to_string(dir.join(ANSWER_FILE)).unwrap_or_default();
        match answer.split_once('\n') {
            Some((answered, "")) if answered == nonce.expose() => return Ok(ReloadAnswer::Done),
            Some((answered, error)) if answered == nonce.expose() => return Ok(ReloadAnswer::Refused(error.to_owned())),
            Some(_) | None => std::thread::sleep(ANSWER_PAUSE),
        }
    }
    Ok(ReloadAnswer::Silent)
}

/// The gateway's side: watches for requests and answers them.
struct ReloadRequests {
    dir: PathBuf,
    last: String,
}

impl ReloadRequests {
    /// Watches this data directory. An earlier request is ignored.
    fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            last: Self::read_request(dir),
        }
    }

    fn read_request(dir: &Path) -> String {
        std::fs::read_to_string(dir.join(REQUEST_FILE)).unwrap_or_default()
    }

    /// Resolves when there is a new request; never in stateless mode.
    async fn next(&mut self) {
        if self.dir.as_os_str().is_empty() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            let request = Self::read_request(&self.dir);
            if !request.is_empty() && request != self.last {
                self.last = request;
                return;
            }
        }
    }

    /// Reloads, and answers the last request.
    fn reload(&self, reloader: &mut Reloader, app: &Arc<App>) {
        let error = reloader.reload(app).err().unwrap_or_default();
        let answer = Secret::from(format!("{}\n{error}", self.last));
        if let Err(error) = data_dir::write_secret(&self.dir.join(ANSWER_FILE), &answer) {
            tracing::warn!(why = %error, "a request to read the configuration again cannot be answered");
        }
    }
}

/// Registers the SIGHUP handler, and returns the future that reloads at each signal and at each request of
/// a command.
pub fn reload_on_request(mut reloader: Reloader, app: Arc<App>) -> Result<impl Future<Output = ()>, String> {
    let mut signals = Signals::new()?;
    let mut requests = ReloadRequests::new(reloader.data_dir());
    Ok(async move {
        loop {
            tokio::select! {
                // A failure is logged.
                () = signals.next() => drop(reloader.reload(&app)),
                () = requests.next() => requests.reload(&mut reloader, &app),
            }
            // Spawned, because a slow upstream must not delay the next reload.
            let app_for_prefetch = Arc::clone(&app);
            tokio::spawn(async move { app_for_prefetch.prefetch().await });
        }
    })
}

/// SIGHUP, where there is such a signal.
struct Signals(#[cfg(unix)] tokio::signal::unix::Signal);

impl Signals {
    #[cfg(unix)]
    fn new() -> Result<Self, String> {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::hangup()).map(Self).map_err(|error| error.to_string())
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    #[cfg(not(unix))]
    fn new() -> Result<Self, String> {
        Ok(Self())
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        std::future::pending().await
    }
}
