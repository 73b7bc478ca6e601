//! Known deviations of real upstreams from the RFCs: data only, with public sources. One pure
//! function applies each field. An upstream without deviations must follow the standard.

use crate::oauth::metadata::{MetadataWaivers, Purpose};

/// When to request `offline_access`, for which OpenID providers issue a refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfflineAccess {
    /// If the server lists it (MCP, "Refresh Tokens").
    IfListed,
    /// Always, even if the server does not list it.
    Always,
    /// Never: the server refuses it.
    Never,
}

/// How to treat one kind of upstream: its deviations from the standard.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each quirk is independent of the others")]
pub struct Profile {
    /// Its name in the configuration, `profile = "…"`.
    pub name: &'static str,
    /// Hosts of the MCP server or the issuer that select it. `.x` matches every host below `x`.
    pub hosts: &'static [&'static str],
    /// Whether authorization and token requests contain `resource` (RFC 8707), as MCP demands.
    pub send_resource: bool,
    /// Whether metadata must list S256, as MCP demands. If not, requests use PKCE anyway.
    pub require_pkce_metadata: bool,
    /// Whether a slash at the end of an issuer without a path is ignored.
    pub waive_root_slash: bool,
    /// Values that its metadata may have as `issuer` instead of the expected one, byte for byte.
    pub other_issuers: &'static [&'static str],
    /// Additional parameters of every authorization request.
    pub extra_authorize: &'static [(&'static str, &'static str)],
    /// When to request `offline_access`.
    pub offline_access: OfflineAccess,
    /// Whether a refresh repeats the granted scope; without it the new token gets fewer scopes.
    pub scope_on_refresh: bool,
    /// The name of the scope parameter in the authorization request.
    pub scope_parameter: &'static str,
    /// The separator of the scopes in the authorization request.
    pub scope_separator: &'static str,
    /// Known endpoints, for an upstream without metadata.
    pub endpoints: Option<KnownEndpoints>,
    /// Whether its access tokens live ten minutes or less by default.
    pub has_short_tokens: bool,
}

/// Endpoints that an upstream documents for developers instead of in metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownEndpoints {
    /// The issuer.
    pub issuer: &'static str,
    /// The authorization endpoint.
    pub authorize: &'static str,
    /// The token endpoint.
    pub token: &'static str,
    /// The revocation endpoint (RFC 7009).
    pub revoke: Option<&'static str>,
    /// Its `token_endpoint_auth_methods_supported` (RFC 8414 §2).
    pub auth_methods: &'static [&'static str],
}

impl Profile {
    /// The checks of the authorization server's metadata that are waived.
    pub fn metadata_waivers(&self) -> MetadataWaivers {
        MetadataWaivers {
            pkce: !self.require_pkce_metadata,
            root_slash: self.waive_root_slash,
            issuers: self.other_issuers,
            purpose: Purpose::UserSignIn,
            plain_http: false,
        }
    }
}

/// An upstream that follows the RFCs and MCP.
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
    has_short_tokens: false,
};

/// GitHub, OAuth Apps and GitHub Apps. Their tokens differ (without expiry, or 8 hours and
/// rotating), which the token responses show. GitHub ignores `resource`, so it is sent as MCP
/// demands. Its documentation names only `client_secret` in the body; its metadata, if any, names
/// no method. Seen: obot-platform/mcp-oauth-proxy#26, anthropics/claude-code#3433.
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

/// Microsoft Entra. It refuses `resource` with v2 scopes (AADSTS9010010) and lists no PKCE methods.
/// It issues a refresh token only for `offline_access`. A refresh without `scope` narrows the
/// scopes. The metadata of `common` and `organizations` has a template as issuer. Seen:
/// agentgateway#2408, PrefectHQ/fastmcp#3001, microsoft/vscode#321249, stacklok/toolhive#4428,
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

/// Google. It issues a refresh token only with `access_type=offline`, and a second one only with
/// `prompt=consent`. It refuses `offline_access`. MCP servers list its issuer with a slash. Seen:
/// stacklok/toolhive#4862 and #5132, IBM/mcp-context-forge#4044, github/copilot-cli#4606.
pub static GOOGLE: Profile = Profile {
    name: "google",
    hosts: &["accounts.google.com"],
    waive_root_slash: true,
    extra_authorize: &[("access_type", "offline"), ("prompt", "consent")],
    offline_access: OfflineAccess::Never,
    ..STRICT
};

/// Slack's Web API (`oauth/v2`), not its MCP server; by name only. User scopes have their own
/// parameter, and commas between them. `oauth::token_response` reads tokens under `authed_user` and
/// errors with status 200. Seen: stacklok/toolhive#4712 and #5222.
pub static SLACK: Profile = Profile {
    name: "slack",
    hosts: &[],
    scope_parameter: "user_scope",
    scope_separator: ",",
    require_pkce_metadata: false,
    ..STRICT
};

/// Slack's MCP server. Its login is standard, but its metadata named the issuer
/// `https://slack.com`. It issued one-hour tokens without a refresh token, so users sign in again.
/// Seen: slackapi/slack-skills-plugin#7 and #2, microsoft/vscode#293533.
pub static SLACK_MCP: Profile = Profile {
    name: "slack-mcp",
    hosts: &["mcp.slack.com"],
    other_issuers: &["https://slack.com"],
    ..STRICT
};

/// Atlassian's API authorization server, for a third-party MCP server. Its token endpoint refuses
/// `resource` (`invalid_target`); it needs `audience` instead. Seen: sooperset/mcp-atlassian#1137.
pub static ATLASSIAN: Profile = Profile {
    name: "atlassian",
    hosts: &["auth.atlassian.com"],
    send_resource: false,
    require_pkce_metadata: false,
    extra_authorize: &[("audience", "api.atlassian.com"), ("prompt", "consent")],
    offline_access: OfflineAccess::Always,
    ..STRICT
};

/// Atlassian's MCP server. Its metadata has another issuer than its URL says: the host behind it
/// for `/v1/mcp`, the issuer without its path for `/v1/mcp/authv2`. Seen:
/// atlassian/atlassian-mcp-server#205 and #148, anomalyco/opencode#39332.
pub static ATLASSIAN_MCP: Profile = Profile {
    name: "atlassian-mcp",
    hosts: &["mcp.atlassian.com"],
    other_issuers: &["https://cf.mcp.atlassian.com", "https://auth.atlassian.com"],
    ..STRICT
};

/// Auth0. It ignores `resource`, but passes it to a federated Entra, which refuses it. The operator
/// sets `audience` (`extra_authorize`). A tenant with the "Resource Parameter Compatibility
/// Profile" uses `standard`. Issuers end in a slash. Seen: anthropics/claude-code#52871.
pub static AUTH0: Profile = Profile {
    name: "auth0",
    hosts: &[".auth0.com"],
    send_resource: false,
    waive_root_slash: true,
    ..STRICT
};

/// Amazon Cognito. It supports S256, but lists no PKCE methods. It refuses `offline_access` and
/// issues refresh tokens without it. It does not rotate them (RFC 6749 §6 allows this). Issuers at
/// `cognito-idp.<region>.amazonaws.com` need it by name: most of that domain belongs to others.
/// Seen: anthropics/claude-code#13275, mintel/dex-k8s-authenticator#168, PrefectHQ/fastmcp#3406.
pub static COGNITO: Profile = Profile {
    name: "cognito",
    hosts: &[".amazoncognito.com"],
    require_pkce_metadata: false,
    offline_access: OfflineAccess::Never,
    ..STRICT
};

/// Notion's MCP server follows the standard strictly: a reused refresh token ends the grant. The
/// gateway prevents this for all upstreams, by one refresh of a grant at a time. Seen:
/// makenotion/notion-cookbook#1, openclaw/mcporter#226.
pub static NOTION: Profile = standard_profile("notion", &["mcp.notion.com"]);

/// Linear's MCP server, like [`NOTION`]. Seen: anthropics/claude-code#91641.
pub static LINEAR: Profile = standard_profile("linear", &["mcp.linear.app"]);

/// Keycloak follows the standard. Its offline tokens have `refresh_expires_in: 0`, which means "no
/// end" for all upstreams. Its access tokens live five minutes by default. By name only: it has no
/// common host. Seen: PrefectHQ/fastmcp#3514.
pub static KEYCLOAK: Profile = Profile {
    has_short_tokens: true,
    ..standard_profile("keycloak", &[])
};

/// Okta follows the standard; no deviation is known.
pub static OKTA: Profile = standard_profile("okta", &[".okta.com", ".oktapreview.com", ".okta-emea.com"]);

/// A profile without deviations, which the operator may still name.
const fn standard_profile(name: &'static str, hosts: &'static [&'static str]) -> Profile {
    Profile { name, hosts, ..STRICT }
}

/// All profiles, for [`for_host`] and [`by_name`].
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

/// The profile of the upstream at `host`, or [`STANDARD`].
pub fn for_host(host: &str) -> &'static Profile {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let matches_host = |name: &&str| {
        if name.starts_with('.') {
            host.ends_with(name)
        } else {
            host == **name
        }
    };
    ALL.into_iter()
        .find(|profile| profile.hosts.iter().any(matches_host))
        .unwrap_or(&STANDARD)
}

/// The profile with this name in the configuration.
pub fn by_name(name: &str) -> Option<&'static Profile> {
    ALL.into_iter().find(|profile| profile.name == name)
}

/// The names of all profiles, for messages.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.into_iter().map(|profile| profile.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_matches_its_host_and_no_lookalike_host() {
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
    fn a_profile_without_quirks_equals_the_standard_profile() {
        for profile in [&NOTION, &LINEAR, &KEYCLOAK, &OKTA] {
            let unnamed = Profile {
                name: STANDARD.name,
                hosts: STANDARD.hosts,
                has_short_tokens: STANDARD.has_short_tokens,
                ..profile.clone()
            };
            assert_eq!(unnamed, STANDARD);
        }
        assert_eq!(STANDARD.metadata_waivers(), MetadataWaivers::default());
    }

    #[test]
    fn profile_hosts_and_profile_names_are_unique() {
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
    fn no_profile_overrides_a_reserved_authorization_parameter() {
        for profile in ALL {
            let parameters = profile.extra_authorize.iter().map(|(name, _)| *name);
            assert_eq!(
                parameters
                    .filter(|name| crate::upstream::token_endpoint::is_reserved_param(name))
                    .count(),
                0,
                "{}",
                profile.name
            );
        }
    }
}
