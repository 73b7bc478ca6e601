//! A gateway in this process on a real socket, in front of a stand-in, with a controlled clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use mcp_gateway_standin::{Profile, Standin};
use mcp_oauth_gateway::app::App;
use mcp_oauth_gateway::app::authorize::pending_flows;
use mcp_oauth_gateway::app::core::AppParts;
use mcp_oauth_gateway::app::tasks::Tasks;
use mcp_oauth_gateway::base::keyring::{self, KeyRing};
use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::base::time::{Clock, UnixTime};
use mcp_oauth_gateway::base::url::ExactUrl;
use mcp_oauth_gateway::net::http_client::HttpClient;
use mcp_oauth_gateway::net::listen;
use mcp_oauth_gateway::net::server::{self, ServerLimits};
use mcp_oauth_gateway::net::tls::{self, ClientTls};
use mcp_oauth_gateway::oauth::scope::Scopes;
use mcp_oauth_gateway::observe::audit::AuditLog;
use mcp_oauth_gateway::service::adapter_urls::AdapterUrls;
use mcp_oauth_gateway::service::auth_server_config::AuthServerConfig;
use mcp_oauth_gateway::service::client::ClientDocuments;
use mcp_oauth_gateway::service::config::Config;
use mcp_oauth_gateway::service::config::DEFAULT_HTTPS_SESSION_TTL_SECONDS;
use mcp_oauth_gateway::service::password_user::{self, LazyPasswordHash, PasswordUser};
use mcp_oauth_gateway::service::public_urls::PublicUrls;
use mcp_oauth_gateway::service::{Access, Login, Service, Upstream};
use mcp_oauth_gateway::store::{Backend, Memory, Store};
use mcp_oauth_gateway::token::header::{ServiceDigest, TokenMode};
use mcp_oauth_gateway::token::lifetime::{ReuseWindow, Ttl};
use mcp_oauth_gateway::web::router::Router;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A user who may log in.
pub(crate) const USER: &str = "alice";
/// Another user, with the same password.
pub(crate) const OTHER_USER: &str = "bob";
/// The password of both users.
pub(crate) const PASSWORD: &str = "correct-horse-battery-9";

/// The environment of a story. Dropping it stops everything.
pub(crate) struct World {
    /// The upstream.
    pub standin: Standin,
    /// The URL of the gateway, without a trailing slash.
    pub url: String,
    /// The gateway.
    pub app: Arc<App>,
    config: Config,
    hand: Arc<AtomicU64>,
    _stopper: DropGuard,
    back: Option<tokio::runtime::Runtime>,
}

impl World {
    /// Starts with the standard upstream.
    pub(crate) async fn standard() -> Self {
        Self::with(Profile::Standard, |_| {}).await
    }

    /// Starts with an upstream like GitHub: no refresh tokens, no expiry, errors with status 200.
    pub(crate) async fn github() -> Self {
        Self::with(Profile::GitHub, |_| {}).await
    }

    /// Starts with a changed service.
    pub(crate) async fn with(profile: Profile, change: impl FnOnce(&mut Service)) -> Self {
        Self::made(profile, |parts| change(&mut parts.config.services[0])).await
    }

    /// Starts with the services that the closure makes from the default service.
    pub(crate) async fn with_services(profile: Profile, services: impl FnOnce(&Service) -> Vec<Service>) -> Self {
        Self::made(profile, |parts| parts.config.services = services(&parts.config.services[0])).await
    }

    /// Starts with any part of the gateway changed or read by the test.
    pub(crate) async fn made(profile: Profile, change: impl FnOnce(&mut AppParts)) -> Self {
        tls::install_provider();
        let standin = Standin::start(profile);
        let service = service(&standin, profile);
        let hand = Arc::new(AtomicU64::new(real_now()));
        let clock = Clock::Fixed(Arc::clone(&hand));
        let listener = listen::bind(([127, 0, 0, 1], 0).into(), false).unwrap();
        let url = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let keys = Arc::new(ArcSwap::from_pointee(
            KeyRing::parse(keyring::generate(clock.now()).expose()).unwrap(),
        ));
        let back = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let trust = ClientTls::load(&[]).unwrap();
        let mut parts = AppParts {
            store: Store::new(Backend::Memory(Memory::new()), Arc::clone(&keys), clock.clone()),
            keys,
            urls: PublicUrls::new(ExactUrl::parse(&url).unwrap(), vec![]),
            config: Self::config(service),
            clock,
            max_pending_flows: pending_flows::MAX_PENDING_FLOWS,
            audit: AuditLog::default(),
            tasks: Tasks::new(back.handle().clone(), HttpClient::new(trust.clone())),
        };
        change(&mut parts);
        let config = parts.config.clone();
        let app = App::new(parts);
        let stop = CancellationToken::new();
        let stopper = stop.clone().drop_guard();
        let (upkeep, ends) = (Arc::clone(&app), stop.clone());
        back.spawn(async move { upkeep.run(ends).await });
        while app.check_ready().await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let door = Router::new(Arc::clone(&app));
        let http = HttpClient::new(trust);
        let handler = move |request, peer: server::Peer| {
            let (door, http) = (door.clone(), http.clone());
            async move { door.handle(&http, request, peer.address.ip()).await }
        };
        tokio::spawn(server::serve(listener, None, ServerLimits::default(), stop, handler));
        Self {
            standin,
            url,
            app,
            config,
            hand,
            _stopper: stopper,
            back: Some(back),
        }
    }

    /// A configuration with one service and the users of all stories.
    pub(crate) fn config(service: Service) -> Config {
        let users = [USER, OTHER_USER].map(|name| PasswordUser {
            name: name.into(),
            hash: LazyPasswordHash::from_hash(quick_hash()),
        });
        Config {
            services: vec![service],
            users: users.to_vec(),
            session_ttl: DEFAULT_HTTPS_SESSION_TTL_SECONDS,
            idps: vec![],
            clients: vec![],
            cors_origins: vec![],
            public_directory: false,
            approvers: Vec::new(),
            adapters: AdapterUrls::default(),
            json_token: false,
            announces_iss: true,
            redirect_schemes: vec![],
            client_documents: ClientDocuments::default(),
        }
    }

    /// Reloads the configuration with a changed service.
    pub(crate) fn reload(&mut self, change: impl FnOnce(&mut Service)) {
        change(&mut self.config.services[0]);
        self.app.rebuild(self.config.clone());
    }

    /// Reloads a changed configuration.
    pub(crate) fn reload_config(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
        self.app.rebuild(self.config.clone());
    }

    /// Advances the clock.
    pub(crate) fn pass(&self, seconds: u64) {
        self.hand.fetch_add(seconds, Ordering::SeqCst);
    }

    /// The time of the gateway's clock.
    pub(crate) fn now(&self) -> UnixTime {
        UnixTime(self.hand.load(Ordering::SeqCst))
    }

    /// Waits until the upstream has revoked `count` tokens, and returns them.
    pub(crate) async fn revoked(&self, count: usize) -> Vec<String> {
        for _ in 0..500 {
            if self.standin.revoked().len() >= count {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let told = self.standin.revoked();
        assert_eq!(told.len(), count, "{told:?}");
        told
    }

    /// The URL of the MCP endpoint.
    pub(crate) fn mcp(&self) -> String {
        format!("{}/mcp", self.url)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A runtime cannot be dropped inside a runtime.
        if let Some(back) = self.back.take() {
            back.shutdown_background();
        }
    }
}

/// The service of all stories, in front of this upstream.
pub(crate) fn service(standin: &Standin, profile: Profile) -> Service {
    let (client_id, client_secret) = match profile {
        Profile::Standard | Profile::OpenId => (None, None),
        Profile::GitHub => (
            Some(mcp_gateway_standin::CLIENT_ID.to_owned()),
            Some(Secret::from(mcp_gateway_standin::CLIENT_SECRET)),
        ),
    };
    Service {
        name: "default".into(),
        digest: ServiceDigest::of("default"),
        title: None,
        is_default: true,
        mcp: ExactUrl::parse(&standin.mcp_url()).unwrap(),
        access: Access::OAuth,
        login: Login::Password,
        upstream: Upstream::OAuth(Box::new(AuthServerConfig {
            client_id,
            client_secret,
            ..AuthServerConfig::default()
        })),
        mode: TokenMode::Sealed,
        ttl: Ttl::default(),
        reuse_window: ReuseWindow::default(),
        parallel_limit: None,
        scopes: Scopes::default(),
        optional_scopes: Scopes::default(),
        required_scopes: Scopes::default(),
        fixed_headers: Vec::new(),
        forward_headers: Vec::new(),
        forward_response_headers: Vec::new(),
        max_streams: Access::OAuth.default_max_streams(),
        reauth_after: None,
        remember_consent: false,
        is_resource_proven: true,
        tools: None,
    }
}

/// Hashing is slow in debug builds, so all tests share one hash.
fn quick_hash() -> String {
    static HASH: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    HASH.get_or_init(|| password_user::hash(&Secret::from(PASSWORD)).unwrap()).clone()
}

fn real_now() -> u64 {
    Clock::System.now().0
}

/// The configuration of the upstream's authorization server.
pub(crate) fn authorization(service: &mut Service) -> &mut AuthServerConfig {
    match &mut service.upstream {
        Upstream::OAuth(given) => given,
        Upstream::Stored(settings) => &mut settings.auth_server,
        Upstream::ServiceToken(settings) => &mut settings.auth_server,
        Upstream::Paste(_) | Upstream::Static(_) | Upstream::Identity(_) | Upstream::None => {
            panic!("this service has no authorization server upstream")
        }
    }
}
