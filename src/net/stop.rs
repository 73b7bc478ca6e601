//! Two words said from outside: *drain* to a server, *end* to a stream.

use futures_util::FutureExt;
use futures_util::future::Shared;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use tokio::sync::oneshot;
use tokio::sync::watch;

/// Says when to drain. Dropping it says so too: nothing runs on without an owner.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

impl Stopper {
    /// Tells every [`Stop`] to drain. Saying it twice changes nothing.
    pub fn drain(&self) {
        self.0.send_replace(true);
    }
}

/// Hears when to drain. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// A pair: who says it, and who hears it.
    pub fn new() -> (Stopper, Stop) {
        let (said, heard) = watch::channel(false);
        (Stopper(said), Stop(heard))
    }

    /// Resolves once draining has begun; at once if it already has.
    pub async fn cancelled(&self) {
        let mut heard = self.0.clone();
        // An error means that the stopper is gone, which is the same word.
        let _ = heard.wait_for(|draining| *draining).await;
    }

    /// Whether draining has begun.
    pub fn is_draining(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

/// Ends streams when told to, or when dropped: whoever forgets a stream's owner ends the stream.
#[derive(Debug)]
pub struct Ender(oneshot::Sender<()>);

impl Ender {
    /// Ends every stream that holds the other half.
    pub fn end(self) {
        // Nobody listening is fine.
        let _ = self.0.send(());
    }
}

/// Resolves when its [`Ender`] has spoken or is gone. Cheap to clone, one for each stream.
#[derive(Clone)]
pub struct Ends(Shared<oneshot::Receiver<()>>);

impl Ends {
    /// A pair: who ends, and what every stream holds.
    pub fn new() -> (Ender, Ends) {
        let (said, heard) = oneshot::channel();
        (Ender(said), Ends(heard.shared()))
    }
}

impl Future for Ends {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.poll_unpin(context).map(|_| ())
    }
}

impl fmt::Debug for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ends")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everyone_hears_the_drain_however_late_they_ask() {
        let (stopper, stop) = Stop::new();
        let early = stop.clone();
        let waiting = tokio::spawn(async move { early.cancelled().await });
        assert!(!stop.is_draining());
        stopper.drain();
        waiting.await.expect("heard");
        stop.cancelled().await;
        assert!(stop.is_draining());
    }

    #[tokio::test]
    async fn a_stopper_that_is_gone_has_said_drain() {
        let (stopper, stop) = Stop::new();
        drop(stopper);
        stop.cancelled().await;
        assert!(stop.is_draining());
    }

    #[tokio::test]
    async fn an_ender_reaches_every_clone_also_by_being_dropped() {
        let (ender, ends) = Ends::new();
        let other = ends.clone();
        ender.end();
        ends.await;
        other.await;
        let (ender, ends) = Ends::new();
        drop(ender);
        ends.await;
    }
}
