//! Change events in Vault, which has no notifications. Each process writes a journal of its last 30
//! seconds of writes under its own path. Every process reads the others' journals each second.
//! Entries hold a sealed id, and are counted so that a reader notices a gap.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::base::ids::Id;
use crate::base::time::{Clock, Stopwatch};
use crate::store::change_feed::{ChangeEvent, ChangeFeed};
use crate::store::vault::api::{ApiError, REQUEST_TIMEOUT};
use crate::store::vault::connection::{Connection, pause};
use crate::store::vault::row::{self, RowWrite};
use crate::store::vault::scan::{CONCURRENT_READS, is_plain, names};

/// The path of the journals. The name of a record kind has no dot.
pub(super) const JOURNAL_PATH: &str = "our.news";
/// The interval at which a process reads the journals of the others.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The time for which an entry stays in a journal, in microseconds, unless the journal is full.
const RETENTION_MICROS: u64 = 30_000_000;
/// Maximum number of entries in a journal: about 130 KiB.
const MAX_ENTRIES: usize = 1024;
/// After this many microseconds without a complete read of the journals, `Gap` is published.
const FULL_RESCAN_MICROS: u64 = 3_600_000_000;
/// The interval at which a journal without new entries is written, so that it does not count as abandoned.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(6 * 3600);
/// Age in seconds at which a journal counts as abandoned. A running writer writes it again.
pub(super) const DEAD_JOURNAL_SECONDS: u64 = 8 * 3600;

/// A journal as stored.
#[derive(Serialize, Deserialize)]
pub(super) struct Journal {
    /// When it was written, in Unix seconds.
    pub(super) at: String,
    /// The number of entries that were ever written.
    count: u64,
    /// The latest entries: key, space character, sealed id in base64.
    notes: Vec<String>,
}

/// An entry to publish, and the channel that confirms it.
struct Message {
    key: String,
    sealed_id: Vec<u8>,
    done: oneshot::Sender<()>,
}

/// Publishes this process's writes.
#[derive(Clone)]
pub(super) struct Publisher(mpsc::UnboundedSender<Message>);

impl Publisher {
    /// Waits until others can read the entry, or for a timeout. Attempts continue after it.
    pub(super) async fn publish(&self, key: String, sealed_id: Vec<u8>) {
        let (done, receiver) = oneshot::channel();
        if self.0.send(Message { key, sealed_id, done }).is_ok() {
            // A timeout is no failure: it does not affect the record.
            drop(timeout(REQUEST_TIMEOUT, receiver).await);
        }
    }
}

/// Reads all journals' counts, then starts a reader and a writer on the current runtime.
pub(super) async fn begin(link: &Arc<Connection>, clock: Clock, feed: ChangeFeed) -> Result<Publisher, ApiError> {
    let own_name = Id::random().to_string();
    let mut seen_counts = HashMap::new();
    // A journal that cannot be read now is read from its beginning later.
    for (name, journal) in journals(link, &own_name).await?.0 {
        seen_counts.insert(name, journal.count);
    }
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(append_loop(Arc::clone(link), clock, own_name.clone(), receiver));
    tokio::spawn(listen(Arc::clone(link), feed, own_name, seen_counts));
    Ok(Publisher(sender))
}

async fn listen(link: Arc<Connection>, feed: ChangeFeed, own_name: String, mut seen_counts: HashMap<String, u64>) {
    let mut ticker = interval(POLL_INTERVAL);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut last_complete, mut was_failing) = (Stopwatch::start(), false);
    loop {
        ticker.tick().await;
        let (others, error) = match journals(&link, &own_name).await {
            Ok((others, error)) => (Some(others), error),
            Err(error) => (None, Some(error)),
        };
        match &error {
            Some(error) if !was_failing => tracing::warn!(why = %error, "what other instances write, such as revocations, is not heard"),
            None if was_failing => tracing::info!("what other instances write is heard again"),
            Some(_) | None => {}
        }
        was_failing = error.is_some();
        let Some(others) = others else { continue };
        // A journal that stays unreadable for this long counts as missed.
        let is_overdue = last_complete.micros() > FULL_RESCAN_MICROS;
        if is_overdue {
            feed.publish(ChangeEvent::Gap);
        }
        if is_overdue || error.is_none() {
            last_complete = Stopwatch::start();
        }
        for (name, journal) in others {
            let previous_count = seen_counts.insert(name, journal.count).unwrap_or(0);
            for event in new(&journal, previous_count) {
                feed.publish(event);
            }
        }
    }
}

/// Returns the events that were added to a journal since its count was `previous_count`.
fn new(journal: &Journal, previous_count: u64) -> Vec<ChangeEvent> {
    if journal.count < previous_count {
        // An older journal was restored, and perhaps older records with it.
        return vec![ChangeEvent::Gap];
    }
    let (stored_count, added_count) = (journal.notes.len(), journal.count - previous_count);
    let added_count = usize::try_from(added_count).unwrap_or(usize::MAX);
    let mut events = Vec::new();
    if added_count > stored_count {
        events.push(ChangeEvent::Gap);
    }
    let parse = |line: &String| {
        let (key, sealed_id) = line.split_once(' ')?;
        let (key, sealed_id) = (key.to_owned(), STANDARD.decode(sealed_id).ok()?);
        Some(ChangeEvent::SealedId { key, sealed_id })
    };
    events.extend(
        journal.notes[stored_count - added_count.min(stored_count)..]
            .iter()
            .map(|line| parse(line).unwrap_or(ChangeEvent::Gap)),
    );
    events
}

/// Reads the other journals. Also returns the first error, which does not stop the other reads.
pub(super) async fn journals(link: &Connection, own_name: &str) -> Result<(Vec<(String, Journal)>, Option<ApiError>), ApiError> {
    let names = names(link, &format!("{JOURNAL_PATH}/")).await?;
    let other_names = names.into_iter().filter(|name| name != own_name && is_plain(name));
    let mut reads = stream::iter(other_names)
        .map(|name| async move {
            let result = row::read(link, &format!("{JOURNAL_PATH}/{name}")).await;
            (name, result)
        })
        .buffered(CONCURRENT_READS);
    let (mut others, mut first_error) = (Vec::new(), None);
    while let Some((name, result)) = reads.next().await {
        match result.map(|stored| serde_json::from_value(stored?.1).ok()) {
            // Skips a journal that is being removed, and data that is no journal.
            Ok(journal) => others.extend(journal.map(|journal| (name, journal))),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    Ok((others, first_error))
}

/// Writes all waiting entries at once to the journal of this process, its only writer.
async fn append_loop(link: Arc<Connection>, clock: Clock, own_name: String, mut receiver: mpsc::UnboundedReceiver<Message>) {
    let key = format!("{JOURNAL_PATH}/{own_name}");
    let mut entries: VecDeque<(Stopwatch, String)> = VecDeque::new();
    let (mut count, mut writes) = (0_u64, 0_u64);
    loop {
        let mut next = match timeout(HEARTBEAT_INTERVAL, receiver.recv()).await {
            Ok(Some(message)) => Some(message),
            Ok(None) => return,
            // Without a journal there is nothing to keep alive.
            Err(_) if writes == 0 => continue,
            Err(_) => None,
        };
        // Without Vault, memory holds bounded entries and the callers that still wait.
        let mut confirmations: Vec<oneshot::Sender<()>> = Vec::new();
        loop {
            while let Some(message) = next.take().or_else(|| receiver.try_recv().ok()) {
                let text = format!("{} {}", message.key, STANDARD.encode(&message.sealed_id));
                entries.push_back((Stopwatch::start(), text));
                count += 1;
                confirmations.push(message.done);
            }
            while entries.len() > MAX_ENTRIES || entries.front().is_some_and(|(added, _)| added.micros() > RETENTION_MICROS) {
                entries.pop_front();
            }
            confirmations.retain(|confirmation| !confirmation.is_closed());
            let journal = Journal {
                at: clock.now().0.to_string(),
                count,
                notes: entries.iter().map(|(_, text)| text.clone()).collect(),
            };
            match row::put(&link, &key, writes, &json!(journal)).await {
                Ok(RowWrite::Written) => break,
                // The response to an own write was lost, or the journal was removed.
                Ok(RowWrite::Stale) => {}
                Err(error) => {
                    tracing::debug!(why = %error, "the change feed could not be written yet");
                    pause().await;
                }
            }
            match row::read(&link, &key).await {
                Ok(stored) => writes = stored.map_or(0, |(writes, _)| writes),
                Err(_) => pause().await,
            }
        }
        if writes == 0 && row::limit_versions(&link, &key).await.is_err() {
            tracing::debug!("a journal keeps older versions");
        }
        writes += 1;
        for confirmation in confirmations {
            // The caller may have stopped waiting.
            let _ = confirmation.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(count: u64, notes: &[&str]) -> Journal {
        Journal {
            at: "0".to_owned(),
            count,
            notes: notes.iter().map(ToString::to_string).collect(),
        }
    }

    fn told(journal: &Journal, previous_count: u64) -> Vec<String> {
        let name = |event: ChangeEvent| match event {
            ChangeEvent::SealedId { key, .. } => key,
            ChangeEvent::Gap => "gap".to_owned(),
            ChangeEvent::Put { .. } | ChangeEvent::External { .. } => unreachable!(),
        };
        new(journal, previous_count).into_iter().map(name).collect()
    }

    #[test]
    fn a_journal_reports_new_entries_once_and_missed_ones_as_gap() {
        let complete = journal(3, &["a/1 ", "a/2 ", "a/3 "]);
        assert_eq!(told(&complete, 0), ["a/1", "a/2", "a/3"]);
        assert_eq!(told(&complete, 2), ["a/3"]);
        assert!(told(&complete, 3).is_empty());
        let pruned = journal(7, &["a/7 "]);
        assert_eq!(told(&pruned, 6), ["a/7"]);
        assert_eq!(told(&pruned, 3), ["gap", "a/7"]);
        assert_eq!(told(&journal(7, &[]), 6), ["gap"]);
        assert_eq!(told(&journal(1, &["nonsense"]), 0), ["gap"]);
        assert_eq!(told(&complete, 5), ["gap"], "an older one was put back");
    }
}
