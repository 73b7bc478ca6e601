//! Everything that is known of an upstream's authorization server, and of ourselves there.

use serde::Deserialize;
use serde::Serialize;

use crate::base::secret::Secret;
use crate::base::url::ExactUrl;
use crate::net::dial::AddressPolicy;
use crate::upstream::quirks::Profile;

/// How we authenticate at the token endpoint (RFC 6749 2.3.1, RFC 7591 2).
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
    /// The method by its registered name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::None, Self::Basic, Self::Post]
            .into_iter()
            .find(|method| method.name() == name)
    }

    /// Its registered name.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Basic => "client_secret_basic",
            Self::Post => "client_secret_post",
        }
    }

    /// The method for credentials from the configuration: chosen before the first call, never probed, because a strict
    /// server burns the code of a refused attempt (asks B10). An empty list means Basic (RFC 8414 2), and Basic is what
    /// every server must take of a client with a secret (RFC 6749 2.3.1).
    pub fn choose(listed: &[String], has_secret: bool) -> Self {
        let lists = |method: Self| listed.iter().any(|name| name == method.name());
        match (has_secret, lists(Self::Basic), lists(Self::Post)) {
            (false, _, _) => Self::None,
            (true, false, true) => Self::Post,
            (true, _, _) => Self::Basic,
        }
    }
}

/// Where one service's users sign in upstream, and as whom we do. Prints no secret.
#[derive(Clone, Debug)]
pub struct AuthServer {
    /// The MCP server.
    pub mcp: ExactUrl,
    /// The authorization server's name, byte for byte, which `iss` is compared with (RFC 9207).
    pub issuer: String,
    /// `iss` is promised: an answer without it is refused.
    pub iss_promised: bool,
    /// Where the browser goes.
    pub authorization_endpoint: ExactUrl,
    /// Where codes and refresh tokens go.
    pub token_endpoint: ExactUrl,
    /// Where tokens are given back (RFC 7009).
    pub revocation_endpoint: Option<ExactUrl>,
    /// Who we are there.
    pub client_id: String,
    /// And how we prove it.
    pub client_secret: Option<Secret>,
    /// In which way.
    pub auth_method: TokenEndpointAuth,
    /// The MCP server's canonical identifier (RFC 8707).
    pub resource: String,
    /// How this upstream departs from the standard.
    pub profile: &'static Profile,
    /// What the operator adds to every authorization request.
    pub extra_authorize: Vec<(String, String)>,
    /// Which addresses its endpoints may be at.
    pub addresses: AddressPolicy,
    /// The scopes of the challenge, else those of the resource metadata: what MCP says to ask for.
    pub scopes_known: Vec<String>,
    /// The server lists `offline_access`, which is then asked for as well unless the profile says otherwise.
    pub offline_access: bool,
}

/// Who we are at an authorization server: from the configuration, or from registering.
#[derive(Clone, Debug)]
pub struct UpstreamClientCredentials {
    /// The client id.
    pub id: String,
    /// The client secret, for a confidential client.
    pub secret: Option<Secret>,
    /// The method that registering settled; `None`: chosen from what the server lists.
    pub auth_method: Option<TokenEndpointAuth>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_method_is_chosen_by_what_the_server_lists() {
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
