//! Bounded table of unauthenticated flows. Anyone can start a flow, so the table has a limit. When
//! it is full, the oldest flow of the busiest source is evicted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use crate::base::ids::Id;
use crate::base::special_ip;
use crate::base::time::UnixTime;
use crate::flow::authorize::FLOW_TTL_SECONDS;

/// The maximum number of flows that wait at the same time. In a store in memory, a flow of a usual client takes 1.4 KB, and
/// one with the longest client id, redirect URI and `state` 8 KB: 14 MB to 80 MB for all.
pub const MAX_PENDING_FLOWS: usize = 10_000;

/// The table. A restart loses the counts of the last ten minutes, and no flow.
#[derive(Debug)]
pub struct PendingFlows {
    most: usize,
    book: Mutex<PendingIndex>,
}

#[derive(Debug, Default)]
struct PendingIndex {
    /// The number of flows ever inserted. An earlier flow has a lower number.
    came: u64,
    places: HashMap<Id, PendingEntry>,
    /// The flows of each source, oldest first.
    sources: HashMap<IpAddr, BTreeMap<u64, Id>>,
    /// The busiest source is last. Of equally busy ones, it is the one with the oldest flow.
    busy: BTreeSet<(usize, std::cmp::Reverse<u64>, IpAddr)>,
}

#[derive(Clone, Copy, Debug)]
struct PendingEntry {
    source: IpAddr,
    number: u64,
    began: UnixTime,
}

impl PendingFlows {
    /// An empty table for at most `max` flows.
    pub fn new(max: usize) -> Self {
        Self {
            most: max,
            book: Mutex::default(),
        }
    }

    /// Adds a flow from the address `source`. Returns the flow to evict if the table was full.
    #[must_use]
    pub fn insert(&self, flow: Id, source: IpAddr, now: UnixTime) -> Option<Id> {
        self.with(|index| {
            index.enter(flow, special_ip::rate_limit_key(source), now);
            let evicted = (index.places.len() > self.most).then(|| index.oldest_of_busiest()).flatten()?;
            index.leave(evicted);
            Some(evicted)
        })
    }

    /// Restarts a flow's lifetime, because the browser leaves for an identity provider. As `insert`.
    #[must_use]
    pub fn restart(&self, flow: Id, source: IpAddr, now: UnixTime) -> Option<Id> {
        self.remove(flow);
        self.insert(flow, source, now)
    }

    /// Removes a flow: the user logged in or denied, or the flow could not be stored.
    pub fn remove(&self, flow: Id) {
        self.with(|index| index.leave(flow));
    }

    /// Removes expired flows.
    pub fn sweep(&self, now: UnixTime) {
        self.with(|index| {
            let is_expired = |entry: &PendingEntry| entry.began.plus_seconds(FLOW_TTL_SECONDS) <= now;
            let expired: Vec<Id> = index
                .places
                .iter()
                .filter(|(_, entry)| is_expired(entry))
                .map(|(flow, _)| *flow)
                .collect();
            for flow in expired {
                index.leave(flow);
            }
        });
    }

    fn with<T>(&self, operation: impl FnOnce(&mut PendingIndex) -> T) -> T {
        // After a panic the counts may be wrong. That is better than refusing every login.
        operation(&mut self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl PendingIndex {
    fn enter(&mut self, flow: Id, source: IpAddr, now: UnixTime) {
        self.came += 1;
        let number = self.came;
        self.places.insert(
            flow,
            PendingEntry {
                source,
                number,
                began: now,
            },
        );
        self.change(source, |flows| {
            flows.insert(number, flow);
        });
    }

    fn leave(&mut self, flow: Id) {
        if let Some(PendingEntry { source, number, .. }) = self.places.remove(&flow) {
            self.change(source, |flows| {
                flows.remove(&number);
            });
        }
    }

    fn oldest_of_busiest(&self) -> Option<Id> {
        let (_, _, source) = self.busy.last()?;
        self.sources.get(source)?.values().next().copied()
    }

    /// Changes the flows of one source, and updates its rank.
    fn change(&mut self, source: IpAddr, change: impl FnOnce(&mut BTreeMap<u64, Id>)) {
        let mut flows = self.sources.remove(&source).unwrap_or_default();
        if let Some(rank) = rank(&flows, source) {
            self.busy.remove(&rank);
        }
        change(&mut flows);
        if let Some(rank) = rank(&flows, source) {
            self.busy.insert(rank);
            self.sources.insert(source, flows);
        }
    }
}

fn rank(flows: &BTreeMap<u64, Id>, source: IpAddr) -> Option<(usize, std::cmp::Reverse<u64>, IpAddr)> {
    let (oldest, _) = flows.first_key_value()?;
    Some((flows.len(), std::cmp::Reverse(*oldest), source))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_000);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Starts `count` flows from `source`. Returns them, and the flows evicted meanwhile, in order.
    fn flood(pending: &PendingFlows, source: &str, count: usize) -> (Vec<Id>, Vec<Id>) {
        let ids: Vec<Id> = (0..count).map(|_| Id::random()).collect();
        let evicted = ids.iter().filter_map(|id| pending.insert(*id, ip(source), NOW)).collect();
        (ids, evicted)
    }

    fn is_empty(pending: &PendingFlows) -> bool {
        pending.with(|index| index.places.is_empty() && index.sources.is_empty() && index.busy.is_empty())
    }

    #[test]
    fn the_oldest_flow_of_the_busiest_source_is_evicted() {
        let pending = PendingFlows::new(5);
        let (_, none) = flood(&pending, "192.0.2.1", 2);
        assert!(none.is_empty());
        let (ids, evicted) = flood(&pending, "192.0.2.2", 20);
        assert_eq!(evicted, ids[..17], "its own, oldest first");
        let (_, evicted) = flood(&pending, "192.0.2.3", 1);
        assert_eq!(evicted, ids[17..18], "a newcomer does not pay for the flood");
    }

    #[test]
    fn the_oldest_flow_is_evicted_among_equally_busy_sources() {
        let pending = PendingFlows::new(3);
        let first: Vec<Id> = (1..=3).flat_map(|n| flood(&pending, &format!("192.0.2.{n}"), 1).0).collect();
        let evicted: Vec<Id> = (4..=6).flat_map(|n| flood(&pending, &format!("198.51.100.{n}"), 1).1).collect();
        assert_eq!(evicted, first);
    }

    #[test]
    fn a_removed_flow_is_not_counted_and_not_evicted() {
        let pending = PendingFlows::new(2);
        let (ids, _) = flood(&pending, "192.0.2.1", 2);
        for id in &ids {
            pending.remove(*id);
        }
        pending.remove(ids[0]);
        assert!(is_empty(&pending));
        let (newer, evicted) = flood(&pending, "192.0.2.1", 3);
        assert_eq!(evicted, newer[..1]);
    }

    #[test]
    fn all_addresses_of_one_ipv6_64_prefix_count_as_one_source() {
        let pending = PendingFlows::new(3);
        let (own, _) = flood(&pending, "2001:db8:1:2::1", 1);
        let evicted: Vec<Id> = (1..=9)
            .filter_map(|n| flood(&pending, &format!("2001:db8:7:7:{n}::1"), 1).1.pop())
            .collect();
        assert_eq!(evicted.len(), 7);
        assert!(!evicted.contains(&own[0]));
    }

    #[test]
    fn a_sweep_removes_only_expired_pending_flows() {
        let pending = PendingFlows::new(2);
        let (old, new) = (Id::random(), Id::random());
        assert_eq!(pending.insert(old, ip("192.0.2.1"), NOW), None);
        assert_eq!(pending.insert(new, ip("192.0.2.1"), NOW.plus_seconds(1)), None);
        pending.sweep(NOW.plus_seconds(FLOW_TTL_SECONDS));
        assert_eq!(pending.insert(Id::random(), ip("192.0.2.1"), NOW), None, "the old one made room");
        pending.sweep(NOW.plus_seconds(FLOW_TTL_SECONDS + 1));
        assert!(is_empty(&pending));
    }

    #[test]
    fn the_pending_flow_table_never_exceeds_its_limit() {
        let pending = PendingFlows::new(50);
        let mut remaining = Vec::new();
        for n in 0..2_000_u32 {
            let id = Id::random();
            let [a, b, ..] = id.0;
            let evicted = pending.insert(id, IpAddr::from([192, 0, 2, a % 7]), NOW);
            remaining.push(id);
            remaining.retain(|id| Some(*id) != evicted);
            if b % 3 == 0 {
                let removed = remaining.swap_remove(n as usize % remaining.len());
                pending.remove(removed);
            }
            assert!(remaining.len() <= 50);
            pending.with(|index| {
                assert_eq!(index.places.len(), remaining.len());
                assert_eq!(index.busy.iter().map(|(count, _, _)| count).sum::<usize>(), remaining.len());
                assert_eq!(index.busy.len(), index.sources.len());
            });
        }
    }
}
