//! `upstream = "oauth"`: a token of the upstream's own authorization server.

use crate::base::secret::Secret;
use crate::base::special_ip::Cidr;
use crate::base::url::ExactUrl;
use crate::upstream::quirks::Profile;
use crate::upstream::token_endpoint;

/// What the operator said of the upstream's authorization server; what is missing is discovered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthServerConfig {
    /// Its issuer.
    pub issuer: Option<ExactUrl>,
    /// Our client id there; without one we register (RFC 7591).
    pub client_id: Option<String>,
    /// Our client secret there.
    pub client_secret: Option<Secret>,
    /// Where the browser goes; only together with the next.
    pub authorization_endpoint: Option<ExactUrl>,
    /// Where codes are exchanged.
    pub token_endpoint: Option<ExactUrl>,
    /// How it departs from the standard; `None`: found by host.
    pub profile: Option<&'static Profile>,
    /// What goes with every authorization request beyond what we and the profile say, such as Auth0's `audience`.
    pub extra_authorize: Vec<(String, String)>,
    /// Addresses that the upstream may name beyond its own neighbourhood.
    pub allow_addresses: Vec<Cidr>,
}

impl AuthServerConfig {
    /// The first name in `extra_authorize` that is ours to say; such a parameter would not be sent.
    pub fn reserved_extra(&self) -> Option<&str> {
        let mut names = self.extra_authorize.iter().map(|(name, _)| name.as_str());
        names.find(|name| token_endpoint::is_reserved_param(name))
    }
}
