//! Clients. The client id of a registered client is its sealed registration, so that registrations cannot
//! fill a disk. Other client ids are URLs of metadata documents, or configured by the operator.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::app::audit_events;
use crate::app::core::Core;
use crate::app::error::Rejection;
use crate::app::rate_limit::{DOCUMENTS_PER_MINUTE, REGISTRATIONS_PER_MINUTE, SourceLimit};

use crate::base::ids::Digest;
use crate::base::keyring::KeyRing;
use crate::base::random;
use crate::base::seal::{self, Label};
use crate::base::secret::Secret;
use crate::base::time::UnixTime;
use crate::flow::client::{Authenticated, RegisteredClient};
use crate::net::http_client::HttpClient;
use crate::oauth::client_id_metadata::{self, ClientIdUrl, ClientIdUrlError};
use crate::oauth::error::OAuthErrorCode;
use crate::oauth::form::Form;
use crate::oauth::registration::{ClientAuthMethod, ClientRegistration, RegistrationError};
use crate::oauth::token_endpoint::ClientCredentials;
use crate::service::client::{ConfiguredClient, REGISTERED_PREFIX};
use crate::upstream::client_metadata::{ClientMetadataCache, ClientMetadataFetchError};

const LABEL: Label = Label("client id");
/// The maximum length of a client id, in bytes.
const MAX_CLIENT_ID_BYTES: usize = 4 * 1024;

#[derive(Serialize, Deserialize)]
struct SealedClient {
    is: ClientRegistration,
    secret: Option<Digest>,
}

/// Registers clients and looks them up.
pub struct Clients {
    core: Arc<Core>,
    documents: ClientMetadataCache,
    registration_limit: SourceLimit,
    document_limit: SourceLimit,
}

impl Clients {
    pub(in crate::app) fn new(core: Arc<Core>) -> Self {
        Self {
            documents: ClientMetadataCache::new(core.urls.is_loopback(), core.clock.clone()),
            core,
            registration_limit: SourceLimit::per_minute(REGISTRATIONS_PER_MINUTE),
            document_limit: SourceLimit::per_minute(DOCUMENTS_PER_MINUTE),
        }
    }

    /// Registers a client and returns the client information response (RFC 7591 §3.2.1). Equal public
    /// registrations get equal ids; a confidential one always gets a new id and secret.
    ///
    /// # Errors
    /// If the metadata is not valid, or the source registers too often.
    ///
    /// # Panics
    /// Never: the registration consists of strings, which serialize.
    pub fn register(&self, body: &[u8], source: IpAddr) -> Result<Value, Rejection> {
        if !self.registration_limit.allow(source) {
            return Err(Rejection::TryLater { retry_after: 10 });
        }
        let registration = ClientRegistration::parse(body).map_err(Rejection::Registration)?;
        self.check_schemes(&registration).map_err(Rejection::Registration)?;
        let secret = match registration.auth_method {
            ClientAuthMethod::None => None,
            ClientAuthMethod::ClientSecretBasic | ClientAuthMethod::ClientSecretPost => Some(random::token()),
        };
        let sealed_client = SealedClient {
            secret: secret.as_ref().map(|s| Digest::new(s.expose())),
            is: registration,
        };
        let plaintext = serde_json::to_vec(&sealed_client).expect("strings serialize");
        let sealed_bytes = seal::seal_deterministic(&self.core.keys.load(), self.core.clock.now(), LABEL, &plaintext);
        let client_id = format!("{REGISTERED_PREFIX}{}", URL_SAFE_NO_PAD.encode(sealed_bytes));
        if client_id.len() > MAX_CLIENT_ID_BYTES {
            let message = "the registration is too large: use fewer or shorter redirect URIs".to_owned();
            return Err(Rejection::Registration(RegistrationError {
                code: OAuthErrorCode::InvalidClientMetadata,
                why: message,
            }));
        }
        self.core
            .audit
            .record(audit_events::client_registered(&client_id, &sealed_client.is));
        Ok(registration_response(
            &client_id,
            &sealed_client.is,
            secret.as_ref(),
            self.core.clock.now(),
        ))
    }

    /// The client of this id: configured by the operator, named by its metadata document, or registered
    /// here. `None`: the client is unknown. `source` is the caller's address, for limits only.
    ///
    /// # Errors
    /// If the metadata document cannot be read or is not valid, or the source causes too many fetches.
    pub async fn client(&self, http: &HttpClient, client_id: &str, source: IpAddr) -> Result<Option<RegisteredClient>, Rejection> {
        if let Some(client) = self.known_client(client_id) {
            return Ok(Some(client));
        }
        let url = match self.document_url(client_id) {
            None => return Ok(None),
            Some(url) => url.map_err(|error| Rejection::Document(ClientMetadataFetchError::Url(error)))?,
        };
        // This check precedes the limit of all sources, so that one source uses up only its own share.
        if !self.documents.is_cached(&url) && !self.document_limit.allow(source) {
            return Err(Rejection::TryLater { retry_after: 10 });
        }
        match self.documents.get_fresh(http, &url).await {
            Ok(registration) => {
                // Other gateways read the document too, so only the URIs that are usable here count.
                let (mut usable, more) = (ClientRegistration::clone(&registration), self.core.config());
                usable
                    .redirect_uris
                    .retain(|uri| uri.has_known_scheme(&more.configured.redirect_schemes));
                if usable.redirect_uris.is_empty() {
                    self.check_schemes(&registration).map_err(Rejection::Registration)?;
                }
                Ok(Some(RegisteredClient::from_metadata(url, usable)))
            }
            // The gateway's own limit, which is not the client's fault.
            Err(ClientMetadataFetchError::Busy) => Err(Rejection::TryLater { retry_after: 5 }),
            Err(error) => Err(Rejection::Document(error)),
        }
    }

    /// Refuses app schemes that no known app has: they may belong to any program.
    fn check_schemes(&self, registration: &ClientRegistration) -> Result<(), RegistrationError> {
        let more = &self.core.config().configured.redirect_schemes;
        match registration.redirect_uris.iter().find(|uri| !uri.has_known_scheme(more)) {
            None => Ok(()),
            Some(uri) => Err(RegistrationError {
                code: OAuthErrorCode::InvalidRedirectUri,
                why: format!(
                    "redirect URI '{}' uses a scheme of no known app; use a reverse domain name such as com.example.app:/callback, \
                    or ask the operator of this gateway to add the scheme to redirect_schemes",
                    uri.as_str().chars().take(80).collect::<String>()
                ),
            }),
        }
    }

    /// The client of this id, if the gateway knows it without its metadata document.
    fn known_client(&self, client_id: &str) -> Option<RegisteredClient> {
        let config = self.core.config();
        if let Some(configured) = config.client(client_id) {
            return Some(from_config(configured));
        }
        if let Some(copy) = config.pinned_document(client_id) {
            return Some(RegisteredClient::from_metadata(copy.url.clone(), copy.registration.clone()));
        }
        self.registered(client_id)
    }

    /// The URL in a client id; `None` if it is not a URL, or if metadata documents are not used.
    fn document_url(&self, client_id: &str) -> Option<Result<ClientIdUrl, ClientIdUrlError>> {
        let is_used = client_id_metadata::is_url(client_id) && self.core.config().configured.client_documents.is_on;
        is_used.then(|| ClientIdUrl::parse(client_id, self.core.urls.is_loopback()))
    }

    /// Authenticates the client of a request to the token or revocation endpoint (RFC 6749 §2.3). No
    /// metadata document is fetched, so that no caller can make the gateway fetch URLs here (SSRF).
    ///
    /// # Errors
    /// If the client is unknown, or its secret is missing or wrong.
    pub(in crate::app) fn authenticate(&self, authorization: Option<&str>, form: &Form) -> Result<Authenticated, Rejection> {
        let credentials = ClientCredentials::parse(authorization, form)?;
        let client_error = |reason| Rejection::Client {
            why: reason,
            basic: credentials.basic,
        };
        if let Some(client) = self.known_client(&credentials.client_id) {
            return client
                .authenticate(&credentials)
                .map_err(|_| client_error("the client secret is missing or wrong"));
        }
        match self.document_url(&credentials.client_id) {
            Some(Ok(url)) => Ok(Authenticated::by_document(&url)),
            Some(Err(_)) | None => Err(client_error("this gateway does not know the client; it must register again")),
        }
    }

    /// Removes sources that sent no request lately.
    pub(in crate::app) fn sweep(&self) {
        self.registration_limit.sweep();
        self.document_limit.sweep();
    }

    fn registered(&self, client_id: &str) -> Option<RegisteredClient> {
        let sealed_client = SealedClient::open(&self.core.keys.load(), client_id)?;
        Some(RegisteredClient::new(client_id.to_owned(), sealed_client.is, sealed_client.secret))
    }
}

impl SealedClient {
    /// The registration in a client id; `None` if it is not one of this gateway.
    fn open(keys: &KeyRing, client_id: &str) -> Option<Self> {
        let text = client_id
            .strip_prefix(REGISTERED_PREFIX)
            .filter(|_| client_id.len() <= MAX_CLIENT_ID_BYTES)?;
        let message = URL_SAFE_NO_PAD.decode(text).ok()?;
        let plaintext = seal::open_message(keys, LABEL, b"", &message).ok()?;
        serde_json::from_slice(&plaintext).ok()
    }
}

/// The name in a client id that is a registration, if the client gave one.
pub(in crate::app) fn registered_name(keys: &KeyRing, client_id: &str) -> Option<String> {
    SealedClient::open(keys, client_id)?.is.name
}

/// A configured client, in the form of a registered one.
fn from_config(client: &ConfiguredClient) -> RegisteredClient {
    let registration = ClientRegistration {
        name: Some(client.name.clone()),
        redirect_uris: client.redirect_uris.clone(),
        auth_method: match client.secret {
            Some(_) => ClientAuthMethod::ClientSecretBasic,
            None => ClientAuthMethod::None,
        },
        may_refresh: true,
    };
    let registered = RegisteredClient::configured(client.id.clone(), registration, client.secret.clone());
    if client.pkce_optional {
        registered.with_optional_pkce()
    } else {
        registered
    }
}

fn registration_response(client_id: &str, registration: &ClientRegistration, secret: Option<&Secret>, now: UnixTime) -> Value {
    let grant_types: &[&str] = if registration.may_refresh {
        &["authorization_code", "refresh_token"]
    } else {
        &["authorization_code"]
    };
    let mut response = json!({
        "client_id": client_id,
        "client_id_issued_at": now.0,
        "redirect_uris": registration.redirect_uris,
        "token_endpoint_auth_method": registration.auth_method.as_str(),
        "grant_types": grant_types,
        "response_types": ["code"],
    });
    if let Some(name) = &registration.name {
        response["client_name"] = json!(name);
    }
    if let Some(secret) = secret {
        response["client_secret"] = json!(secret.expose());
        response["client_secret_expires_at"] = json!(0);
    }
    response
}
