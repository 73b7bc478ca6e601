//! One table: which path is what.

use std::borrow::Cow;

use http::Method;
use matchit::Router;

/// Everything that can be asked of us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// The MCP endpoint.
    Mcp,
    /// RFC 9728.
    ProtectedResource,
    /// RFC 8414, and OpenID Connect Discovery.
    AuthorizationServer,
    /// RFC 6749 §3.1.
    Authorize,
    /// RFC 6749 §3.2.
    Token,
    /// RFC 7591.
    Register,
    /// RFC 7009.
    Revoke,
    /// The sign-in page of this journey.
    Login(String),
    /// The consent page of this journey.
    Consent(String),
    /// Where the upstream sends the browser back.
    UpstreamCallback,
    /// The process runs.
    Live,
    /// The process can serve.
    Ready,
    /// The pages' style.
    Style,
    /// What a person sees who opens the address.
    Home,
}

/// Why a request is nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// No such path.
    NotFound,
    /// The path exists, for these methods.
    Method(&'static str),
}

/// The table, built once.
#[derive(Debug)]
pub struct Routes {
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
    Consent,
    UpstreamCallback,
    Live,
    Ready,
    Style,
    Home,
}

impl Routes {
    /// The table under `prefix`, the path of the public URL without a slash at its end.
    ///
    /// # Panics
    /// Never: the paths are constants that do not overlap.
    pub fn new(prefix: &str) -> Self {
        let mut table = Router::new();
        let mut put = |path: &str, to| table.insert(path, to).expect("the paths do not overlap");
        for path in ["/mcp", "/mcp/"] {
            put(path, Path::Mcp);
        }
        for path in [
            "/oauth-protected-resource",
            "/oauth-protected-resource/mcp",
            "/oauth-protected-resource/mcp/",
        ] {
            put(&format!("/.well-known{path}"), Path::ProtectedResource);
        }
        for path in ["/oauth-authorization-server", "/openid-configuration"] {
            put(&format!("/.well-known{path}"), Path::AuthorizationServer);
        }
        for base in ["", "/oauth"] {
            put(&format!("{base}/authorize"), Path::Authorize);
            put(&format!("{base}/token"), Path::Token);
            put(&format!("{base}/register"), Path::Register);
            put(&format!("{base}/revoke"), Path::Revoke);
        }
        put("/login/{flow}", Path::Login);
        put("/consent/{flow}", Path::Consent);
        put("/upstream/callback", Path::UpstreamCallback);
        put("/health/live", Path::Live);
        put("/health/ready", Path::Ready);
        put("/assets/style.css", Path::Style);
        put("/", Path::Home);
        Self {
            table,
            prefix: prefix.to_owned(),
        }
    }

    /// What a request is. The path is taken as it is: nothing is decoded, folded or repaired.
    pub fn find(&self, method: &Method, path: &str) -> Result<Route, NoRoute> {
        let path = self.within(path).ok_or(NoRoute::NotFound)?;
        let found = self.table.at(&path).map_err(|_| NoRoute::NotFound)?;
        let flow = || found.params.get("flow").unwrap_or("").to_owned();
        let (route, allowed) = match *found.value {
            Path::Mcp => (Route::Mcp, "GET, POST, DELETE, OPTIONS"),
            Path::ProtectedResource => (Route::ProtectedResource, "GET, HEAD, OPTIONS"),
            Path::AuthorizationServer => (Route::AuthorizationServer, "GET, HEAD, OPTIONS"),
            Path::Authorize => (Route::Authorize, "GET"),
            Path::Token => (Route::Token, "POST, OPTIONS"),
            Path::Register => (Route::Register, "POST, OPTIONS"),
            Path::Revoke => (Route::Revoke, "POST, OPTIONS"),
            Path::Login => (Route::Login(flow()), "GET, POST"),
            Path::Consent => (Route::Consent(flow()), "GET, POST"),
            Path::UpstreamCallback => (Route::UpstreamCallback, "GET"),
            Path::Live => (Route::Live, "GET, HEAD"),
            Path::Ready => (Route::Ready, "GET, HEAD"),
            Path::Style => (Route::Style, "GET, HEAD"),
            Path::Home => (Route::Home, "GET, HEAD"),
        };
        if allowed.split(", ").any(|name| name == method.as_str()) {
            Ok(route)
        } else {
            Err(NoRoute::Method(allowed))
        }
    }

    /// The path below the prefix; a well-known one has the prefix behind it (RFC 8414 §3.1) or before it (OpenID).
    fn within<'a>(&self, path: &'a str) -> Option<Cow<'a, str>> {
        if self.prefix.is_empty() {
            return Some(Cow::Borrowed(path));
        }
        if let Some(rest) = path.strip_prefix("/.well-known/") {
            let (document, behind) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let behind = behind.strip_prefix(self.prefix.as_str())?;
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
        let routes = Routes::new("");
        let get = |path: &str| routes.find(&Method::GET, path);
        assert_eq!(get("/health/live"), Ok(Route::Live));
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
        ] {
            assert_eq!(get(path), Err(NoRoute::NotFound), "{path}");
        }
        assert_eq!(
            routes.find(&Method::PUT, "/mcp"),
            Err(NoRoute::Method("GET, POST, DELETE, OPTIONS"))
        );
    }

    #[test]
    fn a_prefix_stands_before_paths_and_behind_well_known_names() {
        let routes = Routes::new("/gw");
        let get = |path: &str| routes.find(&Method::GET, path);
        assert_eq!(get("/gw/authorize"), Ok(Route::Authorize));
        assert_eq!(get("/.well-known/oauth-authorization-server/gw"), Ok(Route::AuthorizationServer));
        assert_eq!(get("/.well-known/oauth-protected-resource/gw/mcp"), Ok(Route::ProtectedResource));
        assert_eq!(get("/gw/.well-known/openid-configuration"), Ok(Route::AuthorizationServer));
        assert_eq!(get("/authorize"), Err(NoRoute::NotFound));
        assert_eq!(get("/gwx/authorize"), Err(NoRoute::NotFound));
    }
}
