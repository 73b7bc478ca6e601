//! The discovered metadata of one service's upstream, in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};

use crate::app::discovery_cache::DiscoveryCache;
use crate::app::error::Rejection;
use crate::base::time::UnixTime;
use crate::oauth::scope::Scopes;
use crate::oauth::token_response::UpstreamTokens;
use crate::upstream::auth_server::AuthServer;

/// For how many seconds the upstream must go on refusing our client id before it is given up.
const UNKNOWN_CLIENT_SECONDS: u64 = 300;

/// The time for which the consent page shows that an upstream changed its issuer, in seconds: as long as a grant
/// that began before lives by default.
const ISSUER_NOTICE_SECONDS: u64 = 90 * 86_400;

/// The most scopes of challenges that are kept for one service.
const MAX_CHALLENGED_SCOPES: usize = 100;

/// Some clients refresh before each request once less than 300 s are left. With such tokens, that is
/// half of the time or more.
const SHORT_LIFE_SECONDS: u64 = 600;

/// The issuer that an upstream named before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousIssuer {
    /// The issuer, byte for byte.
    pub issuer: String,
    /// When the gateway found another one.
    pub changed_at: UnixTime,
}

/// The authorization server of an upstream, and since when it refuses our client id.
#[derive(Debug, Default)]
pub struct UpstreamCache {
    /// The authorization server, with our credentials there.
    pub server: DiscoveryCache<AuthServer, Rejection>,
    unknown_client_since: ArcSwapOption<UnixTime>,
    /// The issuer before the upstream named the present one.
    previous_issuer: ArcSwapOption<PreviousIssuer>,
    /// Whether a short lifetime of its access tokens was logged.
    is_short_life_logged: AtomicBool,
    /// Whether the upstream refused a token since the last lookup for a sign-in.
    has_refused_token: AtomicBool,
    /// The scopes that the upstream named in challenges to a token with too few (RFC 6750 §3.1).
    challenged_scopes: ArcSwapOption<Scopes>,
}

impl UpstreamCache {
    /// The scopes that the upstream names in its metadata, as far as it is known.
    pub fn scopes(&self) -> Scopes {
        let server = self.server.latest();
        server
            .map(|server| Scopes::parse(&server.scopes_known.join(" ")))
            .unwrap_or_default()
    }

    /// The issuer of the authorization server, as far as it is known.
    pub fn issuer(&self) -> Option<String> {
        self.server.latest().map(|server| server.issuer.clone())
    }

    /// Notes that the upstream refused a token.
    pub fn note_refused_token(&self) {
        self.has_refused_token.store(true, Ordering::Relaxed);
    }

    /// Whether the upstream refused a token since this was asked last.
    pub fn take_refused_token(&self) -> bool {
        self.has_refused_token.swap(false, Ordering::Relaxed)
    }

    /// Notes the scopes of a challenge. The upstream's metadata need not list them.
    pub fn note_challenged_scopes(&self, scopes: &Scopes) {
        let known = self.challenged_scopes();
        let all = known.union(scopes);
        if all != known && all.list().len() <= MAX_CHALLENGED_SCOPES {
            self.challenged_scopes.store(Some(Arc::new(all)));
        }
    }

    /// The scopes that the upstream named in challenges.
    pub fn challenged_scopes(&self) -> Scopes {
        self.challenged_scopes
            .load_full()
            .map(|scopes| (*scopes).clone())
            .unwrap_or_default()
    }

    /// Notes which issuer the upstream named before; `None` if it never named another.
    pub fn note_previous_issuer(&self, previous: Option<PreviousIssuer>) {
        self.previous_issuer.store(previous.map(Arc::new));
    }

    /// The issuer that the upstream named before, if it changed less than
    /// [`ISSUER_NOTICE_SECONDS`] ago.
    pub fn previous_issuer(&self, now: UnixTime) -> Option<String> {
        let previous = self.previous_issuer.load_full()?;
        (now.seconds_since(previous.changed_at) < ISSUER_NOTICE_SECONDS).then(|| previous.issuer.clone())
    }

    /// Notes that the upstream issued tokens to us: it knows our client id.
    pub fn clear_unknown_client(&self) {
        if self.unknown_client_since.load().is_some() {
            self.unknown_client_since.store(None);
        }
    }

    /// Returns the lifetime of an access token in seconds, if it is [`SHORT_LIFE_SECONDS`] or less for
    /// the first time.
    pub fn note_lifetime(&self, tokens: &UpstreamTokens, now: UnixTime) -> Option<u64> {
        let seconds = tokens.expires?.seconds_since(now);
        let is_first = seconds <= SHORT_LIFE_SECONDS && !self.is_short_life_logged.swap(true, Ordering::Relaxed);
        is_first.then_some(seconds)
    }

    /// Notes that the upstream refused our client id. Returns whether it has done so for
    /// [`UNKNOWN_CLIENT_SECONDS`]. A single refusal may be a mistake, and a new registration would
    /// lose what the upstream issued to the old one.
    pub fn note_unknown_client(&self, now: UnixTime) -> bool {
        let since = self.unknown_client_since.load_full().map_or(now, |since| *since);
        let is_lasting = now.seconds_since(since) >= UNKNOWN_CLIENT_SECONDS;
        self.unknown_client_since.store((!is_lasting).then(|| Arc::new(since)));
        is_lasting
    }
}
