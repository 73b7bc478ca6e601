//! The upstream's authorization server: found once, kept, and looked for again when it was not there.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::base::ids::{Digest, Id};
use crate::base::record::{Record, states};
use crate::base::time::{Clock, UnixTime};
use crate::base::url::Address;
use crate::gateway::live::Running;
use crate::gateway::rejection::Rejection;
use crate::gateway::{Gateway, Lane};
use crate::oauth::scope::Scopes;
use crate::service::oauth::Authorization;
use crate::service::{Service, Upstream};
use crate::store::{Handle, NotInserted};
use crate::upstream::discover::{Discovered, Wanted, discover};
use crate::upstream::exchange::SendFailure;
use crate::upstream::register::{Application, Registration, register};
use crate::upstream::target::{Credentials, Target};

/// How long what was found is believed, in seconds.
const BELIEVED: u64 = 3_600;

/// How long after a failed look nobody looks again without need, in seconds.
const RESTED: u64 = 30;

/// How long after a failed look everybody is told the same, in seconds: an outage is no reason for every sign-in to look.
const TOLD: u64 = 5;

/// For how long the upstream must go on not knowing us before we register anew, in seconds.
const STRIKES: u64 = 300;

/// What is known of the upstream, and since when.
#[derive(Debug)]
pub struct Resolver {
    known: ArcSwapOption<(Arc<Target>, UnixTime)>,
    failed: ArcSwapOption<(Rejection, UnixTime)>,
    struck: ArcSwapOption<UnixTime>,
    /// One at a time, so that we do not register twice.
    looking: Semaphore,
}

impl Default for Resolver {
    fn default() -> Self {
        Self {
            known: ArcSwapOption::empty(),
            failed: ArcSwapOption::empty(),
            struck: ArcSwapOption::empty(),
            looking: Semaphore::new(1),
        }
    }
}

impl Resolver {
    /// The scopes that the upstream says it needs, as far as it is known.
    pub fn scopes(&self) -> Scopes {
        self.known
            .load()
            .as_ref()
            .map(|known| Scopes::parse(&known.0.scopes_known.join(" ")))
            .unwrap_or_default()
    }

    /// Tokens came: the upstream knows us.
    pub(crate) fn is_known_there(&self) {
        if self.struck.load().is_some() {
            self.struck.store(None);
        }
    }

    fn fresh(&self, clock: &Clock) -> Option<Arc<Target>> {
        let known = self.known.load_full()?;
        (clock.now().since(known.1) < BELIEVED).then(|| Arc::clone(&known.0))
    }

    /// Why the upstream was not found, if that was just now. What else went wrong, such as in the store, may be over.
    fn not_found(&self, clock: &Clock) -> Option<Rejection> {
        let failed = self.failed.load_full()?;
        let told = matches!(failed.0, Rejection::UpstreamDown { .. }) && clock.now().since(failed.1) < TOLD;
        (told && self.known.load().is_none()).then(|| failed.0.clone())
    }
}

/// What is configured of the upstream's authorization server, where there is one.
fn authorization(running: &Running) -> Option<&Authorization> {
    match &running.service.upstream {
        Upstream::OAuth(given) => Some(given),
        Upstream::Paste(_) | Upstream::Static(_) | Upstream::Identity(_) | Upstream::None => None,
    }
}

/// Our registration at an upstream (RFC 7591), kept across restarts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    registration: Registration,
}

/// See [`Kept`].
#[derive(Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
pub enum UpstreamClientRecord {
    /// See [`Kept`].
    Kept(Kept),
}

states!(UpstreamClientRecord: Kept);

impl Record for UpstreamClientRecord {
    const SPACE: &'static str = "upstream-client";

    fn keep_until(&self) -> UnixTime {
        match self {
            Self::Kept(kept) => kept.registration.expires.unwrap_or(UnixTime::NEVER),
        }
    }
}

impl Gateway {
    /// The upstream as an OAuth client sees it: endpoints, and who we are there.
    pub async fn target(&self, lane: &Lane, running: &Running) -> Result<Arc<Target>, Rejection> {
        let resolver = &running.resolver;
        if let Some(known) = resolver.fresh(&self.clock) {
            return Ok(known);
        }
        let _turn = resolver.looking.acquire().await;
        if let Some(known) = resolver.fresh(&self.clock) {
            return Ok(known);
        }
        if let Some(why) = resolver.not_found(&self.clock) {
            return Err(why);
        }
        match self.find(lane, running).await {
            Ok(target) => {
                let target = Arc::new(target);
                resolver.known.store(Some(Arc::new((Arc::clone(&target), self.clock.now()))));
                Ok(target)
            }
            // Better what was true an hour ago than nothing; and nobody waits again for the same failure right away.
            Err(why) => {
                let Some(old) = resolver.known.load_full() else {
                    resolver.failed.store(Some(Arc::new((why.clone(), self.clock.now()))));
                    return Err(why);
                };
                tracing::warn!(service = running.service.name, %why, "the upstream could not be looked up again; what was known is used");
                let again = self.clock.now().before(BELIEVED - RESTED);
                resolver.known.store(Some(Arc::new((Arc::clone(&old.0), again))));
                Ok(Arc::clone(&old.0))
            }
        }
    }

    /// Looks for the upstream where its finding would be nice to have: not again right after it failed, or whoever begins
    /// journeys could keep us looking.
    pub(crate) async fn look_if_quiet(&self, lane: &Lane, running: &Running) {
        let failed = running.resolver.failed.load_full();
        if authorization(running).is_some() && failed.is_none_or(|failed| self.clock.now().since(failed.1) >= RESTED) {
            let _ = self.target(lane, running).await;
        }
    }

    async fn find(&self, lane: &Lane, running: &Running) -> Result<Target, Rejection> {
        let service = &running.service;
        let given = authorization(running).ok_or(Rejection::Unknown("this service has no authorization server of its own"))?;
        let wanted = Wanted {
            mcp: service.mcp.clone(),
            issuer: given.issuer.clone(),
            endpoints: given.authorization_endpoint.clone().zip(given.token_endpoint.clone()),
            profile: given.profile,
            allow_addresses: given.allow_addresses.as_slice().into(),
        };
        let found = discover(&lane.client, &wanted).await.map_err(|why| {
            let tried: Vec<String> = why.attempts.iter().map(ToString::to_string).collect();
            tracing::error!(service = service.name, %why, tried = tried.join("; "), "the upstream's authorization server was not found");
            Rejection::UpstreamDown {
                why: why.to_string(),
                retry_after: 10,
            }
        })?;
        for attempt in &found.attempts {
            tracing::debug!(%attempt, "discovery");
        }
        self.pinned(&service.mcp, given, &found.server.issuer).await?;
        let credentials = match &given.client_id {
            Some(id) => Credentials {
                id: id.clone(),
                secret: given.client_secret.clone(),
                auth_method: None,
            },
            None => self.registered_at(lane, service, &found).await?.credentials(),
        };
        Ok(Target {
            extra_authorize: given.extra_authorize.clone(),
            ..found.target(&credentials)
        })
    }

    async fn registered_at(&self, lane: &Lane, service: &Service, found: &Discovered) -> Result<Registration, Rejection> {
        let handle = self.registration_at(service, &found.server.issuer);
        if let Some(UpstreamClientRecord::Kept(kept)) = self.store.read(&handle).await? {
            if kept.registration.is_live(self.clock.now()) {
                return Ok(kept.registration);
            }
            self.store.remove(&handle).await?;
        }
        let down = |why: String| {
            tracing::error!(why, "registering at the upstream failed");
            Rejection::UpstreamDown { why, retry_after: 10 }
        };
        let callback = Address::parse(&self.site.upstream_callback(service)).map_err(|why| down(why.to_string()))?;
        let application = Application {
            name: "MCP OAuth Gateway",
            redirect_uri: &callback,
            scopes: &found.scopes_known,
        };
        let registration = register(&lane.client, &found.server, &application, &found.addresses)
            .await
            .map_err(|why| down(why.to_string()))?;
        tracing::info!(client_id = registration.client_id, "registered at the upstream");
        match self
            .store
            .insert(
                handle.id(),
                Kept {
                    registration: registration.clone(),
                },
            )
            .await
        {
            Ok(_) => Ok(registration),
            // Another instance was first: its registration is ours.
            Err(NotInserted::AlreadyThere) => match self.store.read(&handle).await? {
                Some(UpstreamClientRecord::Kept(kept)) => Ok(kept.registration),
                None => Ok(registration),
            },
            Err(NotInserted::Store(error)) => Err(error.into()),
        }
    }

    fn registration_at(&self, service: &Service, issuer: &str) -> Handle<UpstreamClientRecord> {
        let callback = self.site.upstream_callback(service);
        Handle::of(Id(Digest::of(&format!("{issuer}\n{callback}")).short()))
    }

    /// Looks before anybody asks, so that the first user does not wait, and the operator sees at once what is wrong.
    pub async fn look_ahead(&self) {
        for running in self.live().idps() {
            if self.provider(&self.back_lane, running).await.is_ok() {
                tracing::info!(idp = running.idp.name, "the identity provider was found");
            }
        }
        for running in self.live().services() {
            if authorization(running).is_none() {
                continue;
            }
            if let Ok(target) = self.target(&self.back_lane, running).await {
                let service = &running.service.name;
                tracing::info!(service, issuer = target.issuer, "the upstream's authorization server was found");
            }
        }
    }

    /// The upstream said that it does not know us. Once may be a slip, and what it gave to us under the old name would be
    /// lost: only when it says so again and again over [`STRIKES`] seconds is the registration forgotten.
    async fn struck(&self, running: &Running, target: &Target) {
        let (now, struck) = (self.clock.now(), &running.resolver.struck);
        let since = struck.load_full().map_or(now, |at| *at);
        if now.since(since) >= STRIKES {
            struck.store(None);
            self.forget_registration(running, &target.issuer).await;
        } else {
            struck.store(Some(Arc::new(since)));
        }
    }

    /// The upstream does not know us any more: forget who we were there, and register anew next time.
    async fn forget_registration(&self, running: &Running, issuer: &str) {
        if authorization(running).is_some_and(|given| given.client_id.is_some()) {
            return;
        }
        let _ = self.store.remove(&self.registration_at(&running.service, issuer)).await;
        running.resolver.known.store(None);
    }
}

impl Gateway {
    /// A failure of the upstream's token endpoint, as a reason of ours.
    pub(crate) async fn failure(&self, running: &Running, target: &Target, why: SendFailure) -> Rejection {
        match why {
            SendFailure::Refused(refusal) if refusal.is_invalid_grant() => Rejection::UpstreamRefused(refusal.code),
            // Our own credentials are wrong there: nobody's grant is over for that.
            SendFailure::Refused(refusal) => {
                let why = format!("it refused us with '{}'", refusal.code);
                if refusal.code == "invalid_client" {
                    self.struck(running, target).await;
                }
                Rejection::UpstreamDown { why, retry_after: 30 }
            }
            SendFailure::NeverSent(why) | SendFailure::Unknown(why) => Rejection::UpstreamDown { why, retry_after: 5 },
            SendFailure::Throttled { retry_after } => Rejection::UpstreamDown {
                why: "it is throttling".into(),
                retry_after: retry_after.unwrap_or(10),
            },
        }
    }
}
