//! What the doctor says about each server.

use std::collections::BTreeSet;

use mcp_oauth_gateway::agent::clients;
use mcp_oauth_gateway::agent::clients::profile::ClientProfile;
use mcp_oauth_gateway::agent::doctor::report::{ClientResult, Outcome, Report};
use mcp_oauth_gateway::agent::doctor::rule::{self, Severity};
use mcp_oauth_gateway::agent::doctor::{self, Examination, Intent, RegistrationLimit};
use mcp_oauth_gateway::base::time::Clock;
use mcp_oauth_gateway::base::url::ExactUrl;
use mcp_oauth_gateway::net::http_client::HttpClient;
use mcp_oauth_gateway::net::tls::ClientTls;

use crate::broken::{BROKEN, Broken};
use crate::server::{Access, Kind, Running, USUAL};

fn all() -> Vec<&'static ClientProfile> {
    clients::all().collect()
}

/// Without TLS and its slow roots, except for the one server whose CA is unknown.
pub(crate) fn http() -> HttpClient {
    HttpClient::new(ClientTls::trusting(rustls::RootCertStore::empty()).unwrap())
}

/// Examines a server with all clients.
pub(crate) async fn examined(http: &HttpClient, url: &str, registration: RegistrationLimit, intent: Intent) -> Report {
    let (url, clients) = (ExactUrl::parse(url).unwrap(), all());
    let examination = Examination {
        url: &url,
        clients: &clients,
        registration,
        intent,
        is_own: false,
        callbacks: &[],
        now: Clock::System.now(),
    };
    doctor::examine(http, &examination).await
}

fn names(report: &Report) -> Vec<&'static str> {
    report.findings.iter().map(|finding| finding.rule.name).collect()
}

/// What is wrong with the doctor's report about a broken server; empty if nothing is.
async fn misjudged(broken: &Broken) -> Option<String> {
    let running = Running::start(broken.kind, broken.mutations, broken.with_tls);
    let http = match &running.ca {
        Some(ca) if broken.is_trusted => HttpClient::new(ClientTls::only(&ca.ca).unwrap()),
        Some(_) | None => http(),
    };
    let (url, clients) = (ExactUrl::parse(&format!("{}{}", running.base, broken.kind.mcp)).unwrap(), all());
    let callbacks = [format!("{}/callback", running.base)];
    let examination = Examination {
        url: &url,
        clients: &clients,
        registration: if broken.registers {
            RegistrationLimit::Each
        } else {
            RegistrationLimit::None
        },
        intent: if broken.wants_oauth { Intent::OAuth } else { Intent::Any },
        is_own: broken.is_own,
        callbacks: if broken.finding == "callback-dead" { &callbacks } else { &[] },
        now: Clock::System.now(),
    };
    let report = doctor::examine(&http, &examination).await;
    let found = names(&report);
    let is_named = found.contains(&broken.finding);
    let is_only = found.iter().all(|name| *name == broken.finding || broken.also.contains(name));
    let rule = rule::RULES.iter().find(|rule| rule.name == broken.finding).unwrap();
    let expected_code = match (broken.finding, rule.severity) {
        ("tls-failed", _) => 2,
        (_, Severity::Error) => 1,
        (_, Severity::Warning) => 0,
    };
    let has_code = report.exit_code() == expected_code || !broken.also.is_empty();
    (!is_named || !is_only || !has_code).then(|| {
        format!(
            "{}: {} expected, found {found:?}, exit {}\n",
            broken.name,
            broken.finding,
            report.exit_code()
        )
    })
}

#[tokio::test]
async fn each_broken_server_is_found_by_name_and_for_nothing_else() {
    let mut wrong = String::new();
    for broken in BROKEN {
        wrong.extend(misjudged(broken).await);
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Which clients stop at a broken server, by what their own code does.
const STOPPED: &[(&str, &[&str])] = &[
    ("an issuer with a slash", &["codex", "copilot-cli", "python-sdk", "fastmcp", "rmcp"]),
    (
        "the origin as resource",
        &["gemini-cli", "qwen-code", "claude-ai", "claude-desktop", "chatgpt"],
    ),
    ("another resource", &EVERY_BUT_VSCODE),
    // The others go on without the document, and take the server's origin for the issuer.
    ("a catch-all page", &["codex", "copilot-cli", "rmcp"]),
    ("scopes as one string", &["codex", "copilot-cli", "rmcp"]),
    ("no authorization server", &["codex", "copilot-cli", "rmcp"]),
    ("PKCE not listed", &EVERY_BUT_LENIENT),
    ("a login on another origin", &["codex"]),
    ("a firewall against Python", &["python-sdk", "fastmcp"]),
    ("no challenge", &[]),
    ("no HEAD", &[]),
    (
        "documents, but secrets only",
        &[
            "claude-code",
            "codex",
            "copilot-cli",
            "claude-ai",
            "claude-desktop",
            "chatgpt",
            "vscode",
        ],
    ),
];

const EVERY_BUT_VSCODE: [&str; 19] = [
    "claude-code",
    "codex",
    "gemini-cli",
    "opencode",
    "copilot-cli",
    "inspector",
    "mcp-remote",
    "mcp-remote-0.1",
    "cline",
    "qwen-code",
    "claude-ai",
    "claude-desktop",
    "chatgpt",
    "cursor",
    "windsurf",
    "typescript-sdk",
    "python-sdk",
    "fastmcp",
    "rmcp",
];

const EVERY_BUT_LENIENT: [&str; 15] = [
    "claude-code",
    "codex",
    "opencode",
    "copilot-cli",
    "inspector",
    "mcp-remote",
    "mcp-remote-0.1",
    "cline",
    "claude-ai",
    "claude-desktop",
    "chatgpt",
    "cursor",
    "windsurf",
    "typescript-sdk",
    "rmcp",
];

#[tokio::test]
async fn a_broken_server_stops_the_clients_whose_code_refuses_it_and_no_other() {
    for (name, expected) in STOPPED {
        let broken = BROKEN.iter().find(|broken| broken.name == *name).unwrap();
        let running = Running::start(broken.kind, broken.mutations, broken.with_tls);
        let report = examined(&http(), &format!("{}/mcp", running.base), RegistrationLimit::None, Intent::Any).await;
        let is_stopped = |result: &&ClientResult| matches!(result.outcome, Outcome::Refused(..));
        let stopped: Vec<_> = report.clients.iter().filter(is_stopped).map(|result| result.client).collect();
        assert_eq!(stopped, *expected, "{name}: {}", report.to_text());
    }
}

#[test]
fn each_finding_has_a_broken_server() {
    // A server that nobody can reach is tried below.
    let elsewhere = ["unreachable"];
    let found: BTreeSet<_> = BROKEN.iter().map(|broken| broken.finding).chain(elsewhere).collect();
    let all: BTreeSet<_> = rule::RULES.iter().map(|rule| rule.name).collect();
    assert_eq!(all.len(), rule::RULES.len(), "two findings have one name");
    assert_eq!(found, all);
    assert!(BROKEN.len() >= 40);
}

/// Sound servers, what they are, and how far the clients without a metadata document come.
const SOUND: &[(&str, Kind, Outcome)] = &[
    ("issuer at the origin", USUAL, Outcome::SignIn),
    (
        "issuer with a path",
        Kind {
            issuer: "/tenant",
            metadata: "/.well-known/oauth-authorization-server/tenant",
            ..USUAL
        },
        Outcome::SignIn,
    ),
    (
        "OpenID Connect only, appended to the issuer's path",
        Kind {
            issuer: "/realms/one",
            metadata: "/realms/one/.well-known/openid-configuration",
            ..USUAL
        },
        Outcome::SignIn,
    ),
    (
        "OpenID Connect only, at the origin",
        Kind {
            metadata: "/.well-known/openid-configuration",
            ..USUAL
        },
        Outcome::SignIn,
    ),
    (
        "metadata documents instead of registration",
        Kind {
            registers: false,
            takes_documents: true,
            ..USUAL
        },
        Outcome::NeedsClientId,
    ),
    (
        "registration and metadata documents",
        Kind {
            takes_documents: true,
            ..USUAL
        },
        Outcome::SignIn,
    ),
    (
        "2025-03-26, without resource metadata",
        Kind { resource: "", ..USUAL },
        Outcome::SignIn,
    ),
    (
        "2025-03-26, without any metadata",
        Kind {
            resource: "",
            metadata: "",
            ..USUAL
        },
        Outcome::SignIn,
    ),
    (
        "an MCP endpoint at the root",
        Kind {
            mcp: "/",
            resource: "/.well-known/oauth-protected-resource",
            ..USUAL
        },
        Outcome::SignIn,
    ),
    (
        "resource metadata where only the challenge says",
        Kind {
            resource: "/oauth/resource.json",
            ..USUAL
        },
        Outcome::SignIn,
    ),
    (
        "without the promise of iss",
        Kind {
            promises_iss: false,
            ..USUAL
        },
        Outcome::SignIn,
    ),
    (
        "keys only",
        Kind {
            access: Access::Key,
            ..USUAL
        },
        Outcome::NeedsKey,
    ),
    (
        "public",
        Kind {
            access: Access::Public,
            ..USUAL
        },
        Outcome::Open,
    ),
];

#[tokio::test]
async fn nothing_is_found_in_a_sound_server() {
    for (name, kind, expected) in SOUND {
        let running = Running::start(*kind, &[], false);
        let url = format!("{}{}", running.base, kind.mcp);
        let report = examined(&http(), &url, RegistrationLimit::Each, Intent::Any).await;
        assert_eq!((names(&report), report.exit_code()), (vec![], 0), "{name}: {}", report.to_text());
        for result in &report.clients {
            let profile = clients::find(result.client).unwrap();
            let has_document = profile.document.filter(|_| kind.takes_documents);
            let wanted = match has_document {
                Some(document) if document.is_template => Outcome::Unregistered,
                Some(_) => Outcome::SignIn,
                None if kind.metadata.is_empty() && !profile.default_endpoints => Outcome::NeedsKey,
                None => expected.clone(),
            };
            assert_eq!(result.outcome, wanted, "{name}: {}", result.client);
        }
    }
}

#[tokio::test]
async fn nothing_is_registered_unless_it_is_allowed_and_then_once() {
    let running = Running::start(USUAL, &[], false);
    let url = format!("{}/mcp", running.base);
    let report = examined(&http(), &url, RegistrationLimit::None, Intent::Any).await;
    assert!(report.registered.is_empty() && report.clients.iter().all(|client| client.outcome == Outcome::Unregistered));
    assert!(report.to_text().contains("nothing registered"));
    let report = examined(&http(), &url, RegistrationLimit::One, Intent::Any).await;
    assert_eq!(report.registered, ["Claude Code (doctor)"]);
    let signs_in = report.clients.iter().filter(|client| client.outcome == Outcome::SignIn);
    assert_eq!(signs_in.count(), 1, "{}", report.to_text());
    assert!(report.to_text().contains("registered there: Claude Code (doctor)"));
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_no_verdict_about_clients() {
    let port = crate::support::port::free_port();
    let report = examined(
        &http(),
        &format!("http://127.0.0.1:{port}/mcp"),
        RegistrationLimit::None,
        Intent::Any,
    )
    .await;
    assert_eq!(
        (report.exit_code(), names(&report), report.clients.len()),
        (2, vec!["unreachable"], 1)
    );
}

/// The limits of one client are shown where few are played, and that a cloud does not reach this machine.
#[tokio::test]
async fn a_client_in_the_cloud_is_said_not_to_reach_a_local_server() {
    let running = Running::start(USUAL, &[], false);
    let url = ExactUrl::parse(&format!("{}/mcp", running.base)).unwrap();
    let examination = Examination {
        url: &url,
        clients: &[clients::find("claude-ai").unwrap(), clients::find("cursor").unwrap()],
        registration: RegistrationLimit::None,
        intent: Intent::Any,
        is_own: false,
        callbacks: &[],
        now: Clock::System.now(),
    };
    let report = doctor::examine(&http(), &examination).await;
    let text = report.to_text();
    assert_eq!(text.matches("cannot reach this address").count(), 1, "{text}");
    assert_eq!(text.matches("note: ").count(), 2, "{text}");
    let clients = &report.to_json()["clients"];
    assert_eq!((&clients[0]["in_reach"], &clients[1]["in_reach"]), (&false.into(), &true.into()));
}
