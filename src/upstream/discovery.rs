//! The steps of a discovery: the order of URLs, and the document that decides.

use http::{Request, StatusCode};

use crate::base::url::ExactUrl;
use crate::net::body::RequestBody;
use crate::net::dial::AddressPolicy;
use crate::net::http_client::HttpClient;
use crate::oauth::metadata::{self, AuthorizationServer, MetadataError, ProtectedResource, Purpose};
use crate::oauth::www_authenticate::BearerChallenge;
use crate::upstream::credential_probe;
use crate::upstream::discovery_result::{DiscoveredServer, DiscoveryError, DiscoveryFailure, DiscoveryInput};
use crate::upstream::discovery_search::{FetchedDocument, Search};
use crate::upstream::fetch::{self, FetchError};
use crate::upstream::forward_rules::{self, ResponseVerdict};
use crate::upstream::quirks::{KnownEndpoints, Profile};

/// The maximum number of authorization servers that are tried for one MCP server.
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

/// The possible issuers, with the challenge and the metadata of the MCP server.
struct ServerHint {
    issuers: Vec<ExactUrl>,
    /// Addresses of the metadata, depending on the source of the issuer.
    metadata: AddressPolicy,
    resource: Option<ProtectedResource>,
    scopes: Vec<String>,
    /// Whether the server may follow MCP 2025-03-26: its 401 names no metadata, and it has none. Then its
    /// origin has the endpoints.
    may_have_default_endpoints: bool,
}

/// The response to a request without a token.
struct ProbeAnswer {
    status: Option<StatusCode>,
    challenge: Option<BearerChallenge>,
}

impl Search<'_> {
    async fn run(&mut self) -> Result<DiscoveredServer, DiscoveryFailure> {
        if let Some((authorize, token)) = &self.wanted.endpoints {
            return Ok(self.server_from_config(authorize, token));
        }
        let mut issuer_is_guess = false;
        let (server, profile, addresses, hint) = if let Some(issuer) = &self.wanted.issuer {
            let (server, profile) = self.first_server(&Self::hint_from_config(issuer)).await?;
            let addresses = self.named_addresses(issuer);
            (server, profile, addresses, self.optional_hint().await?)
        } else {
            let hint = self.hint_from_server().await?;
            let (server, profile) = match self.first_server(&hint).await {
                Err(DiscoveryFailure::NoMetadata) if hint.may_have_default_endpoints => {
                    issuer_is_guess = true;
                    let server = default_server(&self.wanted.mcp.origin()).ok_or(DiscoveryFailure::NoMetadata)?;
                    self.note_step(
                        &server.issuer,
                        "no metadata; using the default endpoints of MCP 2025-03-26".to_owned(),
                    );
                    (server, self.profile(&self.wanted.mcp))
                }
                found => found?,
            };
            (server, profile, self.named_addresses(&self.wanted.mcp), hint)
        };
        let (resource, supported) = match hint.resource {
            Some(resource) => (Some(resource.resource), resource.scopes_supported),
            None => (None, Vec::new()),
        };
        Ok(DiscoveredServer {
            mcp: self.wanted.mcp.clone(),
            resource: self.resource_param(profile, resource),
            server,
            issuer_is_guess,
            profile,
            scopes_known: if hint.scopes.is_empty() { supported } else { hint.scopes },
            addresses,
            attempts: Vec::new(),
        })
    }

    /// The server from the configuration alone: no request, and any address is allowed.
    fn server_from_config(&self, authorize: &ExactUrl, token: &ExactUrl) -> DiscoveredServer {
        let profile = self.profile(authorize);
        let known = profile.endpoints.as_ref().filter(|known| known.token == token.as_str());
        let (issuer, issuer_is_guess) = match (&self.wanted.issuer, known) {
            (Some(issuer), _) => (issuer.to_string(), false),
            (None, Some(known)) => (known.issuer.to_owned(), false),
            (None, None) => (authorize.origin(), true),
        };
        DiscoveredServer {
            mcp: self.wanted.mcp.clone(),
            resource: self.resource_param(profile, None),
            server: minimal_server(issuer, authorize.clone(), token.clone()),
            issuer_is_guess,
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
            may_have_default_endpoints: false,
        }
    }

    /// The challenge and the metadata of the MCP server, if the operator configured the authorization server.
    /// They are useful, but not required.
    async fn optional_hint(&mut self) -> Result<ServerHint, DiscoveryFailure> {
        let unknown = ServerHint {
            issuers: Vec::new(),
            metadata: AddressPolicy::Anything,
            resource: None,
            scopes: Vec::new(),
            may_have_default_endpoints: false,
        };
        let challenge = match self.probe().await {
            Ok(answer) => answer.challenge.unwrap_or_default(),
            Err(moved @ DiscoveryFailure::Moved(_)) => return Err(moved),
            Err(_) => return Ok(unknown),
        };
        Ok(ServerHint {
            // The steps show the reason if there is no metadata.
            resource: self.resource(challenge.resource_metadata.as_deref()).await.unwrap_or_default(),
            scopes: challenge.scopes(),
            ..unknown
        })
    }

    async fn hint_from_server(&mut self) -> Result<ServerHint, DiscoveryFailure> {
        let answer = self.probe().await?;
        let challenge = answer.challenge.unwrap_or_default();
        let resource = self.resource(challenge.resource_metadata.as_deref()).await?;
        let (issuers, metadata) = match &resource {
            Some(resource) if !resource.authorization_servers.is_empty() => {
                (resource.authorization_servers.clone(), self.named_addresses(&self.wanted.mcp))
            }
            // MCP 2025-03-26 has no resource metadata, and RFC 9728 §2 does not require its
            // `authorization_servers`: the issuer is the MCP server's origin. The operator configured that
            // server, so any address is allowed.
            Some(_) | None => (
                ExactUrl::parse(&self.wanted.mcp.origin()).into_iter().collect(),
                AddressPolicy::Anything,
            ),
        };
        let is_refused = answer.status == Some(StatusCode::UNAUTHORIZED);
        Ok(ServerHint {
            issuers,
            metadata,
            may_have_default_endpoints: is_refused
                && resource.is_none()
                && challenge.resource_metadata.is_none()
                && self.wanted.purpose == Purpose::UserSignIn,
            resource,
            scopes: challenge.scopes(),
        })
    }

    /// Sends `initialize` without a token, as clients do. A 401 with a challenge is expected. Some servers
    /// challenge only other requests than `initialize`, so another one is sent too.
    async fn probe(&mut self) -> Result<ProbeAnswer, DiscoveryFailure> {
        let mcp = &self.wanted.mcp;
        let initialize = credential_probe::initialize_request(mcp).map_err(|error| unreachable(&error))?;
        let answer = self.send_probe(initialize).await?;
        match answer.status {
            Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS) | None => return Ok(answer),
            // MCP 2026-07-28 does not know `initialize`.
            Some(status) if status.is_server_error() || answer.challenge.is_some() => return Ok(answer),
            Some(_) => {}
        }
        let list = credential_probe::list_tools_request(mcp).map_err(|error| unreachable(&error))?;
        match self.send_probe(list).await {
            Ok(second) if second.challenge.is_some() => Ok(second),
            Ok(_) | Err(_) => Ok(answer),
        }
    }

    async fn send_probe(&mut self, request: Request<RequestBody>) -> Result<ProbeAnswer, DiscoveryFailure> {
        let mcp = &self.wanted.mcp;
        let url = mcp.to_string();
        match fetch::fetch_head_with_peer(self.client, request, self.time_left()).await {
            Err(error @ (FetchError::NeverSent(_) | FetchError::NoAddress(_))) => {
                self.note_step(&url, error.to_string());
                Err(unreachable(&error))
            }
            Err(error @ FetchError::Unknown(_)) => {
                self.note_step(&url, error.to_string());
                Ok(ProbeAnswer {
                    status: None,
                    challenge: None,
                })
            }
            Ok((status, headers, peer)) => {
                self.peers.push(peer);
                if let ResponseVerdict::Redirect { location } = forward_rules::classify(mcp, status, &headers) {
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
                Ok(ProbeAnswer {
                    status: Some(status),
                    challenge,
                })
            }
        }
    }

    /// Fetches the resource metadata (RFC 9728 §3.1): from the challenge's URL, with the path
    /// inserted, at the root. The first metadata document decides.
    async fn resource(&mut self, challenge_url: Option<&str>) -> Result<Option<ProtectedResource>, DiscoveryFailure> {
        let mcp = &self.wanted.mcp;
        let mut metadata_urls = metadata::protected_resource_urls(mcp);
        if let Some(url) = challenge_url {
            // A relative reference is resolved against the URL of the MCP server.
            let resolved = mcp.url().join(url).ok().and_then(|url| ExactUrl::parse(url.as_str()).ok());
            // Another origin is refused: the upstream could direct the gateway's requests anywhere (SSRF).
            match resolved.filter(|address| address.origin() == mcp.origin()) {
                Some(address) => {
                    metadata_urls.retain(|metadata_url| metadata_url != address.as_str());
                    metadata_urls.insert(0, address.to_string());
                }
                None => self.note_step(
                    &printable(url),
                    "not fetched: the challenge names another origin than the MCP server's".to_owned(),
                ),
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
                FetchedDocument::Body(body) => match ProtectedResource::parse(&body, mcp, self.configured_resource()) {
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
        let mut waivers = profile.metadata_waivers();
        // The origin is only a guess of the issuer, and so is its missing final slash.
        waivers.root_slash |= issuer.as_str() == self.wanted.mcp.origin();
        waivers.purpose = self.wanted.purpose;
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
}

/// The more specific failure: an unusable document before an unreachable URL before missing metadata.
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

/// The endpoints that MCP 2025-03-26 names for servers without metadata ("Fallbacks for Servers without
/// Metadata Discovery").
fn default_server(origin: &str) -> Option<AuthorizationServer> {
    let endpoint = |path: &str| ExactUrl::parse(&format!("{origin}{path}")).ok();
    let server = minimal_server(origin.to_owned(), endpoint("/authorize")?, endpoint("/token")?);
    Some(AuthorizationServer {
        registration_endpoint: endpoint("/register"),
        ..server
    })
}

fn minimal_server(issuer: String, authorization_endpoint: ExactUrl, token_endpoint: ExactUrl) -> AuthorizationServer {
    AuthorizationServer {
        issuer,
        authorization_endpoint,
        token_endpoint,
        registration_endpoint: None,
        revocation_endpoint: None,
        device_authorization_endpoint: None,
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
    use crate::upstream::auth_server::{ClientAuth, ClientProof, UpstreamClientCredentials};
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
            purpose: Purpose::UserSignIn,
            mcp: stub.at("/mcp"),
            issuer: None,
            endpoints: None,
            profile: None,
            resource: None,
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
        assert_eq!(discovery.resource, Some(format!("{}/mcp", stub.base)));
        assert_eq!(discovery.scopes_known, ["a", "b"]);
        assert_eq!(discovery.attempts.len(), 3);
        assert_eq!(lines(&stub).len(), 3);
        let target = discovery.target(&UpstreamClientCredentials {
            id: "c".to_owned(),
            proof: ClientProof::Secret {
                secret: Some(Secret::from("s")),
                method: None,
            },
        });
        assert_eq!(
            (target.client_auth, target.offline_access),
            (ClientAuth::Basic(Secret::from("s")), true)
        );
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
            (discovery.resource.as_deref(), discovery.scopes_known.as_slice()),
            (Some(stub.base.as_str()), &["all".to_owned()][..])
        );
        let expected = [
            "POST /mcp",
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
            assert_eq!(discovery.resource, Some(format!("{}/mcp", stub.base)));
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
    async fn a_configured_issuer_is_found_before_the_resource_metadata_is_asked() {
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
        let lines = lines(&stub);
        let probe = lines.iter().position(|line| line == "POST /mcp").unwrap();
        assert!(lines[..probe].iter().all(|line| !line.contains("protected-resource")), "{lines:?}");
        assert_eq!(discovery.resource, Some(format!("{}/mcp", stub.base)));
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
            proof: ClientProof::Secret {
                secret: Some(Secret::from("s")),
                method: None,
            },
        });
        assert_eq!(
            (&target.client_auth, target.issuer.as_str()),
            (&ClientAuth::Post(Secret::from("s")), "https://github.com/login/oauth")
        );
        assert!(discover(&test_support::client(), &wanted(&stub)).await.is_err());
    }

    #[tokio::test]
    async fn a_401_without_any_metadata_leads_to_the_default_endpoints_of_its_origin() {
        let (stub, result) = discovered(|request| match request.line.as_str() {
            "POST /mcp" => challenge(""),
            _ => nothing(),
        })
        .await;
        let found = result.unwrap();
        assert_eq!(found.server.authorization_endpoint, stub.at("/authorize"));
        assert_eq!(found.server.token_endpoint, stub.at("/token"));
        assert_eq!(found.server.registration_endpoint, Some(stub.at("/register")));
        assert!(found.issuer_is_guess && found.has_default_endpoints());
        for status in [200, 403, 404] {
            let (_stub, result) = discovered(move |request| match request.line.as_str() {
                "POST /mcp" => (status, vec![], String::new()),
                _ => nothing(),
            })
            .await;
            assert_eq!(result.unwrap_err().reason, DiscoveryFailure::NoMetadata, "{status}");
        }
        let (_stub, result) = discovered(|request| match request.line.as_str() {
            "POST /mcp" => challenge(""),
            _ => (503, vec![], String::new()),
        })
        .await;
        assert!(
            matches!(result.unwrap_err().reason, DiscoveryFailure::Unreachable(_)),
            "an outage is no fallback"
        );
    }

    #[tokio::test]
    async fn a_server_that_answers_initialize_is_asked_for_its_challenge_once_more() {
        let (_stub, result) = discovered(|request| {
            let base = &request.base;
            match request.line.as_str() {
                "POST /mcp" if request.body.contains("tools/list") => challenge(r#"scope="needed""#),
                "POST /mcp" => (200, vec![], "{}".to_owned()),
                "GET /.well-known/oauth-authorization-server" => test_support::json(200, &server(request, base)),
                _ => nothing(),
            }
        })
        .await;
        assert_eq!(result.unwrap().scopes_known, ["needed"]);
    }

    #[tokio::test]
    async fn a_server_without_sign_ins_is_found_only_for_service_tokens() {
        let stub = test_support::serve(|request| {
            let base = request.base.clone();
            match request.line.as_str() {
                "GET /.well-known/oauth-authorization-server" => {
                    test_support::json(200, &json!({"issuer": base, "token_endpoint": format!("{base}/token")}))
                }
                _ => (404, vec![], String::new()),
            }
        });
        let stub = stub.await;
        let input = DiscoveryInput {
            purpose: Purpose::ServiceToken,
            ..wanted(&stub)
        };
        let found = discover(&test_support::client(), &input).await.unwrap();
        assert_eq!(found.server.token_endpoint, stub.at("/token"));
        let error = discover(&test_support::client(), &wanted(&stub)).await.unwrap_err();
        assert_eq!(error.reason, DiscoveryFailure::Document(MetadataError::NoS256));
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
