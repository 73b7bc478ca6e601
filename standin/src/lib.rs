//! An upstream in one process on one loopback port: an OAuth authorization server and a protected
//! MCP server, both of which misbehave on request.
//!
//! ```
//! use mcp_gateway_standin::{Profile, Standin};
//!
//! let upstream = Standin::start(Profile::Standard);
//! upstream.set(|b| b.token_status = Some(503));
//! assert!(upstream.mcp_url().ends_with("/mcp"));
//! ```

mod assertion;
mod authorize;
mod behaviour;
mod body;
mod clients;
mod device;
mod discovery;
mod grant;
mod mcp;
mod openid;
mod server;
mod signing;
mod state;
mod streams;
mod token;
mod tokens;
mod tools;
mod vendor;

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::oneshot;

pub use assertion::KEY_CLIENTS;
pub use behaviour::{Behaviour, Canned, MetadataEndpoints};
pub use device::DeviceFlow;
pub use openid::OpenId;
pub use signing::Signing;
use state::State;
pub use vendor::{ModelCall, Turn, Vendor, VendorRequest};

/// The client that needs no registration, in every profile.
pub const CLIENT_ID: &str = "gateway";
/// The secret of [`CLIENT_ID`].
pub const CLIENT_SECRET: &str = "gateway-secret";

/// The kind of upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Metadata, registration, PKCE, `iss`, rotation, revocation.
    Standard,
    /// Like GitHub: one static client, form-encoded responses, errors with status 200, and access
    /// tokens without expiry or refresh token.
    GitHub,
    /// Like `Standard`, and also an OpenID Connect provider.
    OpenId,
}

/// A logged request.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When it arrived.
    pub at: Instant,
    /// Its method.
    pub method: String,
    /// Its path, without the query.
    pub path: String,
    /// Its query; empty if there is none.
    pub query: String,
    /// Its headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The first 64 KiB of its body.
    pub body: Vec<u8>,
    /// The status of the response; 0 until there is one.
    pub status: u16,
}

impl Seen {
    /// The first value of a header. The name is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The body, parsed as a form.
    pub fn form(&self) -> Vec<(String, String)> {
        form_urlencoded::parse(&self.body).into_owned().collect()
    }
}

/// A running upstream. Clones share it. It ends when the last clone is dropped.
#[derive(Clone)]
pub struct Standin {
    running: Arc<Running>,
}

struct Running {
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        // Joining the thread frees the port before `drop` returns. The thread's result is
        // irrelevant.
        let _ended = self.thread.take().map(JoinHandle::join);
    }
}

impl Standin {
    /// Starts on a free loopback port, in its own thread and runtime. So sync and async tests can
    /// use it.
    ///
    /// # Panics
    /// If the loopback interface has no free port.
    pub fn start(profile: Profile) -> Self {
        Self::start_on(profile, 0).expect("a free loopback port")
    }

    /// Starts on this loopback port. Fails if the port cannot be bound.
    pub fn start_on(profile: Profile, port: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        let origin = format!("http://{}", listener.local_addr()?);
        let state = Arc::new(State::new(profile, origin));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("standin".to_owned())
            .spawn(move || runtime.block_on(server::serve(listener, shared, stopped)))?;
        let running = Running {
            state,
            stop: Some(stop),
            thread: Some(thread),
        };
        Ok(Self {
            running: Arc::new(running),
        })
    }

    fn state(&self) -> &State {
        &self.running.state
    }

    /// `http://127.0.0.1:PORT`
    pub fn origin(&self) -> String {
        self.state().origin.clone()
    }

    /// The URL of the MCP endpoint.
    pub fn mcp_url(&self) -> String {
        format!("{}/mcp", self.state().origin)
    }

    /// The issuer identifier of the authorization server.
    pub fn issuer(&self) -> String {
        self.state().issuer()
    }

    /// Changes the behaviour for all later requests.
    pub fn set(&self, change: impl FnOnce(&mut Behaviour)) {
        self.state().change(change);
    }

    /// All requests since the start or the last `clear_log`, in order of arrival.
    pub fn log(&self) -> Vec<Seen> {
        self.state().log()
    }

    /// Empties the log.
    pub fn clear_log(&self) {
        self.state().clear_log();
    }

    /// Knows this public client, which names itself by a metadata document.
    pub fn add_document_client(&self, url: &str) {
        let client = tokens::Client {
            secret: None,
            redirect_uris: None,
        };
        self.state().tokens().clients.insert(url.to_owned(), client);
    }

    /// The refresh tokens that were presented, in order.
    pub fn refreshes(&self) -> Vec<String> {
        self.state().tokens().refreshes.clone()
    }

    /// The refresh tokens that were presented after their rotation.
    pub fn reused(&self) -> Vec<String> {
        self.state().tokens().reused.clone()
    }

    /// The tokens posted to `/revoke`.
    pub fn revoked(&self) -> Vec<String> {
        self.state().tokens().revoked.clone()
    }

    /// Replaces the keys that sign ID tokens. Only the new keys are published.
    pub fn rotate_keys(&self) {
        self.state().keys().rotate();
    }

    /// Deletes all codes, tokens and sessions.
    pub fn revoke_all(&self) {
        self.state().tokens().forget();
    }

    /// Deletes all access tokens. Refresh tokens stay valid.
    pub fn revoke_access(&self) {
        self.state().tokens().access.clear();
    }

    /// The number of MCP requests and streams in progress.
    pub fn open_streams(&self) -> usize {
        self.state().open.load(Ordering::SeqCst)
    }

    /// All access tokens that were issued, in order.
    pub fn issued_access(&self) -> Vec<String> {
        self.state().tokens().issued.clone()
    }

    /// The steps of each refresh at `/token`, with their times: `received <rt>`, `rotated <rt> ->
    /// <new>` (or `kept <rt>`), `answered <rt>`.
    pub fn phases(&self) -> Vec<(Instant, String)> {
        self.state().phases()
    }
}
