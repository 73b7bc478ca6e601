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
/// How often a process reads the journals of the others.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long an entry stays in a journal, in microseconds, unless the journal is full.
const RETENTION_MICROS: u64 = 30_000_000;
/// Maximum number of entries in a journal: about 130 KiB.
const MAX_ENTRIES: usize = 1024;
/// After this many microseconds without a complete read of the journals, `Gap` is published.
const FULL_RESCAN_MICROS: u64 = 3_600_000_000;
/// How often a journal without new entries is written, so that it does not count as abandoned.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(6 * 3600);
/// Age in seconds at which a journal counts as abandoned. A running writer writes it again.
pub(super) const DEAD_JOURNAL_SECONDS: u64 = 8 * 3600;

/// A journal as stored.
#[derive(Serialize, Deserialize)]
pub(super) struct Journal {
    /// When it was written, in Unix seconds.
    pub(super) at: String,
    /// How many entries were ever written.
    count: u64,
    /// The latest entries: key, space character, sealed id in base64.
    notes: Vec<String>,
}

/// An entry to publish, and the channel that confirms it.
pub(super) struct Message {
    pub(super) key: String,
    pub(super) note: Vec<u8>,
    pub(super) done: oneshot::Sender<()>,
}

/// Publishes this process's writes.
#[derive(Clone)]
pub(super) struct Publisher(mpsc::UnboundedSender<Message>);

impl Publisher {
    /// Waits until others can read the entry, or for a timeout. Attempts continue after it.
    pub(super) async fn publish(&self, key: String, note: Vec<u8>) {
        let (done, is_done) = oneshot::channel();
        if self.0.send(Message { key, note, done }).is_ok() {
            // A timeout is no failure: it does not affect the record.
            drop(timeout(REQUEST_TIMEOUT, is_done).await);
        }
    }
}

/// Reads all journals' counts, then starts a reader and a writer on the current runtime.
pub(super) async fn begin(link: &Arc<Connection>, clock: Clock, feed: ChangeFeed) -> Result<Publisher, ApiError> {
    let own = Id::random().to_string();
    let mut seen = HashMap::new();
    // A journal that cannot be read now is read from its beginning later.
    for (name, journal) in journals(link, &own).await?.0 {
        seen.insert(name, journal.count);
    }
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(append_loop(Arc::clone(link), clock, own.clone(), told));
    tokio::spawn(listen(Arc::clone(link), feed, own, seen));
    Ok(Publisher(tell))
}

async fn listen(link: Arc<Connection>, feed: ChangeFeed, own: String, mut seen: HashMap<String, u64>) {
    let mut tick = interval(POLL_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut last, mut is_deaf) = (Stopwatch::start(), false);
    loop {
        tick.tick().await;
        let (all, failed) = match journals(&link, &own).await {
            Ok((all, failed)) => (Some(all), failed),
            Err(why) => (None, Some(why)),
        };
        match &failed {
            Some(why) if !is_deaf => tracing::warn!(%why, "what other instances write, such as revocations, is not heard"),
            None if is_deaf => tracing::info!("what other instances write is heard again"),
            Some(_) | None => {}
        }
        is_deaf = failed.is_some();
        let Some(all) = all else { continue };
        // A journal that stays unreadable for this long counts as missed.
        let was_blind = last.micros() > FULL_RESCAN_MICROS;
        if was_blind {
            feed.publish(ChangeEvent::Gap);
        }
        if was_blind || failed.is_none() {
            last = Stopwatch::start();
        }
        for (name, journal) in all {
            let before = seen.insert(name, journal.count).unwrap_or(0);
            for news in new(&journal, before) {
                feed.publish(news);
            }
        }
    }
}

/// Returns the events that were added to a journal since its count was `before`.
fn new(journal: &Journal, before: u64) -> Vec<ChangeEvent> {
    if journal.count < before {
        // An older journal was restored, and perhaps older records with it.
        return vec![ChangeEvent::Gap];
    }
    let (there, added) = (journal.notes.len(), journal.count - before);
    let added = usize::try_from(added).unwrap_or(usize::MAX);
    let mut news = Vec::new();
    if added > there {
        news.push(ChangeEvent::Gap);
    }
    let read = |line: &String| {
        let (key, note) = line.split_once(' ')?;
        let (key, note) = (key.to_owned(), STANDARD.decode(note).ok()?);
        Some(ChangeEvent::SealedId { key, note })
    };
    news.extend(
        journal.notes[there - added.min(there)..]
            .iter()
            .map(|line| read(line).unwrap_or(ChangeEvent::Gap)),
    );
    news
}

/// Reads the other journals. Also returns the first error, which does not stop the other reads.
pub(super) async fn journals(link: &Connection, own: &str) -> Result<(Vec<(String, Journal)>, Option<ApiError>), ApiError> {
    let names = names(link, &format!("{JOURNAL_PATH}/")).await?;
    let others = names.into_iter().filter(|name| name != own && is_plain(name));
    let mut reads = stream::iter(others)
        .map(|name| async move {
            let found = row::read(link, &format!("{JOURNAL_PATH}/{name}")).await;
            (name, found)
        })
        .buffered(CONCURRENT_READS);
    let (mut all, mut failed) = (Vec::new(), None);
    while let Some((name, found)) = reads.next().await {
        match found.map(|found| serde_json::from_value(found?.1).ok()) {
            // Skips a journal that is being removed, and data that is no journal.
            Ok(journal) => all.extend(journal.map(|journal| (name, journal))),
            Err(why) => failed = failed.or(Some(why)),
        }
    }
    Ok((all, failed))
}

/// Writes all waiting entries at once to the journal of this process, its only writer.
async fn append_loop(link: Arc<Connection>, clock: Clock, own: String, mut told: mpsc::UnboundedReceiver<Message>) {
    let key = format!("{JOURNAL_PATH}/{own}");
    let mut notes: VecDeque<(Stopwatch, String)> = VecDeque::new();
    let (mut count, mut writes) = (0_u64, 0_u64);
    loop {
        let mut next = match timeout(HEARTBEAT_INTERVAL, told.recv()).await {
            Ok(Some(one)) => Some(one),
            Ok(None) => return,
            // Without a journal there is nothing to keep alive.
            Err(_) if writes == 0 => continue,
            Err(_) => None,
        };
        // Without Vault, memory holds bounded entries and the callers that still wait.
        let mut waiting: Vec<oneshot::Sender<()>> = Vec::new();
        loop {
            while let Some(one) = next.take().or_else(|| told.try_recv().ok()) {
                let text = format!("{} {}", one.key, STANDARD.encode(&one.note));
                notes.push_back((Stopwatch::start(), text));
                count += 1;
                waiting.push(one.done);
            }
            while notes.len() > MAX_ENTRIES || notes.front().is_some_and(|(since, _)| since.micros() > RETENTION_MICROS) {
                notes.pop_front();
            }
            waiting.retain(|done| !done.is_closed());
            let journal = Journal {
                at: clock.now().0.to_string(),
                count,
                notes: notes.iter().map(|(_, text)| text.clone()).collect(),
            };
            match row::put(&link, &key, writes, &json!(journal)).await {
                Ok(RowWrite::Written) => break,
                // The response to an own write was lost, or the journal was removed.
                Ok(RowWrite::Stale) => {}
                Err(why) => {
                    tracing::debug!(%why, "others are not told yet what was written");
                    pause().await;
                }
            }
            match row::read(&link, &key).await {
                Ok(found) => writes = found.map_or(0, |(writes, _)| writes),
                Err(_) => pause().await,
            }
        }
        if writes == 0 && row::limit_versions(&link, &key).await.is_err() {
            tracing::debug!("a journal keeps older versions");
        }
        writes += 1;
        for done in waiting {
            // The caller may have stopped waiting.
            let _ = done.send(());
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

    fn told(journal: &Journal, before: u64) -> Vec<String> {
        let name = |news: ChangeEvent| match news {
            ChangeEvent::SealedId { key, .. } => key,
            ChangeEvent::Gap => "gap".to_owned(),
            ChangeEvent::Put { .. } | ChangeEvent::External { .. } => unreachable!(),
        };
        new(journal, before).into_iter().map(name).collect()
    }

    #[test]
    fn a_journal_reports_new_entries_once_and_missed_ones_as_gap() {
        let three = journal(3, &["a/1 ", "a/2 ", "a/3 "]);
        assert_eq!(told(&three, 0), ["a/1", "a/2", "a/3"]);
        assert_eq!(told(&three, 2), ["a/3"]);
        assert!(told(&three, 3).is_empty());
        let pruned = journal(7, &["a/7 "]);
        assert_eq!(told(&pruned, 6), ["a/7"]);
        assert_eq!(told(&pruned, 3), ["gap", "a/7"]);
        assert_eq!(told(&journal(7, &[]), 6), ["gap"]);
        assert_eq!(told(&journal(1, &["nonsense"]), 0), ["gap"]);
        assert_eq!(told(&three, 5), ["gap"], "an older one was put back");
    }
}
