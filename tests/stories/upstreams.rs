//! Parses every recorded message in `tests/upstreams` and checks its meaning.

use std::collections::BTreeSet;
use std::path::Path;

use mcp_oauth_gateway::base::time::UnixTime;
use mcp_oauth_gateway::base::url::ExactUrl;
use mcp_oauth_gateway::oauth::metadata::{AuthorizationServer, ProtectedResource};
use mcp_oauth_gateway::oauth::token_response::{TokenResponseError, UpstreamTokens, parse_token_response};
use mcp_oauth_gateway::upstream::quirks;

/// The time of the requests.
const SENT: UnixTime = UnixTime(1_000);

/// The expected meaning of a message.
enum Means {
    /// Tokens: lifetimes of access and refresh token, and the granted scope.
    Tokens(Option<u64>, Refresh, Option<&'static str>),
    /// The grant has ended.
    GrantOver,
    /// The gateway's client id or secret is wrong.
    WrongClient,
    /// Another refusal, with this code. It ends no grant.
    Refused(&'static str),
    /// A temporary failure.
    NotNow,
    /// Not an OAuth response.
    Nothing,
    /// Authorization server metadata: issuer, profile, conformance.
    Server(&'static str, &'static str, Standard),
    /// Metadata of this MCP server.
    Resource(&'static str),
}

/// The expected refresh token.
enum Refresh {
    None,
    Endless,
    For(u64),
}

/// Whether the metadata is accepted without a profile.
#[derive(PartialEq)]
enum Standard {
    Keeps,
    Departs,
}

use Means::{GrantOver, NotNow, Nothing, Refused, Resource, Server, WrongClient};
use Refresh::{Endless, For, None as NoRefresh};
use Standard::{Departs, Keeps};

const DRIVE: Option<&str> = Some("https://www.googleapis.com/auth/drive.readonly");
const TENANT: &str = "https://login.microsoftonline.com/11111111-2222-4333-8444-555555555555/v2.0";
const REALM: &str = "https://sso.example.com/realms/made-up";
const POOL: &str = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_MadeUp";

#[rustfmt::skip]
const RECORDED: &[(&str, Means)] = &[
    ("atlassian/200-code.json", Means::Tokens(Some(3_600), Endless, Some("read:jira-work offline_access"))),
    ("atlassian/200-metadata-authv2.json", Server("https://auth.atlassian.com/made-up-tenant", "atlassian-mcp", Departs)),
    ("atlassian/200-metadata-mcp.json", Server("https://mcp.atlassian.com", "atlassian-mcp", Departs)),
    ("atlassian/200-resource-authv2.json", Resource("https://mcp.atlassian.com/v1/mcp/authv2")),
    ("atlassian/400-target.json", Refused("invalid_target")),
    ("atlassian/401-client.json", Refused("access_denied")),
    ("atlassian/403-refresh.json", GrantOver),
    ("auth0/200-code.json", Means::Tokens(Some(86_400), Endless, Some("read:things offline_access"))),
    ("auth0/200-metadata.json", Server("https://made-up.eu.auth0.com", "auth0", Departs)),
    ("auth0/200-refresh.json", Means::Tokens(Some(86_400), Endless, Some("read:things offline_access"))),
    ("auth0/401-client.json", Refused("access_denied")),
    ("auth0/403-refresh.json", GrantOver),
    ("cognito/200-code.json", Means::Tokens(Some(3_600), Endless, None)),
    ("cognito/200-metadata.json", Server(POOL, "cognito", Departs)),
    ("cognito/200-refresh.json", Means::Tokens(Some(3_600), NoRefresh, None)),
    ("cognito/400-refresh.json", GrantOver),
    ("entra/200-code.json", Means::Tokens(Some(3_599), Endless, Some("api://made-up/Files.Read"))),
    ("entra/200-metadata-common.json", Server("https://login.microsoftonline.com/common/v2.0", "entra", Departs)),
    ("entra/200-metadata.json", Server(TENANT, "entra", Departs)),
    ("entra/200-refresh.json", Means::Tokens(Some(4_321), Endless, Some("api://made-up/Files.Read"))),
    ("entra/400-code.json", GrantOver),
    ("entra/400-refresh.json", GrantOver),
    ("entra/400-target.json", Refused("invalid_target")),
    ("entra/400-scope.json", Refused("invalid_scope")),
    ("entra/401-client.json", WrongClient),
    ("firewall/403-api-gateway.json", Nothing),
    ("firewall/403-challenge.html", Nothing),
    ("firewall/403-nginx.html", Nothing),
    ("github/200-bad-client.json", WrongClient),
    ("github/200-bad-code.txt", GrantOver),
    ("github/200-bad-refresh.json", GrantOver),
    ("github/200-github-app.json", Means::Tokens(Some(28_800), For(15_897_600), None)),
    ("github/200-github-app.txt", Means::Tokens(Some(28_800), For(15_897_600), None)),
    ("github/200-metadata.json", Server("https://github.com/login/oauth", "github", Keeps)),
    ("github/200-oauth-app.json", Means::Tokens(None, NoRefresh, Some("repo read:user"))),
    ("github/200-oauth-app.txt", Means::Tokens(None, NoRefresh, Some("repo read:user"))),
    ("github/200-resource.json", Resource("https://api.githubcopilot.com/mcp/")),
    ("github/200-wrong-endpoint.txt", Nothing),
    ("google/200-first-consent.json", Means::Tokens(Some(3_599), For(604_799), DRIVE)),
    ("google/200-metadata.json", Server("https://accounts.google.com/", "google", Departs)),
    ("google/200-refresh.json", Means::Tokens(Some(3_599), NoRefresh, DRIVE)),
    ("google/200-second-consent.json", Means::Tokens(Some(3_599), NoRefresh, Some("https://www.googleapis.com/auth/drive.readonly openid"))),
    ("google/400-code.json", GrantOver),
    ("google/400-redirect.json", Refused("redirect_uri_mismatch")),
    ("google/400-refresh.json", GrantOver),
    ("google/401-client.json", WrongClient),
    ("keycloak/200-metadata.json", Server(REALM, "keycloak", Keeps)),
    ("keycloak/200-offline.json", Means::Tokens(Some(300), Endless, Some("openid profile offline_access"))),
    ("keycloak/200-online.json", Means::Tokens(Some(300), For(1_800), Some("openid profile"))),
    ("keycloak/400-refresh.json", GrantOver),
    ("keycloak/400-reused.json", GrantOver),
    ("keycloak/401-client.json", WrongClient),
    ("linear/200-code.json", Means::Tokens(Some(3_600), Endless, Some("read write"))),
    ("linear/200-metadata.json", Server("https://mcp.linear.app", "linear", Keeps)),
    ("linear/400-refresh.json", GrantOver),
    ("notion/200-code.json", Means::Tokens(Some(3_600), Endless, None)),
    ("notion/200-metadata.json", Server("https://mcp.notion.com", "notion", Keeps)),
    ("notion/200-refresh.json", Means::Tokens(Some(3_600), Endless, None)),
    ("notion/400-refresh.json", GrantOver),
    ("notion/400-replayed.json", GrantOver),
    ("notion/401-client.json", WrongClient),
    ("okta/200-code.json", Means::Tokens(Some(3_600), Endless, Some("offline_access things.read"))),
    ("okta/200-metadata.json", Server("https://made-up.okta.com/oauth2/default", "okta", Keeps)),
    ("okta/400-refresh.json", GrantOver),
    ("okta/401-client.json", WrongClient),
    ("slack/200-bad-client.json", WrongClient),
    ("slack/200-bad-code.json", GrantOver),
    ("slack/200-bad-refresh.json", GrantOver),
    ("slack/200-bot.json", Means::Tokens(None, NoRefresh, Some("commands incoming-webhook"))),
    ("slack/200-internal.json", NotNow),
    ("slack/200-mcp.json", Means::Tokens(Some(3_599), NoRefresh, Some("search:read channels:history"))),
    ("slack/200-metadata-mcp-early.json", Server("https://mcp.slack.com", "slack-mcp", Departs)),
    ("slack/200-metadata-mcp.json", Server("https://mcp.slack.com", "slack-mcp", Keeps)),
    ("slack/200-refresh.json", Means::Tokens(Some(43_200), Endless, Some("search:read"))),
    ("slack/200-user.json", Means::Tokens(None, NoRefresh, Some("search:read channels:history"))),
];

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/upstreams"))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn every_recorded_message_has_a_test_and_a_readme_entry() {
    let providers: Vec<String> = names(folder()).into_iter().filter(|name| name != "README.md").collect();
    let there: BTreeSet<String> = providers
        .iter()
        .flat_map(|provider| {
            names(&folder().join(provider))
                .into_iter()
                .map(move |name| format!("{provider}/{name}"))
        })
        .collect();
    let read: BTreeSet<String> = RECORDED.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(there, read);
    assert_eq!(read.len(), RECORDED.len(), "twice in the table");
    let readme = std::fs::read_to_string(folder().join("README.md")).unwrap();
    for provider in providers {
        assert!(readme.contains(&format!("\n| {provider} |")), "{provider}");
    }
}

#[test]
fn every_recorded_message_is_parsed_with_its_providers_meaning() {
    for (path, means) in RECORDED {
        let body = std::fs::read(folder().join(path)).unwrap();
        let status = path.split_once('/').unwrap().1[..3].parse().unwrap();
        let answer = || parse_token_response(status, None, &body, SENT);
        match means {
            Means::Tokens(life, refresh, scope) => granted(path, &answer().unwrap(), *life, refresh, *scope),
            GrantOver | WrongClient | Refused(_) => refused(path, answer(), means),
            NotNow => assert!(matches!(answer(), Err(TokenResponseError::Temporary(_))), "{path}"),
            Nothing => assert!(matches!(answer(), Err(TokenResponseError::Unreadable(_))), "{path}"),
            Server(issuer, profile, standard) => server(path, &body, issuer, profile, standard),
            Resource(mcp) => {
                let read = ProtectedResource::parse(&body, &ExactUrl::parse(mcp).unwrap(), None);
                assert_eq!(read.unwrap().resource, *mcp, "{path}");
            }
        }
    }
}

fn granted(path: &str, tokens: &UpstreamTokens, life: Option<u64>, refresh: &Refresh, scope: Option<&str>) {
    assert_eq!(tokens.expires, life.map(|life| SENT.plus_seconds(life)), "{path}");
    assert_eq!(tokens.scope.as_deref(), scope, "{path}");
    let (came, ends) = match refresh {
        NoRefresh => (false, None),
        Endless => (true, None),
        For(life) => (true, Some(SENT.plus_seconds(*life))),
    };
    assert_eq!((tokens.refresh.is_some(), tokens.refresh_expires), (came, ends), "{path}");
}

fn refused(path: &str, answer: Result<UpstreamTokens, TokenResponseError>, means: &Means) {
    let Err(TokenResponseError::Refused(refusal)) = answer else {
        panic!("{path}: {answer:?}")
    };
    let (grant, client) = (matches!(means, GrantOver), matches!(means, WrongClient));
    assert_eq!((refusal.is_invalid_grant(), refusal.is_invalid_client()), (grant, client), "{path}");
    if let Refused(code) = means {
        assert_eq!(refusal.code, *code, "{path}");
    }
}

fn server(path: &str, body: &[u8], issuer: &str, profile: &str, standard: &Standard) {
    let issuer = ExactUrl::parse(issuer).unwrap();
    let read = |profile: &str| AuthorizationServer::parse(body, &issuer, quirks::by_name(profile).unwrap().metadata_waivers());
    assert!(read(profile).is_ok(), "{path}: {:?}", read(profile));
    assert_eq!(read("standard").is_ok(), *standard == Keeps, "{path}: {:?}", read("standard"));
}
