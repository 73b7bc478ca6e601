//! Checks metadata documents as a client does. This module is pure: it sends no request.

use serde_json::{Map, Value};

use crate::agent::clients::profile::{ClientProfile, IssuerRule, ResourceRule};
use crate::agent::doctor::rule::{self, Rule};
use crate::agent::doctor::session::printable;
use crate::base::url::ExactUrl;
use crate::oauth::metadata::is_resource_of;

/// The reason why a client refuses a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) rule: &'static Rule,
    pub(super) detail: String,
}

impl Problem {
    pub(super) fn new(rule: &'static Rule, detail: impl Into<String>) -> Self {
        Self {
            rule,
            detail: detail.into(),
        }
    }
}

/// A JSON object.
pub(super) type Document = Map<String, Value>;

/// The parts of the resource metadata that a client uses.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    /// The value of `resource`.
    pub(super) identifier: String,
    pub(super) issuer: ExactUrl,
    pub(super) scopes: Vec<String>,
}

/// The parts of the authorization server metadata that a client uses.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) authorize: String,
    pub(super) token: String,
    pub(super) register: Option<String>,
    pub(super) supports_documents: bool,
    pub(super) auth_methods: Vec<String>,
    pub(super) scopes: Vec<String>,
}

/// The members of both documents that are lists of strings.
const LISTS: [&str; 8] = [
    "authorization_servers",
    "scopes_supported",
    "bearer_methods_supported",
    "response_types_supported",
    "grant_types_supported",
    "token_endpoint_auth_methods_supported",
    "code_challenge_methods_supported",
    "response_modes_supported",
];

/// Checks resource metadata for the server at `mcp`.
pub(super) fn resource(document: &Document, client: &ClientProfile, mcp: &ExactUrl) -> Result<Resource, Problem> {
    check_lists(document)?;
    let Some(resource) = text(document, "resource") else {
        return Err(Problem::new(&rule::RESOURCE_MISSING, ""));
    };
    let shown = format!("`resource` is {}, the URL is {}", printable(resource), mcp.without_query());
    if !is_resource_of(resource, mcp) {
        return Err(Problem::new(
            downgrade_rule(resource, mcp).unwrap_or(&rule::RESOURCE_MISMATCH),
            shown,
        ));
    }
    let is_equal = resource == mcp.as_str() || (mcp.url().path() == "/" && without_slash(resource) == without_slash(mcp.as_str()));
    if client.resource_rule == ResourceRule::Equal && !is_equal {
        return Err(Problem::new(&rule::RESOURCE_NOT_EQUAL, shown));
    }
    let servers = list(document, "authorization_servers");
    let Some(first) = servers.first() else {
        return Err(Problem::new(&rule::NO_AUTH_SERVERS, ""));
    };
    let shown = format!("`authorization_servers` begins with {}", printable(first));
    let issuer = ExactUrl::parse(first).map_err(|_| Problem::new(&rule::AUTH_SERVER_URL, shown.clone()))?;
    if let Some(rule) = downgrade_rule(first, mcp) {
        return Err(Problem::new(rule, shown));
    }
    let is_secure = issuer.url().scheme() == "https" || (mcp.url().scheme() == "http" && issuer.url().scheme() == "http");
    if !is_secure {
        return Err(Problem::new(&rule::AUTH_SERVER_URL, shown));
    }
    Ok(Resource {
        identifier: resource.to_owned(),
        issuer,
        scopes: list(document, "scopes_supported"),
    })
}

/// Checks the metadata of `issuer`. `is_guessed`: the issuer is the origin of the MCP server, for lack of
/// resource metadata.
pub(super) fn server(document: &Document, client: &ClientProfile, issuer: &ExactUrl, is_guessed: bool) -> Result<Server, Problem> {
    check_lists(document)?;
    check_issuer(document, client, issuer, is_guessed)?;
    let authorize = endpoint(document, "authorization_endpoint", issuer)?;
    let token = endpoint(document, "token_endpoint", issuer)?;
    let register = endpoint(document, "registration_endpoint", issuer)?;
    for member in ["revocation_endpoint", "introspection_endpoint", "jwks_uri"] {
        endpoint(document, member, issuer)?;
    }
    let authorize = authorize.ok_or_else(|| Problem::new(&rule::AUTHORIZE_ENDPOINT_MISSING, ""))?;
    let token = token.ok_or_else(|| Problem::new(&rule::TOKEN_ENDPOINT_MISSING, ""))?;
    check_abilities(document, client)?;
    let origin = |url: &str| ExactUrl::parse(url).map(|url| url.origin()).unwrap_or_default();
    let promises_iss = document.get("authorization_response_iss_parameter_supported") == Some(&Value::Bool(true));
    if client.binds_authorize_origin && !promises_iss && origin(&authorize) != issuer.origin() {
        return Err(Problem::new(
            &rule::AUTHORIZE_OTHER_ORIGIN,
            format!("{} for issuer {issuer}", printable(&authorize)),
        ));
    }
    Ok(Server {
        authorize,
        token,
        register,
        supports_documents: document.get("client_id_metadata_document_supported") == Some(&Value::Bool(true)),
        auth_methods: list(document, "token_endpoint_auth_methods_supported"),
        scopes: list(document, "scopes_supported"),
    })
}

/// Faults of the metadata that no client refuses.
pub(super) fn server_warnings(document: &Document) -> Vec<Problem> {
    let grants = list(document, "grant_types_supported");
    // Absent means the authorization code and implicit grants (RFC 8414 §2), but many servers mean all.
    if grants.is_empty() || grants.iter().any(|grant| grant == "refresh_token") {
        return Vec::new();
    }
    vec![Problem::new(&rule::REFRESH_NOT_LISTED, printable(&grants.join(", ")))]
}

fn check_issuer(document: &Document, client: &ClientProfile, issuer: &ExactUrl, is_guessed: bool) -> Result<(), Problem> {
    let Some(found) = text(document, "issuer") else {
        return Err(Problem::new(&rule::ISSUER_MISSING, ""));
    };
    if found == issuer.as_str() {
        return Ok(());
    }
    let detail = format!("`issuer` is {}, asked for {issuer}", printable(found));
    if without_slash(found) == without_slash(issuer.as_str()) {
        return if is_guessed || client.issuer_rule != IssuerRule::Exact {
            Ok(())
        } else {
            Err(Problem::new(&rule::ISSUER_SLASH, detail))
        };
    }
    match (downgrade_rule(found, issuer), client.issuer_rule) {
        (Some(rule), _) => Err(Problem::new(rule, detail)),
        (None, IssuerRule::Unchecked) => Ok(()),
        (None, IssuerRule::Exact | IssuerRule::Slash) => Err(Problem::new(&rule::ISSUER_MISMATCH, detail)),
    }
}

fn check_abilities(document: &Document, client: &ClientProfile) -> Result<(), Problem> {
    let shown = |name: &str| printable(&list(document, name).join(", "));
    let lists = |name: &str, value: &str| list(document, name).iter().any(|item| item == value);
    if document.contains_key("response_types_supported") {
        if !lists("response_types_supported", "code") {
            return Err(Problem::new(&rule::RESPONSE_TYPE_CODE, shown("response_types_supported")));
        }
    } else if client.needs_response_types {
        return Err(Problem::new(&rule::RESPONSE_TYPES_MISSING, ""));
    }
    if document.contains_key("code_challenge_methods_supported") {
        if !lists("code_challenge_methods_supported", "S256") {
            return Err(Problem::new(&rule::PKCE_NO_S256, shown("code_challenge_methods_supported")));
        }
    } else if client.needs_s256 {
        return Err(Problem::new(&rule::PKCE_NOT_LISTED, ""));
    }
    if document.contains_key("grant_types_supported") && !lists("grant_types_supported", "authorization_code") {
        return Err(Problem::new(&rule::GRANT_MISSING, shown("grant_types_supported")));
    }
    Ok(())
}

fn check_lists(document: &Document) -> Result<(), Problem> {
    for name in LISTS {
        let is_list = |value: &Value| value.as_array().is_some_and(|items| items.iter().all(Value::is_string));
        if document.get(name).is_some_and(|value| !is_list(value)) {
            return Err(Problem::new(
                &rule::METADATA_WRONG_TYPE,
                format!("`{name}` is not a list of strings"),
            ));
        }
    }
    Ok(())
}

/// The URL of an endpoint; `None` if the member is absent.
fn endpoint(document: &Document, member: &str, issuer: &ExactUrl) -> Result<Option<String>, Problem> {
    let Some(value) = document.get(member) else { return Ok(None) };
    let url = value.as_str().and_then(|text| ExactUrl::parse(text).ok());
    let Some(url) = url.filter(|url| matches!(url.url().scheme(), "http" | "https")) else {
        return Err(Problem::new(
            &rule::ENDPOINT_INVALID,
            format!("`{member}` is {}", printable(&value.to_string())),
        ));
    };
    if let Some(rule) = downgrade_rule(url.as_str(), issuer) {
        return Err(Problem::new(rule, format!("`{member}` is {url}")));
    }
    if issuer.url().scheme() == "https" && url.url().scheme() == "http" {
        return Err(Problem::new(&rule::ENDPOINT_INVALID, format!("`{member}` is not https")));
    }
    Ok(Some(url.as_str().to_owned()))
}

/// The rule that is broken if a URL names the host of an https server with http. The cause is a proxy that
/// terminates TLS in front of a server that does not know its public URL.
pub(super) fn downgrade_rule(named: &str, server: &ExactUrl) -> Option<&'static Rule> {
    let named = ExactUrl::parse(named).ok()?;
    let is_same_host = named.url().host_str() == server.url().host_str();
    (server.url().scheme() == "https" && named.url().scheme() == "http" && is_same_host).then_some(&rule::HTTP_BEHIND_TLS)
}

fn without_slash(text: &str) -> &str {
    text.strip_suffix('/').unwrap_or(text)
}

/// A string member that is not empty.
pub(super) fn text<'d>(document: &'d Document, member: &str) -> Option<&'d str> {
    document.get(member)?.as_str().filter(|text| !text.is_empty())
}

fn list(document: &Document, member: &str) -> Vec<String> {
    let items = document.get(member).and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}
