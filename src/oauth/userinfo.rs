//! User data from an ID token or UserInfo (OpenID Connect Core, section 5.1), or from GitHub.

use serde_json::Value;

use crate::base::url::ExactUrl;
use crate::oauth::jwt::Claims;

/// Longest subject, in bytes (OpenID Connect Core, section 2).
const MAX_SUBJECT_BYTES: usize = 255;
/// Longest name or group, in characters. Longer names are cut, longer groups dropped.
const MAX_TEXT_CHARS: usize = 200;
/// Largest number of groups that are read. Further ones are dropped.
const MAX_GROUPS: usize = 10_000;
/// Deepest nesting of a groups claim, in dots of its path.
const MAX_DEPTH: usize = 8;

/// The rules for reading a provider's claims.
#[derive(Clone, Copy, Debug)]
pub struct ClaimRules<'a> {
    /// The claim with the groups: its name, or a path such as `realm_access.roles`.
    pub groups: &'a str,
    /// Whether an e-mail address counts that the provider calls neither verified nor unverified.
    pub trust_email: bool,
}

/// A provider's statement about an e-mail address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmailStatus {
    /// It sent none, or one that is ambiguous.
    Absent,
    /// It sent one and does not say whether it is verified.
    Unstated,
    /// It says that the address is not verified.
    Denied,
    /// It says that the address is verified, or the operator trusts it.
    Verified,
}

/// A user, as the provider describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserInfo {
    /// Stable id at the provider.
    pub id: String,
    /// Email address, if the provider says that it is verified, and if it is unambiguous.
    pub email: Option<String>,
    /// The provider's statement about the e-mail address.
    pub email_status: EmailStatus,
    /// Full name.
    pub name: Option<String>,
    /// URL of a picture, https only.
    pub avatar: Option<String>,
    /// Groups of the user.
    pub groups: Vec<String>,
    /// Whether the provider left the groups out because there are too many (Microsoft: overage).
    pub has_group_overage: bool,
    /// Domain of the organization that manages the account, as Google states it in `hd`.
    pub hosted_domain: Option<String>,
}

impl UserInfo {
    /// Reads claims. `None` without a usable `sub`.
    pub fn from_claims(claims: &Claims, rules: ClaimRules<'_>) -> Option<Self> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let email = text("email").filter(|email| is_plain_email(email));
        let email_status = email.map_or(EmailStatus::Absent, |_| email_status(claims, rules.trust_email));
        let groups = find_claim(claims, rules.groups, MAX_DEPTH);
        Some(Self {
            id: text("sub").filter(|id| is_id(id))?.to_owned(),
            email: email.filter(|_| email_status == EmailStatus::Verified).map(str::to_owned),
            email_status,
            name: text("name").and_then(shown),
            avatar: text("picture").and_then(picture),
            groups: listed(groups),
            has_group_overage: groups.is_none() && has_overage(claims, rules.groups),
            hosted_domain: text("hd")
                .filter(|domain| domain.chars().count() <= MAX_TEXT_CHARS)
                .map(str::to_owned),
        })
    }

    /// Reads the claims of a userinfo endpoint. Some send `sub` as a number.
    pub fn from_userinfo(claims: &Claims, rules: ClaimRules<'_>) -> Option<Self> {
        match claims.get("sub") {
            Some(Value::Number(number)) if number.is_u64() || number.is_i64() => {
                let mut claims = claims.clone();
                claims.insert("sub".to_owned(), number.to_string().into());
                Self::from_claims(&claims, rules)
            }
            Some(_) | None => Self::from_claims(claims, rules),
        }
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
            email_status: if email.is_some() {
                EmailStatus::Verified
            } else {
                EmailStatus::Absent
            },
            name: user["name"].as_str().and_then(shown).or_else(login),
            avatar: user["avatar_url"].as_str().and_then(picture),
            groups: Vec::new(),
            has_group_overage: false,
            hosted_domain: None,
        })
    }

    /// Fills gaps from `other`, which is from the same provider. `None` if that is another user. An address
    /// that the provider called unverified stays so.
    #[must_use]
    pub fn merge(self, other: Self) -> Option<Self> {
        let (email, email_status) = match self.email_status {
            EmailStatus::Verified | EmailStatus::Denied => (self.email, self.email_status),
            EmailStatus::Unstated if other.email_status == EmailStatus::Absent => (None, self.email_status),
            EmailStatus::Unstated | EmailStatus::Absent => (other.email, other.email_status),
        };
        (self.id == other.id).then(|| Self {
            id: self.id,
            email,
            email_status,
            has_group_overage: self.has_group_overage && other.groups.is_empty(),
            name: self.name.or(other.name),
            avatar: self.avatar.or(other.avatar),
            groups: if self.groups.is_empty() { other.groups } else { self.groups },
            hosted_domain: self.hosted_domain.or(other.hosted_domain),
        })
    }
}

/// `email_verified` decides (OpenID Connect Core, section 5.1). Without it, Microsoft's `xms_edov` does: the
/// owner of the address's domain is verified.
fn email_status(claims: &Claims, trust_email: bool) -> EmailStatus {
    let is_true = |value: &Value| *value == true || *value == "true";
    let owner_is_verified = || {
        let value = claims.get("xms_edov");
        value.is_some_and(|value| is_true(value) || *value == 1 || *value == "1")
    };
    match claims.get("email_verified") {
        Some(value) if is_true(value) => EmailStatus::Verified,
        Some(Value::Null) | None if trust_email || owner_is_verified() => EmailStatus::Verified,
        Some(Value::Null) | None => EmailStatus::Unstated,
        Some(_) => EmailStatus::Denied,
    }
}

/// A claim by its name, or by a path whose parts are names of nested objects. A name may contain dots, as
/// that of a client in Keycloak's `resource_access.<client>.roles`.
fn find_claim<'c>(claims: &'c Claims, path: &str, depth: usize) -> Option<&'c Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let dots = path.match_indices('.').take(if depth == 0 { 0 } else { MAX_DEPTH });
    let nested = |(dot, _): (usize, &str)| {
        let inner = claims.get(&path[..dot])?.as_object()?;
        find_claim(inner, &path[dot + 1..], depth - 1)
    };
    dots.into_iter().find_map(nested)
}

/// Whether the provider names another place for the groups, because they are too many for the token.
fn has_overage(claims: &Claims, groups: &str) -> bool {
    let elsewhere = claims.get("_claim_names").and_then(|names| names.get(groups)).is_some();
    elsewhere || claims.get("hasgroups").is_some_and(|value| *value == true || *value == "true")
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

/// Parses a string or a list of strings. Of an object the keys count (Zitadel's roles), and of objects in a
/// list the member `name`.
fn listed<'v>(value: Option<&'v Value>) -> Vec<String> {
    let is_valid = |text: &&str| !text.is_empty() && text.chars().count() <= MAX_TEXT_CHARS;
    match value {
        Some(Value::String(text)) => Some(text.as_str()).filter(is_valid).map(str::to_owned).into_iter().collect(),
        Some(Value::Array(list)) => {
            let text = |value: &'v Value| value.as_str().or_else(|| value.get("name").and_then(Value::as_str));
            let texts = list.iter().filter_map(text).filter(is_valid);
            texts.take(MAX_GROUPS).map(str::to_owned).collect()
        }
        Some(Value::Object(object)) => {
            let texts = object.keys().map(String::as_str).filter(is_valid);
            texts.take(MAX_GROUPS).map(str::to_owned).collect()
        }
        Some(_) | None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const RULES: ClaimRules<'_> = ClaimRules {
        groups: "groups",
        trust_email: false,
    };

    fn of(claims: Value) -> Option<UserInfo> {
        let Value::Object(claims) = claims else { panic!("an object") };
        UserInfo::from_claims(&claims, RULES)
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

    #[test]
    fn groups_are_found_by_name_and_by_path_in_lists_and_objects() {
        let claims = json!({
            "sub": "1",
            "realm_access": {"roles": ["admin", 5]},
            "resource_access": {"my.client": {"roles": ["editor"]}},
            "https://corp.example/roles": ["url"],
            "urn:zitadel:iam:org:project:roles": {"owner": {"1": "corp"}, "viewer": {}},
            "teams": [{"name": "red", "id": 1}, {"id": 2}, "blue"],
            "one": "only",
        });
        let Value::Object(claims) = claims else { panic!("an object") };
        let groups = |groups| UserInfo::from_claims(&claims, ClaimRules { groups, ..RULES }).unwrap().groups;
        assert_eq!(groups("realm_access.roles"), ["admin"]);
        assert_eq!(groups("resource_access.my.client.roles"), ["editor"]);
        assert_eq!(groups("https://corp.example/roles"), ["url"]);
        assert_eq!(groups("urn:zitadel:iam:org:project:roles"), ["owner", "viewer"]);
        assert_eq!(groups("teams"), ["red", "blue"]);
        assert_eq!(groups("one"), ["only"]);
        for missing in [
            "realm_access.groups",
            "one.only",
            "",
            ".",
            "realm_access.",
            ".realm_access",
            "a.b.c.d.e.f.g.h.i.j.k",
        ] {
            assert!(groups(missing).is_empty(), "{missing}");
        }
    }

    #[test]
    fn an_address_without_a_statement_counts_only_if_trusted_or_vouched_for() {
        let read = |trust_email, claims: Value| {
            let Value::Object(claims) = claims else { panic!("an object") };
            UserInfo::from_claims(&claims, ClaimRules { trust_email, ..RULES })
                .unwrap()
                .email_status
        };
        let plain = json!({"sub": "1", "email": "a@b.c"});
        assert_eq!(
            (read(false, plain.clone()), read(true, plain)),
            (EmailStatus::Unstated, EmailStatus::Verified)
        );
        let vouched = |value: Value| read(false, json!({"sub": "1", "email": "a@b.c", "xms_edov": value}));
        assert!(
            [json!(true), json!("true"), json!(1), json!("1")]
                .into_iter()
                .all(|value| vouched(value) == EmailStatus::Verified)
        );
        assert!(
            [json!(false), json!(0), json!("no"), json!([true])]
                .into_iter()
                .all(|value| vouched(value) == EmailStatus::Unstated)
        );
        let denied = json!({"sub": "1", "email": "a@b.c", "email_verified": false, "xms_edov": true});
        assert_eq!(read(true, denied), EmailStatus::Denied);
    }

    #[test]
    fn an_address_that_the_id_token_calls_unverified_is_not_taken_from_userinfo() {
        let denied = of(json!({"sub": "1", "email": "a@b.c", "email_verified": false})).unwrap();
        let verified = of(json!({"sub": "1", "email": "a@b.c", "email_verified": true})).unwrap();
        assert_eq!(denied.merge(verified.clone()).unwrap().email, None);
        let unstated = of(json!({"sub": "1", "email": "a@b.c"})).unwrap();
        assert_eq!(unstated.clone().merge(verified).unwrap().email.as_deref(), Some("a@b.c"));
        let absent = of(json!({"sub": "1"})).unwrap();
        assert_eq!(unstated.merge(absent).unwrap().email_status, EmailStatus::Unstated);
    }

    #[test]
    fn an_overage_of_groups_is_noticed() {
        let overage = |claims: Value| of(claims).unwrap().has_group_overage;
        assert!(overage(
            json!({"sub": "1", "_claim_names": {"groups": "src1"}, "_claim_sources": {}})
        ));
        assert!(overage(json!({"sub": "1", "hasgroups": true})));
        assert!(!overage(json!({"sub": "1", "groups": ["a"], "hasgroups": true})));
        assert!(!overage(json!({"sub": "1"})) && !overage(json!({"sub": "1", "_claim_names": {"roles": "src1"}})));
    }

    #[test]
    fn a_numeric_subject_is_accepted_only_from_userinfo() {
        let Value::Object(claims) = json!({"sub": 35}) else {
            panic!("an object")
        };
        assert_eq!(UserInfo::from_userinfo(&claims, RULES).unwrap().id, "35");
        assert_eq!(UserInfo::from_claims(&claims, RULES), None);
        let Value::Object(claims) = json!({"sub": 35.5}) else {
            panic!("an object")
        };
        assert_eq!(UserInfo::from_userinfo(&claims, RULES), None);
    }
}
