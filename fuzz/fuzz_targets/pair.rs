//! Pairs: nothing that was not minted opens, and what was minted opens as it was.
#![no_main]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::arbitrary::{Arbitrary as _, Unstructured};
use libfuzzer_sys::fuzz_target;
use mcp_oauth_gateway::base::ids::Id;
use mcp_oauth_gateway::base::keyring::KeyRing;
use mcp_oauth_gateway::base::random;
use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::base::time::UnixTime;
use mcp_oauth_gateway::token::header::{PairHeader, PayloadKind, ServiceDigest, TokenKind, TokenMode};
use mcp_oauth_gateway::token::pair;

/// A key that is the same in each run, so that what is found can be found again.
static RING: LazyLock<KeyRing> = LazyLock::new(|| KeyRing::single("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").expect("32 bytes"));

/// Plain, kind, carried; grant, generation and branch; service and client; both ends; the bit to change; subject, scopes, upstream.
type Halves<'a> = (
    (bool, u8, u8),
    ([u8; 16], u32, u8),
    ([u8; 8], [u8; 16]),
    (u64, u64),
    u32,
    (&'a str, &'a str, &'a str),
);

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert!(pair::open(&RING, text).is_err());
    }
    let encoded = URL_SAFE_NO_PAD.encode(bytes);
    assert!(pair::open(&RING, &encoded).is_err());
    // With a header that reads, so that the seal is what refuses.
    for prefix in ["gwa_", "gwr_", "gwk_"] {
        let colon = bytes.iter().position(|b| *b == b':').unwrap_or(bytes.len());
        let joined = [
            prefix.as_bytes(),
            URL_SAFE_NO_PAD.encode(&bytes[..colon]).as_bytes(),
            b":",
            &bytes[colon..],
        ]
        .concat();
        assert!(pair::open(&RING, &URL_SAFE_NO_PAD.encode(joined)).is_err());
    }
    if let Ok(halves) = Halves::arbitrary_take_rest(Unstructured::new(bytes)) {
        round_trip(halves);
    }
});

fn round_trip(given: Halves<'_>) {
    let ((plain, kind, carried), (grant, generation, branch), (service, client), (expires, upstream_expires), flip, texts) = given;
    let (subject, scopes, upstream) = texts;
    let half = PairHeader {
        mode: match (plain, carried % 5) {
            (true, _) => TokenMode::Plain,
            (false, 3) => TokenMode::Reference,
            (false, _) => TokenMode::Sealed,
        },
        kind: [TokenKind::Access, TokenKind::Refresh, TokenKind::Key][usize::from(kind % 3)],
        carried: [
            PayloadKind::Access,
            PayloadKind::Refresh,
            PayloadKind::Nothing,
            PayloadKind::Reference,
            PayloadKind::Identity,
        ][usize::from(carried % 5)],
        grant: Id(grant),
        generation,
        branch,
        service: ServiceDigest(service),
        client,
        expires: UnixTime(expires),
        upstream_expires: UnixTime(upstream_expires),
        subject: subject.to_owned(),
        scopes: scopes.to_owned(),
    };
    let token = pair::encode(&RING, UnixTime(0), &half, &Secret::from(upstream), random::salt_and_nonce());
    if token.expose().len() > pair::MAX_PAIR_BYTES {
        return assert!(pair::open(&RING, token.expose()).is_err());
    }
    let opened = pair::open(&RING, token.expose()).expect("it was minted here");
    assert_eq!(opened.half, half);
    assert_eq!(opened.upstream.expose(), upstream);
    // One bit of it changed, wherever that is.
    let mut changed = URL_SAFE_NO_PAD.decode(token.expose()).expect("it was encoded so");
    let bit = flip as usize % (changed.len() * 8);
    changed[bit / 8] ^= 1 << (bit % 8);
    assert!(pair::open(&RING, &URL_SAFE_NO_PAD.encode(changed)).is_err(), "bit {bit}");
}
