//! A sign-in session: it skips the password for some hours, never the consent page. Sealed in a cookie; nothing is stored.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::app::authorize::Authorize;
use crate::base::random;
use crate::base::seal::{self, Label};
use crate::base::secret::Secret;
use crate::base::time::UnixTime;

const LABEL: Label = Label("sign-in session");
/// How long a session lasts where nothing is said, in seconds.
pub const DEFAULT_SESSION_TTL_SECONDS: u64 = 12 * 3_600;

/// A session that begins.
#[derive(Debug)]
pub struct LoginSession {
    /// The cookie's value.
    pub cookie: Secret,
    /// How long it lasts, in seconds.
    pub ttl: u64,
}

impl Authorize {
    /// The session of a user who just signed in, if there are sessions.
    pub async fn create_session(&self, subject: &str) -> Option<LoginSession> {
        let (now, live) = (self.core.clock.now(), self.core.config());
        let (passwords, lasts) = (live.passwords.clone(), live.session_ttl);
        if lasts == 0 {
            return None;
        }
        let bound = passwords.hash_of(subject).await.unwrap_or_default();
        let plain = format!("{} {subject}", now.plus_seconds(lasts).0);
        let sealed = seal::seal_message(
            &self.core.keys.load(),
            now,
            LABEL,
            random::salt_and_nonce(),
            bound.as_bytes(),
            plain.as_bytes(),
        );
        let cookie = Secret::from(format!("{}.{}", URL_SAFE_NO_PAD.encode(subject), URL_SAFE_NO_PAD.encode(sealed)));
        Some(LoginSession { cookie, ttl: lasts })
    }

    /// Who is signed in, by the cookie's value: `subject.sealed`. The subject in front only says whose hash to open with.
    pub async fn session_user(&self, cookie: &str) -> Option<String> {
        let (name, message) = cookie.split_once('.')?;
        let name = String::from_utf8(URL_SAFE_NO_PAD.decode(name).ok()?).ok()?;
        let message = URL_SAFE_NO_PAD.decode(message).ok()?;
        let live = self.core.config();
        let (passwords, now) = (live.passwords.clone(), self.core.clock.now());
        let bound = passwords.hash_of(&name).await?;
        let plain = seal::open_message(&self.core.keys.load(), LABEL, bound.as_bytes(), &message).ok()?;
        let (until, subject) = std::str::from_utf8(&plain).ok()?.split_once(' ')?;
        let until = UnixTime(until.parse().ok()?);
        // One that began when sessions lasted longer ends when one that begins now would.
        let lives = until > now && until <= now.plus_seconds(live.session_ttl);
        (lives && subject == name).then_some(name)
    }
}
