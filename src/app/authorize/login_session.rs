//! Sealed cookies of a user who signed in with a password: a session, which skips the password for some
//! hours and never the consent page, and a mark that the browser is the user's.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::app::authorize::Authorize;
use crate::base::random;
use crate::base::seal::{self, Label};
use crate::base::secret::Secret;
use crate::base::time::UnixTime;

const SESSION: Label = Label("sign-in session");
const KNOWN_BROWSER: Label = Label("known browser");

/// For how many seconds a browser is known after a sign-in.
const KNOWN_BROWSER_SECONDS: u64 = 90 * 86_400;

/// A cookie that only this gateway can make and read.
#[derive(Debug)]
pub struct SealedCookie {
    /// Its value.
    pub value: Secret,
    /// Its lifetime, in seconds.
    pub ttl: u64,
}

/// The content of a sealed cookie.
struct OpenedCookie {
    name: String,
    expires: UnixTime,
    signed_in: UnixTime,
}

impl Authorize {
    /// Creates a session for a user who just logged in, if sessions are enabled.
    pub async fn create_session(&self, subject: &str) -> Option<SealedCookie> {
        let ttl = self.core.config().configured.session_ttl;
        if ttl == 0 {
            return None;
        }
        Some(self.seal_cookie(SESSION, subject, ttl).await)
    }

    /// Marks the browser of a user who just logged in. What others try for the account does not delay it.
    /// On plain http without sessions there is none: other ports of the host would receive the cookie.
    pub async fn mark_browser(&self, subject: &str) -> Option<SealedCookie> {
        if !self.core.urls.is_https() && self.core.config().configured.session_ttl == 0 {
            return None;
        }
        Some(self.seal_cookie(KNOWN_BROWSER, subject, KNOWN_BROWSER_SECONDS).await)
    }

    /// The user of a session cookie, if the sign-in is at most `max_age` seconds old. With 0, the user must
    /// sign in now.
    pub async fn session_user(&self, cookie: &str, max_age: Option<u64>) -> Option<String> {
        let OpenedCookie { name, expires, signed_in } = self.open_cookie(SESSION, cookie).await?;
        let (now, ttl) = (self.core.clock.now(), self.core.config().configured.session_ttl);
        // After a reload with a shorter lifetime, an older session ends as a new one would.
        let is_valid = expires > now && expires <= now.plus_seconds(ttl);
        let is_young = max_age.is_none_or(|limit| limit > 0 && now.seconds_since(signed_in) <= limit);
        (is_valid && is_young).then_some(name)
    }

    /// Whether the user of this name signed in with this browser before: it has a session or a mark.
    pub(super) async fn is_known_browser(&self, cookies: BrowserCookies<'_>, name: &str) -> bool {
        let session = match cookies.session {
            Some(cookie) => self.session_user(cookie, None).await,
            None => None,
        };
        let mark = match cookies.known_browser {
            Some(cookie) => self.open_cookie(KNOWN_BROWSER, cookie).await,
            None => None,
        };
        let now = self.core.clock.now();
        session.is_some_and(|user| user == name) || mark.is_some_and(|mark| mark.expires > now && mark.name == name)
    }

    /// Seals `subject.sealed`, bound to the user's password, so that another password ends it.
    async fn seal_cookie(&self, label: Label, subject: &str, ttl: u64) -> SealedCookie {
        let (now, config) = (self.core.clock.now(), self.core.config());
        let password_hash = self.passwords.hash_of(&config.configured.users, subject).await.unwrap_or_default();
        let plaintext = format!("{} {} {subject}", now.plus_seconds(ttl).0, now.0);
        let message = seal::seal_message(
            self.core.keys.load().sealing_key(now),
            label,
            random::salt_and_nonce(),
            password_hash.as_bytes(),
            plaintext.as_bytes(),
        );
        let value = Secret::from(format!("{}.{}", URL_SAFE_NO_PAD.encode(subject), URL_SAFE_NO_PAD.encode(message)));
        SealedCookie { value, ttl }
    }

    /// Opens a cookie. The name in front only selects the password hash.
    async fn open_cookie(&self, label: Label, cookie: &str) -> Option<OpenedCookie> {
        let (name, message) = cookie.split_once('.')?;
        let name = String::from_utf8(URL_SAFE_NO_PAD.decode(name).ok()?).ok()?;
        let message = URL_SAFE_NO_PAD.decode(message).ok()?;
        let config = self.core.config();
        let password_hash = self.passwords.hash_of(&config.configured.users, &name).await?;
        let plaintext = seal::open_message(&self.core.keys.load(), label, password_hash.as_bytes(), &message).ok()?;
        let (expires, rest) = std::str::from_utf8(&plaintext).ok()?.split_once(' ')?;
        // A session of an earlier version has no second time, so its user signs in again.
        let (signed_in, subject) = rest.split_once(' ')?;
        let (expires, signed_in) = (UnixTime(expires.parse().ok()?), UnixTime(signed_in.parse().ok()?));
        (subject == name).then_some(OpenedCookie { name, expires, signed_in })
    }
}

/// The cookies by which a browser is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct BrowserCookies<'a> {
    /// The value of the session cookie.
    pub session: Option<&'a str>,
    /// The value of the mark.
    pub known_browser: Option<&'a str>,
}
