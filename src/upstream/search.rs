//! One discovery under way: where to look next, and what counts there.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::time::Instant;

use crate::base::url::Address;
use crate::net::client::Client;
use crate::net::dial::Allowed;
use crate::oauth::challenge::Challenge;
use crate::oauth::metadata;
use crate::oauth::metadata::AuthorizationServer;
use crate::oauth::metadata::BadMetadata;
use crate::oauth::metadata::ProtectedResource;
use crate::upstream::call;
use crate::upstream::call::NoAnswer;
use crate::upstream::discover::Attempt;
use crate::upstream::discover::Discovered;
use crate::upstream::discover::Reason;
use crate::upstream::discover::Wanted;
use crate::upstream::forward;
use crate::upstream::forward::Verdict;
use crate::upstream::probe;
use crate::upstream::quirks;
use crate::upstream::quirks::Known;
use crate::upstream::quirks::Profile;

/// The longest that one document may take.
const ONE: Duration = Duration::from_secs(10);
/// The longest that all of it may take.
const ALL: Duration = Duration::from_secs(45);
/// How many of the authorization servers of one MCP server are tried.
const MOST_SERVERS: usize = 3;

/// One discovery under way.
pub(super) struct Search<'a> {
    client: &'a Client,
    wanted: &'a Wanted,
    until: Instant,
    pub(super) attempts: Vec<Attempt>,
}

/// What lay at one place.
enum Fetched {
    /// A document, or something in its place.
    Body(Bytes),
    /// Nothing: the server said so.
    Missing(String),
    /// Nobody knows.
    Failed(String),
}

/// Where to look for the authorization server, and what the MCP server said of itself.
struct Lead {
    issuers: Vec<Address>,
    /// Addresses of the metadata, which depend on who named the issuer; then those of the endpoints that it names.
    metadata: Allowed,
    endpoints: Allowed,
    resource: Option<ProtectedResource>,
    scopes: Vec<String>,
}

impl<'a> Search<'a> {
    pub(super) fn new(client: &'a Client, wanted: &'a Wanted) -> Self {
        Self {
            client,
            wanted,
            until: Instant::now() + ALL,
            attempts: Vec::new(),
        }
    }

    pub(super) async fn run(&mut self) -> Result<Discovered, Reason> {
        if let Some((authorize, token)) = &self.wanted.endpoints {
            return Ok(self.configured(authorize, token));
        }
        let lead = match &self.wanted.issuer {
            Some(issuer) => self.lead_of_operator(issuer).await?,
            None => self.lead_of_server().await?,
        };
        let (server, profile) = self.first_server(&lead).await?;
        let said = lead.resource;
        let supported = said.as_ref().map(|said| said.scopes_supported.clone()).unwrap_or_default();
        Ok(Discovered {
            mcp: self.wanted.mcp.clone(),
            resource: said.map_or_else(|| self.wanted.mcp.to_string(), |said| said.resource),
            server,
            profile,
            scopes_known: if lead.scopes.is_empty() { supported } else { lead.scopes },
            addresses: lead.endpoints,
            attempts: Vec::new(),
        })
    }

    /// Everything comes from the configuration; nobody is asked, and any address goes.
    fn configured(&self, authorize: &Address, token: &Address) -> Discovered {
        let profile = self.profile(authorize);
        let known = profile.endpoints.as_ref().filter(|known| known.token == token.as_str());
        let issuer = match (&self.wanted.issuer, known) {
            (Some(issuer), _) => issuer.to_string(),
            (None, Some(known)) => known.issuer.to_owned(),
            (None, None) => authorize.origin(),
        };
        Discovered {
            mcp: self.wanted.mcp.clone(),
            resource: self.wanted.mcp.to_string(),
            server: bare_server(issuer, authorize.clone(), token.clone()),
            profile,
            scopes_known: Vec::new(),
            addresses: Allowed::Anything,
            attempts: Vec::new(),
        }
    }

    async fn lead_of_operator(&mut self, issuer: &Address) -> Result<Lead, Reason> {
        Ok(Lead {
            issuers: vec![issuer.clone()],
            metadata: Allowed::Anything,
            endpoints: self.told_by(issuer).await?,
            resource: None,
            scopes: Vec::new(),
        })
    }

    async fn lead_of_server(&mut self) -> Result<Lead, Reason> {
        let challenge = self.probe().await?;
        let told = self.told_by(&self.wanted.mcp).await?;
        let resource = self.resource(challenge.resource_metadata.as_deref()).await?;
        let (issuers, metadata) = match &resource {
            Some(resource) => (resource.authorization_servers.clone(), told.clone()),
            // 2025-03-26 knew no resource metadata: the MCP server's origin is the issuer. The operator named that.
            None => (Address::parse(&self.wanted.mcp.origin()).into_iter().collect(), Allowed::Anything),
        };
        Ok(Lead {
            issuers,
            metadata,
            endpoints: told,
            resource,
            scopes: challenge.scopes(),
        })
    }

    /// What a client would send first, without a token: the answer should be a 401 with a challenge.
    async fn probe(&mut self) -> Result<Challenge, Reason> {
        let mcp = &self.wanted.mcp;
        let request = probe::hello(mcp).map_err(|why| unreachable(&why))?;
        let url = mcp.to_string();
        match call::head(self.client, request, &Allowed::Anything, self.left()).await {
            Err(why @ NoAnswer::NeverSent(_)) => {
                self.note(&url, why.to_string());
                Err(unreachable(&why))
            }
            Err(why @ NoAnswer::Unknown(_)) => {
                self.note(&url, why.to_string());
                Ok(Challenge::default())
            }
            Ok((status, headers)) => {
                if let Verdict::Redirect { location } = forward::judge(status, &headers) {
                    let to = forward::redirect_target(mcp, &location).map_or_else(|| "?".to_owned(), |to| to.to_string());
                    self.note(&url, format!("{}, to {to}", status.as_u16()));
                    return Err(Reason::Moved(to));
                }
                let challenge = forward::challenge(&headers);
                let kind = if challenge.is_some() {
                    "with a challenge"
                } else {
                    "without a challenge"
                };
                self.note(&url, format!("{}, {kind}", status.as_u16()));
                Ok(challenge.unwrap_or_default())
            }
        }
    }

    /// The resource metadata: where the challenge says, with the path inserted, at the root. The first document decides.
    async fn resource(&mut self, challenged: Option<&str>) -> Result<Option<ProtectedResource>, Reason> {
        let mcp = &self.wanted.mcp;
        let mut places = metadata::protected_resource_urls(mcp);
        if let Some(url) = challenged {
            // Elsewhere it would be a request of ours to wherever the upstream likes (attacks T-D2).
            if Address::parse(url).is_ok_and(|address| address.origin() == mcp.origin()) {
                places.retain(|place| place != url);
                places.insert(0, url.to_owned());
            } else {
                self.note(
                    &printable(url),
                    "not fetched: the challenge names another origin than the MCP server's".to_owned(),
                );
            }
        }
        let mut failed = None;
        for place in places {
            match self.fetch(&place, &Allowed::Anything).await {
                Fetched::Missing(why) => self.note(&place, why),
                Fetched::Failed(why) => {
                    self.note(&place, why.clone());
                    failed = failed.or(Some(Reason::Unreachable(format!("{place}: {why}"))));
                }
                Fetched::Body(body) => match ProtectedResource::read(&body, mcp) {
                    Ok(resource) => {
                        self.note(&place, "resource metadata".to_owned());
                        return Ok(Some(resource));
                    }
                    Err(why) => {
                        self.note(&place, why.to_string());
                        if !matches!(why, BadMetadata::NotJson | BadMetadata::Missing("resource")) {
                            return Err(Reason::Document(why));
                        }
                    }
                },
            }
        }
        failed.map_or(Ok(None), Err)
    }

    async fn first_server(&mut self, lead: &Lead) -> Result<(AuthorizationServer, &'static Profile), Reason> {
        let mut worst = Reason::NoMetadata;
        for issuer in lead.issuers.iter().take(MOST_SERVERS) {
            let profile = self.profile(issuer);
            match self.server(issuer, &lead.metadata, profile).await {
                Ok(server) => return Ok((server, profile)),
                Err(why) => worst = worse(worst, why),
            }
        }
        let profile = self.profile(&self.wanted.mcp);
        let known = profile.endpoints.as_ref().filter(|known| {
            let named = lead.issuers.iter().any(|issuer| issuer.as_str() == known.issuer);
            named || (lead.resource.is_none() && self.wanted.issuer.is_none())
        });
        match known.and_then(known_server) {
            Some(server) => {
                let told = format!("not found; using the endpoints that the profile `{}` knows", profile.name);
                self.note(&server.issuer, told);
                Ok((server, profile))
            }
            None => Err(worst),
        }
    }

    /// The metadata of one issuer. A document of another issuer is passed over (RFC 8414 3.3), but named if none fits.
    async fn server(&mut self, issuer: &Address, allowed: &Allowed, profile: &Profile) -> Result<AuthorizationServer, Reason> {
        let mut worst = Reason::NoMetadata;
        let mut waived = profile.waived();
        // The origin as an issuer is our own guess, and so is that it has no slash.
        waived.root_slash |= issuer.as_str() == self.wanted.mcp.origin();
        for place in metadata::authorization_server_urls(issuer) {
            match self.fetch(&place, allowed).await {
                Fetched::Missing(why) => self.note(&place, why),
                Fetched::Failed(why) => {
                    self.note(&place, why.clone());
                    worst = worse(worst, Reason::Unreachable(format!("{place}: {why}")));
                }
                Fetched::Body(body) => match AuthorizationServer::read(&body, issuer, waived) {
                    Ok(server) => {
                        self.note(&place, "authorization server metadata".to_owned());
                        return Ok(server);
                    }
                    Err(why) => {
                        self.note(&place, why.to_string());
                        if why != BadMetadata::NotJson {
                            worst = worse(worst, Reason::Document(why));
                        }
                    }
                },
            }
        }
        Err(worst)
    }

    async fn fetch(&self, place: &str, allowed: &Allowed) -> Fetched {
        let Ok(address) = Address::parse(place) else {
            return Fetched::Missing("not a URL".to_owned());
        };
        let request = match call::get(&address) {
            Ok(request) => request,
            Err(why) => return Fetched::Missing(why.to_string()),
        };
        match call::call(self.client, request, allowed, self.left()).await {
            Err(why) => Fetched::Failed(why.to_string()),
            Ok(answer) if answer.status == StatusCode::OK => Fetched::Body(answer.body),
            Ok(answer) => {
                let status = answer.status.as_u16();
                if status == 429 || status >= 500 {
                    Fetched::Failed(format!("status {status}"))
                } else {
                    Fetched::Missing(format!("status {status}"))
                }
            }
        }
    }

    async fn told_by(&self, by: &Address) -> Result<Allowed, Reason> {
        let host = by.url().host_str().unwrap_or_default();
        let plain_http = by.url().scheme() == "http";
        let told = Allowed::told_by(host, plain_http, self.wanted.allow_addresses.clone()).await;
        told.map_err(|why| Reason::Unreachable(format!("{host} cannot be resolved: {why}")))
    }

    /// The operator's choice, else by the MCP server's host, else by `other`'s.
    fn profile(&self, other: &Address) -> &'static Profile {
        let by_host = |address: &Address| address.url().host_str().map_or(&quirks::STANDARD, quirks::for_host);
        let of_mcp = || match by_host(&self.wanted.mcp) {
            standard if *standard == quirks::STANDARD => by_host(other),
            special => special,
        };
        self.wanted.profile.unwrap_or_else(of_mcp)
    }

    fn left(&self) -> Duration {
        ONE.min(self.until.saturating_duration_since(Instant::now()))
    }

    fn note(&mut self, url: &str, outcome: String) {
        self.attempts.push(Attempt {
            url: url.split('?').next().unwrap_or("").to_owned(),
            outcome,
        });
    }
}

/// A document that cannot be used says more than a place that cannot be reached, and that more than nothing.
fn worse(one: Reason, other: Reason) -> Reason {
    let rank = |reason: &Reason| match reason {
        Reason::NoMetadata => 0,
        Reason::Unreachable(_) => 1,
        Reason::Document(_) => 2,
        Reason::Moved(_) => 3,
    };
    if rank(&other) > rank(&one) { other } else { one }
}

fn known_server(known: &Known) -> Option<AuthorizationServer> {
    let at = |url: &str| Address::parse(url).ok();
    let mut server = bare_server(known.issuer.to_owned(), at(known.authorize)?, at(known.token)?);
    server.revocation_endpoint = known.revoke.and_then(at);
    server.auth_methods = known.auth_methods.iter().map(|name| (*name).to_owned()).collect();
    Some(server)
}

fn bare_server(issuer: String, authorization_endpoint: Address, token_endpoint: Address) -> AuthorizationServer {
    AuthorizationServer {
        issuer,
        authorization_endpoint,
        token_endpoint,
        registration_endpoint: None,
        revocation_endpoint: None,
        auth_methods: Vec::new(),
        scopes_supported: Vec::new(),
        iss_promised: false,
        client_documents: false,
    }
}

fn unreachable(why: &NoAnswer) -> Reason {
    Reason::Unreachable(why.to_string())
}

/// A foreign text in a line of ours.
fn printable(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}
