//! The routing table.

use std::borrow::Cow;

use http::Method;
use matchit::Router;

use crate::adapter::vendor::Vendor;
use crate::app::endpoint::is_service_name;
use crate::web::pages::Asset;

/// The methods of the MCP endpoint. The response to HEAD is a challenge, or 405 with this list.
pub const MCP_METHODS: &str = "GET, POST, DELETE, OPTIONS";

/// The methods of the adapters: those of the vendors' APIs.
const ADAPTER_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// The endpoints, by how the router treats their requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// A health check. It may use any host name.
    Health(HealthCheck),
    /// Any other endpoint. It is served only under a name of the gateway.
    Endpoint(Endpoint),
}

/// The health checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthCheck {
    /// Whether the process runs.
    Live,
    /// Whether the process can serve requests.
    Ready,
}

/// The endpoints that are served under a name of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// An MCP endpoint.
    Mcp(ServiceRef),
    /// A public document.
    Document(Document),
    /// An endpoint of an adapter: the vendor, and the path there.
    Adapter(Vendor, String),
    /// An endpoint that OAuth clients call.
    OAuth(OAuthEndpoint, ServiceRef),
    /// An endpoint that resource servers call.
    ResourceServer(ResourceServerEndpoint, ServiceRef),
    /// The management API.
    Api(ApiRoute),
    /// An endpoint that browsers open.
    Browser(BrowserEndpoint),
    /// What pages load.
    Asset(Asset),
    /// The page at the gateway's root.
    Home,
}

/// The public documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// Protected resource metadata (RFC 9728).
    ProtectedResource(ServiceRef),
    /// Authorization server metadata (RFC 8414, and OpenID Connect Discovery).
    AuthorizationServer(ServiceRef),
    /// The public list of all services, or the entry of the service of this name.
    Services(Option<String>),
    /// The public signing keys (RFC 7517).
    Keys,
    /// The gateway's own client metadata document, for the upstream of a service.
    Client(ServiceRef),
}

/// The endpoints that OAuth clients call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OAuthEndpoint {
    /// The token endpoint (RFC 6749 §3.2).
    Token,
    /// The client registration endpoint (RFC 7591).
    Register,
    /// The revocation endpoint (RFC 7009).
    Revoke,
}

/// The endpoints that resource servers, or clients with an access token, call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceServerEndpoint {
    /// The introspection endpoint (RFC 7662).
    Introspect,
    /// The userinfo endpoint (OpenID Connect Core, section 5.3).
    UserInfo,
}

/// The paths of the management API, with their methods. `docs/openapi.json` describes them.
pub const API_PATHS: [(&str, &str); 7] = [
    ("/api/servers", "GET, POST"),
    ("/api/servers/{id}", "GET, PATCH, DELETE"),
    ("/api/servers/{id}/proof", "POST"),
    ("/api/servers/{id}/keys", "GET, POST"),
    ("/api/servers/{id}/keys/{key}", "DELETE"),
    ("/api/grants", "GET"),
    ("/api/grants/{id}", "DELETE"),
];

/// The route of a path of the management API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiRoute {
    /// All servers.
    Servers,
    /// The server of this id.
    Server(String),
    /// The proof of the server of this id.
    Proof(String),
    /// The keys of the server of this id.
    Keys(String),
    /// A key of a server.
    Key(String, String),
    /// All grants.
    Grants,
    /// The grant of this id.
    Grant(String),
}

impl ApiRoute {
    /// The route of a row of [`API_PATHS`], with its parameters.
    fn from_row(row: usize, param: impl Fn(&str) -> String) -> Self {
        match row {
            0 => Self::Servers,
            1 => Self::Server(param("id")),
            2 => Self::Proof(param("id")),
            3 => Self::Keys(param("id")),
            4 => Self::Key(param("id"), param("key")),
            5 => Self::Grants,
            _ => Self::Grant(param("id")),
        }
    }
}

/// The endpoints that browsers open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrowserEndpoint {
    /// The authorization endpoint (RFC 6749 §3.1).
    Authorize(ServiceRef),
    /// The login page of this flow.
    Login(String),
    /// The callback for the identity provider of this name.
    LoginCallback(String),
    /// The consent page of this flow.
    Consent(String),
    /// The callback for the upstream of a service.
    UpstreamCallback(ServiceRef),
    /// The tool calls that wait for a person, or the one of this id.
    Approvals(Option<String>),
}

/// The service that a path refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceRef {
    /// The default service: the path has no name.
    Default,
    /// The service of this name, as `…/mcp/{service}`.
    Named(String),
    /// The service of this name, as `/{service}/mcp`.
    Alias(String),
}

/// The reason why a request has no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteError {
    /// The path does not exist.
    NotFound,
    /// The path does not accept the method. These are its methods, as the value of `Allow`.
    Method(&'static str),
}

/// The routing table, built once.
#[derive(Debug)]
pub struct RouteTable {
    table: Router<Path>,
    prefix: String,
}

#[derive(Clone, Copy, Debug)]
enum Path {
    Mcp,
    OpenAi,
    OpenAiResponses,
    Anthropic,
    AnthropicMessages,
    ProtectedResource,
    AuthorizationServer,
    Authorize,
    Token,
    Register,
    Revoke,
    Introspect,
    UserInfo,
    /// The path of this row of [`API_PATHS`].
    Api(usize),
    Login,
    LoginCallback,
    Consent,
    UpstreamCallback,
    UpstreamClient,
    Approvals,
    Services,
    Keys,
    Live,
    Ready,
    Asset(Asset),
    Home,
}

/// The paths that do not belong to a service.
const PAGES_AND_DOCUMENTS: [(&str, Path); 17] = [
    ("/upstream/client", Path::UpstreamClient),
    ("/upstream/client/{service}", Path::UpstreamClient),
    ("/upstream/callback", Path::UpstreamCallback),
    ("/upstream/callback/{service}", Path::UpstreamCallback),
    ("/login/{flow}", Path::Login),
    ("/login/callback/{idp}", Path::LoginCallback),
    ("/consent/{flow}", Path::Consent),
    ("/.well-known/jwks.json", Path::Keys),
    ("/health/live", Path::Live),
    ("/health/ready", Path::Ready),
    (Asset::Style.path(), Path::Asset(Asset::Style)),
    (Asset::ApprovalsScript.path(), Path::Asset(Asset::ApprovalsScript)),
    ("/", Path::Home),
    ("/approvals", Path::Approvals),
    ("/approvals/{flow}", Path::Approvals),
    ("/services", Path::Services),
    ("/services/{service}", Path::Services),
];

impl RouteTable {
    /// Builds the table. `prefix` is the path of the public URL, without a slash at its end.
    ///
    /// # Panics
    /// Never: the paths are constants that do not overlap.
    pub fn new(prefix: &str) -> Self {
        let mut table = Router::new();
        let mut add = |path: &str, target| table.insert(path, target).expect("the paths do not overlap");
        for path in ["/mcp", "/mcp/", "/mcp/{service}", "/mcp/{service}/"] {
            add(path, Path::Mcp);
        }
        for path in ["/{alias}/mcp", "/{alias}/mcp/"] {
            add(path, Path::Mcp);
        }
        for path in ["", "/mcp", "/mcp/", "/mcp/{service}", "/mcp/{service}/", "/{alias}/mcp"] {
            add(&format!("/.well-known/oauth-protected-resource{path}"), Path::ProtectedResource);
        }
        for document in ["oauth-authorization-server", "openid-configuration"] {
            for path in ["", "/mcp/{service}"] {
                add(&format!("/.well-known/{document}{path}"), Path::AuthorizationServer);
            }
        }
        // OpenID Connect Discovery, section 4: the well-known part follows the issuer.
        add("/mcp/{service}/.well-known/openid-configuration", Path::AuthorizationServer);
        for base in ["", "/oauth"] {
            for suffix in ["", "/mcp/{service}"] {
                add(&format!("{base}/authorize{suffix}"), Path::Authorize);
                add(&format!("{base}/token{suffix}"), Path::Token);
                add(&format!("{base}/register{suffix}"), Path::Register);
                add(&format!("{base}/revoke{suffix}"), Path::Revoke);
                add(&format!("{base}/introspect{suffix}"), Path::Introspect);
                add(&format!("{base}/userinfo{suffix}"), Path::UserInfo);
            }
        }
        add("/openai/v1/{*path}", Path::OpenAi);
        add("/openai/responses", Path::OpenAiResponses);
        add("/anthropic/{*path}", Path::Anthropic);
        add("/anthropic/messages", Path::AnthropicMessages);
        for (row, (path, _)) in API_PATHS.into_iter().enumerate() {
            add(path, Path::Api(row));
        }
        for (path, target) in PAGES_AND_DOCUMENTS {
            add(path, target);
        }
        Self {
            table,
            prefix: prefix.to_owned(),
        }
    }

    /// Finds the route. The path is not decoded or normalised.
    ///
    /// # Errors
    /// If the path or method is unknown.
    pub fn find(&self, method: &Method, path: &str) -> Result<Route, RouteError> {
        let path = self.strip_prefix(path).ok_or(RouteError::NotFound)?;
        let matched = self.table.at(&path).map_err(|_| RouteError::NotFound)?;
        let flow = || matched.params.get("flow").unwrap_or("").to_owned();
        let service = || match (matched.params.get("service"), matched.params.get("alias")) {
            (Some(name), _) => ServiceRef::Named(name.to_owned()),
            (None, Some(name)) => ServiceRef::Alias(name.to_owned()),
            (None, None) => ServiceRef::Default,
        };
        let mut names = ["service", "alias"].into_iter().filter_map(|key| matched.params.get(key));
        if !names.all(is_service_name) {
            return Err(RouteError::NotFound);
        }
        let document = |document| (Route::Endpoint(Endpoint::Document(document)), "GET, HEAD, OPTIONS");
        let oauth = |endpoint| (Route::Endpoint(Endpoint::OAuth(endpoint, service())), "POST, OPTIONS");
        let param = |name: &str| matched.params.get(name).unwrap_or("").to_owned();
        let resource_server = |endpoint, allowed| (Route::Endpoint(Endpoint::ResourceServer(endpoint, service())), allowed);
        let browser = |endpoint, allowed| (Route::Endpoint(Endpoint::Browser(endpoint)), allowed);
        let rest = || matched.params.get("path").unwrap_or("");
        let adapter = |vendor, path| (Route::Endpoint(Endpoint::Adapter(vendor, path)), ADAPTER_METHODS);
        let (route, allowed) = match *matched.value {
            Path::OpenAi => adapter(Vendor::OpenAi, format!("/v1/{}", rest())),
            Path::OpenAiResponses => adapter(Vendor::OpenAi, Vendor::OpenAi.loop_path().to_owned()),
            Path::Anthropic => adapter(Vendor::Anthropic, format!("/{}", rest())),
            Path::AnthropicMessages => adapter(Vendor::Anthropic, Vendor::Anthropic.loop_path().to_owned()),
            Path::Mcp => (Route::Endpoint(Endpoint::Mcp(service())), MCP_METHODS),
            Path::ProtectedResource => document(Document::ProtectedResource(service())),
            Path::AuthorizationServer => document(Document::AuthorizationServer(service())),
            Path::Services => document(Document::Services(matched.params.get("service").map(str::to_owned))),
            Path::Keys => document(Document::Keys),
            Path::UpstreamClient => document(Document::Client(service())),
            Path::Token => oauth(OAuthEndpoint::Token),
            Path::Register => oauth(OAuthEndpoint::Register),
            Path::Revoke => oauth(OAuthEndpoint::Revoke),
            Path::Api(row) => (Route::Endpoint(Endpoint::Api(ApiRoute::from_row(row, param))), API_PATHS[row].1),
            Path::Introspect => resource_server(ResourceServerEndpoint::Introspect, "POST, OPTIONS"),
            Path::UserInfo => resource_server(ResourceServerEndpoint::UserInfo, "GET, POST, OPTIONS"),
            Path::Authorize => browser(BrowserEndpoint::Authorize(service()), "GET"),
            Path::Login => browser(BrowserEndpoint::Login(flow()), "GET, POST"),
            Path::LoginCallback => browser(BrowserEndpoint::LoginCallback(param("idp")), "GET"),
            Path::Consent => browser(BrowserEndpoint::Consent(flow()), "GET, POST"),
            Path::UpstreamCallback => browser(BrowserEndpoint::UpstreamCallback(service()), "GET"),
            Path::Approvals => browser(
                BrowserEndpoint::Approvals(matched.params.get("flow").map(str::to_owned)),
                "GET, POST",
            ),
            Path::Live => (Route::Health(HealthCheck::Live), "GET, HEAD"),
            Path::Ready => (Route::Health(HealthCheck::Ready), "GET, HEAD"),
            Path::Asset(asset) => (Route::Endpoint(Endpoint::Asset(asset)), "GET, HEAD"),
            Path::Home => (Route::Endpoint(Endpoint::Home), "GET, HEAD"),
        };
        // Some clients read the challenge from a HEAD, which belongs where GET is (RFC 9110 §9.3.2).
        let is_mcp_head = method == Method::HEAD && matches!(matched.value, Path::Mcp);
        if is_mcp_head || allowed.split(", ").any(|name| name == method.as_str()) {
            Ok(route)
        } else {
            Err(RouteError::Method(allowed))
        }
    }

    /// As [`Self::find`]. Only an adapter is found for a path that had an adapter's key.
    pub fn find_with_key(&self, method: &Method, path: &str, has_key: bool) -> Result<Route, RouteError> {
        let route = self.find(method, path)?;
        let is_adapter = matches!(route, Route::Endpoint(Endpoint::Adapter(..)));
        if has_key && !is_adapter {
            Err(RouteError::NotFound)
        } else {
            Ok(route)
        }
    }

    /// Removes the prefix, which follows a well-known name (RFC 8414 §3.1) or precedes it (OpenID).
    fn strip_prefix<'a>(&self, path: &'a str) -> Option<Cow<'a, str>> {
        // A supervisor on this machine bypasses any proxy, so it does not know the prefix.
        if self.prefix.is_empty() || matches!(path, "/health/live" | "/health/ready") {
            return Some(Cow::Borrowed(path));
        }
        if let Some(rest) = path.strip_prefix("/.well-known/") {
            let (document, suffix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let suffix = suffix.strip_prefix(self.prefix.as_str())?;
            if !(suffix.is_empty() || suffix.starts_with('/')) {
                return None;
            }
            return Some(Cow::Owned(format!("/.well-known/{document}{suffix}")));
        }
        let rest = path.strip_prefix(self.prefix.as_str())?;
        match rest.as_bytes().first() {
            None => Some(Cow::Borrowed("/")),
            Some(b'/') => Some(Cow::Borrowed(rest)),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(document: Document) -> Route {
        Route::Endpoint(Endpoint::Document(document))
    }

    fn browser(endpoint: BrowserEndpoint) -> Route {
        Route::Endpoint(Endpoint::Browser(endpoint))
    }

    #[test]
    fn only_exact_paths_match_a_route() {
        let routes = RouteTable::new("");
        let get = |path: &str| routes.find(&Method::GET, path);
        assert_eq!(get("/health/live"), Ok(Route::Health(HealthCheck::Live)));
        assert_eq!(
            get("/login/callback/corp"),
            Ok(browser(BrowserEndpoint::LoginCallback("corp".into())))
        );
        assert_eq!(
            get("/mcp/github"),
            Ok(Route::Endpoint(Endpoint::Mcp(ServiceRef::Named("github".into()))))
        );
        assert_eq!(
            get("/github/mcp"),
            Ok(Route::Endpoint(Endpoint::Mcp(ServiceRef::Alias("github".into()))))
        );
        assert_eq!(get("/.well-known/jwks.json"), Ok(document(Document::Keys)));
        assert_eq!(get("/services"), Ok(document(Document::Services(None))));
        assert_eq!(get("/services/github"), Ok(document(Document::Services(Some("github".into())))));
        assert_eq!(
            get("/authorize/mcp/github"),
            Ok(browser(BrowserEndpoint::Authorize(ServiceRef::Named("github".into()))))
        );
        for path in [
            "//mcp",
            "/mcp//",
            "/MCP",
            "/%6dcp",
            "/health/live/x",
            "/health",
            "/./mcp",
            "/a/../mcp",
            "/mcp;x",
            "/mcp\\",
            "/mcp/mcp",
            "/login/mcp/",
            "/mcp/GitHub",
            "/mcp/a/b",
            "/mcp/%67ithub",
            "/-a/mcp",
            "/services/",
            "/services/mcp",
            "/services/GitHub",
            "/services/a/b",
            "/services/mcp/",
        ] {
            assert_eq!(get(path), Err(RouteError::NotFound), "{path}");
        }
        assert_eq!(
            routes.find(&Method::PUT, "/mcp"),
            Err(RouteError::Method("GET, POST, DELETE, OPTIONS"))
        );
    }

    #[test]
    fn a_path_prefix_precedes_paths_and_follows_well_known_names() {
        let routes = RouteTable::new("/gw");
        let get = |path: &str| routes.find(&Method::GET, path);
        assert_eq!(get("/gw/authorize"), Ok(browser(BrowserEndpoint::Authorize(ServiceRef::Default))));
        assert_eq!(
            get("/.well-known/oauth-authorization-server/gw"),
            Ok(document(Document::AuthorizationServer(ServiceRef::Default)))
        );
        assert_eq!(
            get("/.well-known/oauth-protected-resource/gw/mcp"),
            Ok(document(Document::ProtectedResource(ServiceRef::Default)))
        );
        assert_eq!(
            get("/gw/.well-known/openid-configuration"),
            Ok(document(Document::AuthorizationServer(ServiceRef::Default)))
        );
        assert_eq!(get("/gw/.well-known/jwks.json"), Ok(document(Document::Keys)));
        for health in ["/health/ready", "/gw/health/ready"] {
            assert_eq!(get(health), Ok(Route::Health(HealthCheck::Ready)), "{health}");
        }
        assert_eq!(get("/authorize"), Err(RouteError::NotFound));
        assert_eq!(get("/gwx/authorize"), Err(RouteError::NotFound));
        for path in [
            "/.well-known/oauth/gw-protected-resource",
            "/.well-known/oauth-protected-resource/gwx/mcp",
            "/.well-known/oauth-protected-resource/mcp",
            "/.well-known/openid-configuration",
            "/.well-known/oauth-authorization-server/gw/",
        ] {
            assert_eq!(get(path), Err(RouteError::NotFound), "{path}");
        }
        assert_eq!(
            get("/.well-known/oauth-protected-resource/gw/mcp/github"),
            Ok(document(Document::ProtectedResource(ServiceRef::Named("github".into()))))
        );
        assert_eq!(
            get("/.well-known/oauth-protected-resource/gw/github/mcp"),
            Ok(document(Document::ProtectedResource(ServiceRef::Alias("github".into()))))
        );
        assert_eq!(
            get("/.well-known/oauth-authorization-server/gw/mcp/github"),
            Ok(document(Document::AuthorizationServer(ServiceRef::Named("github".into()))))
        );
    }
}
