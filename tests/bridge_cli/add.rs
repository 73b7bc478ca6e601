//! `add` in front of a test upstream: beside a running gateway, without one, and two at once.

use std::fs;

use mcp_gateway_standin::{CLIENT_ID, CLIENT_SECRET, Profile, Standin};

use crate::machine::{Machine, visit, wait};
use crate::support::redis;

/// The bearer tokens that the MCP endpoint saw.
fn bearers(upstream: &Standin) -> Vec<String> {
    let seen = upstream.log().into_iter().filter(|seen| seen.path == "/mcp");
    seen.filter_map(|seen| Some(seen.header("authorization")?.strip_prefix("Bearer ")?.to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn add_beside_a_running_gateway_signs_in_and_the_gateway_serves_at_once() {
    let (upstream, machine) = (Standin::start(Profile::Standard), Machine::initialised());
    let gateway = machine.start().await;
    let before = machine.text();
    let (added, page) = machine.sign_in(&["add", "stripe", &upstream.mcp_url()], 0).await;
    let added = added.ok();
    assert!(
        added.out.contains(&format!("signed in at {}", upstream.issuer())) && added.out.contains("has read the configuration again"),
        "{added:?}"
    );
    assert!(
        page.status == 200 && page.text.contains("You are signed in"),
        "{} {}",
        page.status,
        page.text
    );
    let after = machine.text();
    let table = after.strip_prefix(&before).unwrap();
    assert_eq!(
        table,
        format!(
            "\n[services.stripe]\nurl = \"{}\"\naccess = \"local\"\nupstream = \"stored\"\n",
            upstream.mcp_url()
        )
    );
    let answer = machine.call("stripe").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(bearers(&upstream).last(), upstream.issued_access().last());
    // The callback names the service, and the request has PKCE, `resource` and a `state` of its own.
    let opened = machine.opened_after(1).await;
    let asked = url::Url::parse(&opened).unwrap();
    let asked = |name: &str| {
        asked
            .query_pairs()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    };
    assert_eq!(asked("redirect_uri"), Some(format!("{}/upstream/callback/stripe", machine.url())));
    assert_eq!(
        (asked("code_challenge_method"), asked("resource")),
        (Some("S256".to_owned()), Some(upstream.mcp_url()))
    );
    let again = visit(&opened).await;
    assert!(again.status == 400 && !again.text.contains("You are signed in"), "{}", again.text);
    // A second `add` of the name needs somebody who agrees.
    machine
        .run(&["add", "stripe", &upstream.mcp_url()])
        .failed(1, &["service 'stripe' exists", "--replace", "mcp-oauth-gateway login stripe"]);
    assert!(gateway.terminate().success());
    // The tokens survive a restart.
    let _gateway = machine.start().await;
    assert_eq!(machine.call("stripe").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn add_without_a_gateway_listens_itself_and_replaces_only_when_told() {
    let (upstream, machine) = (Standin::start(Profile::Standard), Machine::initialised());
    let (added, page) = machine.sign_in(&["add", "one", &upstream.mcp_url(), "--json"], 0).await;
    let added = added.ok().json();
    assert_eq!(
        (&added[1]["service"], &added[1]["gateway"]),
        (&"one".into(), &"stopped".into()),
        "{added:?}"
    );
    assert!(added[0]["open"].as_str().unwrap().starts_with(&upstream.origin()));
    assert!(page.text.contains("You are signed in"), "{}", page.text);
    let first = upstream.issued_access();
    let options = ["--replace", "--scopes", "mcp admin", "--header", "X-Tenant=acme"];
    let url = upstream.mcp_url();
    let arguments = [&["add", "one", &url][..], &options].concat();
    machine.sign_in(&arguments, 1).await.0.ok();
    // The tokens of the service before are revoked, and only these.
    assert_eq!(upstream.revoked().len(), 1);
    let text = machine.text();
    assert!(
        text.starts_with("# by hand\n") && text.matches("[services.one]").count() == 1,
        "{text}"
    );
    assert!(
        text.contains("scopes = [\"mcp\", \"admin\"]") && text.contains("headers = { X-Tenant = \"acme\" }"),
        "{text}"
    );
    let _gateway = machine.start().await;
    assert_eq!(machine.call("one").await.status, 200);
    let seen = upstream.log();
    let call = seen.iter().rfind(|seen| seen.path == "/mcp").unwrap();
    assert_eq!(call.header("x-tenant"), Some("acme"));
    assert!(!first.contains(bearers(&upstream).last().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn add_and_the_gateway_share_a_redis_too() {
    if !redis::wanted() {
        return;
    }
    let (upstream, machine, server) = (Standin::start(Profile::Standard), Machine::initialised(), redis::Server::start());
    let store = format!(
        "kind = \"redis\"\nurl = \"{}\"\n\n[keys]\nfile = \"{}\"",
        server.url(),
        machine.data().join("keys.json").display()
    );
    fs::write(machine.config(), machine.text().replace("kind = \"sqlite\"", &store)).unwrap();
    let _gateway = machine.start().await;
    machine.sign_in(&["add", "shared", &upstream.mcp_url()], 0).await.0.ok();
    assert_eq!(machine.call("shared").await.status, 200);
    machine.run(&["refresh", "shared"]).ok();
    assert_eq!(machine.call("shared").await.status, 200);
    machine.run(&["remove", "shared", "--yes"]).ok();
    assert_eq!((machine.call("shared").await.status.as_u16(), upstream.revoked().len()), (404, 1));
    assert!(!machine.data().join("gateway.db").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_adds_at_once_lose_nothing_with_and_without_a_gateway() {
    let (upstream, machine) = (Standin::start(Profile::Standard), Machine::initialised());
    let url = upstream.mcp_url();
    let both = async |names: [&str; 2], opened: usize| {
        let children = names.map(|name| machine.command(&["add", name, &url]).spawn().unwrap());
        machine.opened_after(opened + 2).await;
        // Both wait now. Without a gateway, one of them listens for both.
        for number in [opened + 2, opened + 1] {
            let page = visit(&machine.opened_after(number).await).await;
            assert!(page.text.contains("You are signed in"), "{}", page.text);
        }
        for child in children {
            wait(child).ok();
        }
    };
    both(["a", "b"], 0).await;
    let gateway = machine.start().await;
    both(["c", "d"], 2).await;
    for name in ["a", "b", "c", "d"] {
        assert_eq!(machine.call(name).await.status, 200, "{name}");
        assert!(machine.text().contains(&format!("[services.{name}]")), "{}", machine.text());
    }
    let list = machine.run(&["list", "--json"]).ok().json();
    assert_eq!(list.len(), 4, "{list:?}");
    drop(gateway);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_client_and_a_key_are_used_without_a_registration() {
    let (upstream, machine) = (Standin::start(Profile::Standard), Machine::initialised());
    let secret = machine.home().join("secret");
    fs::write(&secret, format!("{CLIENT_SECRET}\n")).unwrap();
    let url = upstream.mcp_url();
    let client = [
        "--client-id",
        CLIENT_ID,
        "--client-secret-file",
        secret.to_str().unwrap(),
        "--policy",
        "allow",
    ];
    let arguments = [&["add", "known", &url][..], &client].concat();
    machine.sign_in(&arguments, 0).await.0.ok();
    assert!(upstream.log().iter().all(|seen| seen.path != "/register"));
    assert!(
        machine.text().contains("[services.known.tools]\ndefault = \"allow\"\n"),
        "{}",
        machine.text()
    );
    assert!(!machine.text().contains(CLIENT_SECRET));
    // With a policy, the gateway lists the tools, and `status` counts them.
    let gateway = machine.start().await;
    assert_eq!(machine.call("known").await.status, 200);
    let status = machine.run(&["status", "--json"]).ok().json();
    assert!(status[0]["tools"].as_u64().is_some_and(|count| count > 0), "{status:?}");
    drop(gateway);
    // A key comes from standard input, and no browser opens.
    upstream.set(|b| b.mcp_key = Some(("authorization".to_owned(), "Bearer sk_live_1".to_owned())));
    let key = machine.home().join("key");
    fs::write(&key, "sk_live_1\n").unwrap();
    let mut command = machine.command(&["add", "keyed", &url, "--key", "--json"]);
    let added = wait(command.stdin(fs::File::open(&key).unwrap()).spawn().unwrap()).ok();
    assert!(added.json()[0]["api_key"] == true && !added.out.contains("sk_live_1"), "{added:?}");
    assert!(!machine.text().contains("sk_live_1"));
    machine
        .run(&["add", "empty", &url, "--key"])
        .failed(1, &["the key on standard input is empty"]);
    let _gateway = machine.start().await;
    assert_eq!(machine.call("keyed").await.status, 200);
    let store = fs::read(machine.data().join("gateway.db")).unwrap_or_default();
    assert!(!store.windows(9).any(|bytes| bytes == b"sk_live_1"));
}
