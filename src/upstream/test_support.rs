//! A small upstream on a real socket, for the tests of `upstream`.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use tokio::net::TcpListener;

use crate::base::url::ExactUrl;
use crate::net::http_client::HttpClient;
use crate::net::tls::ClientTls;

/// A request that the stub received.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) line: String,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
    /// The base URL of the stub: `http://127.0.0.1:port`.
    pub(super) base: String,
    /// The number of requests before this one.
    pub(super) before: usize,
}

/// A server that runs until its test ends.
pub(super) struct Stub {
    pub(super) base: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Stub {
    /// All requests so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn at(&self, path: &str) -> ExactUrl {
        ExactUrl::parse(&format!("{}{path}", self.base)).unwrap()
    }
}

/// The response of a stub: status, headers, body.
pub(super) type Said = (u16, Vec<(&'static str, String)>, String);

pub(super) fn json(status: u16, body: &impl ToString) -> Said {
    (status, vec![("content-type", "application/json".to_owned())], body.to_string())
}

pub(super) async fn serve(respond: impl Fn(&Seen) -> Said + Send + Sync + 'static) -> Stub {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(Mutex::new(Vec::new()));
    let stub = Stub {
        base: base.clone(),
        seen: requests.clone(),
    };
    let respond = Arc::new(respond);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (respond, requests, base) = (respond.clone(), requests.clone(), base.clone());
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let (respond, requests, base) = (respond.clone(), requests.clone(), base.clone());
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await?.to_bytes();
                    let (status, headers, text) = {
                        let mut received = requests.lock().unwrap();
                        let request = Seen {
                            line: format!("{} {}", head.method, head.uri),
                            headers: head.headers,
                            body: String::from_utf8(body.to_vec()).unwrap(),
                            base,
                            before: received.len(),
                        };
                        received.push(request.clone());
                        respond(&request)
                    };
                    let mut response = Response::builder().status(status);
                    for (name, value) in headers {
                        response = response.header(name, value);
                    }
                    Ok::<_, hyper::Error>(response.body(Full::new(Bytes::from(text))).unwrap())
                }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service);
            tokio::spawn(connection);
        }
    });
    stub
}

/// A client without trusted certificates: these tests use loopback without TLS.
pub(super) fn client() -> HttpClient {
    HttpClient::new(ClientTls::trusting(RootCertStore::empty()).unwrap())
}
