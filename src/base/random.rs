//! The only source of random numbers.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::base::secret::Secret;

/// 28 fresh random bytes: the salt (16) and the nonce (12) of one sealing. The type is not `Clone`,
/// and sealing consumes it. So a store transition, which may run twice, cannot capture it.
///
/// ```compile_fail
/// # use mcp_oauth_gateway::base::random;
/// fn retried(step: impl Fn()) { step(); step() }
/// let salt_and_nonce = random::salt_and_nonce();
/// retried(|| { let moved = salt_and_nonce; drop(moved) });
/// ```
/// ```
/// # use mcp_oauth_gateway::base::random;
/// fn retried(step: impl FnOnce()) { step() }
/// let salt_and_nonce = random::salt_and_nonce();
/// retried(|| { let moved = salt_and_nonce; drop(moved) });
/// ```
#[derive(Debug)]
pub struct SaltAndNonce(pub(super) [u8; 28]);

/// Creates the random bytes for one sealing.
pub fn salt_and_nonce() -> SaltAndNonce {
    SaltAndNonce(bytes())
}

/// The generator of ring, for functions that take one: key generation and signing.
pub(super) fn source() -> SystemRandom {
    SystemRandom::new()
}

/// Returns `N` random bytes.
///
/// # Panics
/// If the operating system provides no random bytes: nothing safe can be done then.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    source().fill(&mut out).expect("the operating system gives random bytes");
    out
}

/// Returns 32 random bytes as 43 base64url characters: for code secrets, `state`, PKCE and cookies.
pub fn token() -> Secret {
    Secret::from(URL_SAFE_NO_PAD.encode(bytes::<32>()))
}
