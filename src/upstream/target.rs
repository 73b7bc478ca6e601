//! Everything that is known of an upstream's authorization server, and of ourselves there.

use serde::Deserialize;
use serde::Serialize;

use crate::base::secret::Secret;
use crate::base::url::Address;
use crate::net::dial::Allowed;
use crate::upstream::quirks::Profile;

/// How we authenticate at the token endpoint (RFC 6749 2.3.1, RFC 7591 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthMethod {
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

impl AuthMethod {
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
pub struct Target {
    /// The MCP server.
    pub mcp: Address,
    /// The authorization server's name, byte for byte, which `iss` is compared with (RFC 9207).
    pub issuer: String,
    /// `iss` is promised: an answer without it is refused.
    pub iss_promised: bool,
    /// Where the browser goes.
    pub authorization_endpoint: Address,
    /// Where codes and refresh tokens go.
    pub token_endpoint: Address,
    /// Where tokens are given back (RFC 7009).
    pub revocation_endpoint: Option<Address>,
    /// Who we are there.
    pub client_id: String,
    /// And how we prove it.
    pub client_secret: Option<Secret>,
    /// In which way.
    pub auth_method: AuthMethod,
    /// The MCP server's canonical identifier (RFC 8707).
    pub resource: String,
    /// How this upstream departs from the standard.
    pub profile: &'static Profile,
    /// What the operator adds to every authorization request.
    pub extra_authorize: Vec<(String, String)>,
    /// Which addresses its endpoints may be at.
    pub addresses: Allowed,
    /// The scopes of the challenge, else those of the resource metadata: what MCP says to ask for.
    pub scopes_known: Vec<String>,
    /// The server lists `offline_access`, which is then asked for as well unless the profile says otherwise.
    pub offline_access: bool,
}

/// Who we are at an authorization server: from the configuration, or from registering.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The client id.
    pub id: String,
    /// The client secret, for a confidential client.
    pub secret: Option<Secret>,
    /// The method that registering settled; `None`: chosen from what the server lists.
    pub auth_method: Option<AuthMethod>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_method_is_chosen_by_what_the_server_lists() {
        let choose = |listed: &[&str], has_secret| {
            let listed: Vec<String> = listed.iter().map(|name| (*name).to_owned()).collect();
            AuthMethod::choose(&listed, has_secret)
        };
        assert_eq!(choose(&[], true), AuthMethod::Basic);
        assert_eq!(choose(&["client_secret_post"], true), AuthMethod::Post);
        assert_eq!(choose(&["client_secret_post", "client_secret_basic"], true), AuthMethod::Basic);
        assert_eq!(choose(&["private_key_jwt"], true), AuthMethod::Basic);
        assert_eq!(choose(&["client_secret_basic"], false), AuthMethod::None);
        for method in [AuthMethod::None, AuthMethod::Basic, AuthMethod::Post] {
            assert_eq!(AuthMethod::parse(method.name()), Some(method));
            assert_eq!(serde_json::to_value(method).unwrap(), method.name());
        }
        assert_eq!(AuthMethod::parse("private_key_jwt"), None);
    }
}
