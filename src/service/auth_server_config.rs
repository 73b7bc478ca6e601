//! `upstream = "oauth"`: the configuration of the upstream AS.

use crate::base::client_key::ClientKey;
use crate::base::secret::Secret;
use crate::base::special_ip::Cidr;
use crate::base::url::ExactUrl;
use crate::oauth::metadata::Purpose;
use crate::upstream::auth_server::{ClientProof, TokenEndpointAuth};
use crate::upstream::discovery_result::{DiscoveryInput, ResourceParam};
use crate::upstream::quirks::{self, Profile};
use crate::upstream::token_endpoint;

/// How the gateway gets a client id at an upstream AS where the operator configured none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegistrationMethod {
    /// It registers itself (RFC 7591).
    #[default]
    Dynamic,
    /// Its client metadata document is the client id, where the server supports that. Elsewhere it registers.
    Document,
}

/// What the operator configured about the upstream AS. The rest is discovered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthServerConfig {
    /// The issuer of the upstream AS, which is found by it or has the configured endpoints.
    pub issuer: Option<ExactUrl>,
    /// The gateway's client id there; without one the gateway registers (RFC 7591).
    pub client_id: Option<String>,
    /// The gateway's client secret there.
    pub client_secret: Option<Secret>,
    /// The gateway's key there, which signs assertions instead of a secret.
    pub client_key: Option<ClientKey>,
    /// The authorization endpoint. It needs `token_endpoint`.
    pub authorization_endpoint: Option<ExactUrl>,
    /// The token endpoint. It needs `authorization_endpoint`.
    pub token_endpoint: Option<ExactUrl>,
    /// The profile, with the quirks of this upstream; `None`: chosen by host.
    pub profile: Option<&'static Profile>,
    /// The gateway's authentication method at the token endpoint; `None`: that of the metadata.
    pub token_auth: Option<TokenEndpointAuth>,
    /// The replacement for the upstream's resource identifier.
    pub resource: Option<ResourceParam>,
    /// How the gateway gets a client id, if none is configured.
    pub registration: RegistrationMethod,
    /// The scope of the gateway's registration.
    pub registration_scope: Option<String>,
    /// Further parameters of every authorization request, such as Auth0's `audience`.
    pub extra_authorize: Vec<(String, String)>,
    /// Whether the upstream may name no other issuer than at first; `None`: see
    /// [`AuthServerConfig::is_issuer_pinned`].
    pub pin_issuer: Option<bool>,
    /// Private addresses or CIDR blocks that the upstream's metadata may point to.
    pub allow_addresses: Vec<Cidr>,
}

impl AuthServerConfig {
    /// What the discovery of the MCP server at `mcp` starts from.
    pub fn discovery_input(&self, mcp: &ExactUrl, purpose: Purpose) -> DiscoveryInput {
        DiscoveryInput {
            purpose,
            mcp: mcp.clone(),
            issuer: self.issuer.clone(),
            endpoints: self.authorization_endpoint.clone().zip(self.token_endpoint.clone()),
            profile: self.profile,
            resource: self.resource.clone(),
            allow_addresses: self.allow_addresses[..].into(),
        }
    }

    /// The configured profile, else that of the host of the MCP server at `mcp`.
    pub fn profile_of(&self, mcp: &ExactUrl) -> &'static Profile {
        let by_host = || mcp.url().host_str().map_or(&quirks::STANDARD, quirks::for_host);
        self.profile.unwrap_or_else(by_host)
    }

    /// What a configured client authenticates with.
    pub fn client_proof(&self) -> ClientProof {
        match &self.client_key {
            Some(key) => ClientProof::Key(key.clone()),
            None => ClientProof::Secret {
                secret: self.client_secret.clone(),
                method: self.token_auth,
            },
        }
    }

    /// Whether a changed issuer of the MCP server at `mcp` is refused. By default it is if a client id is
    /// configured, or if the profile knows the issuer.
    pub fn is_issuer_pinned(&self, mcp: &ExactUrl) -> bool {
        let default = || self.client_id.is_some() || self.profile_of(mcp).endpoints.is_some();
        self.pin_issuer.unwrap_or_else(default)
    }

    /// The authorization endpoint before any discovery: the configured one, or the one that the
    /// profile of the MCP server at `mcp` knows. `None`: only discovery can tell.
    pub fn expected_authorization_endpoint(&self, mcp: &ExactUrl) -> Option<ExactUrl> {
        if let Some(endpoint) = &self.authorization_endpoint {
            return Some(endpoint.clone());
        }
        let known = self.profile_of(mcp).endpoints.as_ref()?;
        let is_other = self.issuer.as_ref().is_some_and(|issuer| issuer.as_str() != known.issuer);
        ExactUrl::parse(known.authorize).ok().filter(|_| !is_other)
    }

    /// The first name in `extra_authorize` that is reserved for the gateway. It would not be sent.
    pub fn reserved_extra(&self) -> Option<&str> {
        let mut names = self.extra_authorize.iter().map(|(name, _)| name.as_str());
        names.find(|name| token_endpoint::is_reserved_param(name))
    }
}
