//! A sign-in session: it skips the password for some hours, never the consent page. Sealed in a cookie; nothing is stored.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::base::random;
use crate::base::seal::{self, Label};
use crate::base::secret::Secret;
use crate::base::time::UnixTime;
use crate::gateway::Gateway;

const LABEL: Label = Label("sign-in session");
/// How long a session lasts, in seconds.
pub const SESSION_TTL: u64 = 12 * 3_600;

impl Gateway {
    /// The cookie's value for a user who just signed in.
    pub fn session(&self, subject: &str) -> Secret {
        let now = self.clock.now();
        let plain = format!("{} {subject}", now.after(SESSION_TTL).0);
        Secret::from(URL_SAFE_NO_PAD.encode(seal::boxed(&self.keys.load(), now, LABEL, random::fresh(), b"", plain.as_bytes())))
    }

    /// Who is signed in, by the cookie's value.
    pub fn signed_in(&self, cookie: &str) -> Option<String> {
        let message = URL_SAFE_NO_PAD.decode(cookie).ok()?;
        let plain = seal::unboxed(&self.keys.load(), LABEL, b"", &message).ok()?;
        let (until, subject) = std::str::from_utf8(&plain).ok()?.split_once(' ')?;
        let lives = UnixTime(until.parse().ok()?) > self.clock.now() && self.passwords.knows(subject);
        lives.then(|| subject.to_owned())
    }
}
