//! The authorization flow, from `/authorize` to the code.

mod callback_params;
pub mod consent;
pub mod consent_form;
pub mod idp_login;
pub mod idp_outcome;
pub mod login_session;
pub mod page;
pub mod password;
pub mod pending_flows;
pub mod remembered_consent;
pub mod repeated_callbacks;
pub mod results;
pub mod sign_in;
pub mod sign_in_attempts;
pub mod start;
pub mod upstream_callback;
pub mod user_credential;

use std::sync::Arc;

use crate::app::authorize::idp_outcome::IdpOutcome;
use crate::app::authorize::password::PasswordChecker;
use crate::app::authorize::pending_flows::PendingFlows;
use crate::app::authorize::repeated_callbacks::RepeatedCallbacks;
use crate::app::clients::Clients;
use crate::app::core::Core;
use crate::app::discovery::Discovery;
use crate::app::flow_handle::ClientRedirect;
use crate::app::grants::Grants;
use crate::app::rate_limit::{FLOWS_PER_MINUTE, ProbeLimit, SourceLimit};
use crate::base::ids::Id;
use crate::base::time::UnixTime;
use crate::flow::flow_record::FlowRecord;
use crate::store::Handle;

/// Runs authorization flows.
pub struct Authorize {
    core: Arc<Core>,
    clients: Arc<Clients>,
    discovery: Arc<Discovery>,
    grants: Arc<Grants>,
    passwords: PasswordChecker,
    pending_flows: PendingFlows,
    upstream_callbacks: RepeatedCallbacks<ClientRedirect>,
    idp_callbacks: RepeatedCallbacks<IdpOutcome>,
    flow_limit: SourceLimit,
    probe_limit: ProbeLimit,
}

impl Authorize {
    /// At most `max_pending` flows wait for a login at the same time.
    pub(in crate::app) fn new(
        core: Arc<Core>,
        clients: Arc<Clients>,
        discovery: Arc<Discovery>,
        grants: Arc<Grants>,
        max_pending: usize,
    ) -> Self {
        Self {
            passwords: PasswordChecker::new(core.clock.clone()),
            core,
            clients,
            discovery,
            grants,
            pending_flows: PendingFlows::new(max_pending),
            upstream_callbacks: RepeatedCallbacks::default(),
            idp_callbacks: RepeatedCallbacks::default(),
            flow_limit: SourceLimit::per_minute(FLOWS_PER_MINUTE),
            probe_limit: ProbeLimit::default(),
        }
    }

    /// Removes a flow without a signed-in user. A flow that went on meanwhile stays. It is
    /// detached, so that it happens although the caller hangs up, and the caller waits for it, so that
    /// many callers do not run ahead of it.
    async fn evict(self: &Arc<Self>, flow: Id) {
        let this = Arc::clone(self);
        let task = self.core.tasks.spawn(async move {
            match this.core.store.remove_if(&Handle::new(flow), FlowRecord::is_unauthenticated).await {
                Ok(true) => tracing::debug!("too many flows wait for a login: the oldest one of the busiest source was removed"),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "a flow that waits for a login could not be removed"),
            }
        });
        let _ = task.await;
    }

    /// Forgets flows that have expired, and sources that have been quiet.
    pub(in crate::app) fn sweep(&self, now: UnixTime) {
        self.pending_flows.sweep(now);
        self.upstream_callbacks.sweep(now);
        self.idp_callbacks.sweep(now);
        self.flow_limit.sweep();
        self.probe_limit.sweep();
    }
}
