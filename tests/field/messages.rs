//! What the other side said, and which faults pass.

use mcp_gateway_standin::{Profile, Standin};
use serde_json::json;

use crate::setup::{at_provider, canned, service, sign_in, sign_in_with};
use crate::support::browser::Browser;
use crate::support::client::{McpClient, param};
use crate::support::world::World;

#[tokio::test]
async fn the_description_of_an_upstream_reaches_the_client_marked_as_its_own() {
    let world = service(|_| String::new()).await;
    let long = format!("AADSTS9010010: no\u{7}t <b>right</b> {}", "x".repeat(400));
    world.standin.set(|b| {
        b.authorize_error = Some("invalid_target".into());
        b.authorize_error_description = Some(long);
    });
    let home = sign_in(&world).await.unwrap_err();
    let description = param(&home, "error_description").unwrap();
    assert!(description.contains("it says: AADSTS9010010: no't <b>right</b>"), "{description}");
    assert!(description.len() < 260 && !description.contains('\u{7}'));
    assert_eq!(param(&home, "error").as_deref(), Some("server_error"));
}

#[tokio::test]
async fn a_user_who_was_refused_is_not_told_that_he_cancelled() {
    let refused_with = |description: Option<&'static str>| async move {
        let idp = Standin::start(Profile::OpenId);
        idp.set(|b| {
            b.authorize_error = Some("access_denied".into());
            b.authorize_error_description = description.map(str::to_owned);
        });
        let world = at_provider(&idp, "allow = \"anyone\"\n").await;
        let home = sign_in(&world).await.unwrap_err();
        param(&home, "error_description").unwrap()
    };
    let description = refused_with(Some("User is not assigned.")).await;
    assert!(
        description.contains("it says: User is not assigned.") && !description.contains("cancelled"),
        "{description}"
    );
    assert!(refused_with(None).await.contains("refused or cancelled"));
}

#[tokio::test]
async fn a_page_shows_the_description_of_a_provider_as_text() {
    let idp = Standin::start(Profile::OpenId);
    idp.set(|b| {
        b.authorize_error = Some("access_denied".into());
        b.authorize_error_description = Some("<script>alert(1)</script>\u{202e}gone".into());
    });
    let world = at_provider(&idp, "allow = \"anyone\"\n").await;
    // A client that registered itself with a web address gets a page before the sign-in.
    let client = McpClient::register_at(&world.url, "https://app.example/cb").await;
    let page = sign_in_with(&client, &mut Browser::default()).await.unwrap_err();
    assert!(page.contains("The identity provider says:") && !page.contains("<script>"), "{page}");
    assert!(page.contains("[U+202E]gone"), "{page}");
}

async fn page(world: &World) -> String {
    sign_in(world).await.unwrap_err()
}

#[tokio::test]
async fn only_a_passing_fault_is_told_as_passing() {
    const METADATA: &str = "/.well-known/oauth-authorization-server";
    let passing = service(|_| String::new()).await;
    passing.standin.set(|b| b.canned = vec![canned(METADATA, 503, &json!({}))]);
    let text = page(&passing).await;
    assert!(text.contains("try again") && text.contains("does not answer"), "{text}");

    let closed = service(|_| String::new()).await;
    closed.standin.set(|b| b.canned = vec![canned("/register", 403, &json!({}))]);
    let no_registration = service(|_| String::new()).await;
    let origin = no_registration.standin.origin();
    let document = json!({
        "issuer": no_registration.standin.issuer(), "authorization_endpoint": format!("{origin}/authorize"),
        "token_endpoint": format!("{origin}/token"), "code_challenge_methods_supported": ["S256"],
    });
    no_registration.standin.set(|b| b.canned = vec![canned(METADATA, 200, &document)]);
    let other_issuer = service(|_| String::new()).await;
    other_issuer
        .standin
        .set(|b| b.metadata_issuer = Some("https://other.example".into()));
    let wrong_secret = service(|_| "client_id = \"gateway\"\nclient_secret = \"wrong\"".to_owned()).await;
    for world in [closed, no_registration, other_issuer, wrong_secret] {
        let text = page(&world).await;
        for passing in [
            "does not answer",
            "Wait a moment",
            "temporarily_unavailable",
            "try again",
            "try%20again",
        ] {
            assert!(!text.contains(passing), "{passing}: {text}");
        }
    }
}
