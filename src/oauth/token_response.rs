//! Responses of an upstream's token endpoint (RFC 6749 §5), with the deviations of real servers.
//!
//! Accepts JSON and forms, errors with any status, quoted numbers, commas in scopes. Only an OAuth
//! error code is a refusal. A firewall's or load balancer's page says nothing about the grant.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::form_urlencoded;

use crate::base::secret::{Secret, at_rest_option};
use crate::base::time::UnixTime;

/// Longest accepted lifetime, in seconds: 100 years. More could overflow clocks of other programs.
const MAX_LIFETIME_SECONDS: u64 = 3_155_760_000;

/// Longest stored description of an error, in characters.
const MAX_DESCRIPTION_CHARS: usize = 300;

/// Access token of an upstream. Nothing else may be forwarded as a bearer token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamAccessToken(Secret);

/// Refresh token of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamRefreshToken(Secret);

impl UpstreamAccessToken {
    /// Takes a secret as an upstream's access token.
    pub fn new(token: Secret) -> Self {
        Self(token)
    }

    /// The token as text.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl UpstreamRefreshToken {
    /// Takes a secret as an upstream's refresh token.
    pub fn new(token: Secret) -> Self {
        Self(token)
    }

    /// The token as text.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// For access tokens in sealed records: `#[serde(with = "access_at_rest")]`.
pub mod access_at_rest {
    use serde::{Deserializer, Serializer};

    use super::UpstreamAccessToken;
    use crate::base::secret::at_rest;

    /// Writes the token. The surrounding record is sealed.
    pub fn serialize<S: Serializer>(token: &UpstreamAccessToken, serializer: S) -> Result<S::Ok, S::Error> {
        at_rest::serialize(&token.0, serializer)
    }

    /// Reads the token.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UpstreamAccessToken, D::Error> {
        at_rest::deserialize(deserializer).map(UpstreamAccessToken)
    }
}

/// For optional refresh tokens in sealed records: `#[serde(with = "refresh_at_rest")]`.
pub mod refresh_at_rest {
    use serde::{Deserializer, Serializer};

    use super::UpstreamRefreshToken;
    use crate::base::secret::at_rest_option;

    /// Writes the token, if there is one. The surrounding record is sealed.
    pub fn serialize<S: Serializer>(token: &Option<UpstreamRefreshToken>, serializer: S) -> Result<S::Ok, S::Error> {
        at_rest_option::serialize(&token.as_ref().map(|token| token.0.clone()), serializer)
    }

    /// Reads the token, if there is one.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<UpstreamRefreshToken>, D::Error> {
        at_rest_option::deserialize(deserializer).map(|token| token.map(UpstreamRefreshToken))
    }
}

/// Tokens of an upstream (RFC 6749 §5.1) with absolute times. Only sealed records may hold them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamTokens {
    /// Access token; not empty, and valid in a header.
    #[serde(with = "access_at_rest")]
    pub access: UpstreamAccessToken,
    /// Refresh token, if the response had one.
    #[serde(with = "refresh_at_rest", default)]
    pub refresh: Option<UpstreamRefreshToken>,
    /// Expiry of the access token, counted from the request. `None`: the upstream did not say.
    pub expires: Option<UnixTime>,
    /// Expiry of the refresh token. `None`: no fixed one (0 for Keycloak's offline tokens).
    pub refresh_expires: Option<UnixTime>,
    /// Granted scopes, separated by spaces. `None`: as requested (RFC 6749 §5.1), or not known.
    pub scope: Option<String>,
}

/// The reason why a response has no tokens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenResponseError {
    /// The upstream refused, with an OAuth error code (RFC 6749 §5.2).
    #[error("{0}")]
    Refused(OAuthErrorResponse),
    /// A temporary failure, by error code or status. It says nothing about the grant.
    #[error("{0}")]
    Temporary(String),
    /// No OAuth response: a page, a cut body, a 4xx without a code. Says nothing about the grant.
    #[error("{0}")]
    Unreadable(String),
}

/// An OAuth error of an upstream, made safe to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuthErrorResponse {
    /// Error code: at most 64 letters, digits, `_`, `-` and `.`.
    pub code: String,
    /// The upstream's description, in printable ASCII.
    pub description: Option<String>,
}

impl OAuthErrorResponse {
    /// Whether the upstream refused the code, the refresh token or the verifier: the grant is over.
    /// After `invalid_grant`, two codes are GitHub's and four are Slack's.
    pub fn is_invalid_grant(&self) -> bool {
        const GRANT: [&str; 7] = [
            "invalid_grant",
            "bad_refresh_token",
            "bad_verification_code",
            "invalid_refresh_token",
            "token_revoked",
            "invalid_code",
            "code_already_used",
        ];
        GRANT.contains(&self.code.as_str())
    }

    /// Whether the upstream refused the gateway as a client: unknown id or wrong secret.
    pub fn is_invalid_client(&self) -> bool {
        const CLIENT: [&str; 5] = [
            "invalid_client",
            "unauthorized_client",
            "incorrect_client_credentials",
            "bad_client_secret",
            "invalid_client_id",
        ];
        CLIENT.contains(&self.code.as_str())
    }

    /// Whether the code means "try again", at any status: RFC 6749 §4.1.2.1, RFC 8628, and Slack's.
    fn is_temporary(&self) -> bool {
        const TEMPORARY: [&str; 8] = [
            "server_error",
            "temporarily_unavailable",
            "slow_down",
            "internal_error",
            "fatal_error",
            "ratelimited",
            "service_unavailable",
            "request_timeout",
        ];
        TEMPORARY.contains(&self.code.as_str())
    }
}

impl fmt::Display for OAuthErrorResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.description {
            Some(description) => write!(f, "the upstream refused with `{}`: {description}", self.code),
            None => write!(f, "the upstream refused with `{}`", self.code),
        }
    }
}

/// The used members, not checked yet. Unknown members are ignored (RFC 6749 §5.1).
#[derive(Default, Deserialize)]
struct TokenResponseFields {
    #[serde(default, with = "at_rest_option")]
    access_token: Option<Secret>,
    #[serde(default, with = "at_rest_option")]
    refresh_token: Option<Secret>,
    token_type: Option<String>,
    expires_in: Option<Value>,
    /// Keycloak's name; GitHub and LinkedIn use the next. Two fields, so that both may be present.
    refresh_expires_in: Option<Value>,
    refresh_token_expires_in: Option<Value>,
    scope: Option<Value>,
    error: Option<Value>,
    error_description: Option<Value>,
    /// Slack's envelope: `ok`, and the user's token in a nested object.
    ok: Option<Value>,
    authed_user: Option<Box<TokenResponseFields>>,
}

/// Parses a token response. Lifetimes count from `sent_at`, the time of the request.
/// # Errors
/// If it has no usable tokens. [`TokenResponseError`] says whether the upstream refused.
pub fn parse_token_response(
    status: u16,
    content_type: Option<&str>,
    body: &[u8],
    sent_at: UnixTime,
) -> Result<UpstreamTokens, TokenResponseError> {
    if matches!(status, 429 | 503) {
        return Err(TokenResponseError::Temporary(format!("the token endpoint answered {status}")));
    }
    let fields = read(body).map_err(|reason| unreadable(status, content_type, reason))?;
    if let Some(error) = refusal_of(&fields) {
        return Err(judged(status, error));
    }
    if !(200..300).contains(&status) {
        return Err(unreadable(status, content_type, "no OAuth error code"));
    }
    granted(fields, sent_at).map_err(|reason| unreadable(status, content_type, reason))
}

/// The OAuth error of a response that has no tokens (RFC 7009 §2.2.1, RFC 7591 §3.2.2).
pub fn parse_error_response(body: &[u8]) -> Option<OAuthErrorResponse> {
    refusal_of(&read(body).ok()?)
}

fn unreadable(status: u16, content_type: Option<&str>, reason: &str) -> TokenResponseError {
    let media_type: String = content_type
        .unwrap_or("no content type")
        .chars()
        .filter(char::is_ascii_graphic)
        .take(60)
        .collect();
    TokenResponseError::Unreadable(format!("the token endpoint answered {status} ({media_type}): {reason}"))
}

fn judged(status: u16, error: OAuthErrorResponse) -> TokenResponseError {
    let is_definite = error.is_invalid_grant() || error.is_invalid_client();
    if error.is_temporary() || (status >= 500 && !is_definite) {
        return TokenResponseError::Temporary(format!("the token endpoint answered {status} with `{}`", error.code));
    }
    TokenResponseError::Refused(error)
}

/// Tells JSON from forms by content: PHP labels JSON `text/html`, and GitHub's default is a form.
fn read(body: &[u8]) -> Result<TokenResponseFields, &'static str> {
    let text = std::str::from_utf8(body).map_err(|_| "not UTF-8")?;
    let text = text.trim_start_matches('\u{feff}').trim();
    match text.bytes().next() {
        None => Err("an empty body"),
        Some(b'{') => serde_json::from_str(text).map_err(|_| "JSON, but not of a token answer"),
        Some(b'<') => Err("a page, not an OAuth answer"),
        Some(_) => read_form(text),
    }
}

fn read_form(text: &str) -> Result<TokenResponseFields, &'static str> {
    let mut fields = TokenResponseFields::default();
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        let field = match &*name {
            "access_token" => {
                once(&mut fields.access_token, Secret::from(&*value))?;
                continue;
            }
            "refresh_token" => {
                once(&mut fields.refresh_token, Secret::from(&*value))?;
                continue;
            }
            "token_type" => {
                once(&mut fields.token_type, value.into_owned())?;
                continue;
            }
            "expires_in" => &mut fields.expires_in,
            "refresh_expires_in" => &mut fields.refresh_expires_in,
            "refresh_token_expires_in" => &mut fields.refresh_token_expires_in,
            "scope" => &mut fields.scope,
            "error" => &mut fields.error,
            "error_description" => &mut fields.error_description,
            _ => continue,
        };
        once(field, Value::String(value.into_owned()))?;
    }
    if fields.access_token.is_none() && fields.error.is_none() {
        return Err("neither JSON nor a form with `access_token` or `error`");
    }
    Ok(fields)
}

fn once<T>(field: &mut Option<T>, value: T) -> Result<(), &'static str> {
    if field.replace(value).is_some() {
        Err("a form with a repeated parameter")
    } else {
        Ok(())
    }
}

fn refusal_of(fields: &TokenResponseFields) -> Option<OAuthErrorResponse> {
    let code = fields.error.as_ref()?.as_str()?;
    let is_code_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if code.is_empty() || code.len() > 64 || !code.bytes().all(is_code_byte) {
        return None;
    }
    let description = fields.error_description.as_ref().and_then(Value::as_str).map(printable);
    Some(OAuthErrorResponse {
        code: code.to_owned(),
        description: description.filter(|text| !text.is_empty()),
    })
}

/// Keeps the characters of `error_description` (RFC 6749 §5.2). Most others become `?`.
fn printable(text: &str) -> String {
    let sanitize = |c: char| match c {
        '\r' | '\n' | '\t' => ' ',
        '"' | '\\' => '\'',
        ' '..='~' => c,
        _ => '?',
    };
    text.trim().chars().take(MAX_DESCRIPTION_CHARS).map(sanitize).collect()
}

fn granted(fields: TokenResponseFields, sent_at: UnixTime) -> Result<UpstreamTokens, &'static str> {
    if fields.error.as_ref().is_some_and(|error| error.as_str() != Some("")) {
        return Err("an error that is not an OAuth error code");
    }
    let is_slack = fields.ok == Some(Value::Bool(true));
    let fields = match fields.authed_user {
        Some(user) if is_slack && fields.access_token.is_none() => *user,
        Some(_) | None => fields,
    };
    let access = fields.access_token.filter(|token| !token.is_empty()).ok_or("no `access_token`")?;
    if !access.expose().bytes().all(|b| b.is_ascii_graphic()) {
        return Err("an `access_token` that no header can carry");
    }
    if !fields.token_type.is_none_or(|token_type| is_bearer(&token_type, is_slack)) {
        return Err("a `token_type` other than `Bearer`");
    }
    let refresh_lifetime = seconds(fields.refresh_expires_in.as_ref()).or_else(|| seconds(fields.refresh_token_expires_in.as_ref()));
    Ok(UpstreamTokens {
        access: UpstreamAccessToken(access),
        refresh: fields.refresh_token.filter(|token| !token.is_empty()).map(UpstreamRefreshToken),
        expires: seconds(fields.expires_in.as_ref()).map(|lifetime| sent_at.plus_seconds(lifetime)),
        refresh_expires: refresh_lifetime.map(|lifetime| sent_at.plus_seconds(lifetime)),
        scope: scope(fields.scope.as_ref()),
    })
}

/// Slack's `token_type` is the token's owner (`bot`, `user`). The token is still a bearer token.
fn is_bearer(token_type: &str, is_slack: bool) -> bool {
    token_type.eq_ignore_ascii_case("bearer") || (is_slack && matches!(token_type, "bot" | "user"))
}

/// A lifetime in whole seconds; `None` if 0, negative or invalid. The upstream's 401 then decides.
fn seconds(value: Option<&Value>) -> Option<u64> {
    let lifetime = match value? {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    whole(lifetime).filter(|lifetime| *lifetime > 0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast of a float saturates, and the range is checked first"
)]
fn whole(lifetime: f64) -> Option<u64> {
    (lifetime.is_finite() && lifetime >= 1.0).then(|| (lifetime as u64).min(MAX_LIFETIME_SECONDS))
}

/// Joins scopes with spaces, from a list or from a text with spaces or commas. `None` if there are
/// none: GitHub Apps always send `scope=`.
fn scope(value: Option<&Value>) -> Option<String> {
    let texts: Vec<&str> = match value? {
        Value::String(text) => vec![text],
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return None,
    };
    let tokens = texts.into_iter().flat_map(|text| text.split([' ', ',']));
    let is_valid = |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
    let scope = tokens.filter(is_valid).collect::<Vec<_>>().join(" ");
    (!scope.is_empty()).then_some(scope)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: UnixTime = UnixTime(1_000);

    fn read_ok(body: &str) -> UpstreamTokens {
        parse_token_response(200, None, body.as_bytes(), SENT).unwrap()
    }

    fn refused(status: u16, body: &str) -> OAuthErrorResponse {
        match parse_token_response(status, None, body.as_bytes(), SENT) {
            Err(TokenResponseError::Refused(error)) => error,
            other => panic!("{body}: {other:?}"),
        }
    }

    fn is_unreadable(status: u16, body: &str) -> bool {
        matches!(
            parse_token_response(status, None, body.as_bytes(), SENT),
            Err(TokenResponseError::Unreadable(_))
        )
    }

    #[test]
    fn token_lifetimes_count_from_the_time_of_the_request() {
        let tokens = read_ok(r#"{"access_token":"a","token_type":"Bearer","expires_in":3600,"refresh_token":"r","refresh_expires_in":60}"#);
        assert_eq!(tokens.expires, Some(UnixTime(4_600)));
        assert_eq!(tokens.refresh_expires, Some(UnixTime(1_060)));
        assert_eq!(tokens.refresh.unwrap().expose(), "r");
        assert_eq!(tokens.scope, None);
    }

    #[test]
    fn invalid_lifetimes_are_ignored_and_long_ones_are_capped() {
        for invalid in ["0", "-5", "\"NaN\"", "\"inf\"", "\"soon\"", "null", "true", "[]", "0.4", "\"\""] {
            let body = format!(r#"{{"access_token":"a","expires_in":{invalid},"refresh_expires_in":{invalid}}}"#);
            assert_eq!((read_ok(&body).expires, read_ok(&body).refresh_expires), (None, None), "{invalid}");
        }
        for long in ["99999999999999999999999", "\"1e300\"", "18446744073709551615"] {
            let body = format!(r#"{{"access_token":"a","expires_in":{long}}}"#);
            assert_eq!(read_ok(&body).expires, Some(SENT.plus_seconds(MAX_LIFETIME_SECONDS)), "{long}");
        }
        for (text, lifetime) in [("\"3600\"", 3_600), ("\" 60 \"", 60), ("59.9", 59), ("\"59.9\"", 59)] {
            let body = format!(r#"{{"access_token":"a","expires_in":{text}}}"#);
            assert_eq!(read_ok(&body).expires, Some(SENT.plus_seconds(lifetime)), "{text}");
        }
    }

    #[test]
    fn a_token_response_format_is_detected_despite_its_content_type() {
        let body = b"access_token=gho_abc&scope=repo%2Cread%3Auser&token_type=bearer";
        let tokens = parse_token_response(200, Some("application/json"), body, SENT).unwrap();
        assert_eq!(tokens.access.expose(), "gho_abc");
        assert_eq!(tokens.scope.as_deref(), Some("repo read:user"));
        assert_eq!((tokens.refresh, tokens.expires), (None, None));
        let json_tokens = parse_token_response(200, Some("text/html"), br#" {"access_token":"a"}"#, SENT).unwrap();
        assert_eq!(json_tokens.access.expose(), "a");
        assert!(is_unreadable(200, "access_token=a&access_token=b"));
    }

    #[test]
    fn scopes_are_read_from_text_with_spaces_commas_or_lists() {
        for scope in [r#""a b""#, r#""a,b""#, r#""a, b""#, r#"["a","b"]"#, r#"["a b"]"#] {
            let tokens = read_ok(&format!(r#"{{"access_token":"t","scope":{scope}}}"#));
            assert_eq!(tokens.scope.as_deref(), Some("a b"), "{scope}");
        }
        for scope in [r#""""#, "[]", "null", "7"] {
            assert_eq!(
                read_ok(&format!(r#"{{"access_token":"t","scope":{scope}}}"#)).scope,
                None,
                "{scope}"
            );
        }
    }

    #[test]
    fn an_oauth_error_is_a_refusal_in_any_status() {
        for status in [200, 400, 401, 403, 500] {
            let error = refused(status, r#"{"error":"invalid_grant","error_description":"gone","access_token":"a"}"#);
            assert!(error.is_invalid_grant());
            assert_eq!(error.to_string(), "the upstream refused with `invalid_grant`: gone");
        }
        let github_body = "error=bad_refresh_token&error_description=The+refresh+token+passed+is+incorrect+or+expired.";
        assert!(refused(200, github_body).is_invalid_grant());
        assert!(refused(200, r#"{"error":"incorrect_client_credentials"}"#).is_invalid_client());
        assert!(!refused(400, r#"{"error":"invalid_scope"}"#).is_invalid_grant());
    }

    #[test]
    fn a_response_outside_the_oauth_format_is_not_a_refusal() {
        for (status, body) in [
            (403, "<html>blocked by the firewall</html>"),
            (200, "<!doctype html><p>Cookies must be enabled to use GitHub.</p>"),
            (404, "Not Found"),
            (400, ""),
            (400, "{}"),
            (400, r#"{"message":"no"}"#),
            (400, r#"{"error":"Internal Server Error"}"#),
            (400, r#"{"error":{"message":"no"}}"#),
            (200, r#"{"error":{"message":"no"},"access_token":"a"}"#),
            (200, r#"{"access_token":""}"#),
            (200, r#"{"access_token":7}"#),
            (200, r#"{"access_token":"a b"}"#),
            (200, r#"{"access_token":"a\r\nb"}"#),
            (200, r#"["access_token"]"#),
            (200, r#"{"access_token":"cut off"#),
            (302, r#"{"access_token":"a"}"#),
            (200, r#"{"access_token":"a","token_type":"mac"}"#),
        ] {
            assert!(is_unreadable(status, body), "{status} {body}");
        }
    }

    #[test]
    fn a_temporary_failure_is_not_a_refusal() {
        for (status, body) in [
            (429, r#"{"error":"invalid_grant"}"#),
            (503, "<html>"),
            (500, r#"{"error":"oops"}"#),
            (400, r#"{"error":"temporarily_unavailable"}"#),
            (200, r#"{"ok":false,"error":"ratelimited"}"#),
        ] {
            let error = parse_token_response(status, None, body.as_bytes(), SENT).unwrap_err();
            assert!(matches!(error, TokenResponseError::Temporary(_)), "{status} {body}: {error}");
        }
    }

    #[test]
    fn slack_token_types_are_accepted_only_from_slack() {
        let bot_body = r#"{"ok":true,"access_token":"xoxb-1","token_type":"bot","scope":"a,b","authed_user":{"id":"U1"}}"#;
        assert_eq!(read_ok(bot_body).access.expose(), "xoxb-1");
        let user_body = r#"{"ok":true,"authed_user":{"id":"U1","access_token":"xoxp-1","token_type":"user","scope":"a,b"}}"#;
        assert_eq!(read_ok(user_body).access.expose(), "xoxp-1");
        assert!(is_unreadable(200, r#"{"access_token":"a","token_type":"user"}"#));
        assert!(is_unreadable(200, r#"{"authed_user":{"access_token":"a"}}"#));
    }

    #[test]
    fn an_upstream_error_description_is_sanitized_and_shortened() {
        let error = refused(400, r#"{"error":"invalid_grant","error_description":"a\r\nb \"c\" \u202e\u001b"}"#);
        assert_eq!(error.description.as_deref(), Some("a  b 'c' ??"));
        let long_body = format!(r#"{{"error":"x","error_description":"{}"}}"#, "y".repeat(5_000));
        assert_eq!(refused(400, &long_body).description.unwrap().len(), MAX_DESCRIPTION_CHARS);
    }

    #[test]
    fn upstream_tokens_survive_serialization_and_are_hidden_in_debug_output() {
        let tokens = read_ok(r#"{"access_token":"hidden1","refresh_token":"hidden2","expires_in":5}"#);
        assert!(!format!("{tokens:?}").contains("hidden"));
        let json = serde_json::to_string(&tokens).unwrap();
        assert_eq!(serde_json::from_str::<UpstreamTokens>(&json).unwrap(), tokens);
        let minimal = read_ok(r#"{"access_token":"a"}"#);
        assert_eq!(
            serde_json::from_str::<UpstreamTokens>(&serde_json::to_string(&minimal).unwrap()).unwrap(),
            minimal
        );
    }

    /// A recorded response, by its path below `tests/upstreams`. Its name begins with the status.
    macro_rules! recorded {
        ($path:literal) => {{
            let (_, name) = $path.split_once('/').unwrap();
            let body = include_bytes!(concat!("../../tests/upstreams/", $path));
            parse_token_response(name[..3].parse().unwrap(), None, body, SENT)
        }};
    }

    #[test]
    fn github_token_responses_are_read_as_json_and_form() {
        assert_eq!(recorded!("github/200-oauth-app.txt"), recorded!("github/200-oauth-app.json"));
        let oauth_app = recorded!("github/200-oauth-app.json").unwrap();
        assert_eq!((oauth_app.expires, oauth_app.refresh.is_some()), (None, false));
        assert_eq!(oauth_app.scope.as_deref(), Some("repo read:user"));
        assert_eq!(recorded!("github/200-github-app.txt"), recorded!("github/200-github-app.json"));
        let github_app = recorded!("github/200-github-app.json").unwrap();
        assert_eq!(github_app.expires, Some(SENT.plus_seconds(28_800)));
        assert_eq!(github_app.refresh_expires, Some(SENT.plus_seconds(15_897_600)));
        assert_eq!(github_app.scope, None);
    }

    #[test]
    fn recorded_error_responses_are_classified_correctly() {
        for result in [
            recorded!("github/200-bad-code.txt"),
            recorded!("github/200-bad-refresh.json"),
            recorded!("keycloak/400-refresh.json"),
            recorded!("slack/200-bad-refresh.json"),
            recorded!("entra/400-code.json"),
            recorded!("google/400-refresh.json"),
        ] {
            assert!(
                matches!(result, Err(TokenResponseError::Refused(ref error)) if error.is_invalid_grant()),
                "{result:?}"
            );
        }
        let result = recorded!("github/200-bad-client.json");
        assert!(
            matches!(result, Err(TokenResponseError::Refused(ref error)) if error.is_invalid_client()),
            "{result:?}"
        );
        assert!(matches!(
            recorded!("slack/200-internal.json"),
            Err(TokenResponseError::Temporary(_))
        ));
        for result in [
            recorded!("github/200-wrong-endpoint.txt"),
            recorded!("firewall/403-nginx.html"),
            recorded!("firewall/403-challenge.html"),
            recorded!("firewall/403-api-gateway.json"),
        ] {
            assert!(matches!(result, Err(TokenResponseError::Unreadable(_))), "{result:?}");
        }
    }

    #[test]
    fn recorded_token_responses_of_other_providers_are_read() {
        let offline_tokens = recorded!("keycloak/200-offline.json").unwrap();
        assert_eq!((offline_tokens.refresh_expires, offline_tokens.refresh.is_some()), (None, true));
        assert_eq!(
            recorded!("keycloak/200-online.json").unwrap().refresh_expires,
            Some(SENT.plus_seconds(1_800))
        );
        assert_eq!(recorded!("slack/200-bot.json").unwrap().access.expose(), "xoxb-made-up");
        let user_tokens = recorded!("slack/200-user.json").unwrap();
        assert_eq!(
            (user_tokens.access.expose(), user_tokens.scope.as_deref()),
            ("xoxp-made-up", Some("search:read channels:history"))
        );
        assert!(recorded!("entra/200-code.json").is_ok());
        assert_eq!(recorded!("google/200-second-consent.json").unwrap().refresh, None);
    }
}
