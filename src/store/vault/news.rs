//! What instances write, told to each other. Vault tells nobody anything, so each instance keeps a journal of what it wrote in the last
//! half minute, under a path that only it writes, and reads those of the others every second. A note is sealed; notes are
//! counted, so that who missed one knows it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::base::ids::Id;
use crate::base::time::{Clock, Stopwatch};
use crate::store::changes::{Feed, News};
use crate::store::vault::calls::{ANSWER, Failed};
use crate::store::vault::link::{Link, pause};
use crate::store::vault::listing::{AT_ONCE, names};
use crate::store::vault::row::{self, Done};

/// Where the journals are. No kind of record has a dot in its name.
pub(super) const UNDER: &str = "our.news";
/// How often the journals of others are read.
const POLL: Duration = Duration::from_secs(1);
/// How long a note stays in a journal, in microseconds, unless there are too many.
const KEPT: u64 = 30_000_000;
/// The most notes in a journal: some 130 KiB.
const MOST: usize = 1024;
/// After so long without a look at the journals, in microseconds, everything is looked at.
const BLIND: u64 = 3_600_000_000;
/// How often a journal is written although nothing happened, so that it is not taken for a dead one's.
const STILL_HERE: Duration = Duration::from_secs(6 * 3600);
/// How old a journal is, in seconds, when its writer is long dead.
pub(super) const DEAD: u64 = 86_400;

/// A journal at rest.
#[derive(Serialize, Deserialize)]
pub(super) struct Written {
    /// When it was written, seconds since 1970.
    pub(super) at: String,
    /// How many notes there ever were.
    count: u64,
    /// The last of them: a key, a space, the note.
    notes: Vec<String>,
}

/// A note to be told, and whom to tell that it was.
pub(super) struct Told {
    pub(super) key: String,
    pub(super) note: Vec<u8>,
    pub(super) done: oneshot::Sender<()>,
}

/// Tells others what this instance writes.
#[derive(Clone)]
pub(super) struct Teller(mpsc::UnboundedSender<Told>);

impl Teller {
    /// Waits until others can read it, but not for ever: it is tried again and again.
    pub(super) async fn tell(&self, key: String, note: Vec<u8>) {
        let (done, is_done) = oneshot::channel();
        if self.0.send(Told { key, note, done }).is_ok() {
            // Late or never: the write itself is done.
            drop(timeout(ANSWER, is_done).await);
        }
    }
}

/// Notes where all journals stand, and from then on tells what is added, on the runtime that this is called on.
pub(super) async fn begin(link: &Arc<Link>, clock: Clock, feed: Feed) -> Result<Teller, Failed> {
    let own = Id::fresh().to_string();
    let mut seen = HashMap::new();
    for (name, journal) in journals(link, &own).await? {
        seen.insert(name, journal.count);
    }
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(write_down(Arc::clone(link), clock, own.clone(), told));
    tokio::spawn(listen(Arc::clone(link), feed, own, seen));
    Ok(Teller(tell))
}

async fn listen(link: Arc<Link>, feed: Feed, own: String, mut seen: HashMap<String, u64>) {
    let mut tick = interval(POLL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Stopwatch::start();
    loop {
        tick.tick().await;
        let all = match journals(&link, &own).await {
            Ok(all) => all,
            Err(why) => {
                tracing::debug!(%why, "what other instances wrote is not known yet");
                continue;
            }
        };
        if last.micros() > BLIND {
            feed.tell(News::Gap);
        }
        last = Stopwatch::start();
        for (name, journal) in all {
            let before = seen.insert(name, journal.count).unwrap_or(0);
            for news in new(&journal, before) {
                feed.tell(news);
            }
        }
    }
}

/// What a journal has that was not there when so many notes had been written.
fn new(journal: &Written, before: u64) -> Vec<News> {
    let (there, added) = (journal.notes.len(), journal.count.saturating_sub(before));
    let added = usize::try_from(added).unwrap_or(usize::MAX);
    let mut news = Vec::new();
    if added > there {
        news.push(News::Gap);
    }
    let read = |line: &String| {
        let (key, note) = line.split_once(' ')?;
        let (key, note) = (key.to_owned(), STANDARD.decode(note).ok()?);
        Some(News::Noted { key, note })
    };
    news.extend(
        journal.notes[there - added.min(there)..]
            .iter()
            .map(|line| read(line).unwrap_or(News::Gap)),
    );
    news
}

/// The journals of the others.
async fn journals(link: &Link, own: &str) -> Result<Vec<(String, Written)>, Failed> {
    let names = names(link, &format!("{UNDER}/")).await?;
    let others = names.into_iter().filter(|name| name != own);
    let reads = stream::iter(others).map(|name| async move {
        let found = read(link, &name).await?;
        Ok(found.map(|(_, journal)| (name, journal)))
    });
    let all: Vec<_> = reads.buffered(AT_ONCE).try_collect().await?;
    Ok(all.into_iter().flatten().collect())
}

/// A journal, and how often it was written; none where it is being removed.
pub(super) async fn read(link: &Link, name: &str) -> Result<Option<(u64, Written)>, Failed> {
    let found = row::read(link, &format!("{UNDER}/{name}")).await?;
    Ok(found.and_then(|(count, data)| Some((count, serde_json::from_value(data).ok()?))))
}

/// Writes down what is told, all that waits at once, in a journal that only this writes.
async fn write_down(link: Arc<Link>, clock: Clock, own: String, mut told: mpsc::UnboundedReceiver<Told>) {
    let key = format!("{UNDER}/{own}");
    let mut notes: VecDeque<(Stopwatch, String)> = VecDeque::new();
    let (mut count, mut writes, mut waiting) = (0_u64, 0_u64, Vec::new());
    loop {
        match timeout(STILL_HERE, told.recv()).await {
            Ok(Some(one)) => waiting.push(one),
            Ok(None) => return,
            // A journal that never was need not be kept alive.
            Err(_) if writes == 0 => continue,
            Err(_) => {}
        }
        let mut told_now = 0;
        loop {
            while let Ok(one) = told.try_recv() {
                waiting.push(one);
            }
            for one in &waiting[told_now..] {
                let text = format!("{} {}", one.key, STANDARD.encode(&one.note));
                notes.push_back((Stopwatch::start(), text));
                count += 1;
            }
            told_now = waiting.len();
            while notes.len() > MOST || notes.front().is_some_and(|(since, _)| since.micros() > KEPT) {
                notes.pop_front();
            }
            let journal = Written {
                at: clock.now().0.to_string(),
                count,
                notes: notes.iter().map(|(_, text)| text.clone()).collect(),
            };
            match row::put(&link, &key, writes, &json!(journal)).await {
                Ok(Done::Written) => break,
                // One of our own whose answer was lost, or it was removed.
                Ok(Done::Stale) => {}
                Err(why) => {
                    tracing::debug!(%why, "others are not told yet what was written");
                    pause().await;
                }
            }
            writes = row::read(&link, &key).await.ok().flatten().map_or(0, |(writes, _)| writes);
        }
        if writes == 0 && row::keep_one(&link, &key).await.is_err() {
            tracing::debug!("a journal keeps older versions");
        }
        writes += 1;
        for one in waiting.drain(..) {
            // Nobody may wait for it any more.
            let _ = one.done.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(count: u64, notes: &[&str]) -> Written {
        Written {
            at: "0".to_owned(),
            count,
            notes: notes.iter().map(ToString::to_string).collect(),
        }
    }

    fn told(journal: &Written, before: u64) -> Vec<String> {
        let name = |news: News| match news {
            News::Noted { key, .. } => key,
            News::Gap => "gap".to_owned(),
            News::Put { .. } | News::Foreign { .. } => unreachable!(),
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
    }
}
