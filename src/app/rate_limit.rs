//! How often one source may ask for what costs something. Generous: hosted clients share their addresses.

use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::base::ids::Id;
use crate::base::special_ip::{self, Cidr};

/// Registrations a minute from one address: a hosted client registers anew on every connect.
const REGISTRATIONS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(600).expect("not zero");
/// Requests a minute from one address to services that ask nothing of their callers: a hundred a second.
const ANONYMOUS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(6_000).expect("not zero");
/// Journeys a minute from one address. How many may wait is bounded elsewhere (`waiting`); this bounds the writing.
const FLOWS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(600).expect("not zero");

/// Keys that one address may have tried at an upstream in a minute, and one journey in all: enough to mistype, too few to guess.
const PROBES_PER_MINUTE: NonZeroU32 = NonZeroU32::new(20).expect("not zero");
const PROBES_PER_FLOW: NonZeroU32 = NonZeroU32::new(5).expect("not zero");

/// The limits of this process.
pub struct Limits {
    registrations: DefaultKeyedRateLimiter<IpAddr>,
    journeys: DefaultKeyedRateLimiter<IpAddr>,
    probes: DefaultKeyedRateLimiter<IpAddr>,
    probes_of_one: DefaultKeyedRateLimiter<Id>,
    allow_anonymous: DefaultKeyedRateLimiter<IpAddr>,
}

impl Default for Limits {
    fn default() -> Self {
        let keyed = |rate| RateLimiter::keyed(Quota::per_minute(rate));
        Self {
            registrations: keyed(REGISTRATIONS_PER_MINUTE),
            journeys: keyed(FLOWS_PER_MINUTE),
            probes: keyed(PROBES_PER_MINUTE),
            probes_of_one: RateLimiter::keyed(Quota::per_hour(PROBES_PER_FLOW)),
            allow_anonymous: keyed(ANONYMOUS_PER_MINUTE),
        }
    }
}

impl Limits {
    /// Whether this address may register one more client.
    pub fn allow_registration(&self, source: IpAddr) -> bool {
        self.registrations.check_key(&special_ip::rate_limit_key(source)).is_ok()
    }

    /// Whether this address may begin one more journey.
    pub fn allow_flow(&self, source: IpAddr) -> bool {
        self.journeys.check_key(&special_ip::rate_limit_key(source)).is_ok()
    }

    /// Whether one more key may be tried at an upstream, from this address and in this journey.
    pub fn allow_probe(&self, source: IpAddr, flow: Id) -> bool {
        self.probes_of_one.check_key(&flow).is_ok() && self.probes.check_key(&special_ip::rate_limit_key(source)).is_ok()
    }

    /// Whether one more request to a public service may come from this address. Whoever comes from this machine is mostly a
    /// proxy in front of us, which knows its callers better than we do; unless the operator says which proxies are
    /// `trusted`: then what stays theirs is of callers who made their word unreadable.
    pub fn allow_anonymous(&self, source: IpAddr, trusted: &[Cidr]) -> bool {
        let source = source.to_canonical();
        (source.is_loopback() && trusted.is_empty()) || self.allow_anonymous.check_key(&special_ip::rate_limit_key(source)).is_ok()
    }

    /// Forgets addresses that have been quiet.
    pub fn sweep(&self) {
        self.registrations.retain_recent();
        self.journeys.retain_recent();
        self.probes.retain_recent();
        self.probes_of_one.retain_recent();
        self.allow_anonymous.retain_recent();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_requests_are_limited_by_subscriber_and_not_on_this_machine() {
        let limits = Limits::default();
        let ask = |source: &str| limits.allow_anonymous(source.parse().unwrap(), &[]);
        let mut host = (0_u32..).map(|n| format!("2001:db8::{:x}:{:x}", n >> 16, n & 0xffff));
        let passed = (0..7_000).filter(|_| ask(&host.next().unwrap())).count();
        assert!((6_000..6_900).contains(&passed), "{passed}");
        assert!(ask("2001:db8:0:1::1") && ask("198.51.100.7"), "others are not touched");
        assert!((0..7_000).all(|n| ask(if n % 2 == 0 { "127.0.0.1" } else { "::ffff:127.0.0.1" })));
    }

    #[test]
    fn one_ipv6_subscriber_has_one_allowance_and_its_neighbour_another() {
        let limits = Limits::default();
        let address = |network: u16, host: u16| IpAddr::from([0x2001, 0xdb8, 0, network, 0, 0, 0, host]);
        let many = |network| (0..2_000).filter(|n| limits.allow_flow(address(network, *n))).count();
        // Some come back while they are counted.
        assert!((600..700).contains(&many(1)));
        assert!(limits.allow_flow(address(2, 1)) && limits.allow_registration(address(1, 1)));
    }

    #[test]
    fn keys_are_tried_few_times_in_a_journey_and_not_often_from_one_address() {
        let (limits, address) = (Limits::default(), |last| IpAddr::from([192, 0, 2, last]));
        let flow = Id::random();
        assert_eq!((0..100).filter(|n| limits.allow_probe(address(*n), flow)).count(), 5);
        let many = (0..100).filter(|_| limits.allow_probe(address(200), Id::random())).count();
        // Some come back while they are counted.
        assert!((20..25).contains(&many), "{many}");
        assert!(limits.allow_probe(address(201), Id::random()));
    }
}
