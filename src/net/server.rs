//! Requests in: accept, limit, serve HTTP/1.1 and HTTP/2 with and without TLS, drain.
//!
//! A client that goes away, by FIN or RST, takes its request with it: the handler's future or
//! the body it answered with is dropped at once. HTTP leaves no other way to cancel in HTTP/1.1.

use crate::net::body::BodyError;
use crate::net::body::Reply;
use crate::net::dial::prepare;
pub use crate::net::listen::bind;
pub use crate::net::stop::Stop;
pub use crate::net::stop::Stopper;
use crate::net::tls::ServerTls;
use bytes::Bytes;
use http::Request;
use http::Response;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Pause after a failed accept; out of file descriptors, trying at once would only burn a core.
const BACK_OFF: Duration = Duration::from_millis(100);

/// What one listener takes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at the same time; further ones wait in the kernel's backlog.
    pub connections: usize,
    /// For the TLS handshake; for the first request; and in HTTP/1.1 from the end of an answer to
    /// the end of the next head, so also how long a connection may idle.
    pub header_read: Duration,
    /// How long an HTTP/2 connection may have no stream.
    pub idle: Duration,
    /// Of a request's head, in bytes. At least 8 KiB, hyper's own minimum.
    pub max_headers_bytes: usize,
    /// For requests that still run when draining begins.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            header_read: Duration::from_secs(30),
            idle: Duration::from_secs(120),
            max_headers_bytes: 64 * 1024,
            grace: Duration::from_secs(30),
        }
    }
}

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The other end of the connection; an IPv4 address is written as one on dual-stack sockets.
    pub address: SocketAddr,
    /// Whether it came over TLS.
    pub tls: bool,
}

/// Serves until `stop` says so, then drains: no new connections, idle ones closed, running
/// requests get `limits.grace`, then are cut. Dropping the future cuts at once. Runs on the
/// runtime it is called on, with one task for each connection.
///
/// # Errors
/// Only a `listener` that cannot be used at all; failures of single connections are logged.
pub async fn serve<H, F>(
    listener: std::net::TcpListener,
    tls: Option<Arc<ServerTls>>,
    limits: Limits,
    stop: Stop,
    handler: H,
) -> io::Result<()>
where
    H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Reply>> + Send + 'static,
{
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let slots = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
    let mut connections = JoinSet::new();
    let mut draining = std::pin::pin!(stop.draining());
    loop {
        tokio::select! {
            biased;
            () = &mut draining => break,
            Some(ended) = connections.join_next() => log_panic(ended),
            (slot, stream, address) = accept(&listener, &slots) => {
                let serving = Serving {
                    limits: limits.clone(),
                    stop: stop.clone(),
                    peer: Peer { address, tls: tls.is_some() },
                    handler: handler.clone(),
                };
                connections.spawn(one(stream, tls.clone(), serving, slot));
            }
        }
    }
    drop(listener);
    let ended = async {
        while let Some(ended) = connections.join_next().await {
            log_panic(ended);
        }
    };
    if tokio::time::timeout(limits.grace, ended).await.is_err() {
        tracing::warn!(connections = connections.len(), "draining took too long; cut");
    }
    connections.shutdown().await;
    Ok(())
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked");
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (OwnedSemaphorePermit, TcpStream, SocketAddr) {
    loop {
        let Ok(slot) = Arc::clone(slots).acquire_owned().await else {
            // Nobody closes the semaphore.
            return std::future::pending().await;
        };
        match listener.accept().await {
            Ok((stream, from)) => {
                return (slot, stream, SocketAddr::new(from.ip().to_canonical(), from.port()));
            }
            Err(error) if is_one_clients(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

/// The client was gone before we looked: no reason to wait with the next one.
fn is_one_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// What one connection needs to know.
struct Serving<H> {
    limits: Limits,
    stop: Stop,
    peer: Peer,
    handler: H,
}

async fn one<H, F>(
    stream: TcpStream,
    tls: Option<Arc<ServerTls>>,
    serving: Serving<H>,
    slot: OwnedSemaphorePermit,
) where
    H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Reply>> + Send + 'static,
{
    prepare(&stream);
    match tls {
        None => converse(stream, serving).await,
        Some(tls) => {
            let handshake = tokio_rustls::TlsAcceptor::from(tls.config()).accept(stream);
            let shaken = tokio::select! {
                () = serving.stop.draining() => return,
                shaken = tokio::time::timeout(serving.limits.header_read, handshake) => shaken,
            };
            match shaken {
                Ok(Ok(stream)) => converse(stream, serving).await,
                Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                Err(_elapsed) => tracing::debug!("TLS handshake took too long"),
            }
        }
    }
    drop(slot);
}

async fn converse<I, H, F>(stream: I, serving: Serving<H>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Reply>> + Send + 'static,
{
    let Serving { limits, stop, peer, handler } = serving;
    let activity = Activity::new();
    let seen = Arc::clone(&activity);
    let service = service_fn(move |request| {
        let busy = Busy::new(&seen);
        let answer = handler(request, peer);
        async move { Ok::<_, Infallible>(answer.await.map(|reply| Watched { reply, _busy: busy })) }
    });
    let http = protocol(&limits);
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let mut draining = std::pin::pin!(stop.draining());
    let mut told = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error = %error, "a connection broke");
                }
                return;
            }
            () = &mut draining, if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
            () = tokio::time::sleep(limits.header_read) => match activity.idle(&limits) {
                Idle::No => {}
                // Never a request, or told to go and still here: no manners needed.
                Idle::NeverSpoke => return,
                Idle::TooLong if told => return,
                Idle::TooLong => {
                    told = true;
                    connection.as_mut().graceful_shutdown();
                }
            },
        }
    }
}

fn protocol(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    let head = limits.max_headers_bytes.max(8 * 1024);
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read)
        .max_buf_size(head);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX));
    http
}

/// Whether a connection does anything. HTTP/1.1 has a timer of its own for that; HTTP/2, and a
/// connection that has not yet shown which of the two it speaks, have not.
struct Activity(Mutex<Doing>);

struct Doing {
    running: usize,
    spoke: bool,
    since: Instant,
}

enum Idle {
    No,
    NeverSpoke,
    TooLong,
}

impl Activity {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Doing { running: 0, spoke: false, since: Instant::now() })))
    }

    fn change(&self, by: impl FnOnce(&mut Doing)) {
        by(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn idle(&self, limits: &Limits) -> Idle {
        let doing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (doing.running, doing.spoke) {
            (0, false) => Idle::NeverSpoke,
            (0, true) if doing.since.elapsed() >= limits.idle => Idle::TooLong,
            _ => Idle::No,
        }
    }
}

/// One request, from its head to the end of the answer's body.
struct Busy(Arc<Activity>);

impl Busy {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.change(|doing| {
            doing.running += 1;
            doing.spoke = true;
        });
        Self(Arc::clone(activity))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.change(|doing| {
            doing.running -= 1;
            doing.since = Instant::now();
        });
    }
}

/// An answer's body that keeps its connection busy.
struct Watched {
    reply: Reply,
    _busy: Busy,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.get_mut().reply).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.reply.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.reply.size_hint()
    }
}
