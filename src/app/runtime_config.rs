//! The configuration that a reload swaps as one value. A request loads it once.

use std::sync::Arc;

use crate::app::assertion_cache::AssertionCache;
use crate::app::idp_cache::ActiveIdp;
use crate::app::password::Passwords;
use crate::app::upstream_cache::UpstreamCache;
use crate::flow::refresh_rules::RefreshRules;
use crate::oauth::scope::Scopes;
use crate::service::auth_server_config::AuthServerConfig;
use crate::service::client::ConfiguredClient;
use crate::service::{AfterConsent, Service, Upstream};
use crate::token::lifetime::Ttl;
use crate::upstream::idp::Idp;

/// A service, and what was discovered of its upstream.
#[derive(Debug)]
pub struct ActiveService {
    /// The service as configured.
    pub service: Service,
    pub(crate) discovery: Arc<UpstreamCache>,
    pub(crate) assertions: AssertionCache,
}

impl ActiveService {
    /// The configuration of the upstream's authorization server, if it has one.
    pub(in crate::app) fn auth_server_config(&self) -> Option<&AuthServerConfig> {
        match &self.service.upstream {
            Upstream::OAuth(config) => Some(config),
            Upstream::Paste(_) | Upstream::Static(_) | Upstream::Identity(_) | Upstream::None => None,
        }
    }

    /// The scopes for a client that asks for none: the configured ones, or those that the upstream
    /// names. Without either, the required scopes.
    pub fn scopes_offered(&self) -> Scopes {
        if !self.service.scopes.is_empty() {
            return self.service.scopes.clone();
        }
        let named = self.discovery.scopes().without("offline_access");
        if named.is_empty() && self.service.upstream.after_consent() == AfterConsent::Nowhere {
            return self.service.required_scopes.clone();
        }
        named
    }

    /// The scopes that a client may ask for, always with the required ones.
    pub fn scopes_askable(&self) -> Scopes {
        let service = &self.service;
        self.scopes_offered()
            .union(&service.optional_scopes)
            .union(&service.required_scopes)
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
            reuse_window: self.service.refresh_grace,
            ttl: self.service.ttl,
            mode: self.service.mode,
            is_client_side: false,
        }
    }
}

/// The checked configuration.
#[derive(Clone, Debug)]
pub struct Setup {
    /// At least one service, with distinct names, and at most one default.
    pub services: Vec<Service>,
    /// The users who can log in with a password.
    pub passwords: Passwords,
    /// How long a login session replaces the password, in seconds; 0 disables sessions.
    pub session_ttl: u64,
    /// The identity providers, with distinct names.
    pub idps: Vec<Idp>,
    /// The clients that need no registration, with distinct ids.
    pub clients: Vec<ConfiguredClient>,
    /// The origins of web pages that may call the MCP endpoints; `*` allows all.
    pub cors_origins: Vec<String>,
    /// Whether `/services` lists the services publicly.
    pub public_directory: bool,
    /// Whether `/token` also accepts JSON instead of a form: `compat = ["json-token"]`.
    pub json_token: bool,
}

/// The configuration in use. See [the module](self).
#[derive(Debug)]
pub struct RuntimeConfig {
    services: Vec<Arc<ActiveService>>,
    pub(crate) passwords: Passwords,
    pub(crate) session_ttl: u64,
    idps: Vec<Arc<ActiveIdp>>,
    clients: Vec<ConfiguredClient>,
    cors_origins: Vec<String>,
    public_directory: bool,
    json_token: bool,
}

impl RuntimeConfig {
    /// Takes over what `before` discovered of each upstream whose configuration did not change.
    pub fn new(setup: Setup, before: Option<&Self>) -> Self {
        let running = |mut service: Service| {
            service.digest = service.token_service_digest();
            let old = before.and_then(|live| live.find(&service.name));
            let same = old.filter(|old| old.service.mcp == service.mcp && old.service.upstream == service.upstream);
            let resolver = same.map_or_else(Arc::default, |old| Arc::clone(&old.discovery));
            Arc::new(ActiveService {
                service,
                discovery: resolver,
                assertions: AssertionCache::default(),
            })
        };
        let idp = |idp: Idp| {
            let old = before.and_then(|before| before.idp(&idp.name));
            Arc::new(ActiveIdp::new(idp, old.map(|old| &**old)))
        };
        Self {
            services: setup.services.into_iter().map(running).collect(),
            passwords: setup.passwords,
            session_ttl: setup.session_ttl,
            clients: setup.clients,
            idps: setup.idps.into_iter().map(idp).collect(),
            cors_origins: setup.cors_origins,
            public_directory: setup.public_directory,
            json_token: setup.json_token,
        }
    }

    /// The service of this name.
    pub fn find(&self, name: &str) -> Option<&Arc<ActiveService>> {
        self.services.iter().find(|running| running.service.name == name)
    }

    /// The service that is also at `/mcp`.
    pub fn default_service(&self) -> Option<&Arc<ActiveService>> {
        self.services.iter().find(|running| running.service.is_default)
    }

    /// All services, in the order of the configuration.
    pub fn services(&self) -> &[Arc<ActiveService>] {
        &self.services
    }

    /// The identity provider of this name.
    pub fn idp(&self, name: &str) -> Option<&Arc<ActiveIdp>> {
        self.idps.iter().find(|running| running.idp.name == name)
    }

    /// All identity providers, in the order of the configuration.
    pub fn idps(&self) -> &[Arc<ActiveIdp>] {
        &self.idps
    }

    /// The configured client with this id.
    pub(crate) fn client(&self, id: &str) -> Option<&ConfiguredClient> {
        self.clients.iter().find(|client| client.id == id)
    }

    /// The origins of web pages that may call the MCP endpoints.
    pub fn cors_origins(&self) -> &[String] {
        &self.cors_origins
    }

    /// Whether `/services` lists the services.
    pub fn public_directory(&self) -> bool {
        self.public_directory
    }

    /// Whether `/token` also accepts JSON.
    pub fn json_token(&self) -> bool {
        self.json_token
    }

    /// Whether any service needs signing keys.
    pub(crate) fn needs_signing_keys(&self) -> bool {
        self.services.iter().any(|running| running.service.needs_signing_keys())
    }

    /// The longest lifetime of a grant of any service, in seconds.
    pub(crate) fn max_grant_ttl(&self) -> u64 {
        let ttls = self.services.iter().map(|running| running.service.ttl.absolute);
        ttls.max().unwrap_or(Ttl::default().absolute)
    }

    /// The longest lifetime of any access pair, in seconds. A tombstone must outlive it.
    pub(crate) fn max_access_ttl(&self) -> u64 {
        let ttls = self.services.iter().map(|running| running.service.ttl.access);
        ttls.max().unwrap_or(Ttl::default().access)
    }
}
