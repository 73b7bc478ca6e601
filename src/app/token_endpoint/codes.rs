//! A client redeems its code (RFC 6749 §4.1.3).

use serde_json::Value;

use crate::app::audit_events::{self, EndReason};
use crate::app::error::Rejection;
use crate::app::flow_handle::FlowHandle;
use crate::app::runtime_config::ActiveService;
use crate::app::token_endpoint::TokenEndpoint;
use crate::app::tokens::issue::TokenRequestContext;
use crate::app::user_policy;
use crate::base::secret::Secret;
use crate::flow::client::Authenticated;
use crate::flow::code::{CodeRedemption, CodeSpent, ObtainedTokens, RedeemedCode};
use crate::flow::error::RejectReason;
use crate::flow::flow_record::FlowRecord;
use crate::flow::stateless_code::PendingExchange;
use crate::observe::audit::event::{AuditEvent, AuditEventKind, AuditOutcome};
use crate::store::{Handle, TransitionError};

const CODE_NOT_FOUND: Rejection = Rejection::Unknown("the code is unknown, expired or not for this gateway");

/// A code with what the client sent beside it.
#[derive(Clone, Copy, Debug)]
pub(super) struct PresentedCode<'a> {
    pub(super) code: &'a Secret,
    pub(super) redirect_uri: Option<&'a str>,
    pub(super) verifier: Option<&'a Secret>,
}

impl TokenEndpoint {
    /// Redeems a code: it is spent, its upstream code is exchanged if there is one, and its grant is
    /// created.
    pub(super) async fn redeem(
        &self,
        active: &ActiveService,
        issuer: &str,
        client: &Authenticated,
        presented_code: PresentedCode<'_>,
    ) -> Result<Value, Rejection> {
        let persistence = self.grants.persistence();
        let (flow, secret) = presented_code.code.expose().split_once('.').ok_or(CODE_NOT_FOUND)?;
        let flow = persistence.flow_of_code(FlowHandle::parse(flow).ok_or(CODE_NOT_FOUND)?, secret);
        let redemption = CodeRedemption {
            service: &active.service.name,
            code: secret,
            redirect_uri: presented_code.redirect_uri,
            verifier: presented_code.verifier.map(Secret::expose),
        };
        match persistence.redeem(&self.core, &flow, client, redemption).await {
            Ok(spent_code) => {
                let redeemed_code = self.exchange_pending(active, spent_code.redeemed, spent_code.pending).await?;
                let completed = AuditEvent::new(AuditEventKind::FlowCompleted, AuditOutcome::Success)
                    .user(&redeemed_code.who.subject)
                    .client(&redeemed_code.client_id)
                    .with("flow", flow.id())
                    .with("grant", spent_code.grant)
                    .with("service", redeemed_code.service.as_str());
                self.core.audit.record(completed);
                let context = TokenRequestContext {
                    issuer,
                    refreshes: redeemed_code.traits.may_refresh,
                    requested: None,
                };
                self.grants.create(spent_code.grant, active, context, redeemed_code).await
            }
            Err(TransitionError::WrongState) => Err(self.end_replayed(&flow, client, redemption).await),
            Err(TransitionError::NotFound) => Err(CODE_NOT_FOUND),
            Err(TransitionError::Rejected(reason)) => Err(Rejection::Grant(reason)),
            Err(TransitionError::Store(error)) => Err(error.into()),
        }
    }

    /// Exchanges an upstream code that travelled in ours, now that ours is good and spent here. At
    /// another instance, the upstream refuses the second exchange.
    async fn exchange_pending(
        &self,
        active: &ActiveService,
        redeemed_code: RedeemedCode,
        pending: Option<PendingExchange>,
    ) -> Result<RedeemedCode, Rejection> {
        let Some(PendingExchange { code, exchange }) = pending else {
            return Ok(redeemed_code);
        };
        // First, so that a user who may not use the service spends no upstream code.
        user_policy::check_flow(&self.core.config(), &active.service, &redeemed_code.way, &redeemed_code.who)?;
        let result = self.discovery.exchange_code(active, &code, &exchange).await;
        let tokens = result.inspect_err(|error| tracing::warn!(%error, "the upstream's code could not be exchanged"))?;
        Ok(RedeemedCode {
            obtained: Some(ObtainedTokens {
                issuer: Some(exchange.issuer),
                tokens,
            }),
            ..redeemed_code
        })
    }

    /// Ends the grant of a code that was redeemed before (RFC 6749 §4.1.2), if client and proof key are
    /// those of the first time. Returns the reason to refuse.
    async fn end_replayed(&self, flow: &FlowHandle, client: &Authenticated, redemption: CodeRedemption<'_>) -> Rejection {
        let spent_code = match self.core.store.read(flow).await {
            Ok(Some(FlowRecord::CodeSpent(spent_code))) => spent_code,
            Ok(_) => return CODE_NOT_FOUND,
            Err(error) => return error.into(),
        };
        let grant = match CodeSpent::replayed(&spent_code, client, redemption) {
            Ok(grant) => grant,
            Err(reason) => return Rejection::Grant(reason),
        };
        tracing::warn!(%grant, "a code was redeemed twice; its grant is ended");
        match self.grants.end(&Handle::new(grant)).await {
            Ok(Some(data)) => {
                let ended = audit_events::grant_ended(grant, &data, EndReason::CodeReplayed);
                self.core.audit.record(ended);
                self.discovery.revoke_detached(&data, None);
            }
            Ok(None) => {}
            Err(error) => return error.into(),
        }
        Rejection::Grant(RejectReason::Replayed)
    }
}
