//! Where records travel, a set that instances may share: what one of them used up, or ended, the others know. There is nothing
//! in it but digests and times.

use std::fmt;

use crate::base::ids::{Digest, Id};
use crate::base::random;
use crate::base::time::UnixTime;
use crate::store::Store;
use crate::store::error::StoreError;
#[cfg(feature = "redis")]
use crate::store::redis::Redis;

/// Names what can be used up once. Nobody can tell from it what that is.
#[derive(Clone, PartialEq, Eq)]
pub struct Mark(Id);

/// How something was used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// When.
    pub at: UnixTime,
    /// What opens the upstream was replaced by that, so that it is not to be shown there again.
    pub rotated: bool,
    /// Of two who say the same at once, who was first.
    nonce: [u8; 16],
}

/// Where the set is.
#[derive(Clone, Debug)]
pub(super) enum Shared {
    /// There is none: each instance knows of itself only.
    Nowhere,
    /// In a Redis.
    #[cfg(feature = "redis")]
    Redis(Redis),
}

impl Mark {
    /// Of a code, by its secret.
    pub fn code(secret: &str) -> Self {
        Self::of("code", secret)
    }

    /// Of one copy of a record that travels.
    pub fn copy(carried: &str) -> Self {
        Self::of("copy", carried)
    }

    /// Of a grant's end.
    pub fn ended(grant: Id) -> Self {
        Self::of("ended", &grant.to_string())
    }

    fn of(what: &str, name: &str) -> Self {
        Self(Id(Digest::of(&format!("{what} {name}")).short()))
    }

    /// Its key, below the prefix.
    #[cfg(feature = "redis")]
    pub(super) fn key(&self) -> String {
        format!("spent:{}", self.0)
    }
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mark({})", self.0)
    }
}

impl Spent {
    /// Used up at `at`.
    pub fn new(at: UnixTime, rotated: bool) -> Self {
        let nonce = random::bytes();
        Self { at, rotated, nonce }
    }

    #[cfg(feature = "redis")]
    pub(super) fn bytes(self) -> Vec<u8> {
        [&self.at.0.to_be_bytes()[..], &[u8::from(self.rotated)], &self.nonce].concat()
    }

    #[cfg(feature = "redis")]
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (at, rest) = bytes.split_first_chunk()?;
        let (rotated, nonce) = rest.split_first()?;
        Some(Self {
            at: UnixTime(u64::from_be_bytes(*at)),
            rotated: *rotated != 0,
            nonce: nonce.try_into().ok()?,
        })
    }
}

impl Store {
    /// The same, whose instances tell each other through `set` what they used up.
    #[cfg(feature = "redis")]
    #[must_use]
    pub fn sharing(self, set: Redis) -> Self {
        Self {
            shared: Shared::Redis(set),
            ..self
        }
    }

    /// Whether instances tell each other what they used up.
    pub fn shares(&self) -> bool {
        match self.shared {
            Shared::Nowhere => false,
            #[cfg(feature = "redis")]
            Shared::Redis(_) => true,
        }
    }

    /// How this was used up, as far as others tell.
    #[cfg_attr(not(feature = "redis"), expect(unused_variables, clippy::unused_async, reason = "there is no set"))]
    pub async fn spent(&self, mark: &Mark) -> Result<Option<Spent>, StoreError> {
        match &self.shared {
            Shared::Nowhere => Ok(None),
            #[cfg(feature = "redis")]
            Shared::Redis(set) => set.spent(mark).await,
        }
    }

    /// Tells the others that this is used up, and how it was before, if it was. They know it until `until` and a while longer.
    #[cfg_attr(not(feature = "redis"), expect(unused_variables, clippy::unused_async, reason = "there is no set"))]
    pub async fn spend(&self, mark: &Mark, spent: Spent, until: UnixTime) -> Result<Option<Spent>, StoreError> {
        match &self.shared {
            Shared::Nowhere => Ok(None),
            #[cfg(feature = "redis")]
            Shared::Redis(set) => Ok(Some(set.spend(mark, spent, until).await?).filter(|there| *there != spent)),
        }
    }
}
