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

/// The reason why a token does not open as a pair of this gateway.
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
pub fn encode(ring: &KeyRing, now: UnixTime, header: &PairHeader, upstream: &Secret, salt_and_nonce: SaltAndNonce) -> Secret {
    let key = ring.sealing_key(now);
    let salt_and_nonce = seal::into_bytes(salt_and_nonce);
    let mut header_bytes = header.write(key.id(), &salt_and_nonce);
    let mut pair = Zeroizing::new(Vec::with_capacity(header_bytes.len() * 2 + upstream.expose().len() + 64));
    if header.mode == TokenMode::Plain {
        let mac = mac(key, header, &header_bytes, upstream.expose());
        header_bytes.extend_from_slice(mac.as_ref());
        pair.extend_from_slice(encode_header(header.kind, &header_bytes).as_bytes());
        pair.push(b':');
        pair.extend_from_slice(upstream.expose().as_bytes());
    } else {
        let gateway_half = encode_header(header.kind, &header_bytes);
        let ciphertext = seal::seal(
            key,
            label(header),
            &salt_and_nonce,
            gateway_half.as_bytes(),
            upstream.expose().as_bytes(),
        );
        pair.extend_from_slice(gateway_half.as_bytes());
        pair.push(b':');
        pair.extend_from_slice(&ciphertext);
    }
    Secret::from(URL_SAFE_NO_PAD.encode(&*pair))
}

/// Length of a pair in bytes. `text_bytes` is the length of subject and scopes, `upstream_bytes`
/// the length of the upstream half.
pub fn length(mode: TokenMode, text_bytes: usize, upstream_bytes: usize) -> usize {
    let (mac_bytes, tag_bytes) = if mode == TokenMode::Plain { (MAC, 0) } else { (0, TAG) };
    let base64_len = |bytes: usize| (bytes * 4).div_ceil(3);
    base64_len(4 + base64_len(header::BASE_LEN + text_bytes + mac_bytes) + 1 + upstream_bytes + tag_bytes)
}

/// Splits and opens a pair, with the key that its header names; no other is tried.
pub fn open(ring: &KeyRing, token: &str) -> Result<OpenedPair, PairError> {
    if token.len() > MAX_PAIR_BYTES {
        return Err(PairError::Shape);
    }
    let mut bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(token).map_err(|_| PairError::Shape)?);
    let colon = bytes.iter().position(|b| *b == b':').ok_or(PairError::Shape)?;
    let (gateway_half, rest) = bytes.split_at_mut(colon);
    let upstream = &mut rest[1..];
    let (kind, header_bytes) = decode_header(gateway_half)?;
    match PairHeader::read(&header_bytes) {
        Some((header, key_id, salt_and_nonce)) if header.mode != TokenMode::Plain && header.kind == kind => {
            let key = ring.opening_key(key_id).ok_or(PairError::UnknownKey)?;
            let plaintext = seal::open(key, label(&header), &salt_and_nonce, gateway_half, upstream).map_err(|_| PairError::DoesNotOpen)?;
            let upstream = std::str::from_utf8(plaintext).map_err(|_| PairError::DoesNotOpen)?;
            Ok(OpenedPair {
                half: header,
                upstream: Secret::from(upstream),
            })
        }
        _ => open_plain(ring, kind, &header_bytes, upstream),
    }
}

fn open_plain(ring: &KeyRing, kind: TokenKind, header_bytes: &[u8], upstream: &[u8]) -> Result<OpenedPair, PairError> {
    let (header_bytes, tag) = header_bytes
        .split_at_checked(header_bytes.len().saturating_sub(MAC))
        .ok_or(PairError::Shape)?;
    let (header, key_id, _) = PairHeader::read(header_bytes).ok_or(PairError::Shape)?;
    if header.mode != TokenMode::Plain || header.kind != kind {
        return Err(PairError::Shape);
    }
    let key = ring.opening_key(key_id).ok_or(PairError::UnknownKey)?;
    let upstream = std::str::from_utf8(upstream).map_err(|_| PairError::Shape)?;
    let message = signed(header_bytes, upstream);
    hmac::verify(&seal::hmac_key(key, label(&header)), &message, tag).map_err(|_| PairError::DoesNotOpen)?;
    Ok(OpenedPair {
        half: header,
        upstream: Secret::from(upstream),
    })
}

fn mac(key: &RingKey, header: &PairHeader, header_bytes: &[u8], upstream: &str) -> hmac::Tag {
    hmac::sign(&seal::hmac_key(key, label(header)), &signed(header_bytes, upstream))
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
fn label(header: &PairHeader) -> Label {
    Label(match (header.mode, header.kind) {
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

fn decode_header(gateway_half: &[u8]) -> Result<(TokenKind, Vec<u8>), PairError> {
    let (kind, text) = match gateway_half.split_first_chunk::<4>() {
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
            branch: 2,
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
            let mut header = half(mode, [TokenKind::Access, TokenKind::Refresh, TokenKind::Key][kind]);
            (header.subject, header.scopes) = (subject, scopes);
            let text_bytes = header.subject.len() + header.scopes.len();
            let token = encode(&ring, UnixTime(0), &header, &Secret::from(upstream.as_str()), random::salt_and_nonce());
            prop_assert_eq!(token.expose().len(), length(mode, text_bytes, upstream.len()));
            let pair = open(&ring, token.expose()).unwrap();
            prop_assert_eq!(pair.half, header);
            prop_assert_eq!(pair.upstream.expose(), upstream.as_str());
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
                let mut changed_bytes = bytes.clone();
                changed_bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(
                    open(&ring, &URL_SAFE_NO_PAD.encode(&changed_bytes)).is_err(),
                    "bit {bit} of {mode:?}"
                );
            }
        }
    }

    #[test]
    fn a_pair_of_mismatched_halves_is_refused() {
        let ring = ring();
        for mode in [TokenMode::Sealed, TokenMode::Plain, TokenMode::Reference] {
            let halves = |upstream: &str| {
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
            let (first, second) = (halves("one"), halves("two"));
            assert!(open(&ring, &URL_SAFE_NO_PAD.encode([first.0, second.1].concat())).is_err());
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
                let mut renamed_pair = bytes.clone();
                renamed_pair[2] = *other;
                assert_eq!(open(&ring, &URL_SAFE_NO_PAD.encode(renamed_pair)).unwrap_err(), PairError::Shape);
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
        let rewritten_pair = [b"gwa_", URL_SAFE_NO_PAD.encode(header).as_bytes(), &bytes[colon..]].concat();
        assert_eq!(
            open(&ring, &URL_SAFE_NO_PAD.encode(rewritten_pair)).unwrap_err(),
            PairError::DoesNotOpen
        );
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
