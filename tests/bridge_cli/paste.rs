//! `--no-browser`: what the user pastes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use mcp_gateway_standin::{Profile, Standin};

use crate::machine::{Ended, Machine, wait};
use crate::support::browser::Browser;

/// Adds a service without a browser: opens the printed address elsewhere, and pastes what `answer` makes
/// of the address of the last page.
async fn pasted(machine: &Machine, upstream: &Standin, name: &str, answer: impl FnOnce(&str) -> String) -> Ended {
    let mut command = machine.command(&["add", name, &upstream.mcp_url(), "--no-browser", "--timeout", "30"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.trim().starts_with("http") {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0, "no address");
    }
    let page = Browser::default().get(line.trim()).await;
    let back = page.onward().unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", answer(&back)).unwrap();
    // The rest of the output, so that the command never waits for a reader.
    let rest = std::thread::spawn(move || out.lines().map_while(Result::ok).collect::<Vec<_>>().join("\n"));
    let mut ended = wait(child);
    ended.out = rest.join().unwrap();
    ended
}

fn parameter(url: &str, name: &str) -> String {
    let url = url::Url::parse(url).unwrap();
    url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_address_its_query_or_the_code_can_be_pasted() {
    let (upstream, machine) = (Standin::start(Profile::Standard), Machine::initialised());
    pasted(&machine, &upstream, "address", str::to_owned).await.ok();
    pasted(&machine, &upstream, "query", |back| back.split_once('?').unwrap().1.to_owned())
        .await
        .ok();
    let code = pasted(&machine, &upstream, "code", |back| parameter(back, "code")).await.ok();
    assert!(code.out.contains("service    code: signed in at"), "{code:?}");
    assert_eq!(machine.run(&["list", "--json"]).ok().json().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pasted_answer_with_a_wrong_state_or_issuer_is_refused_and_nothing_is_written() {
    let (upstream, machine) = (Standin::start(Profile::Standard), Machine::initialised());
    let before = machine.text();
    let wrong_state = |back: &str| back.replace(&parameter(back, "state"), "stored-AAAAAAAAAAAAAAAAAAAAAA.x");
    pasted(&machine, &upstream, "x", wrong_state)
        .await
        .failed(1, &["the pasted text is not used"]);
    let last_letter = |back: &str| {
        let state = parameter(back, "state");
        let other = if state.ends_with('A') { 'B' } else { 'A' };
        back.replace(&state, &format!("{}{other}", &state[..state.len() - 1]))
    };
    pasted(&machine, &upstream, "x", last_letter)
        .await
        .failed(1, &["the upstream's state is not the one that was sent"]);
    upstream.set(|b| b.iss = Some("https://evil.example".to_owned()));
    pasted(&machine, &upstream, "x", str::to_owned).await.failed(1, &["another issuer"]);
    upstream.set(|b| b.iss = None);
    pasted(&machine, &upstream, "x", |_| "hello there".to_owned())
        .await
        .failed(1, &["the pasted text has no code"]);
    pasted(&machine, &upstream, "x", |_| "not-the-code".to_owned())
        .await
        .failed(1, &["the upstream ended this sign-in: invalid_grant"]);
    upstream.set(|b| b.authorize_error = Some("access_denied".to_owned()));
    pasted(&machine, &upstream, "x", str::to_owned)
        .await
        .failed(1, &["access was denied at the upstream (access_denied)"]);
    assert_eq!(machine.text(), before);
    assert!(upstream.issued_access().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_a_denied_sign_in_says_so_and_runs_no_script() {
    let (upstream, machine) = (Standin::start(Profile::Standard), Machine::initialised());
    let child = machine.command(&["add", "x", &upstream.mcp_url()]).spawn().unwrap();
    let opened = machine.opened_after(1).await;
    let (back, state) = (parameter(&opened, "redirect_uri"), parameter(&opened, "state"));
    let hostile = "%3Cscript%3Ealert(1)%3C/script%3E%1B%5B31m%0Ayes";
    let issuer = upstream.issuer();
    let url = format!("{back}?state={state}&iss={issuer}&error=access_denied&error_description={hostile}");
    let page = Browser::default().get(&url).await;
    assert!(page.status == 400 && page.text.contains("You are not signed in"), "{}", page.text);
    assert!(!page.text.contains("<script") && page.text.contains("alert(1)"), "{}", page.text);
    let ended = wait(child).failed(1, &["access was denied at the upstream", "alert(1)"]);
    assert!(!ended.err.contains('\u{1b}') && ended.err.lines().count() <= 4, "{ended:?}");
}
