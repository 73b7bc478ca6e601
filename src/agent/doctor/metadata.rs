//! Discovers the metadata of resource and authorization server at the URLs that a client tries.

use http::StatusCode;
use serde_json::Value;

use crate::agent::clients::profile::{ClientProfile, ResourceProbes, ServerProbes};
use crate::agent::doctor::documents::{self, Document, Problem, Resource, Server};
use crate::agent::doctor::report::{Outcome, Step};
use crate::agent::doctor::rule::{self, Rule};
use crate::agent::doctor::session::{Answer, Call, Session, printable};
use crate::base::url::ExactUrl;
use crate::oauth::www_authenticate::BearerChallenge;

/// The maximum number of redirects for one document.
const MAX_REDIRECTS: usize = 3;
/// The size above which a document is a finding: some clients store metadata in a small keychain entry.
const LARGE_DOCUMENT_BYTES: usize = 64 * 1024;

/// The metadata that a client has before it registers.
#[derive(Clone, Debug)]
pub(super) struct DiscoveredMetadata {
    /// The value of `resource`, if there is resource metadata.
    pub(super) resource: Option<Resource>,
    pub(super) server: Server,
    /// The URL of the authorization server's document.
    pub(super) server_url: String,
}

/// The step at which a client stops, and the reason.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    pub(super) step: Step,
    pub(super) at: String,
    pub(super) problem: Problem,
}

impl Stop {
    pub(super) fn new(step: Step, at: &str, problem: Problem) -> Self {
        let at = at.to_owned();
        Self { step, at, problem }
    }

    pub(super) fn outcome(&self) -> Outcome {
        Outcome::Refused(self.step, self.problem.rule)
    }
}

/// The result of discovery.
pub(super) enum Discovery {
    Found(Box<DiscoveredMetadata>),
    /// There is no metadata of any kind, so the server needs a key.
    NoOAuth,
}

/// Simulates the discovery of a client.
pub(super) async fn discover(
    session: &mut Session<'_>,
    client: &'static ClientProfile,
    challenge: &BearerChallenge,
) -> Result<Discovery, Stop> {
    let FoundResource { resource, failures } = find_resource(session, client, challenge).await?;
    for Stop { at, problem, .. } in &failures {
        session.note_for(client.name, problem.rule, at, problem.detail.clone());
    }
    let own_origin = session.mcp.origin();
    let issuer = match &resource {
        Some(resource) => resource.issuer.clone(),
        // MCP 2025-03-26 has no resource metadata: the issuer is the MCP server's origin.
        None => ExactUrl::parse(&own_origin).map_err(|error| {
            Stop::new(
                Step::ServerMetadata,
                &own_origin,
                Problem::new(&rule::AUTH_SERVER_URL, error.to_string()),
            )
        })?,
    };
    let found = find_server(session, client, &issuer, resource.is_none()).await?;
    match (found, &resource) {
        (Some(found), _) => Ok(Discovery::Found(Box::new(DiscoveredMetadata {
            resource,
            server: found.server,
            server_url: found.url,
        }))),
        (None, Some(_)) => {
            let problem = Problem::new(&rule::AUTH_SERVER_METADATA_MISSING, "status 404 at each URL");
            Err(Stop::new(Step::ServerMetadata, issuer.as_str(), problem))
        }
        (None, None) => match failures.into_iter().next() {
            Some(failure) => Err(failure),
            None => Ok(match default_server(session, client, &own_origin).await {
                Some(discovered) => Discovery::Found(Box::new(discovered)),
                None => Discovery::NoOAuth,
            }),
        },
    }
}

/// The default endpoints of MCP 2025-03-26, if the client uses them and the server registers clients
/// there. The probe is not JSON, so it registers nothing.
async fn default_server(session: &mut Session<'_>, client: &ClientProfile, origin: &str) -> Option<DiscoveredMetadata> {
    if !client.default_endpoints {
        return None;
    }
    let register = format!("{origin}/register");
    let answer = session.ask(&Call::broken_registration(&register)).await.ok()?;
    let body: Value = serde_json::from_slice(&answer.body).ok()?;
    let is_error = answer.status == StatusCode::BAD_REQUEST && body.get("error").is_some_and(Value::is_string);
    is_error.then(|| DiscoveredMetadata {
        resource: None,
        server: Server {
            authorize: format!("{origin}/authorize"),
            token: format!("{origin}/token"),
            register: Some(register.clone()),
            supports_documents: false,
            auth_methods: Vec::new(),
            scopes: Vec::new(),
        },
        server_url: register,
    })
}

/// The metadata of a resource, and the failures that the client tolerated.
struct FoundResource {
    resource: Option<Resource>,
    failures: Vec<Stop>,
}

async fn find_resource(
    session: &mut Session<'_>,
    client: &'static ClientProfile,
    challenge: &BearerChallenge,
) -> Result<FoundResource, Stop> {
    let step = Step::ResourceMetadata;
    let challenge_url = challenge.resource_metadata.as_deref();
    let mut failures = Vec::new();
    for url in resource_urls(client, &session.mcp, challenge_url) {
        match fetch(session, client, &url).await {
            Ok(Some(document)) => match documents::resource(&document, client, &session.mcp) {
                Ok(resource) => {
                    let resource = Some(resource);
                    return Ok(FoundResource { resource, failures });
                }
                Err(problem) if tolerates(client, problem.rule) => failures.push(Stop::new(step, &url, problem)),
                Err(problem) => return Err(Stop::new(step, &url, problem)),
            },
            Ok(None) if challenge_url == Some(url.as_str()) => {
                failures.push(Stop::new(step, &url, Problem::new(&rule::CHALLENGE_URL_DEAD, "no document")));
            }
            Ok(None) => {}
            Err(problem) if tolerates(client, problem.rule) => failures.push(Stop::new(step, &url, problem)),
            Err(problem) => return Err(Stop::new(step, &url, problem)),
        }
    }
    let resource = None;
    Ok(FoundResource { resource, failures })
}

/// Whether a client continues without the document, with the server's origin as the issuer.
fn tolerates(client: &ClientProfile, rule: &'static Rule) -> bool {
    let unreadable = [
        &rule::METADATA_NOT_JSON,
        &rule::METADATA_SERVER_ERROR,
        &rule::METADATA_NEEDS_AUTH,
        &rule::METADATA_REDIRECTS_AWAY,
        &rule::METADATA_COMPRESSED,
        &rule::METADATA_WRONG_TYPE,
        &rule::RESOURCE_MISSING,
        &rule::NO_AUTH_SERVERS,
    ];
    let other = [&rule::RESOURCE_MISMATCH, &rule::RESOURCE_NOT_EQUAL];
    (client.tolerates_bad_metadata && unreadable.contains(&rule)) || (client.tolerates_other_resource && other.contains(&rule))
}

fn resource_urls(client: &ClientProfile, mcp: &ExactUrl, challenge_url: Option<&str>) -> Vec<String> {
    let well_known = format!("{}/.well-known/oauth-protected-resource", mcp.origin());
    let path = mcp.url().path();
    let with_path = if path == "/" {
        well_known.clone()
    } else {
        format!("{well_known}{path}")
    };
    let challenge_url = challenge_url.map(str::to_owned);
    let urls = match (client.resource_probes, challenge_url) {
        (ResourceProbes::ChallengeOrWellKnown | ResourceProbes::RootFirst, Some(url)) => vec![url],
        (ResourceProbes::All, Some(url)) => vec![url, with_path, well_known],
        (ResourceProbes::ChallengeOrWellKnown | ResourceProbes::All, None) => vec![with_path, well_known],
        (ResourceProbes::RootFirst, None) => vec![well_known, with_path],
    };
    without_duplicates(urls)
}

/// The metadata of an authorization server, and its URL.
struct FoundServer {
    server: Server,
    url: String,
}

async fn find_server(
    session: &mut Session<'_>,
    client: &'static ClientProfile,
    issuer: &ExactUrl,
    is_guessed: bool,
) -> Result<Option<FoundServer>, Stop> {
    let step = Step::ServerMetadata;
    for url in server_urls(client, issuer) {
        let document = fetch(session, client, &url).await;
        let Some(document) = document.map_err(|problem| Stop::new(step, &url, auth_server_problem(problem)))? else {
            continue;
        };
        let server = documents::server(&document, client, issuer, is_guessed);
        let server = server.map_err(|problem| Stop::new(step, &url, problem))?;
        for Problem { rule, detail } in documents::server_warnings(&document) {
            session.note(rule, &url, detail);
        }
        return Ok(Some(FoundServer { server, url }));
    }
    Ok(None)
}

/// The problem at an authorization server. It has another rule than an unreachable MCP server, because the
/// exit code differs.
fn auth_server_problem(problem: Problem) -> Problem {
    if problem.rule == &rule::UNREACHABLE {
        Problem::new(&rule::METADATA_SERVER_ERROR, problem.detail)
    } else {
        problem
    }
}

fn server_urls(client: &ClientProfile, issuer: &ExactUrl) -> Vec<String> {
    let (origin, path) = (issuer.origin(), issuer.url().path().trim_end_matches('/'));
    let mut urls = vec![
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
        format!("{origin}/.well-known/openid-configuration{path}"),
        format!("{origin}{path}/.well-known/openid-configuration"),
    ];
    if client.server_probes == ServerProbes::Lenient {
        urls.push(format!("{origin}{path}/.well-known/oauth-authorization-server"));
        urls.push(format!("{origin}/.well-known/oauth-authorization-server"));
    }
    without_duplicates(urls)
}

fn without_duplicates(urls: Vec<String>) -> Vec<String> {
    let mut out: Vec<String> = Vec::with_capacity(urls.len());
    for url in urls {
        if !out.contains(&url) {
            out.push(url);
        }
    }
    out
}

/// Fetches a document as the client does. `None`: there is no document at the URL.
async fn fetch(session: &mut Session<'_>, client: &'static ClientProfile, url: &str) -> Result<Option<Document>, Problem> {
    let mut url = url.to_owned();
    for _ in 0..=MAX_REDIRECTS {
        let call = Call::get(&url)
            .with_some("mcp-protocol-version", client.metadata_revision)
            .with_some("user-agent", client.oauth_user_agent)
            .with_some("origin", client.origin);
        let answer = session
            .ask(&call)
            .await
            .map_err(|failure| Problem::new(failure.rule, failure.why))?;
        match answer.status {
            StatusCode::OK => return document(session, &url, &answer).map(Some),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(Problem::new(&rule::METADATA_NEEDS_AUTH, answer.summary())),
            StatusCode::TOO_MANY_REQUESTS => return Err(Problem::new(&rule::RATE_LIMITED, answer.summary())),
            status if status.is_server_error() => return Err(Problem::new(&rule::METADATA_SERVER_ERROR, answer.summary())),
            status if status.is_redirection() => url = redirect(session, &url, &answer)?,
            _ => return Ok(None),
        }
    }
    Err(Problem::new(
        &rule::METADATA_REDIRECTS_AWAY,
        format!("more than {MAX_REDIRECTS} redirects"),
    ))
}

fn redirect(session: &mut Session<'_>, url: &str, answer: &Answer) -> Result<String, Problem> {
    let location = answer.header("location").unwrap_or_default();
    let target = ExactUrl::parse(url).ok().and_then(|from| from.url().join(location).ok());
    let shown = format!("status {} to {}", answer.status.as_u16(), printable(location));
    let is_same_origin = |target: &url::Url| ExactUrl::parse(url).is_ok_and(|from| from.url().origin() == target.origin());
    match target.filter(is_same_origin) {
        Some(target) => {
            session.note(&rule::METADATA_REDIRECTS, url, shown);
            Ok(target.into())
        }
        None => Err(Problem::new(&rule::METADATA_REDIRECTS_AWAY, shown)),
    }
}

fn document(session: &mut Session<'_>, url: &str, answer: &Answer) -> Result<Document, Problem> {
    if answer.header("content-encoding").is_some_and(|encoding| encoding != "identity") {
        return Err(Problem::new(&rule::METADATA_COMPRESSED, answer.summary()));
    }
    let Ok(Value::Object(document)) = serde_json::from_slice(&answer.body) else {
        return Err(Problem::new(&rule::METADATA_NOT_JSON, answer.summary()));
    };
    let warnings: [(bool, &'static Rule); 2] = [
        (!is_json(&answer.media_type()), &rule::METADATA_CONTENT_TYPE),
        (answer.body.len() > LARGE_DOCUMENT_BYTES, &rule::METADATA_TOO_LARGE),
    ];
    for (_, rule) in warnings.into_iter().filter(|(is_wrong, _)| *is_wrong) {
        session.note(rule, url, format!("{}, {} bytes", answer.summary(), answer.body.len()));
    }
    Ok(document)
}

fn is_json(media_type: &str) -> bool {
    media_type == "application/json" || media_type.ends_with("+json")
}
