//! Two gateways on one Redis refresh a stored credential once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use mcp_oauth_gateway::app::core::AppParts;
use mcp_oauth_gateway::base::keyring::{self, KeyRing};
use mcp_oauth_gateway::base::time::Clock;
use mcp_oauth_gateway::store::{Backend, Redis, RedisConfig, SharedKeyRing, Store};

use crate::bridge::{Bridge, HOUR, has_newest_token, says_login};
use crate::support::redis::{Server, wanted};

/// Two gateways with one store, one clock and one upstream: that of the first.
struct Pair {
    first: Bridge,
    second: Bridge,
    clock: Arc<AtomicU64>,
    _server: Server,
}

impl Pair {
    async fn signed_in() -> Self {
        let server = Server::start();
        let clock = Arc::new(AtomicU64::new(Clock::System.now().0));
        let keys: SharedKeyRing = Arc::new(ArcSwap::from_pointee(
            KeyRing::parse(keyring::generate(Clock::System.now()).expose()).unwrap(),
        ));
        let share = |parts: &mut AppParts| {
            parts.keys = Arc::clone(&keys);
            parts.clock = Clock::Fixed(Arc::clone(&clock));
            let at = RedisConfig::parse(&server.url(), RedisConfig::DEFAULT_PREFIX, None).unwrap();
            let redis = Redis::open(at, Arc::clone(&keys), parts.clock.clone()).unwrap();
            parts.store = Store::new(Backend::Redis(redis), Arc::clone(&keys), parts.clock.clone());
        };
        let first = Bridge::made(share).await;
        let upstream = first.active().service.mcp.clone();
        let second = Bridge::made(|parts| {
            share(parts);
            parts.config.services[0].mcp = upstream;
        })
        .await;
        first.sign_in().await;
        Self {
            first,
            second,
            clock,
            _server: server,
        }
    }
}

#[tokio::test]
async fn two_gateways_on_one_store_refresh_once_and_both_use_the_new_token() {
    if !wanted() {
        return;
    }
    let pair = Pair::signed_in().await;
    pair.first.works().await;
    has_newest_token(pair.first.standin(), &pair.second.call().await);
    for round in 1..=3 {
        pair.clock.fetch_add(HOUR + 1, Ordering::SeqCst);
        pair.first.standin().set(|b| b.token_delay = Duration::from_millis(200));
        let (one, other) = tokio::join!(pair.first.together(16), pair.second.together(16));
        assert_eq!((one, other), (vec![200; 16], vec![200; 16]));
        assert_eq!(pair.first.refreshes(), round, "one for both");
    }
}

#[tokio::test]
async fn sign_out_at_one_gateway_closes_the_other() {
    if !wanted() {
        return;
    }
    let pair = Pair::signed_in().await;
    has_newest_token(pair.first.standin(), &pair.second.call().await);
    pair.first.world.app.stored.remove("default").await.unwrap();
    for _ in 0..100 {
        if pair.second.call().await.status == 502 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    says_login(&pair.second.call().await);
}
