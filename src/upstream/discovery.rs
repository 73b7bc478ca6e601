//! One running discovery: which URL comes next, and which document decides.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::time::Instant;

use crate::base::url::ExactUrl;
use crate::net::dial::AddressPolicy;
use crate::net::http_client::HttpClient;
use crate::oauth::metadata::{self, AuthorizationServer, MetadataError, ProtectedResource};
use crate::oauth::www_authenticate::BearerChallenge;
use crate::upstream::credential_probe;
use crate::upstream::discovery_result::{DiscoveredServer, DiscoveryError, DiscoveryFailure, DiscoveryInput, DiscoveryStep};
use crate::upstream::fetch::{self, FetchError};
use crate::upstream::forward_rules::{self, ResponseVerdict};
use crate::upstream::quirks::{self, KnownEndpoints, Profile};

const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(10);
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(45);
/// The most authorization servers of one MCP server that are tried.
const MAX_SERVERS: usize = 3;

/// Finds the authorization server of an upstream.
/// # Errors
/// [`DiscoveryError`] with the reason and all steps.
pub async fn discover(client: &HttpClient, input: &DiscoveryInput) -> Result<DiscoveredServer, DiscoveryError> {
    let mut search = Search::new(client, input);
    match search.run().await {
        Ok(server) => Ok(DiscoveredServer {
            attempts: search.attempts,
            ..server
        }),
        Err(reason) => Err(DiscoveryError {
            mcp: input.mcp.without_query().to_owned(),
            reason,
            attempts: search.attempts,
        }),
    }
}

/// A running discovery.
struct Search<'a> {
    client: &'a HttpClient,
    wanted: &'a DiscoveryInput,
    until: Instant,
    attempts: Vec<DiscoveryStep>,
    /// The addresses of the connections on which the configured server answered.
    peers: Vec<IpAddr>,
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
    /// Addresses of the metadata, depending on the source of the issuer.
    metadata: AddressPolicy,
    resource: Option<ProtectedResource>,
    scopes: Vec<String>,
}

impl<'a> Search<'a> {
    fn new(client: &'a HttpClient, input: &'a DiscoveryInput) -> Self {
        Self {
            client,
            wanted: input,
            until: Instant::now() + DISCOVERY_TIMEOUT,
            attempts: Vec::new(),
            peers: Vec::new(),
        }
    }

    async fn run(&mut self) -> Result<DiscoveredServer, DiscoveryFailure> {
        if let Some((authorize, token)) = &self.wanted.endpoints {
            return Ok(self.configured(authorize, token));
        }
        let hint = match &self.wanted.issuer {
            Some(issuer) => Self::hint_from_config(issuer),
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
            addresses: self.named_addresses(self.wanted.issuer.as_ref().unwrap_or(&self.wanted.mcp)),
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

    fn hint_from_config(issuer: &ExactUrl) -> ServerHint {
        ServerHint {
            issuers: vec![issuer.clone()],
            metadata: AddressPolicy::Anything,
            resource: None,
            scopes: Vec::new(),
        }
    }

    async fn hint_from_server(&mut self) -> Result<ServerHint, DiscoveryFailure> {
        let challenge = self.probe().await?;
        let resource = self.resource(challenge.resource_metadata.as_deref()).await?;
        let (issuers, metadata) = match &resource {
            Some(resource) => (resource.authorization_servers.clone(), self.named_addresses(&self.wanted.mcp)),
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
            resource,
            scopes: challenge.scopes(),
        })
    }

    /// Sends `initialize` without a token, as clients do. A 401 with a challenge is expected.
    async fn probe(&mut self) -> Result<BearerChallenge, DiscoveryFailure> {
        let mcp = &self.wanted.mcp;
        let request = credential_probe::initialize_request(mcp).map_err(|error| unreachable(&error))?;
        let url = mcp.to_string();
        match fetch::fetch_head_with_peer(self.client, request, self.time_left()).await {
            Err(error @ (FetchError::NeverSent(_) | FetchError::NoAddress(_))) => {
                self.note_step(&url, error.to_string());
                Err(unreachable(&error))
            }
            Err(error @ FetchError::Unknown(_)) => {
                self.note_step(&url, error.to_string());
                Ok(BearerChallenge::default())
            }
            Ok((status, headers, peer)) => {
                self.peers.push(peer);
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

    async fn fetch(&mut self, url: &str, addresses: &AddressPolicy) -> FetchedDocument {
        let Ok(address) = ExactUrl::parse(url) else {
            return FetchedDocument::Missing("not a URL".to_owned());
        };
        let request = match fetch::get(&address) {
            Ok(request) => request,
            Err(error) => return FetchedDocument::Missing(error.to_string()),
        };
        let response = if *addresses == AddressPolicy::Anything {
            let fetched = fetch::fetch_with_peer(self.client, request, self.time_left()).await;
            fetched.map(|(response, peer)| {
                self.peers.push(peer);
                response
            })
        } else {
            fetch::fetch(self.client, request, addresses, self.time_left()).await
        };
        match response {
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

    /// The addresses that the configured server at `source` may name, by the connections made so far.
    fn named_addresses(&self, source: &ExactUrl) -> AddressPolicy {
        let plain_http = source.url().scheme() == "http";
        AddressPolicy::for_upstream_at(&self.peers, plain_http, self.wanted.allow_addresses.clone())
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::base::secret::Secret;
    use crate::upstream::auth_server::{TokenEndpointAuth, UpstreamClientCredentials};
    use crate::upstream::quirks;
    use crate::upstream::test_support::{self, Said, Seen, Stub};

    const PRM: &str = "GET /.well-known/oauth-protected-resource";
    const ASM: &str = "GET /.well-known/oauth-authorization-server";

    fn nothing() -> Said {
        test_support::json(404, &json!({"error": "not_found"}))
    }

    fn challenge(parameters: &str) -> Said {
        (
            401,
            vec![("www-authenticate", format!("Bearer {parameters}"))],
            "Unauthorized".to_owned(),
        )
    }

    fn resource(request: &Seen, path: &str, issuer: &str) -> Said {
        let base = &request.base;
        let document = json!({"resource": format!("{base}{path}"), "authorization_servers": [issuer], "scopes_supported": ["all"]});
        test_support::json(200, &document)
    }

    fn server(request: &Seen, issuer: &str) -> Value {
        let base = &request.base;
        json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{base}/authorize"),
            "token_endpoint": format!("{base}/token"),
            "code_challenge_methods_supported": ["S256"],
            "scopes_supported": ["offline_access"],
        })
    }

    fn wanted(stub: &Stub) -> DiscoveryInput {
        DiscoveryInput {
            mcp: stub.at("/mcp"),
            issuer: None,
            endpoints: None,
            profile: None,
            allow_addresses: Arc::from([]),
        }
    }

    async fn discovered(respond: impl Fn(&Seen) -> Said + Send + Sync + 'static) -> (Stub, Result<DiscoveredServer, DiscoveryError>) {
        let stub = test_support::serve(respond).await;
        let result = discover(&test_support::client(), &wanted(&stub)).await;
        (stub, result)
    }

    fn lines(stub: &Stub) -> Vec<String> {
        stub.seen().into_iter().map(|request| request.line).collect()
    }

    #[tokio::test]
    async fn discovery_follows_the_challenge_and_resource_metadata_to_the_authorization_server() {
        let (stub, result) = discovered(|request| match request.line.as_str() {
            "POST /mcp" => challenge(&format!(r#"resource_metadata="{}/hidden/prm", scope="a b""#, request.base)),
            "GET /hidden/prm" => resource(request, "/mcp", &format!("{}/as", request.base)),
            "GET /.well-known/oauth-authorization-server/as" => test_support::json(200, &server(request, &format!("{}/as", request.base))),
            _ => nothing(),
        })
        .await;
        let discovery = result.unwrap();
        assert_eq!(discovery.server.issuer, format!("{}/as", stub.base));
        assert_eq!(discovery.resource, format!("{}/mcp", stub.base));
        assert_eq!(discovery.scopes_known, ["a", "b"]);
        assert_eq!(discovery.attempts.len(), 3);
        assert_eq!(lines(&stub).len(), 3);
        let target = discovery.target(&UpstreamClientCredentials {
            id: "c".to_owned(),
            secret: Some(Secret::from("s")),
            auth_method: None,
        });
        assert_eq!((target.auth_method, target.offline_access), (TokenEndpointAuth::Basic, true));
        let is_upstream_policy = matches!(
            target.addresses,
            AddressPolicy::AsUpstream {
                loopback: true,
                plain_http: true,
                ..
            }
        );
        assert!(is_upstream_policy, "{:?}", target.addresses);
    }

    #[tokio::test]
    async fn only_configured_private_blocks_are_allowed_for_discovered_endpoints() {
        let respond = |request: &Seen| match request.line.as_str() {
            ASM => test_support::json(200, &server(request, &request.base)),
            _ => nothing(),
        };
        let stub = test_support::serve(respond).await;
        let input = |blocks: &[&str]| DiscoveryInput {
            allow_addresses: blocks.iter().map(|block| block.parse().unwrap()).collect(),
            ..wanted(&stub)
        };
        for (blocks, address, expected) in [
            (&["10.20.0.0/16"][..], "10.20.0.1", true),
            (&["10.20.0.0/16"], "10.21.0.1", false),
            (&[], "10.20.0.1", false),
        ] {
            let discovery = discover(&test_support::client(), &input(blocks)).await.unwrap();
            let verdict = discovery.addresses.check("as.example", address.parse().unwrap(), true);
            assert_eq!(verdict.is_ok(), expected, "{blocks:?} {address}");
        }
    }

    #[tokio::test]
    async fn discovery_without_a_challenge_tries_well_known_urls_in_order() {
        let (stub, result) = discovered(|request| match request.line.as_str() {
            PRM => resource(request, "", &request.base),
            "GET /.well-known/openid-configuration" => test_support::json(200, &server(request, &request.base)),
            _ => nothing(),
        })
        .await;
        let discovery = result.unwrap();
        assert_eq!(
            (discovery.resource.as_str(), discovery.scopes_known.as_slice()),
            (stub.base.as_str(), &["all".to_owned()][..])
        );
        let expected = [
            "POST /mcp",
            &format!("{PRM}/mcp"),
            PRM,
            ASM,
            "GET /.well-known/openid-configuration",
        ];
        assert_eq!(lines(&stub), expected);
    }

    #[tokio::test]
    async fn a_server_without_resource_metadata_is_its_own_issuer() {
        for slash in ["", "/"] {
            let (stub, result) = discovered(move |request| match request.line.as_str() {
                ASM => test_support::json(200, &server(request, &format!("{}{slash}", request.base))),
                _ => nothing(),
            })
            .await;
            let discovery = result.unwrap();
            assert_eq!(discovery.server.issuer, format!("{}{slash}", stub.base));
            assert_eq!(discovery.resource, format!("{}/mcp", stub.base));
        }
    }

    #[tokio::test]
    async fn resource_metadata_on_another_origin_is_not_fetched() {
        let other_origin = test_support::serve(|_| nothing()).await;
        let url = format!("{}/prm", other_origin.base);
        let (_stub, result) = discovered(move |request| match request.line.as_str() {
            "POST /mcp" => challenge(&format!(r#"resource_metadata="{url}""#)),
            _ => nothing(),
        })
        .await;
        let error = result.unwrap_err();
        assert_eq!(error.reason, DiscoveryFailure::NoMetadata);
        assert!(
            error.attempts.iter().any(|attempt| attempt.outcome.contains("another origin")),
            "{:?}",
            error.attempts
        );
        assert!(other_origin.seen().is_empty());
    }

    #[tokio::test]
    async fn metadata_of_another_resource_ends_discovery_with_an_error() {
        let (_stub, result) = discovered(|request| match request.line.as_str() {
            "GET /.well-known/oauth-protected-resource/mcp" => resource(request, "/other", &request.base),
            ASM => test_support::json(200, &server(request, &request.base)),
            _ => nothing(),
        })
        .await;
        let error = result.unwrap_err();
        assert!(
            matches!(error.reason, DiscoveryFailure::Document(MetadataError::OtherResource { .. })),
            "{error}"
        );
    }

    #[tokio::test]
    async fn metadata_of_another_issuer_is_not_used() {
        let (_stub, result) = discovered(|request| match request.line.as_str() {
            PRM => resource(request, "/mcp", &request.base),
            ASM => test_support::json(200, &server(request, "https://evil.example")),
            _ => nothing(),
        })
        .await;
        let error = result.unwrap_err();
        assert!(
            matches!(error.reason, DiscoveryFailure::Document(MetadataError::OtherIssuer { .. })),
            "{error}"
        );
    }

    #[tokio::test]
    async fn discovery_refuses_a_server_without_s256_unless_waived() {
        let respond = |request: &Seen| match request.line.as_str() {
            ASM => {
                let mut document = server(request, &request.base);
                document["code_challenge_methods_supported"] = json!(["plain"]);
                test_support::json(200, &document)
            }
            _ => nothing(),
        };
        let stub = test_support::serve(respond).await;
        let error = discover(&test_support::client(), &wanted(&stub)).await.unwrap_err();
        assert_eq!(error.reason, DiscoveryFailure::Document(MetadataError::NoS256));
        let input = DiscoveryInput {
            profile: Some(&quirks::ENTRA),
            ..wanted(&stub)
        };
        assert!(discover(&test_support::client(), &input).await.is_ok());
    }

    #[tokio::test]
    async fn a_server_error_is_not_mistaken_for_missing_metadata() {
        let (_stub, result) = discovered(|request| match request.line.as_str() {
            "GET /.well-known/oauth-protected-resource/mcp" => (502, vec![], "<html>".to_owned()),
            ASM => test_support::json(200, &server(request, &request.base)),
            _ => nothing(),
        })
        .await;
        let error = result.unwrap_err();
        assert!(matches!(error.reason, DiscoveryFailure::Unreachable(_)), "{error}");
    }

    #[tokio::test]
    async fn a_redirect_of_the_mcp_url_is_reported_and_not_followed() {
        let (stub, result) = discovered(|request| match request.line.as_str() {
            "POST /mcp" => (307, vec![("location", "/mcp/".to_owned())], String::new()),
            _ => nothing(),
        })
        .await;
        let error = result.unwrap_err();
        assert_eq!(error.reason, DiscoveryFailure::Moved(format!("{}/mcp/", stub.base)));
        assert_eq!(lines(&stub), ["POST /mcp"]);
    }

    #[tokio::test]
    async fn a_configured_issuer_skips_resource_metadata_discovery() {
        let stub = test_support::serve(|request| match request.line.as_str() {
            "GET /realm/.well-known/openid-configuration" => test_support::json(200, &server(request, &format!("{}/realm", request.base))),
            _ => nothing(),
        });
        let stub = stub.await;
        let input = DiscoveryInput {
            issuer: Some(stub.at("/realm")),
            ..wanted(&stub)
        };
        let discovery = discover(&test_support::client(), &input).await.unwrap();
        assert_eq!(discovery.server.issuer, format!("{}/realm", stub.base));
        assert!(
            lines(&stub)
                .iter()
                .all(|line| !line.contains("protected-resource") && !line.contains("POST"))
        );
    }

    #[tokio::test]
    async fn configured_endpoints_need_no_discovery_request() {
        let stub = test_support::serve(|_| nothing()).await;
        let input = DiscoveryInput {
            endpoints: Some((stub.at("/a"), stub.at("/t"))),
            ..wanted(&stub)
        };
        let discovery = discover(&test_support::client(), &input).await.unwrap();
        assert_eq!(
            (discovery.server.issuer.as_str(), discovery.addresses),
            (stub.base.as_str(), AddressPolicy::Anything)
        );
        assert!(stub.seen().is_empty());
    }

    #[tokio::test]
    async fn github_needs_no_metadata_and_uses_client_secret_post() {
        let stub = test_support::serve(|_| nothing()).await;
        let github = DiscoveryInput {
            profile: Some(&quirks::GITHUB),
            ..wanted(&stub)
        };
        let discovery = discover(&test_support::client(), &github).await.unwrap();
        assert_eq!(
            discovery.server.token_endpoint.as_str(),
            "https://github.com/login/oauth/access_token"
        );
        let target = discovery.target(&UpstreamClientCredentials {
            id: "c".to_owned(),
            secret: Some(Secret::from("s")),
            auth_method: None,
        });
        assert_eq!(
            (target.auth_method, target.issuer.as_str()),
            (TokenEndpointAuth::Post, "https://github.com/login/oauth")
        );
        assert!(discover(&test_support::client(), &wanted(&stub)).await.is_err());
    }

    #[tokio::test]
    async fn an_unreachable_server_fails_discovery_with_its_url() {
        let input = DiscoveryInput {
            mcp: ExactUrl::parse("http://127.0.0.1:1/mcp").unwrap(),
            ..wanted(&test_support::serve(|_| nothing()).await)
        };
        let error = discover(&test_support::client(), &input).await.unwrap_err();
        assert!(matches!(error.reason, DiscoveryFailure::Unreachable(_)));
        assert!(
            error
                .to_string()
                .starts_with("no authorization server was found for http://127.0.0.1:1/mcp: "),
            "{error}"
        );
        assert_eq!(error.attempts.len(), 1);
    }
}
