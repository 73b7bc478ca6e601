//! An upstream's authorization server, and the gateway's credentials there.

use serde::{Deserialize, Serialize};

use crate::base::client_key::ClientKey;
use crate::base::endpoint_network::EndpointNetwork;
use crate::base::secret::Secret;
use crate::base::special_ip::Cidr;
use crate::base::url::ExactUrl;
use crate::net::dial::AddressPolicy;
use crate::upstream::quirks::Profile;

/// How the gateway authenticates at the token endpoint (RFC 6749 §2.3.1, RFC 7591 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenEndpointAuth {
    /// As a public client: only `client_id`, in the body.
    #[serde(rename = "none")]
    None,
    /// `Authorization: Basic`, both parts form-encoded first.
    #[serde(rename = "client_secret_basic")]
    Basic,
    /// `client_id` and `client_secret` in the body.
    #[serde(rename = "client_secret_post")]
    Post,
}

impl TokenEndpointAuth {
    /// The method with this registered name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::None, Self::Basic, Self::Post]
            .into_iter()
            .find(|method| method.name() == name)
    }

    /// The registered name.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Basic => "client_secret_basic",
            Self::Post => "client_secret_post",
        }
    }

    /// The method for configured credentials. The gateway does not probe methods: a strict server
    /// invalidates the code of a refused attempt. An empty list means Basic (RFC 8414 §2), which
    /// every server must accept from a client with a secret (RFC 6749 §2.3.1).
    pub fn choose(listed: &[String], has_secret: bool) -> Self {
        let is_listed = |method: Self| listed.iter().any(|name| name == method.name());
        match (has_secret, is_listed(Self::Basic), is_listed(Self::Post)) {
            (false, _, _) => Self::None,
            (true, false, true) => Self::Post,
            (true, _, _) => Self::Basic,
        }
    }
}

/// The gateway's authentication at one token endpoint: the method, with what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// As a public client: only `client_id`, in the body.
    None,
    /// The secret in the `Authorization` header.
    Basic(Secret),
    /// The secret in the body.
    Post(Secret),
    /// An assertion signed with this key (RFC 7523 §2.2).
    PrivateKeyJwt(ClientKey),
    /// Not at all: the assertion of the grant says who the gateway is (RFC 7523 §3.1).
    ByGrant,
}

impl ClientAuth {
    /// The registered name of [`ClientAuth::PrivateKeyJwt`].
    pub const PRIVATE_KEY_JWT: &str = "private_key_jwt";

    /// A method without a key. Without a secret, the client is public.
    pub fn with_secret(method: TokenEndpointAuth, secret: Option<Secret>) -> Self {
        match (method, secret) {
            (TokenEndpointAuth::Basic, Some(secret)) => Self::Basic(secret),
            (TokenEndpointAuth::Post, Some(secret)) => Self::Post(secret),
            (TokenEndpointAuth::Basic | TokenEndpointAuth::Post, None) | (TokenEndpointAuth::None, _) => Self::None,
        }
    }

    /// The registered name of the method.
    pub fn method_name(&self) -> &'static str {
        match self {
            Self::None | Self::ByGrant => TokenEndpointAuth::None.name(),
            Self::Basic(_) => TokenEndpointAuth::Basic.name(),
            Self::Post(_) => TokenEndpointAuth::Post.name(),
            Self::PrivateKeyJwt(_) => Self::PRIVATE_KEY_JWT,
        }
    }

    /// The client secret.
    pub fn secret(&self) -> Option<&Secret> {
        match self {
            Self::Basic(secret) | Self::Post(secret) => Some(secret),
            Self::None | Self::PrivateKeyJwt(_) | Self::ByGrant => None,
        }
    }
}

/// One service's authorization server, and the gateway's client there. Prints no secret.
#[derive(Clone, Debug)]
pub struct AuthServer {
    /// The URL of the MCP server.
    pub mcp: ExactUrl,
    /// The issuer, byte for byte; `iss` is compared with it (RFC 9207).
    pub issuer: String,
    /// Whether neither metadata nor configuration names the issuer. If so, `iss` may be any issuer at the
    /// origin of an endpoint.
    pub issuer_is_guess: bool,
    /// Whether the server promises `iss`. If so, a response without it is refused.
    pub iss_promised: bool,
    /// The authorization endpoint.
    pub authorization_endpoint: ExactUrl,
    /// The token endpoint.
    pub token_endpoint: ExactUrl,
    /// The revocation endpoint (RFC 7009).
    pub revocation_endpoint: Option<ExactUrl>,
    /// The device authorization endpoint (RFC 8628).
    pub device_authorization_endpoint: Option<ExactUrl>,
    /// The gateway's client id.
    pub client_id: String,
    /// How the gateway authenticates there.
    pub client_auth: ClientAuth,
    /// The resource identifier of authorization and token requests (RFC 8707). `None`: it is omitted.
    pub resource: Option<String>,
    /// The deviations of this upstream from the standard.
    pub profile: &'static Profile,
    /// Parameters that the operator adds to every authorization request.
    pub extra_authorize: Vec<(String, String)>,
    /// The addresses that the endpoints may have.
    pub addresses: AddressPolicy,
    /// The scopes to request (MCP): those of the challenge, otherwise those of the resource metadata.
    pub scopes_known: Vec<String>,
    /// Whether the server lists `offline_access`. If so, it is requested, unless the profile forbids it.
    pub offline_access: bool,
}

impl AuthServer {
    /// The addresses that endpoints in this network may have, and the operator's `allow_addresses`.
    pub fn addresses_in(network: Option<EndpointNetwork>, allowed: &[Cidr]) -> AddressPolicy {
        AddressPolicy::in_network(network, allowed.into())
    }
}

/// The gateway's credentials at an authorization server, configured or registered.
#[derive(Clone, Debug)]
pub struct UpstreamClientCredentials {
    /// The client id.
    pub id: String,
    /// What proves that the gateway is this client.
    pub proof: ClientProof,
}

/// What a client authenticates with.
#[derive(Clone, Debug)]
pub enum ClientProof {
    /// A secret, or nothing.
    Secret {
        /// The client secret, for a confidential client.
        secret: Option<Secret>,
        /// The registered method. `None`: chosen from the methods that the server lists.
        method: Option<TokenEndpointAuth>,
    },
    /// A key that signs assertions.
    Key(ClientKey),
    /// Nothing beside the grant, whose assertion names the client.
    Grant,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_authentication_method_follows_the_server_metadata() {
        let choose = |listed: &[&str], has_secret| {
            let listed: Vec<String> = listed.iter().map(|name| (*name).to_owned()).collect();
            TokenEndpointAuth::choose(&listed, has_secret)
        };
        assert_eq!(choose(&[], true), TokenEndpointAuth::Basic);
        assert_eq!(choose(&["client_secret_post"], true), TokenEndpointAuth::Post);
        assert_eq!(
            choose(&["client_secret_post", "client_secret_basic"], true),
            TokenEndpointAuth::Basic
        );
        assert_eq!(choose(&["private_key_jwt"], true), TokenEndpointAuth::Basic);
        assert_eq!(choose(&["client_secret_basic"], false), TokenEndpointAuth::None);
        for method in [TokenEndpointAuth::None, TokenEndpointAuth::Basic, TokenEndpointAuth::Post] {
            assert_eq!(TokenEndpointAuth::parse(method.name()), Some(method));
            assert_eq!(serde_json::to_value(method).unwrap(), method.name());
        }
        assert_eq!(TokenEndpointAuth::parse("private_key_jwt"), None);
    }
}
