//! One running discovery: which URL comes next, and which document decides.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::time::Instant;

use crate::base::url::ExactUrl;
use crate::net::dial::AddressPolicy;
use crate::net::http_client::HttpClient;
use crate::oauth::metadata;
use crate::oauth::metadata::AuthorizationServer;
use crate::oauth::metadata::MetadataError;
use crate::oauth::metadata::ProtectedResource;
use crate::oauth::www_authenticate::BearerChallenge;
use crate::upstream::credential_probe;
use crate::upstream::discovery_result::DiscoveredServer;
use crate::upstream::discovery_result::DiscoveryFailure;
use crate::upstream::discovery_result::DiscoveryInput;
use crate::upstream::discovery_result::DiscoveryStep;
use crate::upstream::fetch;
use crate::upstream::fetch::FetchError;
use crate::upstream::forward_rules;
use crate::upstream::forward_rules::ResponseVerdict;
use crate::upstream::quirks;
use crate::upstream::quirks::KnownEndpoints;
use crate::upstream::quirks::Profile;

const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(10);
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(45);
/// The most authorization servers of one MCP server that are tried.
const MAX_SERVERS: usize = 3;

/// A running discovery.
pub(super) struct Search<'a> {
    client: &'a HttpClient,
    wanted: &'a DiscoveryInput,
    until: Instant,
    pub(super) attempts: Vec<DiscoveryStep>,
}

enum FetchedDocument {
    /// The body of a response with status 200.
    Body(Bytes),
    /// There is no document, with the reason.
    Missing(String),
    /// Unknown: no response, 429 or 5xx.
    Failed(String),
}

/// The possible issuers, and what the MCP server says about itself.
struct ServerHint {
    issuers: Vec<ExactUrl>,
    /// Addresses of the metadata, depending on the source of the issuer; then of the endpoints.
    metadata: AddressPolicy,
    endpoints: AddressPolicy,
    resource: Option<ProtectedResource>,
    scopes: Vec<String>,
}

impl<'a> Search<'a> {
    pub(super) fn new(client: &'a HttpClient, wanted: &'a DiscoveryInput) -> Self {
        Self {
            client,
            wanted,
            until: Instant::now() + DISCOVERY_TIMEOUT,
            attempts: Vec::new(),
        }
    }

    pub(super) async fn run(&mut self) -> Result<DiscoveredServer, DiscoveryFailure> {
        if let Some((authorize, token)) = &self.wanted.endpoints {
            return Ok(self.configured(authorize, token));
        }
        let lead = match &self.wanted.issuer {
            Some(issuer) => self.hint_from_config(issuer).await?,
            None => self.hint_from_server().await?,
        };
        let (server, profile) = self.first_server(&lead).await?;
        let said = lead.resource;
        let supported = said.as_ref().map(|said| said.scopes_supported.clone()).unwrap_or_default();
        Ok(DiscoveredServer {
            mcp: self.wanted.mcp.clone(),
            resource: said.map_or_else(|| self.wanted.mcp.to_string(), |said| said.resource),
            server,
            profile,
            scopes_known: if lead.scopes.is_empty() { supported } else { lead.scopes },
            addresses: lead.endpoints,
            attempts: Vec::new(),
        })
    }

    /// The server from the configuration alone: no request, and any address is allowed.
    fn configured(&self, authorize: &ExactUrl, token: &ExactUrl) -> DiscoveredServer {
        let profile = self.profile(authorize);
        let known = profile.endpoints.as_ref().filter(|known| known.token == token.as_str());
        let issuer = match (&self.wanted.issuer, known) {
            (Some(issuer), _) => issuer.to_string(),
            (None, Some(known)) => known.issuer.to_owned(),
            (None, None) => authorize.origin(),
        };
        DiscoveredServer {
            mcp: self.wanted.mcp.clone(),
            resource: self.wanted.mcp.to_string(),
            server: minimal_server(issuer, authorize.clone(), token.clone()),
            profile,
            scopes_known: Vec::new(),
            addresses: AddressPolicy::Anything,
            attempts: Vec::new(),
        }
    }

    async fn hint_from_config(&mut self, issuer: &ExactUrl) -> Result<ServerHint, DiscoveryFailure> {
        Ok(ServerHint {
            issuers: vec![issuer.clone()],
            metadata: AddressPolicy::Anything,
            endpoints: self.allowed_addresses(issuer).await?,
            resource: None,
            scopes: Vec::new(),
        })
    }

    async fn hint_from_server(&mut self) -> Result<ServerHint, DiscoveryFailure> {
        let challenge = self.probe().await?;
        let told = self.allowed_addresses(&self.wanted.mcp).await?;
        let resource = self.resource(challenge.resource_metadata.as_deref()).await?;
        let (issuers, metadata) = match &resource {
            Some(resource) => (resource.authorization_servers.clone(), told.clone()),
            // MCP 2025-03-26 has no resource metadata: the issuer is the MCP server's origin. The
            // operator configured that server, so any address is allowed.
            None => (
                ExactUrl::parse(&self.wanted.mcp.origin()).into_iter().collect(),
                AddressPolicy::Anything,
            ),
        };
        Ok(ServerHint {
            issuers,
            metadata,
            endpoints: told,
            resource,
            scopes: challenge.scopes(),
        })
    }

    /// Sends `initialize` without a token, as clients do. A 401 with a challenge is expected.
    async fn probe(&mut self) -> Result<BearerChallenge, DiscoveryFailure> {
        let mcp = &self.wanted.mcp;
        let request = credential_probe::initialize_request(mcp).map_err(|why| unreachable(&why))?;
        let url = mcp.to_string();
        match fetch::fetch_head(self.client, request, &AddressPolicy::Anything, self.time_left()).await {
            Err(why @ FetchError::NeverSent(_)) => {
                self.note_step(&url, why.to_string());
                Err(unreachable(&why))
            }
            Err(why @ FetchError::Unknown(_)) => {
                self.note_step(&url, why.to_string());
                Ok(BearerChallenge::default())
            }
            Ok((status, headers)) => {
                if let ResponseVerdict::Redirect { location } = forward_rules::classify(status, &headers) {
                    let to = forward_rules::redirect_target(mcp, &location).map_or_else(|| "?".to_owned(), |to| to.to_string());
                    self.note_step(&url, format!("{}, to {to}", status.as_u16()));
                    return Err(DiscoveryFailure::Moved(to));
                }
                let challenge = forward_rules::challenge(&headers);
                let kind = if challenge.is_some() {
                    "with a challenge"
                } else {
                    "without a challenge"
                };
                self.note_step(&url, format!("{}, {kind}", status.as_u16()));
                Ok(challenge.unwrap_or_default())
            }
        }
    }

    /// Fetches the resource metadata (RFC 9728 §3.1): from the challenge's URL, with the path
    /// inserted, at the root. The first metadata document decides.
    async fn resource(&mut self, challenged: Option<&str>) -> Result<Option<ProtectedResource>, DiscoveryFailure> {
        let mcp = &self.wanted.mcp;
        let mut places = metadata::protected_resource_urls(mcp);
        if let Some(url) = challenged {
            // Never another origin: the upstream could direct our requests anywhere (SSRF).
            if ExactUrl::parse(url).is_ok_and(|address| address.origin() == mcp.origin()) {
                places.retain(|place| place != url);
                places.insert(0, url.to_owned());
            } else {
                self.note_step(
                    &printable(url),
                    "not fetched: the challenge names another origin than the MCP server's".to_owned(),
                );
            }
        }
        let mut failed = None;
        for place in places {
            match self.fetch(&place, &AddressPolicy::Anything).await {
                FetchedDocument::Missing(why) => self.note_step(&place, why),
                FetchedDocument::Failed(why) => {
                    self.note_step(&place, why.clone());
                    failed = failed.or(Some(DiscoveryFailure::Unreachable(format!("{place}: {why}"))));
                }
                FetchedDocument::Body(body) => match ProtectedResource::parse(&body, mcp) {
                    Ok(resource) => {
                        self.note_step(&place, "resource metadata".to_owned());
                        return Ok(Some(resource));
                    }
                    Err(why) => {
                        self.note_step(&place, why.to_string());
                        if !matches!(why, MetadataError::NotJson | MetadataError::Missing("resource")) {
                            return Err(DiscoveryFailure::Document(why));
                        }
                    }
                },
            }
        }
        failed.map_or(Ok(None), Err)
    }

    async fn first_server(&mut self, lead: &ServerHint) -> Result<(AuthorizationServer, &'static Profile), DiscoveryFailure> {
        let mut worst = DiscoveryFailure::NoMetadata;
        for issuer in lead.issuers.iter().take(MAX_SERVERS) {
            let profile = self.profile(issuer);
            match self.server(issuer, &lead.metadata, profile).await {
                Ok(server) => return Ok((server, profile)),
                Err(why) => worst = more_specific(worst, why),
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
                self.note_step(&server.issuer, told);
                Ok((server, profile))
            }
            None => Err(worst),
        }
    }

    /// Fetches the metadata of one issuer. Skips a document of another issuer (RFC 8414 §3.3), but
    /// reports it if no document fits.
    async fn server(
        &mut self,
        issuer: &ExactUrl,
        allowed: &AddressPolicy,
        profile: &Profile,
    ) -> Result<AuthorizationServer, DiscoveryFailure> {
        let mut worst = DiscoveryFailure::NoMetadata;
        let mut waived = profile.waived();
        // The origin as issuer is our own guess, and so is the missing final slash.
        waived.root_slash |= issuer.as_str() == self.wanted.mcp.origin();
        for place in metadata::authorization_server_urls(issuer) {
            match self.fetch(&place, allowed).await {
                FetchedDocument::Missing(why) => self.note_step(&place, why),
                FetchedDocument::Failed(why) => {
                    self.note_step(&place, why.clone());
                    worst = more_specific(worst, DiscoveryFailure::Unreachable(format!("{place}: {why}")));
                }
                FetchedDocument::Body(body) => match AuthorizationServer::parse(&body, issuer, waived) {
                    Ok(server) => {
                        self.note_step(&place, "authorization server metadata".to_owned());
                        return Ok(server);
                    }
                    Err(why) => {
                        self.note_step(&place, why.to_string());
                        if why != MetadataError::NotJson {
                            worst = more_specific(worst, DiscoveryFailure::Document(why));
                        }
                    }
                },
            }
        }
        Err(worst)
    }

    async fn fetch(&self, place: &str, allowed: &AddressPolicy) -> FetchedDocument {
        let Ok(address) = ExactUrl::parse(place) else {
            return FetchedDocument::Missing("not a URL".to_owned());
        };
        let request = match fetch::get(&address) {
            Ok(request) => request,
            Err(why) => return FetchedDocument::Missing(why.to_string()),
        };
        match fetch::fetch(self.client, request, allowed, self.time_left()).await {
            Err(why) => FetchedDocument::Failed(why.to_string()),
            Ok(answer) if answer.status == StatusCode::OK => FetchedDocument::Body(answer.body),
            Ok(answer) => {
                let status = answer.status.as_u16();
                if status == 429 || status >= 500 {
                    FetchedDocument::Failed(format!("status {status}"))
                } else {
                    FetchedDocument::Missing(format!("status {status}"))
                }
            }
        }
    }

    async fn allowed_addresses(&self, by: &ExactUrl) -> Result<AddressPolicy, DiscoveryFailure> {
        let host = by.url().host_str().unwrap_or_default();
        let plain_http = by.url().scheme() == "http";
        let told = AddressPolicy::for_upstream(host, plain_http, self.wanted.allow_addresses.clone()).await;
        told.map_err(|why| DiscoveryFailure::Unreachable(format!("{host} cannot be resolved: {why}")))
    }

    /// The configured profile, else that of the MCP server's host, else that of `other`'s host.
    fn profile(&self, other: &ExactUrl) -> &'static Profile {
        let by_host = |address: &ExactUrl| address.url().host_str().map_or(&quirks::STANDARD, quirks::for_host);
        let of_mcp = || match by_host(&self.wanted.mcp) {
            standard if *standard == quirks::STANDARD => by_host(other),
            special => special,
        };
        self.wanted.profile.unwrap_or_else(of_mcp)
    }

    fn time_left(&self) -> Duration {
        DOCUMENT_TIMEOUT.min(self.until.saturating_duration_since(Instant::now()))
    }

    fn note_step(&mut self, url: &str, outcome: String) {
        self.attempts.push(DiscoveryStep {
            url: url.split('?').next().unwrap_or("").to_owned(),
            outcome,
        });
    }
}

/// An unusable document says more than an unreachable URL, which says more than no metadata.
fn more_specific(one: DiscoveryFailure, other: DiscoveryFailure) -> DiscoveryFailure {
    let rank = |reason: &DiscoveryFailure| match reason {
        DiscoveryFailure::NoMetadata => 0,
        DiscoveryFailure::Unreachable(_) => 1,
        DiscoveryFailure::Document(_) => 2,
        DiscoveryFailure::Moved(_) => 3,
    };
    if rank(&other) > rank(&one) { other } else { one }
}

fn known_server(known: &KnownEndpoints) -> Option<AuthorizationServer> {
    let at = |url: &str| ExactUrl::parse(url).ok();
    let mut server = minimal_server(known.issuer.to_owned(), at(known.authorize)?, at(known.token)?);
    server.revocation_endpoint = known.revoke.and_then(at);
    server.auth_methods = known.auth_methods.iter().map(|name| (*name).to_owned()).collect();
    Some(server)
}

fn minimal_server(issuer: String, authorization_endpoint: ExactUrl, token_endpoint: ExactUrl) -> AuthorizationServer {
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

fn unreachable(why: &FetchError) -> DiscoveryFailure {
    DiscoveryFailure::Unreachable(why.to_string())
}

/// Makes untrusted text safe for display: at most 200 characters, printable ASCII.
fn printable(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}
