//! A record as it lies in a backend: JSON that names its version and id, sealed for its key alone.

use std::io;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::base::ids::Id;
use crate::base::keyring::KeyRing;
use crate::base::random;
use crate::base::record::Record;
use crate::base::seal::{self, DoesNotOpen, Label};
use crate::base::time::UnixTime;
use crate::store::backend::Version;
use crate::store::error::StoreError;
use crate::store::handle::key;

const RECORD: Label = Label("record");
#[cfg(any(feature = "redis", feature = "vault"))]
const NOTE: Label = Label("note of a record");

#[derive(Serialize)]
struct Written<'a, R> {
    v: u32,
    id: Id,
    r: &'a R,
}

/// What every version has, whatever the record looks like.
#[derive(Deserialize)]
struct Envelope {
    v: u32,
    id: Id,
}

#[derive(Deserialize)]
struct Content<R> {
    r: R,
}

/// What a sealed record is bound to besides its kind.
#[derive(Clone, Copy)]
pub(super) struct Bound<'a> {
    /// Where it lies, or would.
    pub(super) key: &'a str,
    /// The move that it came from, where it travels: the count in it is believed because it is bound.
    pub(super) travels: Option<Version>,
}

impl Bound<'_> {
    fn bytes(&self, space: &str) -> Vec<u8> {
        let mut bytes = place(space, self.key);
        if let Some(version) = self.travels {
            bytes.extend_from_slice(b"travels");
            bytes.extend_from_slice(&version.0);
        }
        bytes
    }
}

/// Seals `record`, bound to this.
pub(super) fn seal<R: Record>(ring: &KeyRing, now: UnixTime, to: Bound<'_>, id: Id, record: &R) -> Result<Vec<u8>, StoreError> {
    let mut plain = Wiped::default();
    let written = Written {
        v: R::VERSION,
        id,
        r: record,
    };
    serde_json::to_writer(&mut plain, &written).map_err(|_| StoreError::Unreadable { space: R::SPACE })?;
    Ok(seal::boxed(ring, now, RECORD, random::fresh(), &to.bytes(R::SPACE), &plain.0))
}

/// Opens what [`seal`] bound to this.
pub(super) fn open<R: Record>(ring: &KeyRing, to: Bound<'_>, sealed: &[u8]) -> Result<(Id, R), StoreError> {
    let space = R::SPACE;
    let plain = seal::unboxed(ring, RECORD, &to.bytes(space), sealed).map_err(|DoesNotOpen| StoreError::DoesNotOpen { space })?;
    let envelope: Envelope = serde_json::from_slice(&plain).map_err(|_| StoreError::Unreadable { space })?;
    if envelope.v > R::VERSION {
        return Err(StoreError::NewerVersion {
            space,
            version: envelope.v,
        });
    }
    if key(space, envelope.id) != to.key {
        return Err(StoreError::DoesNotOpen { space });
    }
    let content: Content<R> = serde_json::from_slice(&plain).map_err(|_| StoreError::Unreadable { space })?;
    Ok((envelope.id, content.r))
}

/// The id of whatever lies at `key`, of any kind and version.
pub(super) fn id(ring: &KeyRing, space: &str, key: &str, sealed: &[u8]) -> Option<Id> {
    let plain = seal::unboxed(ring, RECORD, &place(space, key), sealed).ok()?;
    let envelope: Envelope = serde_json::from_slice(&plain).ok()?;
    Some(envelope.id)
}

/// What lies at `key`, of any kind and version, sealed again with the key that seals now; and its id.
pub(super) fn sealed_anew(ring: &KeyRing, now: UnixTime, space: &str, key: &str, sealed: &[u8]) -> Option<(Id, Vec<u8>)> {
    let place = place(space, key);
    let plain = seal::unboxed(ring, RECORD, &place, sealed).ok()?;
    let envelope: Envelope = serde_json::from_slice(&plain).ok()?;
    Some((envelope.id, seal::boxed(ring, now, RECORD, random::fresh(), &place, &plain)))
}

/// The id of the record at `key`, sealed for whoever shares the store: what one instance tells the others.
#[cfg(any(feature = "redis", feature = "vault"))]
pub(super) fn note(ring: &KeyRing, now: UnixTime, space: &str, key: &str, id: Id) -> Vec<u8> {
    seal::boxed(ring, now, NOTE, random::fresh(), &place(space, key), &id.0)
}

/// Opens what `note` made for `key`.
#[cfg(any(feature = "redis", feature = "vault"))]
pub(super) fn noted(ring: &KeyRing, space: &str, key: &str, sealed: &[u8]) -> Option<Id> {
    let plain = seal::unboxed(ring, NOTE, &place(space, key), sealed).ok()?;
    Some(Id(plain.as_slice().try_into().ok()?))
}

/// What a sealed record is bound to: a record that was moved to another key does not open there.
fn place(space: &str, key: &str) -> Vec<u8> {
    [space.as_bytes(), &[0], key.as_bytes(), &[0]].concat()
}

/// A buffer that leaves no copy behind when it grows, as a plain `Vec` would.
struct Wiped(Zeroizing<Vec<u8>>);

impl Default for Wiped {
    fn default() -> Self {
        Self(Zeroizing::new(Vec::with_capacity(1024)))
    }
}

impl io::Write for Wiped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(2 * self.0.capacity())));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
