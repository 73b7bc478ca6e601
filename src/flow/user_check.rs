//! The repeated check of a grant's user at the identity provider, under the grant's lease.

use crate::base::ids::Id;
use crate::base::secret::Secret;
use crate::base::time::UnixTime;
use crate::flow::error::RejectReason;
use crate::flow::grant::{Active, GrantRecord, LEASE_SECONDS, RefreshAttempt, Refreshing};
use crate::flow::user::Identity;

/// A check of the user at the provider, for the attempt that has the lease.
#[derive(Debug)]
pub struct LeasedUserCheck {
    /// The attempt.
    pub attempt: Id,
    /// The provider's refresh token.
    pub token: Secret,
    /// The user's identity, as the provider last stated it.
    pub identity: Identity,
}

impl GrantRecord {
    /// Takes the lease to ask the provider about the user, if the last check is older than `interval`
    /// seconds. One attempt wins; others must wait.
    pub fn user_check_started(
        self,
        interval: u64,
        attempt: RefreshAttempt,
        now: UnixTime,
    ) -> Result<(Self, LeasedUserCheck), RejectReason> {
        let data = self.take_data(attempt, now)?;
        let session = data.who.provider_session.as_ref().filter(|session| session.is_due(interval, now));
        let (Some(session), Some(identity)) = (session, &data.who.identity) else {
            return Err(RejectReason::NotNeeded);
        };
        let check = LeasedUserCheck {
            attempt: attempt.id,
            token: session.token.clone(),
            identity: identity.clone(),
        };
        let next = Refreshing {
            data,
            attempt: attempt.id,
            owner: attempt.owner,
            lease: now.plus_seconds(LEASE_SECONDS),
            is_proactive: true,
            branch: None,
        };
        Ok((next.into(), check))
    }
}

impl Refreshing {
    /// The provider rotated its refresh token, which is stored before the next request. The lease stays.
    pub fn session_rotated(mut self, attempt: Id, token: Secret) -> Result<(Self, ()), RejectReason> {
        if self.attempt != attempt {
            return Err(RejectReason::LeaseLost);
        }
        if let Some(session) = &mut self.data.who.provider_session {
            session.token = token;
        }
        Ok((self, ()))
    }

    /// The provider confirmed the user. The new identity replaces the previous one.
    pub fn user_confirmed(self, attempt: Id, identity: Identity, now: UnixTime) -> Result<(Active, ()), RejectReason> {
        let mut data = self.owned_by(attempt)?;
        data.who.identity = Some(identity);
        if let Some(session) = &mut data.who.provider_session {
            session.checked_at = now;
        }
        Ok((Active { data }, ()))
    }
}
