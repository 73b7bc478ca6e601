//! Stores who may decide, so that a command need not believe the configuration that it is given.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::app::approvals::Approvals;
use crate::base::secret::Secret;
use crate::flow::deciders::{Deciders, DecidingUser};

impl Approvals {
    /// Stores the users with a password of this gateway, and which of them are approvers.
    pub(in crate::app) async fn update_deciders(&self) {
        if self.core.store.is_stateless() {
            return;
        }
        // A hash that cannot be computed leaves the record as it is.
        let Some(users) = self.deciding_users().await else { return };
        if let Err(error) = self.admin.store_deciders(&Deciders::new(users)).await {
            tracing::warn!(%error, "who may decide could not be stored; the commands `approvals` and `pins` use what was stored before");
        }
    }

    async fn deciding_users(&self) -> Option<Vec<DecidingUser>> {
        let config = self.core.config();
        let (mut users, permits) = (Vec::new(), Arc::new(Semaphore::new(1)));
        for user in &config.configured.users {
            users.push(DecidingUser {
                name: user.name.clone(),
                hash: Secret::from(user.hash.get(&permits).await?),
                is_approver: config.configured.is_approver(&user.name),
            });
        }
        Some(users)
    }
}
