//! The pair: `base64url( gateway_half ":" upstream_half )`, unpadded, split at the first `:`.
//!
//! A `sealed` upstream half is ciphertext and tag. Its associated data is the gateway half as
//! received: **one decryption checks both halves and binds them together**. A `plain` one is the
//! upstream's token, and the header ends with an HMAC over both. A `reference` is sealed and empty.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use zeroize::Zeroizing;

use crate::base::keyring::{KeyRing, RingKey};
use crate::base::random::SaltAndNonce;
use crate::base::seal::{self, Label};
use crate::base::secret::Secret;
use crate::base::time::UnixTime;
use crate::token::header::{self, PairHeader, TokenKind, TokenMode};

/// Longest accepted pair, in bytes.
pub const MAX_PAIR_BYTES: usize = 16 * 1024;
/// Size that most servers accept in a header, in bytes. With a store, longer pairs are references.
pub const MAX_HEADER_VALUE_BYTES: usize = 8 * 1024;
const MAC: usize = 32;
/// Bytes that sealing adds.
const TAG: usize = 16;

/// An opened pair: both halves are authentic and belong together. The caller checks the expiry.
#[derive(Debug)]
pub struct OpenedPair {
    /// The parsed gateway half.
    pub half: PairHeader,
    /// The upstream half in plain text.
    pub upstream: Secret,
}

/// Why a token does not open as a pair of this gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairError {
    /// Not shaped like a pair: the alphabet, padding, prefix, header or length is wrong.
    Shape,
    /// Sealed with a key that is not, or no longer, in the key ring.
    UnknownKey,
    /// Changed, joined from two pairs, or made for another purpose.
    DoesNotOpen,
}

/// Joins two halves and protects them.
pub fn encode(ring: &KeyRing, now: UnixTime, half: &PairHeader, upstream: &Secret, fresh: SaltAndNonce) -> Secret {
    let key = ring.sealing_key(now);
    let fresh = seal::into_bytes(fresh);
    let mut header = half.write(key.id(), &fresh);
    let mut joined = Zeroizing::new(Vec::with_capacity(header.len() * 2 + upstream.expose().len() + 64));
    if half.mode == TokenMode::Plain {
        let mac = mac(key, half, &header, upstream.expose());
        header.extend_from_slice(mac.as_ref());
        joined.extend_from_slice(encode_header(half.kind, &header).as_bytes());
        joined.push(b':');
        joined.extend_from_slice(upstream.expose().as_bytes());
    } else {
        let front = encode_header(half.kind, &header);
        let sealed = seal::seal(key, label(half), &fresh, front.as_bytes(), upstream.expose().as_bytes());
        joined.extend_from_slice(front.as_bytes());
        joined.push(b':');
        joined.extend_from_slice(&sealed);
    }
    Secret::from(URL_SAFE_NO_PAD.encode(&*joined))
}

/// Length of a pair in bytes. `texts` counts subject and scopes, `upstream` the upstream half.
pub fn length(mode: TokenMode, texts: usize, upstream: usize) -> usize {
    let (in_header, beside) = if mode == TokenMode::Plain { (MAC, 0) } else { (0, TAG) };
    let encoded = |bytes: usize| (bytes * 4).div_ceil(3);
    encoded(4 + encoded(header::BASE_LEN + texts + in_header) + 1 + upstream + beside)
}

/// Splits and opens a pair, with the key that its header names; no other is tried.
pub fn open(ring: &KeyRing, token: &str) -> Result<OpenedPair, PairError> {
    if token.len() > MAX_PAIR_BYTES {
        return Err(PairError::Shape);
    }
    let mut bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(token).map_err(|_| PairError::Shape)?);
    let colon = bytes.iter().position(|b| *b == b':').ok_or(PairError::Shape)?;
    let (front, rest) = bytes.split_at_mut(colon);
    let upstream = &mut rest[1..];
    let (kind, header) = decode_header(front)?;
    match PairHeader::read(&header) {
        Some((half, key, fresh)) if half.mode != TokenMode::Plain && half.kind == kind => {
            let key = ring.opening_key(key).ok_or(PairError::UnknownKey)?;
            let plain = seal::open(key, label(&half), &fresh, front, upstream).map_err(|_| PairError::DoesNotOpen)?;
            let upstream = std::str::from_utf8(plain).map_err(|_| PairError::DoesNotOpen)?;
            Ok(OpenedPair {
                half,
                upstream: Secret::from(upstream),
            })
        }
        _ => open_plain(ring, kind, &header, upstream),
    }
}

fn open_plain(ring: &KeyRing, kind: TokenKind, header: &[u8], upstream: &[u8]) -> Result<OpenedPair, PairError> {
    let (header, tag) = header.split_at_checked(header.len().saturating_sub(MAC)).ok_or(PairError::Shape)?;
    let (half, key, _) = PairHeader::read(header).ok_or(PairError::Shape)?;
    if half.mode != TokenMode::Plain || half.kind != kind {
        return Err(PairError::Shape);
    }
    let key = ring.opening_key(key).ok_or(PairError::UnknownKey)?;
    let upstream = std::str::from_utf8(upstream).map_err(|_| PairError::Shape)?;
    let signed = signed(header, upstream);
    hmac::verify(&seal::hmac_key(key, label(&half)), &signed, tag).map_err(|_| PairError::DoesNotOpen)?;
    Ok(OpenedPair {
        half,
        upstream: Secret::from(upstream),
    })
}

fn mac(key: &RingKey, half: &PairHeader, header: &[u8], upstream: &str) -> hmac::Tag {
    hmac::sign(&seal::hmac_key(key, label(half)), &signed(header, upstream))
}

/// Both parts with their lengths, so that no byte can move from one part to the other.
fn signed(header: &[u8], upstream: &str) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(header.len() + upstream.len() + 16));
    for part in [header, upstream.as_bytes()] {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

/// Label of the modes that have no pairs. Nothing opens with it.
const UNUSED_LABEL: &str = "no pair";

/// One label for each mode and kind: a refresh half renamed to access does not open.
fn label(half: &PairHeader) -> Label {
    Label(match (half.mode, half.kind) {
        (TokenMode::Sealed, TokenKind::Access) => "pair sealed access",
        (TokenMode::Sealed, TokenKind::Refresh) => "pair sealed refresh",
        (TokenMode::Sealed, TokenKind::Key) => "pair sealed key",
        (TokenMode::Plain, TokenKind::Access) => "pair plain access",
        (TokenMode::Plain, TokenKind::Refresh) => "pair plain refresh",
        (TokenMode::Plain, TokenKind::Key) => "pair plain key",
        (TokenMode::Jwt, _) => UNUSED_LABEL,
        #[cfg(feature = "raw")]
        (TokenMode::Raw, _) => UNUSED_LABEL,
        (TokenMode::Reference, TokenKind::Access) => "pair reference access",
        (TokenMode::Reference, TokenKind::Refresh) => "pair reference refresh",
        (TokenMode::Reference, TokenKind::Key) => "pair reference key",
    })
}

fn encode_header(kind: TokenKind, header: &[u8]) -> String {
    let prefix = match kind {
        TokenKind::Access => "gwa_",
        TokenKind::Refresh => "gwr_",
        TokenKind::Key => "gwk_",
    };
    let mut out = String::with_capacity(4 + header.len().div_ceil(3) * 4);
    out.push_str(prefix);
    URL_SAFE_NO_PAD.encode_string(header, &mut out);
    out
}

fn decode_header(front: &[u8]) -> Result<(TokenKind, Vec<u8>), PairError> {
    let (kind, text) = match front.split_first_chunk::<4>() {
        Some((b"gwa_", text)) => (TokenKind::Access, text),
        Some((b"gwr_", text)) => (TokenKind::Refresh, text),
        Some((b"gwk_", text)) => (TokenKind::Key, text),
        Some(_) | None => return Err(PairError::Shape),
    };
    Ok((kind, URL_SAFE_NO_PAD.decode(text).map_err(|_| PairError::Shape)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::ids::Id;
    use crate::base::{keyring, random};
    use crate::token::header::{PayloadKind, ServiceDigest};

    fn ring() -> KeyRing {
        KeyRing::parse(keyring::generate(UnixTime(0)).expose()).unwrap()
    }

    fn half(mode: TokenMode, kind: TokenKind) -> PairHeader {
        PairHeader {
            mode,
            kind,
            carried: PayloadKind::Access,
            grant: Id([7; 16]),
            generation: 3,
            service: ServiceDigest::of("default"),
            client: [9; 16],
            expires: UnixTime(1_000),
            upstream_expires: UnixTime::NEVER,
            subject: "alice".to_owned(),
            scopes: "a b".to_owned(),
        }
    }

    proptest! {
        #[test]
        fn a_token_pair_survives_encoding_and_decoding(upstream in "\\PC{0,200}", subject in "\\PC{0,40}", scopes in "[a-z: ]{0,60}", mode in 0..3_usize, kind in 0..3_usize) {
            let ring = ring();
            let mode = [TokenMode::Sealed, TokenMode::Plain, TokenMode::Reference][mode];
            let mut half = half(mode, [TokenKind::Access, TokenKind::Refresh, TokenKind::Key][kind]);
            (half.subject, half.scopes) = (subject, scopes);
            let texts = half.subject.len() + half.scopes.len();
            let token = encode(&ring, UnixTime(0), &half, &Secret::from(upstream.as_str()), random::salt_and_nonce());
            prop_assert_eq!(token.expose().len(), length(mode, texts, upstream.len()));
            let opened = open(&ring, token.expose()).unwrap();
            prop_assert_eq!(opened.half, half);
            prop_assert_eq!(opened.upstream.expose(), upstream.as_str());
        }

        #[test]
        fn no_input_makes_the_pair_decoder_panic(text in "\\PC{0,300}") {
            let _ = open(&ring(), &text);
            let _ = open(&ring(), &URL_SAFE_NO_PAD.encode(&text));
            let _ = open(&ring(), &URL_SAFE_NO_PAD.encode(format!("gwa_{text}:x")));
        }
    }

    #[test]
    fn a_pair_with_any_bit_changed_is_refused() {
        let ring = ring();
        for mode in [TokenMode::Sealed, TokenMode::Plain, TokenMode::Reference] {
            let token = encode(
                &ring,
                UnixTime(0),
                &half(mode, TokenKind::Access),
                &Secret::from("upstream:token"),
                random::salt_and_nonce(),
            );
            let bytes = URL_SAFE_NO_PAD.decode(token.expose()).unwrap();
            for bit in 0..bytes.len() * 8 {
                let mut changed = bytes.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(open(&ring, &URL_SAFE_NO_PAD.encode(&changed)).is_err(), "bit {bit} of {mode:?}");
            }
        }
    }

    #[test]
    fn a_pair_of_mismatched_halves_is_refused() {
        let ring = ring();
        for mode in [TokenMode::Sealed, TokenMode::Plain, TokenMode::Reference] {
            let split = |upstream: &str| {
                let token = encode(
                    &ring,
                    UnixTime(0),
                    &half(mode, TokenKind::Access),
                    &Secret::from(upstream),
                    random::salt_and_nonce(),
                );
                let bytes = URL_SAFE_NO_PAD.decode(token.expose()).unwrap();
                let colon = bytes.iter().position(|b| *b == b':').unwrap();
                (bytes[..colon].to_vec(), bytes[colon..].to_vec())
            };
            let (a, b) = (split("one"), split("two"));
            assert!(open(&ring, &URL_SAFE_NO_PAD.encode([a.0, b.1].concat())).is_err());
        }
    }

    #[test]
    fn a_pair_has_only_one_accepted_base64_spelling() {
        let ring = ring();
        let token = encode(
            &ring,
            UnixTime(0),
            &half(TokenMode::Sealed, TokenKind::Access),
            &Secret::from("tokenx"),
            random::salt_and_nonce(),
        );
        let text = token.expose();
        assert!(open(&ring, &format!("{text}=")).is_err());
        assert!(open(&ring, &format!("{text}\n")).is_err());
        assert!(open(&ring, &text[..text.len() - 1]).is_err());
        assert!(open(&ring, &text.replacen('Z', "+", 1)).is_err() || !text.contains('Z'));
    }

    #[test]
    fn a_pair_renamed_to_another_kind_is_refused() {
        let ring = ring();
        for (kind, others) in [(TokenKind::Access, b"rk"), (TokenKind::Refresh, b"ak"), (TokenKind::Key, b"ar")] {
            let token = encode(
                &ring,
                UnixTime(0),
                &half(TokenMode::Sealed, kind),
                &Secret::from("x"),
                random::salt_and_nonce(),
            );
            let bytes = URL_SAFE_NO_PAD.decode(token.expose()).unwrap();
            for other in others {
                let mut renamed = bytes.clone();
                renamed[2] = *other;
                assert_eq!(open(&ring, &URL_SAFE_NO_PAD.encode(renamed)).unwrap_err(), PairError::Shape);
            }
        }
    }

    #[test]
    fn an_api_key_with_another_kind_in_its_header_is_refused() {
        let ring = ring();
        let token = encode(
            &ring,
            UnixTime(0),
            &half(TokenMode::Sealed, TokenKind::Key),
            &Secret::from(""),
            random::salt_and_nonce(),
        );
        let bytes = URL_SAFE_NO_PAD.decode(token.expose()).unwrap();
        let colon = bytes.iter().position(|b| *b == b':').unwrap();
        let mut header = URL_SAFE_NO_PAD.decode(&bytes[4..colon]).unwrap();
        header[2] = 1;
        let rewritten = [b"gwa_", URL_SAFE_NO_PAD.encode(header).as_bytes(), &bytes[colon..]].concat();
        assert_eq!(open(&ring, &URL_SAFE_NO_PAD.encode(rewritten)).unwrap_err(), PairError::DoesNotOpen);
    }

    #[test]
    fn a_pair_under_a_foreign_key_reports_an_unknown_key() {
        let token = encode(
            &ring(),
            UnixTime(0),
            &half(TokenMode::Sealed, TokenKind::Access),
            &Secret::from("x"),
            random::salt_and_nonce(),
        );
        assert_eq!(open(&ring(), token.expose()).unwrap_err(), PairError::UnknownKey);
    }
}
