//! The gateway is killed at any moment of a refresh. No credential is lost: the record is there, and the
//! upstream's answer to the one repetition decides.

use std::collections::BTreeMap;
use std::time::Duration;

use mcp_oauth_gateway::base::random;
use mcp_oauth_gateway::base::time::UnixTime;

use crate::bridge::{has_newest_token, says_login};
use crate::site::Site;

/// Delay of the upstream before it rotates, and again before it responds.
const THINKS: Duration = Duration::from_millis(6);

fn below(limit: u64) -> u64 {
    u64::from_le_bytes(random::bytes()) % limit
}

/// The rounds of each test in the ordinary run.
const ROUNDS: usize = 8;
/// The rounds of the long test.
const MANY_ROUNDS: usize = 100;

/// Kills the gateway during refreshes, and returns how many credentials went on and how many needed a
/// login. A lenient upstream does not rotate its refresh token. A strict one refuses a reused token.
async fn killed_refreshes(rounds: usize, is_lenient: bool) -> BTreeMap<&'static str, usize> {
    let site = Site::new();
    let mut process = site.start().await;
    site.sign_in().await;
    let mut counts = BTreeMap::new();
    for _ in 0..rounds {
        site.end_token(UnixTime(1)).await;
        let before = site.standin.refreshes().len();
        site.standin.set(|b| {
            (b.token_delay, b.token_delay_after, b.omit_refresh_token) = (THINKS, THINKS, is_lenient);
        });
        let call = tokio::spawn(site.call_until_killed());
        tokio::time::sleep(Duration::from_micros(below(30_000))).await;
        process.kill();
        let _ = call.await;
        // The request may still be in the upstream's socket, and the upstream completes it.
        tokio::time::sleep(THINKS * 2 + Duration::from_millis(60)).await;
        site.standin
            .set(|b| (b.token_delay, b.token_delay_after) = (Duration::ZERO, Duration::ZERO));
        let record = site.record().await;
        assert!(record.credential().oauth().is_some_and(|oauth| oauth.tokens.refresh.is_some()));
        process = site.start().await;
        let page = site.call().await;
        let sent = site.standin.refreshes().split_off(before);
        assert!(sent.len() <= 2, "at most once more: {sent:?}");
        if page.status == 200 {
            has_newest_token(&site.standin, &page);
            *counts.entry("went on").or_default() += 1;
            continue;
        }
        // The upstream rotated, and the answer was lost. The repetition was final, and the record stays.
        says_login(&page);
        assert!(!is_lenient && sent.len() == 2 && sent[0] == sent[1], "{sent:?}");
        assert!(site.record().await.needs_login_since().is_some());
        says_login(&site.call().await);
        assert_eq!(site.standin.refreshes().len(), before + 2, "a refused token is not sent again");
        site.sign_in().await;
        has_newest_token(&site.standin, &site.call().await);
        *counts.entry("needed a login").or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn kill_during_a_refresh_loses_no_credential() {
    let counts = killed_refreshes(ROUNDS, false).await;
    println!("strict upstream: {counts:?}");
}

#[tokio::test]
async fn kill_during_a_refresh_at_a_lenient_upstream_never_needs_a_login() {
    let counts = killed_refreshes(ROUNDS, true).await;
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), ["went on"]);
}

#[tokio::test]
async fn long_series_of_kills_loses_no_credential() {
    if std::env::var_os("GATEWAY_LONG").is_none() {
        return println!("skipped: set GATEWAY_LONG=1 to run it");
    }
    for is_lenient in [false, true] {
        println!("{:?}", killed_refreshes(MANY_ROUNDS, is_lenient).await);
    }
}
