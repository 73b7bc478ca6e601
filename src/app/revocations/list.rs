//! The revocation list: the ended grants, the abandoned branches and the revoked API keys, in memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::Notify;

use crate::base::ids::Id;
use crate::base::time::UnixTime;
use crate::flow::branches::AbandonedBranches;
use crate::token::header::PairHeader;

/// The status of a token in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenStatus {
    /// Nothing.
    Good,
    /// Its grant has ended, or it is a revoked API key.
    Revoked,
    /// It is of an abandoned branch of its grant.
    Abandoned,
}

/// The entry of a grant or API key.
#[derive(Clone, Debug)]
enum Entry {
    /// It has ended. The last token that could be presented expires at this time.
    Ended(UnixTime),
    /// Branches of the grant are abandoned, each until the last of its access pairs has expired.
    Abandoned(Vec<(AbandonedBranches, UnixTime)>),
}

/// The ids of what has ended, and of grants with abandoned branches.
#[derive(Debug, Default)]
pub struct RevocationList {
    entries: DashMap<Id, Entry>,
    is_complete: AtomicBool,
    completed: Notify,
}

impl RevocationList {
    /// Whether this grant or API key has ended.
    pub fn contains(&self, id: Id) -> bool {
        self.entries.get(&id).is_some_and(|entry| matches!(*entry, Entry::Ended(_)))
    }

    /// The status of a token with this header.
    pub fn status(&self, header: &PairHeader) -> TokenStatus {
        match self.entries.get(&header.grant).as_deref() {
            None => TokenStatus::Good,
            Some(Entry::Ended(_)) => TokenStatus::Revoked,
            Some(Entry::Abandoned(branches)) => {
                let is_abandoned = branches
                    .iter()
                    .any(|(branches, _)| branches.contains(header.generation, header.branch));
                if is_abandoned { TokenStatus::Abandoned } else { TokenStatus::Good }
            }
        }
    }

    /// Lists a grant or API key until `until`, or until the later time that it is listed for already:
    /// what this process ended may outlive what the store says.
    pub fn add(&self, id: Id, until: UnixTime) {
        let mut entry = self.entries.entry(id).or_insert(Entry::Ended(until));
        *entry = match *entry {
            Entry::Ended(current) => Entry::Ended(current.max(until)),
            Entry::Abandoned(_) => Entry::Ended(until),
        };
    }

    /// Lists abandoned branches of a grant until `until`, unless the grant has ended.
    pub fn add_abandoned(&self, grant: Id, branches: AbandonedBranches, until: UnixTime) {
        match *self.entries.entry(grant).or_insert(Entry::Abandoned(Vec::new())) {
            Entry::Ended(_) => {}
            Entry::Abandoned(ref mut list) => {
                list.retain(|(listed, _)| listed.generation != branches.generation || listed.first_live > branches.first_live);
                list.push((branches, until));
            }
        }
    }

    /// Whether the list is complete. Before that, no MCP request may be answered.
    pub fn is_complete(&self) -> bool {
        self.is_complete.load(Ordering::Acquire)
    }

    /// Says that everything in the store is listed, and wakes those who wait.
    pub fn set_complete(&self) {
        self.is_complete.store(true, Ordering::Release);
        self.completed.notify_waiters();
    }

    /// Waits for [`Self::set_complete`], at most `timeout`. Returns whether the list is complete.
    pub async fn wait_complete(&self, timeout: Duration) -> bool {
        // Created before the check, so that a call in between is not missed.
        let completed = self.completed.notified();
        self.is_complete() || tokio::time::timeout(timeout, completed).await.is_ok()
    }

    /// The ids of what has ended.
    pub fn ids(&self) -> Vec<Id> {
        let ended = self.entries.iter().filter(|entry| matches!(**entry, Entry::Ended(_)));
        ended.map(|entry| *entry.key()).collect()
    }

    /// Removes what can no longer be presented.
    pub fn sweep(&self, now: UnixTime) {
        self.entries.retain(|_, entry| match entry {
            Entry::Ended(until) => *until >= now,
            Entry::Abandoned(branches) => {
                branches.retain(|(_, until)| *until >= now);
                !branches.is_empty()
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_early_request_waits_for_the_revocation_list_or_times_out() {
        let list = RevocationList::default();
        assert!(!list.wait_complete(Duration::from_millis(1)).await);
        let load = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            list.set_complete();
        };
        let (is_complete, ()) = tokio::join!(list.wait_complete(Duration::from_secs(60)), load);
        assert!(is_complete && list.wait_complete(Duration::ZERO).await);
    }
}
