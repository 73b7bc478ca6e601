//! Metadata documents: their URLs, parsers for those of upstreams, builders for the gateway's.
//! Protected resource metadata is RFC 9728, authorization server metadata RFC 8414 or OpenID
//! Connect Discovery. The order of URLs is that of MCP ("Authorization Server Discovery").

use serde_json::{Map, Value, json};

use crate::base::url::{ExactUrl, UrlError};

/// Longest list that is read from a foreign document, in items. Real lists are far shorter.
const MAX_LIST_ITEMS: usize = 200;

/// The reason why a document is refused. Text from the document is shortened and made printable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Not a JSON object.
    #[error("not a JSON object")]
    NotJson,
    /// A required member is missing, or has another type.
    #[error("no usable `{0}`")]
    Missing(&'static str),
    /// The document is that of another issuer (RFC 8414 §3.3).
    #[error("its `issuer` is `{found}`, not `{expected}`")]
    OtherIssuer {
        /// The `issuer` in the document.
        found: String,
        /// The expected issuer.
        expected: String,
    },
    /// The document is that of another resource (RFC 9728 §3.3).
    #[error("its `resource` is `{found}`, which is not `{expected}`")]
    OtherResource {
        /// The `resource` in the document.
        found: String,
        /// The URL of the MCP server.
        expected: String,
    },
    /// The server does not list PKCE with S256 (MCP: "MUST refuse to proceed").
    #[error("`code_challenge_methods_supported` does not list `S256`")]
    NoS256,
    /// A URL is malformed.
    #[error("`{0}` {1}")]
    BadUrl(&'static str, UrlError),
    /// A URL is not https, and plain http is not allowed here.
    #[error("`{0}` is not an https URL")]
    NotSecure(&'static str),
}

/// Protected resource metadata of an MCP server (RFC 9728 §2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtectedResource {
    /// Resource identifier, byte for byte. The gateway sends it as `resource` (RFC 8707).
    pub resource: String,
    /// Usable authorization servers in the order of the document; empty if the document names none.
    pub authorization_servers: Vec<ExactUrl>,
    /// Supported scopes; empty if the document lists none.
    pub scopes_supported: Vec<String>,
}

impl ProtectedResource {
    /// Parses the metadata of `mcp`, whose resource is also valid if it is the `configured` one, byte for byte.
    /// An https `mcp` may not name a plain-http authorization server.
    /// # Errors
    /// If the document is that of another resource, or names authorization servers and none is usable.
    pub fn parse(body: &[u8], mcp: &ExactUrl, configured: Option<&str>) -> Result<Self, MetadataError> {
        let document = object(body)?;
        let resource = text(&document, "resource").ok_or(MetadataError::Missing("resource"))?;
        if configured != Some(resource) && !is_resource_of(resource, mcp) {
            return Err(MetadataError::OtherResource {
                found: shown(resource),
                expected: mcp.as_str().to_owned(),
            });
        }
        let plain_http = is_plain_http(mcp);
        let (mut servers, mut unusable) = (Vec::new(), None);
        for server in list(&document, "authorization_servers") {
            match secure("authorization_servers", &server, plain_http) {
                Ok(server) => servers.push(server),
                Err(error) => unusable = unusable.or(Some(error)),
            }
        }
        if let Some(error) = unusable.filter(|_| servers.is_empty()) {
            return Err(error);
        }
        Ok(Self {
            resource: resource.to_owned(),
            authorization_servers: servers,
            scopes_supported: list(&document, "scopes_supported"),
        })
    }
}

/// Whether `resource` identifies the server at `mcp`. Host case, default port, trailing slash and
/// query may differ. A parent path on the same origin also matches, as in MCP's own SDKs.
pub fn is_resource_of(resource: &str, mcp: &ExactUrl) -> bool {
    let Ok(resource) = ExactUrl::parse(resource) else {
        return false;
    };
    if resource.as_str() == mcp.as_str() {
        return true;
    }
    let (resource_url, mcp_url) = (resource.url(), mcp.url());
    if resource_url.host().is_none() || resource.origin() != mcp.origin() {
        return false;
    }
    let (resource_path, mcp_path) = (resource_url.path().trim_end_matches('/'), mcp_url.path().trim_end_matches('/'));
    mcp_path
        .strip_prefix(resource_path)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What the gateway needs of an authorization server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// Users sign in there: it needs an authorization endpoint, and PKCE.
    #[default]
    UserSignIn,
    /// The gateway obtains a token for itself. The token endpoint is enough, and stands for an absent
    /// authorization endpoint, which no browser sees.
    ServiceToken,
}

/// Checks of authorization server metadata that an upstream's profile waives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetadataWaivers {
    /// S256 need not be listed. The gateway sends PKCE anyway.
    pub pkce: bool,
    /// The trailing slash of an issuer without a path may be present or absent.
    pub root_slash: bool,
    /// Issuers that are accepted in place of the expected one, byte for byte.
    pub issuers: &'static [&'static str],
    /// What the server is for.
    pub purpose: Purpose,
    /// Endpoints may be plain http although the issuer is https: the operator fetches the document so.
    pub plain_http: bool,
}

/// Authorization server metadata (RFC 8414 §2), as far as the gateway uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationServer {
    /// Issuer, byte for byte. The `iss` of authorization responses must equal it (RFC 9207).
    pub issuer: String,
    /// Authorization endpoint, which the browser opens.
    pub authorization_endpoint: ExactUrl,
    /// Token endpoint, which takes codes and refresh tokens.
    pub token_endpoint: ExactUrl,
    /// Registration endpoint (RFC 7591).
    pub registration_endpoint: Option<ExactUrl>,
    /// Revocation endpoint (RFC 7009).
    pub revocation_endpoint: Option<ExactUrl>,
    /// Device authorization endpoint (RFC 8628 §4).
    pub device_authorization_endpoint: Option<ExactUrl>,
    /// Client authentication methods. An empty list means `client_secret_basic`.
    pub auth_methods: Vec<String>,
    /// Supported scopes; empty if the document lists none.
    pub scopes_supported: Vec<String>,
    /// Whether every authorization response has `iss` (RFC 9207 §3).
    pub iss_promised: bool,
    /// Whether a client id may be the URL of a metadata document.
    pub client_documents: bool,
}

impl AuthorizationServer {
    /// Parses the metadata of `issuer`. If that is https, no endpoint may be plain http.
    /// # Errors
    /// If the issuer is another one, S256 or a required member is missing, or a URL is unusable.
    pub fn parse(body: &[u8], issuer: &ExactUrl, waivers: MetadataWaivers) -> Result<Self, MetadataError> {
        let document = object(body)?;
        let document_issuer = text(&document, "issuer").ok_or(MetadataError::Missing("issuer"))?;
        if !is_issuer(document_issuer, issuer, waivers.root_slash) && !waivers.issuers.contains(&document_issuer) {
            return Err(MetadataError::OtherIssuer {
                found: shown(document_issuer),
                expected: issuer.as_str().to_owned(),
            });
        }
        let plain_http = waivers.plain_http || is_plain_http(issuer);
        let endpoint = |member| match text(&document, member) {
            Some(url) => secure(member, url, plain_http).map(Some),
            None => Ok(None),
        };
        let is_true = |member| document.get(member) == Some(&Value::Bool(true));
        let methods = list(&document, "code_challenge_methods_supported");
        let signs_in = waivers.purpose == Purpose::UserSignIn;
        if signs_in && !waivers.pkce && !methods.iter().any(|method| method == "S256") {
            return Err(MetadataError::NoS256);
        }
        let token_endpoint = endpoint("token_endpoint")?.ok_or(MetadataError::Missing("token_endpoint"))?;
        let instead = (!signs_in).then(|| token_endpoint.clone());
        Ok(Self {
            issuer: document_issuer.to_owned(),
            authorization_endpoint: endpoint("authorization_endpoint")?
                .or(instead)
                .ok_or(MetadataError::Missing("authorization_endpoint"))?,
            token_endpoint,
            registration_endpoint: endpoint("registration_endpoint")?,
            revocation_endpoint: endpoint("revocation_endpoint")?,
            device_authorization_endpoint: endpoint("device_authorization_endpoint")?,
            auth_methods: list(&document, "token_endpoint_auth_methods_supported"),
            scopes_supported: list(&document, "scopes_supported"),
            iss_promised: is_true("authorization_response_iss_parameter_supported"),
            client_documents: is_true("client_id_metadata_document_supported"),
        })
    }
}

/// Compares byte for byte (RFC 8414 §3.3), unless the root slash is waived.
fn is_issuer(document_issuer: &str, issuer: &ExactUrl, root_slash: bool) -> bool {
    let without_slash = |text: &str| text.strip_suffix('/').unwrap_or(text).to_owned();
    let is_root = issuer.url().path() == "/" && issuer.url().query().is_none();
    document_issuer == issuer.as_str() || (root_slash && is_root && without_slash(document_issuer) == without_slash(issuer.as_str()))
}

/// URLs of the metadata of `mcp` (RFC 9728 §3.1), in order: with its path and query inserted as
/// written, with its path but no trailing slash, at the root.
pub fn protected_resource_urls(mcp: &ExactUrl) -> Vec<String> {
    const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
    let (origin, path) = (mcp.origin(), mcp.url().path());
    let query = mcp.url().query().map_or(String::new(), |query| format!("?{query}"));
    let inserted_path = if path == "/" { "" } else { path };
    distinct([
        format!("{origin}{WELL_KNOWN}{inserted_path}{query}"),
        format!("{origin}{WELL_KNOWN}{}", inserted_path.trim_end_matches('/')),
        format!("{origin}{WELL_KNOWN}"),
    ])
}

/// URLs of the metadata of `issuer`. MCP's order: RFC 8414 and OpenID Connect with the path
/// inserted, then OpenID Connect appended to the path. Last is an old form: RFC 8414 appended.
pub fn authorization_server_urls(issuer: &ExactUrl) -> Vec<String> {
    let (origin, path) = (issuer.origin(), issuer.url().path().trim_end_matches('/'));
    distinct([
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
        format!("{origin}/.well-known/openid-configuration{path}"),
        format!("{origin}{path}/.well-known/openid-configuration"),
        format!("{origin}{path}/.well-known/oauth-authorization-server"),
    ])
}

fn distinct<const N: usize>(urls: [String; N]) -> Vec<String> {
    let mut out: Vec<String> = Vec::with_capacity(N);
    for url in urls {
        if !out.contains(&url) {
            out.push(url);
        }
    }
    out
}

pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, MetadataError> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) | Err(_) => Err(MetadataError::NotJson),
    }
}

/// A string member. An empty string counts as absent.
pub(super) fn text<'a>(document: &'a Map<String, Value>, member: &str) -> Option<&'a str> {
    document.get(member)?.as_str().filter(|text| !text.is_empty())
}

fn list(document: &Map<String, Value>, member: &str) -> Vec<String> {
    let items = document.get(member).and_then(Value::as_array);
    let texts = items
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .filter(|text| !text.is_empty());
    texts.take(MAX_LIST_ITEMS).map(str::to_owned).collect()
}

fn is_plain_http(url: &ExactUrl) -> bool {
    url.url().scheme() == "http"
}

/// Allows https, and http if `plain_http`; nothing else, as a browser or the gateway opens it.
pub(super) fn secure(member: &'static str, url: &str, plain_http: bool) -> Result<ExactUrl, MetadataError> {
    let address = ExactUrl::parse(url).map_err(|error| MetadataError::BadUrl(member, error))?;
    let allowed = address.url().scheme() == "https" || (plain_http && is_plain_http(&address));
    if allowed && address.url().host().is_some() {
        Ok(address)
    } else {
        Err(MetadataError::NotSecure(member))
    }
}

fn shown(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}

/// Endpoints of the gateway's authorization server, for [`authorization_server`].
#[derive(Clone, Copy, Debug)]
pub struct ServerEndpoints<'a> {
    /// The authorization endpoint.
    pub authorize: &'a str,
    /// The token endpoint.
    pub token: &'a str,
    /// The registration endpoint, if clients may register.
    pub register: Option<&'a str>,
    /// The revocation endpoint.
    pub revoke: &'a str,
    /// URL of the JWK set, if the gateway signs tokens.
    pub jwks: Option<&'a str>,
    /// The introspection endpoint, if resource servers use it.
    pub introspect: Option<&'a str>,
    /// The userinfo endpoint (OpenID Connect Core, section 5.3), if there is one.
    pub userinfo: Option<&'a str>,
    /// Scopes that a client can request.
    pub scopes: &'a [String],
    /// Whether a client id may be the URL of a metadata document.
    pub client_documents: bool,
    /// Whether to announce `iss` in the authorization response (RFC 9207 §3).
    pub announces_iss: bool,
}

/// The gateway's authorization server metadata (RFC 8414 §2). Omits empty members: some clients
/// drop a document with an empty URL.
pub fn authorization_server(issuer: &str, endpoints: &ServerEndpoints<'_>) -> Value {
    const AUTH_METHODS: [&str; 3] = ["none", "client_secret_basic", "client_secret_post"];
    let mut document = json!({
        "issuer": issuer,
        "authorization_endpoint": endpoints.authorize,
        "token_endpoint": endpoints.token,
        "revocation_endpoint": endpoints.revoke,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_methods_supported": AUTH_METHODS,
        "revocation_endpoint_auth_methods_supported": AUTH_METHODS,
        "code_challenge_methods_supported": ["S256"],
    });
    let announces_iss = endpoints.announces_iss.then_some(Value::Bool(true));
    add(&mut document, "authorization_response_iss_parameter_supported", announces_iss);
    add(&mut document, "registration_endpoint", endpoints.register.map(Value::from));
    add(&mut document, "jwks_uri", endpoints.jwks.map(Value::from));
    add(&mut document, "userinfo_endpoint", endpoints.userinfo.map(Value::from));
    if let Some(introspect) = endpoints.introspect {
        add(&mut document, "introspection_endpoint", Some(introspect.into()));
        let methods = json!(["client_secret_basic", "bearer"]);
        add(&mut document, "introspection_endpoint_auth_methods_supported", Some(methods));
        // RFC 9701 §7.
        add(&mut document, "introspection_signing_alg_values_supported", Some(json!(["ES256"])));
    }
    add(&mut document, "scopes_supported", non_empty(endpoints.scopes));
    let client_documents = endpoints.client_documents.then_some(Value::Bool(true));
    add(&mut document, "client_id_metadata_document_supported", client_documents);
    document
}

/// Protected resource metadata (RFC 9728 §2). Omits `offline_access`: MCP says "SHOULD NOT".
pub fn protected_resource(resource: &str, issuer: &str, scopes: &[String], name: &str) -> Value {
    let mut document = json!({
        "resource": resource,
        "authorization_servers": [issuer],
        "bearer_methods_supported": ["header"],
    });
    let scopes: Vec<String> = scopes.iter().filter(|scope| *scope != "offline_access").cloned().collect();
    add(&mut document, "scopes_supported", non_empty(&scopes));
    add(&mut document, "resource_name", (!name.is_empty()).then(|| Value::from(name)));
    document
}

fn non_empty(list: &[String]) -> Option<Value> {
    (!list.is_empty()).then(|| Value::from(list.to_vec()))
}

fn add(document: &mut Value, member: &str, value: Option<Value>) {
    if let Some(value) = value {
        document[member] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> ExactUrl {
        ExactUrl::parse(text).unwrap()
    }

    fn server(issuer: &str, change: impl FnOnce(&mut Value), waivers: MetadataWaivers) -> Result<AuthorizationServer, MetadataError> {
        let mut document = json!({
            "issuer": issuer,
            "authorization_endpoint": "https://as/authorize",
            "token_endpoint": "https://as/token",
            "code_challenge_methods_supported": ["plain", "S256"],
        });
        change(&mut document);
        AuthorizationServer::parse(document.to_string().as_bytes(), &at(issuer), waivers)
    }

    #[test]
    fn authorization_server_metadata_urls_follow_the_order_of_mcp() {
        assert_eq!(
            authorization_server_urls(&at("https://as/t/1")),
            [
                "https://as/.well-known/oauth-authorization-server/t/1",
                "https://as/.well-known/openid-configuration/t/1",
                "https://as/t/1/.well-known/openid-configuration",
                "https://as/t/1/.well-known/oauth-authorization-server",
            ]
        );
        let root = [
            "https://as/.well-known/oauth-authorization-server",
            "https://as/.well-known/openid-configuration",
        ];
        assert_eq!(authorization_server_urls(&at("https://as")), root);
        assert_eq!(authorization_server_urls(&at("https://as/")), root);
    }

    #[test]
    fn protected_resource_metadata_urls_insert_the_path_then_try_the_root() {
        const ROOT: &str = "https://h/.well-known/oauth-protected-resource";
        assert_eq!(protected_resource_urls(&at("https://h")), [ROOT]);
        assert_eq!(protected_resource_urls(&at("https://h:443/")), [ROOT]);
        assert_eq!(protected_resource_urls(&at("https://h/mcp")), [&format!("{ROOT}/mcp"), ROOT]);
        assert_eq!(
            protected_resource_urls(&at("https://h/mcp/")),
            [&format!("{ROOT}/mcp/"), &format!("{ROOT}/mcp"), ROOT]
        );
        assert_eq!(
            protected_resource_urls(&at("https://h/mcp?a=1")),
            [&format!("{ROOT}/mcp?a=1"), &format!("{ROOT}/mcp"), ROOT]
        );
    }

    #[test]
    fn a_resource_must_be_the_mcp_url_or_its_parent() {
        let mcp = at("https://h/a/mcp/");
        for matching in [
            "https://h/a/mcp/",
            "https://h/a/mcp",
            "https://H:443/a/mcp",
            "https://h/a",
            "https://h",
            "https://h/",
        ] {
            assert!(is_resource_of(matching, &mcp), "{matching}");
        }
        for other in [
            "http://h/a/mcp/",
            "https://h:8443/a/mcp/",
            "https://h.evil/a/mcp/",
            "https://h/a/mc",
            "https://h/a/mcp/more",
            "https://h/b",
            "https://u@h/",
            "urn:mcp",
            "",
        ] {
            assert!(!is_resource_of(other, &mcp), "{other}");
        }
        assert!(is_resource_of("https://h/mcp", &at("https://h/mcp?tenant=1")));
    }

    #[test]
    fn the_metadata_issuer_is_compared_byte_for_byte() {
        assert!(server("https://as/t", |_| (), MetadataWaivers::default()).is_ok());
        for other in ["https://as/t/", "https://AS/t", "https://as:443/t", "https://evil", ""] {
            let result = server(
                "https://as/t",
                |document| document["issuer"] = other.into(),
                MetadataWaivers::default(),
            );
            assert!(
                matches!(result, Err(MetadataError::OtherIssuer { .. } | MetadataError::Missing("issuer"))),
                "{other}"
            );
        }
    }

    #[test]
    fn only_a_profile_waives_the_slash_of_a_root_issuer() {
        let add_slash = |document: &mut Value| document["issuer"] = "https://as/".into();
        let root_slash = MetadataWaivers {
            root_slash: true,
            ..MetadataWaivers::default()
        };
        assert!(server("https://as", add_slash, MetadataWaivers::default()).is_err());
        assert_eq!(server("https://as", add_slash, root_slash).unwrap().issuer, "https://as/");
        let result = server("https://as/t", |document| document["issuer"] = "https://as/t/".into(), root_slash);
        assert!(result.is_err());
    }

    #[test]
    fn another_issuer_is_accepted_only_if_a_profile_lists_it() {
        let waivers = MetadataWaivers {
            issuers: &["https://behind"],
            ..MetadataWaivers::default()
        };
        let parse = |issuer: &str, waivers| server("https://as/t", |document| document["issuer"] = issuer.into(), waivers);
        assert_eq!(parse("https://behind", waivers).unwrap().issuer, "https://behind");
        assert!(parse("https://behind", MetadataWaivers::default()).is_err());
        for other in ["https://behind/", "https://behind.evil.example", "https://evil.example"] {
            assert!(matches!(parse(other, waivers), Err(MetadataError::OtherIssuer { .. })), "{other}");
        }
        assert!(parse("https://as/t", waivers).is_ok());
    }

    #[test]
    fn an_authorization_server_without_s256_is_refused_unless_waived() {
        let waivers = MetadataWaivers {
            pkce: true,
            ..MetadataWaivers::default()
        };
        for methods in [json!(null), json!([]), json!(["plain"]), json!("S256")] {
            let parse = |waivers| {
                server(
                    "https://as",
                    |document| document["code_challenge_methods_supported"] = methods.clone(),
                    waivers,
                )
            };
            assert_eq!(parse(MetadataWaivers::default()).unwrap_err(), MetadataError::NoS256, "{methods}");
            assert!(parse(waivers).is_ok());
        }
    }

    #[test]
    fn metadata_endpoints_must_be_https_unless_the_issuer_is_http() {
        for invalid in [
            "http://127.0.0.1/token",
            "javascript:alert(1)",
            "file:///etc/passwd",
            "https://u@as/",
            "/token",
            "https:\\\\as",
        ] {
            for member in [
                "authorization_endpoint",
                "token_endpoint",
                "revocation_endpoint",
                "registration_endpoint",
            ] {
                let result = server(
                    "https://as",
                    |document| document[member] = invalid.into(),
                    MetadataWaivers::default(),
                );
                assert!(
                    matches!(result, Err(MetadataError::NotSecure(_) | MetadataError::BadUrl(..))),
                    "{member} {invalid}"
                );
            }
        }
        let set_plain_http = |document: &mut Value| document["token_endpoint"] = "http://127.0.0.1:1/token".into();
        assert!(server("http://127.0.0.1:1", set_plain_http, MetadataWaivers::default()).is_ok());
        let set_data_url = |document: &mut Value| document["token_endpoint"] = "data:x".into();
        assert!(server("http://127.0.0.1:1", set_data_url, MetadataWaivers::default()).is_err());
        let set_empty = |document: &mut Value| document["revocation_endpoint"] = "".into();
        assert_eq!(
            server("https://as", set_empty, MetadataWaivers::default())
                .unwrap()
                .revocation_endpoint,
            None
        );
    }

    #[test]
    fn resource_metadata_must_name_its_resource_and_authorization_servers() {
        let parse = |document: Value| ProtectedResource::parse(document.to_string().as_bytes(), &at("https://h/mcp"), Some("api://h"));
        let resource = parse(json!({"resource": "https://h/mcp", "authorization_servers": ["https://as"], "scopes_supported": ["a", 7]}));
        let resource = resource.unwrap();
        assert_eq!(
            (resource.resource.as_str(), resource.scopes_supported),
            ("https://h/mcp", vec!["a".to_owned()])
        );
        let without = parse(json!({"resource": "https://h/mcp"})).unwrap();
        assert!(without.authorization_servers.is_empty());
        let one_usable = parse(json!({"resource": "https://h/mcp", "authorization_servers": ["ftp://as", "https://as"]}));
        assert_eq!(one_usable.unwrap().authorization_servers, [at("https://as")]);
        let configured = parse(json!({"resource": "api://h", "authorization_servers": ["https://as"]}));
        assert_eq!(configured.unwrap().resource, "api://h");
        assert!(parse(json!({"resource": "api://other"})).is_err());
        assert_eq!(parse(json!([])).unwrap_err(), MetadataError::NotJson);
        let other = parse(json!({"resource": "https://evil/mcp", "authorization_servers": ["https://as"]}));
        assert!(matches!(other, Err(MetadataError::OtherResource { .. })));
        let plain_http = parse(json!({"resource": "https://h/mcp", "authorization_servers": ["http://as"]}));
        assert_eq!(plain_http.unwrap_err(), MetadataError::NotSecure("authorization_servers"));
    }

    #[test]
    fn published_metadata_parses_and_has_no_empty_members() {
        let endpoints = ServerEndpoints {
            authorize: "https://g/authorize",
            token: "https://g/token",
            register: None,
            revoke: "https://g/revoke",
            jwks: None,
            introspect: None,
            userinfo: None,
            scopes: &[],
            client_documents: true,
            announces_iss: true,
        };
        let document = authorization_server("https://g", &endpoints);
        let server = AuthorizationServer::parse(document.to_string().as_bytes(), &at("https://g"), MetadataWaivers::default()).unwrap();
        assert!(server.iss_promised && server.client_documents && server.registration_endpoint.is_none());
        assert!(document.get("scopes_supported").is_none() && document.get("jwks_uri").is_none());
        let scopes = ["a".to_owned(), "offline_access".to_owned()];
        let document = protected_resource("https://g/mcp", "https://g", &scopes, "files");
        assert_eq!(document["scopes_supported"], json!(["a"]));
        assert!(ProtectedResource::parse(document.to_string().as_bytes(), &at("https://g/mcp"), None).is_ok());
        let only_offline = protected_resource("https://g/mcp", "https://g", &scopes[1..], "");
        assert!(only_offline.get("scopes_supported").is_none() && only_offline.get("resource_name").is_none());
    }
}
