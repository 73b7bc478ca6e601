//! Requests with an `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header). A repeated request attaches
//! to the running loop or gets its stored response: its tools never run twice. This lives in memory, so it
//! holds for one process.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Response, StatusCode};
use http_body::Body as _;
use tokio::sync::watch;

use crate::adapter::refusal::is_retry_forbidden;
use crate::adapter::vendor::{IDEMPOTENCY_KEY, Vendor};
use crate::base::ids::{Digest, Id};
use crate::net::body::ResponseBody;
use crate::net::generated_body::GeneratedBody;

/// The most keys that are remembered.
const MAX_KEYS: usize = 10_000;
/// The longest key, in bytes.
const MAX_KEY_BYTES: usize = 255;
/// The most bytes of all stored responses.
const MAX_STORED_BYTES: usize = 64 * 1024 * 1024;
/// The longest response to a request with a key, in bytes. A longer one is cut.
const MAX_RESPONSE_BYTES: usize = 32 * 1024 * 1024;
/// How long a key counts, in seconds.
const TTL_SECONDS: u64 = 3_600;
/// The headers that belong to what is asked. The others may change between repetitions.
const COMPARED_HEADERS: [&str; 6] = [
    "authorization",
    "x-api-key",
    "api-key",
    "anthropic-beta",
    "openai-organization",
    "openai-project",
];

/// A request with a key.
#[derive(Debug)]
pub struct KeyedRequest {
    /// The caller, the vendor and the key.
    id: Id,
    /// What is asked.
    fingerprint: Digest,
}

impl KeyedRequest {
    /// The request of this caller; `None` if it has no key.
    ///
    /// # Errors
    /// If it has several keys, or a key that is empty, too long, or not ASCII; with what to do.
    pub fn read(caller: &str, vendor: Vendor, headers: &HeaderMap, body: &[u8]) -> Result<Option<Self>, &'static str> {
        let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(key) = keys.next() else { return Ok(None) };
        let key = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= MAX_KEY_BYTES);
        let (Some(key), None) = (key, keys.next()) else {
            return Err("Send one Idempotency-Key, of 1 to 255 ASCII characters.");
        };
        let mut asked = Digest::new(&String::from_utf8_lossy(body)).to_hex();
        for name in COMPARED_HEADERS {
            for value in headers.get_all(name) {
                asked.extend(["\n", name, ": ", &String::from_utf8_lossy(value.as_bytes())]);
            }
        }
        Ok(Some(Self {
            id: Id(Digest::new(&format!("{caller}\n{vendor:?}\n{key}")).truncated()),
            fingerprint: Digest::new(&asked),
        }))
    }
}

/// A response, as far as it has arrived.
#[derive(Debug, Default)]
struct Recorded {
    head: Option<(StatusCode, HeaderMap)>,
    parts: Vec<Bytes>,
    has_ended: bool,
}

/// What a request with a key is.
#[derive(Debug)]
pub enum Begun {
    /// The first one with its key: run it, and record the response.
    First(Recorder),
    /// A repetition.
    Repeated(Recording),
    /// A repetition whose response is no longer stored.
    Forgotten,
    /// The key belongs to another request.
    OtherRequest,
    /// Too many requests with keys are running.
    Full,
}

/// A request that was begun.
#[derive(Debug)]
struct Entry {
    fingerprint: Digest,
    ends: u64,
    is_running: bool,
    /// The response; none if it is no longer stored.
    response: Option<watch::Receiver<Recorded>>,
    /// The bytes of a complete response.
    length: usize,
}

/// The requests with keys of this process.
#[derive(Clone, Debug, Default)]
pub struct IdempotentRequests(Arc<Mutex<HashMap<Id, Entry>>>);

impl IdempotentRequests {
    fn with<T>(&self, change: impl FnOnce(&mut HashMap<Id, Entry>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins a request. `now` is in Unix seconds.
    pub fn begin(&self, request: &KeyedRequest, now: u64) -> Begun {
        self.with(|entries| {
            entries.retain(|_, entry| entry.is_running || entry.ends > now);
            if let Some(entry) = entries.get(&request.id) {
                return match &entry.response {
                    _ if entry.fingerprint != request.fingerprint => Begun::OtherRequest,
                    Some(response) => Begun::Repeated(Recording(response.clone())),
                    None => Begun::Forgotten,
                };
            }
            if entries.len() >= MAX_KEYS {
                let ended = entries.iter().filter(|(_, entry)| !entry.is_running);
                let Some(oldest) = ended.min_by_key(|(_, entry)| entry.ends).map(|(id, _)| *id) else {
                    return Begun::Full;
                };
                entries.remove(&oldest);
            }
            let (sender, response) = watch::channel(Recorded::default());
            let entry = Entry {
                fingerprint: request.fingerprint.clone(),
                ends: now + TTL_SECONDS,
                is_running: true,
                response: Some(response),
                length: 0,
            };
            entries.insert(request.id, entry);
            Begun::First(Recorder {
                requests: self.clone(),
                id: request.id,
                sender,
                fate: Fate::Removed,
            })
        })
    }

    fn end(&self, id: Id, fate: Fate) {
        self.with(|entries| {
            let Some(entry) = entries.get_mut(&id) else { return };
            entry.is_running = false;
            match fate {
                Fate::Removed => {
                    entries.remove(&id);
                    return;
                }
                Fate::Forgotten => entry.response = None,
                Fate::Stored(length) => entry.length = length,
            }
            let mut stored: Vec<&mut Entry> = entries.values_mut().filter(|entry| entry.length > 0).collect();
            let mut length: usize = stored.iter().map(|entry| entry.length).sum();
            stored.sort_by_key(|entry| entry.ends);
            for oldest in stored {
                if length <= MAX_STORED_BYTES {
                    return;
                }
                length -= oldest.length;
                (oldest.response, oldest.length) = (None, 0);
            }
        });
    }
}

/// What is remembered of a request that has ended.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Nothing: it may run again.
    Removed,
    /// That it ran.
    Forgotten,
    /// Its response, of this length.
    Stored(usize),
}

/// Records the response to the first request with a key. Dropped before the end, it remembers that the request
/// ran, if it began.
#[derive(Debug)]
pub struct Recorder {
    requests: IdempotentRequests,
    id: Id,
    sender: watch::Sender<Recorded>,
    fate: Fate,
}

impl Recorder {
    /// The response, for the client that waits for it.
    pub fn recording(&self) -> Recording {
        Recording(self.sender.subscribe())
    }

    /// Runs the request to its end. An error before any tool ran is not stored: the request may be repeated.
    pub async fn record(mut self, response: impl Future<Output = Response<ResponseBody>>) {
        self.fate = Fate::Forgotten;
        let response = response.await;
        let may_run_again = !response.status().is_success() && !is_retry_forbidden(&response);
        let (mut head, body) = response.into_parts();
        head.headers.remove(header::CONTENT_LENGTH);
        self.sender
            .send_modify(|recorded| recorded.head = Some((head.status, head.headers)));
        let (mut body, mut length) = (pin!(body), 0);
        let mut is_complete = true;
        while let Some(frame) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {
            let Ok(frame) = frame else { break };
            let Ok(data) = frame.into_data() else { continue };
            length += data.len();
            if length > MAX_RESPONSE_BYTES {
                tracing::warn!("the response to a request with an Idempotency-Key is too long, and was cut");
                is_complete = false;
                break;
            }
            self.sender.send_modify(|recorded| recorded.parts.push(data));
        }
        self.fate = match (may_run_again, is_complete) {
            (true, _) => Fate::Removed,
            (false, true) => Fate::Stored(length),
            (false, false) => Fate::Forgotten,
        };
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.requests.end(self.id, self.fate);
        self.sender.send_modify(|recorded| recorded.has_ended = true);
    }
}

/// A response that is being recorded, or is complete.
#[derive(Debug)]
pub struct Recording(watch::Receiver<Recorded>);

impl Recording {
    /// The response from its beginning, as it arrives. `None` if there will be none.
    pub async fn replay(self) -> Option<Response<ResponseBody>> {
        let Self(mut recorded) = self;
        let begun = recorded.wait_for(|recorded| recorded.head.is_some() || recorded.has_ended).await;
        let (status, headers) = begun.ok()?.head.clone()?;
        let body = GeneratedBody::new(move |sender| async move {
            let mut sent = 0;
            loop {
                let (parts, has_ended) = {
                    let recorded = recorded.borrow_and_update();
                    (recorded.parts[sent..].to_vec(), recorded.has_ended)
                };
                sent += parts.len();
                for part in parts {
                    if sender.send(part).await.is_err() {
                        return;
                    }
                }
                if has_ended || recorded.changed().await.is_err() {
                    return;
                }
            }
        });
        let mut response = Response::new(ResponseBody::Generated(Box::new(body)));
        (*response.status_mut(), *response.headers_mut()) = (status, headers);
        Some(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(key: &str, body: &str) -> KeyedRequest {
        let headers = HeaderMap::from_iter([(IDEMPOTENCY_KEY, key.parse().unwrap())]);
        let read = KeyedRequest::read("caller", Vendor::OpenAi, &headers, body.as_bytes());
        read.unwrap().unwrap()
    }

    fn first(requests: &IdempotentRequests, request: &KeyedRequest, now: u64) -> Recorder {
        let Begun::First(recorder) = requests.begin(request, now) else {
            panic!("it is not the first one")
        };
        recorder
    }

    #[test]
    fn a_request_has_one_key_of_at_most_255_characters() {
        let read = |keys: &[&str]| {
            let headers = keys.iter().map(|key| (IDEMPOTENCY_KEY, key.parse().unwrap()));
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(name, value);
            }
            KeyedRequest::read("caller", Vendor::OpenAi, &map, b"{}")
        };
        assert!(matches!(read(&[]), Ok(None)) && matches!(read(&["k"]), Ok(Some(_))));
        assert!(matches!(read(&[&"k".repeat(255)]), Ok(Some(_))) && read(&[&"k".repeat(256)]).is_err());
        assert!(read(&["a", "a"]).is_err() && read(&[""]).is_err());
    }

    #[test]
    fn a_key_counts_for_an_hour_and_its_work_counts_until_it_ends() {
        let requests = IdempotentRequests::default();
        let (one, other) = (request("k", "1"), request("k", "2"));
        let mut running = first(&requests, &one, 0);
        assert!(matches!(requests.begin(&one, 10 * TTL_SECONDS), Begun::Repeated(_)));
        assert!(matches!(requests.begin(&other, 0), Begun::OtherRequest));
        running.fate = Fate::Forgotten;
        drop(running);
        assert!(matches!(requests.begin(&one, TTL_SECONDS - 1), Begun::Forgotten));
        let never_began = first(&requests, &one, TTL_SECONDS);
        drop(never_began);
        drop(first(&requests, &other, TTL_SECONDS));
        assert!(requests.with(|entries| entries.is_empty()));
    }

    #[test]
    fn keys_and_stored_responses_are_bounded() {
        let requests = IdempotentRequests::default();
        for number in 0..MAX_KEYS {
            let mut recorder = first(&requests, &request(&number.to_string(), ""), u64::from(number > 0));
            recorder.fate = Fate::Stored(usize::from(number == 1));
        }
        let mut last = first(&requests, &request("last", ""), 2);
        assert_eq!(requests.with(|entries| entries.len()), MAX_KEYS);
        assert!(matches!(requests.begin(&request("1", ""), 0), Begun::Repeated(_)));
        last.fate = Fate::Stored(MAX_STORED_BYTES);
        drop(last);
        let stored = requests.with(|entries| entries.values().map(|entry| entry.length).sum::<usize>());
        assert!(stored <= MAX_STORED_BYTES);
        assert!(matches!(requests.begin(&request("1", ""), 0), Begun::Forgotten));
    }
}
