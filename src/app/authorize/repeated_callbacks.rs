//! Callbacks that a browser opens again: it follows a redirect twice, or goes back and forward. For half a
//! minute, the same request gets the same answer. The state machine still refuses every second callback.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::base::ids::{Digest, Id};
use crate::base::time::UnixTime;

/// The time for which an answer is repeated, in seconds.
pub const REPEAT_SECONDS: u64 = 30;
/// The maximum number of flows whose callbacks are known. The callbacks of further ones are not repeated.
const MAX_CALLBACKS: usize = 10_000;

/// The callbacks of the last half minute, by flow.
pub(super) struct RepeatedCallbacks<T>(Arc<Mutex<HashMap<Id, Entry<T>>>>);

struct Entry<T> {
    /// Query and cookie of the request.
    request: Digest,
    /// When the answer was given. `None`: the request is in progress.
    answered: Option<UnixTime>,
    answer: watch::Receiver<Option<T>>,
}

/// The kind of a callback: the first one, or a repetition.
pub(super) enum Callback<T> {
    /// The first of its flow. Its answer is noted.
    First(PendingAnswer<T>),
    /// The same request as one that is in progress, or was answered a moment ago.
    Repetition(watch::Receiver<Option<T>>),
    /// Another request than the one that is known. It is answered on its own.
    Other,
}

/// Notes the answer of a first callback. Without an answer, the callback is forgotten.
pub(super) struct PendingAnswer<T> {
    callbacks: Arc<Mutex<HashMap<Id, Entry<T>>>>,
    flow: Id,
    answer: watch::Sender<Option<T>>,
    is_answered: bool,
}

impl<T> Default for RepeatedCallbacks<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

fn lock<T>(callbacks: &Mutex<HashMap<Id, Entry<T>>>) -> MutexGuard<'_, HashMap<Id, Entry<T>>> {
    callbacks.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> RepeatedCallbacks<T> {
    /// Notes that a callback of this flow arrived. `request` is the digest of its query and cookie.
    pub(super) fn arrived(&self, flow: Id, request: Digest, now: UnixTime) -> Callback<T> {
        let mut callbacks = lock(&self.0);
        match callbacks.get(&flow) {
            Some(known) if known.is_recent(now) && known.request == request => return Callback::Repetition(known.answer.clone()),
            Some(known) if known.is_recent(now) => return Callback::Other,
            None if callbacks.len() >= MAX_CALLBACKS => return Callback::Other,
            Some(_) | None => {}
        }
        let (sender, answer) = watch::channel(None);
        let entry = Entry {
            request,
            answered: None,
            answer,
        };
        callbacks.insert(flow, entry);
        Callback::First(PendingAnswer {
            callbacks: Arc::clone(&self.0),
            flow,
            answer: sender,
            is_answered: false,
        })
    }

    /// Forgets callbacks that are no longer repeated.
    pub(super) fn sweep(&self, now: UnixTime) {
        lock(&self.0).retain(|_, entry| entry.is_recent(now));
    }
}

impl<T> Entry<T> {
    fn is_recent(&self, now: UnixTime) -> bool {
        self.answered.is_none_or(|answered| now.seconds_since(answered) < REPEAT_SECONDS)
    }
}

impl<T> PendingAnswer<T> {
    /// Gives the answer to all who wait, and to repetitions from now on.
    pub(super) fn answered(mut self, answer: T, now: UnixTime) {
        if let Some(entry) = lock(&self.callbacks).get_mut(&self.flow) {
            entry.answered = Some(now);
        }
        self.is_answered = true;
        self.answer.send_replace(Some(answer));
    }
}

impl<T> Drop for PendingAnswer<T> {
    fn drop(&mut self) {
        if !self.is_answered {
            lock(&self.callbacks).remove(&self.flow);
        }
    }
}

/// Waits for the answer of the first request. `None`: it was refused.
pub(super) async fn wait_for_answer<T: Clone>(mut answer: watch::Receiver<Option<T>>) -> Option<T> {
    let answer = answer.wait_for(Option::is_some).await.ok()?;
    answer.clone()
}

/// The digest of a callback's query and of the cookie that it came with.
pub(super) fn request_digest(query: &[u8], browser: Option<&str>) -> Digest {
    let query = String::from_utf8_lossy(query);
    Digest::new(&format!("{query}\n{}", browser.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_000);

    #[tokio::test]
    async fn only_the_same_request_gets_the_answer_and_only_for_half_a_minute() {
        let callbacks = RepeatedCallbacks::<u32>::default();
        let (flow, request) = (Id::random(), || request_digest(b"code=1", Some("cookie")));
        let Callback::First(first) = callbacks.arrived(flow, request(), NOW) else {
            panic!()
        };
        let Callback::Repetition(waiting) = callbacks.arrived(flow, request(), NOW) else {
            panic!()
        };
        for (query, cookie) in [(&b"code=2"[..], Some("cookie")), (b"code=1", Some("other")), (b"code=1", None)] {
            assert!(matches!(
                callbacks.arrived(flow, request_digest(query, cookie), NOW),
                Callback::Other
            ));
        }
        first.answered(7, NOW);
        assert_eq!(wait_for_answer(waiting).await, Some(7));
        let Callback::Repetition(later) = callbacks.arrived(flow, request(), NOW.plus_seconds(29)) else {
            panic!()
        };
        assert_eq!(wait_for_answer(later).await, Some(7));
        assert!(matches!(
            callbacks.arrived(flow, request(), NOW.plus_seconds(30)),
            Callback::First(_)
        ));
    }

    #[tokio::test]
    async fn a_refused_callback_is_forgotten() {
        let callbacks = RepeatedCallbacks::<u32>::default();
        let (flow, request) = (Id::random(), || request_digest(b"", None));
        let Callback::First(first) = callbacks.arrived(flow, request(), NOW) else {
            panic!()
        };
        let Callback::Repetition(waiting) = callbacks.arrived(flow, request(), NOW) else {
            panic!()
        };
        drop(first);
        assert_eq!(wait_for_answer(waiting).await, None);
        assert!(matches!(callbacks.arrived(flow, request(), NOW), Callback::First(_)));
    }

    #[test]
    fn the_number_of_known_callbacks_is_bounded() {
        let callbacks = RepeatedCallbacks::<u32>::default();
        let request = || request_digest(b"", None);
        for _ in 0..MAX_CALLBACKS {
            let Callback::First(first) = callbacks.arrived(Id::random(), request(), NOW) else {
                panic!()
            };
            first.answered(1, NOW);
        }
        assert!(matches!(callbacks.arrived(Id::random(), request(), NOW), Callback::Other));
        callbacks.sweep(NOW.plus_seconds(REPEAT_SECONDS));
        assert!(matches!(callbacks.arrived(Id::random(), request(), NOW), Callback::First(_)));
    }
}
