//! Expiry of a pair: the earliest limit of both sides, computed each time from absolute times.

use crate::base::time::UnixTime;

/// Lifetimes that the gateway sets, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl {
    /// Lifetime of an access pair.
    pub access: u64,
    /// Lifetime of an unused refresh pair.
    pub refresh: u64,
    /// Lifetime of a grant, however often it is refreshed.
    pub absolute: u64,
}

impl Default for Ttl {
    fn default() -> Self {
        Self {
            access: 3_600,
            refresh: 30 * 86_400,
            absolute: 90 * 86_400,
        }
    }
}

/// The time for which a superseded refresh token is accepted, in seconds; 0 is the strict rule of RFC 9700
/// §4.14.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReuseWindow {
    /// For native clients: several processes of one often share a stored token, and present it late.
    pub native: u64,
    /// For all other clients.
    pub web: u64,
}

impl Default for ReuseWindow {
    fn default() -> Self {
        Self {
            native: NATIVE_REUSE_WINDOW_SECONDS,
            web: WEB_REUSE_WINDOW_SECONDS,
        }
    }
}

impl ReuseWindow {
    /// The same window for every client, in seconds.
    #[must_use]
    pub fn for_all_clients(seconds: u64) -> Self {
        Self {
            native: seconds,
            web: seconds,
        }
    }

    /// The window for a native client or another one, in seconds.
    pub fn seconds(self, is_native_client: bool) -> u64 {
        if is_native_client { self.native } else { self.web }
    }
}

/// Subtracted from the upstream's expiry, in seconds, so that no token expires on the way.
pub const UPSTREAM_MARGIN_SECONDS: u64 = 10;

/// The time for which a superseded refresh token of a native client is accepted unless configured, in seconds.
const NATIVE_REUSE_WINDOW_SECONDS: u64 = 7_200;
/// The time for which a superseded refresh token of any other client is accepted unless configured, in seconds.
const WEB_REUSE_WINDOW_SECONDS: u64 = 60;
/// The time for which two branches of one grant may both refresh unless configured, in seconds, where the gateway
/// serves more than its own machine.
pub const PARALLEL_LIMIT_SECONDS: u64 = 30 * 86_400;
/// After how many seconds a user of an identity provider signs in again unless configured, where neither
/// the provider nor the upstream is asked about the user in between.
pub const REAUTH_SECONDS: u64 = 86_400;

/// Expiry of an access pair: the earlier of `ttl` and the upstream's less the margin; at least 1 s.
pub fn access_ends(now: UnixTime, ttl: u64, upstream: Option<UnixTime>) -> UnixTime {
    let own_expiry = now.plus_seconds(ttl.max(1));
    let upstream_expiry = upstream.map_or(UnixTime::NEVER, |expiry| expiry.minus_seconds(UPSTREAM_MARGIN_SECONDS));
    own_expiry.min(upstream_expiry).max(now.plus_seconds(1))
}

/// Expiry of a refresh pair: the earliest of its own, the grant's and the upstream's.
pub fn refresh_ends(now: UnixTime, ttl: Ttl, granted_at: UnixTime, upstream: Option<UnixTime>) -> UnixTime {
    now.plus_seconds(ttl.refresh)
        .min(granted_at.plus_seconds(ttl.absolute))
        .min(upstream.unwrap_or(UnixTime::NEVER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_pair_lives_as_long_as_the_shorter_half() {
        let now = UnixTime(1_000);
        let lifetime = |ttl, upstream: Option<u64>| access_ends(now, ttl, upstream.map(UnixTime)).seconds_since(now);
        assert_eq!(lifetime(3_600, None), 3_600);
        assert_eq!(lifetime(3_600, Some(1_300)), 290);
        assert_eq!(lifetime(60, Some(99_999)), 60);
        assert_eq!(lifetime(3_600, Some(1_005)), 1);
        assert_eq!(lifetime(3_600, Some(0)), 1);
        assert_eq!(lifetime(0, None), 1);
        assert_eq!(lifetime(u64::MAX, None), u64::MAX - 1_000);
    }

    #[test]
    fn a_refresh_pair_never_outlives_its_grant_or_the_upstream() {
        let ttl = Ttl {
            access: 1,
            refresh: 30,
            absolute: 90,
        };
        let expiry = |now, upstream: Option<u64>| refresh_ends(UnixTime(now), ttl, UnixTime(0), upstream.map(UnixTime)).0;
        assert_eq!((expiry(0, None), expiry(80, None), expiry(0, Some(5))), (30, 90, 5));
    }
}
