//! The gateway half: a binary header with all that a request must know, so that it reads no store.
//!
//! `gwa_`, `gwr_` or `gwk_`, then base64url of big-endian fields: version, mode, kind, payload kind
//! (1 byte each), key id (4), grant (16), generation (4), service (8), client (16), expiry (8),
//! upstream expiry (8), subject and scopes (2-byte length each), random bytes (28).

use crate::base::ids::{Digest, Id};
use crate::base::keyring::KeyId;
use crate::base::time::UnixTime;

/// Version of the header format. Version 1 has no branch.
const VERSION: u8 = 2;
const VERSION_WITHOUT_BRANCH: u8 = 1;

/// The protection of the upstream half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenMode {
    /// Encrypted: only the gateway can read it.
    Sealed,
    /// Readable by every holder of the pair, exactly as in the first dual-token gateway.
    Plain,
    /// Encrypted and empty. The upstream's token is in the grant's record.
    Reference,
    /// The access token is one signed JWT (RFC 9068) and not a pair. The refresh token is `Sealed`.
    Jwt,
    /// The access token is the upstream's own. The refresh token is `Sealed`.
    #[cfg(feature = "raw")]
    Raw,
}

impl TokenMode {
    /// The protection of a token of this kind, in a service of this mode.
    #[must_use]
    pub fn for_kind(self, kind: TokenKind) -> Self {
        match (self, kind) {
            // An API key carries nothing that a client could read.
            (_, TokenKind::Key) | (Self::Jwt, TokenKind::Refresh) => Self::Sealed,
            #[cfg(feature = "raw")]
            (Self::Raw, TokenKind::Refresh) => Self::Sealed,
            (mode, TokenKind::Access | TokenKind::Refresh) => mode,
        }
    }

    /// Whether the holder of a client's token can read the upstream's token in it.
    pub fn exposes_upstream_tokens(self) -> bool {
        match self {
            Self::Sealed | Self::Reference | Self::Jwt => false,
            Self::Plain => true,
            #[cfg(feature = "raw")]
            Self::Raw => true,
        }
    }
}

/// The purpose of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Access pair, for the MCP endpoint.
    Access,
    /// Refresh pair, for the token endpoint.
    Refresh,
    /// API key, made by the operator, for the MCP endpoint of a service that accepts keys.
    Key,
}

/// Content of the upstream half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadKind {
    /// Access token of the upstream.
    Access,
    /// Refresh token of the upstream.
    Refresh,
    /// Identity of the user as JSON, for an upstream that gets identity headers.
    Identity,
    /// Nothing: the upstream needs no credential of the user.
    Nothing,
    /// Nothing: the upstream's tokens are in the grant's record, and the gateway refreshes them.
    Reference,
    /// The grant's client-side record, sealed once more: the gateway stores nothing.
    Grant,
}

/// Short digest of a service's name. It binds a token to the service, whatever alias was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceDigest(pub [u8; 8]);

impl ServiceDigest {
    /// The digest of the service with this name.
    pub fn of(name: &str) -> Self {
        let mut out = [0; 8];
        out.copy_from_slice(&Digest::new(name).truncated()[..8]);
        Self(out)
    }
}

/// The gateway half: readable, and authenticated together with the upstream half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairHeader {
    /// The protection of the upstream half.
    pub mode: TokenMode,
    /// Access, refresh or API key.
    pub kind: TokenKind,
    /// Content of the upstream half.
    pub carried: PayloadKind,
    /// Grant that the pair belongs to, or the id of an API key.
    pub grant: Id,
    /// Generation of the grant that the pair belongs to.
    pub generation: u32,
    /// Branch of that generation.
    pub branch: u8,
    /// Service that the pair is for.
    pub service: ServiceDigest,
    /// First 16 bytes of the digest of the client id.
    pub client: [u8; 16],
    /// Expiry of the pair.
    pub expires: UnixTime,
    /// Expiry of the upstream half; [`UnixTime::NEVER`] if there is none.
    pub upstream_expires: UnixTime,
    /// User who signed in here, or empty if no sign-in was needed. For an API key: its name.
    pub subject: String,
    /// Granted scopes, separated by spaces.
    pub scopes: String,
}

/// Length of a header without subject and scopes, in bytes.
pub(super) const BASE_LEN: usize = FIXED_LEN + 4 + 28;
/// Length of the fields before subject and scopes, in bytes.
const FIXED_LEN: usize = 4 + 4 + 16 + 4 + 1 + 8 + 16 + 8 + 8;

impl PairHeader {
    /// Encodes the header.
    pub(super) fn write(&self, key: KeyId, random_bytes: &[u8; 28]) -> Vec<u8> {
        let mut out = Vec::with_capacity(BASE_LEN + self.subject.len() + self.scopes.len());
        let mode = match self.mode {
            TokenMode::Sealed => 1,
            TokenMode::Plain => 2,
            TokenMode::Reference => 3,
            // A pair never has these modes. `read` refuses the value 0.
            TokenMode::Jwt => 0,
            #[cfg(feature = "raw")]
            TokenMode::Raw => 0,
        };
        let kind = match self.kind {
            TokenKind::Access => 1,
            TokenKind::Refresh => 2,
            TokenKind::Key => 3,
        };
        let payload = match self.carried {
            PayloadKind::Access => 1,
            PayloadKind::Refresh => 2,
            PayloadKind::Nothing => 3,
            PayloadKind::Identity => 4,
            PayloadKind::Reference => 5,
            PayloadKind::Grant => 6,
        };
        out.extend_from_slice(&[VERSION, mode, kind, payload]);
        out.extend_from_slice(&key);
        out.extend_from_slice(&self.grant.0);
        out.extend_from_slice(&self.generation.to_be_bytes());
        out.push(self.branch);
        out.extend_from_slice(&self.service.0);
        out.extend_from_slice(&self.client);
        out.extend_from_slice(&self.expires.0.to_be_bytes());
        out.extend_from_slice(&self.upstream_expires.0.to_be_bytes());
        for text in [&self.subject, &self.scopes] {
            let bytes = &text.as_bytes()[..char_boundary_before(text, usize::from(u16::MAX))];
            out.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
            out.extend_from_slice(bytes);
        }
        out.extend_from_slice(random_bytes);
        out
    }

    /// Decodes header, key id and random bytes. `None` if bytes are left over, missing or unknown.
    pub(super) fn read(bytes: &[u8]) -> Option<(Self, KeyId, [u8; 28])> {
        let mut rest = bytes;
        let [version, mode, kind, payload] = take(&mut rest)?;
        let has_branch = match version {
            VERSION => true,
            VERSION_WITHOUT_BRANCH => false,
            _ => return None,
        };
        let key = take(&mut rest)?;
        let header = Self {
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
            carried: match payload {
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
            branch: if has_branch { u8::from_be_bytes(take(&mut rest)?) } else { 0 },
            service: ServiceDigest(take(&mut rest)?),
            client: take(&mut rest)?,
            expires: UnixTime(u64::from_be_bytes(take(&mut rest)?)),
            upstream_expires: UnixTime(u64::from_be_bytes(take(&mut rest)?)),
            subject: text(&mut rest)?,
            scopes: text(&mut rest)?,
        };
        let random_bytes = take(&mut rest)?;
        rest.is_empty().then_some((header, key, random_bytes))
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

/// The largest index up to `max` that is a character boundary of `text`.
fn char_boundary_before(text: &str, max: usize) -> usize {
    (0..=text.len().min(max)).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}
