//! The way from a task to a thread and back: bounded, and with an end to the waiting.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

/// How many may wait.
const ROOM: usize = 1024;
/// How long one waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// A message and its place in the queue, which is free again when the message is dropped.
pub(super) type Queued<M> = (M, OwnedSemaphorePermit);

pub(super) struct Lane<M> {
    to: Sender<Queued<M>>,
    room: Arc<Semaphore>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum NoAnswer {
    /// The question was never put.
    NotAsked(&'static str),
    /// It was put, and may still be acted upon.
    Lost,
}

pub(super) const ENDED: NoAnswer = NoAnswer::NotAsked("it is closed");

impl<M> Lane<M> {
    pub(super) fn new() -> (Self, Receiver<Queued<M>>) {
        let (to, from) = mpsc::channel();
        let room = Arc::new(Semaphore::new(ROOM));
        (Self { to, room }, from)
    }

    /// Sends what `make` makes of the place for the answer, and waits for it.
    pub(super) async fn ask<A>(&self, make: impl FnOnce(oneshot::Sender<A>) -> M) -> Result<A, NoAnswer> {
        let room = timeout(PATIENCE, self.room.clone().acquire_owned()).await;
        let room = room.map_err(|_| NoAnswer::NotAsked("too many wait for it"))?.map_err(|_| ENDED)?;
        let (answer, answered) = oneshot::channel();
        self.to.send((make(answer), room)).map_err(|_| ENDED)?;
        match timeout(PATIENCE, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(NoAnswer::Lost),
        }
    }
}
