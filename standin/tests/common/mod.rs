//! A client just large enough: one request per connection, read to the end.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mcp_gateway_standin::Standin;
use serde_json::{Value, json};

pub const VERIFIER: &str = "a-verifier-that-is-long-enough-to-be-one-1234";
pub const BACK: &str = "http://127.0.0.1:9/callback";

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (n, v) = line.split_once(": ")?;
            n.eq_ignore_ascii_case(name).then_some(v)
        })
    }

    /// A parameter of the address in `Location`.
    pub fn came_back_with(&self, name: &str) -> Option<String> {
        let target = url::Url::parse(self.header("location")?).ok()?;
        target.query_pairs().find(|(n, _)| n == name).map(|(_, v)| v.into_owned())
    }
}

/// Opens a connection and sends a request on it.
pub fn open(standin: &Standin, method: &str, path: &str, headers: &str, body: &[u8]) -> TcpStream {
    let address = standin.origin().replace("http://", "");
    let mut stream = TcpStream::connect(&address).expect("the stand-in listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).expect("the head is sent");
    stream.write_all(body).expect("the body is sent");
    stream
}

/// One request; `None` if no answer came.
pub fn send(standin: &Standin, method: &str, path: &str, headers: &str, body: &[u8]) -> Option<Answer> {
    let mut all = Vec::new();
    open(standin, method, path, headers, body).read_to_end(&mut all).ok()?;
    let end = all.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut body = all[end + 4..].to_vec();
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        body = unchunked(&body);
    }
    Some(Answer { status, head, body })
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(line) = rest.windows(2).position(|w| w == b"\r\n") {
        let size = std::str::from_utf8(&rest[..line]).expect("a chunk size");
        let size = usize::from_str_radix(size, 16).expect("a hexadecimal size");
        whole.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 4 + size..];
    }
    whole
}

pub fn get(standin: &Standin, path: &str) -> Answer {
    send(standin, "GET", path, "", b"").expect("an answer")
}

pub fn form(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

const FORM: &str = "content-type: application/x-www-form-urlencoded\r\n";

pub fn try_token(standin: &Standin, path: &str, headers: &str, pairs: &[(&str, &str)]) -> Option<Answer> {
    let known = [("client_id", "gateway"), ("client_secret", "gateway-secret")];
    let body = form(&[&known, pairs].concat());
    send(standin, "POST", path, &format!("{FORM}{headers}"), body.as_bytes())
}

pub fn token(standin: &Standin, pairs: &[(&str, &str)]) -> Answer {
    try_token(standin, "/token", "", pairs).expect("an answer")
}

pub fn refresh(standin: &Standin, token_: &str) -> Answer {
    token(standin, &[("grant_type", "refresh_token"), ("refresh_token", token_)])
}

pub fn authorize_path(path: &str, client: &str, back: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, VERIFIER.as_bytes());
    let challenge = URL_SAFE_NO_PAD.encode(digest);
    let query = form(&[
        ("response_type", "code"),
        ("client_id", client),
        ("redirect_uri", back),
        ("state", "st&te"),
        ("scope", "mcp"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ]);
    format!("{path}?{query}")
}

/// Signs in as the static client and gives the token answer.
pub fn sign_in(standin: &Standin) -> Value {
    let code = get(standin, &authorize_path("/authorize", "gateway", BACK));
    let code = code.came_back_with("code").expect("a code");
    let answer = token(
        standin,
        &[
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", BACK),
            ("code_verifier", VERIFIER),
        ],
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

pub fn bearer(granted: &Value) -> String {
    format!("authorization: Bearer {}\r\n", granted["access_token"].as_str().expect("a token"))
}

pub fn rpc(standin: &Standin, headers: &str, method: &str, params: Value) -> Answer {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    send(standin, "POST", "/mcp", headers, body.to_string().as_bytes()).expect("an answer")
}

/// Waits until something holds, but not for long.
pub fn soon(what: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        if what() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}
