//! The configuration that a reload swaps as one value. A request loads it once.

use std::collections::HashMap;
use std::sync::Arc;

use crate::app::assertion_cache::AssertionCache;
use crate::app::idp_cache::ActiveIdp;
use crate::app::service_token_slot::ServiceTokenSlot;
use crate::app::upstream_cache::UpstreamCache;
use crate::base::time::UnixTime;
use crate::base::url::ExactUrl;
use crate::flow::refresh_rules::RefreshRules;
use crate::oauth::scope::Scopes;
use crate::service::auth_server_config::AuthServerConfig;
use crate::service::client::{ConfiguredClient, PinnedDocument};
use crate::service::config::Config;
use crate::service::{AfterConsent, Service, Upstream};
use crate::token::lifetime::Ttl;
use crate::upstream::idp::Idp;

/// A service, and what was discovered of its upstream.
#[derive(Debug)]
pub struct ActiveService {
    /// The service as configured.
    pub service: Service,
    pub(crate) discovery: Arc<UpstreamCache>,
    /// The token of a service that has one itself.
    pub(crate) service_token: Arc<ServiceTokenSlot>,
    pub(crate) assertions: AssertionCache,
}

/// The sign-in at the upstream after consent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamLogin {
    /// At this host of the authorization endpoint, with the port if it is not the scheme's default.
    At(String),
    /// At an authorization endpoint that is not known yet. This is the service's display name.
    For(String),
}

impl ActiveService {
    /// The sign-in at the upstream after consent; `None` if there is none.
    /// The authorization endpoint is the discovered one, else the configured one, else the profile's.
    pub fn upstream_login(&self) -> Option<UpstreamLogin> {
        let config = self.auth_server_config().filter(|_| self.has_upstream_leg())?;
        let discovered = self.discovery.server.latest();
        let endpoint = match &discovered {
            Some(server) => Some(server.authorization_endpoint.clone()),
            None => config.expected_authorization_endpoint(&self.service.mcp),
        };
        Some(match endpoint {
            Some(endpoint) => UpstreamLogin::At(endpoint.host_and_port()),
            None => UpstreamLogin::For(self.service.display_name()),
        })
    }

    /// `host[:port]` of the authorization server that the upstream named before it named another one
    /// lately, without the operator's doing.
    pub fn previous_auth_server(&self, now: UnixTime) -> Option<String> {
        let issuer = self.discovery.previous_issuer(now)?;
        Some(ExactUrl::parse(&issuer).map_or(issuer, |url| url.host_and_port()))
    }

    /// The configuration of the upstream's authorization server, if it has one.
    pub(in crate::app) fn auth_server_config(&self) -> Option<&AuthServerConfig> {
        match &self.service.upstream {
            Upstream::OAuth(config) => Some(config),
            Upstream::Stored(settings) => Some(&settings.auth_server),
            Upstream::ServiceToken(settings) => Some(&settings.auth_server),
            Upstream::Paste(_) | Upstream::Static(_) | Upstream::Identity(_) | Upstream::None => None,
        }
    }

    /// Whether the service has one credential for all its callers, which the operator obtained.
    pub fn uses_stored_credential(&self) -> bool {
        matches!(self.service.upstream, Upstream::Stored(_))
    }

    /// Whether the gateway obtains a token for the service itself.
    pub(in crate::app) fn has_service_token(&self) -> bool {
        matches!(self.service.upstream, Upstream::ServiceToken(_))
    }

    /// Whether the browser goes to the upstream's authorization server after consent.
    pub(in crate::app) fn has_upstream_leg(&self) -> bool {
        self.service.upstream.after_consent() == AfterConsent::Upstream
    }

    /// The scopes for a client that asks for none: the configured ones, or those that the upstream
    /// names. Without either, the required scopes.
    pub fn scopes_offered(&self) -> Scopes {
        if self.uses_stored_credential() || self.has_service_token() {
            // `scopes` are those of the credential of the service, which no client gets.
            return self.service.required_scopes.clone();
        }
        if !self.service.scopes.is_empty() {
            return self.service.scopes.clone();
        }
        let discovered = self.discovery.scopes().without("offline_access");
        if discovered.is_empty() && self.service.upstream.after_consent() == AfterConsent::Nowhere {
            return self.service.required_scopes.clone();
        }
        discovered
    }

    /// The scopes that a client may ask for, always with the required ones. Those of the upstream's
    /// challenges are among them.
    pub fn scopes_askable(&self) -> Scopes {
        let service = &self.service;
        let askable = self
            .scopes_offered()
            .union(&service.optional_scopes)
            .union(&service.required_scopes);
        // Where the operator named no scopes, the upstream decides.
        if service.scopes.is_empty() && self.has_upstream_leg() {
            askable.union(&self.discovery.challenged_scopes())
        } else {
            askable
        }
    }

    /// The scopes of a challenge: those that a token must have, otherwise those that are offered.
    pub fn scopes_to_ask(&self) -> Scopes {
        if self.service.required_scopes.is_empty() {
            self.scopes_offered().without("offline_access")
        } else {
            self.service.required_scopes.clone()
        }
    }

    pub(crate) fn refresh_rules(&self) -> RefreshRules {
        RefreshRules {
            reuse_window: self.service.reuse_window,
            parallel_limit: self.service.parallel_limit,
            ttl: self.service.ttl,
            mode: self.service.mode,
            is_client_side: false,
        }
    }
}

/// The configuration in use, with what was learned of its upstreams and identity providers.
#[derive(Debug)]
pub struct RuntimeConfig {
    /// The configuration.
    pub configured: Config,
    services: Vec<Arc<ActiveService>>,
    /// The servers of the management API, by name. No service of the file has such a name.
    servers: HashMap<String, Arc<ActiveService>>,
    idps: Vec<Arc<ActiveIdp>>,
}

impl RuntimeConfig {
    /// Takes over what `previous` learned of each upstream and provider whose configuration did not
    /// change.
    pub fn new(configured: Config, previous: Option<&Self>) -> Self {
        let active_service = |service: &Service| {
            let old = previous.and_then(|previous| previous.find(&service.name));
            let unchanged = old.filter(|old| old.service.mcp == service.mcp && old.service.upstream == service.upstream);
            Arc::new(ActiveService {
                service: Service {
                    digest: service.token_service_digest(),
                    ..service.clone()
                },
                discovery: unchanged.map_or_else(Arc::default, |old| Arc::clone(&old.discovery)),
                service_token: unchanged
                    .filter(|old| old.service.scopes == service.scopes)
                    .map_or_else(Arc::default, |old| Arc::clone(&old.service_token)),
                assertions: AssertionCache::default(),
            })
        };
        let active_idp = |idp: &Idp| {
            let old = previous.and_then(|previous| previous.idp(&idp.name));
            Arc::new(ActiveIdp::new(idp.clone(), old.map(|old| &**old)))
        };
        Self {
            services: configured.services.iter().map(active_service).collect(),
            servers: previous.map(|previous| previous.servers.clone()).unwrap_or_default(),
            idps: configured.idps.iter().map(active_idp).collect(),
            configured,
        }
    }

    /// The same configuration with these servers of the management API.
    pub(in crate::app) fn with_servers(&self, services: HashMap<String, Service>) -> Self {
        let active = services.into_iter().map(|(name, service)| (name, active_server(service)));
        Self {
            servers: active.collect(),
            ..self.copied()
        }
    }

    /// The same configuration with this server of the management API; `None` takes it out.
    pub(in crate::app) fn with_server(&self, name: &str, service: Option<Service>) -> Self {
        let mut copy = self.copied();
        match service {
            Some(service) => copy.servers.insert(name.to_owned(), active_server(service)),
            None => copy.servers.remove(name),
        };
        copy
    }

    fn copied(&self) -> Self {
        Self {
            configured: self.configured.clone(),
            services: self.services.clone(),
            servers: self.servers.clone(),
            idps: self.idps.clone(),
        }
    }

    /// The service of this name.
    pub fn find(&self, name: &str) -> Option<&Arc<ActiveService>> {
        let configured = self.services.iter().find(|active| active.service.name == name);
        configured.or_else(|| self.servers.get(name))
    }

    /// All services that the gateway does not proxy, of the file and of the management API.
    pub(in crate::app) fn externals(&self) -> impl Iterator<Item = &Arc<ActiveService>> {
        let configured = self.services.iter().filter(|active| active.service.is_external());
        configured.chain(self.servers.values())
    }

    /// Whether there is a service that the gateway does not proxy.
    pub fn has_externals(&self) -> bool {
        self.externals().next().is_some()
    }

    /// The service that is also at `/mcp`.
    pub fn default_service(&self) -> Option<&Arc<ActiveService>> {
        self.services.iter().find(|active| active.service.is_default)
    }

    /// All services, in the order of the configuration.
    pub fn services(&self) -> &[Arc<ActiveService>] {
        &self.services
    }

    /// The identity provider of this name.
    pub fn idp(&self, name: &str) -> Option<&Arc<ActiveIdp>> {
        self.idps.iter().find(|active| active.idp.name == name)
    }

    /// All identity providers, in the order of the configuration.
    pub fn idps(&self) -> &[Arc<ActiveIdp>] {
        &self.idps
    }

    /// The configured client with this id.
    pub(crate) fn client(&self, id: &str) -> Option<&ConfiguredClient> {
        self.configured.clients.iter().find(|client| client.id == id)
    }

    /// The operator's copy of the client metadata document at this URL.
    pub(crate) fn pinned_document(&self, url: &str) -> Option<&PinnedDocument> {
        let documents = &self.configured.client_documents.pinned;
        documents.iter().find(|document| document.url.address().as_str() == url)
    }

    /// Whether any service needs signing keys.
    pub(crate) fn needs_signing_keys(&self) -> bool {
        !self.servers.is_empty() || self.services.iter().any(|active| active.service.needs_signing_keys())
    }

    /// The longest lifetime of a grant of any service, in seconds.
    pub(crate) fn max_grant_ttl(&self) -> u64 {
        let ttls = self
            .services
            .iter()
            .chain(self.servers.values())
            .map(|active| active.service.ttl.absolute);
        ttls.max().unwrap_or(Ttl::default().absolute)
    }

    /// The longest lifetime of any access pair, in seconds. A tombstone must outlive it.
    pub(crate) fn max_access_ttl(&self) -> u64 {
        let ttls = self
            .services
            .iter()
            .chain(self.servers.values())
            .map(|active| active.service.ttl.access);
        ttls.max().unwrap_or(Ttl::default().access)
    }
}

/// A server of the management API, as it runs.
fn active_server(service: Service) -> Arc<ActiveService> {
    Arc::new(ActiveService {
        service: Service {
            digest: service.token_service_digest(),
            ..service
        },
        discovery: Arc::default(),
        service_token: Arc::default(),
        assertions: AssertionCache::default(),
    })
}
