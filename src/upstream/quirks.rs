//! In which ways real upstreams depart from the RFCs: data only, each with where it was seen.
//!
//! Every field is honoured by one pure function, and a well-behaved upstream is still held to the standard.

use crate::oauth::metadata::Waived;

/// When `offline_access` is asked for: it is what brings a refresh token at OpenID providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offline {
    /// When the server lists it (MCP, "Refresh Tokens").
    IfListed,
    /// Also when it does not.
    Always,
    /// Not even then: it is an error there.
    Never,
}

/// How to treat one kind of upstream.
#[derive(Debug, PartialEq, Eq)]
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
    /// What goes with every authorization request beyond the standard.
    pub extra_authorize: &'static [(&'static str, &'static str)],
    /// When `offline_access` is asked for.
    pub offline_access: Offline,
    /// The granted scope is repeated at refresh; without it the new token would have less.
    pub scope_on_refresh: bool,
    /// The name of the scope parameter of the authorization request.
    pub scope_parameter: &'static str,
    /// What stands between scopes in the authorization request.
    pub scope_separator: &'static str,
    /// Endpoints that are known, for when there is no metadata.
    pub endpoints: Option<Known>,
}

/// Endpoints that an upstream documents for people instead of in metadata.
#[derive(Debug, PartialEq, Eq)]
pub struct Known {
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
    pub fn waived(&self) -> Waived {
        Waived {
            pkce: !self.require_pkce_metadata,
            root_slash: self.waive_root_slash,
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
    extra_authorize: &[],
    offline_access: Offline::IfListed,
    scope_on_refresh: false,
    scope_parameter: "scope",
    scope_separator: " ",
    endpoints: None,
};

/// GitHub, OAuth Apps and GitHub Apps. `resource` is ignored there, so that MCP's rule is kept. Its documentation names
/// only `client_secret` in the body, and its metadata, where there is any, no method at all.
/// Seen: obot-platform/mcp-oauth-proxy#26, anthropics/claude-code#3433 (asks J3).
pub static GITHUB: Profile = Profile {
    name: "github",
    hosts: &["api.githubcopilot.com", "github.com"],
    require_pkce_metadata: false,
    endpoints: Some(Known {
        issuer: "https://github.com/login/oauth",
        authorize: "https://github.com/login/oauth/authorize",
        token: "https://github.com/login/oauth/access_token",
        revoke: None,
        auth_methods: &["client_secret_post"],
    }),
    ..STRICT
};

/// Microsoft Entra. Refuses `resource` beside v2 scopes (AADSTS9010010), lists no PKCE methods, gives no refresh token
/// without `offline_access`, narrows at a refresh without `scope`.
/// Seen: agentgateway#2408, PrefectHQ/fastmcp#3001, microsoft/vscode#321249, stacklok/toolhive#4428 (asks J1, B7).
pub static ENTRA: Profile = Profile {
    name: "entra",
    hosts: &[
        "login.microsoftonline.com",
        "login.microsoftonline.us",
        "login.partner.microsoftonline.cn",
    ],
    send_resource: false,
    require_pkce_metadata: false,
    offline_access: Offline::Always,
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
    offline_access: Offline::Never,
    ..STRICT
};

/// Slack. User scopes have a parameter of their own, and commas between. Tokens may come under `authed_user`, errors
/// with a 200; `oauth::answer` reads both. By name only, as `mcp.slack.com` signs in the standard way.
/// Seen: stacklok/toolhive#4712 and #5222 (asks J4).
pub static SLACK: Profile = Profile {
    name: "slack",
    hosts: &[],
    scope_parameter: "user_scope",
    scope_separator: ",",
    require_pkce_metadata: false,
    ..STRICT
};

/// Atlassian's own authorization server (not that of its MCP server, which is standard). `resource` is refused at the
/// token endpoint (`invalid_target`), `audience` is wanted instead. Seen: sooperset/mcp-atlassian#1137 (asks J5).
pub static ATLASSIAN: Profile = Profile {
    name: "atlassian",
    hosts: &["auth.atlassian.com"],
    send_resource: false,
    require_pkce_metadata: false,
    extra_authorize: &[("audience", "api.atlassian.com"), ("prompt", "consent")],
    offline_access: Offline::Always,
    ..STRICT
};

/// Auth0. Ignores `resource`, yet hands it on to a federated Entra, which refuses it; its `audience` belongs in the
/// authorization endpoint's query. Issuers end in a slash. Seen: anthropics/claude-code#52871 (asks J10).
pub static AUTH0: Profile = Profile {
    name: "auth0",
    hosts: &[".auth0.com"],
    send_resource: false,
    waive_root_slash: true,
    ..STRICT
};

/// All of them, for [`for_host`] and [`by_name`].
static ALL: [&Profile; 7] = [&STANDARD, &GITHUB, &ENTRA, &GOOGLE, &SLACK, &ATLASSIAN, &AUTH0];

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
}
