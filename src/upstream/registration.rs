//! Registers the gateway at an upstream's authorization server (RFC 7591), per issuer and callback.

use std::time::Duration;

use http::Request;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::base::secret::{Secret, at_rest_option};
use crate::base::time::UnixTime;
use crate::base::url::ExactUrl;
use crate::net::body::RequestBody;
use crate::net::dial::AddressPolicy;
use crate::net::http_client::HttpClient;
use crate::oauth::device_authorization::DEVICE_GRANT_TYPE;
use crate::oauth::metadata::AuthorizationServer;
use crate::oauth::token_response::{OAuthErrorResponse, parse_error_response};
use crate::upstream::auth_server::{ClientProof, TokenEndpointAuth, UpstreamClientCredentials};
use crate::upstream::fetch::{FetchError, fetch, post};

const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(20);

/// The gateway's registration at one authorization server, stored sealed under issuer and callback.
/// Credentials of one server never go to another (MCP, "Authorization Server Binding").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamRegistration {
    /// The issuer, byte for byte.
    pub issuer: String,
    /// The client id that the server issued.
    pub client_id: String,
    /// The client secret, if the server issued one.
    #[serde(with = "at_rest_option", default)]
    pub client_secret: Option<Secret>,
    /// The authentication method at the token endpoint.
    pub auth_method: TokenEndpointAuth,
    /// When the secret expires. `None`: never (RFC 7591 §3.2.1).
    pub expires: Option<UnixTime>,
    /// The callback that was registered.
    pub redirect_uri: String,
}

impl UpstreamRegistration {
    /// The credentials for token requests.
    pub fn credentials(&self) -> UpstreamClientCredentials {
        UpstreamClientCredentials {
            id: self.client_id.clone(),
            proof: ClientProof::Secret {
                secret: self.client_secret.clone(),
                method: Some(self.auth_method),
            },
        }
    }

    /// Whether the secret is still valid. An expired registration is replaced before it fails.
    pub fn is_valid(&self, now: UnixTime) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// The reason why a registration failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamRegistrationError {
    /// The server offers no registration: the operator must configure a client id.
    #[error("the authorization server offers no registration: register the gateway there by hand, and give its `client_id`")]
    NotOffered,
    /// The server refused with an OAuth error (RFC 7591 §3.2.2).
    #[error("at registration {0}")]
    Refused(OAuthErrorResponse),
    /// The server refused with only this status, usually 401 or 403: registration needs a token.
    #[error("the authorization server answered {0} to the registration: register the gateway there by hand, and give its `client_id`")]
    Closed(u16),
    /// There was no response, or an unusable one.
    #[error("no usable answer to the registration: {0}")]
    NoAnswer(String),
}

impl UpstreamRegistrationError {
    /// Whether the server refused, and fewer members may help.
    fn may_be_about_members(&self) -> bool {
        match self {
            Self::Refused(refusal) => !["invalid_redirect_uri", "invalid_token"].contains(&refusal.code.as_str()),
            Self::Closed(status) => [400, 403, 422].contains(status),
            Self::NotOffered | Self::NoAnswer(_) => false,
        }
    }

    fn is_final(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Closed(_))
    }
}

/// The gateway's own client metadata.
#[derive(Clone, Copy, Debug)]
pub struct OwnClientMetadata<'a> {
    /// The name on the upstream's consent page.
    pub name: &'a str,
    /// The gateway's callback.
    pub redirect_uri: &'a ExactUrl,
    /// The scopes that the gateway will request, separated by spaces; empty if unknown.
    pub scope: &'a str,
    /// The configured authentication method.
    pub auth_method: Option<TokenEndpointAuth>,
    /// Whether the gateway may use the device flow (RFC 8628).
    pub device_flow: bool,
}

/// The members of a registration request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Members {
    /// All members that the gateway knows.
    All,
    /// All members except those that some servers refuse: `scope`, `application_type` and the device grant.
    Required,
}

/// The method to register with: a secret if the server supports one, as the gateway can protect it.
fn method_at(server: &AuthorizationServer, configured: Option<TokenEndpointAuth>) -> TokenEndpointAuth {
    if let Some(method) = configured {
        return method;
    }
    let is_listed = |method: TokenEndpointAuth| server.auth_methods.iter().any(|name| name == method.name());
    let order = [TokenEndpointAuth::Basic, TokenEndpointAuth::Post, TokenEndpointAuth::None];
    order
        .into_iter()
        .find(|method| is_listed(*method))
        .unwrap_or(TokenEndpointAuth::Basic)
}

/// The client metadata that the gateway sends (RFC 7591 §2).
fn metadata(application: &OwnClientMetadata<'_>, method: TokenEndpointAuth, members: Members) -> Value {
    let kind = if application.redirect_uri.is_loopback() { "native" } else { "web" };
    let mut document = json!({
        "client_name": application.name,
        "redirect_uris": [application.redirect_uri.as_str()],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": method.name(),
    });
    if members == Members::All {
        // OpenID Connect Registration, section 2: loopback callbacks are for native clients only.
        document["application_type"] = kind.into();
        if !application.scope.is_empty() {
            document["scope"] = application.scope.into();
        }
        if application.device_flow
            && let Some(grant_types) = document["grant_types"].as_array_mut()
        {
            grant_types.push(DEVICE_GRANT_TYPE.into());
        }
    }
    document
}

/// The gateway's client metadata document (draft-ietf-oauth-client-id-metadata-document), which is at `url`.
/// The client is public: the gateway proves itself by PKCE and by its callback.
pub fn client_document(url: &str, application: &OwnClientMetadata<'_>) -> Value {
    let mut document = metadata(application, TokenEndpointAuth::None, Members::All);
    document["client_id"] = url.into();
    document
}

/// The registration request (RFC 7591 §3.1).
/// # Errors
/// If the server offers no registration, or its endpoint cannot be requested.
fn request(
    server: &AuthorizationServer,
    application: &OwnClientMetadata<'_>,
    members: Members,
) -> Result<Request<RequestBody>, UpstreamRegistrationError> {
    let endpoint = server.registration_endpoint.as_ref().ok_or(UpstreamRegistrationError::NotOffered)?;
    let body = metadata(application, method_at(server, application.auth_method), members).to_string();
    post(endpoint, "application/json", body).map_err(|error| UpstreamRegistrationError::NoAnswer(error.to_string()))
}

#[derive(Deserialize)]
struct RegistrationResponse {
    client_id: String,
    #[serde(default, with = "at_rest_option")]
    client_secret: Option<Secret>,
    client_secret_expires_at: Option<Value>,
    token_endpoint_auth_method: Option<String>,
}

/// Parses the response to a registration. Its status should be 201; some servers send 200.
/// # Errors
/// If the response is a refusal, or is unusable.
pub fn read(
    status: u16,
    body: &[u8],
    server: &AuthorizationServer,
    application: &OwnClientMetadata<'_>,
) -> Result<UpstreamRegistration, UpstreamRegistrationError> {
    if let Some(refusal) = parse_error_response(body) {
        return Err(UpstreamRegistrationError::Refused(refusal));
    }
    match status {
        200 | 201 => {}
        429 | 500..=599 => return Err(UpstreamRegistrationError::NoAnswer(format!("status {status}"))),
        _ => return Err(UpstreamRegistrationError::Closed(status)),
    }
    let unusable = |reason: &str| UpstreamRegistrationError::NoAnswer(reason.to_owned());
    let response: RegistrationResponse = serde_json::from_slice(body).map_err(|_| unusable("no JSON with a `client_id`"))?;
    let secret = response.client_secret.filter(|secret| !secret.is_empty());
    let auth_method = match response.token_endpoint_auth_method.as_deref() {
        Some(name) => TokenEndpointAuth::parse(name).ok_or_else(|| unusable("a `token_endpoint_auth_method` that we do not have"))?,
        None if secret.is_some() => method_with_secret(method_at(server, application.auth_method)),
        None => TokenEndpointAuth::None,
    };
    if response.client_id.is_empty() || (auth_method != TokenEndpointAuth::None && secret.is_none()) {
        return Err(unusable(
            "no `client_id`, or no `client_secret` for its `token_endpoint_auth_method`",
        ));
    }
    Ok(UpstreamRegistration {
        issuer: server.issuer.clone(),
        client_id: response.client_id,
        expires: secret.as_ref().and(expiry(response.client_secret_expires_at.as_ref())),
        // Some servers send a secret with the method `none`, which does not use it.
        client_secret: secret.filter(|_| auth_method != TokenEndpointAuth::None),
        auth_method,
        redirect_uri: application.redirect_uri.as_str().to_owned(),
    })
}

/// An omitted method means Basic (RFC 7591 §2), unless the gateway asked for `client_secret_post`.
fn method_with_secret(requested: TokenEndpointAuth) -> TokenEndpointAuth {
    match requested {
        TokenEndpointAuth::Post => TokenEndpointAuth::Post,
        TokenEndpointAuth::None | TokenEndpointAuth::Basic => TokenEndpointAuth::Basic,
    }
}

fn expiry(value: Option<&Value>) -> Option<UnixTime> {
    let seconds = match value? {
        Value::Number(number) => number.as_u64()?,
        Value::String(text) => text.parse().ok()?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    (seconds > 0).then_some(UnixTime(seconds))
}

/// Registers the gateway while a user waits. A refused registration created no client, so it is sent once more
/// without the members that some servers refuse. After any other failure it is not repeated, because that could
/// leave an unused registration.
/// # Errors
/// If the server offers no registration, refuses, or gives no usable response.
pub async fn register(
    client: &HttpClient,
    server: &AuthorizationServer,
    application: &OwnClientMetadata<'_>,
    addresses: &AddressPolicy,
) -> Result<UpstreamRegistration, UpstreamRegistrationError> {
    let attempt = async |members| {
        let request = request(server, application, members)?;
        let no_answer = |error: FetchError| UpstreamRegistrationError::NoAnswer(error.to_string());
        let response = fetch(client, request, addresses, REGISTRATION_TIMEOUT).await.map_err(no_answer)?;
        read(response.status.as_u16(), &response.body, server, application)
    };
    match attempt(Members::All).await {
        Err(error) if error.may_be_about_members() => {
            tracing::info!(%error, "the registration is sent again without `scope` and `application_type`");
            attempt(Members::Required)
                .await
                .map_err(|second| if second.is_final() { error } else { second })
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::test_support;

    fn at(text: &str) -> ExactUrl {
        ExactUrl::parse(text).unwrap()
    }

    fn server(methods: &[&str]) -> AuthorizationServer {
        AuthorizationServer {
            issuer: "https://as".to_owned(),
            authorization_endpoint: at("https://as/authorize"),
            token_endpoint: at("https://as/token"),
            registration_endpoint: Some(at("https://as/register")),
            revocation_endpoint: None,
            device_authorization_endpoint: None,
            auth_methods: methods.iter().map(|name| (*name).to_owned()).collect(),
            scopes_supported: Vec::new(),
            iss_promised: false,
            client_documents: false,
        }
    }

    fn read_of(methods: &[&str], status: u16, body: &Value) -> Result<UpstreamRegistration, UpstreamRegistrationError> {
        let application = OwnClientMetadata {
            name: "gateway",
            redirect_uri: &at("https://g/cb"),
            scope: "",
            auth_method: None,
            device_flow: false,
        };
        read(status, body.to_string().as_bytes(), &server(methods), &application)
    }

    #[test]
    fn registration_requests_a_secret_wherever_the_server_supports_one() {
        for (methods, expected) in [
            (&[][..], TokenEndpointAuth::Basic),
            (&["none", "client_secret_basic"], TokenEndpointAuth::Basic),
            (&["none", "client_secret_post"], TokenEndpointAuth::Post),
            (&["none"], TokenEndpointAuth::None),
            (&["private_key_jwt", "none"], TokenEndpointAuth::None),
        ] {
            assert_eq!(method_at(&server(methods), None), expected, "{methods:?}");
        }
    }

    #[test]
    fn a_loopback_callback_registers_a_native_client_and_others_web() {
        for (callback, application_type) in [
            ("http://localhost:8002/upstream/callback", "native"),
            ("https://g/upstream/callback", "web"),
        ] {
            let application = OwnClientMetadata {
                name: "gateway",
                redirect_uri: &at(callback),
                scope: "a b",
                auth_method: None,
                device_flow: false,
            };
            let document = metadata(&application, TokenEndpointAuth::None, Members::All);
            assert_eq!(document["application_type"], application_type);
            assert_eq!(document["redirect_uris"], json!([callback]));
            assert_eq!(document["scope"], "a b");
            assert_eq!(document["token_endpoint_auth_method"], "none");
        }
        let application = OwnClientMetadata {
            name: "gateway",
            redirect_uri: &at("https://g/cb"),
            scope: "",
            auth_method: None,
            device_flow: false,
        };
        assert!(
            metadata(&application, TokenEndpointAuth::Basic, Members::All)
                .get("scope")
                .is_none()
        );
        let required = OwnClientMetadata { scope: "a", ..application };
        let document = metadata(&required, TokenEndpointAuth::Basic, Members::Required);
        assert!(document.get("scope").is_none() && document.get("application_type").is_none());
    }

    #[test]
    fn a_registration_response_is_accepted_with_status_200_or_201() {
        for status in [200, 201] {
            let body = json!({"client_id": "c", "client_secret": "s", "client_secret_expires_at": 0});
            let registration = read_of(&[], status, &body).unwrap();
            assert_eq!((registration.auth_method, registration.expires), (TokenEndpointAuth::Basic, None));
            assert!(registration.is_valid(UnixTime::NEVER.minus_seconds(1)));
        }
        let body = json!({"client_id": "c", "client_secret": "s", "client_secret_expires_at": "100", "token_endpoint_auth_method": "client_secret_post"});
        let registration = read_of(&[], 201, &body).unwrap();
        assert_eq!(
            (registration.auth_method, registration.expires),
            (TokenEndpointAuth::Post, Some(UnixTime(100)))
        );
        assert!(registration.is_valid(UnixTime(99)) && !registration.is_valid(UnixTime(100)));
    }

    #[test]
    fn the_authentication_method_of_the_registration_response_is_used() {
        let public_client = read_of(&[], 201, &json!({"client_id": "c"})).unwrap();
        assert_eq!(
            (public_client.auth_method, public_client.client_secret),
            (TokenEndpointAuth::None, None)
        );
        let method_none = json!({"client_id": "c", "client_secret": "s", "token_endpoint_auth_method": "none"});
        assert_eq!(read_of(&[], 201, &method_none).unwrap().client_secret, None);
        let without_method = json!({"client_id": "c", "client_secret": "s"});
        assert_eq!(
            read_of(&["client_secret_post"], 201, &without_method).unwrap().auth_method,
            TokenEndpointAuth::Post
        );
        for unusable in [
            json!({"client_id": "c", "token_endpoint_auth_method": "private_key_jwt"}),
            json!({"client_id": "c", "token_endpoint_auth_method": "client_secret_basic"}),
            json!({"client_id": ""}),
            json!({"client_secret": "s"}),
            json!([]),
        ] {
            assert!(
                matches!(read_of(&[], 201, &unusable), Err(UpstreamRegistrationError::NoAnswer(_))),
                "{unusable}"
            );
        }
    }

    #[test]
    fn closed_registration_refusal_and_temporary_failure_are_distinguished() {
        let refused = read_of(&[], 400, &json!({"error": "invalid_redirect_uri", "error_description": "no"}));
        assert!(matches!(refused, Err(UpstreamRegistrationError::Refused(refusal)) if refusal.code == "invalid_redirect_uri"));
        assert_eq!(
            read_of(&[], 403, &json!({"message": "no"})),
            Err(UpstreamRegistrationError::Closed(403))
        );
        assert!(matches!(read_of(&[], 503, &json!({})), Err(UpstreamRegistrationError::NoAnswer(_))));
        let mut closed_server = server(&[]);
        closed_server.registration_endpoint = None;
        let application = OwnClientMetadata {
            name: "gateway",
            redirect_uri: &at("https://g/cb"),
            scope: "",
            auth_method: None,
            device_flow: false,
        };
        assert!(matches!(
            request(&closed_server, &application, Members::All),
            Err(UpstreamRegistrationError::NotOffered)
        ));
    }

    #[test]
    fn an_upstream_registration_survives_serialization_and_hides_its_secret() {
        let registration = read_of(&[], 201, &json!({"client_id": "c", "client_secret": "hidden"})).unwrap();
        assert!(!format!("{registration:?}").contains("hidden"));
        let serialized = serde_json::to_string(&registration).unwrap();
        assert_eq!(serde_json::from_str::<UpstreamRegistration>(&serialized).unwrap(), registration);
        let ClientProof::Secret { method, .. } = registration.credentials().proof else {
            panic!("a secret")
        };
        assert_eq!(method, Some(TokenEndpointAuth::Basic));
    }

    #[tokio::test]
    async fn registration_posts_json_and_uses_the_returned_credentials() {
        let stub = test_support::serve(|request| {
            let document: Value = serde_json::from_str(&request.body).unwrap();
            let method = document["token_endpoint_auth_method"].clone();
            test_support::json(
                201,
                &json!({"client_id": "c", "client_secret": "s", "token_endpoint_auth_method": method}),
            )
        });
        let stub = stub.await;
        let mut server = server(&["client_secret_post"]);
        server.registration_endpoint = Some(stub.at("/register"));
        let application = OwnClientMetadata {
            name: "gateway",
            redirect_uri: &at("http://127.0.0.1:8002/cb"),
            scope: "",
            auth_method: None,
            device_flow: false,
        };
        let registration = register(&test_support::client(), &server, &application, &AddressPolicy::Anything)
            .await
            .unwrap();
        assert_eq!(
            (registration.client_id.as_str(), registration.auth_method),
            ("c", TokenEndpointAuth::Post)
        );
        assert_eq!(
            (registration.issuer.as_str(), registration.redirect_uri.as_str()),
            ("https://as", "http://127.0.0.1:8002/cb")
        );
        let requests = stub.seen();
        assert_eq!(requests[0].line, "POST /register");
        assert_eq!(requests[0].headers["content-type"], "application/json");
    }
}
