//! Receives the browser's callback in a command, while no gateway runs.
//!
//! One command at a time listens, for all of them: the sign-in is a record in the store that they share.

use std::fs::{File, OpenOptions, TryLockError};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cli::bridge::failure::Failure;
use crate::cli::bridge::local::Local;
use crate::cli::serve;
use crate::net::http_client::HttpClient;
use crate::net::listen;
use crate::net::server::{self, ServerLimits};
use crate::net::tls::ServerTls;
use crate::web::reply;
use crate::web::router::Router;

/// The lock of the command that listens.
const LOCK_FILE: &str = "callback-lock";
/// How often an occupied port is tried before the failure counts, as a gateway may be stopping.
const MAX_OCCUPIED: u32 = 8;
/// How long the page of the browser may take at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// Who receives the callback.
pub struct Receiver {
    listening: Option<Listening>,
    tls: Option<Arc<ServerTls>>,
    occupied: u32,
}

/// A listener of this command.
struct Listening {
    servers: Vec<JoinHandle<()>>,
    stop: CancellationToken,
    _lock: File,
}

impl Receiver {
    /// A receiver that has not looked yet.
    ///
    /// # Errors
    /// If the certificate of the gateway cannot be loaded.
    pub fn new(local: &Local) -> Result<Self, Failure> {
        Ok(Self {
            listening: None,
            tls: serve::server_tls(&local.validated, false)?,
            occupied: 0,
        })
    }

    /// Ensures that somebody receives the callback: a running gateway, another command, or this one.
    ///
    /// # Errors
    /// If another program has the port.
    pub fn ensure(&mut self, local: &Local) -> Result<(), Failure> {
        if self.listening.is_some() || local.is_gateway_running() {
            return Ok(());
        }
        let Some(lock) = try_lock(&local.validated.start.data_dir)? else {
            return Ok(());
        };
        match bind_all(&local.validated.start.listen) {
            Ok(listeners) => {
                self.occupied = 0;
                self.listening = Some(self.serve(local, listeners, lock));
                Ok(())
            }
            Err((address, error)) => {
                self.occupied += 1;
                if self.occupied < MAX_OCCUPIED {
                    return Ok(());
                }
                Err(Failure::Act(format!(
                    "cannot listen on {address} for the answer of the browser: {error}\n  another program uses the port: stop it, choose another one at `listen` in the configuration file, or use --no-browser"
                )))
            }
        }
    }

    fn serve(&self, local: &Local, listeners: Vec<TcpListener>, lock: File) -> Listening {
        let stop = CancellationToken::new();
        let router = Router::new(Arc::clone(&local.app));
        let prefix = local.validated.start.urls.prefix().to_owned();
        let serve = |listener| {
            let (router, http, prefix): (_, HttpClient, _) = (router.clone(), local.http.clone(), prefix.clone());
            let handler = move |request: http::Request<hyper::body::Incoming>, peer: server::Peer| {
                let (router, http, prefix) = (router.clone(), http.clone(), prefix.clone());
                async move {
                    if request.method() == Method::GET && is_for_browsers(request.uri().path(), &prefix) {
                        return router.handle(&http, request, peer.address.ip()).await;
                    }
                    let what = "the gateway does not run; a command waits here for the end of a sign-in";
                    reply::error(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", what)
                }
            };
            let served = server::serve(listener, self.tls.clone(), ServerLimits::default(), stop.clone(), handler);
            tokio::spawn(async move { drop(served.await) })
        };
        Listening {
            servers: listeners.into_iter().map(serve).collect(),
            stop: stop.clone(),
            _lock: lock,
        }
    }

    /// Sends what is left of the last page, and closes the port.
    pub async fn close(self) {
        if let Some(Listening { servers, stop, _lock }) = self.listening {
            stop.cancel();
            let _ = tokio::time::timeout(DRAIN_TIMEOUT, futures_util::future::join_all(servers)).await;
        }
    }
}

/// The callback and the style of its page. Nothing else is answered here.
fn is_for_browsers(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|path| path.starts_with("/upstream/callback/") || path == "/assets/style.css")
}

/// `None`: another command listens.
fn try_lock(dir: &Path) -> Result<Option<File>, Failure> {
    let path = dir.join(LOCK_FILE);
    let broken = |error: std::io::Error| Failure::Broken(format!("{} cannot be used: {error}", path.display()));
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&path).map_err(broken)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(broken(error)),
    }
}

/// Binds all addresses. All but the first may be missing on this machine. A port is not shared with a
/// gateway, whose clients would get no answer here.
fn bind_all(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, (SocketAddr, std::io::Error)> {
    let mut listeners = Vec::new();
    for (i, address) in addresses.iter().enumerate() {
        match listen::bind(*address, false) {
            Ok(listener) => listeners.push(listener),
            Err(error) if i > 0 && listen::is_missing_address(&error) => {}
            Err(error) => return Err((*address, error)),
        }
    }
    Ok(listeners)
}
