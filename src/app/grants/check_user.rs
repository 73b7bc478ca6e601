//! Compares the user of a grant with the configuration of now. The grant of a user who may no longer use
//! the service ends, and so does one from before a change of the password.

use crate::app::audit_events::{self, EndReason};
use crate::app::error::Rejection;
use crate::app::grants::Grants;
use crate::app::runtime_config::RuntimeConfig;
use crate::app::user_policy;
use crate::flow::grant::GrantRecord;
use crate::flow::grant_data::GrantData;
use crate::flow::user::User;
use crate::service::Service;
use crate::store::{Handle, StoreError};

/// The maximum age of a provider's user without a session there: the gateway cannot check the user in between.
const SIGN_IN_TOO_OLD: &str = "the sign-in is older than reauth_after";

impl Grants {
    /// Checks the user of a grant that is refreshed. If the user may no longer use the service, the
    /// grant ends.
    ///
    /// # Errors
    /// If the user may no longer use the service, or the store fails.
    pub(super) async fn check_user(
        &self,
        service: &Service,
        grant: &Handle<GrantRecord>,
        data: Option<&GrantData>,
    ) -> Result<(), Rejection> {
        let Some(data) = data else {
            return Ok(());
        };
        let user = &data.who;
        let config = self.core.config();
        let reason = match user_policy::check_user(&config, service, user) {
            Ok(()) if !self.is_password_current(&config, user).await => "the password was changed",
            Ok(()) if self.is_sign_in_too_old(service, data) => SIGN_IN_TOO_OLD,
            Ok(()) => return Ok(()),
            Err(reason) => reason,
        };
        self.end_for_user(grant, user, reason).await?;
        let message = if reason == SIGN_IN_TOO_OLD {
            "the sign-in at the identity provider is too old; sign in again"
        } else {
            "this user may no longer use the service; sign in again"
        };
        Err(Rejection::Unknown(message))
    }

    /// Whether a user of a provider must sign in again, because nobody asks the provider in between. A
    /// grant begins with the sign-in.
    fn is_sign_in_too_old(&self, service: &Service, data: &GrantData) -> bool {
        let is_unchecked = data.who.identity.is_some() && data.who.provider_session.is_none();
        let age = self.core.clock.now().seconds_since(data.granted_at);
        is_unchecked && service.reauth_after.is_some_and(|limit| age >= limit)
    }

    /// Ends a grant of a user whose password was changed or removed since the login. Returns whether it
    /// ended.
    ///
    /// # Errors
    /// If the store fails.
    pub(super) async fn end_if_password_changed(&self, grant: &Handle<GrantRecord>, user: &User) -> Result<bool, StoreError> {
        let config = self.core.config();
        if self.is_password_current(&config, user).await {
            return Ok(false);
        }
        self.end_for_user(grant, user, "the password was changed or removed").await?;
        Ok(true)
    }

    async fn end_for_user(&self, grant: &Handle<GrantRecord>, user: &User, reason: &str) -> Result<(), StoreError> {
        tracing::warn!(grant = %grant.id(), user = user.subject, reason, "a user may no longer use the service; the grant is ended");
        if let Some(data) = self.end(grant).await? {
            let ended = audit_events::grant_ended(grant.id(), &data, EndReason::UserPolicy).with("reason", reason);
            self.core.audit.record(ended);
            self.discovery.revoke_detached(&data, None);
        }
        Ok(())
    }

    /// Whether the user has the password of the login. A user without a password of this gateway has.
    async fn is_password_current(&self, config: &RuntimeConfig, user: &User) -> bool {
        let Some(epoch) = &user.password_epoch else { return true };
        let configured = config.configured.users.iter().find(|configured| configured.name == user.subject);
        let Some(configured) = configured else { return false };
        // A hash that cannot be computed now says nothing of the password.
        configured.hash.get(&self.hashing).await.is_none_or(|hash| epoch.matches(hash))
    }
}
