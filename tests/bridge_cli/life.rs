//! A stored credential after `add`: status, refresh, login, logout, remove, keys of this machine.

use std::fs;

use mcp_gateway_standin::{Profile, Standin};

use crate::machine::{Machine, mode, visit, wait};

#[tokio::test(flavor = "multi_thread")]
async fn status_says_what_is_true_and_refresh_signs_in_again_when_refused() {
    let (upstream, machine) = (Standin::start(Profile::Standard), Machine::initialised());
    let status = || machine.run(&["status", "--json"]);
    assert_eq!(status().ok().json()[0]["gateway"], "stopped");
    machine.sign_in(&["add", "s", &upstream.mcp_url()], 0).await.0.ok();
    let stored = status().ok().json();
    assert_eq!(stored[0]["state"], "token stored", "{stored:?}");
    assert!(stored[0]["expires"].is_u64() && stored[0]["refreshed"].is_null() && stored[0]["tools"].is_null());
    let gateway = machine.start().await;
    assert_eq!(status().ok().json()[1]["gateway"], "ready");
    // A refresh uses the refresh token once; the running gateway notices the new tokens.
    assert_eq!(machine.call("s").await.status, 200);
    machine.run(&["refresh", "s"]).ok();
    assert_eq!(upstream.refreshes().len(), 1);
    assert!(status().ok().json()[0]["refreshed"].is_u64());
    assert_eq!(machine.call("s").await.status, 200);
    // At once again, it is not worth a request.
    let again = machine.run(&["refresh", "s"]).ok();
    assert!(
        again.err.contains("refreshed a moment ago") && upstream.refreshes().len() == 1,
        "{again:?}"
    );
    machine.sign_in(&["login", "s"], 1).await.0.ok();
    // The upstream forgets everything: only a sign-in helps, and it takes one.
    upstream.revoke_all();
    let child = machine.command(&["refresh", "s"]).spawn().unwrap();
    let refreshed = tokio::time::timeout(std::time::Duration::from_secs(40), machine.opened_after(3)).await;
    visit(&refreshed.unwrap()).await;
    let ended = wait(child).ok();
    assert!(ended.err.contains("you have to sign in again"), "{ended:?}");
    assert_eq!(machine.call("s").await.status, 200);
    drop(gateway);
    let text = machine.run(&["status"]).ok();
    assert!(text.out.contains("does not run") && text.out.contains("not tried"), "{text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_and_remove_revoke_first_and_say_what_they_could_not_revoke() {
    let (upstream, machine) = (Standin::start(Profile::Standard), Machine::initialised());
    let url = upstream.mcp_url();
    machine.sign_in(&["add", "a", &url], 0).await.0.ok();
    machine.sign_in(&["add", "b", &url], 1).await.0.ok();
    let _gateway = machine.start().await;
    let out = machine.run(&["logout", "a", "--json"]).ok().json();
    assert!(out[0]["revoked"] == true && upstream.revoked().len() == 1, "{out:?}");
    let status = machine
        .run(&["status", "--json"])
        .failed(1, &["these services need a sign-in: a", "login a"]);
    assert_eq!(status.json()[0]["state"], "not signed in");
    let refused = machine.call("a").await;
    assert!(
        refused.status == 502 && refused.text.contains("mcp-oauth-gateway login a"),
        "{}",
        refused.text
    );
    machine.run(&["logout", "a"]).ok();
    assert_eq!(upstream.revoked().len(), 1);
    let (login, _) = machine.sign_in(&["login", "a"], 2).await;
    login.ok();
    assert_eq!(machine.call("a").await.status, 200);
    // Nobody at a terminal, and no `--yes`.
    machine.run(&["remove", "a"]).failed(1, &["is not confirmed", "--yes"]);
    machine
        .run(&["remove", "nothing", "--yes"])
        .failed(1, &["there is no service 'nothing'"]);
    let comment = machine
        .text()
        .replace("[services.a]", "# Written by hand.\n\n# About a.\n[services.a]");
    fs::write(machine.config(), comment).unwrap();
    machine.run(&["remove", "a", "--yes"]).ok();
    let text = machine.text();
    assert!(
        text.contains("# Written by hand.") && !text.contains("About a") && text.contains("[services.b]"),
        "{text}"
    );
    assert_eq!((upstream.revoked().len(), machine.call("a").await.status.as_u16()), (2, 404));
    // An upstream that is gone: the service goes, and a person must revoke there.
    drop(upstream);
    machine
        .run(&["remove", "b", "--yes"])
        .failed(1, &["the upstream did not revoke the tokens", "remove the gateway's access there"]);
    assert!(!machine.text().contains("[services.b]"));
    machine.run(&["list"]).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn env_and_local_key_belong_to_this_machine() {
    let (upstream, machine) = (Standin::start(Profile::Standard), Machine::initialised());
    for name in ["local-key", "adapter-key"] {
        assert_eq!(mode(&machine.data().join(name)), 0o600);
    }
    let env = machine.run(&["env"]).ok();
    let adapter = fs::read_to_string(machine.data().join("adapter-key")).unwrap();
    let base = format!("{}/k/{}", machine.url(), adapter.trim());
    assert_eq!(
        env.out,
        format!("export OPENAI_BASE_URL='{base}/openai/v1'\nexport ANTHROPIC_BASE_URL='{base}/anthropic'\n")
    );
    machine.sign_in(&["add", "s", &upstream.mcp_url()], 0).await.0.ok();
    let _gateway = machine.start().await;
    assert_eq!(machine.call("s").await.status, 200);
    let old = fs::read_to_string(machine.data().join("local-key")).unwrap();
    machine.run(&["local-key", "rotate"]).ok();
    assert_ne!(fs::read_to_string(machine.data().join("local-key")).unwrap(), old);
    assert_ne!(machine.run(&["env"]).ok().out, env.out);
    for _ in 0..1_000 {
        if machine.call("s").await.status == 200 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the running gateway did not notice the new key");
}
