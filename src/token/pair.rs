//! The pair: `base64url( gateway_half ":" upstream_half )`, unpadded, split at the first `:`.
//!
//! In `sealed` the upstream half is ciphertext and tag, with the gateway half's bytes, exactly as received, as
//! associated data: **one opening checks both halves and binds them to each other**. In `plain` it is the upstream's
//! token itself, and an HMAC over both stands at the end of the header. In `reference` it is empty, and sealed all the same.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use zeroize::Zeroizing;

use crate::base::keyring::{Key, KeyRing};
use crate::base::random::Fresh;
use crate::base::seal::{self, Label};
use crate::base::secret::Secret;
use crate::base::time::UnixTime;
use crate::token::half::{self, Half, Kind, Mode};

/// The longest pair that is looked at, in bytes.
pub const LONGEST: usize = 16 * 1024;
/// What fits the headers of most servers on the way, in bytes: what would be longer is kept here, and the pair refers to it.
pub const COMFORTABLE: usize = 8 * 1024;
const MAC: usize = 32;
/// What sealing adds, in bytes.
const TAG: usize = 16;

/// A pair that opened: both halves are ours, unchanged, and belong together. Expiry is the caller's to judge.
#[derive(Debug)]
pub struct Opened {
    /// What the gateway half says.
    pub half: Half,
    /// The upstream half, in clear.
    pub upstream: Secret,
}

/// It is not a pair of ours. There is nothing more to say to whoever presents it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPair {
    /// Not in the shape of a pair: wrong alphabet, padding, prefix, header or length.
    Shape,
    /// Sealed by a key that this ring does not have (any more).
    UnknownKey,
    /// Changed, put together from two pairs, or made for another purpose.
    DoesNotOpen,
}

/// Joins and protects two halves.
pub fn mint(ring: &KeyRing, now: UnixTime, half: &Half, upstream: &Secret, fresh: Fresh) -> Secret {
    let key = ring.sealing(now);
    let fresh = seal::spend(fresh);
    let mut header = half.write(key.id(), &fresh);
    let mut joined = Zeroizing::new(Vec::with_capacity(header.len() * 2 + upstream.expose().len() + 64));
    if half.mode == Mode::Plain {
        let mac = mac(key, half, &header, upstream.expose());
        header.extend_from_slice(mac.as_ref());
        joined.extend_from_slice(text(half.kind, &header).as_bytes());
        joined.push(b':');
        joined.extend_from_slice(upstream.expose().as_bytes());
    } else {
        let front = text(half.kind, &header);
        let sealed = seal::seal(key, label(half), &fresh, front.as_bytes(), upstream.expose().as_bytes());
        joined.extend_from_slice(front.as_bytes());
        joined.push(b':');
        joined.extend_from_slice(&sealed);
    }
    Secret::from(URL_SAFE_NO_PAD.encode(&*joined))
}

/// How long a pair is, in bytes, with so many bytes of subject and scopes and so many of the upstream's token.
pub fn length(mode: Mode, texts: usize, upstream: usize) -> usize {
    let (in_header, beside) = if mode == Mode::Plain { (MAC, 0) } else { (0, TAG) };
    let encoded = |bytes: usize| (bytes * 4).div_ceil(3);
    encoded(4 + encoded(half::BARE + texts + in_header) + 1 + upstream + beside)
}

/// Splits and opens a pair. Keys are never tried in turn: the half names its key.
pub fn open(ring: &KeyRing, token: &str) -> Result<Opened, BadPair> {
    if token.len() > LONGEST {
        return Err(BadPair::Shape);
    }
    let mut bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(token).map_err(|_| BadPair::Shape)?);
    let colon = bytes.iter().position(|b| *b == b':').ok_or(BadPair::Shape)?;
    let (front, rest) = bytes.split_at_mut(colon);
    let upstream = &mut rest[1..];
    let (kind, header) = untext(front)?;
    match Half::read(&header) {
        Some((half, key, fresh)) if half.mode != Mode::Plain && half.kind == kind => {
            let key = ring.opening(key).ok_or(BadPair::UnknownKey)?;
            let plain = seal::open(key, label(&half), &fresh, front, upstream).map_err(|_| BadPair::DoesNotOpen)?;
            let upstream = std::str::from_utf8(plain).map_err(|_| BadPair::DoesNotOpen)?;
            Ok(Opened {
                half,
                upstream: Secret::from(upstream),
            })
        }
        _ => open_plain(ring, kind, &header, upstream),
    }
}

fn open_plain(ring: &KeyRing, kind: Kind, header: &[u8], upstream: &[u8]) -> Result<Opened, BadPair> {
    let (header, tag) = header.split_at_checked(header.len().saturating_sub(MAC)).ok_or(BadPair::Shape)?;
    let (half, key, _) = Half::read(header).ok_or(BadPair::Shape)?;
    if half.mode != Mode::Plain || half.kind != kind {
        return Err(BadPair::Shape);
    }
    let key = ring.opening(key).ok_or(BadPair::UnknownKey)?;
    let upstream = std::str::from_utf8(upstream).map_err(|_| BadPair::Shape)?;
    let signed = signed(header, upstream);
    hmac::verify(&seal::signing(key, label(&half)), &signed, tag).map_err(|_| BadPair::DoesNotOpen)?;
    Ok(Opened {
        half,
        upstream: Secret::from(upstream),
    })
}

fn mac(key: &Key, half: &Half, header: &[u8], upstream: &str) -> hmac::Tag {
    hmac::sign(&seal::signing(key, label(half)), &signed(header, upstream))
}

/// Both parts with their lengths, so that no byte can move from one to the other.
fn signed(header: &[u8], upstream: &str) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(header.len() + upstream.len() + 16));
    for part in [header, upstream.as_bytes()] {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

/// Nothing is opened under it.
const NO_PAIR: &str = "no pair";

/// One label for each mode and kind: a refresh half re-labelled as access does not open.
fn label(half: &Half) -> Label {
    Label(match (half.mode, half.kind) {
        (Mode::Sealed, Kind::Access) => "pair sealed access",
        (Mode::Sealed, Kind::Refresh) => "pair sealed refresh",
        (Mode::Sealed, Kind::Key) => "pair sealed key",
        (Mode::Plain, Kind::Access) => "pair plain access",
        (Mode::Plain, Kind::Refresh) => "pair plain refresh",
        (Mode::Plain, Kind::Key) => "pair plain key",
        (Mode::Jwt, _) => NO_PAIR,
        #[cfg(feature = "raw")]
        (Mode::Raw, _) => NO_PAIR,
        (Mode::Reference, Kind::Access) => "pair reference access",
        (Mode::Reference, Kind::Refresh) => "pair reference refresh",
        (Mode::Reference, Kind::Key) => "pair reference key",
    })
}

fn text(kind: Kind, header: &[u8]) -> String {
    let prefix = match kind {
        Kind::Access => "gwa_",
        Kind::Refresh => "gwr_",
        Kind::Key => "gwk_",
    };
    let mut out = String::with_capacity(4 + header.len().div_ceil(3) * 4);
    out.push_str(prefix);
    URL_SAFE_NO_PAD.encode_string(header, &mut out);
    out
}

fn untext(front: &[u8]) -> Result<(Kind, Vec<u8>), BadPair> {
    let (kind, text) = match front.split_first_chunk::<4>() {
        Some((b"gwa_", text)) => (Kind::Access, text),
        Some((b"gwr_", text)) => (Kind::Refresh, text),
        Some((b"gwk_", text)) => (Kind::Key, text),
        Some(_) | None => return Err(BadPair::Shape),
    };
    Ok((kind, URL_SAFE_NO_PAD.decode(text).map_err(|_| BadPair::Shape)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::ids::Id;
    use crate::base::{keyring, random};
    use crate::token::half::{Carried, ServiceMark};

    fn ring() -> KeyRing {
        KeyRing::parse(keyring::made(UnixTime(0)).expose()).unwrap()
    }

    fn half(mode: Mode, kind: Kind) -> Half {
        Half {
            mode,
            kind,
            carried: Carried::Access,
            grant: Id([7; 16]),
            generation: 3,
            service: ServiceMark::of("default"),
            client: [9; 16],
            expires: UnixTime(1_000),
            upstream_expires: UnixTime::NEVER,
            subject: "alice".to_owned(),
            scopes: "a b".to_owned(),
        }
    }

    proptest! {
        #[test]
        fn joining_and_splitting_is_a_bijection(upstream in "\\PC{0,200}", subject in "\\PC{0,40}", scopes in "[a-z: ]{0,60}", mode in 0..3_usize, kind in 0..3_usize) {
            let ring = ring();
            let mode = [Mode::Sealed, Mode::Plain, Mode::Reference][mode];
            let mut half = half(mode, [Kind::Access, Kind::Refresh, Kind::Key][kind]);
            (half.subject, half.scopes) = (subject, scopes);
            let texts = half.subject.len() + half.scopes.len();
            let token = mint(&ring, UnixTime(0), &half, &Secret::from(upstream.as_str()), random::fresh());
            prop_assert_eq!(token.expose().len(), length(mode, texts, upstream.len()));
            let opened = open(&ring, token.expose()).unwrap();
            prop_assert_eq!(opened.half, half);
            prop_assert_eq!(opened.upstream.expose(), upstream.as_str());
        }

        #[test]
        fn no_input_panics(text in "\\PC{0,300}") {
            let _ = open(&ring(), &text);
            let _ = open(&ring(), &URL_SAFE_NO_PAD.encode(&text));
            let _ = open(&ring(), &URL_SAFE_NO_PAD.encode(format!("gwa_{text}:x")));
        }
    }

    #[test]
    fn every_single_bit_change_is_refused() {
        let ring = ring();
        for mode in [Mode::Sealed, Mode::Plain, Mode::Reference] {
            let token = mint(
                &ring,
                UnixTime(0),
                &half(mode, Kind::Access),
                &Secret::from("upstream:token"),
                random::fresh(),
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
    fn halves_of_two_pairs_do_not_fit_together() {
        let ring = ring();
        for mode in [Mode::Sealed, Mode::Plain, Mode::Reference] {
            let split = |upstream: &str| {
                let token = mint(
                    &ring,
                    UnixTime(0),
                    &half(mode, Kind::Access),
                    &Secret::from(upstream),
                    random::fresh(),
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
    fn other_spellings_of_the_same_bytes_are_refused() {
        let ring = ring();
        let token = mint(
            &ring,
            UnixTime(0),
            &half(Mode::Sealed, Kind::Access),
            &Secret::from("tokenx"),
            random::fresh(),
        );
        let text = token.expose();
        assert!(open(&ring, &format!("{text}=")).is_err());
        assert!(open(&ring, &format!("{text}\n")).is_err());
        assert!(open(&ring, &text[..text.len() - 1]).is_err());
        assert!(open(&ring, &text.replacen('Z', "+", 1)).is_err() || !text.contains('Z'));
    }

    #[test]
    fn a_half_renamed_to_another_kind_does_not_open() {
        let ring = ring();
        for (kind, others) in [(Kind::Access, b"rk"), (Kind::Refresh, b"ak"), (Kind::Key, b"ar")] {
            let token = mint(&ring, UnixTime(0), &half(Mode::Sealed, kind), &Secret::from("x"), random::fresh());
            let bytes = URL_SAFE_NO_PAD.decode(token.expose()).unwrap();
            for other in others {
                let mut renamed = bytes.clone();
                renamed[2] = *other;
                assert_eq!(open(&ring, &URL_SAFE_NO_PAD.encode(renamed)).unwrap_err(), BadPair::Shape);
            }
        }
    }

    #[test]
    fn a_key_whose_header_was_rewritten_as_another_kind_does_not_open() {
        let ring = ring();
        let token = mint(
            &ring,
            UnixTime(0),
            &half(Mode::Sealed, Kind::Key),
            &Secret::from(""),
            random::fresh(),
        );
        let bytes = URL_SAFE_NO_PAD.decode(token.expose()).unwrap();
        let colon = bytes.iter().position(|b| *b == b':').unwrap();
        let mut header = URL_SAFE_NO_PAD.decode(&bytes[4..colon]).unwrap();
        header[2] = 1;
        let rewritten = [b"gwa_", URL_SAFE_NO_PAD.encode(header).as_bytes(), &bytes[colon..]].concat();
        assert_eq!(open(&ring, &URL_SAFE_NO_PAD.encode(rewritten)).unwrap_err(), BadPair::DoesNotOpen);
    }

    #[test]
    fn a_pair_of_another_key_says_so() {
        let token = mint(
            &ring(),
            UnixTime(0),
            &half(Mode::Sealed, Kind::Access),
            &Secret::from("x"),
            random::fresh(),
        );
        assert_eq!(open(&ring(), token.expose()).unwrap_err(), BadPair::UnknownKey);
    }
}
