//! HTTP server: limits connections, serves HTTP/1.1 and HTTP/2 with or without TLS, and drains.
//!
//! A client that closes its connection, by FIN or RST, cancels its request: the handler's future or
//! the response body is dropped at once. HTTP/1.1 has no other way to cancel.

use crate::net::activity::ActiveRequest;
use crate::net::activity::Activity;
use crate::net::activity::IdleStatus;
use crate::net::body::ResponseBody;
use crate::net::body::is_event_stream;
use crate::net::body::opens_endless_stream;
use crate::net::connection_quota::ConnectionQuota;
use crate::net::connection_quota::SourceSlot;
use crate::net::dial::prepare;
use crate::net::tls::ServerTls;
use crate::net::write_deadline::WriteDeadline;
use http::Request;
use http::Response;
use http::Version;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Pause after a failed accept, so that a lack of file descriptors does not keep a core busy.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Limits and timeouts of one listener.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// The connections of all listeners. Those beyond the total wait in the kernel's backlog; those
    /// beyond the number of a source are closed.
    pub connections: Arc<ConnectionQuota>,
    /// The time for which a response may wait for a client that does not read it.
    pub stall: Duration,
    /// Timeout for the TLS handshake and for the first request. In HTTP/1.1 also for the time from
    /// a response's end to the next head's end, which limits how long a connection is idle.
    pub header_read: Duration,
    /// The time for which an HTTP/2 connection may have no stream.
    pub idle: Duration,
    /// Maximum size of a request head, in bytes; at least 8 KiB, which is hyper's minimum.
    pub max_headers_bytes: usize,
    /// The time for which running requests may continue after draining begins.
    pub grace: Duration,
    /// The time for which event streams of GETs and subscriptions may continue after draining begins. They have
    /// no end of their own, and the client opens a new one at another instance.
    pub parting: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: Arc::default(),
            stall: Duration::from_secs(30),
            header_read: Duration::from_secs(30),
            idle: Duration::from_secs(120),
            max_headers_bytes: 64 * 1024,
            grace: Duration::from_secs(30),
            parting: Duration::from_secs(1),
        }
    }
}

/// The remote end of a request's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Remote address. An IPv4 client of a dual-stack socket has an IPv4 address, not a mapped one.
    pub address: SocketAddr,
    /// Whether the connection uses TLS.
    pub tls: bool,
}

/// Serves until `stop` fires, then drains: accepts no connections, closes idle ones, cuts requests
/// after `limits.grace`, and ends event streams of GETs and subscriptions after `limits.parting`.
/// Dropping the future cuts all at once. Runs on the current runtime, with one task per connection.
///
/// # Errors
/// If `listener` cannot be used at all. Failures of single connections are logged.
pub async fn serve<H, F>(
    listener: std::net::TcpListener,
    tls: Option<Arc<ServerTls>>,
    limits: ServerLimits,
    stop: CancellationToken,
    handler: H,
) -> io::Result<()>
where
    H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<ResponseBody>> + Send + 'static,
{
    // Each connection locks the token at each poll: workers must not share one.
    let stop = stop.child_token();
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    let mut draining = std::pin::pin!(stop.cancelled());
    let end_streams = CancellationToken::new();
    let end_streams_guard = end_streams.clone().drop_guard();
    loop {
        tokio::select! {
            biased;
            () = &mut draining => break,
            Some(result) = connections.join_next() => log_panic(result),
            (permit, stream, address) = accept(&listener, &limits.connections) => {
                let context = ConnectionContext {
                    limits: limits.clone(),
                    stop: stop.clone(),
                    ends: end_streams.clone(),
                    peer: Peer { address, tls: tls.is_some() },
                    handler: handler.clone(),
                };
                connections.spawn(handle_connection(stream, tls.clone(), context, permit));
            }
        }
    }
    drop(listener);
    let all_closed = async {
        while let Some(result) = connections.join_next().await {
            log_panic(result);
        }
    };
    // Never completes: only the end of all connections ends the wait.
    let streams_ended = async {
        tokio::time::sleep(limits.parting).await;
        drop(end_streams_guard);
        std::future::pending::<()>().await;
    };
    let drained = async {
        tokio::select! { () = all_closed => {}, () = streams_ended => {} }
    };
    if tokio::time::timeout(limits.grace, drained).await.is_err() {
        tracing::warn!(connections = connections.len(), "draining took too long; cut");
    }
    connections.shutdown().await;
    Ok(())
}

fn log_panic(result: Result<(), tokio::task::JoinError>) {
    if let Err(error) = result
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked");
    }
}

/// A connection's part of the quota.
type Permit = (OwnedSemaphorePermit, SourceSlot);

async fn accept(listener: &TcpListener, quota: &Arc<ConnectionQuota>) -> (Permit, TcpStream, SocketAddr) {
    loop {
        // Before the connection takes a file descriptor.
        let permit = quota.permit().await;
        match listener.accept().await {
            Ok((stream, address)) => {
                let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                if let Some(slot) = quota.admit(address.ip()) {
                    return ((permit, slot), stream, address);
                }
                tracing::debug!(source = %address.ip(), "this source has too many connections; another one is closed");
            }
            Err(error) if is_client_error(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

/// Whether the client closed the connection before it was accepted. Then no pause is needed.
fn is_client_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

struct ConnectionContext<H> {
    limits: ServerLimits,
    stop: CancellationToken,
    /// Ends event streams of GETs and subscriptions, `limits.parting` after draining began.
    ends: CancellationToken,
    peer: Peer,
    handler: H,
}

async fn handle_connection<H, F>(stream: TcpStream, tls: Option<Arc<ServerTls>>, context: ConnectionContext<H>, permit: Permit)
where
    H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<ResponseBody>> + Send + 'static,
{
    prepare(&stream);
    let stream = WriteDeadline::new(stream, context.limits.stall);
    match tls {
        None => serve_connection(stream, context).await,
        Some(tls) => {
            let handshake = tokio_rustls::TlsAcceptor::from(tls.config()).accept(stream);
            let result = tokio::select! {
                () = context.stop.cancelled() => return,
                result = tokio::time::timeout(context.limits.header_read, handshake) => result,
            };
            match result {
                Ok(Ok(stream)) => serve_connection(stream, context).await,
                Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                Err(_elapsed) => tracing::debug!("TLS handshake took too long"),
            }
        }
    }
    drop(permit);
}

async fn serve_connection<I, H, F>(stream: I, context: ConnectionContext<H>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<ResponseBody>> + Send + 'static,
{
    let ConnectionContext {
        limits,
        stop,
        ends: end_streams,
        peer,
        handler,
    } = context;
    let activity = Activity::new();
    let http = protocol(&limits, &activity);
    let connection_activity = Arc::clone(&activity);
    let service = service_fn(move |request: Request<Incoming>| {
        let active_request = ActiveRequest::new(&connection_activity, request.version() == Version::HTTP_2);
        let end_streams = opens_endless_stream(request.method(), request.headers()).then(|| end_streams.clone());
        let response = handler(request, peer);
        async move {
            let response = response.await;
            let end_streams = end_streams.filter(|_| is_event_stream(response.headers()));
            Ok::<_, Infallible>(response.map(|body| active_request.with(body, end_streams)))
        }
    });
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let mut draining = std::pin::pin!(stop.cancelled());
    let mut shutting_down = false;
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(error = %error, "a connection broke");
                }
                return;
            }
            () = &mut draining, if !shutting_down => {
                shutting_down = true;
                connection.as_mut().graceful_shutdown();
            }
            () = tokio::time::sleep(limits.header_read) => match activity.idle(limits.idle) {
                IdleStatus::No => {}
                // Or a graceful shutdown already began: close the connection.
                IdleStatus::Useless => return,
                IdleStatus::TooLong if shutting_down => return,
                IdleStatus::TooLong => {
                    shutting_down = true;
                    connection.as_mut().graceful_shutdown();
                }
            },
        }
    }
}

/// Runs the streams of an HTTP/2 connection. It drops a stream, and so resets it, whose client takes no
/// data for too long: by flow control, a client can keep a response for as long as it answers pings.
#[derive(Clone)]
struct StreamExecutor {
    activity: Arc<Activity>,
    stall: Duration,
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        // hyper calls the service first, so this is the progress of this stream.
        let Some(progress) = self.activity.take_new_stream() else {
            tokio::spawn(stream);
            return;
        };
        let Self { activity, stall } = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                _ = stream => {}
                () = progress.stalled(stall) => {
                    tracing::debug!("a client does not read a response; it is aborted");
                    activity.note_stall();
                }
            }
        });
    }
}

fn protocol(limits: &ServerLimits, activity: &Arc<Activity>) -> auto::Builder<StreamExecutor> {
    let mut http = auto::Builder::new(StreamExecutor {
        activity: Arc::clone(activity),
        stall: limits.stall,
    });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::body::EarlyEnd;
    use crate::net::body::RequestBody;
    use crate::net::body::StreamBody;
    use crate::net::body::StreamGuard;
    use crate::net::body::read_limited;
    use crate::net::dial::AddressPolicy;
    use crate::net::http_client::HttpClient;
    use crate::net::http_client::RequestPolicy;
    use crate::net::listen;
    use crate::net::self_signed::self_signed;
    use crate::net::tls::ClientTls;
    use bytes::Bytes;
    use http::Method;
    use http_body_util::BodyExt;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio::task::JoinHandle;

    const SOON: Duration = Duration::from_secs(2);
    const STREAM: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n";

    const POST: &[u8] = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi";

    struct Running {
        address: SocketAddr,
        stopper: CancellationToken,
        task: JoinHandle<io::Result<()>>,
    }

    fn start<H, F>(tls: Option<Arc<ServerTls>>, limits: ServerLimits, handler: H) -> Running
    where
        H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<ResponseBody>> + Send + 'static,
    {
        let listener = listen::bind(SocketAddr::from(([127, 0, 0, 1], 0)), true).expect("bound");
        let address = listener.local_addr().expect("address");
        let stopper = CancellationToken::new();
        let stop = stopper.clone();
        let task = tokio::spawn(serve(listener, tls, limits, stop, handler));
        Running { address, stopper, task }
    }

    fn ok(text: impl Into<Bytes>) -> Response<ResponseBody> {
        Response::new(ResponseBody::Full(text.into()))
    }

    fn trusting(roots: rustls::RootCertStore) -> HttpClient {
        HttpClient::new(ClientTls::trusting(roots).expect("tls"))
    }

    fn plain() -> HttpClient {
        trusting(rustls::RootCertStore::empty())
    }

    fn policy(http2: bool) -> RequestPolicy {
        RequestPolicy {
            addresses: AddressPolicy::Anything,
            connect: SOON,
            first_byte: Some(SOON),
            http2,
        }
    }

    fn get(url: String) -> Request<RequestBody> {
        Request::get(url).body(RequestBody::Empty).expect("request")
    }

    /// An upstream that sends `first` and then waits until the connection is closed.
    async fn endless() -> (SocketAddr, JoinHandle<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let upstream_task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("accept");
            head_and_body(&mut stream).await;
            stream.write_all(STREAM).await.expect("write");
            stream.read(&mut [0; 8]).await.unwrap_or(0)
        });
        (address, upstream_task)
    }

    /// Reads to the end of a request that `passing` forwards.
    async fn head_and_body(stream: &mut TcpStream) {
        let mut received = Vec::new();
        while !received.ends_with(b"0hi") && !received.ends_with(b"\r\n\r\n0") {
            assert_ne!(stream.read_buf(&mut received).await.expect("read"), 0);
        }
    }

    /// A minimal gateway: forwards each request to `upstream` and streams the response back.
    fn passing(upstream: SocketAddr, count: &Arc<AtomicUsize>, end_streams: Option<CancellationToken>) -> Running {
        let client = plain();
        let count = Arc::clone(count);
        start(None, ServerLimits::default(), move |request, _| {
            let (client, count, end_streams) = (client.clone(), Arc::clone(&count), end_streams.clone());
            async move {
                let (_, body) = request.into_parts();
                let request = Request::post(format!("http://{upstream}/"))
                    .body(RequestBody::Prefixed(Bytes::from_static(b"0"), body))
                    .expect("request");
                let response = client.send(request, &policy(false)).await.expect("answer");
                let guard = StreamGuard::new(&count, end_streams);
                response.map(|body| ResponseBody::Stream(StreamBody::new(body, Some(Box::new(EarlyEnd::Cancelled(guard))))))
            }
        })
    }

    async fn within_a_second(upstream_task: JoinHandle<usize>) {
        let result = tokio::time::timeout(Duration::from_secs(1), upstream_task).await;
        assert_eq!(result.expect("within a second").expect("upstream"), 0);
    }

    #[tokio::test]
    async fn a_disconnect_during_a_stream_closes_the_upstream_connection() {
        for reset in [false, true] {
            let (upstream, upstream_task) = endless().await;
            let count = Arc::default();
            let gateway = passing(upstream, &count, None);
            let mut client = TcpStream::connect(gateway.address).await.expect("connect");
            client.write_all(POST).await.expect("write");
            let mut received = Vec::new();
            while !received.ends_with(b"first\r\n") {
                assert_ne!(client.read_buf(&mut received).await.expect("read"), 0);
            }
            assert_eq!(count.load(Ordering::Relaxed), 1);
            if reset {
                socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("linger");
            } else {
                // Closes only the sending half: the server treats a FIN as a closed connection.
                client.shutdown().await.expect("shutdown");
            }
            let open_client = (!reset).then_some(client);
            within_a_second(upstream_task).await;
            assert_eq!(count.load(Ordering::Relaxed), 0);
            drop(open_client);
        }
    }

    #[tokio::test]
    async fn a_disconnect_before_the_response_closes_the_upstream_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let upstream = listener.local_addr().expect("address");
        let gateway = passing(upstream, &Arc::default(), None);
        let mut client = TcpStream::connect(gateway.address).await.expect("connect");
        client.write_all(POST).await.expect("write");
        let (mut stream, _) = listener.accept().await.expect("accept");
        head_and_body(&mut stream).await;
        drop(client);
        within_a_second(tokio::spawn(async move { stream.read(&mut [0; 8]).await.unwrap_or(0) })).await;
    }

    #[tokio::test]
    async fn an_end_signal_ends_a_stream_and_its_upstream_request() {
        let (upstream, upstream_task) = endless().await;
        let end_streams = CancellationToken::new();
        let count = Arc::default();
        let gateway = passing(upstream, &count, Some(end_streams.clone()));
        let request = get(format!("http://{}/", gateway.address));
        let response = plain().send(request, &policy(false)).await.expect("answer");
        let mut body = response.into_body();
        body.frame().await.expect("frame").expect("first");
        end_streams.cancel();
        assert!(body.frame().await.is_none());
        within_a_second(upstream_task).await;
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_self_signed_certificate_serves_http1_and_http2() {
        let dir = tempfile::tempdir().expect("dir");
        let files = self_signed(dir.path(), &[]).expect("made");
        let tls = ServerTls::by_server_name(files.named, files.unnamed).expect("tls");
        let server = start(Some(Arc::new(tls)), ServerLimits::default(), |request, peer| async move {
            ok(format!("{:?} {}", request.version(), peer.tls))
        });
        let client = HttpClient::new(ClientTls::load(&[files.ca]).expect("roots"));
        for host in ["localhost", "127.0.0.1"] {
            for (http2, expected) in [(true, Version::HTTP_2), (false, Version::HTTP_11)] {
                let url = format!("https://{host}:{}/", server.address.port());
                let response = client.send(get(url), &policy(http2)).await.expect("answer");
                assert_eq!(response.version(), expected);
                let body = read_limited(response.into_body(), 100, SOON).await.expect("body");
                assert_eq!(body, format!("{expected:?} true"));
            }
        }
        let error = plain()
            .send(get(format!("https://localhost:{}/", server.address.port())), &policy(true))
            .await
            .expect_err("not trusted");
        assert!(error.never_sent(), "{error}");
    }

    #[tokio::test]
    async fn http2_streams_share_a_connection_and_are_reset_when_dropped() {
        let dir = tempfile::tempdir().expect("dir");
        let files = self_signed(dir.path(), &[]).expect("made");
        let tls = ServerTls::by_server_name(files.named, files.unnamed).expect("tls");
        let (upstream, upstream_task) = endless().await;
        let upstream_client = plain();
        let server = start(Some(Arc::new(tls)), ServerLimits::default(), move |request, peer| {
            let upstream_client = upstream_client.clone();
            async move {
                if request.uri().path() == "/port" {
                    return ok(peer.address.port().to_string());
                }
                let request = Request::post(format!("http://{upstream}/"))
                    .body(RequestBody::Full(Bytes::from_static(b"0hi")))
                    .expect("request");
                let response = upstream_client.send(request, &policy(false)).await.expect("answer");
                response.map(|body| ResponseBody::Stream(StreamBody::new(body, None)))
            }
        });
        let client = HttpClient::new(ClientTls::load(&[files.ca]).expect("roots"));
        let url = |path: &str| format!("https://localhost:{}{path}", server.address.port());
        let mut ports = Vec::new();
        for _ in 0..2 {
            let response = client.send(get(url("/port")), &policy(true)).await.expect("answer");
            ports.push(read_limited(response.into_body(), 100, SOON).await.expect("body"));
        }
        assert_eq!(ports[0], ports[1]);
        let response = client.send(get(url("/stream")), &policy(true)).await.expect("answer");
        let mut body = response.into_body();
        body.frame().await.expect("frame").expect("first");
        drop(body);
        within_a_second(upstream_task).await;
    }

    #[tokio::test]
    async fn http2_with_prior_knowledge_works_without_tls() {
        let server = start(None, ServerLimits::default(), |request, _| async move {
            ok(format!("{:?}", request.version()))
        });
        let stream = TcpStream::connect(server.address).await.expect("connect");
        let (mut sender, connection) = hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("handshake");
        tokio::spawn(connection);
        let request = get(format!("http://{}/", server.address));
        let response = sender.send_request(request).await.expect("answer");
        let body = read_limited(response.into_body(), 100, SOON).await.expect("body");
        assert_eq!(body, "HTTP/2.0");
    }

    #[tokio::test]
    async fn draining_finishes_running_requests_and_accepts_no_new_connections() {
        let server = start(None, ServerLimits::default(), |_, _| async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            ok("done")
        });
        let url = format!("http://{}/", server.address);
        let request_task = tokio::spawn(async move {
            let response = plain().send(get(url), &policy(false)).await.expect("answer");
            read_limited(response.into_body(), 100, SOON).await.expect("body")
        });
        let idle = TcpStream::connect(server.address).await.expect("connect");
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.stopper.cancel();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(TcpStream::connect(server.address).await.is_err());
        assert_eq!(request_task.await.expect("finished"), "done");
        let drained = tokio::time::timeout(SOON, server.task).await.expect("drained");
        drained.expect("task").expect("served");
        drop(idle);
    }

    /// Drains during an event stream: returns what was read, and whether the server stopped early.
    async fn draining_ends(request: http::request::Builder) -> (Result<usize, crate::net::body::BodyError>, bool) {
        let (upstream, upstream_task) = endless().await;
        let limits = ServerLimits {
            grace: Duration::from_millis(800),
            parting: Duration::from_millis(50),
            ..ServerLimits::default()
        };
        let upstream_client = plain();
        let server = start(None, limits, move |_, _| {
            let upstream_client = upstream_client.clone();
            async move {
                let request = Request::post(format!("http://{upstream}/")).body(RequestBody::Full(Bytes::from_static(b"0hi")));
                let mut response = upstream_client
                    .send(request.expect("request"), &policy(false))
                    .await
                    .expect("answer");
                response
                    .headers_mut()
                    .insert("content-type", "text/event-stream".parse().expect("value"));
                response.map(|body| ResponseBody::Stream(StreamBody::new(body, None)))
            }
        });
        let request = request.uri(format!("http://{}/", server.address));
        let response = plain()
            .send(request.body(RequestBody::Empty).expect("request"), &policy(false))
            .await
            .expect("answer");
        let read_task = tokio::spawn(async move { read_limited(response.into_body(), 100, SOON).await.map(|body| body.len()) });
        server.stopper.cancel();
        let stopped_early = tokio::time::timeout(Duration::from_millis(400), server.task).await.is_ok();
        within_a_second(upstream_task).await;
        (read_task.await.expect("read"), stopped_early)
    }

    #[tokio::test]
    async fn draining_ends_endless_event_streams_at_once_and_others_after_grace() {
        let post = || Request::builder().method(Method::POST);
        for request in [Request::builder(), post().header("mcp-method", "subscriptions/listen")] {
            let (result, stopped_early) = draining_ends(request).await;
            assert!(stopped_early && result.expect("a clean end") == 5);
        }
        for request in [post(), post().header("mcp-method", "tools/call")] {
            let (result, stopped_early) = draining_ends(request).await;
            assert!(!stopped_early && result.is_err(), "cut at the end of the grace");
        }
    }

    #[tokio::test]
    async fn draining_cuts_requests_that_outlive_the_grace_period() {
        let limits = ServerLimits {
            grace: Duration::from_millis(50),
            ..ServerLimits::default()
        };
        let server = start(None, limits, |_, _| std::future::pending());
        let url = format!("http://{}/", server.address);
        let request_task = tokio::spawn(async move { plain().send(get(url), &policy(false)).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.stopper.cancel();
        tokio::time::timeout(SOON, server.task)
            .await
            .expect("drained")
            .expect("task")
            .expect("served");
        assert!(request_task.await.expect("client").is_err());
    }

    #[tokio::test]
    async fn a_connection_without_a_complete_request_head_times_out() {
        let limits = ServerLimits {
            header_read: Duration::from_millis(100),
            ..ServerLimits::default()
        };
        let server = start(None, limits, |_, _| async { ok("") });
        for text in ["", "PRI * HT", "GET / HTTP/1.1\r\nhost: x\r\n"] {
            let mut client = TcpStream::connect(server.address).await.expect("connect");
            client.write_all(text.as_bytes()).await.expect("write");
            let mut rest = Vec::new();
            tokio::time::timeout(SOON, client.read_to_end(&mut rest)).await.expect(text).ok();
        }
    }

    #[tokio::test]
    async fn a_request_head_beyond_the_limit_gets_status_431() {
        let server = start(None, ServerLimits::default(), |_, _| async { ok("") });
        for (size, status) in [(30_000, 200), (70_000, 431)] {
            let mut request = get(format!("http://{}/", server.address));
            let value = "x".repeat(size).parse().expect("value");
            request.headers_mut().insert("x-long", value);
            let response = plain().send(request, &policy(false)).await.expect("answer");
            assert_eq!(response.status(), status, "{size}");
        }
    }

    #[tokio::test]
    async fn a_connection_beyond_the_limit_waits_until_another_closes() {
        let limits = ServerLimits {
            connections: Arc::new(ConnectionQuota::new(1, 9, Vec::new())),
            ..ServerLimits::default()
        };
        let server = start(None, limits, |_, _| async { ok("served") });
        let first = TcpStream::connect(server.address).await.expect("connect");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let url = format!("http://{}/", server.address);
        let second = tokio::spawn(async move { plain().send(get(url), &policy(false)).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!second.is_finished());
        drop(first);
        assert_eq!(second.await.expect("client").expect("answer").status(), 200);
    }

    #[tokio::test]
    async fn a_source_with_too_many_connections_is_refused_another_one() {
        let limits = ServerLimits {
            connections: Arc::new(ConnectionQuota::new(9, 2, Vec::new())),
            ..ServerLimits::default()
        };
        let server = start(None, limits, |_, _| async { ok("served") });
        let connect = async || TcpStream::connect(server.address).await.expect("connect");
        let (first, mut second) = (connect().await, connect().await);
        second.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("write");
        assert_ne!(second.read(&mut [0; 64]).await.expect("answer"), 0, "both are accepted");
        let refused = tokio::time::timeout(SOON, connect().await.read(&mut [0; 8])).await;
        assert!(!matches!(refused.expect("closed"), Ok(1..)));
        drop(first);
        let url = format!("http://{}/", server.address);
        for _ in 0..100 {
            if let Ok(answer) = plain().send(get(url.clone()), &policy(false)).await {
                return assert_eq!(answer.status(), 200);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("a closed connection counts no longer");
    }

    /// A client that never reads: its socket buffers fill, and then nothing proceeds.
    #[tokio::test]
    async fn a_response_that_the_client_does_not_read_is_aborted() {
        let limits = ServerLimits {
            stall: Duration::from_millis(200),
            ..ServerLimits::default()
        };
        let (closed, mut is_closed) = tokio::sync::mpsc::channel::<()>(1);
        let server = start(None, limits, move |_, _| {
            let body = Bytes::from(vec![b'x'; 64 << 20]);
            let closed = closed.clone();
            async move {
                // Dropped with the body.
                let owner = (body, closed);
                ok(Bytes::from_owner(Owned(owner)))
            }
        });
        let mut client = TcpStream::connect(server.address).await.expect("connect");
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("write");
        server_forgets(&mut is_closed).await;
    }

    struct Owned((Bytes, tokio::sync::mpsc::Sender<()>));

    impl AsRef<[u8]> for Owned {
        fn as_ref(&self) -> &[u8] {
            &self.0.0
        }
    }

    impl Drop for Owned {
        fn drop(&mut self) {
            let _ = self.0.1.try_send(());
        }
    }

    async fn server_forgets(is_closed: &mut tokio::sync::mpsc::Receiver<()>) {
        let closed = tokio::time::timeout(Duration::from_secs(20), is_closed.recv()).await;
        assert_eq!(closed.expect("the response is dropped"), Some(()));
    }

    /// With a window of 0, the client takes no data, and answers pings.
    #[tokio::test]
    async fn an_http2_stream_whose_window_stays_closed_is_reset_and_others_go_on() {
        let limits = ServerLimits {
            stall: Duration::from_millis(300),
            ..ServerLimits::default()
        };
        let (closed, mut is_closed) = tokio::sync::mpsc::channel::<()>(1);
        let server = start(None, limits, move |request: Request<Incoming>, _| {
            let closed = closed.clone();
            async move {
                match request.uri().path() {
                    "/read" => ok(""),
                    _ => ok(Bytes::from_owner(Owned((Bytes::from_static(b"never read"), closed)))),
                }
            }
        });
        let stream = TcpStream::connect(server.address).await.expect("connect");
        let handshake = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
            .initial_stream_window_size(0)
            .handshake::<_, RequestBody>(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.expect("handshake");
        tokio::spawn(connection);
        let url = |path: &str| format!("http://{}{path}", server.address);
        let stalled = sender.send_request(get(url("/"))).await.expect("answer");
        server_forgets(&mut is_closed).await;
        let error = stalled.into_body().collect().await;
        assert!(error.is_err(), "the stream is reset");
        assert_eq!(sender.send_request(get(url("/read"))).await.expect("answer").status(), 200);
    }

    /// A frame of HTTP/2 (RFC 9113 §4.1).
    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// Sends the frames that `next` makes, until the server ends the connection. Returns the number of bytes sent.
    async fn flood(address: SocketAddr, next: impl Fn(u32) -> Vec<u8>) -> usize {
        const MAX_BYTES: usize = 64 << 20;
        let stream = TcpStream::connect(address).await.expect("connect");
        let (mut reader, mut writer) = stream.into_split();
        let answers = tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
        let mut bytes = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat();
        let mut sent = 0;
        for number in 0.. {
            bytes.extend(next(number));
            if bytes.len() > 16 << 10 {
                sent += bytes.len();
                if writer.write_all(&bytes).await.is_err() || sent > MAX_BYTES || answers.is_finished() {
                    break;
                }
                bytes.clear();
            }
        }
        let ended = tokio::time::timeout(SOON, answers).await;
        assert!(ended.is_ok(), "the connection is open after {sent} bytes");
        sent
    }

    /// Streams that are reset at once (CVE-2023-44487), and a head that never ends (CVE-2023-45288).
    #[tokio::test]
    async fn http2_floods_end_the_connection_and_others_are_served() {
        let server = start(None, ServerLimits::default(), |_, _| async { ok("served") });
        // `GET http:/` at the authority `a` (RFC 7541, Appendix A).
        let head = [0x82, 0x86, 0x84, 0x41, 1, b'a'];
        let resets = flood(server.address, |number| {
            let stream = 2 * number + 1;
            [frame(1, 0b101, stream, &head), frame(3, 0, stream, &8_u32.to_be_bytes())].concat()
        });
        // A header that is not indexed, `x: …`, of 100 bytes.
        let field = [&[0, 1, b'x', 100][..], &[b'y'; 100]].concat();
        let endless_head = flood(server.address, |number| match number {
            0 => frame(1, 0, 1, &head),
            _ => frame(9, 0, 1, &field),
        });
        let empty_pieces = flood(server.address, |number| match number {
            0 => frame(1, 0, 1, &head),
            _ => frame(9, 0, 1, &[]),
        });
        let sent = [resets.await, endless_head.await, empty_pieces.await];
        assert!(sent.iter().all(|bytes| *bytes < 32 << 20), "{sent:?}");
        let response = plain().send(get(format!("http://{}/", server.address)), &policy(false)).await;
        assert_eq!(response.expect("answer").status(), 200);
    }
}
