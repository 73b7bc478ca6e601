//! Fetches the metadata documents of clients and caches them. A stranger chooses the URL: so the
//! gateway dials only public addresses, follows no redirects, and limits time and sizes.
//!
//! The cache stores the parsed client for its `max-age`, within our own bounds. It is no HTTP
//! cache, which decides by `Vary`, heuristics and revalidation whether a response serves another
//! request.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http::header::{AGE, CACHE_CONTROL, CONTENT_ENCODING};
use http::{HeaderMap, StatusCode};
use quick_cache::sync::Cache;

use crate::base::time::{Clock, UnixTime};
use crate::net::dial::AddressPolicy;
use crate::net::http_client::HttpClient;
use crate::oauth::client_id_metadata::{self, ClientIdUrl, ClientIdUrlError, ClientMetadataError};
use crate::oauth::registration::ClientRegistration;
use crate::upstream::fetch::{self, FetchError, FetchResponse};

/// Timeout of one fetch, everything included.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The size limit of a document, in bytes. Real ones are below 2 KiB.
pub const MAX_DOCUMENT_BYTES: usize = 10 * 1024;
/// The maximum number of entries of each cache.
const MAX_DOCUMENTS: usize = 1_000;
/// Fetches per second, and the burst after an idle time. Both are for all clients together.
const RATE: (NonZeroU32, NonZeroU32) = (NonZeroU32::new(10).expect("not zero"), NonZeroU32::new(50).expect("not zero"));

/// Lifetime of a document, in seconds: without caching headers, the minimum, and the maximum.
const DEFAULT_TTL_SECONDS: u64 = 300;
const MIN_TTL_SECONDS: u64 = 60;
const MAX_TTL_SECONDS: u64 = 24 * 3_600;
/// Lifetime of a failure, in seconds: it protects the host, and users hardly notice it.
const FAILURE_TTL_SECONDS: u64 = 10;
/// Age limit of a last good document, in seconds. A host's firewall may answer 403 for days.
const STALE_TTL_SECONDS: u64 = 7 * 24 * 3_600;

/// The reason why there is no document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientMetadataFetchError {
    /// The URL cannot be a client id.
    #[error("the client_id {0}")]
    Url(ClientIdUrlError),
    /// The host's name does not resolve, or only to forbidden addresses. The two are one case,
    /// so that no client learns which names our network knows. The detail is for the log.
    #[error("{}", could_not(.0))]
    NoAddress(String),
    /// No connection. The detail is for the log: it reveals our network.
    #[error("{}", could_not(.0))]
    Unreachable(String),
    /// No complete response within the limits. The detail is for the log.
    #[error("{}", could_not(.0))]
    Broken(String),
    /// A status other than 200, for example a redirect.
    #[error("{}", could_not(&format!("answered {}", .0)))]
    Answered(u16),
    /// The content type is neither `application/json` nor `application/…+json`.
    #[error("{}", could_not("its content type is not application/json"))]
    ContentType,
    /// The document is compressed, although the request did not allow that.
    #[error("{}", could_not("it is compressed, which was not asked for"))]
    Encoded,
    /// The content of the document is not accepted.
    #[error("the client's metadata document is not accepted: {0}")]
    Refused(ClientMetadataError),
    /// The gateway's limit of fetches is reached.
    #[error("{}", could_not("too many are being fetched"))]
    Busy,
}

impl ClientMetadataFetchError {
    /// Whether a retry may help.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Broken(_) | Self::Answered(_) | Self::ContentType | Self::Encoded | Self::Busy => true,
            Self::Url(_) | Self::NoAddress(_) | Self::Refused(_) => false,
        }
    }

    /// Whether the document could not be read, so that a copy of it would help.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::NoAddress(_)
            | Self::Unreachable(_)
            | Self::Broken(_)
            | Self::Answered(_)
            | Self::ContentType
            | Self::Encoded
            | Self::Busy => true,
            Self::Url(_) | Self::Refused(_) => false,
        }
    }

    /// The message for the client; it reveals nothing about addresses in our network.
    pub fn public_message(&self) -> String {
        match self {
            Self::NoAddress(_) => could_not("its host name does not resolve to a public address"),
            Self::Unreachable(_) => could_not("its host could not be reached"),
            Self::Broken(_) => could_not("there was no whole answer in time"),
            Self::Url(_) | Self::Answered(_) | Self::ContentType | Self::Encoded | Self::Refused(_) | Self::Busy => self.to_string(),
        }
    }

    /// Whether the host says that this client is gone. Then its last good document is dropped.
    fn is_gone(&self) -> bool {
        match self {
            // A body that is not JSON comes from something in between, not from the host.
            Self::Refused(ClientMetadataError::NotJson) => false,
            Self::Refused(_) | Self::Answered(410) => true,
            Self::Url(_)
            | Self::NoAddress(_)
            | Self::Unreachable(_)
            | Self::Broken(_)
            | Self::Answered(_)
            | Self::ContentType
            | Self::Encoded
            | Self::Busy => false,
        }
    }
}

fn could_not(reason: &str) -> String {
    format!("the client's metadata document could not be fetched: {reason}")
}

#[derive(Clone)]
struct CachedFetch {
    is: Result<Arc<ClientRegistration>, ClientMetadataFetchError>,
    until: UnixTime,
}

#[derive(Clone)]
struct LastGood {
    is: Arc<ClientRegistration>,
    at: UnixTime,
}

/// The cached documents. All workers share them; the worker of the first caller fetches.
pub struct ClientMetadataCache {
    seen: Cache<String, CachedFetch>,
    /// A second cache, so that a flood of useless URLs evicts no good document.
    good: Cache<String, LastGood>,
    rate: DefaultDirectRateLimiter,
    addresses: AddressPolicy,
    clock: Clock,
}

impl fmt::Debug for ClientMetadataCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Documents({} kept)", self.good.len())
    }
}

impl ClientMetadataCache {
    /// An empty cache. `loopback` allows clients on loopback, for a gateway that is there itself.
    pub fn new(loopback: bool, clock: Clock) -> Self {
        Self {
            seen: Cache::new(MAX_DOCUMENTS),
            good: Cache::new(MAX_DOCUMENTS),
            rate: RateLimiter::direct(Quota::per_second(RATE.0).allow_burst(RATE.1)),
            addresses: AddressPolicy::Public { loopback },
            clock,
        }
    }

    /// The client by its current document, or by the last good one if a fetch fails.
    /// # Errors
    /// If the fetch fails and there is no last good document.
    pub async fn get_fresh(&self, client: &HttpClient, url: &ClientIdUrl) -> Result<Arc<ClientRegistration>, ClientMetadataFetchError> {
        let key = url.address().as_str();
        loop {
            // One caller fetches; the others wait. If it is cancelled, the next caller fetches.
            match self.seen.get_value_or_guard_async(key).await {
                Ok(cached) if self.clock.now() < cached.until => return cached.is,
                Ok(_old) => drop(self.seen.remove_if(key, |entry| entry.until <= self.clock.now())),
                Err(guard) => {
                    let cached = self.fetch_and_cache(client, url).await;
                    // Our own limit says nothing about the client: the next caller may try at once.
                    if cached.is != Err(ClientMetadataFetchError::Busy) {
                        // An error means that the entry was evicted meanwhile.
                        let _ = guard.insert(cached.clone());
                    }
                    return cached.is;
                }
            }
        }
    }

    /// Whether [`Self::get_fresh`] needs no fetch now.
    pub fn is_cached(&self, url: &ClientIdUrl) -> bool {
        let now = self.clock.now();
        self.seen.get(url.address().as_str()).is_some_and(|cached| now < cached.until)
    }

    fn last_good(&self, url: &ClientIdUrl) -> Option<LastGood> {
        let good = self.good.get(url.address().as_str())?;
        (self.clock.now().seconds_since(good.at) < STALE_TTL_SECONDS).then_some(good)
    }

    async fn fetch_and_cache(&self, client: &HttpClient, url: &ClientIdUrl) -> CachedFetch {
        let result = match self.rate.check() {
            Ok(()) => fetch(client, url, &self.addresses).await,
            Err(_) => Err(ClientMetadataFetchError::Busy),
        };
        let (now, key) = (self.clock.now(), url.address().as_str());
        let error = match result {
            Ok((registration, ttl)) => {
                let registration = Arc::new(registration);
                self.good.insert(
                    key.to_owned(),
                    LastGood {
                        is: Arc::clone(&registration),
                        at: now,
                    },
                );
                return CachedFetch {
                    is: Ok(registration),
                    until: now.plus_seconds(ttl),
                };
            }
            Err(error) => error,
        };
        if error.is_gone() {
            self.good.remove(key);
        }
        if let Some(good) = self.last_good(url) {
            tracing::warn!(client = key, why = %error, "what the client's document said before is used");
            return CachedFetch {
                is: Ok(good.is),
                until: now.plus_seconds(MIN_TTL_SECONDS),
            };
        }
        tracing::info!(client = key, why = %error, "no client document");
        CachedFetch {
            is: Err(error),
            until: now.plus_seconds(FAILURE_TTL_SECONDS),
        }
    }
}

async fn fetch(
    client: &HttpClient,
    url: &ClientIdUrl,
    addresses: &AddressPolicy,
) -> Result<(ClientRegistration, u64), ClientMetadataFetchError> {
    let exchange = async {
        let request = fetch::get(url.address())?;
        fetch::fetch_limited(client, request, addresses, FETCH_TIMEOUT, MAX_DOCUMENT_BYTES).await
    };
    let response = exchange.await.map_err(|error| match error {
        FetchError::NoAddress(reason) => ClientMetadataFetchError::NoAddress(reason),
        FetchError::NeverSent(reason) => ClientMetadataFetchError::Unreachable(reason),
        FetchError::Unknown(reason) => ClientMetadataFetchError::Broken(reason),
    })?;
    if response.status != StatusCode::OK {
        return Err(ClientMetadataFetchError::Answered(response.status.as_u16()));
    }
    if !is_json(&response) {
        return Err(ClientMetadataFetchError::ContentType);
    }
    let is_identity = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if !response.headers.get_all(CONTENT_ENCODING).iter().all(is_identity) {
        return Err(ClientMetadataFetchError::Encoded);
    }
    let registration = client_id_metadata::parse_document(url, &response.body).map_err(ClientMetadataFetchError::Refused)?;
    Ok((registration, freshness_seconds(&response.headers)))
}

fn is_json(response: &FetchResponse) -> bool {
    let media_type = response.content_type().unwrap_or("").split(';').next().unwrap_or("");
    let media_type = media_type.trim().to_ascii_lowercase();
    media_type == "application/json" || media_type.strip_prefix("application/").is_some_and(|rest| rest.ends_with("+json"))
}

/// The lifetime of a response in seconds (RFC 9111 §5.2.2), within our bounds. Subtracts `Age`
/// (§5.1). Of several values the shortest counts (§4.2.1).
fn freshness_seconds(headers: &HeaderMap) -> u64 {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut max_age = None;
    for directive in values.flat_map(|text| text.split(',')) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        let seconds = match name.trim().to_ascii_lowercase().as_str() {
            "max-age" => seconds(value),
            "no-store" | "no-cache" => 0,
            _ => continue,
        };
        max_age = Some(max_age.map_or(seconds, |shortest: u64| shortest.min(seconds)));
    }
    let age = headers.get(AGE).and_then(|age| age.to_str().ok()).map_or(0, seconds);
    max_age
        .map_or(DEFAULT_TTL_SECONDS, |max_age| max_age.saturating_sub(age))
        .clamp(MIN_TTL_SECONDS, MAX_TTL_SECONDS)
}

/// Text that is no number means 0. A number that is too large means "for ever" (RFC 9111 §1.2.2).
fn seconds(text: &str) -> u64 {
    let text = text.trim().trim_matches('"');
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return 0;
    }
    text.parse().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
