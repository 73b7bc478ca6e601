//! The device flow, which comes first where the upstream offers it.

use mcp_gateway_standin::{DeviceFlow, Profile, Standin};

use crate::machine::{Machine, visit, wait};

fn offers(upstream: &Standin, change: impl FnOnce(&mut DeviceFlow)) {
    let mut flow = DeviceFlow::default();
    change(&mut flow);
    upstream.set(|b| b.device = Some(flow));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_device_flow_polls_until_the_user_has_decided() {
    let (upstream, machine) = (Standin::start(Profile::Standard), Machine::initialised());
    offers(&upstream, |flow| flow.errors = vec!["authorization_pending".to_owned()]);
    let added = machine.run(&["add", "box", &upstream.mcp_url(), "--json"]).ok().json();
    assert_eq!(added[0]["user_code"], "WDJB-MJHT", "{added:?}");
    assert!(machine.opened_after(1).await.ends_with("/device?user_code=filled"));
    let polls: Vec<_> = upstream.log().into_iter().filter(|seen| seen.path == "/token").collect();
    assert_eq!(polls.len(), 2);
    // Never sooner than the interval allows.
    assert!(polls[1].at - polls[0].at >= std::time::Duration::from_millis(950));
    let registered = upstream.log().into_iter().find(|seen| seen.path == "/register").unwrap();
    assert!(String::from_utf8_lossy(&registered.body).contains("device_code"));
    let _gateway = machine.start().await;
    assert_eq!(machine.call("box").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_an_expired_and_a_hostile_device_flow_end_clearly() {
    let (upstream, machine) = (Standin::start(Profile::Standard), Machine::initialised());
    let before = machine.text();
    let url = upstream.mcp_url();
    for (error, text) in [
        ("access_denied", "access was denied at the upstream"),
        ("expired_token", "the code was not confirmed in time"),
        ("invalid_grant", "the upstream refused the sign-in"),
    ] {
        offers(&upstream, |flow| flow.errors = vec![error.to_owned()]);
        machine.run(&["add", "box", &url]).failed(1, &[text]);
    }
    offers(&upstream, |flow| flow.errors = vec!["authorization_pending".to_owned(); 9]);
    machine
        .run(&["add", "box", &url, "--timeout", "1"])
        .failed(1, &["no sign-in within 1 seconds"]);
    assert_eq!(machine.text(), before);
    // Where the device flow does not work, a browser is used; so is it on request.
    let opened = machine.opened_after(4).await;
    assert!(opened.ends_with("user_code=filled"));
    let hostile: [fn(&mut DeviceFlow); 2] = [
        |flow| flow.refusal = Some("unauthorized_client".to_owned()),
        |flow| flow.user_code = "\u{1b}[2J".to_owned(),
    ];
    for (number, change) in hostile.into_iter().enumerate() {
        offers(&upstream, change);
        let child = machine.command(&["add", &format!("box{number}"), &url]).spawn().unwrap();
        assert!(
            visit(&machine.opened_after(5 + number).await)
                .await
                .text
                .contains("You are signed in")
        );
        let ended = wait(child).ok();
        assert!(
            ended.err.contains("the device flow does not work here") && !ended.err.contains('\u{1b}'),
            "{ended:?}"
        );
    }
    offers(&upstream, |_| {});
    let (ended, _) = machine.sign_in(&["add", "asked", &url, "--no-device"], 6).await;
    ended.ok();
}
