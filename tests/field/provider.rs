//! Identity providers whose documents, tokens and users differ from the textbook.

use mcp_gateway_standin::{Profile, Standin};
use serde_json::json;

use crate::setup::{at_provider, canned, check, redirect, refusal, seen, sign_in};

const CONFIGURATION: &str = "/.well-known/openid-configuration";

fn provider() -> Standin {
    Standin::start(Profile::OpenId)
}

/// The OpenID configuration of the stand-in under another issuer.
fn configuration(idp: &Standin, issuer: &str) -> serde_json::Value {
    let origin = idp.origin();
    json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{origin}/authorize"),
        "token_endpoint": format!("{origin}/token"),
        "jwks_uri": format!("{origin}/jwks"),
        "userinfo_endpoint": format!("{origin}/userinfo"),
    })
}

const ANYONE: &str = "allow = \"anyone\"\n";

#[tokio::test]
async fn the_document_of_a_provider_may_lie_behind_a_redirect_of_its_origin() {
    let idp = provider();
    let there = canned("/real", 200, &configuration(&idp, &idp.issuer()));
    idp.set(|b| b.canned = vec![redirect(CONFIGURATION, 302, "/real"), there]);
    sign_in(&at_provider(&idp, ANYONE).await).await.unwrap();
    let (idp, other) = (provider(), provider());
    idp.set(|b| b.canned = vec![redirect(CONFIGURATION, 302, &format!("{}{CONFIGURATION}", other.origin()))]);
    assert!(sign_in(&at_provider(&idp, ANYONE).await).await.is_err());
    assert!(other.log().is_empty());
}

#[tokio::test]
async fn issuer_and_document_of_a_provider_may_be_at_two_addresses() {
    let issuer = "http://localhost:8080/realms/x";
    let idp = provider();
    let document = canned("/internal", 200, &configuration(&idp, issuer));
    idp.set(|b| {
        b.canned = vec![document];
        b.iss = Some(issuer.to_owned());
        b.openid.claims = json!({ "iss": issuer });
    });
    let origin = idp.origin();
    let split = format!("{ANYONE}issuer = \"{issuer}\"\ndiscovery_url = \"{origin}/internal\"\n");
    sign_in(&at_provider(&idp, &split).await).await.unwrap();
    // All endpoints are configured, and no document is fetched.
    idp.clear_log();
    let endpoints = format!(
        "{ANYONE}issuer = \"{issuer}\"\nauthorization_endpoint = \"{origin}/authorize\"\ntoken_endpoint = \"{origin}/token\"\n\
        jwks_uri = \"{origin}/jwks\"\n"
    );
    sign_in(&at_provider(&idp, &endpoints).await).await.unwrap();
    assert!(seen(&idp, "/internal").is_empty() && seen(&idp, CONFIGURATION).is_empty());
    // A document of another issuer than the configured one is refused.
    let wrong = format!("{ANYONE}issuer = \"http://localhost:8080/realms/y\"\ndiscovery_url = \"{origin}/internal\"\n");
    assert!(sign_in(&at_provider(&idp, &wrong).await).await.is_err());
}

#[tokio::test]
async fn an_issuer_with_a_tenant_accepts_only_the_tenant_of_the_token() {
    let template = "https://login.microsoftonline.com/{tenantid}/v2.0";
    let at = |claims: serde_json::Value| async move {
        let idp = provider();
        let document = canned("/organizations", 200, &configuration(&idp, template));
        idp.set(|b| {
            b.canned = vec![document];
            b.omit_iss = true;
            b.openid.claims = claims;
        });
        let lines = format!(
            "{ANYONE}issuer = \"{template}\"\ndiscovery_url = \"{}/organizations\"\n",
            idp.origin()
        );
        sign_in(&at_provider(&idp, &lines).await).await
    };
    let iss = |tenant: &str| format!("https://login.microsoftonline.com/{tenant}/v2.0");
    at(json!({ "iss": iss("1111-aa"), "tid": "1111-aa" })).await.unwrap();
    for (issuer, tenant) in [
        (iss("1111"), json!("2222")),
        (iss("1111"), json!(null)),
        (iss("{tenantid}"), json!("{tenantid}")),
        (iss("a/b"), json!("a/b")),
        ("https://evil.example/1111/v2.0".to_owned(), json!("1111")),
    ] {
        assert!(at(json!({ "iss": issuer, "tid": tenant })).await.is_err(), "{issuer} {tenant}");
    }
    let text = |lines: &str| {
        format!("[idp.corp]\nissuer = \"{template}\"\nclient_id = \"a\"\n{lines}\n[services.x]\nurl = \"https://a.example\"\n")
    };
    assert!(refusal(&text("allow = \"anyone\"")).contains("discovery_url"));
    let trusting = "allow = { domains = [\"a.example\"] }\ntrust_email = true\ndiscovery_url = \"https://b.example/\"";
    assert!(refusal(&text(trusting)).contains("trust_email"));
}

/// Every tenant chooses the names of its groups, and who has its roles: only object ids of groups are unique.
#[test]
fn group_names_are_refused_with_an_issuer_of_many_tenants() {
    let with = |issuer: &str, lines: &str| {
        format!(
            "[idp.corp]\nissuer = \"{issuer}\"\nclient_id = \"a\"\ndiscovery_url = \"https://b.example/\"\n{lines}\n\
            [services.x]\nurl = \"https://a.example\"\nlogin = \"idp:corp\"\n"
        )
    };
    let many = "https://login.microsoftonline.com/{tenantid}/v2.0";
    let one = "https://login.microsoftonline.com/1111-aa/v2.0";
    let id = "5f0c3a1e-9d2b-4c8a-8f61-2b7de0a4c913";
    for group in [
        "admins",
        "5f0c3a1e",
        "5f0c3a1e-9d2b-4c8a-8f61-2b7de0a4c91g",
        "5f0c3a1e9d2b-4c8a-8f61-2b7de0a4-c913",
    ] {
        let lines = format!("allow = {{ groups = [\"{id}\", \"{group}\"] }}");
        let text = refusal(&with(many, &lines));
        assert!(text.contains("object id"), "{group}: {text}");
        check(&with(one, &lines)).unwrap();
    }
    let by_id = format!("allow = {{ groups = [\"{id}\"] }}");
    check(&with(many, &by_id)).unwrap();
    let roles = format!("{by_id}\ngroups_claim = \"roles\"");
    assert!(refusal(&with(many, &roles)).contains("groups_claim"));
    check(&with(one, &roles)).unwrap();
}

#[tokio::test]
async fn a_token_for_several_audiences_needs_no_authorized_party() {
    let with = |claims: serde_json::Value| async move {
        let idp = provider();
        idp.set(|b| b.openid.claims = claims);
        sign_in(&at_provider(&idp, ANYONE).await).await
    };
    with(json!({ "aud": ["gateway", "https://identity.example/"] })).await.unwrap();
    with(json!({ "aud": ["other", "gateway"], "azp": "gateway" })).await.unwrap();
    assert!(with(json!({ "aud": ["gateway", "x"], "azp": "x" })).await.is_err());
    assert!(with(json!({ "aud": ["x"] })).await.is_err());
}

#[tokio::test]
async fn the_user_endpoint_may_answer_with_a_signed_token_or_a_numeric_subject() {
    let lines = "allow = { emails = [\"alice@example.com\"] }\n";
    let with = |thin: bool, claims: serde_json::Value, userinfo: Option<serde_json::Value>, signed: bool| async move {
        let idp = provider();
        idp.set(|b| {
            b.openid.thin = thin;
            b.openid.claims = claims;
            b.openid.userinfo = userinfo;
            b.openid.userinfo_signed = signed;
        });
        sign_in(&at_provider(&idp, lines).await).await
    };
    let person = |sub: serde_json::Value| json!({ "sub": sub, "email": "alice@example.com", "email_verified": true });
    with(true, json!({}), None, true).await.unwrap();
    with(true, json!({ "sub": "35" }), Some(person(json!(35))), false).await.unwrap();
    assert!(with(true, json!({ "sub": "35" }), Some(person(json!(36))), false).await.is_err());
    let foreign = json!({ "sub": "248289761001", "email": "alice@example.com", "email_verified": true, "aud": "other" });
    assert!(with(true, json!({}), Some(foreign), true).await.is_err());
    let other_issuer =
        json!({ "sub": "248289761001", "email": "alice@example.com", "email_verified": true, "iss": "https://evil.example" });
    assert!(with(true, json!({}), Some(other_issuer), true).await.is_err());
}

/// GitHub as the stand-in plays it, on a host of its own.
async fn github(allow: &str, memberships: &[(&str, u16, &str)]) -> (Standin, Result<crate::support::client::Pair, String>) {
    let idp = Standin::start(Profile::GitHub);
    let answers = [
        canned("/api/v3/user", 200, &json!({ "id": 7, "login": "octocat", "name": "Octo" })),
        canned("/api/v3/user/emails", 200, &json!([])),
    ];
    let membership = |(path, status, state): &(&str, u16, &str)| canned(&format!("/api/v3{path}"), *status, &json!({ "state": state }));
    let canned = answers.into_iter().chain(memberships.iter().map(membership)).collect();
    idp.set(|b| b.canned = canned);
    let lines = format!(
        "preset = \"github\"\nbase_url = \"{}\"\n# issuer\nallow = {{ {allow} }}\n",
        idp.origin()
    );
    let result = sign_in(&at_provider(&idp, &lines).await).await;
    (idp, result)
}

#[tokio::test]
async fn active_members_of_an_organization_or_a_team_may_sign_in() {
    let (idp, result) = github("organizations = [\"Corp\"]", &[("/user/memberships/orgs/corp", 200, "active")]).await;
    result.unwrap();
    let scope = crate::setup::query(&seen(&idp, "/login/oauth/authorize")[0], "scope").unwrap();
    assert!(scope.split(' ').any(|scope| scope == "read:org"), "{scope}");
    let (_, result) = github(
        "organizations = [\"other\"], teams = [\"corp/Red\"]",
        &[
            ("/user/memberships/orgs/other", 404, ""),
            ("/orgs/corp/teams/red/memberships/octocat", 200, "active"),
        ],
    )
    .await;
    result.unwrap();
    for (status, state) in [(200, "pending"), (404, ""), (403, ""), (200, "")] {
        let (_, result) = github("organizations = [\"corp\"]", &[("/user/memberships/orgs/corp", status, state)]).await;
        assert!(result.unwrap_err().contains("error=access_denied"), "{status} {state}");
    }
    let (_, down) = github("teams = [\"corp/red\"]", &[("/orgs/corp/teams/red/memberships/octocat", 503, "")]).await;
    assert!(down.unwrap_err().contains("temporarily_unavailable"));
}

#[test]
fn keys_without_an_effect_at_this_provider_are_refused() {
    let github = |lines: &str| {
        format!(
            "[idp.gh]\npreset = \"github\"\nclient_id = \"a\"\nclient_secret = \"b\"\n{lines}\n[services.x]\nurl = \"https://a.example\"\nlogin = \"idp:gh\"\n"
        )
    };
    for (lines, expected) in [
        ("allow = { groups = [\"g\"] }", "organizations"),
        ("allow = { organizations = [\"a b\"] }", "is not an organization"),
        ("allow = { teams = [\"red\"] }", "my-org/my-team"),
        ("allow = { teams = [\"../red\"] }", "is not a team"),
        ("allow = \"anyone\"\nissuer = \"https://g.example\"", "base_url"),
        ("allow = \"anyone\"\nbase_url = \"http://g.example\"", "https"),
        ("allow = \"anyone\"\ntrust_email = true", "no effect"),
        ("allow = \"anyone\"\ngroups_claim = \"roles\"", "no effect"),
        ("allow = \"anyone\"\ndiscovery_url = \"https://g.example\"", "no effect"),
    ] {
        let error = refusal(&github(lines));
        assert!(error.contains(expected), "{lines}: {error}");
    }
    assert!(
        check(&github(
            "allow = { organizations = [\"my-org\"] }\nbase_url = \"https://github.corp.example\""
        ))
        .is_ok()
    );
    let oidc = "[idp.c]\nissuer = \"https://i.example\"\nclient_id = \"a\"\nallow = { teams = [\"a/b\"] }\n[services.x]\nurl = \"https://a.example\"\n";
    assert!(refusal(oidc).contains("only at GitHub"));
    let oidc = "[idp.c]\nissuer = \"https://i.example\"\nclient_id = \"a\"\nallow = \"anyone\"\nbase_url = \"https://b.example\"\n[services.x]\nurl = \"https://a.example\"\n";
    assert!(refusal(oidc).contains("base_url"));
}
