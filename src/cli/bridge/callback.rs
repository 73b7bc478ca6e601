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
use crate::cli::bridge::local_gateway::LocalGateway;
use crate::cli::serve;
use crate::net::http_client::HttpClient;
use crate::net::listen;
use crate::net::server::{self, ServerLimits};
use crate::net::tls::ServerTls;
use crate::web::reply;
use crate::web::router::Router;

/// The lock of the command that listens.
const LOCK_FILE: &str = "callback-lock";
/// Attempts to bind an occupied port before it is an error: a gateway that stops may still hold it.
const MAX_BIND_ATTEMPTS: u32 = 8;
/// The limit for sending the last page to the browser.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// Ensures that one process receives the callback, and closes the listener of this command.
pub struct CallbackReceiver {
    listener: Option<CallbackListener>,
    tls: Option<Arc<ServerTls>>,
    failed_binds: u32,
}

/// The open listeners of this command, and the lock that makes it the only command that listens.
struct CallbackListener {
    servers: Vec<JoinHandle<()>>,
    stop: CancellationToken,
    _lock: File,
}

impl CallbackReceiver {
    /// A receiver without a listener.
    ///
    /// # Errors
    /// If the certificate of the gateway cannot be loaded.
    pub fn new(local: &LocalGateway) -> Result<Self, Failure> {
        Ok(Self {
            listener: None,
            tls: serve::server_tls(&local.validated, false)?,
            failed_binds: 0,
        })
    }

    /// Ensures that a process receives the callback: a running gateway, another command, or this one.
    ///
    /// # Errors
    /// If another program has the port.
    pub fn ensure(&mut self, local: &LocalGateway) -> Result<(), Failure> {
        if self.listener.is_some() || local.is_gateway_running() {
            return Ok(());
        }
        let Some(lock) = try_lock(&local.validated.start.data_dir)? else {
            return Ok(());
        };
        match bind_all(&local.validated.start.listen) {
            Ok(listeners) => {
                self.failed_binds = 0;
                self.listener = Some(self.serve(local, listeners, lock));
                Ok(())
            }
            Err((address, error)) => {
                self.failed_binds += 1;
                if self.failed_binds < MAX_BIND_ATTEMPTS {
                    return Ok(());
                }
                Err(Failure::Act(format!(
                    "cannot listen on {address} for the answer of the browser: {error}\n  another program uses the port: stop it, choose another one at `listen` in the configuration file, or use --no-browser"
                )))
            }
        }
    }

    fn serve(&self, local: &LocalGateway, listeners: Vec<TcpListener>, lock: File) -> CallbackListener {
        let stop = CancellationToken::new();
        let router = Router::new(Arc::clone(&local.app));
        let prefix = local.validated.start.urls.prefix().to_owned();
        let serve = |listener| {
            let (router, http, prefix): (_, HttpClient, _) = (router.clone(), local.http.clone(), prefix.clone());
            let handler = move |request: http::Request<hyper::body::Incoming>, peer: server::Peer| {
                let (router, http, prefix) = (router.clone(), http.clone(), prefix.clone());
                async move {
                    if request.method() == Method::GET && is_callback_path(request.uri().path(), &prefix) {
                        return router.handle(&http, request, peer.address.ip()).await;
                    }
                    let what = "the gateway does not run; a command waits here for the end of a sign-in";
                    reply::error(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", what)
                }
            };
            let server = server::serve(listener, self.tls.clone(), ServerLimits::default(), stop.clone(), handler);
            tokio::spawn(async move { drop(server.await) })
        };
        CallbackListener {
            servers: listeners.into_iter().map(serve).collect(),
            stop: stop.clone(),
            _lock: lock,
        }
    }

    /// Sends the rest of the last page, and closes the port.
    pub async fn close(self) {
        if let Some(CallbackListener { servers, stop, _lock }) = self.listener {
            stop.cancel();
            let _ = tokio::time::timeout(DRAIN_TIMEOUT, futures_util::future::join_all(servers)).await;
        }
    }
}

/// Whether this is the path of a callback, or of the style sheet of its page. Any other request gets 503.
fn is_callback_path(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|path| path.starts_with("/upstream/callback/") || path == "/assets/style.css")
}

/// Takes the lock of the command that listens. `None`: another command holds it.
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

/// Binds all addresses. Each of them but the first may be missing on this machine. The port is not shared
/// with a gateway: requests of its clients would arrive here and get 503.
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
