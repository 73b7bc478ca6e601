//! Finding out where an upstream's users sign in, in MCP's order ("Authorization Server Discovery"): the challenge of
//! its MCP server, its resource metadata (RFC 9728), the metadata of its authorization server (RFC 8414).
//!
//! Every attempt leaves a line that can be printed, because "why did it fail?" is what users ask most (asks K1).

use std::fmt;
use std::sync::Arc;

use crate::base::range::Cidr;
use crate::base::url::Address;
use crate::net::client::Client;
use crate::net::dial::Allowed;
use crate::oauth::metadata::AuthorizationServer;
use crate::oauth::metadata::BadMetadata;
use crate::upstream::quirks::Profile;
use crate::upstream::search::Search;
use crate::upstream::target::AuthMethod;
use crate::upstream::target::Credentials;
use crate::upstream::target::Target;

/// What the operator says of a service.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The MCP server.
    pub mcp: Address,
    /// Its authorization server, if it need not be asked for (`--upstream-as`).
    pub issuer: Option<Address>,
    /// The endpoints, where there is no metadata: authorization, then token.
    pub endpoints: Option<(Address, Address)>,
    /// The profile; `None`: found by host.
    pub profile: Option<&'static Profile>,
    /// Addresses that the upstream may name beyond its own neighbourhood (`allow_addresses`).
    pub allow_addresses: Arc<[Cidr]>,
}

/// One look at one place, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Where.
    pub url: String,
    /// What was there.
    pub outcome: String,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.url, self.outcome)
    }
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Discovered {
    /// The MCP server.
    pub mcp: Address,
    /// Its identifier: what it says itself, or else its URL.
    pub resource: String,
    /// Its authorization server.
    pub server: AuthorizationServer,
    /// How it departs from the standard.
    pub profile: &'static Profile,
    /// The scopes of its challenge, else those of its metadata.
    pub scopes_known: Vec<String>,
    /// Which addresses its endpoints may be at.
    pub addresses: Allowed,
    /// The way there.
    pub attempts: Vec<Attempt>,
}

impl Discovered {
    /// What was found, together with who we are there.
    pub fn target(&self, credentials: &Credentials) -> Target {
        let server = &self.server;
        let known = self.profile.endpoints.as_ref().filter(|known| known.issuer == server.issuer);
        let listed = match known {
            Some(known) if server.auth_methods.is_empty() => known.auth_methods.iter().map(|name| (*name).to_owned()).collect(),
            Some(_) | None => server.auth_methods.clone(),
        };
        let chosen = || AuthMethod::choose(&listed, credentials.secret.is_some());
        Target {
            mcp: self.mcp.clone(),
            issuer: server.issuer.clone(),
            iss_promised: server.iss_promised,
            authorization_endpoint: server.authorization_endpoint.clone(),
            token_endpoint: server.token_endpoint.clone(),
            revocation_endpoint: server.revocation_endpoint.clone(),
            client_id: credentials.id.clone(),
            client_secret: credentials.secret.clone(),
            auth_method: credentials.auth_method.unwrap_or_else(chosen),
            resource: self.resource.clone(),
            profile: self.profile,
            addresses: self.addresses.clone(),
            scopes_known: self.scopes_known.clone(),
            offline_access: server.scopes_supported.iter().any(|scope| scope == "offline_access"),
        }
    }
}

/// Why nothing was found, with the way there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamError {
    /// The MCP server.
    pub mcp: String,
    /// What stood in the way.
    pub reason: Reason,
    /// Every place that was looked at.
    pub attempts: Vec<Attempt>,
}

/// What stood in the way of a discovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No answer, or a 5xx, where one was needed. Nothing else is tried then: a server that is ill must not look like
    /// one without metadata, whose users sign in elsewhere (asks E13).
    Unreachable(String),
    /// The MCP server is somewhere else.
    Moved(String),
    /// A document cannot be used.
    Document(BadMetadata),
    /// There is no document at all.
    NoMetadata,
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot find out where to sign in for {}: ", self.mcp)?;
        match &self.reason {
            Reason::Unreachable(why) => write!(f, "{why}"),
            Reason::Moved(to) => write!(f, "it redirects; configure `{to}` as its URL instead"),
            Reason::Document(why @ BadMetadata::NoS256) => {
                write!(
                    f,
                    "{why}; if it does PKCE all the same, set `authorization_endpoint` and `token_endpoint` of the service"
                )
            }
            Reason::Document(why) => write!(f, "{why}; ask its operator, or set `authorization_server` to the right issuer"),
            Reason::NoMetadata => {
                f.write_str("no metadata; set `authorization_server`, or `authorization_endpoint` and `token_endpoint`, of the service")
            }
        }
    }
}

impl std::error::Error for UpstreamError {}

/// Finds the authorization server of an upstream.
pub async fn discover(client: &Client, wanted: &Wanted) -> Result<Discovered, UpstreamError> {
    let mut search = Search::new(client, wanted);
    match search.run().await {
        Ok(found) => Ok(Discovered {
            attempts: search.attempts,
            ..found
        }),
        Err(reason) => Err(UpstreamError {
            mcp: wanted.mcp.to_string(),
            reason,
            attempts: search.attempts,
        }),
    }
}
