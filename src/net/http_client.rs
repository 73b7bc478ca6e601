//! HTTP client: pooled HTTP/1.1 and HTTP/2 connections, timeouts, no redirects, no proxies.
//!
//! Each worker has its own client, because a connection lives on the runtime that created it.

use crate::net::body::RequestBody;
use crate::net::dial::{self, DialError};
use crate::net::pool::{Pool, PoolKey, PooledConn};
use crate::net::request_target::RequestTarget;
use crate::net::tls::ClientTls;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// The addresses and timeouts of one request.
#[derive(Clone, Debug)]
pub struct RequestPolicy {
    /// Addresses that the client may connect to.
    pub addresses: dial::AddressPolicy,
    /// Timeout for DNS, TCP and TLS together.
    pub connect: Duration,
    /// Timeout from an open connection to the response head, including sending the body. `None`: no
    /// timeout.
    pub first_byte: Option<Duration>,
    /// Whether to offer HTTP/2, where one connection carries all requests of a pool key. That suits
    /// short responses that are read at once. It does not suit streams to clients: one slow reader
    /// delays the others, and the upstream's limit on streams is soon reached.
    pub http2: bool,
}

impl RequestPolicy {
    /// The policy for a server that the operator configured: any address, over HTTP/1.1.
    pub fn for_configured(connect: Duration, first_byte: Option<Duration>) -> Self {
        Self {
            addresses: dial::AddressPolicy::Anything,
            connect,
            first_byte,
            http2: false,
        }
    }
}

/// The reason why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The policy forbids the address.
    #[error("may not be dialled: {0}")]
    Refused(#[source] dial::AddressRefused),
    /// There was no connection to send on.
    #[error("no connection: {0}")]
    Connect(#[source] ConnectError),
    /// The response head did not arrive in time.
    #[error("no answer in time")]
    TimedOut,
    /// The connection failed after the request was sent, or may have been sent.
    #[error("the connection broke before the answer")]
    Broken(#[source] hyper::Error),
}

impl SendError {
    /// Whether the host has no address that may be dialled. A retry does not help.
    pub fn has_no_address(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Connect(ConnectError::Unresolved(_)) => true,
            Self::Connect(_) | Self::TimedOut | Self::Broken(_) => false,
        }
    }

    /// Whether it is certain that no byte of the request was sent.
    pub fn never_sent(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Connect(_) => true,
            Self::TimedOut | Self::Broken(_) => false,
        }
    }
}

/// The reason why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is not `http://` or `https://` with a host.
    #[error("not an http or https URL")]
    NotHttp,
    /// The host name cannot be resolved.
    #[error("the name cannot be resolved: {0}")]
    Unresolved(io::Error),
    /// No address accepted a connection.
    #[error("not reachable: {0}")]
    Unreachable(io::Error),
    /// TLS failed, most often because the certificate is not trusted.
    #[error("TLS failed: {0}")]
    Tls(io::Error),
    /// Connecting took longer than [`RequestPolicy::connect`].
    #[error("connecting took too long")]
    TimedOut,
    /// The peer closed the new connection before it took the request.
    #[error("closed before the request: {0}")]
    Closed(hyper::Error),
}

impl From<DialError> for SendError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Refused(reason) => Self::Refused(reason),
            DialError::Unresolved(cause) => Self::Connect(ConnectError::Unresolved(cause)),
            DialError::Unreachable(cause) => Self::Connect(ConnectError::Unreachable(cause)),
        }
    }
}

/// Sends requests and pools connections. Cheap to clone. Needs a tokio runtime, and all clones must
/// be used on the same one.
#[derive(Clone)]
pub struct HttpClient {
    tls: ClientTls,
    pool: Arc<Pool>,
}

impl HttpClient {
    /// Creates a client without connections. `tls` decides which certificates it trusts.
    pub fn new(tls: ClientTls) -> HttpClient {
        Self { tls, pool: Arc::default() }
    }

    /// Creates a client that trusts no certificate, for tests that send nothing.
    #[cfg(test)]
    pub(crate) fn without_roots() -> HttpClient {
        Self::new(ClientTls::trusting(rustls::RootCertStore::empty()).unwrap())
    }

    /// Sends `request`, whose URI must be absolute, and sets `Host` from it. Resolves when the
    /// response head arrives. A redirect is a response like any other.
    ///
    /// A request is retried only if a pooled connection was dead and returned it unsent, or, once, if it is a
    /// GET or DELETE without a body (RFC 9110 §9.2.2) and the pooled connection broke. Dropping
    /// this future, or an unfinished response body, cancels the request at the peer: HTTP/1.1
    /// closes the connection, HTTP/2 resets the stream.
    ///
    /// # Errors
    /// [`SendError`]. Check [`SendError::never_sent`] before a request is sent elsewhere.
    pub async fn send(&self, request: Request<RequestBody>, policy: &RequestPolicy) -> Result<Response<Incoming>, SendError> {
        let target = RequestTarget::of(request.uri()).ok_or(SendError::Connect(ConnectError::NotHttp))?;
        let key = target.key(policy.addresses.clone(), policy.http2);
        let mut request = request;
        let mut is_repeated = false;
        loop {
            let pooled = if is_repeated { None } else { self.pool.take(&key) };
            let is_pooled = pooled.is_some();
            let copy = if is_pooled { repeatable(&request) } else { None };
            let connection = match pooled {
                Some(connection) => connection,
                // Boxed: the state of a TLS handshake is large, and most requests find a connection.
                None => Box::pin(self.connect(&key, policy.connect)).await?,
            };
            target.apply_to(&mut request, matches!(connection, PooledConn::Http2(_)));
            let mut error = match self.send_on(connection, &key, request, policy.first_byte).await? {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            match error.take_message() {
                Some(unsent_request) if is_pooled => request = unsent_request,
                Some(_) => {
                    return Err(SendError::Connect(ConnectError::Closed(error.into_error())));
                }
                None => match copy {
                    Some(copy) => (request, is_repeated) = (*copy, true),
                    None => return Err(SendError::Broken(error.into_error())),
                },
            }
        }
    }

    /// As [`Self::send`], but on a connection of its own. Also returns the address of its other end, on
    /// which the response depends: a name can have another address at the next lookup.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn send_on_new_connection(
        &self,
        request: Request<RequestBody>,
        policy: &RequestPolicy,
    ) -> Result<(Response<Incoming>, IpAddr), SendError> {
        let target = RequestTarget::of(request.uri()).ok_or(SendError::Connect(ConnectError::NotHttp))?;
        let key = target.key(policy.addresses.clone(), policy.http2);
        let connect = async {
            let stream = dial::dial(&key.host, key.port, key.https, &key.addresses).await?;
            let peer = stream
                .peer_addr()
                .map_err(|error| SendError::Connect(ConnectError::Unreachable(error)))?;
            Ok::<_, SendError>((self.handshake(&key, stream).await?, peer.ip()))
        };
        let connected = tokio::time::timeout(policy.connect, connect).await;
        let (connection, peer) = connected.map_err(|_elapsed| SendError::Connect(ConnectError::TimedOut))??;
        let mut request = request;
        target.apply_to(&mut request, matches!(connection, PooledConn::Http2(_)));
        match self.send_on(connection, &key, request, policy.first_byte).await? {
            Ok(response) => Ok((response, peer)),
            Err(mut error) => Err(match error.take_message() {
                Some(_) => SendError::Connect(ConnectError::Closed(error.into_error())),
                None => SendError::Broken(error.into_error()),
            }),
        }
    }

    async fn send_on(
        &self,
        connection: PooledConn,
        key: &PoolKey,
        request: Request<RequestBody>,
        timeout: Option<Duration>,
    ) -> Result<Result<Response<Incoming>, TrySendError<Request<RequestBody>>>, SendError> {
        match connection {
            PooledConn::Http1(mut sender) => {
                let result = with_timeout(timeout, sender.try_send_request(request)).await?;
                if result.is_ok() {
                    self.pool.return_conn(key.clone(), sender);
                }
                Ok(result)
            }
            PooledConn::Http2(mut sender) => with_timeout(timeout, sender.try_send_request(request)).await,
        }
    }

    async fn connect(&self, key: &PoolKey, timeout: Duration) -> Result<PooledConn, SendError> {
        match tokio::time::timeout(timeout, self.connect_now(key)).await {
            Ok(result) => result,
            Err(_elapsed) => Err(SendError::Connect(ConnectError::TimedOut)),
        }
    }

    async fn connect_now(&self, key: &PoolKey) -> Result<PooledConn, SendError> {
        let stream = dial::dial(&key.host, key.port, key.https, &key.addresses).await?;
        self.handshake(key, stream).await
    }

    async fn handshake(&self, key: &PoolKey, stream: TcpStream) -> Result<PooledConn, SendError> {
        if !key.https {
            return handshake_http1(stream).await;
        }
        let host = key.host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(|_| SendError::Connect(ConnectError::NotHttp))?;
        let stream = tokio_rustls::TlsConnector::from(self.tls.config(key.http2))
            .connect(name, stream)
            .await
            .map_err(|cause| SendError::Connect(ConnectError::Tls(cause)))?;
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            let sender = handshake_http2(stream).await?;
            self.pool.share(key, &sender);
            return Ok(PooledConn::Http2(sender));
        }
        handshake_http1(stream).await
    }
}

/// A copy of a request that may be sent twice (RFC 9110 §9.2.2) and has no body.
fn repeatable(request: &Request<RequestBody>) -> Option<Box<Request<RequestBody>>> {
    let is_idempotent = matches!(*request.method(), Method::GET | Method::DELETE);
    if !is_idempotent || !matches!(request.body(), RequestBody::Empty) {
        return None;
    }
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(Box::new(copy))
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

async fn handshake_http1<I>(stream: I) -> Result<PooledConn, SendError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(closed)?;
    drive(connection);
    Ok(PooledConn::Http1(sender))
}

async fn handshake_http2<I>(stream: I) -> Result<http2::SendRequest<RequestBody>, SendError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        // Otherwise a shared connection that died silently would take requests for minutes.
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .handshake(TokioIo::new(stream))
        .await
        .map_err(closed)?;
    drive(connection);
    Ok(sender)
}

fn closed(cause: hyper::Error) -> SendError {
    SendError::Connect(ConnectError::Closed(cause))
}

/// Runs a connection in a task, until its last sender is dropped or the peer closes it.
fn drive(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to an upstream broke");
        }
    });
}

async fn with_timeout<T>(timeout: Option<Duration>, response: impl Future<Output = T>) -> Result<T, SendError> {
    match timeout {
        None => Ok(response.await),
        Some(timeout) => tokio::time::timeout(timeout, response)
            .await
            .map_err(|_elapsed| SendError::TimedOut),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::body::read_limited;
    use bytes::Bytes;
    use http_body_util::BodyExt;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    const SOON: Duration = Duration::from_secs(2);
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

    fn client() -> HttpClient {
        HttpClient::new(ClientTls::trusting(rustls::RootCertStore::empty()).expect("tls"))
    }

    fn policy() -> RequestPolicy {
        RequestPolicy {
            addresses: dial::AddressPolicy::Anything,
            connect: SOON,
            first_byte: Some(SOON),
            http2: false,
        }
    }

    fn post(address: SocketAddr) -> Request<RequestBody> {
        Request::post(format!("http://user@{address}/mcp?a=b"))
            .body(RequestBody::Full(Bytes::from_static(b"hi")))
            .expect("request")
    }

    async fn listen() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        (listener, address)
    }

    /// Reads one request that `post` made.
    async fn request(stream: &mut TcpStream) -> String {
        let mut received = Vec::new();
        while !received.ends_with(b"\r\n\r\nhi") {
            assert_ne!(stream.read_buf(&mut received).await.expect("read"), 0, "closed");
        }
        String::from_utf8(received).expect("text")
    }

    async fn whole(response: Response<Incoming>) -> Bytes {
        read_limited(response.into_body(), 1000, SOON).await.expect("body")
    }

    async fn settles(client: &HttpClient, idle: usize) {
        for _ in 0..200 {
            if client.pool.idle() == idle {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{} kept connections, not {idle}", client.pool.idle());
    }

    #[tokio::test]
    async fn a_connection_is_reused_after_its_response_was_read() {
        let (listener, address) = listen().await;
        let upstream = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("accept");
            let first = request(&mut stream).await;
            stream.write_all(OK).await.expect("write");
            request(&mut stream).await;
            stream.write_all(OK).await.expect("write");
            first
        });
        let client = client();
        for idle in [0, 1] {
            settles(&client, idle).await;
            let response = client.send(post(address), &policy()).await.expect("answer");
            assert_eq!(whole(response).await, "ok");
        }
        let head = upstream.await.expect("one connection");
        assert!(head.starts_with("POST /mcp?a=b HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("host: {address}\r\n")), "{head}");
        assert!(head.contains("content-length: 2\r\n"), "{head}");
    }

    #[tokio::test]
    async fn pooled_connections_are_not_shared_between_address_policies() {
        let (listener, address) = listen().await;
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("accept");
                request(&mut stream).await;
                stream.write_all(OK).await.expect("write");
                tokio::spawn(async move { stream.read_u8().await });
            }
        });
        let client = client();
        whole(client.send(post(address), &policy()).await.expect("answer")).await;
        settles(&client, 1).await;
        let strict = RequestPolicy {
            addresses: dial::AddressPolicy::Public { loopback: false },
            ..policy()
        };
        let error = client.send(post(address), &strict).await.expect_err("refused");
        assert!(matches!(error, SendError::Refused(_)) && error.never_sent());
    }

    #[tokio::test]
    async fn a_closed_idle_connection_is_replaced_without_sending_twice() {
        let (listener, address) = listen().await;
        let (request_sender, mut requests) = mpsc::unbounded_channel();
        let (close, mut close_signal) = mpsc::unbounded_channel::<()>();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("accept");
                request(&mut stream).await;
                request_sender.send(()).expect("heard");
                stream.write_all(OK).await.expect("write");
                close_signal.recv().await;
            }
        });
        let client = client();
        whole(client.send(post(address), &policy()).await.expect("answer")).await;
        settles(&client, 1).await;
        close.send(()).expect("close");
        // No async sleep: the connection's task must not see the close before the request is sent.
        // It is enough that the kernel has seen it.
        std::thread::sleep(Duration::from_millis(20));
        tokio::task::yield_now().await;
        whole(client.send(post(address), &policy()).await.expect("answer")).await;
        close.send(()).expect("close");
        requests.recv().await.expect("first");
        requests.recv().await.expect("second");
        assert!(requests.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_request_that_may_have_arrived_is_not_sent_again() {
        let (listener, address) = listen().await;
        let upstream = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("accept");
            request(&mut stream).await;
            stream.write_all(OK).await.expect("write");
            request(&mut stream).await;
            drop(stream);
            tokio::time::timeout(Duration::from_millis(200), listener.accept()).await.is_err()
        });
        let client = client();
        whole(client.send(post(address), &policy()).await.expect("answer")).await;
        settles(&client, 1).await;
        let error = client.send(post(address), &policy()).await.expect_err("broken");
        assert!(matches!(error, SendError::Broken(_)) && !error.never_sent());
        assert!(upstream.await.expect("upstream"), "sent twice");
    }

    #[tokio::test]
    async fn the_client_returns_redirects_and_does_not_follow_them() {
        let (listener, address) = listen().await;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("accept");
            request(&mut stream).await;
            let response = format!("HTTP/1.1 307 x\r\nlocation: http://{address}/\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(response.as_bytes()).await.expect("write");
            let _ = stream.read_u8().await;
        });
        let response = client().send(post(address), &policy()).await.expect("answer");
        assert_eq!(response.status(), 307);
    }

    #[tokio::test]
    async fn a_response_streams_and_dropping_its_body_closes_the_connection() {
        let (listener, address) = listen().await;
        let upstream = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("accept");
            request(&mut stream).await;
            let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n";
            stream.write_all(head).await.expect("write");
            stream.read(&mut [0; 8]).await.unwrap_or(0)
        });
        let client = client();
        let response = client.send(post(address), &policy()).await.expect("answer");
        let mut body = response.into_body();
        let frame = body.frame().await.expect("frame").expect("frame");
        assert_eq!(frame.into_data().expect("data"), "first");
        drop(body);
        let result = tokio::time::timeout(Duration::from_secs(1), upstream).await;
        assert_eq!(result.expect("within a second").expect("upstream"), 0);
        assert_eq!(client.pool.idle(), 0);
    }

    #[tokio::test]
    async fn a_late_response_head_times_out_and_closes_the_connection() {
        let (listener, address) = listen().await;
        let upstream = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("accept");
            request(&mut stream).await;
            stream.read(&mut [0; 8]).await.unwrap_or(0)
        });
        let short_timeout = RequestPolicy {
            first_byte: Some(Duration::from_millis(50)),
            ..policy()
        };
        let error = client().send(post(address), &short_timeout).await.expect_err("late");
        assert!(matches!(error, SendError::TimedOut) && !error.never_sent());
        let result = tokio::time::timeout(Duration::from_secs(1), upstream).await;
        assert_eq!(result.expect("within a second").expect("upstream"), 0);
    }

    #[tokio::test]
    async fn the_address_of_a_new_connection_is_reported() {
        let (listener, address) = listen().await;
        let server = tokio::spawn(async move {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.expect("accept");
                request(&mut stream).await;
                stream.write_all(OK).await.expect("write");
                tokio::spawn(async move { stream.read(&mut [0; 8]).await });
            }
        });
        let client = client();
        for pooled in 1..=2 {
            let sent = client.send_on_new_connection(post(address), &policy()).await;
            let (response, peer) = sent.expect("answer");
            assert_eq!((&whole(response).await[..], peer), (&b"ok"[..], address.ip()));
            settles(&client, pooled).await;
        }
        server.await.expect("two connections");
    }

    #[tokio::test]
    async fn a_failed_connect_reports_that_nothing_was_sent() {
        let (listener, address) = listen().await;
        drop(listener);
        let error = client().send(post(address), &policy()).await.expect_err("gone");
        assert!(matches!(error, SendError::Connect(ConnectError::Unreachable(_))));
        assert!(error.never_sent());
        let relative = Request::get("/only/a/path").body(RequestBody::Empty).expect("request");
        let error = client().send(relative, &policy()).await.expect_err("no host");
        assert!(matches!(error, SendError::Connect(ConnectError::NotHttp)));
    }
}
