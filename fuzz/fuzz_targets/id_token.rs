//! ID tokens, key sets and claims, one to a line: nothing is believed that the one known key did not sign, nobody is
//! somebody by claims of another sign-in, and an address reads in one way only.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mcp_oauth_gateway::base::ids::Digest;
use mcp_oauth_gateway::base::time::UnixTime;
use mcp_oauth_gateway::oauth::access_token::AccessToken;
use mcp_oauth_gateway::oauth::id_token::{self, ExpectedClaims};
use mcp_oauth_gateway::oauth::jwk::KeySet;
use mcp_oauth_gateway::oauth::jwt::{MAX_JWT_BYTES, UnverifiedJwt};
use mcp_oauth_gateway::oauth::userinfo::{ClaimRules, UserInfo};
use serde_json::Value;

/// The key and what it signed, of RFC 7515 A.3.
const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
const SIGNED: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.";

const NOW: u64 = 1_000_000;

static KNOWN: LazyLock<KeySet> = LazyLock::new(|| KeySet::parse(KEYS.as_bytes()).expect("a set of keys"));

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for line in text.lines() {
        token(line);
        if let Ok(Value::Object(claims)) = serde_json::from_str(line) {
            said(&claims);
        }
    }
});

fn token(text: &str) {
    let Ok(token) = UnverifiedJwt::parse(text) else { return };
    assert!(text.len() <= MAX_JWT_BYTES && !format!("{:?}", token.algorithm).starts_with("HS"));
    if let Ok(key) = KNOWN.find(&token)
        && token.verify(key).is_ok()
    {
        assert!(text.starts_with(SIGNED), "a forged token: {text}");
    }
}

fn said(claims: &serde_json::Map<String, Value>) {
    if let Ok(keys) = KeySet::parse(Value::Object(claims.clone()).to_string().as_bytes()) {
        // Whatever else they are, they did not sign this.
        if let Ok(token) = UnverifiedJwt::parse(&format!("{SIGNED}AAAA"))
            && let Ok(key) = keys.find(&token)
        {
            assert!(token.verify(key).is_err());
        }
    }
    // An access token of ours says what it says in one way, and is no ID token of anybody.
    if let Some(token) = AccessToken::from_claims(claims) {
        let again = token.claims();
        assert_eq!(again.as_object().and_then(AccessToken::from_claims), Some(token));
    }
    let nonce = Digest::new("n");
    let expected = ExpectedClaims {
        issuer: "https://idp",
        client_id: "us",
        nonce: Some(&nonce),
        max_age: None,
        now: UnixTime(NOW),
    };
    if id_token::check(claims, &expected).is_ok() {
        assert!(claims["iss"] == "https://idp" && claims["nonce"] == "n" && claims["aud"].to_string().contains("\"us\""));
        assert!(claims["exp"].as_f64().expect("a number") > 999_939.0 && claims["iat"].as_f64().expect("a number") < 1_000_061.0);
    }
    let rules = ClaimRules {
        groups: "groups",
        trust_email: false,
    };
    let Some(person) = UserInfo::from_claims(claims, rules) else {
        return;
    };
    assert!((1..=255).contains(&person.id.len()) && person.id.bytes().all(|b| (b' '..=b'~').contains(&b)));
    if let Some(email) = &person.email {
        assert!(email.matches('@').count() == 1 && email.bytes().all(|b| b.is_ascii_graphic() && !b"<>()[],;:\\\"".contains(&b)));
        let says = |name: &str, values: [Value; 4]| claims.get(name).is_some_and(|value| values.contains(value));
        let edov = says("xms_edov", [true.into(), "true".into(), 1.into(), "1".into()]);
        assert!(edov || says("email_verified", [true.into(), "true".into(), true.into(), "true".into()]));
    }
    assert!(
        person
            .name
            .is_none_or(|name| !name.chars().any(char::is_control) && name.chars().count() <= 200)
    );
    assert!(person.avatar.is_none_or(|avatar| avatar.to_ascii_lowercase().starts_with("https:")));
    assert!(person.groups.len() <= 200);
}
