//! What may change while we serve: services, users, origins. One value, loaded once for each request and swapped whole.

use std::sync::Arc;

use crate::app::assertion_cache::AssertionCache;
use crate::app::idp_cache::ActiveIdp;
use crate::app::password::Passwords;
use crate::app::upstream_cache::UpstreamCache;
use crate::flow::grant_data::RefreshRules;
use crate::oauth::scope::Scopes;
use crate::service::auth_server_config::AuthServerConfig;
use crate::service::client::ConfiguredClient;
use crate::service::{AfterConsent, Service, Upstream};
use crate::token::lifetime::Ttl;
use crate::upstream::idp::Idp;

/// A service, with what was learned of its upstream.
#[derive(Debug)]
pub struct ActiveService {
    /// As configured.
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

    /// The scopes that a client gets when it asks for none. Where nothing is configured, and no upstream names any, those
    /// that a token must have.
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

    /// The scopes that a client may ask for: whatever is required can be got.
    pub fn scopes_askable(&self) -> Scopes {
        let service = &self.service;
        self.scopes_offered()
            .union(&service.optional_scopes)
            .union(&service.required_scopes)
    }

    /// The scopes that a challenge names: those that a token must have, or those that a client gets.
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
            carried: false,
        }
    }
}

/// What the configuration says, checked.
#[derive(Clone, Debug)]
pub struct Setup {
    /// At least one, with distinct names, at most one of them the default.
    pub services: Vec<Service>,
    /// Who may sign in with a password.
    pub passwords: Passwords,
    /// How long a sign-in skips the password, in seconds; 0: not at all.
    pub session_ttl: u64,
    /// Who else vouches for users; with distinct names.
    pub idps: Vec<Idp>,
    /// Clients that need not register; with distinct ids.
    pub clients: Vec<ConfiguredClient>,
    /// Origins of web pages that may call the MCP endpoints; `*` is everyone.
    pub cors_origins: Vec<String>,
    /// `/services` lists what stands behind us, for everybody to read.
    pub public_directory: bool,
    /// `/token` also reads a JSON object where the standard has a form: `compat = ["json-token"]`.
    pub json_token: bool,
}

/// See [the module](self).
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
    /// A new one. What `before` learned of an upstream that is still configured in the same way is kept.
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

    /// The one that is also at `/mcp`.
    pub fn default_service(&self) -> Option<&Arc<ActiveService>> {
        self.services.iter().find(|running| running.service.is_default)
    }

    /// All of them, as configured.
    pub fn services(&self) -> &[Arc<ActiveService>] {
        &self.services
    }

    /// The identity provider of this name.
    pub fn idp(&self, name: &str) -> Option<&Arc<ActiveIdp>> {
        self.idps.iter().find(|running| running.idp.name == name)
    }

    /// All of them, as configured.
    pub fn idps(&self) -> &[Arc<ActiveIdp>] {
        &self.idps
    }

    /// The client of this id, if the operator wrote it down.
    pub(crate) fn client(&self, id: &str) -> Option<&ConfiguredClient> {
        self.clients.iter().find(|client| client.id == id)
    }

    /// Origins of web pages that may call the MCP endpoints.
    pub fn cors_origins(&self) -> &[String] {
        &self.cors_origins
    }

    /// Whether `/services` lists what stands behind us.
    pub fn public_directory(&self) -> bool {
        self.public_directory
    }

    /// Whether `/token` also reads JSON.
    pub fn json_token(&self) -> bool {
        self.json_token
    }

    /// Whether any service needs keys that sign.
    pub(crate) fn needs_signing_keys(&self) -> bool {
        self.services.iter().any(|running| running.service.needs_signing_keys())
    }

    /// The longest life of a grant of any service, in seconds.
    pub(crate) fn max_grant_ttl(&self) -> u64 {
        let ttls = self.services.iter().map(|running| running.service.ttl.absolute);
        ttls.max().unwrap_or(Ttl::default().absolute)
    }

    /// The longest life of an access pair of any service, in seconds: a tombstone must outlive it.
    pub(crate) fn max_access_ttl(&self) -> u64 {
        let ttls = self.services.iter().map(|running| running.service.ttl.access);
        ttls.max().unwrap_or(Ttl::default().access)
    }
}
