//! Records in memory: for tests, for temporary gateways, and as the cache of the stateless mode.

use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::fmt;
use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::base::time::UnixTime;
use crate::store::change_feed::ChangeFeed;
use crate::store::row::{Page, Row, Write, WriteOp, WriteOutcome};

/// A backend that loses all records when the process ends. Clones share their records.
#[derive(Clone, Default)]
pub struct Memory(Arc<Inner>);

#[derive(Default)]
struct Inner {
    rows: DashMap<String, Row>,
    /// The maximum number of rows. `None`: no limit.
    max_rows: Option<usize>,
    feed: ChangeFeed,
    #[cfg(test)]
    fault: faults::Fault,
}

impl Memory {
    /// Creates an empty backend without a limit.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates an empty backend. Above `max_rows` rows it evicts those that expire soonest.
    pub(super) fn bounded(max_rows: usize) -> Self {
        Self(Arc::new(Inner {
            max_rows: Some(max_rows),
            ..Inner::default()
        }))
    }

    pub(super) fn get(&self, key: &str) -> Option<Row> {
        self.0.rows.get(key).map(|row| row.clone())
    }

    pub(super) fn put_if(&self, write: Write) -> WriteOutcome {
        #[cfg(test)]
        if let Some(outcome) = self.0.fault.instead(|| self.compare_and_put(write.clone())) {
            return outcome;
        }
        self.compare_and_put(write)
    }

    fn compare_and_put(&self, write: Write) -> WriteOutcome {
        let outcome = apply(self.0.rows.entry(write.key), write.operation);
        if outcome == WriteOutcome::Written {
            self.0.feed.publish(write.event);
            if self.0.max_rows.is_some_and(|max_rows| self.0.rows.len() > max_rows) {
                self.evict_expiring();
            }
        }
        outcome
    }

    /// Evicts a tenth of the most numerous kind, so that this pass over all rows is rare. Grants,
    /// which live for weeks, thus do not evict the flows of this minute.
    fn evict_expiring(&self) {
        let mut kinds: HashMap<String, Vec<_>> = HashMap::new();
        for row in &self.0.rows {
            let kind = row.key().split('/').next().unwrap_or_default();
            let entries = match kinds.get_mut(kind) {
                Some(entries) => entries,
                None => kinds.entry(kind.to_owned()).or_default(),
            };
            entries.push((row.expires, row.key().clone()));
        }
        let mut largest = kinds.into_values().max_by_key(Vec::len).unwrap_or_default();
        let tenth = largest.len() / 10;
        if let Some(last) = tenth.checked_sub(1) {
            largest.select_nth_unstable(last);
        }
        for (_, key) in &largest[..tenth] {
            self.0.rows.remove(key);
        }
    }

    /// The first rows after the key `after`. It reads all keys, so that writes maintain no order.
    pub(super) fn scan(&self, space: &str, after: Option<&str>, limit: usize) -> Page {
        let prefix = format!("{space}/");
        let mut first = BinaryHeap::with_capacity(limit + 1);
        for row in &self.0.rows {
            let key = row.key();
            if key.starts_with(&prefix) && after.is_none_or(|after| key.as_str() > after) {
                first.push(key.clone());
                if first.len() > limit {
                    first.pop();
                }
            }
        }
        let keys = first.into_sorted_vec();
        let next = if keys.len() == limit { keys.last().cloned() } else { None };
        let rows = keys.into_iter().filter_map(|key| self.get(&key).map(|row| (key, row))).collect();
        Page { rows, next }
    }

    pub(super) fn spaces(&self) -> Vec<String> {
        let space = |key: &str| key.split_once('/').map(|(space, _)| space.to_owned());
        let spaces: BTreeSet<_> = self.0.rows.iter().filter_map(|row| space(row.key())).collect();
        spaces.into_iter().collect()
    }

    pub(super) fn sweep(&self, now: UnixTime) -> usize {
        let mut removed = 0;
        self.0.rows.retain(|_, row| {
            let keep = row.expires >= now;
            removed += usize::from(!keep);
            keep
        });
        removed
    }

    pub(super) fn feed(&self) -> &ChangeFeed {
        &self.0.feed
    }
}

fn apply(entry: Entry<'_, String, Row>, operation: WriteOp) -> WriteOutcome {
    match (entry, operation) {
        (Entry::Vacant(entry), WriteOp::Insert(row)) => {
            entry.insert(row);
        }
        (Entry::Occupied(mut entry), WriteOp::Replace(expected, row)) if entry.get().version == expected => {
            entry.insert(row);
        }
        (Entry::Occupied(entry), WriteOp::Delete(expected)) if entry.get().version == expected => {
            entry.remove();
        }
        (Entry::Occupied(_), WriteOp::Insert(_) | WriteOp::Replace(..) | WriteOp::Delete(_))
        | (Entry::Vacant(_), WriteOp::Replace(..) | WriteOp::Delete(_)) => return WriteOutcome::Stale,
    }
    WriteOutcome::Written
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({} records)", self.0.rows.len())
    }
}

/// Writes that fail on request, as they do over a network.
#[cfg(test)]
pub(super) mod faults {
    use std::sync::Mutex;

    use super::{Memory, WriteOutcome};

    #[derive(Clone, Copy, Debug)]
    pub(in crate::store) enum Lost {
        /// The write is done, but its answer is lost.
        Answer,
        /// The write is lost.
        Write,
    }

    #[derive(Default)]
    pub(super) struct Fault(Mutex<Vec<Lost>>);

    impl Fault {
        pub(super) fn instead(&self, write: impl FnOnce() -> WriteOutcome) -> Option<WriteOutcome> {
            let fault = self.0.lock().unwrap().pop()?;
            match fault {
                Lost::Answer => drop(write()),
                Lost::Write => {}
            }
            Some(WriteOutcome::Unknown)
        }
    }

    impl Memory {
        /// Sets the faults of the next writes. The last one of the list comes first.
        pub(in crate::store) fn lose(&self, faults: Vec<Lost>) {
            *self.0.fault.0.lock().unwrap() = faults;
        }
    }
}
