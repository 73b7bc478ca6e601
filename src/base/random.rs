//! The only die in the house.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::base::secret::Secret;

/// 28 fresh random bytes: the salt (16) and the nonce (12) of one sealing. Neither `Clone` nor `Copy`, and used up by
/// `seal`, so that a step of the store, which may run twice, cannot hold one.
///
/// ```compile_fail
/// # use mcp_oauth_gateway::base::random;
/// fn retried(step: impl Fn()) { step(); step() }
/// let fresh = random::salt_and_nonce();
/// retried(|| { let used = fresh; drop(used) });
/// ```
/// ```
/// # use mcp_oauth_gateway::base::random;
/// fn retried(step: impl FnOnce()) { step() }
/// let fresh = random::salt_and_nonce();
/// retried(|| { let used = fresh; drop(used) });
/// ```
#[derive(Debug)]
pub struct SaltAndNonce(pub(super) [u8; 28]);

/// Draws what one sealing needs.
pub fn salt_and_nonce() -> SaltAndNonce {
    SaltAndNonce(bytes())
}

/// For what draws by itself: making a key, signing.
pub(super) fn source() -> SystemRandom {
    SystemRandom::new()
}

/// Draws `N` random bytes.
///
/// # Panics
/// If the operating system has no randomness to give: nothing safe can be done then.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut drawn = [0; N];
    source().fill(&mut drawn).expect("the operating system gives random bytes");
    drawn
}

/// 32 random bytes in base64url, 43 characters: a code's secret, a `state`, a PKCE verifier, a cookie.
pub fn token() -> Secret {
    Secret::from(URL_SAFE_NO_PAD.encode(bytes::<32>()))
}
