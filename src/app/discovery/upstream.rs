//! The upstream's authorization server: found once, kept, and looked for again when it was not there.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::app::error::Rejection;
use crate::app::runtime_config::ActiveService;
use crate::app::{Gateway, Lane};
use crate::base::ids::{Digest, Id};
use crate::base::record::{Record, states};
use crate::base::time::{Clock, UnixTime};
use crate::base::url::ExactUrl;
use crate::oauth::scope::Scopes;
use crate::service::auth_server_config::AuthServerConfig;
use crate::service::{Service, Upstream};
use crate::store::{Handle, InsertError};
use crate::upstream::auth_server::{AuthServer, UpstreamClientCredentials};
use crate::upstream::discovery_result::{DiscoveredServer, DiscoveryInput, discover};
use crate::upstream::registration::{OwnClientMetadata, UpstreamRegistration, register};
use crate::upstream::token_endpoint::TokenEndpointError;

/// How long what was found is believed, in seconds.
const CACHE_TTL_SECONDS: u64 = 3_600;

/// How long after a failed look nobody looks again without need, in seconds.
const RETRY_PAUSE_SECONDS: u64 = 30;

/// How long after a failed look everybody is told the same, in seconds: an outage is no reason for every sign-in to look.
const NEGATIVE_TTL_SECONDS: u64 = 5;

/// For how long the upstream must go on not knowing us before we register anew, in seconds.
const UNKNOWN_CLIENT_SECONDS: u64 = 300;

/// What is known of the upstream, and since when.
#[derive(Debug)]
pub struct UpstreamCache {
    known: ArcSwapOption<(Arc<AuthServer>, UnixTime)>,
    failed: ArcSwapOption<(Rejection, UnixTime)>,
    struck: ArcSwapOption<UnixTime>,
    /// One at a time, so that we do not register twice.
    looking: Semaphore,
}

impl Default for UpstreamCache {
    fn default() -> Self {
        Self {
            known: ArcSwapOption::empty(),
            failed: ArcSwapOption::empty(),
            struck: ArcSwapOption::empty(),
            looking: Semaphore::new(1),
        }
    }
}

impl UpstreamCache {
    /// The scopes that the upstream says it needs, as far as it is known.
    pub fn scopes(&self) -> Scopes {
        self.known
            .load()
            .as_ref()
            .map(|known| Scopes::parse(&known.0.scopes_known.join(" ")))
            .unwrap_or_default()
    }

    /// Tokens came: the upstream knows us.
    pub(crate) fn clear_unknown_client(&self) {
        if self.struck.load().is_some() {
            self.struck.store(None);
        }
    }

    fn fresh(&self, clock: &Clock) -> Option<Arc<AuthServer>> {
        let known = self.known.load_full()?;
        (clock.now().seconds_since(known.1) < CACHE_TTL_SECONDS).then(|| Arc::clone(&known.0))
    }

    /// Why the upstream was not found, if that was just now. What else went wrong, such as in the store, may be over.
    fn not_found(&self, clock: &Clock) -> Option<Rejection> {
        let failed = self.failed.load_full()?;
        let told = matches!(failed.0, Rejection::UpstreamDown { .. }) && clock.now().seconds_since(failed.1) < NEGATIVE_TTL_SECONDS;
        (told && self.known.load().is_none()).then(|| failed.0.clone())
    }
}

/// What is configured of the upstream's authorization server, where there is one.
fn authorization(running: &ActiveService) -> Option<&AuthServerConfig> {
    match &running.service.upstream {
        Upstream::OAuth(given) => Some(given),
        Upstream::Paste(_) | Upstream::Static(_) | Upstream::Identity(_) | Upstream::None => None,
    }
}

/// Our registration at an upstream (RFC 7591), kept across restarts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OwnRegistration {
    registration: UpstreamRegistration,
}

/// See [`OwnRegistration`].
#[derive(Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
pub enum UpstreamClientRecord {
    /// See [`OwnRegistration`].
    #[serde(rename = "Kept")]
    OwnRegistration(OwnRegistration),
}

states!(UpstreamClientRecord: OwnRegistration);

impl Record for UpstreamClientRecord {
    const KIND: &'static str = "upstream-client";

    fn expires_at(&self) -> UnixTime {
        match self {
            Self::OwnRegistration(kept) => kept.registration.expires.unwrap_or(UnixTime::NEVER),
        }
    }
}

impl Gateway {
    /// The upstream as an OAuth client sees it: endpoints, and who we are there.
    pub async fn auth_server(&self, lane: &Lane, running: &ActiveService) -> Result<Arc<AuthServer>, Rejection> {
        let resolver = &running.discovery;
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
        match self.discover(lane, running).await {
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
                let again = self.clock.now().minus_seconds(CACHE_TTL_SECONDS - RETRY_PAUSE_SECONDS);
                resolver.known.store(Some(Arc::new((Arc::clone(&old.0), again))));
                Ok(Arc::clone(&old.0))
            }
        }
    }

    /// Looks for the upstream where its finding would be nice to have: not again right after it failed, or whoever begins
    /// journeys could keep us looking.
    pub(crate) async fn discover_if_due(&self, lane: &Lane, running: &ActiveService) {
        let failed = running.discovery.failed.load_full();
        if authorization(running).is_some() && failed.is_none_or(|failed| self.clock.now().seconds_since(failed.1) >= RETRY_PAUSE_SECONDS) {
            let _ = self.auth_server(lane, running).await;
        }
    }

    async fn discover(&self, lane: &Lane, running: &ActiveService) -> Result<AuthServer, Rejection> {
        let service = &running.service;
        let given = authorization(running).ok_or(Rejection::Unknown("this service has no authorization server of its own"))?;
        let wanted = DiscoveryInput {
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
        self.ensure_issuer_bound(&service.mcp, given, &found.server.issuer).await?;
        let credentials = match &given.client_id {
            Some(id) => UpstreamClientCredentials {
                id: id.clone(),
                secret: given.client_secret.clone(),
                auth_method: None,
            },
            None => self.find_or_register(lane, service, &found).await?.credentials(),
        };
        Ok(AuthServer {
            extra_authorize: given.extra_authorize.clone(),
            ..found.target(&credentials)
        })
    }

    async fn find_or_register(&self, lane: &Lane, service: &Service, found: &DiscoveredServer) -> Result<UpstreamRegistration, Rejection> {
        let handle = self.registration_at(service, &found.server.issuer);
        if let Some(UpstreamClientRecord::OwnRegistration(kept)) = self.store.read(&handle).await? {
            if kept.registration.is_valid(self.clock.now()) {
                return Ok(kept.registration);
            }
            self.store.remove(&handle).await?;
        }
        let down = |why: String| {
            tracing::error!(why, "registering at the upstream failed");
            Rejection::UpstreamDown { why, retry_after: 10 }
        };
        let callback = ExactUrl::parse(&self.site.upstream_callback(service)).map_err(|why| down(why.to_string()))?;
        let application = OwnClientMetadata {
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
                OwnRegistration {
                    registration: registration.clone(),
                },
            )
            .await
        {
            Ok(_) => Ok(registration),
            // Another instance was first: its registration is ours.
            Err(InsertError::AlreadyExists) => match self.store.read(&handle).await? {
                Some(UpstreamClientRecord::OwnRegistration(kept)) => Ok(kept.registration),
                None => Ok(registration),
            },
            Err(InsertError::Store(error)) => Err(error.into()),
        }
    }

    fn registration_at(&self, service: &Service, issuer: &str) -> Handle<UpstreamClientRecord> {
        let callback = self.site.upstream_callback(service);
        Handle::new(Id(Digest::new(&format!("{issuer}\n{callback}")).truncated()))
    }

    /// Looks before anybody asks, so that the first user does not wait, and the operator sees at once what is wrong.
    pub async fn prefetch(&self) {
        for running in self.live().idps() {
            if self.provider(&self.back_lane, running).await.is_ok() {
                tracing::info!(idp = running.idp.name, "the identity provider was found");
            }
        }
        for running in self.live().services() {
            if authorization(running).is_none() {
                continue;
            }
            if let Ok(target) = self.auth_server(&self.back_lane, running).await {
                let service = &running.service.name;
                tracing::info!(service, issuer = target.issuer, "the upstream's authorization server was found");
            }
        }
    }

    /// The upstream said that it does not know us. Once may be a slip, and what it gave to us under the old name would be
    /// lost: only when it says so again and again over [`UNKNOWN_CLIENT_SECONDS`] seconds is the registration forgotten.
    async fn note_unknown_client(&self, running: &ActiveService, target: &AuthServer) {
        let (now, struck) = (self.clock.now(), &running.discovery.struck);
        let since = struck.load_full().map_or(now, |at| *at);
        if now.seconds_since(since) >= UNKNOWN_CLIENT_SECONDS {
            struck.store(None);
            self.forget_registration(running, &target.issuer).await;
        } else {
            struck.store(Some(Arc::new(since)));
        }
    }

    /// The upstream does not know us any more: forget who we were there, and register anew next time.
    async fn forget_registration(&self, running: &ActiveService, issuer: &str) {
        if authorization(running).is_some_and(|given| given.client_id.is_some()) {
            return;
        }
        let _ = self.store.remove(&self.registration_at(&running.service, issuer)).await;
        running.discovery.known.store(None);
    }
}

impl Gateway {
    /// A failure of the upstream's token endpoint, as a reason of ours.
    pub(crate) async fn map_token_error(&self, running: &ActiveService, target: &AuthServer, why: TokenEndpointError) -> Rejection {
        match why {
            TokenEndpointError::Refused(refusal) if refusal.is_invalid_grant() => Rejection::UpstreamRefused(refusal.code),
            // Our own credentials are wrong there: nobody's grant is over for that.
            TokenEndpointError::Refused(refusal) => {
                let why = format!("it refused us with '{}'", refusal.code);
                if refusal.code == "invalid_client" {
                    self.note_unknown_client(running, target).await;
                }
                Rejection::UpstreamDown { why, retry_after: 30 }
            }
            TokenEndpointError::NeverSent(why) | TokenEndpointError::Unknown(why) => Rejection::UpstreamDown { why, retry_after: 5 },
            TokenEndpointError::Throttled { retry_after } => Rejection::UpstreamDown {
                why: "it is throttling".into(),
                retry_after: retry_after.unwrap_or(10),
            },
        }
    }
}
