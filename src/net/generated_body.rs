//! A response body that work of the gateway writes.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::mpsc;

/// A body that work of the gateway writes, part by part. Dropping it cancels the work.
pub struct GeneratedBody {
    parts: mpsc::Receiver<Bytes>,
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl fmt::Debug for GeneratedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GeneratedBody")
    }
}

impl GeneratedBody {
    /// A body of what the work sends. It ends when the sender is dropped.
    pub fn new<W>(work: impl FnOnce(mpsc::Sender<Bytes>) -> W) -> Self
    where
        W: Future<Output = ()> + Send + 'static,
    {
        const PARTS_IN_FLIGHT: usize = 16;
        let (sender, parts) = mpsc::channel(PARTS_IN_FLIGHT);
        Self {
            parts,
            work: Some(Box::pin(work(sender))),
        }
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(work) = &mut self.work
            && work.as_mut().poll(context).is_ready()
        {
            self.work = None;
        }
        self.parts.poll_recv(context)
    }
}
