//! A client that the operator configured, so that it need not register.

use crate::base::ids::Digest;
use crate::oauth::client_id_metadata;
use crate::oauth::redirect_uri::RedirectUri;

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
}

/// Whether a configured client may have this id. It must not look like an id from registration, or
/// like the URL of a metadata document.
pub fn is_valid_client_id(client_id: &str) -> bool {
    let is_word = (1..=MAX_ID_BYTES).contains(&client_id.len()) && client_id.bytes().all(|b| b.is_ascii_graphic());
    is_word && !client_id.starts_with(REGISTERED_PREFIX) && !client_id.contains("://") && !client_id_metadata::is_url(client_id)
}
