//! Where records travel, a set that instances may share: what one of them used up, or ended, the others know. There is nothing
//! in it but digests and times.

use std::fmt;
#[cfg(not(feature = "redis"))]
use std::future::Ready;

use crate::base::ids::{Digest, Id};
use crate::base::random;
use crate::base::time::UnixTime;
use crate::store::Store;
use crate::store::error::StoreError;
#[cfg(feature = "redis")]
pub use crate::store::redis::Redis as Marks;

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

/// The set, which no build has that cannot reach one.
#[cfg(not(feature = "redis"))]
#[derive(Clone, Copy, Debug)]
pub enum Marks {}

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
    /// The same, whose instances tell each other in `marks` what they used up.
    #[must_use]
    pub fn sharing(self, marks: Marks) -> Self {
        Self {
            marks: Some(marks),
            ..self
        }
    }

    /// Whether instances tell each other what they used up. Else each knows of itself only.
    pub fn shares(&self) -> bool {
        self.marks.is_some()
    }

    /// How this was used up, as far as others tell.
    pub async fn spent(&self, mark: &Mark) -> Result<Option<Spent>, StoreError> {
        match &self.marks {
            Some(marks) => marks.spent(mark).await,
            None => Ok(None),
        }
    }

    /// Tells the others that this is used up, and how it was before, if it was. They know it until `until` and a while longer.
    pub async fn spend(&self, mark: &Mark, spent: Spent, until: UnixTime) -> Result<Option<Spent>, StoreError> {
        match &self.marks {
            Some(marks) => Ok(Some(marks.spend(mark, spent, until).await?).filter(|there| *there != spent)),
            None => Ok(None),
        }
    }
}

#[cfg(not(feature = "redis"))]
impl Marks {
    fn spent(self, _: &Mark) -> Ready<Result<Option<Spent>, StoreError>> {
        match self {}
    }

    fn spend(self, _: &Mark, _: Spent, _: UnixTime) -> Ready<Result<Spent, StoreError>> {
        match self {}
    }

    pub(super) fn ping(self) -> Ready<Result<(), StoreError>> {
        match self {}
    }
}
