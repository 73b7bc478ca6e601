//! A fake Vault in memory, with faults on request: KV version 2, tokens and AppRole as documented
//! by Vault. Tests with a real server use RustyVault, whose KV is version 1.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mcp_oauth_gateway::base::time::Stopwatch;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

mod auth;
mod kv;
mod tls;

/// A token without expiry.
pub(crate) const ROOT: &str = "hvs.root-of-the-stand-in";
/// The AppRole's role id and secret id.
pub(crate) const ROLE: (&str, &str) = ("role-4711", "secret-of-the-role");

/// The state, which tests can change at any time.
pub(crate) struct State {
    /// The paths, by namespace and name below the mount.
    pub keys: BTreeMap<(String, String), Meta>,
    /// The tokens, with their expiry.
    pub tokens: HashMap<String, Token>,
    /// The version that the mount `secret` reports.
    pub kv: &'static str,
    /// Whether the Vault is sealed.
    pub sealed: bool,
    /// The policy of AppRole tokens, in Vault's syntax; `None` allows everything.
    pub policy: Option<String>,
    /// The lifetime of AppRole tokens, and how often they can be renewed.
    pub ttl: (Duration, u32),
    /// The number of next writes to `data/` that are done without a response.
    pub lose_answers: u32,
    /// The delay of the next write to `data/`.
    pub late: Option<Duration>,
    /// The target of a redirect that answers every request.
    pub redirect: Option<String>,
    /// The mount deletes each version after a while.
    pub deletes: bool,
    /// The response of a proxy in front, instead of Vault's.
    pub instead: Option<Instead>,
    /// Method and path of all requests.
    pub asked: Vec<String>,
    logins: u32,
}

/// A response of a proxy in front of the Vault.
pub(crate) struct Instead {
    /// Affects requests whose method and path contain this text.
    pub to: String,
    /// The number of affected requests.
    pub times: u32,
    /// Whether the requests still reach the Vault.
    pub passes: bool,
    /// The status.
    pub status: u16,
    /// The body.
    pub body: &'static str,
}

/// A path with its version counter and its last versions.
#[derive(Default)]
pub(crate) struct Meta {
    /// The number of writes.
    pub current: u64,
    /// The last versions; `None` is a deleted one.
    pub versions: BTreeMap<u64, Option<Value>>,
    max: usize,
}

/// A token.
pub(crate) struct Token {
    since: Stopwatch,
    ttl: Duration,
    /// How often it can still be renewed.
    left: u32,
    is_root: bool,
}

impl Token {
    fn remaining(&self) -> Duration {
        self.ttl.saturating_sub(Duration::from_micros(self.since.micros()))
    }
}

/// A running fake. Dropping it stops it.
pub(crate) struct Vault {
    state: Arc<Mutex<State>>,
    port: u16,
    tls: Option<TempDir>,
    _until: oneshot::Sender<()>,
}

impl Vault {
    /// Starts on a free port.
    pub(crate) fn start() -> Self {
        Self::begin(None)
    }

    /// Starts with TLS, and a certificate of its own CA for these names.
    pub(crate) fn with_tls(names: &[&str]) -> Self {
        let (dir, acceptor) = tls::made(names);
        let mut vault = Self::begin(Some(acceptor));
        vault.tls = Some(dir);
        vault
    }

    fn begin(tls: Option<TlsAcceptor>) -> Self {
        let root = Token {
            since: Stopwatch::start(),
            ttl: Duration::from_secs(86_400),
            left: 0,
            is_root: true,
        };
        let state = Arc::new(Mutex::new(State {
            keys: BTreeMap::new(),
            tokens: HashMap::from([(ROOT.to_owned(), root)]),
            kv: "2",
            sealed: false,
            policy: None,
            ttl: (Duration::from_secs(3600), 100),
            lose_answers: 0,
            late: None,
            redirect: None,
            deletes: false,
            instead: None,
            asked: Vec::new(),
            logins: 0,
        }));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (until, mut ends) = oneshot::channel();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let stream = tokio::select! {
                        accepted = listener.accept() => accepted.unwrap().0,
                        _ = &mut ends => return,
                    };
                    let (state, tls) = (Arc::clone(&shared), tls.clone());
                    tokio::spawn(async move {
                        match tls {
                            // A client that does not trust the certificate disconnects.
                            Some(tls) => {
                                if let Ok(stream) = tls.accept(stream).await {
                                    connection(stream, state).await;
                                }
                            }
                            None => connection(stream, state).await,
                        }
                    });
                }
            });
        });
        Self {
            state,
            port,
            tls: None,
            _until: until,
        }
    }

    /// The URL.
    pub(crate) fn url(&self) -> String {
        self.url_as("127.0.0.1")
    }

    /// The URL with this host name.
    pub(crate) fn url_as(&self, host: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{host}:{}", self.port)
    }

    /// The file with the CA certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.tls.as_ref().expect("a Vault with TLS").path().join("ca.pem")
    }

    /// Creates a token with this lifetime that can be renewed `left` times.
    pub(crate) fn give(&self, token: &str, ttl: Duration, left: u32) {
        let since = Stopwatch::start();
        let made = Token {
            since,
            ttl,
            left,
            is_root: false,
        };
        self.state().tokens.insert(token.to_owned(), made);
    }

    /// The state.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The names of all paths that begin with `below`.
    pub(crate) fn names(&self, below: &str) -> Vec<String> {
        let state = self.state();
        let names = state.keys.keys().map(|(_, name)| name.clone());
        names.filter(|name| name.starts_with(below)).collect()
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, state: Arc<Mutex<State>>) {
    let service = service_fn(move |request| served(Arc::clone(&state), request));
    let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // A client may disconnect at any time.
    let _ = serving.await;
}

async fn served(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (parts, body) = request.into_parts();
    let header = |name: &str| {
        parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
            .to_owned()
    };
    let body = body
        .collect()
        .await
        .map_or_else(|_| Bytes::new(), http_body_util::Collected::to_bytes);
    let path = parts.uri.path().trim_start_matches("/v1/").to_owned();
    let is_list = parts.method == "LIST" || parts.uri.query().is_some_and(|query| query.contains("list=true"));
    let asked = Asked {
        method: if is_list { "LIST".to_owned() } else { parts.method.to_string() },
        path,
        token: header("x-vault-token"),
        namespace: header("x-vault-namespace"),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    let is_write = asked.method == "POST" && asked.path.starts_with("secret/data/");
    let late = if is_write { state.lock().unwrap().late.take() } else { None };
    if let Some(late) = late {
        state.lock().unwrap().asked.push(format!("{} {}, late", asked.method, asked.path));
        // The write is done even if the client has disconnected.
        let state = Arc::clone(&state);
        let done = tokio::spawn(async move {
            tokio::time::sleep(late).await;
            state.lock().unwrap().answer(&asked)
        });
        return Ok(reply(done.await.unwrap(), None));
    }
    let mut state = state.lock().unwrap();
    state.asked.push(format!("{} {}", asked.method, asked.path));
    if let Some((status, body)) = state.said_instead(&asked) {
        return Ok(Response::builder().status(status).body(Full::new(body.into())).unwrap());
    }
    if let Some(to) = state.redirect.clone() {
        return Ok(reply((307, Value::Null), Some(to)));
    }
    let answer = state.answer(&asked);
    if is_write && state.lose_answers > 0 {
        state.lose_answers -= 1;
        return Err(std::io::Error::other("lost"));
    }
    Ok(reply(answer, None))
}

fn reply((status, body): (u16, Value), location: Option<String>) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(status);
    if let Some(to) = location {
        response = response.header("location", to);
    }
    let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
    response.body(Full::new(body)).unwrap()
}

struct Asked {
    method: String,
    path: String,
    token: String,
    namespace: String,
    body: Value,
}

fn no(status: u16, why: &str) -> (u16, Value) {
    let errors: Vec<&str> = if why.is_empty() { Vec::new() } else { vec![why] };
    (status, json!({ "errors": errors }))
}

impl State {
    fn said_instead(&mut self, asked: &Asked) -> Option<(u16, &'static str)> {
        let what = format!("{} {}", asked.method, asked.path);
        let instead = self
            .instead
            .as_mut()
            .filter(|instead| instead.times > 0 && what.contains(&instead.to))?;
        instead.times -= 1;
        let (said, passes) = ((instead.status, instead.body), instead.passes);
        if passes {
            self.answer(asked);
        }
        Some(said)
    }

    fn answer(&mut self, asked: &Asked) -> (u16, Value) {
        if self.sealed {
            return no(503, "Vault is sealed");
        }
        if asked.path == "auth/approle/login" && asked.method == "POST" {
            return self.login(&asked.body);
        }
        let Some(token) = self.tokens.get_mut(&asked.token).filter(|token| !token.remaining().is_zero()) else {
            return no(403, "permission denied");
        };
        let is_root = token.is_root;
        match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", "auth/token/lookup-self") => {
                let ttl = if is_root { 0 } else { token.remaining().as_secs() };
                return (200, json!({ "data": { "ttl": ttl, "renewable": token.left > 0 } }));
            }
            ("POST", "auth/token/renew-self") if token.left > 0 => {
                token.left -= 1;
                (token.since, token.ttl) = (Stopwatch::start(), self.ttl.0);
                return (
                    200,
                    json!({ "auth": { "client_token": asked.token, "lease_duration": self.ttl.0.as_secs(), "renewable": true } }),
                );
            }
            ("POST", "auth/token/renew-self") => return no(400, "lease is not renewable"),
            ("GET", "sys/internal/ui/mounts/secret") => {
                let options = json!({ "version": self.kv });
                return (200, json!({ "data": { "type": "kv", "path": "secret/", "options": options } }));
            }
            ("GET", path) if path.starts_with("sys/internal/ui/mounts/") => {
                return no(
                    403,
                    "preflight capability check returned 403, please ensure client's policies grant access to path \"x/\"",
                );
            }
            ("GET", "sys/mounts") if is_root => {
                return (200, json!({ "data": { "cubbyhole/": { "type": "cubbyhole", "options": null } } }));
            }
            _ => {}
        }
        if !is_root && !self.allows(asked) {
            return no(403, "1 error occurred:\n\t* permission denied\n\n");
        }
        let place = |part: &str| Some((asked.namespace.clone(), asked.path.strip_prefix(part)?.to_owned()));
        match (place("secret/data/"), place("secret/metadata/")) {
            (Some(key), _) => self.data(&asked.method, key, &asked.body),
            (_, Some(key)) => self.metadata(&asked.method, key, &asked.body),
            (None, None) => no(404, "no handler for route"),
        }
    }
}
