//! The upstream's authorization server: found once, kept, and looked for again when it was not there.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::base::ids::{Digest, Id};
use crate::base::record::{Record, states};
use crate::base::time::UnixTime;
use crate::base::url::Address;
use crate::gateway::rejection::Rejection;
use crate::gateway::{Gateway, Lane};
use crate::oauth::scope::Scopes;
use crate::store::{Handle, NotInserted};
use crate::upstream::discover::{Discovered, Wanted, discover};
use crate::upstream::exchange::SendFailure;
use crate::upstream::register::{Application, Registration, register};
use crate::upstream::target::{Credentials, Target};

/// How long what was found is believed, in seconds.
const BELIEVED: u64 = 3_600;

/// How long after a failed look nobody looks again without need, in seconds.
const RESTED: u64 = 30;

/// For how long the upstream must go on not knowing us before we register anew, in seconds.
const STRIKES: u64 = 300;

/// What is known of the upstream, and since when.
#[derive(Debug)]
pub struct Resolver {
    known: ArcSwapOption<(Arc<Target>, UnixTime)>,
    failed: ArcSwapOption<UnixTime>,
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
    pub async fn target(&self, lane: &Lane) -> Result<Arc<Target>, Rejection> {
        if let Some(known) = self.fresh() {
            return Ok(known);
        }
        let _turn = self.resolver.looking.acquire().await;
        if let Some(known) = self.fresh() {
            return Ok(known);
        }
        match self.find(lane).await {
            Ok(target) => {
                let target = Arc::new(target);
                self.resolver.known.store(Some(Arc::new((Arc::clone(&target), self.clock.now()))));
                Ok(target)
            }
            // Better what was true an hour ago than nothing; and nobody waits again for the same failure right away.
            Err(why) => {
                let Some(old) = self.resolver.known.load_full() else {
                    self.resolver.failed.store(Some(Arc::new(self.clock.now())));
                    return Err(why);
                };
                tracing::warn!(%why, "the upstream could not be looked up again; what was known is used");
                let again = self.clock.now().before(BELIEVED - RESTED);
                self.resolver.known.store(Some(Arc::new((Arc::clone(&old.0), again))));
                Ok(Arc::clone(&old.0))
            }
        }
    }

    /// Looks for the upstream where its finding would be nice to have: not again right after it failed, or whoever begins
    /// journeys could keep us looking.
    pub(crate) async fn look_if_quiet(&self, lane: &Lane) {
        let failed = self.resolver.failed.load_full();
        if failed.is_none_or(|at| self.clock.now().since(*at) >= RESTED) {
            let _ = self.target(lane).await;
        }
    }

    fn fresh(&self) -> Option<Arc<Target>> {
        let known = self.resolver.known.load_full()?;
        (self.clock.now().since(known.1) < BELIEVED).then(|| Arc::clone(&known.0))
    }

    async fn find(&self, lane: &Lane) -> Result<Target, Rejection> {
        let given = &self.service.authorization;
        let wanted = Wanted {
            mcp: self.service.mcp.clone(),
            issuer: given.issuer.clone(),
            endpoints: given.authorization_endpoint.clone().zip(given.token_endpoint.clone()),
            profile: None,
            allow_addresses: Arc::from([]),
        };
        let found = discover(&lane.client, &wanted).await.map_err(|why| {
            let tried: Vec<String> = why.attempts.iter().map(ToString::to_string).collect();
            tracing::error!(%why, tried = tried.join("; "), "the upstream's authorization server was not found");
            Rejection::UpstreamDown {
                why: why.to_string(),
                retry_after: 10,
            }
        })?;
        for attempt in &found.attempts {
            tracing::debug!(%attempt, "discovery");
        }
        self.pinned(&self.service.mcp, given, &found.server.issuer).await?;
        let credentials = match &given.client_id {
            Some(id) => Credentials {
                id: id.clone(),
                secret: given.client_secret.clone(),
                auth_method: None,
            },
            None => self.registered_at(lane, &found).await?.credentials(),
        };
        Ok(found.target(&credentials))
    }

    async fn registered_at(&self, lane: &Lane, found: &Discovered) -> Result<Registration, Rejection> {
        let handle = self.registration_at(&found.server.issuer);
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
        let callback = Address::parse(&self.site.upstream_callback()).map_err(|why| down(why.to_string()))?;
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

    fn registration_at(&self, issuer: &str) -> Handle<UpstreamClientRecord> {
        Handle::of(Id(Digest::of(&format!("{issuer}\n{}", self.site.upstream_callback())).short()))
    }

    /// Looks before anybody asks, so that the first user does not wait, and the operator sees at once what is wrong.
    pub async fn look_ahead(&self) {
        if let Ok(target) = self.target(&self.back_lane).await {
            tracing::info!(issuer = target.issuer, "the upstream's authorization server was found");
        }
    }

    /// The upstream said that it does not know us. Once may be a slip, and what it gave to us under the old name would be
    /// lost: only when it says so again and again over [`STRIKES`] seconds is the registration forgotten.
    async fn struck(&self, target: &Target) {
        let now = self.clock.now();
        let since = self.resolver.struck.load_full().map_or(now, |at| *at);
        if now.since(since) >= STRIKES {
            self.resolver.struck.store(None);
            self.forget_registration(&target.issuer).await;
        } else {
            self.resolver.struck.store(Some(Arc::new(since)));
        }
    }

    /// Tokens came: the upstream knows us.
    pub(crate) fn known_upstream(&self) {
        if self.resolver.struck.load().is_some() {
            self.resolver.struck.store(None);
        }
    }

    /// The upstream does not know us any more: forget who we were there, and register anew next time.
    pub(crate) async fn forget_registration(&self, issuer: &str) {
        if self.service.authorization.client_id.is_some() {
            return;
        }
        let _ = self.store.remove(&self.registration_at(issuer)).await;
        self.resolver.known.store(None);
    }
}

impl Gateway {
    /// A failure of the upstream's token endpoint, as a reason of ours.
    pub(crate) async fn failure(&self, target: &Target, why: SendFailure) -> Rejection {
        match why {
            SendFailure::Refused(refusal) if refusal.is_invalid_grant() => Rejection::UpstreamRefused(refusal.code),
            // Our own credentials are wrong there: nobody's grant is over for that.
            SendFailure::Refused(refusal) => {
                let why = format!("it refused us with '{}'", refusal.code);
                if refusal.code == "invalid_client" {
                    self.struck(target).await;
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
