//! Which users of an identity provider may sign in. Pure.

/// The attributes of a user that an allow list compares.
#[derive(Clone, Copy, Debug)]
pub struct AllowListSubject<'a> {
    /// The permanent id at the provider.
    pub id: &'a str,
    /// The e-mail address, if the provider says that it is verified.
    pub email: Option<&'a str>,
    /// The groups that the provider names.
    pub groups: &'a [String],
}

/// The users that may sign in. One matching entry is enough.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList {
    /// E-mail addresses, compared without regard to case.
    pub emails: Vec<String>,
    /// Domains after the `@`, compared whole: `example.com` does not match `sub.example.com`.
    pub domains: Vec<String>,
    /// Groups, byte for byte.
    pub groups: Vec<String>,
    /// Permanent ids at the provider, byte for byte.
    pub subjects: Vec<String>,
    /// Whether every account of the provider matches.
    pub is_anyone: bool,
}

impl AllowList {
    /// The list that matches every account of the provider.
    pub fn anyone() -> Self {
        Self {
            is_anyone: true,
            ..Self::default()
        }
    }

    /// Whether an entry matches this user. An empty list matches no user.
    pub fn contains(&self, user: AllowListSubject<'_>) -> bool {
        let (emails, domains) = (&self.emails, &self.domains);
        let matches_email = user.email.is_some_and(|email| match email.split_once('@') {
            // The caller checked for exactly one `@`. Two never match, whatever the caller does.
            Some((_, domain)) if !domain.contains('@') => {
                emails.iter().any(|entry| entry.eq_ignore_ascii_case(email))
                    || domains.iter().any(|entry| entry.eq_ignore_ascii_case(domain))
            }
            Some(_) | None => false,
        });
        self.is_anyone
            || matches_email
            || self.subjects.iter().any(|id| id == user.id)
            || self.groups.iter().any(|group| user.groups.contains(group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn by_email(allow: &AllowList, email: &str) -> bool {
        let candidate = AllowListSubject {
            id: "1",
            email: Some(email),
            groups: &[],
        };
        allow.contains(candidate)
    }

    #[test]
    fn an_email_domain_must_match_completely_after_a_single_at_sign() {
        let allow = AllowList {
            domains: list(&["Example.com"]),
            ..AllowList::default()
        };
        assert!(by_email(&allow, "a@example.COM") && by_email(&allow, "a@Example.com"));
        for other in [
            "a@sub.example.com",
            "a@notexample.com",
            "a@example.com.evil.com",
            "a@example.co",
            "example.com",
            "a@example.com@evil.com",
            "a@evil.com@example.com",
            "",
        ] {
            assert!(!by_email(&allow, other), "{other}");
        }
    }

    #[test]
    fn an_allow_list_contains_only_listed_emails_groups_and_subjects() {
        let unlisted = AllowListSubject {
            id: "",
            email: None,
            groups: &[],
        };
        assert!(!AllowList::default().contains(unlisted) && AllowList::anyone().contains(unlisted));
        let allow = AllowList {
            emails: list(&["alice@example.com"]),
            groups: list(&["admins"]),
            subjects: list(&["42"]),
            ..AllowList::default()
        };
        assert!(by_email(&allow, "Alice@example.com") && !by_email(&allow, "bob@example.com"));
        let groups = list(&["users", "admins"]);
        assert!(
            allow.contains(AllowListSubject {
                groups: &groups,
                ..unlisted
            }) && !allow.contains(unlisted)
        );
        assert!(!allow.contains(AllowListSubject {
            groups: &list(&["Admins"]),
            ..unlisted
        }));
        assert!(allow.contains(AllowListSubject { id: "42", ..unlisted }) && !allow.contains(AllowListSubject { id: "4", ..unlisted }));
    }
}
