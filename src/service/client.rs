//! Clients that the operator configured, so that they need not register, and copies of clients'
//! metadata documents.

use crate::base::ids::Digest;
use crate::oauth::client_id_metadata::{self, ClientIdUrl};
use crate::oauth::redirect_uri::RedirectUri;
use crate::oauth::registration::ClientRegistration;

/// The prefix of the ids that registration issues.
pub const REGISTERED_PREFIX: &str = "gwc_";

/// The longest id of a configured client, in bytes.
const MAX_ID_BYTES: usize = 255;

/// A configured client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredClient {
    /// The client id; see [`is_valid_client_id`].
    pub id: String,
    /// The name on the consent page.
    pub name: String,
    /// The redirect URIs, at least one.
    pub redirect_uris: Vec<RedirectUri>,
    /// The digest of the client secret; `None` for a public client. The secret is long and random,
    /// so a fast digest protects it.
    pub secret: Option<Digest>,
    /// Whether the client may send no PKCE challenge. It has a secret then.
    pub pkce_optional: bool,
}

/// The operator's copy of a client's metadata document, which is never fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedDocument {
    /// The URL of the document, which is the client id.
    pub url: ClientIdUrl,
    /// The content of the copy.
    pub registration: ClientRegistration,
}

/// The rules for clients with metadata documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientDocuments {
    /// Whether the gateway announces support, and fetches documents. It uses copies in any case.
    pub is_on: bool,
    /// The copies, with distinct URLs.
    pub pinned: Vec<PinnedDocument>,
}

impl Default for ClientDocuments {
    fn default() -> Self {
        Self {
            is_on: true,
            pinned: Vec::new(),
        }
    }
}

/// Whether a configured client may have this id. It must not look like an id from registration, or
/// like the URL of a metadata document.
pub fn is_valid_client_id(client_id: &str) -> bool {
    let is_word = (1..=MAX_ID_BYTES).contains(&client_id.len()) && client_id.bytes().all(|b| b.is_ascii_graphic());
    is_word && !client_id.starts_with(REGISTERED_PREFIX) && !client_id.contains("://") && !client_id_metadata::is_url(client_id)
}
