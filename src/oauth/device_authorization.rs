//! The device authorization response (RFC 8628 §3.2), and when the token endpoint is polled (§3.5).

use serde_json::{Map, Value};

use crate::base::secret::Secret;
use crate::base::time::UnixTime;
use crate::base::url::ExactUrl;

/// The grant type of a token request with a device code (RFC 8628 §3.4).
pub const DEVICE_GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// The interval if the response has none (RFC 8628 §3.2), in seconds.
const DEFAULT_INTERVAL_SECONDS: u64 = 5;
/// The increase of the interval at each `slow_down` (RFC 8628 §3.5), in seconds.
const SLOW_DOWN_SECONDS: u64 = 5;
/// The longest accepted interval, in seconds. A longer one would outlast the user's patience.
const MAX_INTERVAL_SECONDS: u64 = 60;
/// The longest user code that is shown, in characters.
const MAX_USER_CODE_CHARS: usize = 64;

/// The codes of a device flow: for the user, and for the polling.
#[derive(Clone, Debug)]
pub struct DeviceAuthorization {
    /// The code of the token requests.
    pub device_code: Secret,
    /// The code that the user enters; printable ASCII.
    pub user_code: String,
    /// The page where the user enters it.
    pub verification_uri: ExactUrl,
    /// The same page with the code in it.
    pub verification_uri_complete: Option<ExactUrl>,
    /// When to poll.
    pub polling: DevicePolling,
}

/// When the token endpoint is polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevicePolling {
    interval: u64,
    expires: UnixTime,
}

/// The next step of the polling after an error of the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollVerdict {
    /// Poll again later.
    Wait(DevicePolling),
    /// The user denied.
    Denied,
    /// The codes have expired.
    Expired,
    /// Any other error is final.
    Failed,
}

/// The reason why a response cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceAuthorizationError {
    /// It is no JSON object.
    #[error("it is not a JSON object")]
    NotJson,
    /// A member is missing, or is unusable.
    #[error("`{0}` is missing or unusable")]
    Member(&'static str),
}

impl DeviceAuthorization {
    /// Parses the response to a request that was sent at `now`. With `plain_http`, the page may be http.
    ///
    /// # Errors
    /// If it is not JSON, or a required member is missing or unusable.
    pub fn parse(body: &[u8], plain_http: bool, now: UnixTime) -> Result<Self, DeviceAuthorizationError> {
        let Ok(Value::Object(document)) = serde_json::from_slice(body) else {
            return Err(DeviceAuthorizationError::NotJson);
        };
        let required = |member| text(&document, member).ok_or(DeviceAuthorizationError::Member(member));
        let user_code = required("user_code")?;
        if user_code.chars().count() > MAX_USER_CODE_CHARS || !user_code.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
            return Err(DeviceAuthorizationError::Member("user_code"));
        }
        let page = |uri: &str| ExactUrl::parse(uri).ok().filter(|url| is_page(url, plain_http));
        // Google's name for it is older than the RFC.
        let verification_uri = text(&document, "verification_uri").or_else(|| text(&document, "verification_url"));
        let expires_in = seconds(&document, "expires_in").ok_or(DeviceAuthorizationError::Member("expires_in"))?;
        let interval = seconds(&document, "interval").unwrap_or(DEFAULT_INTERVAL_SECONDS);
        Ok(Self {
            device_code: Secret::from(required("device_code")?),
            user_code: user_code.to_owned(),
            verification_uri: verification_uri
                .and_then(page)
                .ok_or(DeviceAuthorizationError::Member("verification_uri"))?,
            verification_uri_complete: text(&document, "verification_uri_complete").and_then(page),
            polling: DevicePolling {
                interval: interval.clamp(1, MAX_INTERVAL_SECONDS),
                expires: now.plus_seconds(expires_in),
            },
        })
    }
}

impl DevicePolling {
    /// The time to wait before the next request, in seconds.
    pub fn interval(self) -> u64 {
        self.interval
    }

    /// The next step after an error of the token endpoint (RFC 8628 §3.5).
    pub fn after_error(self, code: &str, now: UnixTime) -> PollVerdict {
        match code {
            _ if now >= self.expires => PollVerdict::Expired,
            "authorization_pending" => PollVerdict::Wait(self),
            "slow_down" => PollVerdict::Wait(self.slower()),
            "access_denied" => PollVerdict::Denied,
            "expired_token" => PollVerdict::Expired,
            _ => PollVerdict::Failed,
        }
    }

    /// After a request without an answer, the client polls less often (RFC 8628 §3.5).
    pub fn after_silence(self, now: UnixTime) -> PollVerdict {
        if now >= self.expires {
            PollVerdict::Expired
        } else {
            PollVerdict::Wait(self.slower())
        }
    }

    fn slower(self) -> Self {
        Self {
            interval: (self.interval + SLOW_DOWN_SECONDS).min(MAX_INTERVAL_SECONDS),
            ..self
        }
    }
}

fn is_page(url: &ExactUrl, plain_http: bool) -> bool {
    url.url().host().is_some() && (url.url().scheme() == "https" || (plain_http && url.url().scheme() == "http"))
}

fn text<'a>(document: &'a Map<String, Value>, member: &str) -> Option<&'a str> {
    document.get(member)?.as_str().filter(|text| !text.is_empty())
}

/// A number of seconds, also as a text.
fn seconds(document: &Map<String, Value>, member: &str) -> Option<u64> {
    let value = document.get(member)?;
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: UnixTime = UnixTime(1_000);

    fn parse(change: &[(&str, Value)]) -> Result<DeviceAuthorization, DeviceAuthorizationError> {
        let mut document = json!({
            "device_code": "d", "user_code": "WDJB-MJHT", "verification_uri": "https://as/device", "expires_in": 1800
        });
        for (member, value) in change {
            document[*member] = value.clone();
        }
        DeviceAuthorization::parse(document.to_string().as_bytes(), false, NOW)
    }

    #[test]
    fn unusable_responses_name_the_member() {
        assert_eq!(parse(&[]).unwrap().polling.interval(), 5);
        assert_eq!(parse(&[("interval", json!("7"))]).unwrap().polling.interval(), 7);
        for (member, value) in [
            ("device_code", json!("")),
            ("user_code", json!("a\u{1b}[31m")),
            ("user_code", json!("x".repeat(65))),
            ("verification_uri", json!("http://as/device")),
            ("verification_uri", json!("javascript:alert(1)")),
            ("expires_in", json!(null)),
        ] {
            assert_eq!(
                parse(&[(member, value)]).unwrap_err(),
                DeviceAuthorizationError::Member(member),
                "{member}"
            );
        }
        let complete = parse(&[("verification_uri_complete", json!("file:///etc/passwd"))]).unwrap();
        assert!(complete.verification_uri_complete.is_none());
        assert_eq!(
            DeviceAuthorization::parse(b"[]", false, NOW).unwrap_err(),
            DeviceAuthorizationError::NotJson
        );
    }

    #[test]
    fn polling_slows_down_and_ends() {
        let polling = parse(&[]).unwrap().polling;
        assert_eq!(polling.after_error("authorization_pending", NOW), PollVerdict::Wait(polling));
        let PollVerdict::Wait(slower) = polling.after_error("slow_down", NOW) else {
            panic!("it ended");
        };
        assert_eq!(slower.interval(), 10);
        let mut slowest = slower;
        for _ in 0..20 {
            let PollVerdict::Wait(next) = slowest.after_silence(NOW) else {
                panic!("it ended");
            };
            slowest = next;
        }
        assert_eq!(slowest.interval(), MAX_INTERVAL_SECONDS);
        assert_eq!(polling.after_error("access_denied", NOW), PollVerdict::Denied);
        assert_eq!(polling.after_error("expired_token", NOW), PollVerdict::Expired);
        assert_eq!(polling.after_error("invalid_grant", NOW), PollVerdict::Failed);
        let late = NOW.plus_seconds(1_800);
        assert_eq!(polling.after_error("authorization_pending", late), PollVerdict::Expired);
        assert_eq!(polling.after_silence(late), PollVerdict::Expired);
    }
}
