//! Change events of all processes over one channel, own writes included, so all see one order. Each
//! process publishes a heartbeat every second. After silence, the subscriber reconnects.

use std::time::Duration;

use futures_util::StreamExt as _;
use redis::aio::PubSub;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::store::change_feed::{ChangeEvent, ChangeFeed};
use crate::store::redis::config::RedisConfig;
use crate::store::redis::connection::Connection;
use crate::store::redis::error::CommandError;

/// Interval of this process's heartbeat.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// The time for which the channel may be silent before the subscriber reconnects.
const SILENCE_TIMEOUT: Duration = Duration::from_millis(3_500);
/// Delay before the subscriber reconnects.
const RESUBSCRIBE_DELAY: Duration = Duration::from_millis(250);

/// The event that a write publishes.
pub(super) struct Message {
    pub(super) channel: String,
    pub(super) message: Vec<u8>,
}

/// The channel of a database. Redis channels span all databases, so the name has the number.
pub(super) fn channel(config: &RedisConfig) -> String {
    format!("{}:news:{}", config.prefix, config.db)
}

/// The key, a zero byte and the sealed id. A key has no zero byte.
pub(super) fn message(key: &str, sealed_id: &[u8]) -> Vec<u8> {
    [key.as_bytes(), &[0], sealed_id].concat()
}

fn read(message: &[u8]) -> Option<ChangeEvent> {
    let end = message.iter().position(|byte| *byte == 0)?;
    Some(ChangeEvent::SealedId {
        key: String::from_utf8(message[..end].to_vec()).ok()?,
        sealed_id: message[end + 1..].to_vec(),
    })
}

/// Subscribes, then starts the listener and the heartbeat on the current runtime.
pub(super) async fn begin(link: &Connection, feed: ChangeFeed) -> Result<(), CommandError> {
    // Publish once first: a missing permission then fails the start.
    link.execute(&heartbeat(link)).await?;
    let pubsub = subscribe(link, 0).await?;
    tokio::spawn(listen(link.clone(), feed, pubsub));
    let link = link.clone();
    tokio::spawn(async move {
        let mut ticker = interval(HEARTBEAT_INTERVAL);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticker.tick().await;
            // A failure is ignored: subscribers notice the silence and reconnect.
            drop(link.execute(&heartbeat(&link)).await);
        }
    });
    Ok(())
}

async fn listen(link: Connection, feed: ChangeFeed, pubsub: PubSub) {
    let mut subscription = Some(pubsub);
    let mut attempt = 0;
    loop {
        if let Some(pubsub) = subscription.take() {
            let mut messages = pubsub.into_on_message();
            while let Ok(Some(message)) = timeout(SILENCE_TIMEOUT, messages.next()).await {
                if let Some(event) = read(message.get_payload_bytes()) {
                    feed.publish(event);
                }
            }
            tracing::warn!("the change feed of other instances was lost; subscribing again");
        }
        attempt += 1;
        tokio::time::sleep(RESUBSCRIBE_DELAY).await;
        match subscribe(&link, attempt).await {
            Ok(pubsub) => {
                subscription = Some(pubsub);
                // Publish after subscribing: `Gap` makes readers scan for missed changes.
                feed.publish(ChangeEvent::Gap);
            }
            Err(error) => tracing::debug!(why = %error, "not listening yet"),
        }
    }
}

async fn subscribe(link: &Connection, attempt: usize) -> Result<PubSub, CommandError> {
    let mut pubsub = link.dial.listener(attempt).await?;
    let result = timeout(SILENCE_TIMEOUT, pubsub.subscribe(channel(&link.dial.at))).await;
    match result {
        Ok(Ok(())) => Ok(pubsub),
        Ok(Err(error)) => Err(CommandError::of(&error)),
        Err(_) => Err(CommandError::Late),
    }
}

/// An empty message: it has no key, so it is no change event.
fn heartbeat(link: &Connection) -> redis::Cmd {
    let mut cmd = redis::cmd("PUBLISH");
    cmd.arg(channel(&link.dial.at)).arg("");
    cmd
}
