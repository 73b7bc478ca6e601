//! The state of approvals, the addresses of their pages, and what clients repeat.

use crate::app::approvals::WaitState;
use crate::app::approvals::request_state::{self, RequestState};
use crate::app::proxy::Proxy;
use crate::app::proxy::error::ProxyError;
use crate::app::proxy::pending_call::PendingCall;
use crate::base::ids::Id;
use crate::base::random;
use crate::base::time::UnixTime;

impl Proxy {
    pub(super) async fn state(&self, approval: Id) -> Result<WaitState, ProxyError> {
        self.approvals.state(approval).await.map_err(|error| store_failed(&error))
    }

    /// Seals a request state. With a round, it has the upstream's own request state.
    pub(super) fn seal_state(&self, pending: &PendingCall, approval: Id, round: Option<(u32, Option<String>)>) -> String {
        let (round, upstream) = round.unzip();
        let state = RequestState {
            approval,
            expires: self.state_end(pending),
            round,
            upstream: upstream.flatten(),
        };
        let keys = self.core.keys.load();
        request_state::seal(&keys, self.core.clock.now(), random::salt_and_nonce(), pending.binding(), &state)
    }

    fn state_end(&self, pending: &PendingCall) -> UnixTime {
        // The record decides earlier; this bounds how long a state is looked at.
        let ttl = pending.call.expires.seconds_since(pending.call.created);
        self.core.clock.now().plus_seconds(ttl)
    }

    /// The address of the page of all approvals.
    pub(super) fn approvals_page(&self) -> String {
        format!("{}/approvals", self.core.urls.public_url())
    }

    /// The address of the page of an approval.
    pub(super) fn approval_page(&self, approval: Id) -> String {
        format!("{}/{approval}", self.approvals_page())
    }
}

pub(super) fn store_failed(error: &crate::store::StoreError) -> ProxyError {
    tracing::error!(%error, "approvals cannot be read or written, so the tool is not called");
    ProxyError::ApprovalsUnavailable
}

pub(super) fn undecided_text(page: &str) -> String {
    format!("Not sent yet: nobody decided so far. Decide at {page} and call the tool again with the same arguments.")
}
