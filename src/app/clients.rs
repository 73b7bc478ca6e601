//! Clients: an id is a sealed record of what the client registered, so registering cannot fill a disk; or it is the URL
//! of a document in which the client says the same.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::app::error::Rejection;
use crate::app::{Gateway, Lane};
use crate::base::ids::Digest;
use crate::base::random;
use crate::base::seal::{self, Label};
use crate::base::secret::Secret;
use crate::flow::client::RegisteredClient;
use crate::oauth::client_id_metadata::{self, ClientIdUrl};
use crate::oauth::error::OAuthErrorCode;
use crate::oauth::redirect_uri::RedirectUri;
use crate::oauth::registration::{ClientAuthMethod, ClientRegistration, RegistrationError};
use crate::upstream::client_metadata::ClientMetadataFetchError;

const LABEL: Label = Label("client id");
const PREFIX: &str = "gwc_";
/// The longest client id that is made or looked at, in bytes.
const MAX_CLIENT_ID_BYTES: usize = 4 * 1024;

/// How fresh a client's document must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// As fresh as its host wants: a journey begins.
    Current,
    /// As it was last known, so that nobody's grant depends on the client's host being up.
    LastKnown,
}

/// A client that the operator wrote down, so that it need not register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredClient {
    /// Its client id; see [`is_valid_client_id`].
    pub id: String,
    /// What people are shown.
    pub name: String,
    /// Where its answers may go: at least one.
    pub redirect_uris: Vec<RedirectUri>,
    /// The digest of its secret; a public client has none. The secret is long and random, so a digest is all it needs.
    pub secret: Option<Digest>,
}

/// Whether the operator may call a client so: it must not be mistaken for one that registered, or for the URL of a document.
pub fn is_valid_client_id(client_id: &str) -> bool {
    let is_word = (1..=255).contains(&client_id.len()) && client_id.bytes().all(|b| b.is_ascii_graphic());
    is_word && !client_id.starts_with(PREFIX) && !client_id.contains("://") && !client_id_metadata::is_url(client_id)
}

impl ConfiguredClient {
    pub(crate) fn registered(&self) -> RegisteredClient {
        let registration = ClientRegistration {
            name: Some(self.name.clone()),
            redirect_uris: self.redirect_uris.clone(),
            auth_method: match self.secret {
                Some(_) => ClientAuthMethod::ClientSecretBasic,
                None => ClientAuthMethod::None,
            },
            may_refresh: true,
        };
        RegisteredClient::configured(self.id.clone(), registration, self.secret.clone())
    }
}

#[derive(Serialize, Deserialize)]
struct SealedClient {
    is: ClientRegistration,
    secret: Option<Digest>,
}

impl Gateway {
    /// Registers a client (RFC 7591): the document that answers it. Equal public registrations get equal ids; a
    /// confidential one always gets a fresh id and secret.
    ///
    /// # Panics
    /// Never: what was read is texts, and texts can be written.
    pub fn register(&self, body: &[u8], source: IpAddr) -> Result<Value, Rejection> {
        if !self.limits.allow_registration(source) {
            return Err(Rejection::TryLater { retry_after: 10 });
        }
        let registration = ClientRegistration::parse(body).map_err(Rejection::Registration)?;
        let secret = match registration.auth_method {
            ClientAuthMethod::None => None,
            ClientAuthMethod::ClientSecretBasic | ClientAuthMethod::ClientSecretPost => Some(random::token()),
        };
        let sealed = SealedClient {
            secret: secret.as_ref().map(|s| Digest::new(s.expose())),
            is: registration,
        };
        let plain = serde_json::to_vec(&sealed).expect("texts are JSON");
        let message = seal::seal_deterministic(&self.keys.load(), self.clock.now(), LABEL, &plain);
        let client_id = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(message));
        if client_id.len() > MAX_CLIENT_ID_BYTES {
            let why = "the registration is too large: use fewer or shorter redirect URIs".to_owned();
            return Err(Rejection::Registration(RegistrationError {
                code: OAuthErrorCode::InvalidClientMetadata,
                why,
            }));
        }
        Ok(registration_response(&client_id, &sealed.is, secret.as_ref(), self))
    }

    /// The client of this id, if there is one: the operator wrote it down, its document says so, or it registered here.
    pub async fn client(&self, lane: &Lane, client_id: &str, freshness: Freshness) -> Result<Option<RegisteredClient>, Rejection> {
        if let Some(configured) = self.live().client(client_id) {
            return Ok(Some(configured.registered()));
        }
        if !client_id_metadata::is_url(client_id) {
            return Ok(self.registered(client_id));
        }
        let url = ClientIdUrl::parse(client_id, self.site.is_loopback())
            .map_err(|why| Rejection::Document(ClientMetadataFetchError::Url(why)))?;
        let read = match freshness {
            Freshness::Current => self.documents.get_fresh(&lane.client, &url).await,
            Freshness::LastKnown => self.documents.get_cached(&lane.client, &url).await,
        };
        match read {
            Ok(registration) => Ok(Some(RegisteredClient::from_metadata(url, ClientRegistration::clone(&registration)))),
            // That is our own limit, and says nothing about the client.
            Err(ClientMetadataFetchError::Busy) => Err(Rejection::TryLater { retry_after: 5 }),
            Err(why) => Err(Rejection::Document(why)),
        }
    }

    fn registered(&self, client_id: &str) -> Option<RegisteredClient> {
        let text = client_id.strip_prefix(PREFIX).filter(|_| client_id.len() <= MAX_CLIENT_ID_BYTES)?;
        let message = URL_SAFE_NO_PAD.decode(text).ok()?;
        let plain = seal::open_message(&self.keys.load(), LABEL, b"", &message).ok()?;
        let sealed: SealedClient = serde_json::from_slice(&plain).ok()?;
        Some(RegisteredClient::new(client_id.to_owned(), sealed.is, sealed.secret))
    }
}

fn registration_response(client_id: &str, is: &ClientRegistration, secret: Option<&Secret>, gateway: &Gateway) -> Value {
    let grants: &[&str] = if is.may_refresh {
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
