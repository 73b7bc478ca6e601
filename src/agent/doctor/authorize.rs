//! The registration of a client and its authorization request, up to the first page.

use http::{Method, StatusCode};
use serde_json::Value;
use url::form_urlencoded;

use crate::agent::clients::profile::{ClientProfile, MetadataDocument, ResourceParameter};
use crate::agent::doctor::documents::{Document, Problem, text};
use crate::agent::doctor::metadata::{DiscoveredMetadata, Stop};
use crate::agent::doctor::report::{Outcome, Step};
use crate::agent::doctor::rule;
use crate::agent::doctor::session::{Answer, Call, Session, printable};
use crate::base::random;
use crate::base::url::{ExactUrl, encode_query};
use crate::oauth::pkce::CodeChallenge;
use crate::oauth::www_authenticate::BearerChallenge;

/// The `state` of each authorization request. It protects nothing, because no code is redeemed.
const STATE: &str = "mcp-oauth-gateway-doctor";

/// The clients that the doctor may register at the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegistrationLimit {
    /// No client, so that nothing at the server changes.
    #[default]
    None,
    /// The first client that must register.
    One,
    /// Every client: for the gateway's own services, because the gateway stores no registration.
    Each,
}

/// The registrations of a run, and their limit.
#[derive(Clone, Debug)]
pub(super) struct Registrations {
    limit: RegistrationLimit,
    pub(super) names: Vec<String>,
}

impl Registrations {
    pub(super) fn new(limit: RegistrationLimit) -> Self {
        Self { limit, names: Vec::new() }
    }

    fn may_register(&self) -> bool {
        match self.limit {
            RegistrationLimit::None => false,
            RegistrationLimit::One => self.names.is_empty(),
            RegistrationLimit::Each => true,
        }
    }
}

/// A client id and its redirect URI.
struct Identity {
    client_id: String,
    redirect_uri: &'static str,
    is_document: bool,
}

/// Simulates registration and authorization request. Returns the result for the client.
pub(super) async fn authorize(
    session: &mut Session<'_>,
    client: &'static ClientProfile,
    challenge: &BearerChallenge,
    discovered: &DiscoveredMetadata,
    registrations: &mut Registrations,
) -> Result<Outcome, Stop> {
    let scope = scope(client, challenge, discovered);
    let identity = match (&client.document, &discovered.server.register) {
        (Some(document), _) if discovered.server.supports_documents => document_identity(document, discovered)?,
        (_, Some(_)) if !registrations.may_register() => return Ok(Outcome::Unregistered),
        (_, Some(endpoint)) => Some(register(session, client, endpoint, &scope, registrations).await?),
        (_, None) if discovered.server.supports_documents => return Ok(Outcome::NeedsClientId),
        (_, None) => {
            let problem = Problem::new(
                &rule::NO_REGISTRATION,
                "no `registration_endpoint`, no `client_id_metadata_document_supported`",
            );
            return Err(Stop::new(Step::Registration, &discovered.server_url, problem));
        }
    };
    match identity {
        Some(identity) => request_page(session, client, discovered, &identity, &scope).await,
        None => Ok(Outcome::Unregistered),
    }
}

/// The scopes of challenge or metadata that a client requests.
fn scope(client: &ClientProfile, challenge: &BearerChallenge, discovered: &DiscoveredMetadata) -> String {
    let challenge_scopes = challenge.scopes();
    if !challenge_scopes.is_empty() {
        return challenge_scopes.join(" ");
    }
    match &discovered.resource {
        Some(resource) if !resource.scopes.is_empty() => resource.scopes.join(" "),
        Some(_) | None if client.asks_all_scopes => discovered.server.scopes.join(" "),
        Some(_) | None => String::new(),
    }
}

/// The identity of a client with a metadata document. `None`: no document exists at the URL, so that a
/// request would fail for that reason alone.
fn document_identity(document: &'static MetadataDocument, discovered: &DiscoveredMetadata) -> Result<Option<Identity>, Stop> {
    let methods = &discovered.server.auth_methods;
    if !methods.is_empty() && !methods.iter().any(|method| method == "none") {
        let problem = Problem::new(&rule::DOCUMENT_NEEDS_NONE, printable(&methods.join(", ")));
        return Err(Stop::new(Step::Registration, &discovered.server_url, problem));
    }
    Ok((!document.is_template).then(|| Identity {
        client_id: document.url.to_owned(),
        redirect_uri: document.redirect_uri,
        is_document: true,
    }))
}

async fn register(
    session: &mut Session<'_>,
    client: &'static ClientProfile,
    endpoint: &str,
    scope: &str,
    registrations: &mut Registrations,
) -> Result<Identity, Stop> {
    let stop = |problem| Stop::new(Step::Registration, endpoint, problem);
    let call = Call::new(Method::POST, endpoint)
        .with("content-type", "application/json")
        .with("accept", "application/json")
        .with_some("user-agent", client.oauth_user_agent)
        .with_some("origin", client.origin)
        .body(client.registration_body(scope).to_string());
    registrations.names.push(client.registration.client_name.to_owned());
    let answer = session
        .ask(&call)
        .await
        .map_err(|failure| stop(Problem::new(&rule::REGISTRATION_ERROR, failure.why)))?;
    match answer.status.as_u16() {
        200..300 => {}
        401 | 403 => return Err(stop(Problem::new(&rule::REGISTRATION_NEEDS_TOKEN, answer.summary()))),
        404 | 405 => return Err(stop(Problem::new(&rule::REGISTRATION_GONE, answer.summary()))),
        429 => return Err(stop(Problem::new(&rule::RATE_LIMITED, answer.summary()))),
        500.. => return Err(stop(Problem::new(&rule::REGISTRATION_ERROR, answer.summary()))),
        _ => return Err(stop(Problem::new(&rule::REGISTRATION_REFUSED, error_summary(&answer)))),
    }
    let Ok(Value::Object(document)) = serde_json::from_slice::<Value>(&answer.body) else {
        return Err(stop(Problem::new(&rule::REGISTRATION_NO_ID, answer.summary())));
    };
    let Some(client_id) = text(&document, "client_id") else {
        return Err(stop(Problem::new(&rule::REGISTRATION_NO_ID, answer.summary())));
    };
    if let Some(detail) = registration_difference(&document, client) {
        session.note_for(client.name, &rule::REGISTRATION_CHANGED, endpoint, detail);
    }
    Ok(Identity {
        client_id: client_id.to_owned(),
        redirect_uri: client.registration.redirect_uris.last().copied().unwrap_or_default(),
        is_document: false,
    })
}

/// The first difference between the registration and the client's request.
fn registration_difference(document: &Document, client: &ClientProfile) -> Option<String> {
    if let Some(method) = text(document, "token_endpoint_auth_method").filter(|method| *method != "none") {
        return Some(format!("`token_endpoint_auth_method` is {}, not none", printable(method)));
    }
    let registered = document.get("redirect_uris").and_then(Value::as_array)?;
    let missing = client
        .registration
        .redirect_uris
        .iter()
        .find(|uri| !registered.iter().any(|item| item == **uri))?;
    Some(format!("`redirect_uris` lacks {missing}"))
}

/// The error of a JSON body, for a finding.
fn error_summary(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let member = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (error, description) = (member("error"), member("error_description"));
    if error.is_empty() {
        answer.summary()
    } else {
        printable(&format!("{error}: {description}"))
    }
}

/// The URL that the client opens in the browser.
fn authorize_url(client: &ClientProfile, discovered: &DiscoveredMetadata, identity: &Identity, scope: &str, mcp: &ExactUrl) -> String {
    let verifier = random::token();
    let challenge = CodeChallenge::of(&verifier);
    let resource = match (client.resource_parameter, &discovered.resource) {
        (ResourceParameter::FromMetadata, Some(resource)) => resource.identifier.as_str(),
        (ResourceParameter::OwnUrl, _) | (ResourceParameter::FromMetadata, None) => mcp.as_str(),
    };
    let mut parameters = vec![
        ("response_type", "code"),
        ("client_id", &identity.client_id),
        ("code_challenge", challenge.as_str()),
        ("code_challenge_method", "S256"),
        ("redirect_uri", identity.redirect_uri),
        ("state", STATE),
    ];
    if client.sends_scope && !scope.is_empty() {
        parameters.push(("scope", scope));
    }
    // Without resource metadata, clients send no `resource` (MCP 2025-03-26).
    if discovered.resource.is_some() {
        parameters.push(("resource", resource));
    }
    let separator = if discovered.server.authorize.contains('?') { '&' } else { '?' };
    format!("{}{separator}{}", discovered.server.authorize, encode_query(parameters))
}

async fn request_page(
    session: &mut Session<'_>,
    client: &'static ClientProfile,
    discovered: &DiscoveredMetadata,
    identity: &Identity,
    scope: &str,
) -> Result<Outcome, Stop> {
    let url = authorize_url(client, discovered, identity, scope, &session.mcp);
    let stop = |problem| Stop::new(Step::Authorize, &discovered.server.authorize, problem);
    let answer = session.ask(&Call::new(Method::GET, &url).with("accept", "text/html")).await;
    let answer = answer.map_err(|failure| stop(Problem::new(&rule::AUTHORIZE_ERROR, failure.why)))?;
    if answer.status.is_redirection() {
        return match error_in_redirect(&answer, identity.redirect_uri) {
            None => Ok(Outcome::SignIn),
            Some(problem) => Err(stop(problem)),
        };
    }
    match answer.status {
        status if status.is_success() => Ok(Outcome::SignIn),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Err(stop(Problem::new(&rule::AUTHORIZE_ERROR, answer.summary()))),
        // The error page tells the user that the server could not fetch or did not accept the document.
        _ if identity.is_document => Err(stop(Problem::new(
            &rule::AUTHORIZE_DOCUMENT,
            format!("{} for {}", answer.summary(), identity.client_id),
        ))),
        status if status.is_server_error() => Err(stop(Problem::new(&rule::AUTHORIZE_ERROR, answer.summary()))),
        _ => Err(stop(authorize_problem(&error_summary(&answer)))),
    }
}

/// The error in a redirect back to the client. Redirects elsewhere lead to a sign-in page.
fn error_in_redirect(answer: &Answer, redirect_uri: &str) -> Option<Problem> {
    let location = answer.header("location")?;
    let query = location.strip_prefix(redirect_uri)?.strip_prefix('?')?;
    let parameter = |wanted: &str| {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs.find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
    };
    let error = parameter("error")?;
    Some(authorize_problem(&printable(&format!(
        "{error}: {}",
        parameter("error_description").unwrap_or_default()
    ))))
}

/// The rule for an error code (RFC 6749 §4.1.2.1, RFC 8707 §2).
fn authorize_problem(shown: &str) -> Problem {
    let rule = match shown.split(':').next().unwrap_or_default() {
        "invalid_target" => &rule::AUTHORIZE_RESOURCE,
        "invalid_scope" => &rule::AUTHORIZE_SCOPE,
        _ => &rule::AUTHORIZE_REFUSED,
    };
    Problem::new(rule, shown)
}
