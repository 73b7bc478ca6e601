//! Claims of an ID token (OpenID Connect Core, section 3.1.3.7): whether it belongs to this login.

use serde_json::Value;

use crate::base::ids::Digest;
use crate::base::time::UnixTime;
use crate::oauth::jwt::Claims;

/// Accepted difference between the provider's clock and the gateway's, in seconds.
const LEEWAY: u64 = 60;

/// The values that the claims of an ID token must match.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedClaims<'a> {
    /// Issuer of the provider, compared byte for byte. The claim `tid` replaces `{tenantid}` in it.
    pub issuer: &'a str,
    /// The gateway's client id at the provider.
    pub client_id: &'a str,
    /// Digest of the nonce that was sent for this login. `None`: the token comes with a refresh, where it
    /// need not have one (OpenID Connect Core, section 12.2).
    pub nonce: Option<&'a Digest>,
    /// The maximum age of the user's sign-in at the provider, in seconds; `None`: any age.
    pub max_age: Option<u64>,
    /// The current time.
    pub now: UnixTime,
}

/// The reason why a token with a valid signature does not belong to this login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdTokenError {
    /// `iss` is another issuer.
    #[error("the ID token is of another issuer")]
    Issuer,
    /// `aud` does not contain the gateway's client id.
    #[error("the ID token is not for this gateway")]
    Audience,
    /// `azp` is another client.
    #[error("the ID token was given to another client")]
    AuthorizedParty,
    /// The token has expired, or has no usable `exp`.
    #[error("the ID token has expired")]
    Expired,
    /// `iat` or `nbf` is in the future or unusable, or `iat` is missing.
    #[error("the ID token is from the future")]
    NotYet,
    /// `nonce` is not that of this login.
    #[error("the ID token is of another sign-in")]
    Nonce,
    /// `auth_time` is older than requested.
    #[error("the user signed in at the provider too long ago")]
    TooOld,
    /// `sub` is missing or unusable.
    #[error("the ID token names no user")]
    Subject,
}

/// Checks claims whose signature is valid. The error names the first claim that is wrong.
pub fn check(claims: &Claims, expected: &ExpectedClaims<'_>) -> Result<(), IdTokenError> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if !text("iss").is_some_and(|issuer| is_issuer(issuer, expected.issuer, text("tid"))) {
        return Err(IdTokenError::Issuer);
    }
    let audience = audience(claims.get("aud"));
    if !audience.contains(&expected.client_id) {
        return Err(IdTokenError::Audience);
    }
    match claims.get("azp") {
        // A token of several audiences need not have one; the nonce shows that it is of this login.
        None => {}
        Some(party) if *party == expected.client_id => {}
        Some(_) => return Err(IdTokenError::AuthorizedParty),
    }
    let now = expected.now;
    let expires = time(claims.get("exp")).ok_or(IdTokenError::Expired)?;
    if expires.plus_seconds(LEEWAY) <= now {
        return Err(IdTokenError::Expired);
    }
    let issued_at = time(claims.get("iat")).ok_or(IdTokenError::NotYet)?;
    let not_before = match claims.get("nbf") {
        None => issued_at,
        Some(value) => time(Some(value)).ok_or(IdTokenError::NotYet)?,
    };
    if issued_at.max(not_before) > now.plus_seconds(LEEWAY) {
        return Err(IdTokenError::NotYet);
    }
    // A provider that ignores `max_age` states no `auth_time`.
    if let (Some(max_age), Some(signed_in)) = (expected.max_age, time(claims.get("auth_time")))
        && now.seconds_since(signed_in) > max_age.saturating_add(LEEWAY)
    {
        return Err(IdTokenError::TooOld);
    }
    match (expected.nonce, text("nonce")) {
        (None, _) => Ok(()),
        (Some(expected), Some(nonce)) if expected.matches(nonce) => Ok(()),
        (Some(_), Some(_) | None) => Err(IdTokenError::Nonce),
    }
}

/// The part of an issuer that is a tenant's id, as Microsoft writes it.
pub const TENANT_PLACEHOLDER: &str = "{tenantid}";

/// Compares byte for byte, with the token's own tenant in place of the placeholder.
fn is_issuer(issuer: &str, expected: &str, tenant: Option<&str>) -> bool {
    match (expected.split_once(TENANT_PLACEHOLDER), tenant) {
        (None, _) => issuer == expected,
        (Some((before, after)), Some(tenant)) => {
            let is_tenant = !tenant.is_empty() && tenant.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            let rest = issuer.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            is_tenant && rest == Some(tenant)
        }
        (Some(_), None) => false,
    }
}

/// Checks the claims of a signed userinfo response (OpenID Connect Core, section 5.3.2), where both may be
/// missing.
pub fn check_userinfo(claims: &Claims, expected: &ExpectedClaims<'_>) -> Result<(), IdTokenError> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if claims.contains_key("iss") && !text("iss").is_some_and(|issuer| is_issuer(issuer, expected.issuer, text("tid"))) {
        return Err(IdTokenError::Issuer);
    }
    if claims.contains_key("aud") && !audience(claims.get("aud")).contains(&expected.client_id) {
        return Err(IdTokenError::Audience);
    }
    Ok(())
}

/// Parses `aud`: a string, or a list of strings only. Anything else is an empty audience.
fn audience(value: Option<&Value>) -> Vec<&str> {
    match value {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(list)) => list.iter().map(Value::as_str).collect::<Option<_>>().unwrap_or_default(),
        Some(_) | None => Vec::new(),
    }
}

/// Parses a NumericDate (RFC 7519 §2): seconds since the epoch. A fraction is cut off.
fn time(value: Option<&Value>) -> Option<UnixTime> {
    let value = value?;
    let truncated = || {
        let text = value.as_f64()?.trunc().to_string();
        text.parse().ok()
    };
    value.as_u64().or_else(truncated).map(UnixTime)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_000_000;

    fn good() -> Value {
        json!({ "iss": "https://idp", "aud": "us", "sub": "1", "exp": NOW + 300, "iat": NOW, "nonce": "n" })
    }

    fn judged(changes: Value) -> Result<(), IdTokenError> {
        let mut claims = good();
        let Value::Object(changes) = changes else { panic!("an object") };
        for (name, value) in changes {
            claims[&name] = value;
        }
        let Value::Object(mut claims) = claims else { panic!("an object") };
        claims.retain(|_, value| !value.is_null());
        let nonce = Digest::new("n");
        let expected = ExpectedClaims {
            issuer: "https://idp",
            client_id: "us",
            nonce: Some(&nonce),
            max_age: Some(300),
            now: UnixTime(NOW),
        };
        check(&claims, &expected)
    }

    #[test]
    fn a_valid_id_token_is_accepted_in_every_permitted_form() {
        for changes in [
            json!({}),
            json!({"aud": ["us"]}),
            json!({"aud": ["us", "them"]}),
            json!({"aud": ["us", "us"]}),
            json!({"aud": ["us", "them"], "azp": "us"}),
            json!({"azp": "us"}),
            json!({"auth_time": NOW - 360}),
            json!({"exp": NOW - 59}),
            json!({"iat": NOW + 60, "nbf": NOW + 60}),
            json!({"exp": 1_000_300.75}),
        ] {
            assert_eq!(judged(changes.clone()), Ok(()), "{changes}");
        }
    }

    #[test]
    fn an_id_token_with_a_wrong_claim_is_refused_with_its_reason() {
        for (changes, expected) in [
            (json!({"iss": "https://idp/"}), IdTokenError::Issuer),
            (json!({"iss": "https://IDP"}), IdTokenError::Issuer),
            (json!({"iss": null}), IdTokenError::Issuer),
            (json!({"aud": "them"}), IdTokenError::Audience),
            (json!({"aud": "us,them"}), IdTokenError::Audience),
            (json!({"aud": []}), IdTokenError::Audience),
            (json!({"aud": null}), IdTokenError::Audience),
            (json!({"aud": {"us": 1}}), IdTokenError::Audience),
            (json!({"aud": ["us", 5]}), IdTokenError::Audience),
            (json!({"aud": ["us", "them"], "azp": "them"}), IdTokenError::AuthorizedParty),
            (json!({"azp": "them"}), IdTokenError::AuthorizedParty),
            (json!({"azp": ["us"]}), IdTokenError::AuthorizedParty),
            (json!({"exp": NOW - 60}), IdTokenError::Expired),
            (json!({"exp": null}), IdTokenError::Expired),
            (json!({"exp": "2000000"}), IdTokenError::Expired),
            (json!({"exp": -5}), IdTokenError::Expired),
            (json!({"iat": null}), IdTokenError::NotYet),
            (json!({"iat": NOW + 61}), IdTokenError::NotYet),
            (json!({"nbf": NOW + 61}), IdTokenError::NotYet),
            (json!({"nbf": "0"}), IdTokenError::NotYet),
            (json!({"auth_time": NOW - 361}), IdTokenError::TooOld),
            (json!({"nonce": "m"}), IdTokenError::Nonce),
            (json!({"nonce": null}), IdTokenError::Nonce),
            (json!({"nonce": ["n"]}), IdTokenError::Nonce),
        ] {
            assert_eq!(judged(changes.clone()), Err(expected), "{changes}");
        }
    }
}
