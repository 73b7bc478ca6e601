//! A redeemed code becomes a grant.

use serde_json::Value;

use crate::app::audit_events;
use crate::app::error::Rejection;
use crate::app::grants::Grants;
use crate::app::grants::persistence::InsertedGrant;
use crate::app::runtime_config::ActiveService;
use crate::app::tokens::issue::{CurrentGrant, TokenRequestContext};
use crate::app::user_policy;
use crate::base::ids::Id;
use crate::flow::code::RedeemedCode;
use crate::flow::grant_data::{GrantData, NewGrant};

impl Grants {
    /// Creates the grant of a redeemed code and issues its first pairs.
    ///
    /// # Errors
    /// If the user may no longer use the service, the grant has already ended, or the store fails. The
    /// upstream's tokens are then revoked.
    pub(in crate::app) async fn create(
        &self,
        grant: Id,
        active: &ActiveService,
        context: TokenRequestContext<'_>,
        redeemed_code: RedeemedCode,
    ) -> Result<Value, Rejection> {
        let RedeemedCode {
            client_id,
            traits,
            service,
            way,
            scopes,
            who: user,
            obtained: obtained_tokens,
        } = redeemed_code;
        let policy_result = user_policy::check_flow(&self.core.config(), &active.service, &way, &user);
        let (issuer, tokens) = obtained_tokens.map_or((None, None), |obtained_tokens| {
            (obtained_tokens.issuer, Some(obtained_tokens.tokens))
        });
        let granted_scope = tokens.as_ref().and_then(|tokens| tokens.scope.as_deref());
        let new_grant = NewGrant {
            client_id,
            is_native_client: traits.is_native,
            service,
            who: user,
            scopes: match granted_scope {
                Some(scope) => scopes.granted_to_client(scope),
                None => scopes,
            },
            issuer,
            tokens: tokens.clone(),
        };
        let data = GrantData::new(new_grant, self.persistence.refresh_rules(active), self.core.clock.now());
        if let Err(rejection) = policy_result {
            self.discovery.revoke_detached(&data, None);
            return Err(rejection);
        }
        let handle = match self.persistence.insert_grant(&self.core, grant, data.clone()).await? {
            InsertedGrant::Created(handle) => handle,
            InsertedGrant::AlreadyEnded(handle) => {
                self.discovery.revoke_detached(&data, None);
                handle
            }
            InsertedGrant::Rejected(rejection) => {
                self.discovery.revoke_detached(&data, None);
                return Err(rejection);
            }
        };
        let grant = CurrentGrant {
            handle: &handle,
            data: &data,
            branch: 0,
            tokens: tokens.as_ref(),
        };
        let response = self.issue(active, grant, context)?;
        self.core.audit.record(audit_events::tokens_issued(handle.id(), &data));
        Ok(response)
    }

    /// Issues pairs of the grant's current generation, which the client has not confirmed yet.
    pub(super) fn issue(
        &self,
        active: &ActiveService,
        grant: CurrentGrant<'_>,
        context: TokenRequestContext<'_>,
    ) -> Result<Value, Rejection> {
        let response = self.tokens.issue(active, grant, context)?;
        self.unconfirmed.insert(grant.handle.id(), grant.branch, grant.data.generation());
        Ok(response)
    }
}
