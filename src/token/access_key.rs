//! The text of a key with which a program calls this gateway: `sk_` for a resource server, `ak_` for an
//! administrator's program.
//!
//! ```text
//! key  =  prefix  base64url( id (16) ‖ secret (24) ‖ checksum (4) )
//! ```
//!
//! The id addresses the record, so a lookup is one read. The checksum is the first 4 bytes of the
//! SHA-256 digest of all that precedes it: a mistyped key is refused without a read.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};

use crate::base::ids::Id;
use crate::base::secret::Secret;

const ID_BYTES: usize = 16;
const SECRET_BYTES: usize = 24;
const CHECKSUM_BYTES: usize = 4;
const BODY_BYTES: usize = ID_BYTES + SECRET_BYTES;

/// The kind of a key, which its prefix shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessKeyKind {
    /// A resource server, which introspects tokens.
    Server,
    /// A program that manages resource servers.
    Admin,
}

impl AccessKeyKind {
    /// The prefix of the key.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Server => "sk_",
            Self::Admin => "ak_",
        }
    }
}

/// Builds the text of a key. `secret` is fresh and random.
pub fn encode(kind: AccessKeyKind, id: Id, secret: [u8; SECRET_BYTES]) -> Secret {
    let mut bytes = [id.0.as_slice(), &secret].concat();
    bytes.extend(checksum(kind, &bytes));
    Secret::from(format!("{}{}", kind.prefix(), URL_SAFE_NO_PAD.encode(bytes)))
}

/// The id in a key of this kind. `None` if the text is not a key, or was mistyped. The caller still
/// compares the digest of the whole text.
pub fn parse(kind: AccessKeyKind, text: &str) -> Option<Id> {
    let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(kind.prefix())?).ok()?;
    if bytes.len() != BODY_BYTES + CHECKSUM_BYTES {
        return None;
    }
    let (body, found) = bytes.split_at(BODY_BYTES);
    if found != checksum(kind, body) {
        return None;
    }
    Some(Id(body[..ID_BYTES].try_into().ok()?))
}

fn checksum(kind: AccessKeyKind, body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let all = digest(&SHA256, &[kind.prefix().as_bytes(), body].concat());
    let mut out = [0; CHECKSUM_BYTES];
    out.copy_from_slice(&all.as_ref()[..CHECKSUM_BYTES]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_its_record_and_a_mistyped_one_names_none() {
        let id = Id([7; 16]);
        let key = encode(AccessKeyKind::Server, id, [9; 24]);
        let text = key.expose();
        assert_eq!((text.len(), parse(AccessKeyKind::Server, text)), (62, Some(id)));
        assert_eq!(parse(AccessKeyKind::Admin, text), None);
        assert_eq!(parse(AccessKeyKind::Admin, &text.replacen("sk_", "ak_", 1)), None);
        for i in 3..text.len() {
            let mut changed = text.as_bytes().to_vec();
            changed[i] = if changed[i] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(parse(AccessKeyKind::Server, &changed), None, "{i}");
        }
        for wrong in ["", "sk_", "sk_AAAA", &text[1..], &format!("{text}A"), &format!("{text}=")] {
            assert_eq!(parse(AccessKeyKind::Server, wrong), None, "{wrong}");
        }
    }
}
