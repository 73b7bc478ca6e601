//! In which ways real upstreams depart from the RFCs: data only, each with where it was seen.
//!
//! Every field is honoured by one pure function, and a well-behaved upstream is still held to the standard.

use crate::oauth::metadata::MetadataWaivers;

/// When `offline_access` is asked for: it is what brings a refresh token at OpenID providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfflineAccess {
    /// When the server lists it (MCP, "Refresh Tokens").
    IfListed,
    /// Also when it does not.
    Always,
    /// Not even then: it is an error there.
    Never,
}

/// How to treat one kind of upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a quirk is there or not, and none follows from another")]
pub struct Profile {
    /// What the operator calls it in `profile = "…"`.
    pub name: &'static str,
    /// The hosts that it is known by: of the MCP server or of the issuer; `.x` stands for every host below `x`.
    pub hosts: &'static [&'static str],
    /// `resource` (RFC 8707) goes with authorize, token and refresh, as MCP demands.
    pub send_resource: bool,
    /// Metadata must promise S256 (MCP). Without it, PKCE is sent all the same.
    pub require_pkce_metadata: bool,
    /// An issuer without a path is the same with and without a slash at its end.
    pub waive_root_slash: bool,
    /// What its metadata may give as `issuer` instead of the issuer that was asked for, byte for byte.
    pub other_issuers: &'static [&'static str],
    /// What goes with every authorization request beyond the standard.
    pub extra_authorize: &'static [(&'static str, &'static str)],
    /// When `offline_access` is asked for.
    pub offline_access: OfflineAccess,
    /// The granted scope is repeated at refresh; without it the new token would have less.
    pub scope_on_refresh: bool,
    /// The name of the scope parameter of the authorization request.
    pub scope_parameter: &'static str,
    /// What stands between scopes in the authorization request.
    pub scope_separator: &'static str,
    /// Endpoints that are known, for when there is no metadata.
    pub endpoints: Option<KnownEndpoints>,
}

/// Endpoints that an upstream documents for people instead of in metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownEndpoints {
    /// Its issuer.
    pub issuer: &'static str,
    /// Where the browser goes.
    pub authorize: &'static str,
    /// Where codes and refresh tokens go.
    pub token: &'static str,
    /// Where tokens are given back (RFC 7009).
    pub revoke: Option<&'static str>,
    /// How clients authenticate there, as in RFC 8414 `token_endpoint_auth_methods_supported`.
    pub auth_methods: &'static [&'static str],
}

impl Profile {
    /// What of an authorization server's metadata is waived.
    pub fn waived(&self) -> MetadataWaivers {
        MetadataWaivers {
            pkce: !self.require_pkce_metadata,
            root_slash: self.waive_root_slash,
            issuers: self.other_issuers,
        }
    }
}

/// An upstream that keeps to the RFCs and to MCP.
pub static STANDARD: Profile = STRICT;

pub(super) const STRICT: Profile = Profile {
    name: "standard",
    hosts: &[],
    send_resource: true,
    require_pkce_metadata: true,
    waive_root_slash: false,
    other_issuers: &[],
    extra_authorize: &[],
    offline_access: OfflineAccess::IfListed,
    scope_on_refresh: false,
    scope_parameter: "scope",
    scope_separator: " ",
    endpoints: None,
};

/// GitHub, OAuth Apps and GitHub Apps: what their tokens differ in (for ever, or 8 hours and rotating) is in the answers.
/// `resource` is ignored there, so that MCP's rule is kept. Its documentation names only `client_secret` in the body, and
/// its metadata, where there is any, no method at all.
/// Seen: obot-platform/mcp-oauth-proxy#26, anthropics/claude-code#3433 (asks J3).
pub static GITHUB: Profile = Profile {
    name: "github",
    hosts: &["api.githubcopilot.com", "github.com"],
    require_pkce_metadata: false,
    endpoints: Some(KnownEndpoints {
        issuer: "https://github.com/login/oauth",
        authorize: "https://github.com/login/oauth/authorize",
        token: "https://github.com/login/oauth/access_token",
        revoke: None,
        auth_methods: &["client_secret_post"],
    }),
    ..STRICT
};

/// Microsoft Entra. Refuses `resource` beside v2 scopes (AADSTS9010010), lists no PKCE methods, gives no refresh token
/// without `offline_access`, narrows at a refresh without `scope`. For `common` and `organizations` its metadata gives a
/// template as issuer.
/// Seen: agentgateway#2408, PrefectHQ/fastmcp#3001, microsoft/vscode#321249, stacklok/toolhive#4428 (asks J1, B7),
/// microsoft/azure-devops-mcp#1601.
pub static ENTRA: Profile = Profile {
    name: "entra",
    hosts: &[
        "login.microsoftonline.com",
        "login.microsoftonline.us",
        "login.partner.microsoftonline.cn",
    ],
    send_resource: false,
    require_pkce_metadata: false,
    other_issuers: &["https://login.microsoftonline.com/{tenantid}/v2.0"],
    offline_access: OfflineAccess::Always,
    scope_on_refresh: true,
    ..STRICT
};

/// Google. A refresh token comes only with `access_type=offline`, and again only with `prompt=consent`; `offline_access`
/// is refused; resource metadata of others lists its issuer with a slash.
/// Seen: stacklok/toolhive#4862 and #5132, IBM/mcp-context-forge#4044, github/copilot-cli#4606 (asks J2).
pub static GOOGLE: Profile = Profile {
    name: "google",
    hosts: &["accounts.google.com"],
    waive_root_slash: true,
    extra_authorize: &[("access_type", "offline"), ("prompt", "consent")],
    offline_access: OfflineAccess::Never,
    ..STRICT
};

/// Slack's Web API (`oauth/v2`), not its MCP server. User scopes have a parameter of their own, and commas between. Tokens
/// may come under `authed_user`, errors with a 200; `oauth::answer` reads both. By name only.
/// Seen: stacklok/toolhive#4712 and #5222 (asks J4).
pub static SLACK: Profile = Profile {
    name: "slack",
    hosts: &[],
    scope_parameter: "user_scope",
    scope_separator: ",",
    require_pkce_metadata: false,
    ..STRICT
};

/// Slack's own MCP server. It signs in the standard way, but its metadata was seen to call itself `https://slack.com`; and
/// it gave an hour without a refresh token, after which its users sign in again.
/// Seen: slackapi/slack-skills-plugin#7 and #2, microsoft/vscode#293533 (asks J4).
pub static SLACK_MCP: Profile = Profile {
    name: "slack-mcp",
    hosts: &["mcp.slack.com"],
    other_issuers: &["https://slack.com"],
    ..STRICT
};

/// Atlassian's authorization server of its APIs, for somebody else's MCP server. `resource` is refused at the token
/// endpoint (`invalid_target`), `audience` is wanted instead. Seen: sooperset/mcp-atlassian#1137 (asks J5).
pub static ATLASSIAN: Profile = Profile {
    name: "atlassian",
    hosts: &["auth.atlassian.com"],
    send_resource: false,
    require_pkce_metadata: false,
    extra_authorize: &[("audience", "api.atlassian.com"), ("prompt", "consent")],
    offline_access: OfflineAccess::Always,
    ..STRICT
};

/// Atlassian's own MCP server. Standard, but for its metadata, which gives another issuer than the one it lies at: the host
/// behind it for `/v1/mcp`, the issuer without its path for `/v1/mcp/authv2`.
/// Seen: atlassian/atlassian-mcp-server#205 and #148, anomalyco/opencode#39332.
pub static ATLASSIAN_MCP: Profile = Profile {
    name: "atlassian-mcp",
    hosts: &["mcp.atlassian.com"],
    other_issuers: &["https://cf.mcp.atlassian.com", "https://auth.atlassian.com"],
    ..STRICT
};

/// Auth0. Ignores `resource`, yet hands it on to a federated Entra, which refuses it. Its `audience` is the operator's to
/// say (`extra_authorize`); a tenant with its "Resource Parameter Compatibility Profile" on is `standard`. Issuers end in
/// a slash. Seen: anthropics/claude-code#52871 (asks J10).
pub static AUTH0: Profile = Profile {
    name: "auth0",
    hosts: &[".auth0.com"],
    send_resource: false,
    waive_root_slash: true,
    ..STRICT
};

/// Amazon Cognito. Lists no PKCE methods though it knows S256, refuses `offline_access`, and gives refresh tokens without
/// it. That it does not rotate them is the standard's "keep the old one". By name: its issuers are at
/// `cognito-idp.<region>.amazonaws.com`, and most of that domain is others'.
/// Seen: anthropics/claude-code#13275, mintel/dex-k8s-authenticator#168, PrefectHQ/fastmcp#3406 (asks J11).
pub static COGNITO: Profile = Profile {
    name: "cognito",
    hosts: &[".amazoncognito.com"],
    require_pkce_metadata: false,
    offline_access: OfflineAccess::Never,
    ..STRICT
};

/// Notion's MCP server keeps to the standard, strictly: a rotated refresh token that comes twice ends the grant, which one
/// refresh at a time answers for everybody. Seen: makenotion/notion-cookbook#1, openclaw/mcporter#226 (asks J6).
pub static NOTION: Profile = standard_profile("notion", &["mcp.notion.com"]);

/// Linear's MCP server: as [`NOTION`]. Seen: anthropics/claude-code#91641 (asks J8).
pub static LINEAR: Profile = standard_profile("linear", &["mcp.linear.app"]);

/// Keycloak keeps to the standard here; `refresh_expires_in: 0` of its offline tokens is read as "no end" of everybody.
/// By name only, as everybody has their own. Seen: PrefectHQ/fastmcp#3514 (asks J9).
pub static KEYCLOAK: Profile = standard_profile("keycloak", &[]);

/// Okta keeps to the standard. Nothing odd was seen.
pub static OKTA: Profile = standard_profile("okta", &[".okta.com", ".oktapreview.com", ".okta-emea.com"]);

/// Somebody looked, and found nothing that needs a field; the operator may still name what is there.
const fn standard_profile(name: &'static str, hosts: &'static [&'static str]) -> Profile {
    Profile { name, hosts, ..STRICT }
}

/// All of them, for [`for_host`] and [`by_name`].
static ALL: [&Profile; 14] = [
    &STANDARD,
    &GITHUB,
    &ENTRA,
    &GOOGLE,
    &SLACK,
    &SLACK_MCP,
    &ATLASSIAN,
    &ATLASSIAN_MCP,
    &AUTH0,
    &COGNITO,
    &NOTION,
    &LINEAR,
    &KEYCLOAK,
    &OKTA,
];

/// The profile of the upstream at `host`; [`STANDARD`] when nothing is known of it.
pub fn for_host(host: &str) -> &'static Profile {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let known = |name: &&str| {
        if name.starts_with('.') {
            host.ends_with(name)
        } else {
            host == **name
        }
    };
    ALL.into_iter().find(|profile| profile.hosts.iter().any(known)).unwrap_or(&STANDARD)
}

/// The profile that the operator names.
pub fn by_name(name: &str) -> Option<&'static Profile> {
    ALL.into_iter().find(|profile| profile.name == name)
}

/// The names that [`by_name`] knows, for messages.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.into_iter().map(|profile| profile.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_found_by_its_host_and_by_no_host_that_only_looks_like_it() {
        for (host, name) in [
            ("api.githubcopilot.com", "github"),
            ("GitHub.com.", "github"),
            ("login.microsoftonline.com", "entra"),
            ("tenant.eu.auth0.com", "auth0"),
            ("mcp.slack.com", "slack-mcp"),
            ("slack.com", "standard"),
            ("mcp.atlassian.com", "atlassian-mcp"),
            ("auth.atlassian.com", "atlassian"),
            ("pool.auth.eu-west-1.amazoncognito.com", "cognito"),
            ("cognito-idp.eu-west-1.amazonaws.com", "standard"),
            ("mcp.notion.com", "notion"),
            ("mcp.linear.app", "linear"),
            ("dev-1.okta.com", "okta"),
            ("okta.com.evil.example", "standard"),
            ("github.com.evil.example", "standard"),
            ("notgithub.com", "standard"),
            ("evilauth0.com", "standard"),
            ("auth0.com", "standard"),
            ("", "standard"),
        ] {
            assert_eq!(for_host(host).name, name, "{host}");
        }
    }

    #[test]
    fn every_profile_is_found_by_its_name() {
        for name in names() {
            assert_eq!(by_name(name).unwrap().name, name);
        }
        assert!(by_name("gihtub").is_none());
    }

    #[test]
    fn a_profile_that_is_only_a_name_changes_nothing() {
        for profile in [&NOTION, &LINEAR, &KEYCLOAK, &OKTA] {
            let unnamed = Profile {
                name: STANDARD.name,
                hosts: STANDARD.hosts,
                ..profile.clone()
            };
            assert_eq!(unnamed, STANDARD);
        }
        assert_eq!(STANDARD.waived(), MetadataWaivers::default());
    }

    #[test]
    fn no_host_has_two_profiles_and_no_name_is_there_twice() {
        let hosts: Vec<&str> = ALL.into_iter().flat_map(|profile| profile.hosts).copied().collect();
        let names: Vec<&str> = names().collect();
        for list in [hosts, names] {
            let mut distinct = list.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), list.len());
        }
    }

    #[test]
    fn no_profile_says_what_is_ours_to_say() {
        for profile in ALL {
            let says = profile.extra_authorize.iter().map(|(name, _)| *name);
            assert_eq!(
                says.filter(|name| crate::upstream::token_endpoint::is_reserved_param(name)).count(),
                0,
                "{}",
                profile.name
            );
        }
    }
}
