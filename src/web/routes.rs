//! The routing table.

use std::borrow::Cow;

use http::Method;
use matchit::Router;

use crate::app::endpoint::is_service_name;

/// The endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// An MCP endpoint.
    Mcp(ServiceRef),
    /// Protected resource metadata (RFC 9728).
    ProtectedResource(ServiceRef),
    /// Authorization server metadata (RFC 8414, and OpenID Connect Discovery).
    AuthorizationServer(ServiceRef),
    /// The authorization endpoint (RFC 6749 §3.1).
    Authorize(ServiceRef),
    /// The token endpoint (RFC 6749 §3.2).
    Token(ServiceRef),
    /// The client registration endpoint (RFC 7591).
    Register(ServiceRef),
    /// The revocation endpoint (RFC 7009).
    Revoke(ServiceRef),
    /// The login page of this flow.
    Login(String),
    /// The callback for the identity provider of this name.
    LoginCallback(String),
    /// The consent page of this flow.
    Consent(String),
    /// The callback for the upstream of a service.
    UpstreamCallback(ServiceRef),
    /// The public list of all services, or the entry of the service of this name.
    Services(Option<String>),
    /// The public signing keys (RFC 7517).
    Keys,
    /// Liveness: whether the process runs.
    Live,
    /// Readiness: whether the process can serve requests.
    Ready,
    /// The stylesheet of the pages.
    Style,
    /// The page at the gateway's root.
    Home,
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

/// Why a request has no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteError {
    /// No such path.
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
    ProtectedResource,
    AuthorizationServer,
    Authorize,
    Token,
    Register,
    Revoke,
    Login,
    LoginCallback,
    Consent,
    UpstreamCallback,
    Services,
    Keys,
    Live,
    Ready,
    Style,
    Home,
}

impl RouteTable {
    /// Builds the table. `prefix` is the path of the public URL, without a slash at its end.
    ///
    /// # Panics
    /// Never: the paths are constants that do not overlap.
    pub fn new(prefix: &str) -> Self {
        let mut table = Router::new();
        let mut put = |path: &str, to| table.insert(path, to).expect("the paths do not overlap");
        for path in ["/mcp", "/mcp/", "/mcp/{service}", "/mcp/{service}/"] {
            put(path, Path::Mcp);
        }
        for path in ["/{alias}/mcp", "/{alias}/mcp/"] {
            put(path, Path::Mcp);
        }
        for path in ["", "/mcp", "/mcp/", "/mcp/{service}", "/mcp/{service}/", "/{alias}/mcp"] {
            put(&format!("/.well-known/oauth-protected-resource{path}"), Path::ProtectedResource);
        }
        for document in ["oauth-authorization-server", "openid-configuration"] {
            for path in ["", "/mcp/{service}"] {
                put(&format!("/.well-known/{document}{path}"), Path::AuthorizationServer);
            }
        }
        // OpenID Connect Discovery, section 4: the well-known part follows the issuer.
        put("/mcp/{service}/.well-known/openid-configuration", Path::AuthorizationServer);
        for base in ["", "/oauth"] {
            for behind in ["", "/mcp/{service}"] {
                put(&format!("{base}/authorize{behind}"), Path::Authorize);
                put(&format!("{base}/token{behind}"), Path::Token);
                put(&format!("{base}/register{behind}"), Path::Register);
                put(&format!("{base}/revoke{behind}"), Path::Revoke);
            }
        }
        put("/upstream/callback", Path::UpstreamCallback);
        put("/upstream/callback/{service}", Path::UpstreamCallback);
        put("/login/{flow}", Path::Login);
        put("/login/callback/{idp}", Path::LoginCallback);
        put("/consent/{flow}", Path::Consent);
        put("/services", Path::Services);
        put("/services/{service}", Path::Services);
        put("/.well-known/jwks.json", Path::Keys);
        put("/health/live", Path::Live);
        put("/health/ready", Path::Ready);
        put("/assets/style.css", Path::Style);
        put("/", Path::Home);
        Self {
            table,
            prefix: prefix.to_owned(),
        }
    }

    /// Finds the route. The path is not decoded or normalised. Fails if path or method is unknown.
    pub fn find(&self, method: &Method, path: &str) -> Result<Route, RouteError> {
        let path = self.strip_prefix(path).ok_or(RouteError::NotFound)?;
        let found = self.table.at(&path).map_err(|_| RouteError::NotFound)?;
        let flow = || found.params.get("flow").unwrap_or("").to_owned();
        let of = || match (found.params.get("service"), found.params.get("alias")) {
            (Some(name), _) => ServiceRef::Named(name.to_owned()),
            (None, Some(name)) => ServiceRef::Alias(name.to_owned()),
            (None, None) => ServiceRef::Default,
        };
        if !["service", "alias"]
            .into_iter()
            .filter_map(|key| found.params.get(key))
            .all(is_service_name)
        {
            return Err(RouteError::NotFound);
        }
        let (route, allowed) = match *found.value {
            Path::Mcp => (Route::Mcp(of()), "GET, POST, DELETE, OPTIONS"),
            Path::ProtectedResource => (Route::ProtectedResource(of()), "GET, HEAD, OPTIONS"),
            Path::AuthorizationServer => (Route::AuthorizationServer(of()), "GET, HEAD, OPTIONS"),
            Path::Authorize => (Route::Authorize(of()), "GET"),
            Path::Token => (Route::Token(of()), "POST, OPTIONS"),
            Path::Register => (Route::Register(of()), "POST, OPTIONS"),
            Path::Revoke => (Route::Revoke(of()), "POST, OPTIONS"),
            Path::Login => (Route::Login(flow()), "GET, POST"),
            Path::LoginCallback => (Route::LoginCallback(found.params.get("idp").unwrap_or("").to_owned()), "GET"),
            Path::Consent => (Route::Consent(flow()), "GET, POST"),
            Path::UpstreamCallback => (Route::UpstreamCallback(of()), "GET"),
            Path::Services => {
                let name = found.params.get("service").map(str::to_owned);
                (Route::Services(name), "GET, HEAD, OPTIONS")
            }
            Path::Keys => (Route::Keys, "GET, HEAD, OPTIONS"),
            Path::Live => (Route::Live, "GET, HEAD"),
            Path::Ready => (Route::Ready, "GET, HEAD"),
            Path::Style => (Route::Style, "GET, HEAD"),
            Path::Home => (Route::Home, "GET, HEAD"),
        };
        if allowed.split(", ").any(|name| name == method.as_str()) {
            Ok(route)
        } else {
            Err(RouteError::Method(allowed))
        }
    }

    /// Removes the prefix, which follows a well-known name (RFC 8414 §3.1) or precedes it (OpenID).
    fn strip_prefix<'a>(&self, path: &'a str) -> Option<Cow<'a, str>> {
        // A supervisor on this machine bypasses any proxy, so it does not know the prefix.
        if self.prefix.is_empty() || matches!(path, "/health/live" | "/health/ready") {
            return Some(Cow::Borrowed(path));
        }
        if let Some(rest) = path.strip_prefix("/.well-known/") {
            let (document, behind) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let behind = behind.strip_prefix(self.prefix.as_str())?;
            if !(behind.is_empty() || behind.starts_with('/')) {
                return None;
            }
            return Some(Cow::Owned(format!("/.well-known/{document}{behind}")));
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

    #[test]
    fn nothing_but_the_exact_path_leads_anywhere() {
        let routes = RouteTable::new("");
        let get = |path: &str| routes.find(&Method::GET, path);
        assert_eq!(get("/health/live"), Ok(Route::Live));
        assert_eq!(get("/login/callback/corp"), Ok(Route::LoginCallback("corp".into())));
        assert_eq!(get("/mcp/github"), Ok(Route::Mcp(ServiceRef::Named("github".into()))));
        assert_eq!(get("/github/mcp"), Ok(Route::Mcp(ServiceRef::Alias("github".into()))));
        assert_eq!(get("/.well-known/jwks.json"), Ok(Route::Keys));
        assert_eq!(get("/services"), Ok(Route::Services(None)));
        assert_eq!(get("/services/github"), Ok(Route::Services(Some("github".into()))));
        assert_eq!(
            get("/authorize/mcp/github"),
            Ok(Route::Authorize(ServiceRef::Named("github".into())))
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
    fn a_prefix_stands_before_paths_and_behind_well_known_names() {
        let routes = RouteTable::new("/gw");
        let get = |path: &str| routes.find(&Method::GET, path);
        assert_eq!(get("/gw/authorize"), Ok(Route::Authorize(ServiceRef::Default)));
        assert_eq!(
            get("/.well-known/oauth-authorization-server/gw"),
            Ok(Route::AuthorizationServer(ServiceRef::Default))
        );
        assert_eq!(
            get("/.well-known/oauth-protected-resource/gw/mcp"),
            Ok(Route::ProtectedResource(ServiceRef::Default))
        );
        assert_eq!(
            get("/gw/.well-known/openid-configuration"),
            Ok(Route::AuthorizationServer(ServiceRef::Default))
        );
        assert_eq!(get("/gw/.well-known/jwks.json"), Ok(Route::Keys));
        for health in ["/health/ready", "/gw/health/ready"] {
            assert_eq!(get(health), Ok(Route::Ready), "{health}");
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
            Ok(Route::ProtectedResource(ServiceRef::Named("github".into())))
        );
        assert_eq!(
            get("/.well-known/oauth-protected-resource/gw/github/mcp"),
            Ok(Route::ProtectedResource(ServiceRef::Alias("github".into())))
        );
        assert_eq!(
            get("/.well-known/oauth-authorization-server/gw/mcp/github"),
            Ok(Route::AuthorizationServer(ServiceRef::Named("github".into())))
        );
    }
}
