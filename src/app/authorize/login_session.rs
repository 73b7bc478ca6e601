//! A login session: a sealed cookie that skips the password for some hours, never the consent page.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::app::authorize::Authorize;
use crate::base::random;
use crate::base::seal::{self, Label};
use crate::base::secret::Secret;
use crate::base::time::UnixTime;

const LABEL: Label = Label("sign-in session");

/// A new session.
#[derive(Debug)]
pub struct LoginSession {
    /// The value of the cookie.
    pub cookie: Secret,
    /// The lifetime, in seconds.
    pub ttl: u64,
}

impl Authorize {
    /// Creates a session for a user who just logged in, if sessions are enabled.
    pub async fn create_session(&self, subject: &str) -> Option<LoginSession> {
        let (now, config) = (self.core.clock.now(), self.core.config());
        let ttl = config.configured.session_ttl;
        if ttl == 0 {
            return None;
        }
        let password_hash = self.passwords.hash_of(&config.configured.users, subject).await.unwrap_or_default();
        let plaintext = format!("{} {} {subject}", now.plus_seconds(ttl).0, now.0);
        let message = seal::seal_message(
            self.core.keys.load().sealing_key(now),
            LABEL,
            random::salt_and_nonce(),
            password_hash.as_bytes(),
            plaintext.as_bytes(),
        );
        let cookie = Secret::from(format!("{}.{}", URL_SAFE_NO_PAD.encode(subject), URL_SAFE_NO_PAD.encode(message)));
        Some(LoginSession { cookie, ttl })
    }

    /// The user of the cookie `subject.sealed`, if the sign-in is at most `max_age` seconds old. With 0, the
    /// user must sign in now. The name in front only selects the password hash.
    pub async fn session_user(&self, cookie: &str, max_age: Option<u64>) -> Option<String> {
        let (name, message) = cookie.split_once('.')?;
        let name = String::from_utf8(URL_SAFE_NO_PAD.decode(name).ok()?).ok()?;
        let message = URL_SAFE_NO_PAD.decode(message).ok()?;
        let (config, now) = (self.core.config(), self.core.clock.now());
        let password_hash = self.passwords.hash_of(&config.configured.users, &name).await?;
        let plaintext = seal::open_message(&self.core.keys.load(), LABEL, password_hash.as_bytes(), &message).ok()?;
        let (expires, rest) = std::str::from_utf8(&plaintext).ok()?.split_once(' ')?;
        // A session of an earlier version has no second time, so its user signs in again.
        let (signed_in, subject) = rest.split_once(' ')?;
        let (expires, signed_in) = (UnixTime(expires.parse().ok()?), UnixTime(signed_in.parse().ok()?));
        let is_young = max_age.is_none_or(|limit| limit > 0 && now.seconds_since(signed_in) <= limit);
        // After a reload with a shorter lifetime, an older session ends as a new one would.
        let is_valid = expires > now && expires <= now.plus_seconds(config.configured.session_ttl);
        (is_valid && is_young && subject == name).then_some(name)
    }
}
