//! The users of an identity provider who may sign in. This module is pure.

/// The attributes of a user that an allow list compares.
#[derive(Clone, Copy, Debug)]
pub struct AllowListSubject<'a> {
    /// The permanent id at the provider.
    pub id: &'a str,
    /// The e-mail address, if the provider says that it is verified.
    pub email: Option<&'a str>,
    /// The groups that the provider names. At GitHub: see [`organization_group`] and [`team_group`].
    pub groups: &'a [String],
    /// The domain of the organization that manages the account (`hd`), which only Google states.
    pub hosted_domain: Option<&'a str>,
}

/// A team of an organization at GitHub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Team {
    /// The organization, in lower case.
    pub organization: String,
    /// The team's slug, in lower case.
    pub slug: String,
}

impl Team {
    /// Parses `organization/team`.
    pub fn parse(text: &str) -> Option<Self> {
        let (organization, slug) = text.split_once('/')?;
        let is_valid = is_github_name(organization) && is_github_name(slug);
        is_valid.then(|| Self {
            organization: organization.to_ascii_lowercase(),
            slug: slug.to_ascii_lowercase(),
        })
    }
}

/// Whether this can be an organization or a team's slug: it becomes a segment of a path.
pub fn is_github_name(text: &str) -> bool {
    let is_valid = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=100).contains(&text.len()) && text.bytes().all(is_valid)
}

/// A membership of an organization as a group of the user.
pub fn organization_group(organization: &str) -> String {
    format!("organization:{organization}")
}

/// A membership of a team as a group of the user.
pub fn team_group(team: &Team) -> String {
    format!("team:{}/{}", team.organization, team.slug)
}

/// The value with which the entries of [`AllowList::domains`] are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainRule {
    /// The part of the verified e-mail address after the `@`.
    Email,
    /// The domain of the organization that manages the account, in Google's claim `hd`. A consumer
    /// account can have an address of any domain, and has no such claim.
    HostedDomain,
}

/// The users who may sign in. One matching entry is enough.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList {
    /// E-mail addresses, compared without regard to case.
    pub emails: Vec<String>,
    /// Domains, compared whole: `example.com` does not match `sub.example.com`. See [`DomainRule`].
    pub domains: Vec<String>,
    /// Groups, byte for byte.
    pub groups: Vec<String>,
    /// Permanent ids at the provider, byte for byte.
    pub subjects: Vec<String>,
    /// Organizations at GitHub, in lower case.
    pub organizations: Vec<String>,
    /// Teams at GitHub.
    pub teams: Vec<Team>,
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
    pub fn contains(&self, user: AllowListSubject<'_>, rule: DomainRule) -> bool {
        // The caller checks for exactly one `@`. An address with two must not match in any case.
        let address = user
            .email
            .and_then(|email| email.split_once('@'))
            .filter(|(_, domain)| !domain.contains('@'));
        let domain = match rule {
            DomainRule::Email => address.map(|(_, domain)| domain),
            DomainRule::HostedDomain => user.hosted_domain,
        };
        let is_listed =
            |list: &[String], text: Option<&str>| text.is_some_and(|text| list.iter().any(|entry| entry.eq_ignore_ascii_case(text)));
        self.is_anyone
            || is_listed(&self.emails, user.email.filter(|_| address.is_some()))
            || is_listed(&self.domains, domain)
            || self.subjects.iter().any(|id| id == user.id)
            || self.groups.iter().any(|group| user.groups.contains(group))
            || self
                .organizations
                .iter()
                .any(|name| user.groups.contains(&organization_group(name)))
            || self.teams.iter().any(|team| user.groups.contains(&team_group(team)))
    }

    /// Whether memberships of organizations and teams at GitHub decide.
    pub fn needs_memberships(&self) -> bool {
        !self.organizations.is_empty() || !self.teams.is_empty()
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
            hosted_domain: None,
        };
        allow.contains(candidate, DomainRule::Email)
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
    fn the_hosted_domain_alone_counts_where_the_provider_states_it() {
        let allow = AllowList {
            domains: list(&["example.com"]),
            ..AllowList::default()
        };
        let is_allowed = |email, hosted_domain| {
            let candidate = AllowListSubject {
                id: "1",
                email: Some(email),
                groups: &[],
                hosted_domain,
            };
            allow.contains(candidate, DomainRule::HostedDomain)
        };
        assert!(is_allowed("ann@alias.example", Some("Example.com")));
        for hosted_domain in [None, Some(""), Some("other.example"), Some("sub.example.com")] {
            assert!(!is_allowed("ann+consumer@example.com", hosted_domain), "{hosted_domain:?}");
        }
    }

    #[test]
    fn an_allow_list_contains_only_listed_emails_groups_and_subjects() {
        let unlisted = AllowListSubject {
            id: "",
            email: None,
            groups: &[],
            hosted_domain: None,
        };
        let contains = |list: &AllowList, user| list.contains(user, DomainRule::Email);
        assert!(!contains(&AllowList::default(), unlisted) && contains(&AllowList::anyone(), unlisted));
        let allow = AllowList {
            emails: list(&["alice@example.com"]),
            groups: list(&["admins"]),
            subjects: list(&["42"]),
            ..AllowList::default()
        };
        assert!(by_email(&allow, "Alice@example.com") && !by_email(&allow, "bob@example.com"));
        let groups = list(&["users", "admins"]);
        let other_groups = list(&["Admins"]);
        let in_groups = |groups| AllowListSubject { groups, ..unlisted };
        assert!(contains(&allow, in_groups(&groups)) && !contains(&allow, in_groups(&other_groups)) && !contains(&allow, unlisted));
        let with_id = |id| AllowListSubject { id, ..unlisted };
        assert!(contains(&allow, with_id("42")) && !contains(&allow, with_id("4")));
    }
}
