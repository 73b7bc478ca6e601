//! FLOOR 4. What stands behind us, and how it is unlocked.

use http::HeaderValue;
use http::header::HeaderName;

use crate::base::secret::Secret;
use crate::base::url::Address;
use crate::oauth::scope::Scopes;
use crate::token::half::{Carried, Mode, ServiceMark};
use crate::token::lifetime::Ttl;

/// One configured upstream.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name: `default` for the anonymous one of the command line.
    pub name: String,
    /// The mark that its tokens carry.
    pub mark: ServiceMark,
    /// The upstream MCP server, byte for byte as configured.
    pub mcp: Address,
    /// How the upstream's authorization server is found.
    pub authorization: Authorization,
    /// How pairs are protected.
    pub mode: Mode,
    /// Lifetimes of our tokens.
    pub ttl: Ttl,
    /// How long a superseded refresh pair still works, in seconds.
    pub refresh_grace: u64,
    /// Scopes asked of the upstream; empty = what it says it needs.
    pub scopes: Scopes,
    /// Scopes that a client may ask for beyond those.
    pub optional_scopes: Scopes,
    /// Further request headers that pass.
    pub forward_headers: Vec<HeaderName>,
}

/// What the operator said of the upstream's authorization server; what is missing is discovered.
#[derive(Clone, Debug, Default)]
pub struct Authorization {
    /// Its issuer.
    pub issuer: Option<Address>,
    /// Our client id there; without one we register (RFC 7591).
    pub client_id: Option<String>,
    /// Our client secret there.
    pub client_secret: Option<Secret>,
    /// Where the browser goes; only together with the next.
    pub authorization_endpoint: Option<Address>,
    /// Where codes are exchanged.
    pub token_endpoint: Option<Address>,
}

impl Service {
    /// The host that the user will sign in behind, for pages.
    pub fn host(&self) -> &str {
        self.mcp.url().host_str().unwrap_or("")
    }
}

/// What goes on the forwarded request instead of the client's token: the upstream's own. Only what an opened pair
/// carried can be put here, so passing the client's token on cannot be written.
pub fn credential(carried: Carried, upstream: &Secret) -> Option<HeaderValue> {
    match carried {
        Carried::Access => {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", upstream.expose())).ok()?;
            value.set_sensitive(true);
            Some(value)
        }
        Carried::Refresh | Carried::Nothing => None,
    }
}
