//! The metadata documents of the resource (RFC 9728) and of the authorization server (RFC 8414).

use serde_json::{Value, json};

use crate::Profile;
use crate::body::{Reply, json as json_reply};
use crate::server::Exchange;

const RESOURCE: &str = "/.well-known/oauth-protected-resource";
const SERVER: &str = "/.well-known/oauth-authorization-server";

/// The document at this path, or a 404 if it is configured as missing. `None` if the path names no
/// document.
pub fn document(exchange: &Exchange, path: &str) -> Option<Reply> {
    let behaviour = &exchange.behaviour;
    let (missing, document): (bool, fn(&Exchange) -> Value) = if is_resource(path) {
        (behaviour.prm_missing, resource)
    } else if is_server(exchange.state.profile, path) {
        (behaviour.as_metadata_missing, server)
    } else {
        return None;
    };
    if missing {
        return Some(json_reply(404, &json!({"error": "not_found"})));
    }
    if exchange.parts.method != http::Method::GET {
        return Some(json_reply(405, &json!({"error": "method_not_allowed"})));
    }
    Some(json_reply(200, &document(exchange)))
}

fn is_resource(path: &str) -> bool {
    path.strip_prefix(RESOURCE)
        .is_some_and(|rest| matches!(rest, "" | "/mcp" | "/mcp/"))
}

fn is_server(profile: Profile, path: &str) -> bool {
    let rest = match profile {
        Profile::Standard | Profile::OpenId => "",
        Profile::GitHub => "/login/oauth",
    };
    path.strip_prefix(SERVER) == Some(rest)
}

fn resource(exchange: &Exchange) -> Value {
    let state = &exchange.state;
    let real = || format!("{}/mcp", state.origin);
    json!({
        "resource": exchange.behaviour.prm_resource.clone().unwrap_or_else(real),
        "resource_name": "Stand-in",
        "authorization_servers": [exchange.behaviour.authorization_server.clone().unwrap_or_else(|| state.issuer())],
        "scopes_supported": state.scope().split(' ').collect::<Vec<_>>(),
        "bearer_methods_supported": ["header"],
    })
}

/// The metadata of the authorization server.
pub fn server(exchange: &Exchange) -> Value {
    let state = &exchange.state;
    let behaviour = &exchange.behaviour;
    let named = &behaviour.metadata_endpoints;
    let origin = &state.origin;
    let or = |named: &Option<String>, path: &str| named.clone().unwrap_or_else(|| format!("{origin}{path}"));
    let issuer = behaviour.metadata_issuer.clone().unwrap_or_else(|| state.issuer());
    let mut document = match state.profile {
        Profile::Standard | Profile::OpenId => json!({
            "issuer": issuer,
            "authorization_endpoint": or(&named.authorization_endpoint, "/authorize"),
            "token_endpoint": or(&named.token_endpoint, "/token"),
            "registration_endpoint": or(&named.registration_endpoint, "/register"),
            "revocation_endpoint": or(&named.revocation_endpoint, "/revoke"),
            "authorization_response_iss_parameter_supported": true,
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_methods_supported":
                ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"],
            "scopes_supported": ["mcp", "admin", "offline_access"],
        }),
        Profile::GitHub => json!({
            "issuer": issuer,
            "authorization_endpoint": or(&named.authorization_endpoint, "/login/oauth/authorize"),
            "token_endpoint": or(&named.token_endpoint, "/login/oauth/access_token"),
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code"],
        }),
    };
    if behaviour.device.is_some() {
        document["device_authorization_endpoint"] = json!(format!("{origin}/device_authorization"));
    }
    if behaviour.client_documents {
        document["client_id_metadata_document_supported"] = json!(true);
    }
    if let Some(members) = document.as_object_mut().filter(|_| behaviour.no_sign_in) {
        members.remove("authorization_endpoint");
    }
    if !behaviour.no_pkce_in_metadata && !behaviour.no_sign_in {
        document["code_challenge_methods_supported"] = json!(["S256"]);
    }
    document
}
