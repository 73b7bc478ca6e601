//! The gateway in front of an upstream, for the benches. Only this file knows how the crate is put together.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use mcp_oauth_gateway::app::App;
use mcp_oauth_gateway::app::authorize::pending_flows;
use mcp_oauth_gateway::app::core::AppParts;
use mcp_oauth_gateway::app::tasks::Tasks;
use mcp_oauth_gateway::base::ids::Id;
use mcp_oauth_gateway::base::keyring::{self, KeyRing};
use mcp_oauth_gateway::base::random;
use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::base::time::{Clock, UnixTime};
use mcp_oauth_gateway::base::url::ExactUrl;
use mcp_oauth_gateway::net::http_client::HttpClient;
use mcp_oauth_gateway::net::server::{self, ServerLimits};
use mcp_oauth_gateway::net::tls::ClientTls;
use mcp_oauth_gateway::oauth::scope::Scopes;
use mcp_oauth_gateway::observe::audit::AuditLog;
use mcp_oauth_gateway::service::adapter_urls::AdapterUrls;
use mcp_oauth_gateway::service::client::ClientDocuments;
use mcp_oauth_gateway::service::config::Config;
use mcp_oauth_gateway::service::public_urls::PublicUrls;
use mcp_oauth_gateway::service::{Access, Login, Service, Upstream};
use mcp_oauth_gateway::store::{Backend, Memory, SharedKeyRing, Store};
use mcp_oauth_gateway::token::header::{PairHeader, PayloadKind, ServiceDigest, TokenKind, TokenMode};
use mcp_oauth_gateway::token::lifetime::{ReuseWindow, Ttl};
use mcp_oauth_gateway::token::pair;
use mcp_oauth_gateway::web::router::Router;
use tokio_util::sync::CancellationToken;

/// The body of a small tool call.
pub(crate) const CALL: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":{"a":2,"b":3}}}"#;
/// The body of the upstream's answer to [`CALL`].
pub(crate) const ANSWER: &[u8] = br#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"5"}],"isError":false}}"#;

/// A new key ring.
pub(crate) fn ring() -> KeyRing {
    KeyRing::parse(keyring::generate(Clock::System.now()).expose()).expect("a generated key file is valid")
}

/// The gateway half of an access token that never expires.
pub(crate) fn half(mode: TokenMode) -> PairHeader {
    PairHeader {
        mode,
        kind: TokenKind::Access,
        carried: PayloadKind::Access,
        grant: Id::random(),
        generation: 1,
        branch: 0,
        service: ServiceDigest::of("default"),
        client: [9; 16],
        expires: UnixTime::NEVER,
        upstream_expires: UnixTime::NEVER,
        subject: "gateway".to_owned(),
        scopes: "repo read:user".to_owned(),
    }
}

/// A sealed token pair for the service of [`serve_gateway`] at `upstream`. Its upstream half has `upstream_length` bytes.
pub(crate) fn access_token(keys: &SharedKeyRing, upstream: SocketAddr, upstream_length: usize) -> String {
    let half = PairHeader {
        service: service(url(upstream, "/mcp")).token_service_digest(),
        ..half(TokenMode::Sealed)
    };
    let upstream_half = Secret::from("t".repeat(upstream_length));
    let token = pair::encode(&keys.load(), Clock::System.now(), &half, &upstream_half, random::salt_and_nonce());
    token.expose().to_owned()
}

/// Serves the gateway on `listener` until `stop`, as one worker of `serve` does. The store is in memory.
pub(crate) async fn serve_gateway(listener: std::net::TcpListener, upstream: SocketAddr, keys: SharedKeyRing, stop: CancellationToken) {
    let address = listener.local_addr().expect("a bound listener has an address");
    let worker = HttpClient::new(ClientTls::load(&[]).expect("the root certificates of the system load"));
    let app = App::new(parts(address, upstream, keys, worker.clone()));
    let (upkeep, upkeep_stop) = (Arc::clone(&app), stop.clone());
    tokio::spawn(async move { upkeep.run(upkeep_stop).await });
    let router = Router::new(app);
    let handler = move |request, peer: server::Peer| {
        let (router, worker) = (router.clone(), worker.clone());
        async move { router.handle(&worker, request, peer.address.ip()).await }
    };
    server::serve(listener, None, ServerLimits::default(), stop, handler)
        .await
        .expect("the server starts");
}

/// Size of the future that handles one request, in bytes.
pub(crate) fn request_future_bytes() -> usize {
    fn size<F: Future>(_: impl FnOnce(&'static Router, &'static HttpClient, Request<Incoming>, IpAddr) -> F) -> usize {
        size_of::<F>()
    }
    size(Router::handle)
}

fn url(address: SocketAddr, path: &str) -> ExactUrl {
    ExactUrl::parse(&format!("http://{address}{path}")).expect("a valid URL")
}

fn parts(own: SocketAddr, upstream: SocketAddr, keys: SharedKeyRing, worker: HttpClient) -> AppParts {
    let clock = Clock::System;
    AppParts {
        store: Store::new(Backend::Memory(Memory::new()), Arc::clone(&keys), clock.clone()),
        keys,
        urls: PublicUrls::new(url(own, ""), vec![]),
        config: Config {
            services: vec![service(url(upstream, "/mcp"))],
            users: vec![],
            session_ttl: 0,
            idps: vec![],
            clients: vec![],
            cors_origins: vec![],
            public_directory: false,
            approvers: Vec::new(),
            json_token: false,
            announces_iss: true,
            redirect_schemes: vec![],
            adapters: AdapterUrls::default(),
            client_documents: ClientDocuments::default(),
        },
        clock,
        max_pending_flows: pending_flows::MAX_PENDING_FLOWS,
        audit: AuditLog::default(),
        tasks: Tasks::new(tokio::runtime::Handle::current(), worker),
    }
}

fn service(mcp: ExactUrl) -> Service {
    Service {
        name: "default".to_owned(),
        digest: ServiceDigest::of("default"),
        title: None,
        is_default: true,
        mcp,
        access: Access::OAuth,
        login: Login::Password,
        upstream: Upstream::OAuth(Box::default()),
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
