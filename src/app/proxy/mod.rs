//! Proxied MCP requests. A request reads no store and writes nothing, holds no lock while it waits, and
//! buffers no body: the caller is authenticated, the request streams on with the upstream's own
//! credential, and the response streams back. A reference pair, a stored credential and a service token
//! are the exception, see [`retry`].

pub mod adapter_call;
pub mod authenticate;
pub mod caller;
pub mod error;
pub mod forward;
mod key_usage;
mod known_keys;
mod mcp_response;
pub mod mcp_sessions;
mod own_id;
mod pending_call;
#[cfg(feature = "raw")]
pub mod raw_bearer;
mod relay;
pub mod retry;
pub mod send;
mod stored_token;
pub mod streams;
mod tool_also_sent;
mod tool_answer;
mod tool_ask;
mod tool_body;
mod tool_context;
mod tool_execute;
mod tool_hold;
mod tool_list;
mod tool_listing;
mod tool_pages;
mod tool_recheck;
mod tool_requests;
mod tool_send;

use std::sync::Arc;

use crate::app::approvals::Approvals;
use crate::app::core::Core;
use crate::app::grants::Grants;
use crate::app::proxy::key_usage::RecentKeyUses;
use crate::app::proxy::known_keys::KnownKeys;
use crate::app::proxy::mcp_sessions::McpSessions;
use crate::app::rate_limit::AnonymousLimit;
use crate::app::revocations::Revocations;
use crate::app::service_tokens::ServiceTokens;
use crate::app::stored::StoredCredentials;
use crate::app::tokens::Tokens;
use crate::base::time::UnixTime;
use crate::net::body::HasEnded;

/// Components that only some services use.
pub(in crate::app) struct ProxyParts {
    stored: Arc<StoredCredentials>,
    service_tokens: Arc<ServiceTokens>,
    approvals: Arc<Approvals>,
}

impl ProxyParts {
    pub(in crate::app) fn new(stored: &Arc<StoredCredentials>, service_tokens: &Arc<ServiceTokens>, approvals: &Arc<Approvals>) -> Self {
        Self {
            stored: Arc::clone(stored),
            service_tokens: Arc::clone(service_tokens),
            approvals: Arc::clone(approvals),
        }
    }
}

/// Authenticates and forwards MCP requests.
pub struct Proxy {
    core: Arc<Core>,
    revocations: Arc<Revocations>,
    tokens: Arc<Tokens>,
    grants: Arc<Grants>,
    stored: Arc<StoredCredentials>,
    service_tokens: Arc<ServiceTokens>,
    approvals: Arc<Approvals>,
    sessions: McpSessions,
    anonymous_limit: AnonymousLimit,
    /// Whether a grant or API key has ended, for long responses.
    has_ended: HasEnded,
    key_uses: RecentKeyUses,
    known_keys: KnownKeys,
}

impl Proxy {
    pub(in crate::app) fn new(
        core: Arc<Core>,
        revocations: Arc<Revocations>,
        tokens: Arc<Tokens>,
        grants: Arc<Grants>,
        parts: ProxyParts,
    ) -> Self {
        let list = Arc::clone(&revocations);
        Self {
            core,
            revocations,
            tokens,
            grants,
            stored: parts.stored,
            service_tokens: parts.service_tokens,
            approvals: parts.approvals,
            has_ended: Arc::new(move |id| list.is_revoked(id)),
            sessions: McpSessions::default(),
            anonymous_limit: AnonymousLimit::default(),
            key_uses: RecentKeyUses::default(),
            known_keys: KnownKeys::default(),
        }
    }

    /// Forgets sessions and sources that have been quiet.
    pub(in crate::app) fn sweep(&self, now: UnixTime) {
        self.sessions.sweep(now);
        self.anonymous_limit.sweep();
    }
}
