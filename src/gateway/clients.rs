//! Clients: an id is a sealed record of what the client registered, so registering cannot fill a disk; or it is the URL
//! of a document in which the client says the same.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::base::ids::Digest;
use crate::base::random;
use crate::base::seal::{self, Label};
use crate::base::secret::Secret;
use crate::flow::client::Registered;
use crate::gateway::rejection::Rejection;
use crate::gateway::{Gateway, Lane};
use crate::oauth::client_document::{self, DocumentUrl};
use crate::oauth::error::Code;
use crate::oauth::redirect::RedirectUri;
use crate::oauth::register::{AuthMethod, BadRegistration, Registration};
use crate::upstream::document::NoDocument;

const LABEL: Label = Label("client id");
const PREFIX: &str = "gwc_";
/// The longest client id that is made or looked at, in bytes.
const LONGEST: usize = 4 * 1024;

/// How fresh a client's document must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// As fresh as its host wants: a journey begins.
    Current,
    /// As it was last known, so that nobody's grant depends on the client's host being up.
    Known,
}

/// A client that the operator wrote down, so that it need not register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configured {
    /// Its client id; see [`may_be_configured`].
    pub id: String,
    /// What people are shown.
    pub name: String,
    /// Where its answers may go: at least one.
    pub redirect_uris: Vec<RedirectUri>,
    /// The digest of its secret; a public client has none. The secret is long and random, so a digest is all it needs.
    pub secret: Option<Digest>,
}

/// Whether the operator may call a client so: it must not be mistaken for one that registered, or for the URL of a document.
pub fn may_be_configured(client_id: &str) -> bool {
    let is_word = (1..=255).contains(&client_id.len()) && client_id.bytes().all(|b| b.is_ascii_graphic());
    is_word && !client_id.starts_with(PREFIX) && !client_id.contains("://") && !client_document::is_url(client_id)
}

impl Configured {
    pub(crate) fn registered(&self) -> Registered {
        let registration = Registration {
            name: Some(self.name.clone()),
            redirect_uris: self.redirect_uris.clone(),
            auth_method: match self.secret {
                Some(_) => AuthMethod::ClientSecretBasic,
                None => AuthMethod::None,
            },
            refreshes: true,
        };
        Registered::configured(self.id.clone(), registration, self.secret.clone())
    }
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    is: Registration,
    secret: Option<Digest>,
}

impl Gateway {
    /// Registers a client (RFC 7591): the document that answers it. Equal public registrations get equal ids; a
    /// confidential one always gets a fresh id and secret.
    ///
    /// # Panics
    /// Never: what was read is texts, and texts can be written.
    pub fn register(&self, body: &[u8], source: IpAddr) -> Result<Value, Rejection> {
        if !self.limits.registration(source) {
            return Err(Rejection::Busy { retry_after: 10 });
        }
        let registration = Registration::parse(body).map_err(Rejection::Registration)?;
        let secret = match registration.auth_method {
            AuthMethod::None => None,
            AuthMethod::ClientSecretBasic | AuthMethod::ClientSecretPost => Some(random::token()),
        };
        let sealed = Sealed {
            secret: secret.as_ref().map(|s| Digest::of(s.expose())),
            is: registration,
        };
        let plain = serde_json::to_vec(&sealed).expect("texts are JSON");
        let message = seal::repeatable(&self.keys.load(), self.clock.now(), LABEL, &plain);
        let client_id = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(message));
        if client_id.len() > LONGEST {
            let why = "the registration is too large: use fewer or shorter redirect URIs".to_owned();
            return Err(Rejection::Registration(BadRegistration {
                code: Code::InvalidClientMetadata,
                why,
            }));
        }
        Ok(document(&client_id, &sealed.is, secret.as_ref(), self))
    }

    /// The client of this id, if there is one: the operator wrote it down, its document says so, or it registered here.
    pub async fn client(&self, lane: &Lane, client_id: &str, freshness: Freshness) -> Result<Option<Registered>, Rejection> {
        if let Some(configured) = self.live().client(client_id) {
            return Ok(Some(configured.registered()));
        }
        if !client_document::is_url(client_id) {
            return Ok(self.registered(client_id));
        }
        let url = DocumentUrl::parse(client_id, self.site.is_loopback()).map_err(|why| Rejection::Document(NoDocument::Url(why)))?;
        let read = match freshness {
            Freshness::Current => self.documents.current(&lane.client, &url).await,
            Freshness::Known => self.documents.known(&lane.client, &url).await,
        };
        match read {
            Ok(registration) => Ok(Some(Registered::documented(url, Registration::clone(&registration)))),
            // That is our own limit, and says nothing about the client.
            Err(NoDocument::Busy) => Err(Rejection::Busy { retry_after: 5 }),
            Err(why) => Err(Rejection::Document(why)),
        }
    }

    fn registered(&self, client_id: &str) -> Option<Registered> {
        let text = client_id.strip_prefix(PREFIX).filter(|_| client_id.len() <= LONGEST)?;
        let message = URL_SAFE_NO_PAD.decode(text).ok()?;
        let plain = seal::unboxed(&self.keys.load(), LABEL, b"", &message).ok()?;
        let sealed: Sealed = serde_json::from_slice(&plain).ok()?;
        Some(Registered::new(client_id.to_owned(), sealed.is, sealed.secret))
    }
}

fn document(client_id: &str, is: &Registration, secret: Option<&Secret>, gateway: &Gateway) -> Value {
    let grants: &[&str] = if is.refreshes {
        &["authorization_code", "refresh_token"]
    } else {
        &["authorization_code"]
    };
    let mut out = json!({
        "client_id": client_id,
        "client_id_issued_at": gateway.clock.now().0,
        "redirect_uris": is.redirect_uris,
        "token_endpoint_auth_method": is.auth_method.as_str(),
        "grant_types": grants,
        "response_types": ["code"],
    });
    if let Some(name) = &is.name {
        out["client_name"] = json!(name);
    }
    if let Some(secret) = secret {
        out["client_secret"] = json!(secret.expose());
        out["client_secret_expires_at"] = json!(0);
    }
    out
}
