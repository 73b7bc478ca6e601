//! A bounded queue of requests from tasks to a thread, with timeouts.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

/// The maximum number of pending requests.
const QUEUE_CAPACITY: usize = 1024;
/// The timeout for a place in the queue, and again for the answer.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(10);

/// A request and its place in the queue. Dropping the permit frees the place.
pub(super) type QueuedRequest<M> = (M, OwnedSemaphorePermit);

pub(super) struct RequestQueue<M> {
    to: Sender<QueuedRequest<M>>,
    room: Arc<Semaphore>,
}

/// The reason why there is no answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum QueueError {
    /// The request was never sent.
    NotAsked(&'static str),
    /// The request was sent, and may still be executed.
    Lost,
}

pub(super) const ENDED: QueueError = QueueError::NotAsked("it is closed");

impl<M> RequestQueue<M> {
    pub(super) fn new() -> (Self, Receiver<QueuedRequest<M>>) {
        let (sender, receiver) = mpsc::channel();
        let semaphore = Arc::new(Semaphore::new(QUEUE_CAPACITY));
        (
            Self {
                to: sender,
                room: semaphore,
            },
            receiver,
        )
    }

    /// Sends the request that `build` makes around the answer channel, and waits for the answer.
    pub(super) async fn ask<A>(&self, build: impl FnOnce(oneshot::Sender<A>) -> M) -> Result<A, QueueError> {
        let permit = timeout(QUEUE_TIMEOUT, self.room.clone().acquire_owned()).await;
        let permit = permit
            .map_err(|_| QueueError::NotAsked("too many wait for it"))?
            .map_err(|_| ENDED)?;
        let (sender, receiver) = oneshot::channel();
        self.to.send((build(sender), permit)).map_err(|_| ENDED)?;
        match timeout(QUEUE_TIMEOUT, receiver).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(_)) | Err(_) => Err(QueueError::Lost),
        }
    }
}
