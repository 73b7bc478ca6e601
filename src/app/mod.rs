//! The use cases. Each is one async method of one component: it stores a transition of a record, sends a
//! request to an upstream, and stores the next transition.
//!
//! [`App`] builds the components from the bottom; a component uses only those that were built before
//! it.

pub mod access_keys;
pub mod api_keys;
pub mod approval_admin;
pub mod approvals;
pub mod assertion_cache;
pub mod audit_events;
pub mod authorize;
pub mod background;
pub mod clients;
pub mod core;
pub mod discovery;
pub mod discovery_cache;
pub mod endpoint;
pub mod error;
pub mod flow_handle;
pub mod grant_admin;
pub mod grants;
pub mod idp_cache;
pub mod introspection;
pub mod local_keys;
pub mod proxy;
pub mod rate_limit;
mod readiness;
mod reseal;
pub mod revocations;
pub mod runtime_config;
pub mod servers;
pub mod service_list;
pub mod service_token_slot;
pub mod service_tokens;
pub mod signing_keys;
pub mod stored;
pub mod stored_logins;
pub mod tasks;
pub mod token_endpoint;
pub mod tokens;
pub mod tools;
pub mod upstream_cache;
pub mod user_policy;

use std::sync::Arc;

use crate::app::approvals::Approvals;
use crate::app::authorize::Authorize;
use crate::app::clients::Clients;
use crate::app::core::{AppParts, Core};
use crate::app::discovery::Discovery;
use crate::app::grants::Grants;
use crate::app::introspection::Introspection;
use crate::app::proxy::{Proxy, ProxyParts};
use crate::app::readiness::StorePing;
use crate::app::revocations::Revocations;
use crate::app::runtime_config::RuntimeConfig;
use crate::app::servers::Servers;
use crate::app::service_tokens::ServiceTokens;
use crate::app::signing_keys::SigningKeys;
use crate::app::stored::StoredCredentials;
use crate::app::stored_logins::StoredLogins;
use crate::app::token_endpoint::TokenEndpoint;
use crate::app::tokens::Tokens;
use crate::app::tools::Tools;
use crate::base::secret::Secret;
use crate::observe::audit::event::{AuditEvent, AuditEventKind, AuditOutcome};
use crate::service::config::Config;
use crate::service::public_urls::PublicUrls;
use crate::token::local_key::LocalKeyKind;

/// The components of a gateway. It owns no socket.
pub struct App {
    core: Arc<Core>,
    ping: Arc<StorePing>,
    revocations: Arc<Revocations>,
    /// The keys that sign JWTs.
    pub signing_keys: Arc<SigningKeys>,
    /// Registration.
    pub clients: Arc<Clients>,
    /// Lookups of upstreams and identity providers.
    pub discovery: Arc<Discovery>,
    /// Grants.
    pub grants: Arc<Grants>,
    /// Approvals of tool calls, and pins of tools.
    pub approvals: Arc<Approvals>,
    /// Stored credentials of services.
    pub stored: Arc<StoredCredentials>,
    /// `/introspect` and `/userinfo`.
    pub introspection: Arc<Introspection>,
    /// Sign-ins of the operator for stored credentials.
    pub stored_logins: Arc<StoredLogins>,
    /// The management API.
    pub servers: Arc<Servers>,
    /// `/token` and `/revoke`.
    pub token_endpoint: Arc<TokenEndpoint>,
    /// `/authorize`, its pages and callbacks.
    pub authorize: Arc<Authorize>,
    /// MCP requests.
    pub proxy: Arc<Proxy>,
    /// Calls of tools for the adapters.
    pub tools: Arc<Tools>,
}

impl App {
    /// Builds the components. MCP requests are answered once [`App::run`] has loaded the revocation
    /// list.
    pub fn new(parts: AppParts) -> Arc<Self> {
        let max_pending_flows = parts.max_pending_flows;
        let core = Arc::new(Core::new(parts));
        let signing_keys = Arc::new(SigningKeys::new(Arc::clone(&core)));
        let revocations = Arc::new(Revocations::new(Arc::clone(&core)));
        let clients = Arc::new(Clients::new(Arc::clone(&core)));
        let discovery = Arc::new(Discovery::new(Arc::clone(&core)));
        let tokens = Arc::new(Tokens::new(Arc::clone(&core), Arc::clone(&signing_keys)));
        let grants = Arc::new(Grants::new(
            Arc::clone(&core),
            Arc::clone(&revocations),
            Arc::clone(&discovery),
            Arc::clone(&tokens),
        ));
        let stored = Arc::new(StoredCredentials::new(Arc::clone(&core)));
        let service_tokens = Arc::new(ServiceTokens::new(Arc::clone(&core), Arc::clone(&discovery)));
        let stored_logins = Arc::new(StoredLogins::new(Arc::clone(&core), Arc::clone(&discovery)));
        let token_endpoint = token_endpoint(&core, &clients, &discovery, &tokens, &grants);
        let authorize = Arc::new(Authorize::new(
            Arc::clone(&core),
            Arc::clone(&clients),
            Arc::clone(&discovery),
            Arc::clone(&grants),
            max_pending_flows,
        ));
        let approvals = Arc::new(Approvals::new(Arc::clone(&core)));
        let servers = Arc::new(Servers::new(Arc::clone(&core), Arc::clone(&signing_keys), Arc::clone(&grants)));
        let introspection = Arc::new(Introspection::new(&core, &signing_keys, &revocations, &tokens, &grants));
        let proxy = Arc::new(Proxy::new(
            Arc::clone(&core),
            Arc::clone(&revocations),
            tokens,
            Arc::clone(&grants),
            ProxyParts::new(&stored, &service_tokens, &approvals),
        ));
        let tools = Arc::new(Tools::new(Arc::clone(&core), Arc::clone(&proxy)));
        Arc::new(Self {
            core,
            ping: Arc::new(StorePing::new()),
            revocations,
            signing_keys,
            clients,
            discovery,
            grants,
            approvals,
            stored,
            introspection,
            stored_logins,
            servers,
            token_endpoint,
            authorize,
            proxy,
            tools,
        })
    }

    /// The public URLs of the gateway.
    pub fn urls(&self) -> &PublicUrls {
        &self.core.urls
    }

    /// The configuration at this moment. A request loads it once.
    pub fn config(&self) -> Arc<RuntimeConfig> {
        self.core.config()
    }

    /// Replaces the configuration as a whole. Running requests and streams keep theirs.
    pub fn rebuild(&self, config: Config) {
        self.core.replace_config(config);
        let changed = AuditEvent::new(AuditEventKind::ConfigurationChanged, AuditOutcome::Success);
        self.core.audit.record(changed);
        self.core.audit.reopen();
        let approvals = Arc::clone(&self.approvals);
        self.core.tasks.spawn(async move { approvals.update_deciders().await });
        if !self.signing_keys.can_sign() {
            self.signing_keys.load_or_rotate_in_background();
        }
    }

    /// Accepts this key of this machine, and no other one of its kind. Streams of the one before end.
    pub fn set_local_key(&self, kind: LocalKeyKind, key: Option<&Secret>) {
        if let Some(before) = self.core.local_keys.replace(kind, key) {
            self.revocations.end_streams(before.0);
        }
    }

    /// The number of reads of the store for proxied requests.
    pub fn store_reads(&self) -> u64 {
        self.grants.store_reads()
    }

    /// Looks up every upstream and provider before the first sign-in.
    pub async fn prefetch(&self) {
        self.discovery.prefetch().await;
    }
}

fn token_endpoint(
    core: &Arc<Core>,
    clients: &Arc<Clients>,
    discovery: &Arc<Discovery>,
    tokens: &Arc<Tokens>,
    grants: &Arc<Grants>,
) -> Arc<TokenEndpoint> {
    Arc::new(TokenEndpoint::new(
        Arc::clone(core),
        Arc::clone(clients),
        Arc::clone(discovery),
        Arc::clone(tokens),
        Arc::clone(grants),
    ))
}
