//! User data from an ID token or UserInfo (OpenID Connect Core, section 5.1), or from GitHub.

use serde_json::Value;

use crate::base::url::ExactUrl;
use crate::oauth::jwt::Claims;

/// Longest subject, in bytes (OpenID Connect Core, section 2).
const MAX_SUBJECT_BYTES: usize = 255;
/// Longest name or group, in characters. Longer names are cut, longer groups dropped.
const MAX_TEXT_CHARS: usize = 200;
/// Largest number of groups. Further ones are dropped.
const MAX_GROUPS: usize = 200;

/// A user, as the provider describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserInfo {
    /// Stable id at the provider.
    pub id: String,
    /// Email address, if the provider says that it is verified, and if it is unambiguous.
    pub email: Option<String>,
    /// Full name.
    pub name: Option<String>,
    /// URL of a picture, https only.
    pub avatar: Option<String>,
    /// Groups of the user.
    pub groups: Vec<String>,
    /// Domain of the organization that manages the account, as Google states it in `hd`.
    pub hosted_domain: Option<String>,
}

impl UserInfo {
    /// Reads claims; `groups_claim` names the claim with groups. `None` without a usable `sub`.
    pub fn from_claims(claims: &Claims, groups_claim: &str) -> Option<Self> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let email_verified = claims.get("email_verified").is_some_and(|value| *value == true || *value == "true");
        Some(Self {
            id: text("sub").filter(|id| is_id(id))?.to_owned(),
            email: text("email")
                .filter(|email| email_verified && is_plain_email(email))
                .map(str::to_owned),
            name: text("name").and_then(shown),
            avatar: text("picture").and_then(picture),
            groups: listed(claims.get(groups_claim)),
            hosted_domain: text("hd")
                .filter(|domain| domain.chars().count() <= MAX_TEXT_CHARS)
                .map(str::to_owned),
        })
    }

    /// Reads GitHub's `GET /user` and `GET /user/emails`. Takes the primary address, if verified.
    pub fn from_github(user: &Value, emails: &Value) -> Option<Self> {
        let id = user.get("id")?.as_u64()?.to_string();
        let primary = emails.as_array().into_iter().flatten().find(|entry| entry["primary"] == true);
        let email = primary
            .filter(|entry| entry["verified"] == true)
            .and_then(|entry| entry["email"].as_str());
        let login = || user["login"].as_str().and_then(shown);
        Some(Self {
            id,
            email: email.filter(|email| is_plain_email(email)).map(str::to_owned),
            name: user["name"].as_str().and_then(shown).or_else(login),
            avatar: user["avatar_url"].as_str().and_then(picture),
            groups: Vec::new(),
            hosted_domain: None,
        })
    }

    /// Fills gaps from `other`, which is from the same provider. `None` if that is another user.
    #[must_use]
    pub fn merge(self, other: Self) -> Option<Self> {
        (self.id == other.id).then(|| Self {
            id: self.id,
            email: self.email.or(other.email),
            name: self.name.or(other.name),
            avatar: self.avatar.or(other.avatar),
            groups: if self.groups.is_empty() { other.groups } else { self.groups },
            hosted_domain: self.hosted_domain.or(other.hosted_domain),
        })
    }
}

fn is_id(text: &str) -> bool {
    (1..=MAX_SUBJECT_BYTES).contains(&text.len()) && text.bytes().all(|b| (b' '..=b'~').contains(&b))
}

/// Whether an address is unambiguous: ASCII, one `@`, no quotes, comments or lists, plain host.
pub fn is_plain_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else {
        return false;
    };
    let is_local_byte = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&b);
    let is_label = |label: &str| !label.is_empty() && label.len() <= 63 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    (1..=64).contains(&local.len()) && local.bytes().all(is_local_byte) && domain.len() <= 253 && domain.split('.').all(is_label)
}

/// A display text without control characters; `None` if nothing is left.
fn shown(text: &str) -> Option<String> {
    let cleaned: String = text.trim().chars().filter(|c| !c.is_control()).take(MAX_TEXT_CHARS).collect();
    (!cleaned.is_empty()).then_some(cleaned)
}

fn picture(text: &str) -> Option<String> {
    let address = ExactUrl::parse(text).ok()?;
    (address.url().scheme() == "https").then(|| text.to_owned())
}

/// Parses a string or a list of strings.
fn listed(value: Option<&Value>) -> Vec<String> {
    let is_valid = |text: &&str| !text.is_empty() && text.chars().count() <= MAX_TEXT_CHARS;
    match value {
        Some(Value::String(text)) => Some(text.as_str()).filter(is_valid).map(str::to_owned).into_iter().collect(),
        Some(Value::Array(list)) => {
            let texts = list.iter().filter_map(Value::as_str).filter(is_valid);
            texts.take(MAX_GROUPS).map(str::to_owned).collect()
        }
        Some(_) | None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(claims: Value) -> Option<UserInfo> {
        let Value::Object(claims) = claims else { panic!("an object") };
        UserInfo::from_claims(&claims, "groups")
    }

    #[test]
    fn an_email_address_counts_only_if_verified_and_unambiguous() {
        let email = |email: &str, verified: Value| of(json!({"sub": "1", "email": email, "email_verified": verified})).unwrap().email;
        assert_eq!(email("a.b+c@Example.com", json!(true)).as_deref(), Some("a.b+c@Example.com"));
        assert!(email("a@b.c", json!("true")).is_some());
        for verified in [json!(false), json!("false"), json!(1), json!(null), json!("TRUE"), json!([true])] {
            assert_eq!(email("a@b.c", verified.clone()), None, "{verified}");
        }
        for invalid in [
            "",
            "a",
            "@b.c",
            "a@",
            "a@b@c",
            "a@evil.com@example.com",
            "\"a@evil.com\"@example.com",
            "a@example.com,b@evil.com",
            "a b@example.com",
            "a@example.com ",
            "a@example.com\n",
            "<a@example.com>",
            "a(x)@example.com",
            "a@[127.0.0.1]",
            "a@example..com",
            "a@.example.com",
            "a@example.com.",
            "a@exämple.com",
            "ä@example.com",
            "a@example.com\0",
        ] {
            assert_eq!(email(invalid, json!(true)), None, "{invalid:?}");
        }
    }

    #[test]
    fn userinfo_without_a_valid_subject_is_refused() {
        for sub in [json!(null), json!(""), json!(5), json!("a\nb"), json!("a".repeat(256)), json!("ü")] {
            assert_eq!(of(json!({ "sub": sub })), None, "{sub}");
        }
    }

    #[test]
    fn userinfo_is_sanitized_and_merged_only_for_the_same_subject() {
        let user = of(json!({
            "sub": "1", "name": " Al\r\nice ", "picture": "javascript:alert(1)", "groups": ["a", 5, "", "b"]
        }));
        let user = user.unwrap();
        assert_eq!(user.name.as_deref(), Some("Alice"));
        assert_eq!((user.avatar.as_deref(), user.groups.len()), (None, 2));
        let other_user = of(json!({"sub": "2", "email": "a@b.c", "email_verified": true})).unwrap();
        assert_eq!(user.clone().merge(other_user.clone()), None);
        let same_user = UserInfo {
            id: "1".into(),
            ..other_user
        };
        assert_eq!(user.merge(same_user).unwrap().email.as_deref(), Some("a@b.c"));
    }

    #[test]
    fn only_a_verified_primary_github_email_is_used() {
        let github_user = json!({"id": 583_231, "login": "octocat", "name": null, "avatar_url": "https://avatars.example/1"});
        let emails = |verified: bool| json!([{"email": "other@x.y", "primary": false, "verified": true}, {"email": "cat@x.y", "primary": true, "verified": verified}]);
        let user = UserInfo::from_github(&github_user, &emails(true)).unwrap();
        assert_eq!(
            (user.id.as_str(), user.email.as_deref(), user.name.as_deref()),
            ("583231", Some("cat@x.y"), Some("octocat"))
        );
        assert_eq!(UserInfo::from_github(&github_user, &emails(false)).unwrap().email, None);
        assert_eq!(UserInfo::from_github(&json!({"id": "583231"}), &emails(true)), None);
    }
}
