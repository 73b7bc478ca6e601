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
pub enum TokenMode {
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

impl TokenMode {
    /// How a token of this kind is protected, in a service of this mode.
    #[must_use]
    pub fn for_kind(self, kind: TokenKind) -> Self {
        match (self, kind) {
            // A key carries nothing that a client could read.
            (_, TokenKind::Key) | (Self::Jwt, TokenKind::Refresh) => Self::Sealed,
            #[cfg(feature = "raw")]
            (Self::Raw, TokenKind::Refresh) => Self::Sealed,
            (own, TokenKind::Access | TokenKind::Refresh) => own,
        }
    }

    /// Whoever holds a client's token can read the upstream's in it.
    pub fn exposes_upstream_tokens(self) -> bool {
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
pub enum TokenKind {
    /// Presented at the MCP endpoint.
    Access,
    /// Presented at the token endpoint.
    Refresh,
    /// An API key: presented at the MCP endpoint of a service that takes keys, and made by the operator.
    Key,
}

/// What the upstream half is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadKind {
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
pub struct ServiceDigest(pub [u8; 8]);

impl ServiceDigest {
    /// The mark of the service of this name.
    pub fn of(name: &str) -> Self {
        let mut out = [0; 8];
        out.copy_from_slice(&Digest::new(name).truncated()[..8]);
        Self(out)
    }
}

/// The gateway half, read or about to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairHeader {
    /// How it is protected.
    pub mode: TokenMode,
    /// Access, refresh or key.
    pub kind: TokenKind,
    /// What the upstream half is.
    pub carried: PayloadKind,
    /// The grant that it belongs to; of a key, the key's own id.
    pub grant: Id,
    /// Which refresh of its grant it comes from.
    pub generation: u32,
    /// The service that it is for.
    pub service: ServiceDigest,
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
pub(super) const BASE_LEN: usize = FIXED_LEN + 4 + 28;
/// The fixed part: everything but subject, scopes and fresh bytes.
const FIXED_LEN: usize = 4 + 4 + 16 + 4 + 8 + 16 + 8 + 8;

impl PairHeader {
    /// The header's bytes.
    pub(super) fn write(&self, key: KeyId, fresh: &[u8; 28]) -> Vec<u8> {
        let mut out = Vec::with_capacity(BASE_LEN + self.subject.len() + self.scopes.len());
        let mode = match self.mode {
            TokenMode::Sealed => 1,
            TokenMode::Plain => 2,
            TokenMode::Reference => 3,
            // No pair is of these; what is written so by mistake does not read.
            TokenMode::Jwt => 0,
            #[cfg(feature = "raw")]
            TokenMode::Raw => 0,
        };
        let kind = match self.kind {
            TokenKind::Access => 1,
            TokenKind::Refresh => 2,
            TokenKind::Key => 3,
        };
        let carried = match self.carried {
            PayloadKind::Access => 1,
            PayloadKind::Refresh => 2,
            PayloadKind::Nothing => 3,
            PayloadKind::Identity => 4,
            PayloadKind::Reference => 5,
            PayloadKind::Grant => 6,
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
            let bytes = &text.as_bytes()[..char_boundary_before(text, usize::from(u16::MAX))];
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
                1 => TokenMode::Sealed,
                2 => TokenMode::Plain,
                3 => TokenMode::Reference,
                _ => return None,
            },
            kind: match kind {
                1 => TokenKind::Access,
                2 => TokenKind::Refresh,
                3 => TokenKind::Key,
                _ => return None,
            },
            carried: match carried {
                1 => PayloadKind::Access,
                2 => PayloadKind::Refresh,
                3 => PayloadKind::Nothing,
                4 => PayloadKind::Identity,
                5 => PayloadKind::Reference,
                6 => PayloadKind::Grant,
                _ => return None,
            },
            grant: Id(take(&mut rest)?),
            generation: u32::from_be_bytes(take(&mut rest)?),
            service: ServiceDigest(take(&mut rest)?),
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
fn char_boundary_before(text: &str, most: usize) -> usize {
    (0..=text.len().min(most)).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}
