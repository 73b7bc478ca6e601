//! Vault logins, the required policy, and the end of a token.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approle_login_is_renewed_and_repeated_after_its_token_ends() {
    let server = Server::start();
    server.state().ttl = (Duration::from_secs(2), 1);
    let bench = on(at(&server, role(ROLE.1)));
    let handle = bench.insert(2000).await;
    // The token is renewed once. Then the login is repeated before the token ends.
    let asked = |what: &str| server.state().asked.iter().filter(|asked| asked.contains(what)).count();
    for _ in 0..1000 {
        if asked("approle/login") > 1 {
            break;
        }
        assert!(bench.store.read(&handle).await.unwrap().is_some());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(asked("renew-self") >= 1);
    assert!(asked("approle/login") > 1);
    // A revoked token is replaced as soon as Vault refuses it.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    server.state().ttl = (Duration::from_secs(3600), 1);
    server.state().tokens.clear();
    for _ in 0..1000 {
        if bench.store.read(&handle).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(bench.store.read(&handle).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_vault_policy_is_sufficient_and_every_part_is_needed() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/stores.md")).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("path \"secret/")).collect();
    let policy = lines.join("\n").replace("/mcp-gateway/", "/contract/");
    let server = Server::start();
    server.state().policy = Some(policy.clone());
    let bench = on(at(&server, role(ROLE.1)));
    let handle = bench.insert(1500).await;
    for later in [1, 2] {
        bench.time.store(1501 + later * 2 * HOUR, Ordering::SeqCst);
        bench.store.sweep().await.unwrap();
    }
    assert_eq!(bench.store.read(&handle).await, Ok(None));
    assert!(server.names("contract/door/").is_empty());
    // A missing part is found on a server with records and on an empty one.
    for part in ["create", "update", "read", "list", "delete"] {
        server.state().policy = Some(policy.replace(&format!("\"{part}\""), "\"none\""));
        let said = refused(at(&server, role(ROLE.1)));
        assert!(said.contains(&format!("to {part} secret/")), "{part}: {said}");
        assert!(said.contains("path \"secret/data/contract/*\""), "{part}: {said}");
        let fresh = Server::start();
        fresh.state().policy = Some(policy.replace(&format!("\"{part}\""), "\"none\""));
        assert!(refused(at(&fresh, role(ROLE.1))).contains("to "), "{part}");
    }
}

fn asked(server: &Server, what: &str) -> usize {
    server.state().asked.iter().filter(|asked| asked.contains(what)).count()
}

/// The error message of a failed read.
async fn unread(store: &Store, handle: &Handle<Door>) -> String {
    store.read(handle).await.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permission_error_does_not_trigger_a_new_vault_login() {
    let server = Server::start();
    let bench = on(at(&server, role(ROLE.1)));
    let handle = bench.insert(2000).await;
    // Longer than the minimum pause between two logins.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    server.state().policy = Some("path \"secret/*\" { capabilities = [\"list\"] }".to_owned());
    for _ in 0..3 {
        assert!(unread(&bench.store, &handle).await.contains("permission denied"));
    }
    assert_eq!(asked(&server, "approle/login"), 1, "each login leaves a token in Vault");
    server.state().policy = None;
    assert!(bench.store.read(&handle).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_vault_token_and_a_failed_login_are_reported() {
    let server = Server::start();
    server.give("hvs.short", Duration::from_secs(5), 0);
    let bench = on(at(&server, token("hvs.short")));
    let handle = bench.insert(2000).await;
    // After half of its lifetime the token is looked up, to report the remaining time.
    tokio::time::sleep(Duration::from_millis(3500)).await;
    assert!(asked(&server, "lookup-self") >= 2);
    tokio::time::sleep(Duration::from_millis(1600)).await;
    let said = unread(&bench.store, &handle).await;
    assert!(said.contains("the token has ended"), "{said}");
    assert!(bench.store.ping().await.is_err());

    let bench = on(at(&server, role(ROLE.1)));
    tokio::time::sleep(Duration::from_millis(2100)).await;
    server.state().tokens.clear();
    server.state().instead = Some(Instead {
        to: "POST auth/approle/login".to_owned(),
        times: u32::MAX,
        passes: false,
        status: 400,
        body: "{\"errors\":[\"invalid role or secret ID\"]}",
    });
    let said = unread(&bench.store, &handle).await;
    assert!(said.contains("signing in again failed") && said.contains("secret ID"), "{said}");
}
