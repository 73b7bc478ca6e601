//! Requests out: a pool of HTTP/1.1 and HTTP/2 connections, deadlines, no redirects, no proxies.
//!
//! One client for each lane: its connections live on the runtime that made them.

use crate::net::body::Outgoing;
use crate::net::dial;
use crate::net::dial::DialError;
use crate::net::pool::Key;
use crate::net::pool::Line;
use crate::net::pool::Pool;
use crate::net::tls::ClientTls;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::Uri;
use http::Version;
use http::header::HOST;
use http::uri::Authority;
use http::uri::PathAndQuery;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1;
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use rustls_pki_types::ServerName;
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;

/// How one request may be sent.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Which addresses may be dialled.
    pub addresses: dial::Allowed,
    /// For resolving, connecting and the TLS handshake together.
    pub connect: Duration,
    /// From having a connection to having the answer's head, sending the body included.
    /// `None` waits for ever.
    pub first_byte: Option<Duration>,
    /// Offer HTTP/2. One connection then carries all requests of this key: good for short
    /// answers that are read at once, not for streams passed on to clients, where one slow reader
    /// would hold up the others and the upstream's limit on streams be soon reached.
    pub http2: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum SendError {
    /// The address may not be dialled under this policy.
    Refused(dial::Refused),
    /// There was no connection to send on.
    Connect(ConnectError),
    /// The answer's head did not come in time.
    TimedOut,
    /// The connection failed after the request was, or may have been, sent.
    Broken(hyper::Error),
}

impl SendError {
    /// True only if it is certain that no byte of the request was sent.
    pub fn never_sent(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Connect(_) => true,
            Self::TimedOut | Self::Broken(_) => false,
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => write!(f, "may not be dialled: {reason}"),
            Self::Connect(reason) => write!(f, "no connection: {reason}"),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Broken(_) => f.write_str("the connection broke before the answer"),
        }
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(reason) => Some(reason),
            Self::Connect(reason) => Some(reason),
            Self::TimedOut => None,
            Self::Broken(cause) => Some(cause),
        }
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    /// The URL is not `http://` or `https://` with a host.
    NotHttp,
    /// The name has no address.
    Unresolved(io::Error),
    /// No address answered.
    Unreachable(io::Error),
    /// TLS failed, most often because the certificate is not trusted.
    Tls(io::Error),
    /// It took longer than the policy's `connect`.
    TimedOut,
    /// The other side closed the new connection before it took the request.
    Closed(hyper::Error),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHttp => f.write_str("not an http or https URL"),
            Self::Unresolved(cause) => write!(f, "the name cannot be resolved: {cause}"),
            Self::Unreachable(cause) => write!(f, "not reachable: {cause}"),
            Self::Tls(cause) => write!(f, "TLS failed: {cause}"),
            Self::TimedOut => f.write_str("connecting took too long"),
            Self::Closed(cause) => write!(f, "closed before the request: {cause}"),
        }
    }
}

impl std::error::Error for ConnectError {}

impl From<DialError> for SendError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Refused(reason) => Self::Refused(reason),
            DialError::Unresolved(cause) => Self::Connect(ConnectError::Unresolved(cause)),
            DialError::Unreachable(cause) => Self::Connect(ConnectError::Unreachable(cause)),
        }
    }
}

/// Sends requests, and keeps connections for the next ones. Cheap to clone. Works only on a
/// tokio runtime, and all its uses must be on the same one.
#[derive(Clone)]
pub struct Client {
    tls: ClientTls,
    pool: Arc<Pool>,
}

impl Client {
    /// A client that trusts as `tls` does, with no connections yet.
    pub fn new(tls: ClientTls) -> Client {
        Self { tls, pool: Arc::default() }
    }

    /// Sends `request`, whose URI is absolute; `Host` is set from it. Resolves when the answer's
    /// head is there; a redirect is an answer like any other.
    ///
    /// A request is sent again only where a kept connection turned out dead and gave it back
    /// unsent. Dropping this future, or the answer's body before its end, cancels the request at
    /// the other side: HTTP/1.1 closes the connection, HTTP/2 resets the stream.
    ///
    /// # Errors
    /// [`SendError`]; ask [`SendError::never_sent`] before trying elsewhere.
    pub async fn send(
        &self,
        request: Request<Outgoing>,
        policy: &Policy,
    ) -> Result<Response<Incoming>, SendError> {
        let target = Target::of(request.uri()).ok_or(SendError::Connect(ConnectError::NotHttp))?;
        let key = target.key(policy);
        let mut request = request;
        loop {
            let kept = self.pool.take(&key);
            let is_kept = kept.is_some();
            let line = match kept {
                Some(line) => line,
                None => self.connect(&key, policy.connect).await?,
            };
            target.address(&mut request, matches!(line, Line::Http2(_)));
            let mut failed = match self.send_on(line, &key, request, policy.first_byte).await? {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            match failed.take_message() {
                Some(unsent) if is_kept => request = unsent,
                Some(_) => return Err(SendError::Connect(ConnectError::Closed(failed.into_error()))),
                None => return Err(SendError::Broken(failed.into_error())),
            }
        }
    }

    async fn send_on(
        &self,
        line: Line,
        key: &Key,
        request: Request<Outgoing>,
        within: Option<Duration>,
    ) -> Result<Result<Response<Incoming>, TrySendError<Request<Outgoing>>>, SendError> {
        match line {
            Line::Http1(mut line) => {
                let sent = in_time(within, line.try_send_request(request)).await?;
                if sent.is_ok() {
                    self.pool.keep(key.clone(), line);
                }
                Ok(sent)
            }
            Line::Http2(mut line) => in_time(within, line.try_send_request(request)).await,
        }
    }

    async fn connect(&self, key: &Key, within: Duration) -> Result<Line, SendError> {
        match tokio::time::timeout(within, self.connect_now(key)).await {
            Ok(connected) => connected,
            Err(_elapsed) => Err(SendError::Connect(ConnectError::TimedOut)),
        }
    }

    async fn connect_now(&self, key: &Key) -> Result<Line, SendError> {
        let stream = dial::dial(&key.host, key.port, key.https, &key.addresses).await?;
        if !key.https {
            return speak_http1(stream).await;
        }
        let bare = key.host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare)
            .map_err(|_| SendError::Connect(ConnectError::NotHttp))?;
        let stream = tokio_rustls::TlsConnector::from(self.tls.config(key.http2))
            .connect(name, stream)
            .await
            .map_err(|cause| SendError::Connect(ConnectError::Tls(cause)))?;
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            let line = speak_http2(stream).await?;
            self.pool.share(key, &line);
            return Ok(Line::Http2(line));
        }
        speak_http1(stream).await
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

async fn speak_http1<I>(stream: I) -> Result<Line, SendError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (line, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(closed)?;
    drive(connection);
    Ok(Line::Http1(line))
}

async fn speak_http2<I>(stream: I) -> Result<http2::SendRequest<Outgoing>, SendError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (line, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        // A shared connection that died silently must not take requests for minutes.
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .handshake(TokioIo::new(stream))
        .await
        .map_err(closed)?;
    drive(connection);
    Ok(line)
}

fn closed(cause: hyper::Error) -> SendError {
    SendError::Connect(ConnectError::Closed(cause))
}

/// Ends when nobody holds the sending end any more, or the other side closes.
fn drive(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to an upstream broke");
        }
    });
}

async fn in_time<T>(
    within: Option<Duration>,
    answer: impl Future<Output = T>,
) -> Result<T, SendError> {
    match within {
        None => Ok(answer.await),
        Some(within) => {
            tokio::time::timeout(within, answer).await.map_err(|_elapsed| SendError::TimedOut)
        }
    }
}

/// Where a request goes, in the two ways of writing it.
struct Target {
    https: bool,
    host: String,
    port: u16,
    /// HTTP/2: scheme and authority travel with the path.
    full: Uri,
    /// HTTP/1.1: only the path does, and the authority is in `Host`.
    path: Uri,
    authority: HeaderValue,
}

impl Target {
    fn of(uri: &Uri) -> Option<Self> {
        let https = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let host = uri.host().filter(|host| !host.is_empty())?.to_ascii_lowercase();
        let usual = if https { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(usual);
        // Written anew: what stood before an `@` is not sent.
        let authority =
            if port == usual { host.clone() } else { format!("{host}:{port}") };
        let path = uri
            .path_and_query()
            .cloned()
            .filter(|path| path.as_str().starts_with('/'))
            .unwrap_or_else(|| PathAndQuery::from_static("/"));
        let full = Uri::builder()
            .scheme(if https { "https" } else { "http" })
            .authority(authority.parse::<Authority>().ok()?)
            .path_and_query(path.clone())
            .build()
            .ok()?;
        let authority = HeaderValue::try_from(authority).ok()?;
        Some(Self { https, host, port, full, path: Uri::from(path), authority })
    }

    fn key(&self, policy: &Policy) -> Key {
        Key {
            https: self.https,
            host: self.host.clone(),
            port: self.port,
            http2: policy.http2,
            addresses: policy.addresses.clone(),
        }
    }

    fn address(&self, request: &mut Request<Outgoing>, http2: bool) {
        if http2 {
            *request.version_mut() = Version::HTTP_2;
            *request.uri_mut() = self.full.clone();
            request.headers_mut().remove(HOST);
        } else {
            *request.version_mut() = Version::HTTP_11;
            *request.uri_mut() = self.path.clone();
            request.headers_mut().insert(HOST, self.authority.clone());
        }
    }
}
