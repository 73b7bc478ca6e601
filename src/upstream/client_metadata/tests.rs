//! Tests of the document cache against honest and hostile hosts on real sockets.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use http::HeaderValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::net::tls::ClientTls;

/// The response of a host: status, header lines, body.
type Answering = dyn Fn(&str, SocketAddr) -> (&'static str, String, String) + Send + Sync;

/// A host of metadata documents on loopback.
struct Host {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Host {
    async fn answering(respond: impl Fn(&str, SocketAddr) -> (&'static str, String, String) + Send + Sync + 'static) -> Self {
        let respond: Arc<Answering> = Arc::new(respond);
        Self::serving(move |mut stream, path, address| {
            let (status, head, body) = respond(&path, address);
            async move {
                let response = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{head}\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(response.as_bytes()).await;
            }
        })
        .await
    }

    async fn serving<F: Future<Output = ()> + Send + 'static>(serve: impl Fn(TcpStream, String, SocketAddr) -> F + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let request_count = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&request_count);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.is_ok_and(|n| n > 0) {}
                count.fetch_add(1, Ordering::SeqCst);
                let path = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or("").to_owned();
                tokio::spawn(serve(stream, path, address));
            }
        });
        Self {
            address,
            asked: request_count,
        }
    }

    /// A host with one fixed response.
    async fn saying(status: &'static str, head: &'static str, body: String) -> Self {
        Self::answering(move |_, _| (status, head.to_owned(), body.clone())).await
    }

    fn url(&self, path: &str) -> ClientIdUrl {
        url(&format!("http://{}{path}", self.address))
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

const JSON: &str = "content-type: application/json\r\n";

fn url(text: &str) -> ClientIdUrl {
    ClientIdUrl::parse(text, true).unwrap()
}

/// A valid document for `path` of `host`; the redirect URI identifies it.
fn good(host: SocketAddr, path: &str, redirect: &str) -> String {
    format!(r#"{{"client_id":"http://{host}{path}","client_name":"A","redirect_uris":["{redirect}"]}}"#)
}

fn client() -> HttpClient {
    HttpClient::new(ClientTls::trusting(rustls::RootCertStore::empty()).unwrap())
}

/// The cache of a gateway on loopback. The test moves its clock.
fn documents() -> (ClientMetadataCache, Arc<AtomicU64>) {
    let clock_seconds = Arc::new(AtomicU64::new(1_000_000));
    let mut documents = ClientMetadataCache::new(true, Clock::Fixed(Arc::clone(&clock_seconds)));
    let unlimited = NonZeroU32::new(1_000_000).unwrap();
    documents.rate = RateLimiter::direct(Quota::per_second(unlimited));
    (documents, clock_seconds)
}

async fn once(host: &Host) -> Result<Arc<ClientRegistration>, ClientMetadataFetchError> {
    documents().0.get_fresh(&client(), &host.url("/c")).await
}

fn redirect(result: Result<Arc<ClientRegistration>, ClientMetadataFetchError>) -> String {
    result.unwrap().redirect_uris[0].as_str().to_owned()
}

#[tokio::test]
async fn a_metadata_document_is_cached_for_its_max_age() {
    let host = Host::answering(|path, host| {
        let head = format!("{JSON}cache-control: public, max-age=600\r\n");
        ("200 OK", head, good(host, path, "https://a.example/cb"))
    })
    .await;
    let ((documents, clock_seconds), client) = (documents(), client());
    for (elapsed, expected_requests) in [(0, 1), (599, 1), (1, 2)] {
        clock_seconds.fetch_add(elapsed, Ordering::SeqCst);
        assert_eq!(
            redirect(documents.get_fresh(&client, &host.url("/c")).await),
            "https://a.example/cb"
        );
        assert_eq!(host.asked(), expected_requests);
    }
    // A URL with another query is another client.
    documents.get_fresh(&client, &host.url("/c?v=2")).await.unwrap();
    assert_eq!(host.asked(), 3);
}

#[tokio::test]
async fn concurrent_requests_for_a_document_share_one_fetch() {
    let host = Host::serving(|mut stream, path, host| async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let body = good(host, &path, "https://a.example/cb");
        let text = format!("HTTP/1.1 200 OK\r\n{JSON}content-length: {}\r\n\r\n{body}", body.len());
        let _ = stream.write_all(text.as_bytes()).await;
    })
    .await;
    let ((documents, _), client, url) = (documents(), client(), host.url("/c"));
    let all = futures_util::future::join_all((0..50).map(|_| documents.get_fresh(&client, &url))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(host.asked(), 1);
}

#[tokio::test]
async fn a_waiting_request_takes_over_a_cancelled_fetch() {
    let request_count = AtomicUsize::new(0);
    let host = Host::serving(move |mut stream, path, host| {
        let is_first = request_count.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if is_first {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            let body = good(host, &path, "https://a.example/cb");
            let text = format!("HTTP/1.1 200 OK\r\n{JSON}content-length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(text.as_bytes()).await;
        }
    })
    .await;
    let ((documents, _), client, url) = (documents(), client(), host.url("/c"));
    let cancelled = tokio::time::timeout(Duration::from_millis(200), documents.get_fresh(&client, &url));
    let (cancelled, waiting) = tokio::join!(cancelled, documents.get_fresh(&client, &url));
    assert!(cancelled.is_err() && waiting.is_ok());
}

#[tokio::test]
async fn a_changed_metadata_document_takes_effect_after_its_lifetime() {
    let request_count = AtomicUsize::new(0);
    let host = Host::answering(move |path, host| {
        let index = request_count.fetch_add(1, Ordering::SeqCst);
        let redirect_uri = ["https://a.example/cb", "https://b.example/cb"][index.min(1)];
        ("200 OK", JSON.to_owned(), good(host, path, redirect_uri))
    })
    .await;
    let ((documents, clock_seconds), client, url) = (documents(), client(), host.url("/c"));
    assert_eq!(redirect(documents.get_fresh(&client, &url).await), "https://a.example/cb");
    clock_seconds.fetch_add(DEFAULT_TTL_SECONDS - 1, Ordering::SeqCst);
    assert_eq!(redirect(documents.get_fresh(&client, &url).await), "https://a.example/cb");
    clock_seconds.fetch_add(1, Ordering::SeqCst);
    assert!(!documents.is_cached(&url));
    assert_eq!(redirect(documents.get_fresh(&client, &url).await), "https://b.example/cb");
    assert!(documents.is_cached(&url));
}

#[tokio::test]
async fn an_invalid_new_document_invalidates_the_cached_good_one() {
    let request_count = AtomicUsize::new(0);
    let host = Host::answering(move |path, host| {
        let path = if request_count.fetch_add(1, Ordering::SeqCst) == 0 {
            path
        } else {
            "/somebody-else"
        };
        ("200 OK", JSON.to_owned(), good(host, path, "https://a.example/cb"))
    })
    .await;
    let ((documents, clock_seconds), client, url) = (documents(), client(), host.url("/c"));
    documents.get_fresh(&client, &url).await.unwrap();
    clock_seconds.fetch_add(DEFAULT_TTL_SECONDS, Ordering::SeqCst);
    for _ in 0..2 {
        let refused = documents.get_fresh(&client, &url).await;
        assert!(
            matches!(refused, Err(ClientMetadataFetchError::Refused(ClientMetadataError::OtherClient(_)))),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_good_document_stays_usable_for_a_week_when_fetches_fail() {
    let request_count = AtomicUsize::new(0);
    let host = Host::answering(move |path, host| {
        if request_count.fetch_add(1, Ordering::SeqCst) == 0 {
            ("200 OK", JSON.to_owned(), good(host, path, "https://a.example/cb"))
        } else {
            (
                "403 Forbidden",
                "content-type: text/html\r\n".to_owned(),
                "<h1>Just a moment</h1>".to_owned(),
            )
        }
    })
    .await;
    let ((documents, clock_seconds), client, url) = (documents(), client(), host.url("/c"));
    documents.get_fresh(&client, &url).await.unwrap();
    clock_seconds.fetch_add(DEFAULT_TTL_SECONDS, Ordering::SeqCst);
    for _ in 0..3 {
        assert!(documents.get_fresh(&client, &url).await.is_ok());
    }
    assert_eq!(host.asked(), 2, "a host that refuses is not asked for each journey");
    clock_seconds.fetch_add(STALE_TTL_SECONDS, Ordering::SeqCst);
    assert_eq!(
        documents.get_fresh(&client, &url).await,
        Err(ClientMetadataFetchError::Answered(403))
    );
}

#[tokio::test]
async fn a_failed_document_fetch_is_cached_only_for_seconds() {
    let host = Host::saying("404 Not Found", "", String::new()).await;
    let ((documents, clock_seconds), client, url) = (documents(), client(), host.url("/c"));
    for (elapsed, expected_requests) in [(0, 1), (FAILURE_TTL_SECONDS - 1, 1), (1, 2)] {
        clock_seconds.fetch_add(elapsed, Ordering::SeqCst);
        let error = documents.get_fresh(&client, &url).await.unwrap_err();
        assert_eq!((error.is_temporary(), host.asked()), (true, expected_requests));
        assert_eq!(
            error.public_message(),
            "the client's metadata document could not be fetched: answered 404"
        );
    }
}

#[tokio::test]
async fn a_document_with_another_client_id_is_refused() {
    let host = Host::answering(|_, host| ("200 OK", JSON.to_owned(), good(host, "/other", "https://a.example/cb"))).await;
    let error = once(&host).await.unwrap_err();
    assert!(matches!(error, ClientMetadataFetchError::Refused(ClientMetadataError::OtherClient(_))) && !error.is_temporary());
}

#[tokio::test]
async fn metadata_document_redirects_are_not_followed() {
    let target = Host::answering(|_, host| ("200 OK", JSON.to_owned(), good(host, "/c", "https://a.example/cb"))).await;
    let target_address = target.address;
    for status in ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let host = Host::answering(move |_, _| (status, format!("location: http://{target_address}/c\r\n"), String::new())).await;
        assert!(matches!(once(&host).await, Err(ClientMetadataFetchError::Answered(300..=399))));
    }
    assert_eq!(target.asked(), 0);
}

#[tokio::test]
async fn only_uncompressed_json_metadata_documents_are_accepted() {
    for (head, expected) in [
        ("", ClientMetadataFetchError::ContentType),
        ("content-type: text/html\r\n", ClientMetadataFetchError::ContentType),
        ("content-type: application/jsonp\r\n", ClientMetadataFetchError::ContentType),
        ("content-type: text/x+json\r\n", ClientMetadataFetchError::ContentType),
        (
            "content-type: application/json\r\ncontent-encoding: gzip\r\n",
            ClientMetadataFetchError::Encoded,
        ),
        (
            "content-type: application/json\r\ncontent-encoding: identity\r\ncontent-encoding: br\r\n",
            ClientMetadataFetchError::Encoded,
        ),
    ] {
        let host = Host::answering(move |path, host| ("200 OK", head.to_owned(), good(host, path, "https://a.example/cb"))).await;
        assert_eq!(once(&host).await, Err(expected), "{head}");
    }
    for head in [
        "content-type: Application/JSON; charset=utf-8\r\n",
        "content-type: application/cimd+json\r\n",
    ] {
        let host = Host::answering(move |path, host| ("200 OK", head.to_owned(), good(host, path, "https://a.example/cb"))).await;
        assert!(once(&host).await.is_ok(), "{head}");
    }
}

#[tokio::test]
async fn an_oversized_metadata_document_is_not_read() {
    let announced = Host::serving(|mut stream, _, _| async move {
        let _ = stream
            .write_all(format!("HTTP/1.1 200 OK\r\n{JSON}content-length: 1000000000\r\n\r\n{{").as_bytes())
            .await;
        tokio::time::sleep(Duration::from_secs(30)).await;
    })
    .await;
    let sent_bytes = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent_bytes);
    let streamed = Host::serving(move |mut stream, _, _| {
        let count = Arc::clone(&count);
        async move {
            let _ = stream
                .write_all(format!("HTTP/1.1 200 OK\r\n{JSON}transfer-encoding: chunked\r\n\r\n").as_bytes())
                .await;
            let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
            while count.load(Ordering::SeqCst) < 1_000_000_000 && stream.write_all(chunk.as_bytes()).await.is_ok() {
                count.fetch_add(0x10000, Ordering::SeqCst);
            }
        }
    })
    .await;
    for host in [announced, streamed] {
        let start = tokio::time::Instant::now();
        let error = once(&host).await.unwrap_err();
        assert!(
            matches!(&error, ClientMetadataFetchError::Broken(reason) if reason.contains("10240")),
            "{error:?}"
        );
        assert!(start.elapsed() < Duration::from_secs(2));
    }
    // The host can have sent only what the socket buffers hold.
    assert!(sent_bytes.load(Ordering::SeqCst) < 50_000_000);
}

#[tokio::test]
async fn a_slowly_sent_metadata_document_hits_the_timeout() {
    let host = Host::serving(|mut stream, _, _| async move {
        let _ = stream
            .write_all(format!("HTTP/1.1 200 OK\r\n{JSON}content-length: 9000\r\n\r\n").as_bytes())
            .await;
        while stream.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let start = tokio::time::Instant::now();
    assert!(matches!(once(&host).await, Err(ClientMetadataFetchError::Broken(_))));
    assert!(start.elapsed() >= FETCH_TIMEOUT && start.elapsed() < FETCH_TIMEOUT * 2);
}

#[tokio::test]
async fn a_deeply_nested_metadata_document_is_refused() {
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let host = Host::saying("200 OK", JSON, format!(r#"{{"x":{deep}}}"#)).await;
    assert_eq!(
        once(&host).await,
        Err(ClientMetadataFetchError::Refused(ClientMetadataError::NotJson))
    );
}

#[tokio::test]
async fn special_addresses_are_never_dialled_for_a_metadata_document() {
    let host = Host::saying("200 OK", JSON, String::new()).await;
    let port = host.address.port();
    let client = client();
    for (loopback, name) in [
        (false, format!("127.0.0.1:{port}")),
        (false, format!("localhost:{port}")),
        (false, "[::1]".to_owned()),
        (false, format!("[::ffff:7f00:1]:{port}")),
        (true, "10.0.0.1".to_owned()),
        (true, "192.168.1.1".to_owned()),
        (true, "100.64.0.1".to_owned()),
        (true, "0.0.0.0".to_owned()),
        (true, "169.254.169.254".to_owned()),
        (true, "[::ffff:a9fe:a9fe]".to_owned()),
        (true, "[::ffff:a00:1]".to_owned()),
        (true, "[64:ff9b::a9fe:a9fe]".to_owned()),
        (true, "[2002:a9fe:a9fe::1]".to_owned()),
        (true, "[fd00:ec2::254]".to_owned()),
        (true, "[fe80::1]".to_owned()),
    ] {
        let documents = ClientMetadataCache::new(loopback, Clock::System);
        let error = documents.get_fresh(&client, &url(&format!("https://{name}/c"))).await.unwrap_err();
        assert!(
            matches!(&error, ClientMetadataFetchError::NoAddress(reason) if reason.starts_with("may not be dialled")),
            "{name}: {error:?}"
        );
        // The client that chose a name must not learn whether our network knows it.
        let unknown_name = ClientMetadataFetchError::NoAddress(String::new());
        assert_eq!(error.public_message(), unknown_name.public_message());
        assert!(!error.is_temporary());
    }
    assert_eq!(host.asked(), 0);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_lasting_fault() {
    let documents = ClientMetadataCache::new(false, Clock::System);
    // A label of 64 characters (RFC 1035 §2.3.4): no name server is asked.
    let name = format!("https://{}.invalid/c", "a".repeat(64));
    let error = documents.get_fresh(&client(), &url(&name)).await.unwrap_err();
    assert!(matches!(error, ClientMetadataFetchError::NoAddress(_)), "{error:?}");
    assert!(error.is_unavailable() && !error.is_temporary());
}

#[tokio::test]
async fn failed_fetches_evict_no_good_document_from_the_bounded_cache() {
    let host = Host::answering(|path, host| {
        if path.starts_with("/good") {
            ("200 OK", JSON.to_owned(), good(host, path, "https://a.example/cb"))
        } else {
            ("404 Not Found", String::new(), String::new())
        }
    })
    .await;
    let ((documents, _), client) = (documents(), client());
    let is_fetched = async |path: String| documents.get_fresh(&client, &host.url(&path)).await.is_ok();
    assert!(is_fetched("/good/first".to_owned()).await);
    for i in 0..3_000 {
        assert!(!is_fetched(format!("/nobody/{i}")).await);
    }
    assert!(documents.seen.len() <= MAX_DOCUMENTS);
    assert!(
        documents.last_good(&host.url("/good/first")).is_some(),
        "a flood of nobodies pushes nobody out"
    );
    for i in 0..2_000 {
        assert!(is_fetched(format!("/good/{i}")).await);
    }
    assert!(documents.seen.len() <= MAX_DOCUMENTS && documents.good.len() <= MAX_DOCUMENTS);
}

#[tokio::test]
async fn a_flood_of_new_clients_is_limited_and_known_ones_are_not() {
    let host = Host::answering(|path, host| ("200 OK", JSON.to_owned(), good(host, path, "https://a.example/cb"))).await;
    let clock_seconds = Arc::new(AtomicU64::new(1_000_000));
    let (documents, client) = (ClientMetadataCache::new(true, Clock::Fixed(Arc::clone(&clock_seconds))), client());
    documents.get_fresh(&client, &host.url("/known")).await.unwrap();
    let (mut busy, start) = (0, tokio::time::Instant::now());
    for i in 0..500 {
        if documents.get_fresh(&client, &host.url(&format!("/{i}"))).await == Err(ClientMetadataFetchError::Busy) {
            busy += 1;
        }
    }
    let allowed = 50 + 10 * (usize::try_from(start.elapsed().as_secs()).unwrap() + 1);
    assert!(
        host.asked() <= allowed && busy >= 500 - allowed,
        "{} asked, {busy} busy",
        host.asked()
    );
    clock_seconds.fetch_add(DEFAULT_TTL_SECONDS, Ordering::SeqCst);
    documents.get_fresh(&client, &host.url("/known")).await.unwrap();
}

#[test]
fn max_age_is_honoured_within_bounds() {
    let freshness = |control: &[&'static str], age: Option<&'static str>| {
        let mut headers = HeaderMap::new();
        for text in control {
            headers.append(CACHE_CONTROL, HeaderValue::from_static(text));
        }
        if let Some(age) = age {
            headers.insert(AGE, HeaderValue::from_static(age));
        }
        freshness_seconds(&headers)
    };
    for (control, age, expected) in [
        (&[][..], None, DEFAULT_TTL_SECONDS),
        (&["public"], None, DEFAULT_TTL_SECONDS),
        (&["max-age=600"], None, 600),
        (&["public , MAX-AGE = 600, immutable"], None, 600),
        (&["max-age=\"600\""], None, 600),
        (&["max-age=3600", "max-age=600"], None, 600),
        (&["max-age=3600"], Some("3000"), 600),
        (&["max-age=600"], Some("3000"), MIN_TTL_SECONDS),
        (&["max-age=0"], None, MIN_TTL_SECONDS),
        (&["no-store"], None, MIN_TTL_SECONDS),
        (&["no-cache, max-age=600"], None, MIN_TTL_SECONDS),
        (&["max-age=-1"], None, MIN_TTL_SECONDS),
        (&["max-age="], None, MIN_TTL_SECONDS),
        (&["max-age=soon"], None, MIN_TTL_SECONDS),
        (&["max-age=31536000"], None, MAX_TTL_SECONDS),
        (&["max-age=99999999999999999999999999"], None, MAX_TTL_SECONDS),
        (&["x-max-age=7000", "s-maxage=9"], None, DEFAULT_TTL_SECONDS),
    ] {
        assert_eq!(freshness(control, age), expected, "{control:?} {age:?}");
    }
}
