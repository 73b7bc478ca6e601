//! A record as a backend stores it: JSON with its version and id, sealed for its key alone.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::base::ids::Id;
use crate::base::keyring::KeyRing;
use crate::base::random;
use crate::base::record::Record;
use crate::base::seal::{self, Label, UnsealError};
use crate::base::time::UnixTime;
use crate::store::error::StoreError;
use crate::store::handle::key;
use crate::store::row::Version;

/// The keys that seal and open records. A reload replaces them.
pub type SharedKeyRing = Arc<ArcSwap<KeyRing>>;

const RECORD: Label = Label("record");
#[cfg(any(feature = "redis", feature = "vault"))]
const NOTE: Label = Label("note of a record");

#[derive(Serialize)]
struct Envelope<'a, R> {
    v: u32,
    id: Id,
    r: &'a R,
}

/// The fields that every version of a record has.
#[derive(Deserialize)]
struct EnvelopeHeader {
    v: u32,
    id: Id,
}

#[derive(Deserialize)]
struct EnvelopeBody<R> {
    r: R,
}

/// The values to which a sealed record is bound, besides its kind.
#[derive(Clone, Copy)]
pub(super) struct AssociatedData<'a> {
    /// The key of the record in a backend.
    pub(super) key: &'a str,
    /// The version of a client-side record. This makes its transition count authentic.
    pub(super) travels: Option<Version>,
}

impl AssociatedData<'_> {
    fn bytes(&self, space: &str) -> Vec<u8> {
        let mut bytes = associated_bytes(space, self.key);
        if let Some(version) = self.travels {
            bytes.extend_from_slice(b"travels");
            bytes.extend_from_slice(&version.0);
        }
        bytes
    }
}

/// Seals `record`, bound to `associated_data`.
pub(super) fn seal<R: Record>(
    ring: &KeyRing,
    now: UnixTime,
    associated_data: AssociatedData<'_>,
    id: Id,
    record: &R,
) -> Result<Vec<u8>, StoreError> {
    let mut plaintext = ZeroizingBuffer::default();
    let envelope = Envelope {
        v: R::VERSION,
        id,
        r: record,
    };
    serde_json::to_writer(&mut plaintext, &envelope).map_err(|_| StoreError::Unreadable { space: R::KIND })?;
    Ok(seal::seal_message(
        ring.sealing_key(now),
        RECORD,
        random::salt_and_nonce(),
        &associated_data.bytes(R::KIND),
        &plaintext.0,
    ))
}

/// Opens a record that [`seal`] bound to `associated_data`.
pub(super) fn open<R: Record>(ring: &KeyRing, associated_data: AssociatedData<'_>, sealed: &[u8]) -> Result<(Id, R), StoreError> {
    let space = R::KIND;
    let plaintext =
        seal::open_message(ring, RECORD, &associated_data.bytes(space), sealed).map_err(|UnsealError| StoreError::DoesNotOpen { space })?;
    let envelope: EnvelopeHeader = serde_json::from_slice(&plaintext).map_err(|_| StoreError::Unreadable { space })?;
    if envelope.v > R::VERSION {
        return Err(StoreError::NewerVersion {
            space,
            version: envelope.v,
        });
    }
    if key(space, envelope.id) != associated_data.key {
        return Err(StoreError::DoesNotOpen { space });
    }
    let body: EnvelopeBody<R> = serde_json::from_slice(&plaintext).map_err(|_| StoreError::Unreadable { space })?;
    Ok((envelope.id, body.r))
}

/// The id of the record at `key`, of any kind and version. `None`: it does not open.
pub(super) fn id(ring: &KeyRing, space: &str, key: &str, sealed: &[u8]) -> Option<Id> {
    let plaintext = seal::open_message(ring, RECORD, &associated_bytes(space, key), sealed).ok()?;
    let envelope: EnvelopeHeader = serde_json::from_slice(&plaintext).ok()?;
    Some(envelope.id)
}

/// Reseals the record at `key`, of any kind and version, with the current key. Also returns its id.
pub(super) fn reseal(ring: &KeyRing, now: UnixTime, space: &str, key: &str, sealed: &[u8]) -> Option<(Id, Vec<u8>)> {
    let associated_data = associated_bytes(space, key);
    let plaintext = seal::open_message(ring, RECORD, &associated_data, sealed).ok()?;
    let envelope: EnvelopeHeader = serde_json::from_slice(&plaintext).ok()?;
    Some((
        envelope.id,
        seal::seal_message(
            ring.sealing_key(now),
            RECORD,
            random::salt_and_nonce(),
            &associated_data,
            &plaintext,
        ),
    ))
}

/// Seals the id of the record at `key`, for a change event that other instances read.
#[cfg(any(feature = "redis", feature = "vault"))]
pub(super) fn seal_id(ring: &KeyRing, now: UnixTime, space: &str, key: &str, id: Id) -> Vec<u8> {
    seal::seal_message(
        ring.sealing_key(now),
        NOTE,
        random::salt_and_nonce(),
        &associated_bytes(space, key),
        &id.0,
    )
}

/// Opens the id that `seal_id` sealed for `key`.
#[cfg(any(feature = "redis", feature = "vault"))]
pub(super) fn open_sealed_id(ring: &KeyRing, space: &str, key: &str, sealed: &[u8]) -> Option<Id> {
    let plaintext = seal::open_message(ring, NOTE, &associated_bytes(space, key), sealed).ok()?;
    Some(Id(plaintext.as_slice().try_into().ok()?))
}

/// The associated data of a record: a record that was copied to another key does not open there.
fn associated_bytes(space: &str, key: &str) -> Vec<u8> {
    [space.as_bytes(), &[0], key.as_bytes(), &[0]].concat()
}

/// A buffer that zeroizes its old memory when it grows. A plain `Vec` would leave a copy.
struct ZeroizingBuffer(Zeroizing<Vec<u8>>);

impl Default for ZeroizingBuffer {
    fn default() -> Self {
        Self(Zeroizing::new(Vec::with_capacity(1024)))
    }
}

impl io::Write for ZeroizingBuffer {
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
