//! Checks again, just before an approved call is sent: caller, policy and pin may have changed while a person
//! decided.

use std::sync::Arc;

use crate::app::proxy::Proxy;
use crate::app::proxy::caller::{AdapterKey, Caller};
use crate::app::proxy::pending_call::PendingCall;
use crate::app::proxy::tool_context::Checked;
use crate::app::revocations::list::TokenStatus;
use crate::service::Service;
use crate::service::tool_policy::ToolRule;
use crate::token::header::TokenKind;
use crate::token::local_key::LocalKeyKind;

/// What a caller learns whose access ended.
pub(super) const ACCESS_ENDED: &str = "Not sent: the access of this client has ended.";
/// What a caller learns whose call is no longer the one that was approved.
pub(super) const CHANGED: &str =
    "Not sent: the tool's definition or the policy changed since the approval was asked for. Call the tool again.";

impl Proxy {
    /// Whether a caller that was authenticated earlier would still be accepted. The expiry of an access token
    /// does not count: the request came before it.
    pub(super) fn is_still_accepted(&self, caller: &Caller) -> bool {
        match caller {
            Caller::Anonymous => true,
            Caller::LocalKey(key) => self.core.local_keys.is_current(LocalKeyKind::Local, *key),
            Caller::Adapter(caller) => self.is_adapter_key_good(caller.key),
            Caller::TokenHolder(header) => {
                let has_expired = header.kind == TokenKind::Key && header.expires <= self.core.clock.now();
                !has_expired && self.revocations.status(header) == TokenStatus::Good
            }
            #[cfg(feature = "raw")]
            Caller::RawBearer => true,
        }
    }

    /// Whether the key of an adapter's caller still opens the adapters.
    pub(super) fn is_adapter_key_good(&self, key: AdapterKey) -> bool {
        match key {
            AdapterKey::ThisMachine(key) => self.core.local_keys.is_current(LocalKeyKind::Adapter, key),
            AdapterKey::ApiKey { id, expires } => expires > self.core.clock.now() && !self.revocations.is_revoked(id),
        }
    }

    /// Why an approved call is not sent. `None`: it is still the call that was approved, its caller is accepted,
    /// and the policy does not deny it. The tools are listed anew for that.
    pub(super) async fn reason_not_to_send(self: &Arc<Self>, pending: &PendingCall) -> Option<String> {
        let (context, binding) = (&pending.context, pending.binding());
        if !self.is_still_accepted(&context.caller) {
            return Some(ACCESS_ENDED.to_owned());
        }
        let active = self.core.active_service(&binding.service);
        let is_same = |now: &Service| now.mcp == context.active.service.mcp && now.upstream == context.active.service.upstream;
        let active = active.filter(|active| is_same(&active.service));
        let Some(policy) = active.as_ref().and_then(|active| active.service.tools.as_deref()) else {
            return Some("Not sent: the service was configured anew since the approval was asked for. Call the tool again.".to_owned());
        };
        self.approvals.forget_listing(&context.listing_key());
        let checked = Checked {
            http: self.core.tasks.http(),
            context: Arc::clone(context),
            policy,
            opened: None,
        };
        let Ok(Ok(decided)) = self.decide(&checked, &pending.message).await else {
            let service = &binding.service;
            tracing::warn!(service, "an approved tool call is not sent, because the tools cannot be listed");
            return Some("Not sent: the upstream does not list its tools now. Call the tool again; the approval still counts.".to_owned());
        };
        if decided.decision.rule == ToolRule::Deny {
            return Some(format!(
                "Denied: the gateway's policy does not allow {} ({}).",
                decided.tool,
                policy.explain(decided.decision)
            ));
        }
        let is_unchanged = policy.version() == binding.policy && decided.pin == binding.pin;
        (!is_unchanged).then(|| CHANGED.to_owned())
    }
}
