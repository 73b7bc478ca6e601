//! Limits the expensive requests of one source. The limits are generous, because hosted
//! clients share their addresses.

use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::base::ids::Id;
use crate::base::special_ip::{self, Cidr};

/// Registrations a minute from one source: a hosted client registers again on every connect.
pub const REGISTRATIONS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(600).expect("not zero");
/// Metadata documents a minute that one source may have fetched: less than half of the burst that
/// all sources share (`ClientMetadataCache`).
pub const DOCUMENTS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(20).expect("not zero");
/// Flows a minute from one source. It bounds the writes; `pending_flows` bounds the records.
pub const FLOWS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(600).expect("not zero");
/// Requests a minute from one source to services without authentication, and to `/token` and `/revoke`:
/// a hundred a second.
const ANONYMOUS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(6_000).expect("not zero");
/// Credentials a minute that one source may have tried at an upstream, and those that one flow may
/// try in all: enough for mistakes, too few to guess.
const PROBES_PER_MINUTE: NonZeroU32 = NonZeroU32::new(20).expect("not zero");
const PROBES_PER_FLOW: NonZeroU32 = NonZeroU32::new(5).expect("not zero");

/// Limits the requests of each source. An IPv6 source is a /64 network, which one subscriber has.
pub struct SourceLimit(DefaultKeyedRateLimiter<IpAddr>);

impl SourceLimit {
    /// Allows `rate` requests a minute from each source.
    pub fn per_minute(rate: NonZeroU32) -> Self {
        Self(RateLimiter::keyed(Quota::per_minute(rate)))
    }

    /// Counts a request of this source. Returns whether it is within the limit.
    pub fn allow(&self, source: IpAddr) -> bool {
        self.0.check_key(&special_ip::rate_limit_key(source)).is_ok()
    }

    /// Removes sources that have been quiet.
    pub fn sweep(&self) {
        self.0.retain_recent();
    }
}

/// Limits requests that need no credential, each kind by its own instance.
pub struct AnonymousLimit(SourceLimit);

impl Default for AnonymousLimit {
    fn default() -> Self {
        Self(SourceLimit::per_minute(ANONYMOUS_PER_MINUTE))
    }
}

impl AnonymousLimit {
    /// Counts a request of this source. Returns whether it is within the limit.
    ///
    /// A request from this machine mostly comes from a proxy, which knows its callers better, so it is
    /// not limited. With `trusted` proxies it is: what still has the proxy's address comes from callers
    /// that made the forwarded address unreadable.
    pub fn allow(&self, source: IpAddr, trusted: &[Cidr]) -> bool {
        let source = source.to_canonical();
        (source.is_loopback() && trusted.is_empty()) || self.0.allow(source)
    }

    /// Removes sources that have been quiet.
    pub fn sweep(&self) {
        self.0.sweep();
    }
}

/// Limits how often credentials that users paste are tried at an upstream.
pub struct ProbeLimit {
    by_source: SourceLimit,
    by_flow: DefaultKeyedRateLimiter<Id>,
}

impl Default for ProbeLimit {
    fn default() -> Self {
        Self {
            by_source: SourceLimit::per_minute(PROBES_PER_MINUTE),
            by_flow: RateLimiter::keyed(Quota::per_hour(PROBES_PER_FLOW)),
        }
    }
}

impl ProbeLimit {
    /// Counts a try of this source in this flow. Returns whether it is within both limits.
    pub fn allow(&self, source: IpAddr, flow: Id) -> bool {
        self.by_flow.check_key(&flow).is_ok() && self.by_source.allow(source)
    }

    /// Removes sources and flows that have been quiet.
    pub fn sweep(&self) {
        self.by_source.sweep();
        self.by_flow.retain_recent();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_requests_are_limited_per_subscriber_and_not_on_loopback() {
        let limit = AnonymousLimit::default();
        let allow = |source: &str| limit.allow(source.parse().unwrap(), &[]);
        let mut host = (0_u32..).map(|n| format!("2001:db8::{:x}:{:x}", n >> 16, n & 0xffff));
        let allowed = (0..7_000).filter(|_| allow(&host.next().unwrap())).count();
        assert!((6_000..6_900).contains(&allowed), "{allowed}");
        assert!(allow("2001:db8:0:1::1") && allow("198.51.100.7"), "others are not limited");
        assert!((0..7_000).all(|n| allow(if n % 2 == 0 { "127.0.0.1" } else { "::ffff:127.0.0.1" })));
    }

    #[test]
    fn each_ipv6_64_prefix_has_its_own_flow_allowance() {
        let limit = SourceLimit::per_minute(FLOWS_PER_MINUTE);
        let address = |network: u16, host: u16| IpAddr::from([0x2001, 0xdb8, 0, network, 0, 0, 0, host]);
        let allowed = (0..2_000).filter(|n| limit.allow(address(1, *n))).count();
        // The allowance refills while the test counts.
        assert!((600..700).contains(&allowed), "{allowed}");
        assert!(limit.allow(address(2, 1)));
    }

    #[test]
    fn credential_attempts_are_limited_per_flow_and_per_source() {
        let (limit, address) = (ProbeLimit::default(), |last| IpAddr::from([192, 0, 2, last]));
        let flow = Id::random();
        assert_eq!((0..100).filter(|n| limit.allow(address(*n), flow)).count(), 5);
        let allowed = (0..100).filter(|_| limit.allow(address(200), Id::random())).count();
        // The allowance refills while the test counts.
        assert!((20..25).contains(&allowed), "{allowed}");
        assert!(limit.allow(address(201), Id::random()));
    }
}
