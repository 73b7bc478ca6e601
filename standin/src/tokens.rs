//! What the authorization server stores: clients, codes, tokens.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::assertion::KEY_CLIENTS;

/// A client that may request tokens.
#[derive(Clone)]
pub struct Client {
    /// A client without a secret is public.
    pub secret: Option<String>,
    /// The exact redirect URIs; `None` allows any.
    pub redirect_uris: Option<Vec<String>>,
}

/// An authorization code that is not redeemed yet.
pub struct Code {
    pub client_id: String,
    pub redirect_uri: String,
    pub challenge: Option<String>,
    pub nonce: Option<String>,
    pub scope: String,
}

/// A device code that is not redeemed yet.
pub struct DeviceCode {
    pub client_id: String,
    pub scope: String,
}

/// The data of an access token.
#[derive(Clone)]
pub struct Access {
    pub family: u64,
    pub scope: String,
    pub expires: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Life {
    Alive,
    Rotated,
    Ended,
}

/// The data of a refresh token. It stays after the token has ended.
#[derive(Clone)]
pub struct Refresh {
    pub family: u64,
    pub client_id: String,
    pub scope: String,
    pub life: Life,
    pub expires: Option<Instant>,
}

/// The storage of the authorization server.
#[derive(Default)]
pub struct Tokens {
    pub clients: HashMap<String, Client>,
    pub codes: HashMap<String, Code>,
    pub devices: HashMap<String, DeviceCode>,
    /// Redeemed codes, with the token family of each.
    pub spent: HashMap<String, u64>,
    pub access: HashMap<String, Access>,
    pub refresh: HashMap<String, Refresh>,
    pub sessions: HashSet<String>,
    /// The `jti` of each assertion that was used.
    pub assertions: HashSet<String>,
    pub families: u64,
    pub issued: Vec<String>,
    pub refreshes: Vec<String>,
    pub reused: Vec<String>,
    pub revoked: Vec<String>,
}

impl Tokens {
    /// Starts with the one client that needs no registration.
    pub fn new() -> Self {
        let mut tokens = Self::default();
        let secret = Some("gateway-secret".to_owned());
        tokens.clients.insert(
            "gateway".to_owned(),
            Client {
                secret,
                redirect_uris: None,
            },
        );
        // Without a secret that anyone could know: they authenticate with an assertion.
        for (id, _) in KEY_CLIENTS {
            let client = Client {
                secret: Some(random()),
                redirect_uris: None,
            };
            tokens.clients.insert(id.to_owned(), client);
        }
        tokens
    }

    pub fn new_family(&mut self) -> u64 {
        self.families += 1;
        self.families
    }

    pub fn issue_access(&mut self, prefix: &str, family: u64, scope: &str, ttl: Option<u64>) -> String {
        let token = format!("{prefix}{}", random());
        let expires = ttl.map(after);
        self.access.insert(
            token.clone(),
            Access {
                family,
                scope: scope.to_owned(),
                expires,
            },
        );
        self.issued.push(token.clone());
        token
    }

    pub fn issue_refresh(&mut self, from: Refresh) -> String {
        let token = format!("rt_{}", random());
        self.refresh.insert(token.clone(), from);
        token
    }

    /// The data of an access token, if it is valid.
    pub fn check_access(&self, token: &str) -> Option<Access> {
        let access = self.access.get(token)?;
        let good = access.expires.is_none_or(|end| Instant::now() < end);
        good.then(|| access.clone())
    }

    /// Ends all tokens of a family. Rotated refresh tokens stay known as rotated.
    pub fn end_family(&mut self, family: u64) {
        self.access.retain(|_, a| a.family != family);
        for refresh in self.refresh.values_mut() {
            if refresh.family == family && refresh.life == Life::Alive {
                refresh.life = Life::Ended;
            }
        }
    }

    /// Ends a token as `/revoke` does: a refresh token ends its whole family.
    pub fn revoke(&mut self, token: &str) {
        self.revoked.push(token.to_owned());
        self.access.remove(token);
        if let Some(family) = self.refresh.get(token).map(|r| r.family) {
            self.end_family(family);
        }
    }

    /// Deletes all codes, tokens and sessions. Clients and histories stay.
    pub fn forget(&mut self) {
        self.codes.clear();
        self.spent.clear();
        self.access.clear();
        self.refresh.clear();
        self.sessions.clear();
    }
}

/// The time in `seconds` seconds.
pub fn after(seconds: u64) -> Instant {
    // A lifetime that overflows the clock becomes a year.
    let now = Instant::now();
    now.checked_add(Duration::from_secs(seconds))
        .unwrap_or(now + Duration::from_secs(31_536_000))
}

/// An unguessable text that needs no URL encoding.
pub fn random() -> String {
    let mut bytes = [0_u8; 24];
    SystemRandom::new().fill(&mut bytes).expect("the system gives random bytes");
    URL_SAFE_NO_PAD.encode(bytes)
}

/// SHA-256 as base64url: an S256 challenge, and the token digest that `whoami` returns.
pub fn sha256(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}
