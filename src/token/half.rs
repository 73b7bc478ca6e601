//! The gateway half: a small binary header that says everything a request must know, so that no store is read.
//!
//! `gwa_`, `gwr_` or `gwk_`, then base64url of: version, mode, kind, carried (1 byte each), key id (4), grant (16), generation (4),
//! service (8), client (16), expires (8), upstream expires (8), subject and scopes (2-byte length each), fresh bytes (28).
//! Integers are big-endian. It is readable, and authenticated as associated data of the upstream half.

use crate::base::ids::{Digest, Id};
use crate::base::keyring::KeyId;
use crate::base::time::UnixTime;

/// The version of the header's form.
const VERSION: u8 = 1;

/// How the upstream half is kept from being changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Sealed: nobody but the gateway reads it.
    Sealed,
    /// Readable by whoever holds the pair, exactly as in the first dual-token gateway.
    Plain,
    /// Sealed, and without an upstream half: what opens the upstream lies in the grant's record.
    Reference,
    /// The access token is one signed JWT (RFC 9068), and no pair; the refresh token is a sealed pair.
    Jwt,
    /// The access token is the upstream's own; the refresh token is a sealed pair.
    #[cfg(feature = "raw")]
    Raw,
}

impl Mode {
    /// How a token of this kind is protected, in a service of this mode.
    #[must_use]
    pub fn of(self, kind: Kind) -> Self {
        match (self, kind) {
            // A key carries nothing that a client could read.
            (_, Kind::Key) | (Self::Jwt, Kind::Refresh) => Self::Sealed,
            #[cfg(feature = "raw")]
            (Self::Raw, Kind::Refresh) => Self::Sealed,
            (own, Kind::Access | Kind::Refresh) => own,
        }
    }

    /// Whoever holds a client's token can read the upstream's in it.
    pub fn shows_upstream_tokens(self) -> bool {
        match self {
            Self::Sealed | Self::Reference | Self::Jwt => false,
            Self::Plain => true,
            #[cfg(feature = "raw")]
            Self::Raw => true,
        }
    }
}

/// What the pair is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Presented at the MCP endpoint.
    Access,
    /// Presented at the token endpoint.
    Refresh,
    /// An API key: presented at the MCP endpoint of a service that takes keys, and made by the operator.
    Key,
}

/// What the upstream half is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// The upstream's access token.
    Access,
    /// The upstream's refresh token.
    Refresh,
    /// Who the user is, as JSON, for a backend that is told.
    Identity,
    /// Nothing: an upstream that needs no credential.
    Nothing,
    /// Nothing: the gateway keeps the upstream's tokens in the grant's record, and refreshes them itself.
    Reference,
    /// The grant's record itself, sealed once more: the gateway keeps nothing.
    Grant,
}

/// The short mark of a service: it binds a token to the service, whatever alias was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceMark(pub [u8; 8]);

impl ServiceMark {
    /// The mark of the service of this name.
    pub fn of(name: &str) -> Self {
        let mut out = [0; 8];
        out.copy_from_slice(&Digest::of(name).short()[..8]);
        Self(out)
    }
}

/// The gateway half, read or about to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Half {
    /// How it is protected.
    pub mode: Mode,
    /// Access, refresh or key.
    pub kind: Kind,
    /// What the upstream half is.
    pub carried: Carried,
    /// The grant that it belongs to; of a key, the key's own id.
    pub grant: Id,
    /// Which refresh of its grant it comes from.
    pub generation: u32,
    /// The service that it is for.
    pub service: ServiceMark,
    /// The first 16 bytes of the digest of the client's id.
    pub client: [u8; 16],
    /// When it ends.
    pub expires: UnixTime,
    /// When the upstream half ends; [`UnixTime::NEVER`] if it does not.
    pub upstream_expires: UnixTime,
    /// Who signed in here; empty if nobody had to. Of a key, its name.
    pub subject: String,
    /// What was granted, space-separated.
    pub scopes: String,
}

/// How long a header is without its texts, in bytes.
pub(super) const BARE: usize = FIXED + 4 + 28;
/// The fixed part: everything but subject, scopes and fresh bytes.
const FIXED: usize = 4 + 4 + 16 + 4 + 8 + 16 + 8 + 8;

impl Half {
    /// The header's bytes.
    pub(super) fn write(&self, key: KeyId, fresh: &[u8; 28]) -> Vec<u8> {
        let mut out = Vec::with_capacity(BARE + self.subject.len() + self.scopes.len());
        let mode = match self.mode {
            Mode::Sealed => 1,
            Mode::Plain => 2,
            Mode::Reference => 3,
            // No pair is of these; what is written so by mistake does not read.
            Mode::Jwt => 0,
            #[cfg(feature = "raw")]
            Mode::Raw => 0,
        };
        let kind = match self.kind {
            Kind::Access => 1,
            Kind::Refresh => 2,
            Kind::Key => 3,
        };
        let carried = match self.carried {
            Carried::Access => 1,
            Carried::Refresh => 2,
            Carried::Nothing => 3,
            Carried::Identity => 4,
            Carried::Reference => 5,
            Carried::Grant => 6,
        };
        out.extend_from_slice(&[VERSION, mode, kind, carried]);
        out.extend_from_slice(&key);
        out.extend_from_slice(&self.grant.0);
        out.extend_from_slice(&self.generation.to_be_bytes());
        out.extend_from_slice(&self.service.0);
        out.extend_from_slice(&self.client);
        out.extend_from_slice(&self.expires.0.to_be_bytes());
        out.extend_from_slice(&self.upstream_expires.0.to_be_bytes());
        for text in [&self.subject, &self.scopes] {
            let bytes = &text.as_bytes()[..floor(text, usize::from(u16::MAX))];
            out.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
            out.extend_from_slice(bytes);
        }
        out.extend_from_slice(fresh);
        out
    }

    /// Reads a header: the half, the key that made it, and its fresh bytes. Anything left over or missing is `None`.
    pub(super) fn read(bytes: &[u8]) -> Option<(Self, KeyId, [u8; 28])> {
        let mut rest = bytes;
        let [version, mode, kind, carried] = take(&mut rest)?;
        if version != VERSION {
            return None;
        }
        let key = take(&mut rest)?;
        let half = Self {
            mode: match mode {
                1 => Mode::Sealed,
                2 => Mode::Plain,
                3 => Mode::Reference,
                _ => return None,
            },
            kind: match kind {
                1 => Kind::Access,
                2 => Kind::Refresh,
                3 => Kind::Key,
                _ => return None,
            },
            carried: match carried {
                1 => Carried::Access,
                2 => Carried::Refresh,
                3 => Carried::Nothing,
                4 => Carried::Identity,
                5 => Carried::Reference,
                6 => Carried::Grant,
                _ => return None,
            },
            grant: Id(take(&mut rest)?),
            generation: u32::from_be_bytes(take(&mut rest)?),
            service: ServiceMark(take(&mut rest)?),
            client: take(&mut rest)?,
            expires: UnixTime(u64::from_be_bytes(take(&mut rest)?)),
            upstream_expires: UnixTime(u64::from_be_bytes(take(&mut rest)?)),
            subject: text(&mut rest)?,
            scopes: text(&mut rest)?,
        };
        let fresh = take(&mut rest)?;
        rest.is_empty().then_some((half, key, fresh))
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let length = usize::from(u16::from_be_bytes(take(rest)?));
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    String::from_utf8(head.to_vec()).ok()
}

/// The largest index up to `most` at which `text` may be cut.
fn floor(text: &str, most: usize) -> usize {
    (0..=text.len().min(most)).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}
