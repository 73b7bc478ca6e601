//! Change events of all processes over one channel, own writes included, so all see one order. Each
//! process publishes a heartbeat every second. After silence, the subscriber reconnects.

use std::time::Duration;

use futures_util::StreamExt as _;
use redis::aio::PubSub;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::store::change_feed::{ChangeEvent, ChangeFeed};
use crate::store::redis::config::RedisConfig;
use crate::store::redis::connection::{CommandError, Connection};

/// Interval of this process's heartbeat.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// How long the channel may be silent before the subscriber reconnects.
const SILENCE_TIMEOUT: Duration = Duration::from_millis(3_500);
/// Delay before the subscriber reconnects.
const RESUBSCRIBE_DELAY: Duration = Duration::from_millis(250);

/// The event that a write publishes.
pub(super) struct Message {
    pub(super) channel: String,
    pub(super) message: Vec<u8>,
}

/// The channel of a database. Redis channels span all databases, so the name has the number.
pub(super) fn channel(at: &RedisConfig) -> String {
    format!("{}:news:{}", at.prefix, at.db)
}

/// The key, a zero byte and the sealed id. A key has no zero byte.
pub(super) fn message(key: &str, note: &[u8]) -> Vec<u8> {
    [key.as_bytes(), &[0], note].concat()
}

fn read(message: &[u8]) -> Option<ChangeEvent> {
    let end = message.iter().position(|byte| *byte == 0)?;
    Some(ChangeEvent::SealedId {
        key: String::from_utf8(message[..end].to_vec()).ok()?,
        note: message[end + 1..].to_vec(),
    })
}

/// Subscribes, then starts the listener and the heartbeat on the current runtime.
pub(super) async fn begin(link: &Connection, feed: ChangeFeed) -> Result<(), CommandError> {
    // Publish once first: a missing permission then fails the start.
    link.execute(&heartbeat(link)).await?;
    let first = subscribe(link, 0).await?;
    tokio::spawn(listen(link.clone(), feed, first));
    let link = link.clone();
    tokio::spawn(async move {
        let mut tick = interval(HEARTBEAT_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            // A failure is ignored: subscribers notice the silence and reconnect.
            drop(link.execute(&heartbeat(&link)).await);
        }
    });
    Ok(())
}

async fn listen(link: Connection, feed: ChangeFeed, first: PubSub) {
    let mut ear = Some(first);
    let mut turn = 0;
    loop {
        if let Some(listener) = ear.take() {
            let mut messages = listener.into_on_message();
            while let Ok(Some(message)) = timeout(SILENCE_TIMEOUT, messages.next()).await {
                if let Some(news) = read(message.get_payload_bytes()) {
                    feed.publish(news);
                }
            }
            tracing::warn!("what other instances write is not heard any more; listening anew");
        }
        turn += 1;
        tokio::time::sleep(RESUBSCRIBE_DELAY).await;
        match subscribe(&link, turn).await {
            Ok(listener) => {
                ear = Some(listener);
                // Publish after subscribing: `Gap` makes readers scan for missed changes.
                feed.publish(ChangeEvent::Gap);
            }
            Err(why) => tracing::debug!(%why, "not listening yet"),
        }
    }
}

async fn subscribe(link: &Connection, turn: usize) -> Result<PubSub, CommandError> {
    let mut listener = link.dial.listener(turn).await?;
    let subscribed = timeout(SILENCE_TIMEOUT, listener.subscribe(channel(&link.dial.at))).await;
    match subscribed {
        Ok(Ok(())) => Ok(listener),
        Ok(Err(why)) => Err(CommandError::of(&why)),
        Err(_) => Err(CommandError::Late),
    }
}

/// An empty message: it has no key, so it is no change event.
fn heartbeat(link: &Connection) -> redis::Cmd {
    let mut cmd = redis::cmd("PUBLISH");
    cmd.arg(channel(&link.dial.at)).arg("");
    cmd
}
