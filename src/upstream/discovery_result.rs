//! Discovery of an upstream's authorization server, in MCP's order: challenge, resource metadata
//! (RFC 9728), server metadata (RFC 8414). Records each step, so that a failure can be explained.

use std::fmt;
use std::sync::Arc;

use crate::base::special_ip::Cidr;
use crate::base::url::ExactUrl;
use crate::net::dial::AddressPolicy;
use crate::oauth::metadata::{AuthorizationServer, MetadataError, Purpose};
use crate::upstream::auth_server::{AuthServer, ClientAuth, ClientProof, TokenEndpointAuth, UpstreamClientCredentials};
use crate::upstream::quirks::Profile;

/// The configured `resource` parameter (RFC 8707).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResourceParam {
    /// This identifier, byte for byte.
    Named(String),
    /// No request has the parameter.
    Omitted,
}

/// The configuration of a discovery.
#[derive(Clone, Debug)]
pub struct DiscoveryInput {
    /// What the server is for.
    pub purpose: Purpose,
    /// The URL of the MCP server.
    pub mcp: ExactUrl,
    /// The configured issuer (`--upstream-as`). It replaces challenge and resource metadata.
    pub issuer: Option<ExactUrl>,
    /// Authorization and token endpoint, for an upstream without metadata.
    pub endpoints: Option<(ExactUrl, ExactUrl)>,
    /// The configured profile. `None`: chosen by host.
    pub profile: Option<&'static Profile>,
    /// The replacement for the resource identifier in the metadata.
    pub resource: Option<ResourceParam>,
    /// More address blocks that the upstream's metadata may point to (`allow_addresses`).
    pub allow_addresses: Arc<[Cidr]>,
}

/// One step of a discovery, for display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveryStep {
    /// The requested URL, without its query.
    pub url: String,
    /// The result of this step.
    pub outcome: String,
}

impl fmt::Display for DiscoveryStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.url, self.outcome)
    }
}

/// The result of a discovery.
#[derive(Clone, Debug)]
pub struct DiscoveredServer {
    /// The URL of the MCP server.
    pub mcp: ExactUrl,
    /// The configured resource identifier, or that of the metadata, or else the URL of the MCP server.
    /// `None`: the operator or the profile omits it.
    pub resource: Option<String>,
    /// Whether the issuer is only the origin of the configured authorization endpoint.
    pub issuer_is_guess: bool,
    /// The metadata of the authorization server.
    pub server: AuthorizationServer,
    /// The known deviations of this kind of upstream.
    pub profile: &'static Profile,
    /// The scopes of the challenge, or else those of the resource metadata.
    pub scopes_known: Vec<String>,
    /// The addresses that the server's endpoints may have.
    pub addresses: AddressPolicy,
    /// All steps, in order.
    pub attempts: Vec<DiscoveryStep>,
}

impl DiscoveredServer {
    /// Whether nothing names the endpoints: they are the default ones of MCP 2025-03-26.
    pub fn has_default_endpoints(&self) -> bool {
        self.issuer_is_guess && self.server.registration_endpoint.is_some()
    }

    /// Combines the discovered server with the gateway's credentials there.
    pub fn target(&self, credentials: &UpstreamClientCredentials) -> AuthServer {
        let server = &self.server;
        let listed = match &self.profile.endpoints {
            Some(known) if server.auth_methods.is_empty() => known.auth_methods.iter().map(|name| (*name).to_owned()).collect(),
            Some(_) | None => server.auth_methods.clone(),
        };
        let client_auth = match &credentials.proof {
            ClientProof::Grant => ClientAuth::ByGrant,
            ClientProof::Key(key) => ClientAuth::PrivateKeyJwt(key.clone()),
            ClientProof::Secret { secret, method } => {
                let method = method.unwrap_or_else(|| TokenEndpointAuth::choose(&listed, secret.is_some()));
                ClientAuth::with_secret(method, secret.clone())
            }
        };
        AuthServer {
            mcp: self.mcp.clone(),
            issuer: server.issuer.clone(),
            issuer_is_guess: self.issuer_is_guess,
            iss_promised: server.iss_promised,
            authorization_endpoint: server.authorization_endpoint.clone(),
            token_endpoint: server.token_endpoint.clone(),
            revocation_endpoint: server.revocation_endpoint.clone(),
            device_authorization_endpoint: server.device_authorization_endpoint.clone(),
            client_id: credentials.id.clone(),
            client_auth,
            resource: self.resource.clone(),
            profile: self.profile,
            extra_authorize: Vec::new(),
            addresses: self.addresses.clone(),
            scopes_known: self.scopes_known.clone(),
            offline_access: server.scopes_supported.iter().any(|scope| scope == "offline_access"),
        }
    }
}

/// A failed discovery.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no authorization server was found for {mcp}: {reason}")]
pub struct DiscoveryError {
    /// The URL of the MCP server, without its query.
    pub mcp: String,
    /// The reason.
    pub reason: DiscoveryFailure,
    /// All steps, in order.
    pub attempts: Vec<DiscoveryStep>,
}

/// The reason for a failed discovery.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryFailure {
    /// A needed request had no response, 429 or 5xx. This is not treated as missing metadata: an
    /// outage must not send users to another login.
    #[error("{0}")]
    Unreachable(String),
    /// The MCP server redirects to this URL.
    #[error("it redirects; configure `{0}` as its URL instead")]
    Moved(String),
    /// A metadata document is unusable.
    #[error("{0}; {remedy}", remedy = remedy(.0))]
    Document(MetadataError),
    /// There is no metadata document.
    #[error("it has no metadata; set `authorization_server`, or `authorization_endpoint` and `token_endpoint`, of the service")]
    NoMetadata,
}

/// The advice for the operator about an unusable document.
fn remedy(error: &MetadataError) -> &'static str {
    match error {
        MetadataError::NoS256 => {
            "if the authorization server supports PKCE nevertheless, set `authorization_endpoint` and `token_endpoint` of the service"
        }
        MetadataError::OtherResource { .. } => {
            "if that is the resource to request, set it as `resource` of the service, or report the document to the upstream"
        }
        MetadataError::NotJson
        | MetadataError::Missing(_)
        | MetadataError::OtherIssuer { .. }
        | MetadataError::BadUrl(..)
        | MetadataError::NotSecure(_) => {
            "set `authorization_server` of the service to the right issuer, or report the document to the upstream"
        }
    }
}
