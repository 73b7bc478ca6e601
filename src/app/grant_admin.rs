//! The operator's view of grants: lists them, shows one, and ends some. A gateway may use the same store
//! at the same time; it learns of an end from the store's changes.

use std::convert::Infallible;

use crate::app::clients;
use crate::base::ids::Id;
use crate::base::time::{Clock, UnixTime};
use crate::flow::branches::{Branch, ParallelUse};
use crate::flow::grant::GrantRecord;
use crate::flow::grant_data::GrantData;
use crate::store::{Handle, SharedKeyRing, Store, StoreError, TransitionError};

/// The number of grants in one page of a scan.
const PAGE_SIZE: usize = 500;

/// A selection of grants. Every condition that is set must hold. Without a condition, all grants are selected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrantFilter {
    /// The subject of the user, or the user's e-mail address.
    pub user: Option<String>,
    /// The client's id or its name.
    pub client: Option<String>,
    /// The service's name.
    pub service: Option<String>,
    /// One of these ids, if there are any.
    pub ids: Vec<Id>,
}

/// A grant that has not ended.
#[derive(Clone, Debug)]
pub struct GrantSummary {
    /// The id by which it is shown and ended.
    pub id: Id,
    /// The client's name, if it has one.
    pub client_name: Option<String>,
    /// Its data.
    pub data: GrantData,
}

impl GrantSummary {
    /// When it was last refreshed, or one of its branches was first used; `None` if neither was. Later
    /// uses of a branch are not stored.
    pub fn last_used(&self) -> Option<UnixTime> {
        let used = self.data.branches().current().iter().filter_map(|branch| branch.used);
        used.chain(self.data.last_refreshed()).max()
    }

    /// The branches of its current generation, each with its number and whether it is abandoned.
    pub fn branches(&self) -> Vec<(u8, Branch, bool)> {
        let branches = self.data.branches().current().iter();
        (0..=u8::MAX)
            .zip(branches)
            .map(|(number, branch)| (number, *branch, self.data.is_abandoned(self.data.generation(), number)))
            .collect()
    }

    /// Since when two branches both refresh, if they do.
    pub fn parallel(&self) -> Option<ParallelUse> {
        self.data.branches().parallel()
    }
}

/// The grants of a store.
#[derive(Debug)]
pub struct GrantAdmin {
    store: Store,
    keys: SharedKeyRing,
    clock: Clock,
    /// The longest life of an access pair, in seconds. A tombstone outlives it.
    max_access_ttl: u64,
}

impl GrantAdmin {
    /// The grants in `store`, sealed with the key ring of the gateway. `max_access_ttl` is the longest
    /// life of an access pair, in seconds.
    pub fn new(store: Store, keys: SharedKeyRing, clock: Clock, max_access_ttl: u64) -> Self {
        Self {
            store,
            keys,
            clock,
            max_access_ttl,
        }
    }

    /// The grants that a filter means, oldest first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn list(&self, filter: &GrantFilter) -> Result<Vec<GrantSummary>, StoreError> {
        let (mut grants, mut cursor) = (Vec::new(), None);
        loop {
            let (page, next) = self.store.scan::<GrantRecord>(cursor, PAGE_SIZE).await?;
            for (handle, record) in page {
                let Some(data) = record.data() else { continue };
                let grant = GrantSummary {
                    id: handle.id(),
                    client_name: clients::registered_name(&self.keys.load(), &data.client_id),
                    data: data.clone(),
                };
                if filter.means(&grant) {
                    grants.push(grant);
                }
            }
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        grants.sort_by_key(|grant| (grant.data.granted_at, grant.id));
        Ok(grants)
    }

    /// Ends a grant. Returns whether it had not ended before.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn end(&self, grant: Id) -> Result<bool, StoreError> {
        let (now, handle) = (self.clock.now(), Handle::<GrantRecord>::new(grant));
        let step = |record: GrantRecord| Ok::<_, Infallible>(record.ended(now, self.max_access_ttl));
        match self.store.update(&handle, step).await {
            Ok((_, data)) => Ok(data.is_some()),
            Err(TransitionError::NotFound | TransitionError::WrongState) => Ok(false),
            Err(TransitionError::Rejected(never)) => match never {},
            Err(TransitionError::Store(error)) => Err(error),
        }
    }
}

impl GrantFilter {
    /// Whether no condition is set, so that all grants are meant.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn means(&self, grant: &GrantSummary) -> bool {
        let data = &grant.data;
        let is = |wanted: &Option<String>, values: &[Option<&str>]| wanted.as_deref().is_none_or(|wanted| values.contains(&Some(wanted)));
        let email = data.who.identity.as_ref().and_then(|identity| identity.email.as_deref());
        is(&self.user, &[Some(&data.who.subject), email])
            && is(&self.client, &[Some(&data.client_id), grant.client_name.as_deref()])
            && is(&self.service, &[Some(&data.service)])
            && (self.ids.is_empty() || self.ids.contains(&grant.id))
    }
}
