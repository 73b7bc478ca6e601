//! Several stateless replicas behind one URL, with the same keys. The test chooses the replica.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use mcp_gateway_standin::{CLIENT_ID, CLIENT_SECRET, Profile, Standin};
use mcp_oauth_gateway::app::App;
use mcp_oauth_gateway::app::authorize::pending_flows;
use mcp_oauth_gateway::app::core::AppParts;
use mcp_oauth_gateway::app::tasks::Tasks;
use mcp_oauth_gateway::base::keyring::{self, KeyRing};
use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::base::time::Clock;
use mcp_oauth_gateway::base::url::ExactUrl;
use mcp_oauth_gateway::net::http_client::HttpClient;
use mcp_oauth_gateway::net::listen;
use mcp_oauth_gateway::net::server::{self, ServerLimits};
use mcp_oauth_gateway::net::tls::{self, ClientTls};
use mcp_oauth_gateway::observe::audit::AuditLog;
use mcp_oauth_gateway::service::Service;
use mcp_oauth_gateway::service::config::Config;
use mcp_oauth_gateway::store::{SharedKeyRing, Store};
use mcp_oauth_gateway::web::router::Router;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::browser::Browser;
use super::client::McpClient;
use super::world::{self, World, authorization};

/// See [the module](self). Dropping it stops all replicas.
pub(crate) struct Fleet {
    pub standin: Standin,
    /// The URL of all replicas, without a trailing slash.
    pub url: String,
    config: Config,
    keys: SharedKeyRing,
    hand: Arc<AtomicU64>,
    doors: Arc<Mutex<Vec<Router>>>,
    /// The stores of the replicas, in the order of their start.
    pub stores: Mutex<Vec<Store>>,
    next: Arc<AtomicUsize>,
    _stoppers: Mutex<Vec<DropGuard>>,
    stop: CancellationToken,
    back: Option<tokio::runtime::Runtime>,
}

/// The first number of round-robin mode. Smaller numbers name one replica.
const IN_TURN: usize = 1 << 32;

impl Fleet {
    /// Starts `count` replicas in front of such an upstream. Requests go to the first.
    pub(crate) async fn of(count: usize, profile: Profile, change: impl FnOnce(&mut Service)) -> Self {
        Self::made(count, profile, |config| change(&mut config.services[0])).await
    }

    /// As `of`, with any part of the configuration changed.
    pub(crate) async fn made(count: usize, profile: Profile, change: impl FnOnce(&mut Config)) -> Self {
        tls::install_provider();
        let standin = Standin::start(profile);
        let mut service = world::service(&standin, profile);
        authorization(&mut service).client_id = Some(CLIENT_ID.into());
        authorization(&mut service).client_secret = Some(Secret::from(CLIENT_SECRET));
        let hand = Arc::new(AtomicU64::new(Clock::System.now().0));
        let clock = Clock::Fixed(Arc::clone(&hand));
        let mut config = World::config(service);
        change(&mut config);
        let listener = listen::bind(([127, 0, 0, 1], 0).into(), false).unwrap();
        let url = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let stop = CancellationToken::new();
        let stopper = stop.clone().drop_guard();
        let (doors, next) = (Arc::new(Mutex::new(Vec::<Router>::new())), Arc::new(AtomicUsize::new(0)));
        let http = HttpClient::new(ClientTls::load(&[]).unwrap());
        let (all, turn) = (Arc::clone(&doors), Arc::clone(&next));
        let handler = move |request, peer: server::Peer| {
            let said = turn.load(Ordering::SeqCst);
            let which = if said < IN_TURN {
                said
            } else {
                turn.fetch_add(1, Ordering::SeqCst)
            };
            let doors = all.lock().unwrap();
            let (door, http) = (doors[which % doors.len()].clone(), http.clone());
            async move { door.handle(&http, request, peer.address.ip()).await }
        };
        tokio::spawn(server::serve(listener, None, ServerLimits::default(), stop.clone(), handler));
        let back = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let fleet = Self {
            standin,
            url,
            config,
            keys: Arc::new(ArcSwap::from_pointee(
                KeyRing::parse(keyring::generate(clock.now()).expose()).unwrap(),
            )),
            hand,
            doors,
            stores: Mutex::default(),
            next,
            _stoppers: Mutex::new(vec![stopper]),
            stop,
            back: Some(back),
        };
        for _ in 0..count {
            let door = fleet.started().await;
            fleet.doors.lock().unwrap().push(door);
        }
        fleet
    }

    async fn started(&self) -> Router {
        let clock = Clock::Fixed(Arc::clone(&self.hand));
        let back = self.back.as_ref().unwrap().handle();
        let store = Store::stateless(Arc::clone(&self.keys), clock.clone());
        self.stores.lock().unwrap().push(store.clone());
        let app = App::new(AppParts {
            store,
            keys: Arc::clone(&self.keys),
            urls: mcp_oauth_gateway::service::public_urls::PublicUrls::new(ExactUrl::parse(&self.url).unwrap(), vec![]),
            config: self.config.clone(),
            clock,
            max_pending_flows: pending_flows::MAX_PENDING_FLOWS,
            audit: AuditLog::default(),
            tasks: Tasks::new(back.clone(), HttpClient::new(ClientTls::load(&[]).unwrap())),
        });
        let (upkeep, ends) = (Arc::clone(&app), self.stop.clone());
        back.spawn(async move { upkeep.run(ends).await });
        while app.check_ready().await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        Router::new(app)
    }

    /// Sends all later requests to this replica.
    pub(crate) fn to(&self, instance: usize) {
        self.next.store(instance, Ordering::SeqCst);
    }

    /// Sends each later request to the next replica.
    pub(crate) fn in_turn(&self) -> &Self {
        self.next.store(IN_TURN, Ordering::SeqCst);
        self
    }

    /// Sends all later requests to this replica, and returns the client.
    pub(crate) fn at(&self, instance: usize, client: &McpClient) -> McpClient {
        self.to(instance);
        client.clone()
    }

    /// Restarts a replica, which loses its memory.
    pub(crate) async fn restart(&self, instance: usize) {
        let door = self.started().await;
        self.doors.lock().unwrap()[instance] = door;
    }

    /// Advances the clock.
    pub(crate) fn pass(&self, seconds: u64) {
        self.hand.fetch_add(seconds, Ordering::SeqCst);
    }

    /// A registered client.
    pub(crate) async fn client(&self) -> McpClient {
        McpClient::register(&self.url).await
    }

    /// The cookie with the client-side record of a flow.
    pub(crate) fn carried(browser: &Browser) -> (String, String) {
        let found = browser.cookies.iter().find(|(name, _)| name.contains("-f-"));
        found
            .map(|(name, value)| (name.clone(), value.clone()))
            .expect("a journey's cookie")
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // A runtime cannot be dropped inside a runtime.
        if let Some(back) = self.back.take() {
            back.shutdown_background();
        }
    }
}
