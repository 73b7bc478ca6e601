//! How often one source may ask for what costs something. Generous: hosted clients share their addresses.

use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// Registrations a minute from one address: a hosted client registers anew on every connect.
const REGISTRATIONS: NonZeroU32 = NonZeroU32::new(600).expect("not zero");
/// Journeys a minute from one address.
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
        self.registrations.check_key(&source).is_ok()
    }

    /// Whether this address may begin one more journey.
    pub fn journey(&self, source: IpAddr) -> bool {
        self.journeys.check_key(&source).is_ok()
    }

    /// Forgets addresses that have been quiet.
    pub fn sweep(&self) {
        self.registrations.retain_recent();
        self.journeys.retain_recent();
    }
}
