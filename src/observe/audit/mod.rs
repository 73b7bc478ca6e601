//! The audit log: one JSON object on each line, each with the digest of the one before.
//!
//! A use case records an event after its commit. A thread of its own writes the events, so a slow disk
//! stops no request. No event can hold a secret: a [`Secret`](crate::base::secret::Secret) becomes no
//! value of one.

pub mod chain;
pub mod event;
pub mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};

use crate::base::time::Clock;
use crate::observe::audit::event::{AuditEvent, AuditRecord};
use crate::observe::request_origin::RequestOrigin;

/// The maximum number of events that wait for the writer.
const MAX_WAITING: usize = 10_000;

/// A message to the writer.
pub(super) enum Message {
    /// Write this.
    Record(Box<AuditRecord>),
    /// Open the file again: it may have been moved away.
    Reopen,
    /// Write what is waiting, and end.
    Close,
}

/// Records events. A clone records to the same log.
#[derive(Clone, Debug, Default)]
pub struct AuditLog(Option<Arc<Sender>>);

#[derive(Debug)]
struct Sender {
    messages: SyncSender<Message>,
    lost: Arc<AtomicU64>,
    clock: Clock,
}

impl AuditLog {
    /// Records an event, with the origin of the request that the task answers. It never waits: if too
    /// many events wait for the writer, the event is lost, and the log says how many are.
    pub fn record(&self, event: AuditEvent) {
        self.record_from(RequestOrigin::current(), event);
    }

    /// As [`Self::record`], with this origin.
    pub fn record_from(&self, origin: Option<RequestOrigin>, event: AuditEvent) {
        let Some(sender) = &self.0 else { return };
        let record = AuditRecord {
            time: sender.clock.now(),
            origin,
            event,
        };
        if let Err(TrySendError::Full(_)) = sender.messages.try_send(Message::Record(Box::new(record))) {
            sender.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether events are written.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Opens the file again, after it was moved away.
    pub fn reopen(&self) {
        self.send(Message::Reopen);
    }

    /// Ends the log. What waits is still written.
    pub fn close(&self) {
        self.send(Message::Close);
    }

    /// Waits for the writer if too many events wait for it.
    fn send(&self, message: Message) {
        if let Some(sender) = &self.0 {
            let _ = sender.messages.send(message);
        }
    }
}
