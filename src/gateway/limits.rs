//! How often one source may ask for what costs something. Generous: hosted clients share their addresses.

use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::base::range;

/// Registrations a minute from one address: a hosted client registers anew on every connect.
const REGISTRATIONS: NonZeroU32 = NonZeroU32::new(600).expect("not zero");
/// Requests a minute from one address to services that ask nothing of their callers: a hundred a second.
const ANONYMOUS: NonZeroU32 = NonZeroU32::new(6_000).expect("not zero");
/// Journeys a minute from one address. How many may wait is bounded elsewhere (`waiting`); this bounds the writing.
const JOURNEYS: NonZeroU32 = NonZeroU32::new(600).expect("not zero");

/// The limits of this process.
pub struct Limits {
    registrations: DefaultKeyedRateLimiter<IpAddr>,
    journeys: DefaultKeyedRateLimiter<IpAddr>,
    anonymous: DefaultKeyedRateLimiter<IpAddr>,
}

impl Default for Limits {
    fn default() -> Self {
        let keyed = |rate| RateLimiter::keyed(Quota::per_minute(rate));
        Self {
            registrations: keyed(REGISTRATIONS),
            journeys: keyed(JOURNEYS),
            anonymous: keyed(ANONYMOUS),
        }
    }
}

impl Limits {
    /// Whether this address may register one more client.
    pub fn registration(&self, source: IpAddr) -> bool {
        self.registrations.check_key(&range::subscriber(source)).is_ok()
    }

    /// Whether this address may begin one more journey.
    pub fn journey(&self, source: IpAddr) -> bool {
        self.journeys.check_key(&range::subscriber(source)).is_ok()
    }

    /// Whether one more request to a public service may come from this address. Whoever comes from this machine is mostly a
    /// proxy in front of us, which knows its callers better than we do.
    pub fn anonymous(&self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        source.is_loopback() || self.anonymous.check_key(&range::subscriber(source)).is_ok()
    }

    /// Forgets addresses that have been quiet.
    pub fn sweep(&self) {
        self.registrations.retain_recent();
        self.journeys.retain_recent();
        self.anonymous.retain_recent();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_requests_are_limited_by_subscriber_and_not_on_this_machine() {
        let limits = Limits::default();
        let ask = |source: &str| limits.anonymous(source.parse().unwrap());
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
        let many = |network| (0..2_000).filter(|n| limits.journey(address(network, *n))).count();
        // Some come back while they are counted.
        assert!((600..700).contains(&many(1)));
        assert!(limits.journey(address(2, 1)) && limits.registration(address(1, 1)));
    }
}
