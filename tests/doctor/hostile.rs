//! Servers that answer with anything: the doctor ends, judges, and prints nothing that a terminal obeys.

use mcp_oauth_gateway::agent::clients;
use mcp_oauth_gateway::agent::doctor::{self, Examination, Intent, RegistrationLimit};
use mcp_oauth_gateway::base::time::Clock;
use mcp_oauth_gateway::base::url::ExactUrl;
use serde_json::Value;

use crate::examined::http;
use crate::server::{Change, Mutation, Running, USUAL};

const RESOURCE: &str = "GET /.well-known/oauth-protected-resource/mcp";
const SERVER: &str = "GET /.well-known/oauth-authorization-server";

/// Members of both documents, and whether every client needs them.
const MEMBERS: &[(&str, &str, bool)] = &[
    (RESOURCE, "resource", true),
    (RESOURCE, "authorization_servers", true),
    (RESOURCE, "scopes_supported", false),
    (SERVER, "issuer", true),
    (SERVER, "authorization_endpoint", true),
    (SERVER, "token_endpoint", true),
    (SERVER, "registration_endpoint", false),
    (SERVER, "jwks_uri", false),
    (SERVER, "response_types_supported", true),
    (SERVER, "code_challenge_methods_supported", true),
    (SERVER, "grant_types_supported", false),
    (SERVER, "token_endpoint_auth_methods_supported", false),
    (SERVER, "client_id_metadata_document_supported", false),
];

/// Values of every type, and a text that clears a terminal.
const VALUES: &[&str] = &[
    "7",
    "true",
    r#""""#,
    r#""\u001b[2J\u0007\r""#,
    r#"["\u001b]0;title\u0007"]"#,
    "[]",
    "[7]",
    "{}",
    r#"{"a":[[[[]]]]}"#,
    r#""http://[""#,
    r#""https://user@host/#x""#,
];

/// Whether no text of a report has a control character.
fn is_printable(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.chars().any(char::is_control),
        Value::Array(items) => items.iter().all(is_printable),
        Value::Object(members) => members.values().all(is_printable),
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    }
}

#[tokio::test]
async fn no_value_of_a_member_upsets_the_doctor_or_the_terminal() {
    let clients = ["typescript-sdk", "rmcp", "gemini-cli"].map(|name| clients::find(name).unwrap());
    for (on, member, is_needed) in MEMBERS {
        for value in VALUES {
            let changes: &'static [Change] = Box::leak(Box::new([Change::Member(member, value)]));
            let mutations: &'static [Mutation] = Box::leak(Box::new([Mutation { on, only: "", changes }]));
            let running = Running::start(USUAL, mutations, false);
            let url = ExactUrl::parse(&format!("{}/mcp", running.base)).unwrap();
            let examination = Examination {
                url: &url,
                clients: &clients,
                registration: RegistrationLimit::Each,
                intent: Intent::OAuth,
                is_own: false,
                callbacks: &[],
                now: Clock::System.now(),
            };
            let report = doctor::examine(&http(), &examination).await;
            let text = report.to_text();
            let is_plain = |c: char| c == '\n' || !c.is_control();
            assert!(text.chars().all(is_plain), "{member} {value}: {text:?}");
            assert!(is_printable(&report.to_json()), "{member} {value}: {}", report.to_json());
            assert!(
                report.is_reached && report.requests < 60,
                "{member} {value}: {} requests",
                report.requests
            );
            assert!(!is_needed || report.exit_code() == 1, "{member} {value}: {text}");
        }
    }
}

/// Redirects without end, between two documents.
#[tokio::test]
async fn a_circle_of_redirects_ends() {
    const CIRCLE: &[Mutation] = &[
        Mutation {
            on: RESOURCE,
            only: "",
            changes: &[Change::Status(302), Change::Header("location", "/elsewhere")],
        },
        Mutation {
            on: "GET /elsewhere",
            only: "",
            changes: &[
                Change::Status(302),
                Change::Header("location", "/.well-known/oauth-protected-resource/mcp"),
            ],
        },
    ];
    let running = Running::start(USUAL, CIRCLE, false);
    let url = ExactUrl::parse(&format!("{}/mcp", running.base)).unwrap();
    let clients: Vec<_> = clients::all().collect();
    let examination = Examination {
        url: &url,
        clients: &clients,
        registration: RegistrationLimit::None,
        intent: Intent::Any,
        is_own: false,
        callbacks: &[],
        now: Clock::System.now(),
    };
    let report = doctor::examine(&http(), &examination).await;
    let found = report.findings.iter().any(|finding| finding.rule.name == "metadata-redirects-away");
    assert!(found && report.exit_code() == 1, "{}", report.to_text());
}
