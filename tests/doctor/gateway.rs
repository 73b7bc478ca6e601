//! The gateway itself: every known client reaches its sign-in page.

use mcp_gateway_standin::Profile;
use mcp_oauth_gateway::agent::clients;
use mcp_oauth_gateway::agent::clients::profile::MetadataDocument;
use mcp_oauth_gateway::agent::doctor::report::Outcome;
use mcp_oauth_gateway::agent::doctor::{Intent, RegistrationLimit};
use mcp_oauth_gateway::oauth::client_id_metadata::{ClientIdUrl, parse_document};
use mcp_oauth_gateway::service::client::{ClientDocuments, PinnedDocument};
use mcp_oauth_gateway::service::{Access, Service, Upstream};
use serde_json::json;

use crate::examined::{examined, http};
use crate::support::browser::Browser;
use crate::support::client::{McpClient, Pair, post_json};
use crate::support::house;
use crate::support::world::World;

/// A copy of a client's document: nothing is fetched from its host.
fn pinned(document: MetadataDocument) -> PinnedDocument {
    let url = ClientIdUrl::parse(document.url, false).unwrap();
    let body = json!({
        "client_id": document.url,
        "client_name": "A known client",
        "redirect_uris": document.redirect_uris,
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": "none",
    });
    let registration = parse_document(&url, body.to_string().as_bytes()).unwrap();
    PinnedDocument { url, registration }
}

#[tokio::test]
async fn every_known_client_reaches_the_sign_in_page_by_registration() {
    let world = World::made(Profile::Standard, |parts| {
        parts.config.client_documents = ClientDocuments {
            is_on: false,
            pinned: Vec::new(),
        };
    });
    let report = examined(&http(), &world.await.mcp(), RegistrationLimit::Each, Intent::OAuth).await;
    assert!(report.findings.is_empty() && report.exit_code() == 0, "{}", report.to_text());
    assert_eq!((report.clients.len(), report.registered.len()), (20, 20));
    for result in &report.clients {
        assert_eq!(result.outcome, Outcome::SignIn, "{}", result.client);
    }
}

#[tokio::test]
async fn every_known_client_with_a_metadata_document_reaches_the_sign_in_page_by_it() {
    let documents: Vec<_> = clients::all().filter_map(|client| client.document).collect();
    assert!(documents.len() >= 7);
    let mut copies: Vec<PinnedDocument> = Vec::new();
    for copy in documents.into_iter().map(pinned) {
        if copies.iter().all(|known| known.url != copy.url) {
            copies.push(copy);
        }
    }
    let world = World::made(Profile::Standard, |parts| parts.config.client_documents.pinned = copies).await;
    let report = examined(&http(), &world.mcp(), RegistrationLimit::None, Intent::OAuth).await;
    assert!(report.findings.is_empty() && report.registered.is_empty(), "{}", report.to_text());
    for result in &report.clients {
        let document = clients::find(result.client).unwrap().document;
        let expected = match document {
            Some(document) if !document.is_template => Outcome::SignIn,
            Some(_) | None => Outcome::Unregistered,
        };
        assert_eq!(result.outcome, expected, "{}", result.client);
    }
}

/// Signs in, calls a tool, refreshes, calls again and revokes.
async fn use_of(client: &McpClient) {
    let pair = client.login().await;
    let refreshed = Pair::of(&client.refresh(&pair.refresh).await);
    for access in [&pair.access, &refreshed.access] {
        let answer = client.call(access, "echo", json!({ "text": "x" })).await;
        assert_eq!(answer.status, 200, "{}: {}", client.redirect, answer.text);
    }
    assert_eq!(client.revoke(&refreshed.refresh).await.status, 200);
    let answer = client.call(&refreshed.access, "echo", json!({ "text": "x" })).await;
    assert_eq!(answer.status, 401, "{}", client.redirect);
}

#[tokio::test]
async fn every_known_client_signs_in_calls_a_tool_refreshes_and_revokes() {
    let documents = clients::all()
        .filter_map(|client| client.document)
        .filter(|document| !document.is_template);
    let mut copies: Vec<PinnedDocument> = Vec::new();
    for copy in documents.map(pinned) {
        if copies.iter().all(|known| known.url != copy.url) {
            copies.push(copy);
        }
    }
    let world = World::made(Profile::Standard, |parts| parts.config.client_documents.pinned = copies).await;
    for client in clients::all() {
        let body = client.registration_body("read");
        let registered = post_json(&Browser::default(), &format!("{}/register", world.url), &body).await;
        assert_eq!(registered.status, 201, "{}: {}", client.name, registered.text);
        let id = registered.json()["client_id"].as_str().unwrap().to_owned();
        for redirect in client.registration.redirect_uris {
            use_of(&McpClient::configured(&world.url, &id, redirect)).await;
        }
        if let Some(document) = client.document.filter(|document| !document.is_template) {
            use_of(&McpClient::configured(&world.url, document.url, document.redirect_uri)).await;
        }
    }
}

#[tokio::test]
async fn nothing_is_found_in_services_of_other_kinds() {
    let services = |from: &Service| {
        let upstream = || Upstream::None;
        let of = |name, access| Service {
            access,
            ..house::service(from, name, from.mcp.as_str(), upstream(), from.login.clone())
        };
        vec![from.clone(), of("batch", Access::Key), of("named", Access::OAuth)]
    };
    let world = World::made(Profile::Standard, |parts| {
        parts.config.services = services(&parts.config.services[0]);
        parts.config.client_documents.is_on = false;
    });
    let world = world.await;
    for (name, intent, expected) in [("batch", Intent::Key, Outcome::NeedsKey), ("named", Intent::OAuth, Outcome::SignIn)] {
        let url = format!("{}/mcp/{name}", world.url);
        let report = examined(&http(), &url, RegistrationLimit::Each, intent).await;
        let of_python = report.clients.iter().find(|result| result.client == "python-sdk").unwrap();
        assert_eq!(
            (of_python.outcome.clone(), report.exit_code()),
            (expected, 0),
            "{}",
            report.to_text()
        );
    }
}
