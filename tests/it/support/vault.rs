//! A Vault that is played: KV version 2, tokens and AppRole as Vault's documentation has them, in memory, with faults on request.
//! What is real of this is tested against RustyVault, whose KV is version 1.

use std::collections::{BTreeMap, BTreeSet, HashMap};
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
use tokio::sync::oneshot;

/// A token that never ends.
pub const ROOT: &str = "hvs.root-of-the-stand-in";
/// The role of AppRole, and its secret.
pub const ROLE: (&str, &str) = ("role-4711", "secret-of-the-role");

/// What can be changed from outside while it runs.
pub struct State {
    /// The paths, by namespace and name below the mount.
    pub keys: BTreeMap<(String, String), Meta>,
    /// The tokens, and when they end.
    pub tokens: HashMap<String, Token>,
    /// What `secret` says its version is.
    pub kv: &'static str,
    /// Whether it is sealed.
    pub sealed: bool,
    /// What tokens of AppRole may do, in the words of a policy; all if there is none.
    pub policy: Option<String>,
    /// How long a token of AppRole is good, and how often it can be renewed.
    pub ttl: (Duration, u32),
    /// The next writes to `data/` are done, and their answers are not sent.
    pub lose_answers: u32,
    /// The next writes to `data/` that are begun wait for this before they are done.
    pub late: Option<Duration>,
    /// Answers everything by sending it there.
    pub redirect: Option<String>,
    /// Method and path of everything that was asked.
    pub asked: Vec<String>,
    logins: u32,
}

/// A path: its writes are counted, and the last of them kept.
#[derive(Default)]
pub struct Meta {
    /// How often it was written.
    pub current: u64,
    /// What was written last; nothing once that is deleted.
    pub versions: BTreeMap<u64, Option<Value>>,
    max: usize,
}

/// A token.
pub struct Token {
    since: Stopwatch,
    ttl: Duration,
    /// How often it can be renewed.
    left: u32,
    is_root: bool,
}

impl Token {
    fn remaining(&self) -> Duration {
        self.ttl.saturating_sub(Duration::from_micros(self.since.micros()))
    }
}

/// It runs until it is dropped.
pub struct Vault {
    state: Arc<Mutex<State>>,
    port: u16,
    _until: oneshot::Sender<()>,
}

impl Vault {
    /// On a free port.
    pub fn start() -> Self {
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
                    let state = Arc::clone(&shared);
                    let service = service_fn(move |request| served(Arc::clone(&state), request));
                    tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
                }
            });
        });
        Self {
            state,
            port,
            _until: until,
        }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it holds.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The names that are there and of which there is something below this.
    pub fn names(&self, below: &str) -> Vec<String> {
        let state = self.state();
        let names = state.keys.keys().map(|(_, name)| name.clone());
        names.filter(|name| name.starts_with(below)).collect()
    }
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
        // Also when nobody waits for it any more.
        let state = Arc::clone(&state);
        let done = tokio::spawn(async move {
            tokio::time::sleep(late).await;
            state.lock().unwrap().answer(&asked)
        });
        return Ok(reply(done.await.unwrap(), None));
    }
    let mut state = state.lock().unwrap();
    state.asked.push(format!("{} {}", asked.method, asked.path));
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
                return (200, json!({ "data": { "ttl": ttl, "renewable": !is_root } }));
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

    fn login(&mut self, body: &Value) -> (u16, Value) {
        if body["role_id"] != ROLE.0 || body["secret_id"] != ROLE.1 {
            return no(400, "invalid role or secret ID");
        }
        self.logins += 1;
        let token = format!("hvs.of-login-{}", self.logins);
        let (ttl, left) = self.ttl;
        let made = Token {
            since: Stopwatch::start(),
            ttl,
            left,
            is_root: false,
        };
        self.tokens.insert(token.clone(), made);
        (
            200,
            json!({ "auth": { "client_token": token, "lease_duration": ttl.as_secs(), "renewable": true } }),
        )
    }

    /// Whether the policy has the capability for this, on a path or on what begins with it.
    fn allows(&self, asked: &Asked) -> bool {
        let Some(policy) = &self.policy else { return true };
        let name = asked.path.splitn(3, '/').nth(2).unwrap_or("").to_owned();
        let needs = match asked.method.as_str() {
            "GET" => "read",
            "LIST" => "list",
            "DELETE" => "delete",
            _ if self.keys.contains_key(&(asked.namespace.clone(), name)) => "update",
            _ => "create",
        };
        policy.lines().filter(|line| line.contains(&format!("\"{needs}\""))).any(|line| {
            let path = line.split('"').nth(1).unwrap();
            path.strip_suffix('*')
                .map_or(asked.path == path, |front| asked.path.starts_with(front))
        })
    }

    fn data(&mut self, method: &str, key: (String, String), body: &Value) -> (u16, Value) {
        let about = |version: u64, is_deleted: bool| {
            let deleted = if is_deleted { "2026-01-01T00:00:00.000000000Z" } else { "" };
            json!({ "created_time": "2026-01-01T00:00:00.000000000Z", "custom_metadata": null, "deletion_time": deleted, "destroyed": false, "version": version })
        };
        match method {
            "GET" => match self
                .keys
                .get(&key)
                .and_then(|meta| Some((meta.current, meta.versions.get(&meta.current)?)))
            {
                None => no(404, ""),
                Some((version, None)) => (404, json!({ "data": { "data": null, "metadata": about(version, true) } })),
                Some((version, Some(data))) => (200, json!({ "data": { "data": data, "metadata": about(version, false) } })),
            },
            "POST" | "PUT" => {
                let current = self.keys.get(&key).map_or(0, |meta| meta.current);
                if body["data"].is_null() {
                    return no(400, "no data provided");
                }
                if body["options"]["cas"].as_u64().is_some_and(|cas| cas != current) {
                    return no(400, "check-and-set parameter did not match the current version");
                }
                let meta = self.keys.entry(key).or_default();
                meta.current += 1;
                meta.versions.insert(meta.current, Some(body["data"].clone()));
                let most = if meta.max == 0 { 10 } else { meta.max };
                while meta.versions.len() > most {
                    meta.versions.pop_first();
                }
                (200, json!({ "data": about(meta.current, false) }))
            }
            "DELETE" => {
                if let Some(meta) = self.keys.get_mut(&key) {
                    meta.versions.insert(meta.current, None);
                }
                (204, Value::Null)
            }
            _ => no(405, "unsupported operation"),
        }
    }

    fn metadata(&mut self, method: &str, (namespace, name): (String, String), body: &Value) -> (u16, Value) {
        match method {
            "LIST" => {
                let below = if name.is_empty() || name.ends_with('/') {
                    name
                } else {
                    format!("{name}/")
                };
                let all = self.keys.keys().filter(|(of, _)| *of == namespace);
                let next = |name: &str| match name.split_once('/') {
                    Some((part, _)) => format!("{part}/"),
                    None => name.to_owned(),
                };
                let keys: BTreeSet<String> = all.filter_map(|(_, name)| name.strip_prefix(&below).map(next)).collect();
                if keys.is_empty() {
                    return no(404, "");
                }
                (200, json!({ "data": { "keys": keys } }))
            }
            "POST" | "PUT" => {
                self.keys.entry((namespace, name)).or_default().max = usize::try_from(body["max_versions"].as_u64().unwrap_or(0)).unwrap();
                (204, Value::Null)
            }
            "DELETE" => {
                self.keys.remove(&(namespace, name));
                (204, Value::Null)
            }
            _ => no(405, "unsupported operation"),
        }
    }
}
