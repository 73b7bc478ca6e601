//! What can go wrong at `add`: every failure is clear, has its exit code, and leaves no service behind.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use mcp_gateway_standin::{Behaviour, MetadataEndpoints, Profile, Standin};

use crate::machine::{Machine, visit, wait};
use crate::support::browser::Browser;

type Change = fn(&mut Behaviour);

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_discovery_works_or_fails_with_all_its_steps() {
    let machine = Machine::initialised();
    let works: [(&str, Change); 2] = [
        ("by the challenge", |_| {}),
        ("at the origin, as in MCP 2025-03-26", |b| b.prm_missing = true),
    ];
    for (number, (what, change)) in works.into_iter().enumerate() {
        let upstream = Standin::start(Profile::Standard);
        upstream.set(change);
        let (ended, _) = machine.sign_in(&["add", &format!("w{number}"), &upstream.mcp_url()], number).await;
        assert_eq!(ended.code, 0, "{what}: {ended:?}");
    }
    let before = machine.text();
    let fails: [(Change, &[&str]); 6] = [
        (
            |b| b.metadata_issuer = Some("https://evil.example".to_owned()),
            &["https://evil.example"],
        ),
        (|b| b.prm_resource = Some("https://other.example/mcp".to_owned()), &["resource"]),
        (|b| b.no_pkce_in_metadata = true, &["S256"]),
        (|b| b.as_metadata_missing = true, &["oauth-authorization-server", "status 404"]),
        (|b| b.authorization_server = Some("http://192.0.2.1".to_owned()), &["192.0.2.1"]),
        (
            |b| {
                b.metadata_endpoints = MetadataEndpoints {
                    token_endpoint: Some("ftp://127.0.0.1/token".to_owned()),
                    ..MetadataEndpoints::default()
                }
            },
            &["token_endpoint"],
        ),
    ];
    for (change, texts) in fails {
        let upstream = Standin::start(Profile::Standard);
        upstream.set(change);
        let ended = machine.run(&["add", "x", &upstream.mcp_url()]);
        assert!(ended.code == 1 || ended.code == 2, "{ended:?}");
        assert!(ended.err.contains("looked at") && ended.err.contains("/.well-known/"), "{ended:?}");
        for text in texts {
            assert!(ended.err.contains(text), "{text}: {ended:?}");
        }
    }
    // A server without a sign-in needs none.
    let open = Standin::start(Profile::Standard);
    open.set(|b| {
        b.mcp_open = true;
        b.prm_missing = true;
        b.as_metadata_missing = true;
    });
    machine
        .run(&["add", "x", &open.mcp_url()])
        .failed(1, &["answers without a sign-in", "access = \"public\""]);
    assert_eq!(machine.text(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_is_named_and_nothing_is_half_written() {
    let (upstream, machine) = (Standin::start(Profile::Standard), Machine::initialised());
    let (url, before) = (upstream.mcp_url(), machine.text());
    for (name, other) in [("Stripe", &*url), ("mcp", &url), ("a\u{1b}[31m", &url), (&"a".repeat(41), &url)] {
        let ended = machine.run(&["add", name, other]).failed(1, &["cannot be the name of a service"]);
        assert!(!ended.err.contains('\u{1b}'), "{ended:?}");
    }
    machine
        .run(&["add", "x", "http://192.0.2.1/mcp"])
        .failed(1, &["unencrypted", "https"]);
    machine.run(&["add", "x", "nonsense"]).failed(1, &["is not a URL"]);
    machine
        .run(&["add", "x", &url, "--header", "nothing"])
        .failed(1, &["--header NAME=VALUE"]);
    machine
        .run(&["add", "x", &url, "--client-id", "c", "--client-secret-file", "/nowhere"])
        .failed(1, &["client_secret", "/nowhere"]);
    machine
        .run(&["add", "x", &url, "--timeout", "1"])
        .failed(1, &["no sign-in within 1 seconds"]);
    upstream.set(|b| b.registration_status = Some(403));
    // Another name, for which there is no registration yet.
    let ended = machine
        .run(&["add", "y", &url])
        .failed(1, &["does not let this gateway register", "--client-id"]);
    assert!(ended.err.contains(&format!("{}/upstream/callback/y", machine.url())), "{ended:?}");
    let down = Standin::start(Profile::Standard);
    let down_url = down.mcp_url();
    drop(down);
    machine.run(&["add", "x", &down_url]).failed(2, &["looked at", "try again later"]);
    // The upstream refuses the code, after the browser came back.
    upstream.set(|b| {
        b.registration_status = None;
        b.token_error = Some("invalid_grant".to_owned());
    });
    let opened = 1;
    let child = machine.command(&["add", "x", &url]).spawn().unwrap();
    let page = visit(&machine.opened_after(opened + 1).await).await;
    assert!(page.status == 400 && page.text.contains("You are not signed in"), "{}", page.text);
    wait(child).failed(1, &["invalid_grant"]);
    assert_eq!(machine.text(), before);
    assert_eq!(machine.run(&["list", "--json"]).ok().out, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_of_another_program_is_named_and_a_pasted_answer_needs_none() {
    let (upstream, machine) = (Standin::start(Profile::Standard), Machine::initialised());
    let _occupied = std::net::TcpListener::bind(("127.0.0.1", machine.port)).unwrap();
    machine.run(&["add", "x", &upstream.mcp_url()]).failed(
        1,
        &[
            &format!("127.0.0.1:{}", machine.port),
            "another program uses the port",
            "--no-browser",
        ],
    );
    assert!(!machine.text().contains("services.x"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_written_undoes_the_sign_in() {
    let (upstream, machine) = (Standin::start(Profile::Standard), Machine::initialised());
    if fs::metadata("/proc/self").is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0) {
        // Root writes everywhere: the directory is replaced by a file system rule that even root obeys.
        let child = machine.command(&["add", "x", &upstream.mcp_url()]).spawn().unwrap();
        let opened = machine.opened_after(1).await;
        fs::remove_file(machine.config()).unwrap();
        fs::create_dir(machine.config()).unwrap();
        let page = visit(&opened).await;
        assert!(page.text.contains("You are not signed in"), "{}", page.text);
        wait(child).failed(2, &["the service is not added"]);
    } else {
        let directory = machine.config().parent().unwrap().to_owned();
        let child = machine.command(&["add", "x", &upstream.mcp_url()]).spawn().unwrap();
        let opened = machine.opened_after(1).await;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o500)).unwrap();
        let page = visit(&opened).await;
        assert!(page.text.contains("You are not signed in"), "{}", page.text);
        wait(child).failed(2, &["the service is not added"]);
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    }
    assert_eq!(upstream.revoked().len(), 1);
}

/// Replaces the service `x` by `add --replace`, with a configuration file that cannot be written.
async fn replace_without_a_file(machine: &Machine, url: &str, opened: usize) {
    let text = machine.text();
    let directory = machine.config().parent().unwrap().to_owned();
    let is_root = fs::metadata("/proc/self").is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0);
    let child = machine.command(&["add", "x", url, "--replace"]).spawn().unwrap();
    let page = machine.opened_after(opened + 1).await;
    if is_root {
        // Root writes everywhere, but no file in place of a directory.
        fs::remove_file(machine.config()).unwrap();
        fs::create_dir(machine.config()).unwrap();
    } else {
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o500)).unwrap();
    }
    visit(&page).await;
    wait(child).failed(2, &["the service is not added"]);
    if is_root {
        fs::remove_dir(machine.config()).unwrap();
        fs::write(machine.config(), text).unwrap();
    } else {
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_written_leaves_the_replaced_credential_in_use() {
    let (first, second, machine) = (
        Standin::start(Profile::Standard),
        Standin::start(Profile::Standard),
        Machine::initialised(),
    );
    machine.sign_in(&["add", "x", &first.mcp_url()], 0).await.0.ok();
    // At the same upstream, and at another one: the service of the file still has its credential.
    for (opened, other) in [(1, &first), (2, &second)] {
        let revoked = other.revoked().len();
        replace_without_a_file(&machine, &other.mcp_url(), opened).await;
        assert_eq!(other.revoked().len(), revoked + 1, "the new tokens, and only these, are revoked");
        let _gateway = machine.start().await;
        assert_eq!(machine.call("x").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_of_a_command_serves_only_its_callback() {
    let (upstream, machine) = (Standin::start(Profile::Standard), Machine::initialised());
    let child = machine.command(&["add", "x", &upstream.mcp_url()]).spawn().unwrap();
    let opened = machine.opened_after(1).await;
    for path in [
        "/",
        "/mcp/x",
        "/authorize",
        "/.well-known/oauth-authorization-server",
        "/health/ready",
    ] {
        let page = Browser::default().get(&format!("{}{path}", machine.url())).await;
        assert_eq!(page.status, 503, "{path}: {}", page.text);
    }
    // A callback without the `state` of the sign-in changes nothing.
    for query in ["code=x&state=y", "code=x", "", "code=x&state=stored-AAAAAAAAAAAAAAAAAAAAAA.y"] {
        let page = Browser::default()
            .get(&format!("{}/upstream/callback/x?{query}", machine.url()))
            .await;
        assert!(page.status.is_client_error(), "{query}: {}", page.text);
    }
    assert!(visit(&opened).await.text.contains("You are signed in"));
    wait(child).ok();
}
