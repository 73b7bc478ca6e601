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
    pub(super) fn new(client: &'a HttpClient, input: &'a DiscoveryInput) -> Self {
        Self {
            client,
            wanted: input,
            until: Instant::now() + DISCOVERY_TIMEOUT,
            attempts: Vec::new(),
        }
    }

    pub(super) async fn run(&mut self) -> Result<DiscoveredServer, DiscoveryFailure> {
        if let Some((authorize, token)) = &self.wanted.endpoints {
            return Ok(self.configured(authorize, token));
        }
        let hint = match &self.wanted.issuer {
            Some(issuer) => self.hint_from_config(issuer).await?,
            None => self.hint_from_server().await?,
        };
        let (server, profile) = self.first_server(&hint).await?;
        let resource = hint.resource;
        let supported = resource
            .as_ref()
            .map(|resource| resource.scopes_supported.clone())
            .unwrap_or_default();
        Ok(DiscoveredServer {
            mcp: self.wanted.mcp.clone(),
            resource: resource.map_or_else(|| self.wanted.mcp.to_string(), |resource| resource.resource),
            server,
            profile,
            scopes_known: if hint.scopes.is_empty() { supported } else { hint.scopes },
            addresses: hint.endpoints,
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
        let addresses = self.allowed_addresses(&self.wanted.mcp).await?;
        let resource = self.resource(challenge.resource_metadata.as_deref()).await?;
        let (issuers, metadata) = match &resource {
            Some(resource) => (resource.authorization_servers.clone(), addresses.clone()),
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
            endpoints: addresses,
            resource,
            scopes: challenge.scopes(),
        })
    }

    /// Sends `initialize` without a token, as clients do. A 401 with a challenge is expected.
    async fn probe(&mut self) -> Result<BearerChallenge, DiscoveryFailure> {
        let mcp = &self.wanted.mcp;
        let request = credential_probe::initialize_request(mcp).map_err(|error| unreachable(&error))?;
        let url = mcp.to_string();
        match fetch::fetch_head(self.client, request, &AddressPolicy::Anything, self.time_left()).await {
            Err(error @ (FetchError::NeverSent(_) | FetchError::NoAddress(_))) => {
                self.note_step(&url, error.to_string());
                Err(unreachable(&error))
            }
            Err(error @ FetchError::Unknown(_)) => {
                self.note_step(&url, error.to_string());
                Ok(BearerChallenge::default())
            }
            Ok((status, headers)) => {
                if let ResponseVerdict::Redirect { location } = forward_rules::classify(status, &headers) {
                    let target = forward_rules::redirect_target(mcp, &location).map_or_else(|| "?".to_owned(), |target| target.to_string());
                    self.note_step(&url, format!("{}, to {target}", status.as_u16()));
                    return Err(DiscoveryFailure::Moved(target));
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
    async fn resource(&mut self, challenge_url: Option<&str>) -> Result<Option<ProtectedResource>, DiscoveryFailure> {
        let mcp = &self.wanted.mcp;
        let mut metadata_urls = metadata::protected_resource_urls(mcp);
        if let Some(url) = challenge_url {
            // Never another origin: the upstream could direct our requests anywhere (SSRF).
            if ExactUrl::parse(url).is_ok_and(|address| address.origin() == mcp.origin()) {
                metadata_urls.retain(|metadata_url| metadata_url != url);
                metadata_urls.insert(0, url.to_owned());
            } else {
                self.note_step(
                    &printable(url),
                    "not fetched: the challenge names another origin than the MCP server's".to_owned(),
                );
            }
        }
        let mut failure = None;
        for metadata_url in metadata_urls {
            match self.fetch(&metadata_url, &AddressPolicy::Anything).await {
                FetchedDocument::Missing(reason) => self.note_step(&metadata_url, reason),
                FetchedDocument::Failed(reason) => {
                    self.note_step(&metadata_url, reason.clone());
                    failure = failure.or(Some(DiscoveryFailure::Unreachable(format!("{metadata_url}: {reason}"))));
                }
                FetchedDocument::Body(body) => match ProtectedResource::parse(&body, mcp) {
                    Ok(resource) => {
                        self.note_step(&metadata_url, "resource metadata".to_owned());
                        return Ok(Some(resource));
                    }
                    Err(error) => {
                        self.note_step(&metadata_url, error.to_string());
                        if !matches!(error, MetadataError::NotJson | MetadataError::Missing("resource")) {
                            return Err(DiscoveryFailure::Document(error));
                        }
                    }
                },
            }
        }
        failure.map_or(Ok(None), Err)
    }

    async fn first_server(&mut self, hint: &ServerHint) -> Result<(AuthorizationServer, &'static Profile), DiscoveryFailure> {
        let mut worst = DiscoveryFailure::NoMetadata;
        for issuer in hint.issuers.iter().take(MAX_SERVERS) {
            let profile = self.profile(issuer);
            match self.server(issuer, &hint.metadata, profile).await {
                Ok(server) => return Ok((server, profile)),
                Err(error) => worst = more_specific(worst, error),
            }
        }
        let profile = self.profile(&self.wanted.mcp);
        let known = profile.endpoints.as_ref().filter(|known| {
            let is_named = hint.issuers.iter().any(|issuer| issuer.as_str() == known.issuer);
            is_named || (hint.resource.is_none() && self.wanted.issuer.is_none())
        });
        match known.and_then(known_server) {
            Some(server) => {
                let outcome = format!("not found; using the endpoints that the profile `{}` knows", profile.name);
                self.note_step(&server.issuer, outcome);
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
        addresses: &AddressPolicy,
        profile: &Profile,
    ) -> Result<AuthorizationServer, DiscoveryFailure> {
        let mut worst = DiscoveryFailure::NoMetadata;
        let mut waivers = profile.waived();
        // The origin as issuer is our own guess, and so is the missing final slash.
        waivers.root_slash |= issuer.as_str() == self.wanted.mcp.origin();
        for metadata_url in metadata::authorization_server_urls(issuer) {
            match self.fetch(&metadata_url, addresses).await {
                FetchedDocument::Missing(reason) => self.note_step(&metadata_url, reason),
                FetchedDocument::Failed(reason) => {
                    self.note_step(&metadata_url, reason.clone());
                    worst = more_specific(worst, DiscoveryFailure::Unreachable(format!("{metadata_url}: {reason}")));
                }
                FetchedDocument::Body(body) => match AuthorizationServer::parse(&body, issuer, waivers) {
                    Ok(server) => {
                        self.note_step(&metadata_url, "authorization server metadata".to_owned());
                        return Ok(server);
                    }
                    Err(error) => {
                        self.note_step(&metadata_url, error.to_string());
                        if error != MetadataError::NotJson {
                            worst = more_specific(worst, DiscoveryFailure::Document(error));
                        }
                    }
                },
            }
        }
        Err(worst)
    }

    async fn fetch(&self, url: &str, addresses: &AddressPolicy) -> FetchedDocument {
        let Ok(address) = ExactUrl::parse(url) else {
            return FetchedDocument::Missing("not a URL".to_owned());
        };
        let request = match fetch::get(&address) {
            Ok(request) => request,
            Err(error) => return FetchedDocument::Missing(error.to_string()),
        };
        match fetch::fetch(self.client, request, addresses, self.time_left()).await {
            Err(error) => FetchedDocument::Failed(error.to_string()),
            Ok(response) if response.status == StatusCode::OK => FetchedDocument::Body(response.body),
            Ok(response) => {
                let status = response.status.as_u16();
                if status == 429 || status >= 500 {
                    FetchedDocument::Failed(format!("status {status}"))
                } else {
                    FetchedDocument::Missing(format!("status {status}"))
                }
            }
        }
    }

    async fn allowed_addresses(&self, source: &ExactUrl) -> Result<AddressPolicy, DiscoveryFailure> {
        let host = source.url().host_str().unwrap_or_default();
        let plain_http = source.url().scheme() == "http";
        let policy = AddressPolicy::for_upstream(host, plain_http, self.wanted.allow_addresses.clone()).await;
        policy.map_err(|error| DiscoveryFailure::Unreachable(format!("{host} cannot be resolved: {error}")))
    }

    /// The configured profile, else that of the MCP server's host, else that of `other`'s host.
    fn profile(&self, other: &ExactUrl) -> &'static Profile {
        let by_host = |address: &ExactUrl| address.url().host_str().map_or(&quirks::STANDARD, quirks::for_host);
        let host_profile = || match by_host(&self.wanted.mcp) {
            standard if *standard == quirks::STANDARD => by_host(other),
            special => special,
        };
        self.wanted.profile.unwrap_or_else(host_profile)
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
fn more_specific(first: DiscoveryFailure, second: DiscoveryFailure) -> DiscoveryFailure {
    let rank = |reason: &DiscoveryFailure| match reason {
        DiscoveryFailure::NoMetadata => 0,
        DiscoveryFailure::Unreachable(_) => 1,
        DiscoveryFailure::Document(_) => 2,
        DiscoveryFailure::Moved(_) => 3,
    };
    if rank(&second) > rank(&first) { second } else { first }
}

fn known_server(known: &KnownEndpoints) -> Option<AuthorizationServer> {
    let parse = |url: &str| ExactUrl::parse(url).ok();
    let mut server = minimal_server(known.issuer.to_owned(), parse(known.authorize)?, parse(known.token)?);
    server.revocation_endpoint = known.revoke.and_then(parse);
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

fn unreachable(error: &FetchError) -> DiscoveryFailure {
    DiscoveryFailure::Unreachable(error.to_string())
}

/// Makes untrusted text safe for display: at most 200 characters, printable ASCII.
fn printable(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}
