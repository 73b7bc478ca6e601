//! What instances write, told to each other. Vault tells nobody anything, so each instance keeps a journal of what it wrote in the last
//! half minute, under a path that only it writes, and reads those of the others every second. A note is sealed; notes are
//! counted, so that who missed one knows it.

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

/// Where the journals are. No kind of record has a dot in its name.
pub(super) const JOURNAL_PATH: &str = "our.news";
/// How often the journals of others are read.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long a note stays in a journal, in microseconds, unless there are too many.
const RETENTION_MICROS: u64 = 30_000_000;
/// The most notes in a journal: some 130 KiB.
const MAX_ENTRIES: usize = 1024;
/// After so long without a look at the journals, in microseconds, everything is looked at.
const FULL_RESCAN_MICROS: u64 = 3_600_000_000;
/// How often a journal is written although nothing happened, so that it is not taken for a dead one's.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(6 * 3600);
/// How old a journal is, in seconds, when its writer is long dead; if he is not, he writes it again.
pub(super) const DEAD_JOURNAL_SECONDS: u64 = 8 * 3600;

/// A journal at rest.
#[derive(Serialize, Deserialize)]
pub(super) struct Journal {
    /// When it was written, seconds since 1970.
    pub(super) at: String,
    /// How many notes there ever were.
    count: u64,
    /// The last of them: a key, a space, the note.
    notes: Vec<String>,
}

/// A note to be told, and whom to tell that it was.
pub(super) struct Message {
    pub(super) key: String,
    pub(super) note: Vec<u8>,
    pub(super) done: oneshot::Sender<()>,
}

/// Tells others what this instance writes.
#[derive(Clone)]
pub(super) struct Publisher(mpsc::UnboundedSender<Message>);

impl Publisher {
    /// Waits until others can read it, but not for ever: it is tried again and again.
    pub(super) async fn publish(&self, key: String, note: Vec<u8>) {
        let (done, is_done) = oneshot::channel();
        if self.0.send(Message { key, note, done }).is_ok() {
            // Late or never: the write itself is done.
            drop(timeout(REQUEST_TIMEOUT, is_done).await);
        }
    }
}

/// Notes where all journals stand, and from then on tells what is added, on the runtime that this is called on.
pub(super) async fn begin(link: &Arc<Connection>, clock: Clock, feed: ChangeFeed) -> Result<Publisher, ApiError> {
    let own = Id::random().to_string();
    let mut seen = HashMap::new();
    // One that cannot be read now is read whole later.
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
        // A journal that stays unreadable is as good as one that was missed.
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

/// What a journal has that was not there when so many notes had been written.
fn new(journal: &Journal, before: u64) -> Vec<ChangeEvent> {
    if journal.count < before {
        // Somebody put back an older one, and perhaps older records with it.
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

/// The journals of the others, and why some could not be read, if so: what is in all others is heard nevertheless.
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
            // One that is being removed, or that somebody else put there, tells nothing.
            Ok(journal) => all.extend(journal.map(|journal| (name, journal))),
            Err(why) => failed = failed.or(Some(why)),
        }
    }
    Ok((all, failed))
}

/// Writes down what is told, all that waits at once, in a journal that only this writes.
async fn append_loop(link: Arc<Connection>, clock: Clock, own: String, mut told: mpsc::UnboundedReceiver<Message>) {
    let key = format!("{JOURNAL_PATH}/{own}");
    let mut notes: VecDeque<(Stopwatch, String)> = VecDeque::new();
    let (mut count, mut writes) = (0_u64, 0_u64);
    loop {
        let mut next = match timeout(HEARTBEAT_INTERVAL, told.recv()).await {
            Ok(Some(one)) => Some(one),
            Ok(None) => return,
            // A journal that never was need not be kept alive.
            Err(_) if writes == 0 => continue,
            Err(_) => None,
        };
        // While Vault is away only the notes are kept, of which there is a most, and who still waits.
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
                // One of our own whose answer was lost, or it was removed.
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
            // Nobody may wait for it any more.
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
    fn what_was_added_is_told_once_and_what_was_missed_is_a_gap() {
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
