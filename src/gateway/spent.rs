//! Where nothing is kept, but instances tell each other what they used up (`store = "none"` with a Redis): what one of them
//! redeemed, replaced or ended is refused by the others. Without that, each knows of itself.

use std::time::Duration;

use crate::base::ids::{Digest, Id};
use crate::base::time::UnixTime;
use crate::flow::grant::GrantRecord;
use crate::flow::rejected::Rejected;
use crate::gateway::Gateway;
use crate::gateway::live::Running;
use crate::gateway::rejection::Rejection;
use crate::store::{Handle, Mark, Spent, StoreError};

impl Gateway {
    /// The grant that a code begins: where nothing is kept each instance has to find the same.
    pub(super) fn grant_of_code(&self, secret: &str) -> Id {
        if self.store.carries() {
            Id(Digest::of(&format!("grant {secret}")).short())
        } else {
            Id::fresh()
        }
    }

    /// Insists that no instance used this refresh pair up, or ended its grant. `generation` is the pair's.
    pub(super) async fn unspent(&self, running: &Running, handle: &Handle<GrantRecord>, generation: u32) -> Result<(), Rejection> {
        if self.has_ended_elsewhere(handle.id()).await? {
            self.has_ended(handle.id());
            return Err(Rejection::Unknown("this sign-in was ended; sign in again"));
        }
        let Some(copy) = handle.carried().filter(|_| self.store.shares()) else {
            return Ok(());
        };
        let Some(spent) = self.store.spent(&Mark::copy(copy)).await? else {
            return Ok(());
        };
        // Used up here: what this instance remembers says what it is worth.
        let there = self.store.read(handle).await?;
        if there.is_some_and(|record| record.held().is_none_or(|held| held.generation() > generation)) {
            return Ok(());
        }
        if self.clock.now().since(spent.at) >= self.rules(running).grace {
            tracing::warn!(grant = %handle.id(), "a refresh token was replayed that another instance had used up; its grant is ended");
            if let Some(held) = self.end(handle).await? {
                self.revoke_upstream(&held, None);
            }
            return Err(Rejection::Grant(Rejected::Replayed));
        }
        if spent.rotated {
            // The upstream would take it for stolen, and end what the other instance got.
            return Err(Rejection::Grant(Rejected::Replaced));
        }
        Ok(())
    }

    /// Tells the others that this refresh pair is used up; as often as it takes, for what was obtained with it is not lost.
    pub(super) async fn spend_copy(&self, running: &Running, handle: &Handle<GrantRecord>, rotated: bool) {
        let Some(copy) = handle.carried().filter(|_| self.store.shares()) else {
            return;
        };
        let (mark, now) = (Mark::copy(copy), self.clock.now());
        let until = now.after(running.service.ttl.refresh);
        self.until_told(&mark, Spent::new(now, rotated), until).await;
    }

    /// Tells the others that a grant has ended, as often as it takes.
    pub(super) async fn tell_ended(&self, grant: Id) {
        let (mark, now) = (Mark::ended(grant), self.clock.now());
        let until = now.after(self.live().longest_grant());
        self.until_told(&mark, Spent::new(now, false), until).await;
    }

    /// The same, once.
    pub(super) async fn mark_ended(&self, grant: Id) -> Result<(), StoreError> {
        if !self.store.shares() {
            return Ok(());
        }
        let (mark, now) = (Mark::ended(grant), self.clock.now());
        let until = now.after(self.live().longest_grant());
        self.store.spend(&mark, Spent::new(now, false), until).await.map(drop)
    }

    /// Whether another instance told that a grant has ended.
    pub(super) async fn has_ended_elsewhere(&self, grant: Id) -> Result<bool, StoreError> {
        Ok(self.store.shares() && self.store.spent(&Mark::ended(grant)).await?.is_some())
    }

    async fn until_told(&self, mark: &Mark, spent: Spent, until: UnixTime) {
        let mut pause = Duration::from_millis(50);
        while let Err(error) = self.store.spend(mark, spent, until).await {
            tracing::error!(%error, "the other instances cannot be told what was used up; trying again and again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }
}
