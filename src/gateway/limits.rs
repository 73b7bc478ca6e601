//! How often one source may ask for what costs something. Generous: hosted clients share their addresses.

use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::base::range;

/// Registrations a minute from one address: a hosted client registers anew on every connect.
const REGISTRATIONS: NonZeroU32 = NonZeroU32::new(600).expect("not zero");
/// Journeys a minute from one address. How many may wait is bounded elsewhere (`waiting`); this bounds the writing.
const JOURNEYS: NonZeroU32 = NonZeroU32::new(600).expect("not zero");

/// The limits of this process.
pub struct Limits {
    registrations: DefaultKeyedRateLimiter<IpAddr>,
    journeys: DefaultKeyedRateLimiter<IpAddr>,
}

impl Default for Limits {
    fn default() -> Self {
        let keyed = |rate| RateLimiter::keyed(Quota::per_minute(rate));
        Self {
            registrations: keyed(REGISTRATIONS),
            journeys: keyed(JOURNEYS),
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

    /// Forgets addresses that have been quiet.
    pub fn sweep(&self) {
        self.registrations.retain_recent();
        self.journeys.retain_recent();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
