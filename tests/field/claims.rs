//! Claims of odd shape: addresses that nobody verified, groups in nested objects, too many groups.

use mcp_gateway_standin::{Profile, Standin};
use serde_json::{Value, json};

use crate::setup::{at_provider, sign_in};

/// Signs a user in whose ID token has these claims.
async fn with(lines: &str, claims: Value) -> Result<(), String> {
    let idp = Standin::start(Profile::OpenId);
    idp.set(|b| {
        b.openid.user = json!({ "sub": "u-1", "name": "Ann", "email": "ann@corp.example" });
        b.openid.claims = claims;
    });
    sign_in(&at_provider(&idp, lines).await).await.map(|_| ())
}

#[tokio::test]
async fn an_address_without_email_verified_counts_only_if_the_operator_or_its_domain_vouches() {
    let domain = "allow = { domains = [\"corp.example\"] }\n";
    assert!(with(domain, json!({})).await.unwrap_err().contains("access_denied"));
    with(&format!("{domain}trust_email = true\n"), json!({})).await.unwrap();
    with(domain, json!({ "xms_edov": true })).await.unwrap();
    for denied in [
        json!({ "email_verified": false }),
        json!({ "email_verified": false, "xms_edov": true }),
    ] {
        assert!(with(&format!("{domain}trust_email = true\n"), denied).await.is_err());
    }
}

#[tokio::test]
async fn groups_are_found_in_nested_claims_and_in_objects() {
    let admin = |claim: &str| format!("allow = {{ groups = [\"admin\"] }}\ngroups_claim = \"{claim}\"\n");
    with(
        &admin("realm_access.roles"),
        json!({ "realm_access": { "roles": ["viewer", "admin"] } }),
    )
    .await
    .unwrap();
    let client = json!({ "resource_access": { "my.gateway": { "roles": ["admin"] } } });
    with(&admin("resource_access.my.gateway.roles"), client).await.unwrap();
    let zitadel = "urn:zitadel:iam:org:project:roles";
    with(&admin(zitadel), json!({ zitadel: { "admin": { "1": "corp.example" } } }))
        .await
        .unwrap();
    with(
        &admin("https://corp.example/roles"),
        json!({ "https://corp.example/roles": "admin" }),
    )
    .await
    .unwrap();
    for (claim, claims) in [
        ("realm_access.roles", json!({ "realm_access": { "roles": ["administrator"] } })),
        ("realm_access.roles", json!({ "realm_access": { "groups": ["admin"] } })),
        ("roles", json!({ "roles": { "viewer": "admin" } })),
        ("groups", json!({ "groups": true })),
    ] {
        assert!(with(&admin(claim), claims.clone()).await.is_err(), "{claims}");
    }
}

#[tokio::test]
async fn a_user_of_many_groups_is_allowed_and_an_overage_is_refused() {
    let lines = "allow = { groups = [\"g-900\"] }\n";
    let many: Vec<String> = (0..1_000).map(|i| format!("g-{i}")).collect();
    with(lines, json!({ "groups": many })).await.unwrap();
    let overage = json!({ "groups": null, "hasgroups": true, "_claim_names": { "groups": "src1" } });
    assert!(with(lines, overage).await.unwrap_err().contains("access_denied"));
}
