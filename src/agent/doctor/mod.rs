//! The doctor: does what each known client does at an MCP server, up to the sign-in page, and says what
//! the client would refuse. It sends no credential, and registers nothing unless it is told to.

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
use crate::agent::doctor::metadata::{Discovered, Discovery, Stop};
use crate::agent::doctor::opening::Opened;
use crate::agent::doctor::report::{ClientResult, Outcome, Report, Step};
use crate::agent::doctor::session::{Finished, Session};
use crate::base::time::UnixTime;
use crate::base::url::ExactUrl;
use crate::net::http_client::HttpClient;

/// What the server is meant to be. Without OAuth metadata, nothing else tells a key from a mistake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Intent {
    /// Whatever it seems to be.
    #[default]
    Any,
    /// Users sign in.
    OAuth,
    /// Callers bring a key. Metadata is not asked for: it may be that of another service of the host.
    Key,
}

/// What to examine.
#[derive(Clone, Debug)]
pub struct Examination<'a> {
    /// The MCP server.
    pub url: &'a ExactUrl,
    /// The clients that are played.
    pub clients: &'a [&'static ClientProfile],
    /// Which clients may be registered.
    pub registration: RegistrationLimit,
    /// What the server is meant to be.
    pub intent: Intent,
    /// Whether the server is a service of the gateway itself. Then what is in between is examined too.
    pub is_own: bool,
    /// The callbacks of the gateway that its upstream and identity provider know.
    pub callbacks: &'a [String],
    /// The time, for the comparison of clocks.
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
        let outcome = run.play(client).await;
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
    let Finished {
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
    /// What the first client found that found anything.
    discovered: Option<Discovered>,
    is_protected: bool,
}

impl Run<'_> {
    /// Plays one client, and notes where it stops.
    async fn play(&mut self, client: &'static ClientProfile) -> Outcome {
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
        let challenge = match opened.map_err(|problem| Stop::new(Step::Opening, &url, problem))? {
            Opened::Open => return Ok(Outcome::Open),
            Opened::Challenged(challenge) => challenge,
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

    /// Checks what concerns all clients.
    async fn check_server(&mut self, examination: &Examination<'_>) {
        let discovered = self.discovered.take();
        if self.is_protected {
            checks::check_protected(&mut self.session, discovered.as_ref(), examination.now).await;
        }
        if examination.is_own && self.session.is_reached() {
            own::check_own(&mut self.session, examination.callbacks, examination.now).await;
        }
        for client in examination.clients {
            checks::check_web_page(&mut self.session, client, discovered.as_ref()).await;
        }
    }
}
