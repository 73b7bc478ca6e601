//! Discovery of an upstream's authorization server, in MCP's order: challenge, resource metadata
//! (RFC 9728), server metadata (RFC 8414). Records each step, so that a failure can be explained.

use std::fmt;
use std::sync::Arc;

use crate::base::special_ip::Cidr;
use crate::base::url::ExactUrl;
use crate::net::dial::AddressPolicy;
use crate::net::http_client::HttpClient;
use crate::oauth::metadata::AuthorizationServer;
use crate::oauth::metadata::MetadataError;
use crate::upstream::auth_server::AuthServer;
use crate::upstream::auth_server::TokenEndpointAuth;
use crate::upstream::auth_server::UpstreamClientCredentials;
use crate::upstream::discovery::Search;
use crate::upstream::quirks::Profile;

/// What the operator configured for the discovery.
#[derive(Clone, Debug)]
pub struct DiscoveryInput {
    /// The URL of the MCP server.
    pub mcp: ExactUrl,
    /// The configured issuer (`--upstream-as`). It replaces challenge and resource metadata.
    pub issuer: Option<ExactUrl>,
    /// Authorization and token endpoint, for an upstream without metadata.
    pub endpoints: Option<(ExactUrl, ExactUrl)>,
    /// The configured profile. `None`: chosen by host.
    pub profile: Option<&'static Profile>,
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
    /// The resource identifier from the metadata, or else the URL of the MCP server.
    pub resource: String,
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
    /// Combines the discovered server with the gateway's credentials there.
    pub fn target(&self, credentials: &UpstreamClientCredentials) -> AuthServer {
        let server = &self.server;
        let known = self.profile.endpoints.as_ref().filter(|known| known.issuer == server.issuer);
        let listed = match known {
            Some(known) if server.auth_methods.is_empty() => known.auth_methods.iter().map(|name| (*name).to_owned()).collect(),
            Some(_) | None => server.auth_methods.clone(),
        };
        let chosen = || TokenEndpointAuth::choose(&listed, credentials.secret.is_some());
        AuthServer {
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
            extra_authorize: Vec::new(),
            addresses: self.addresses.clone(),
            scopes_known: self.scopes_known.clone(),
            offline_access: server.scopes_supported.iter().any(|scope| scope == "offline_access"),
        }
    }
}

/// Why a discovery failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot find out where to sign in for {mcp}: {reason}")]
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
    #[error("no metadata; set `authorization_server`, or `authorization_endpoint` and `token_endpoint`, of the service")]
    NoMetadata,
}

/// What an operator can do about an unusable document.
fn remedy(error: &MetadataError) -> &'static str {
    if *error == MetadataError::NoS256 {
        "if it supports PKCE nevertheless, set `authorization_endpoint` and `token_endpoint` of the service"
    } else {
        "ask its operator, or set `authorization_server` to the right issuer"
    }
}

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

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use serde_json::json;

    use super::*;
    use crate::base::secret::Secret;
    use crate::upstream::quirks;
    use crate::upstream::test_support;
    use crate::upstream::test_support::Said;
    use crate::upstream::test_support::Seen;
    use crate::upstream::test_support::Stub;

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
                .starts_with("cannot find out where to sign in for http://127.0.0.1:1/mcp: "),
            "{error}"
        );
        assert_eq!(error.attempts.len(), 1);
    }
}
