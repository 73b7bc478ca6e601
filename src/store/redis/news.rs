//! What all instances write, told over one channel. Our own writes come back over it too, so that all instances learn
//! everything in one order. Each instance says "still here" every second: who hears nothing at all has lost the line.

use std::time::Duration;

use futures_util::StreamExt as _;
use redis::aio::PubSub;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::store::changes::{Feed, News};
use crate::store::redis::at::RedisAt;
use crate::store::redis::link::{Failed, Link};

/// How often we say that we are here.
const BEAT: Duration = Duration::from_secs(1);
/// How long the channel may be silent before the line counts as lost.
const SILENCE: Duration = Duration::from_millis(3_500);
/// How long to wait before the line is made anew.
const PAUSE: Duration = Duration::from_millis(250);

/// What goes out with a write.
pub(super) struct Told {
    pub(super) channel: String,
    pub(super) message: Vec<u8>,
}

/// The channel: Redis has one set of them for all its databases.
pub(super) fn channel(at: &RedisAt) -> String {
    format!("{}:news:{}", at.prefix, at.db)
}

/// The key, and the note that only who has the keys can read. A key has no zero byte.
pub(super) fn message(key: &str, note: &[u8]) -> Vec<u8> {
    [key.as_bytes(), &[0], note].concat()
}

fn read(message: &[u8]) -> Option<News> {
    let end = message.iter().position(|byte| *byte == 0)?;
    Some(News::Noted {
        key: String::from_utf8(message[..end].to_vec()).ok()?,
        note: message[end + 1..].to_vec(),
    })
}

/// Listens from the moment on when this returns, for ever, on the runtime that this is called on.
pub(super) async fn begin(link: &Link, feed: Feed) -> Result<(), Failed> {
    // Said once before all else: who may not say it is told so at the start.
    link.ask(&beat(link)).await?;
    let first = listener(link, 0).await?;
    tokio::spawn(listen(link.clone(), feed, first));
    let link = link.clone();
    tokio::spawn(async move {
        let mut tick = interval(BEAT);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            // Who does not hear it does something about it.
            drop(link.ask(&beat(&link)).await);
        }
    });
    Ok(())
}

async fn listen(link: Link, feed: Feed, first: PubSub) {
    let mut ear = Some(first);
    let mut turn = 0;
    loop {
        if let Some(listener) = ear.take() {
            let mut messages = listener.into_on_message();
            while let Ok(Some(message)) = timeout(SILENCE, messages.next()).await {
                if let Some(news) = read(message.get_payload_bytes()) {
                    feed.tell(news);
                }
            }
            tracing::warn!("what other instances write is not heard any more; listening anew");
        }
        turn += 1;
        tokio::time::sleep(PAUSE).await;
        match listener(&link, turn).await {
            Ok(listener) => {
                ear = Some(listener);
                // After listening began again: what was missed is read, what comes now is heard.
                feed.tell(News::Gap);
            }
            Err(why) => tracing::debug!(%why, "not listening yet"),
        }
    }
}

async fn listener(link: &Link, turn: usize) -> Result<PubSub, Failed> {
    let mut listener = link.dial.listener(turn).await?;
    let subscribed = timeout(SILENCE, listener.subscribe(channel(&link.dial.at))).await;
    match subscribed {
        Ok(Ok(())) => Ok(listener),
        Ok(Err(why)) => Err(Failed::of(&why)),
        Err(_) => Err(Failed::Late),
    }
}

/// A message without a key: nothing was written.
fn beat(link: &Link) -> redis::Cmd {
    let mut cmd = redis::cmd("PUBLISH");
    cmd.arg(channel(&link.dial.at)).arg("");
    cmd
}
