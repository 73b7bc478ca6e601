//! The doctor: simulates each known client at an MCP server, up to the sign-in page, and reports what
//! the client would refuse. It sends no credential, and registers nothing unless a flag permits it.

mod authorize;
mod checks;
mod documents;
mod metadata;
mod opening;
mod own;
pub mod report;
pub mod rule;
mod session;

pub use authorize::RegistrationLimit;

use crate::agent::clients::profile::ClientProfile;
use crate::agent::doctor::authorize::Registrations;
use crate::agent::doctor::metadata::{DiscoveredMetadata, Discovery, Stop};
use crate::agent::doctor::opening::OpeningResult;
use crate::agent::doctor::report::{ClientResult, Outcome, Report, Step};
use crate::agent::doctor::session::{RunResult, Session};
use crate::base::time::UnixTime;
use crate::base::url::ExactUrl;
use crate::net::http_client::HttpClient;

/// The expected kind of access. Without OAuth metadata, nothing else shows whether the server needs a key
/// or is misconfigured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Intent {
    /// The kind that the server shows.
    #[default]
    Any,
    /// Users sign in.
    OAuth,
    /// Callers send a key. No metadata is requested: it may belong to another service of the host.
    Key,
}

/// The server to examine, and how to examine it.
#[derive(Clone, Debug)]
pub struct Examination<'a> {
    /// The MCP server.
    pub url: &'a ExactUrl,
    /// The clients to simulate.
    pub clients: &'a [&'static ClientProfile],
    /// Which clients may be registered.
    pub registration: RegistrationLimit,
    /// The expected kind of access.
    pub intent: Intent,
    /// Whether the server is a service of the gateway itself. If so, the network in between is examined too.
    pub is_own: bool,
    /// The callback URLs that are registered at the upstream and at the identity provider.
    pub callbacks: &'a [String],
    /// The current time, for the comparison of clocks.
    pub now: UnixTime,
}

/// Examines one MCP server.
pub async fn examine(http: &HttpClient, examination: &Examination<'_>) -> Report {
    let mut run = Run {
        session: Session::new(http, examination.url),
        registrations: Registrations::new(examination.registration),
        intent: examination.intent,
        discovered: None,
        is_protected: false,
    };
    let mut clients = Vec::with_capacity(examination.clients.len());
    for client in examination.clients {
        let outcome = run.simulate(client).await;
        let is_unreachable = matches!(outcome, Outcome::Refused(Step::Opening, rule) if rule == &rule::UNREACHABLE);
        clients.push(ClientResult {
            client: client.name,
            outcome,
        });
        if is_unreachable && !run.session.is_reached() {
            break;
        }
    }
    run.check_server(examination).await;
    let RunResult {
        findings,
        requests,
        is_reached,
        is_local,
    } = run.session.finish();
    Report {
        url: examination.url.without_query().to_owned(),
        clients,
        findings,
        requests,
        registered: run.registrations.names,
        is_reached,
        is_local,
    }
}

struct Run<'a> {
    session: Session<'a>,
    registrations: Registrations,
    intent: Intent,
    /// The metadata that the first successful client found.
    discovered: Option<DiscoveredMetadata>,
    is_protected: bool,
}

impl Run<'_> {
    /// Simulates one client, and notes the step at which it stops.
    async fn simulate(&mut self, client: &'static ClientProfile) -> Outcome {
        match self.steps(client).await {
            Ok(outcome) => outcome,
            Err(stop) => {
                let outcome = stop.outcome();
                self.session.note_for(client.name, stop.problem.rule, &stop.at, stop.problem.detail);
                outcome
            }
        }
    }

    async fn steps(&mut self, client: &'static ClientProfile) -> Result<Outcome, Stop> {
        let url = self.session.mcp.to_string();
        let opened = opening::open(&mut self.session, client).await;
        if self.intent == Intent::Key && opened.as_ref().is_err_and(opening::needs_key) {
            return Ok(Outcome::NeedsKey);
        }
        let challenge = match opened.map_err(|problem| Stop::new(Step::Opening, &url, problem))? {
            OpeningResult::Open => return Ok(Outcome::Open),
            OpeningResult::Challenged(challenge) => challenge,
        };
        self.is_protected = true;
        if self.intent == Intent::Key {
            return Ok(Outcome::NeedsKey);
        }
        let discovered = match metadata::discover(&mut self.session, client, &challenge).await? {
            Discovery::Found(discovered) => *discovered,
            Discovery::NoOAuth => return self.no_oauth(&url),
        };
        self.discovered.get_or_insert_with(|| discovered.clone());
        authorize::authorize(&mut self.session, client, &challenge, &discovered, &mut self.registrations).await
    }

    fn no_oauth(&self, url: &str) -> Result<Outcome, Stop> {
        match self.intent {
            Intent::Any | Intent::Key => Ok(Outcome::NeedsKey),
            Intent::OAuth => {
                let problem = documents::Problem::new(&rule::RESOURCE_METADATA_MISSING, "status 404 at each URL");
                Err(Stop::new(Step::ResourceMetadata, url, problem))
            }
        }
    }

    /// Checks that apply to all clients.
    async fn check_server(&mut self, examination: &Examination<'_>) {
        let discovered = self.discovered.take();
        if self.is_protected {
            checks::check_protected_server(&mut self.session, discovered.as_ref(), examination.now).await;
        }
        if examination.is_own && self.session.is_reached() {
            own::check_own_service(&mut self.session, examination.callbacks, examination.now).await;
        }
        for client in examination.clients {
            checks::check_web_page(&mut self.session, client, discovered.as_ref()).await;
        }
    }
}
