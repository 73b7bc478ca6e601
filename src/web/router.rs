//! Handles every request: checks the host and origin, finds the route, and calls the use case.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Request, StatusCode, Version, header};
use hyper::body::{Body as _, Incoming};
use serde_json::{Value, json};

use crate::adapter::endpoint::Adapters;
use crate::app::App;
use crate::app::endpoint::{PathStyle, ServiceEndpoint};
use crate::app::proxy::caller::CallerAddress;
use crate::app::runtime_config::RuntimeConfig;
use crate::app::service_list;
use crate::app::stored_logins::StoredLogins;
use crate::base::secret::Secret;
use crate::net::body::read_limited;
use crate::net::http_client::HttpClient;
use crate::observe::request_origin::RequestOrigin;
use crate::service::public_urls::BaseUrl;
use crate::web::adapter_requests::{self, AdapterTarget};
use crate::web::api;
use crate::web::approval_pages;
use crate::web::flow_pages;
use crate::web::guard::{self, CorsPolicy, Origin};
use crate::web::idp_pages;
use crate::web::introspection;
use crate::web::oauth_endpoints::{self, MAX_BODY_BYTES, OAuthRequest, body_error, read_body};
use crate::web::reply::{self, HttpResponse};
use crate::web::request::BrowserRequest;
use crate::web::routes::{
    ApiRoute, BrowserEndpoint, Document, Endpoint, HealthCheck, OAuthEndpoint, ResourceServerEndpoint, Route, RouteError, RouteTable,
    ServiceRef,
};
use crate::web::stored_login_pages;

/// Timeout for reading the rest of a body after the response is ready.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// A request whose body is removed only by a handler that reads it.
type PendingRequest<'a> = Request<&'a mut Option<Incoming>>;

/// Routes requests to the use cases. Cheap to clone.
#[derive(Clone)]
pub struct Router {
    app: Arc<App>,
    adapters: Arc<Adapters>,
    routes: Arc<RouteTable>,
}

/// The context of a request.
#[derive(Clone, Copy)]
struct RequestContext<'a> {
    http: &'a HttpClient,
    /// The configuration, loaded once for this request.
    config: &'a RuntimeConfig,
    /// The base URL of the host name that the request used.
    base_url: &'a BaseUrl,
    /// The addresses of the caller.
    address: CallerAddress,
}

impl Router {
    /// The router of this app.
    pub fn new(app: Arc<App>) -> Self {
        let routes = Arc::new(RouteTable::new(app.urls().prefix()));
        let adapters = Arc::new(Adapters::new(Arc::clone(&app)));
        Self { app, adapters, routes }
    }

    /// Responds to one request. `peer` is the other end of the connection.
    pub async fn handle(&self, http: &HttpClient, request: Request<Incoming>, peer: IpAddr) -> HttpResponse {
        let (mut parts, body) = request.into_parts();
        let key = adapter_requests::take_key(&mut parts, self.app.urls().prefix());
        let (version, expects_continue) = (parts.version, parts.headers.contains_key(header::EXPECT));
        let mut body = Some(body);
        let response = self.dispatch(http, Request::from_parts(parts, &mut body), peer, key).await;
        match body {
            // Boxed: a forwarded request has no body any more.
            Some(body) if version < Version::HTTP_2 => Box::pin(drain_body(response, body, expects_continue)).await,
            Some(_) | None => response,
        }
    }

    /// Finds the route and calls its handler. `key` is the key in the path of a request to an adapter.
    async fn dispatch(&self, http: &HttpClient, request: PendingRequest<'_>, peer: IpAddr, key: Option<Secret>) -> HttpResponse {
        let source = guard::source(peer, request.headers(), &self.app.urls().trusted_proxies);
        let route = match self.routes.find_with_key(request.method(), request.uri().path(), key.is_some()) {
            Ok(route) => route,
            Err(error) => return self.route_error(error, &request),
        };
        let endpoint = match route {
            // Before the host check, because a health check may not use the gateway's host name.
            Route::Health(HealthCheck::Live) => return reply::json(StatusCode::OK, &json!({ "status": "live" })),
            Route::Health(HealthCheck::Ready) => return Box::pin(self.ready()).await,
            Route::Endpoint(endpoint) => endpoint,
        };
        let Some(base_url) = guard::match_host(self.app.urls(), &request) else {
            return self.misdirected_response();
        };
        let config = self.app.config();
        let context = RequestContext {
            http,
            config: &config,
            base_url,
            address: CallerAddress { peer, source },
        };
        let Some(cors) = self.cors_policy(&endpoint, context, request.headers()) else {
            return forbidden_origin();
        };
        if request.method() == Method::OPTIONS {
            return reply::preflight(&cors, request.headers());
        }
        let origin = || RequestOrigin::of(source, request.headers());
        match endpoint {
            Endpoint::Mcp(service) => {
                let response = match find(context, &service) {
                    Some(service_endpoint) => self.mcp(context, service_endpoint, request).await,
                    None => self.no_service(&config),
                };
                reply::with_cors(response, &cors)
            }
            // All other routes are boxed: their rare and large futures would enlarge the future of every request.
            Endpoint::Adapter(vendor, path) => {
                let target = AdapterTarget { vendor, path, key };
                Box::pin(adapter_requests::respond(&self.adapters, http, request, target, context.address)).await
            }
            Endpoint::Document(document) => {
                let document = self.document(&document, context);
                let response = document.map_or_else(|| self.no_service(&config), |document| reply::document(&document));
                reply::with_cors(response, &cors)
            }
            Endpoint::OAuth(endpoint, service) => {
                let response = Box::pin(self.oauth_endpoint(context, endpoint, &service, request)).await;
                reply::with_cors(response, &cors)
            }
            Endpoint::ResourceServer(endpoint, service) => {
                reply::with_cors(Box::pin(self.resource_server(context, endpoint, &service, request)).await, &cors)
            }
            Endpoint::Api(route) => Box::pin(self.api(context, route, request)).await,
            Endpoint::Browser(endpoint) => origin().scoped(self.browser_endpoint(context, endpoint, request)).await,
            Endpoint::Asset(asset) => reply::asset(asset),
            Endpoint::Home => flow_pages::home(&self.app, &config),
        }
    }

    /// The web pages that may read the response; `None`: this page may not call the MCP endpoint.
    fn cors_policy(&self, endpoint: &Endpoint, context: RequestContext<'_>, headers: &HeaderMap) -> Option<CorsPolicy> {
        match endpoint {
            Endpoint::Mcp(service) => {
                let Origin::Other(origin) = guard::origin(context.base_url, headers) else {
                    return Some(CorsPolicy::Own);
                };
                let serves_pages = find(context, service).is_none_or(|endpoint| endpoint.serves_foreign_pages());
                guard::mcp_cors_policy(self.app.urls(), &context.config.configured.cors_origins, &origin, serves_pages)
            }
            // No page may call an adapter, unless its origin is configured.
            Endpoint::Adapter(..) => match guard::origin(context.base_url, headers) {
                Origin::Other(origin) => guard::mcp_cors_policy(self.app.urls(), &context.config.configured.cors_origins, &origin, false),
                Origin::Absent | Origin::Own => Some(CorsPolicy::Own),
            },
            Endpoint::Api(_) | Endpoint::ResourceServer(ResourceServerEndpoint::Introspect, _) => Some(CorsPolicy::Own),
            Endpoint::ResourceServer(ResourceServerEndpoint::UserInfo, _)
            | Endpoint::Document(_)
            | Endpoint::OAuth(..)
            | Endpoint::Browser(_)
            | Endpoint::Asset(_)
            | Endpoint::Home => Some(CorsPolicy::Everyone),
        }
    }

    /// A public document; `None` if there is no such service, or nothing to publish.
    fn document(&self, document: &Document, context: RequestContext<'_>) -> Option<Value> {
        let RequestContext { config, base_url, .. } = context;
        match document {
            Document::ProtectedResource(service) => find_oauth(context, service)
                .filter(|endpoint| !endpoint.is_served_elsewhere())
                .map(|endpoint| endpoint.resource_metadata_document()),
            Document::AuthorizationServer(service) => {
                find_oauth(context, service).map(|endpoint| endpoint.server_metadata_document(&config.configured))
            }
            Document::Services(Some(name)) => service_list::find(config, base_url, name),
            Document::Services(None) => service_list::list(config, base_url),
            Document::Keys => self.app.signing_keys.public_keys(),
            Document::Client(service) => find(context, service).and_then(|endpoint| self.app.discovery.client_document(endpoint.service)),
        }
    }

    async fn mcp(&self, context: RequestContext<'_>, endpoint: ServiceEndpoint<'_>, request: PendingRequest<'_>) -> HttpResponse {
        if is_navigation(request.headers()) {
            return reply::error(
                StatusCode::NOT_ACCEPTABLE,
                "not_acceptable",
                "this is an MCP endpoint: give its address to an MCP client",
            );
        }
        if guard::is_opaque_request(request.headers()) {
            return forbidden_origin();
        }
        if endpoint.is_served_elsewhere() {
            return introspection::external_server_response(endpoint);
        }
        let forwarded = self.app.proxy.forward(context.http, endpoint.service, request, context.address);
        forwarded.await.unwrap_or_else(|error| reply::proxy_error(&error, endpoint))
    }

    async fn oauth_endpoint(
        &self,
        context: RequestContext<'_>,
        endpoint: OAuthEndpoint,
        service: &ServiceRef,
        request: PendingRequest<'_>,
    ) -> HttpResponse {
        let Some(service) = find_oauth(context, service) else {
            return self.no_service(context.config);
        };
        let (source, (parts, body)) = (context.address.source, request.into_parts());
        let origin = RequestOrigin::of(source, &parts.headers);
        let request = OAuthRequest {
            endpoint,
            service,
            parts,
            body,
            source,
        };
        let json_token = context.config.configured.json_token;
        origin.scoped(oauth_endpoints::respond(&self.app, request, json_token)).await
    }

    async fn api(&self, context: RequestContext<'_>, route: ApiRoute, request: PendingRequest<'_>) -> HttpResponse {
        let (source, (parts, body)) = (context.address.source, request.into_parts());
        let origin = RequestOrigin::of(source, &parts.headers);
        origin.scoped(api::respond(&self.app, route, &parts, body, source)).await
    }

    async fn resource_server(
        &self,
        context: RequestContext<'_>,
        endpoint: ResourceServerEndpoint,
        service: &ServiceRef,
        request: PendingRequest<'_>,
    ) -> HttpResponse {
        let external = find(context, service).filter(ServiceEndpoint::is_served_elsewhere);
        let (parts, body) = request.into_parts();
        match (endpoint, external) {
            // At the root, the key determines the service.
            (ResourceServerEndpoint::Introspect, external)
                if external.is_some() || (*service == ServiceRef::Default && context.config.has_externals()) =>
            {
                let named = external.filter(|_| *service != ServiceRef::Default);
                Box::pin(introspection::introspect(&self.app, named, &parts, body, context.address.source)).await
            }
            (ResourceServerEndpoint::UserInfo, Some(endpoint)) => {
                Box::pin(introspection::user_info(&self.app, endpoint, &parts.headers)).await
            }
            (ResourceServerEndpoint::Introspect | ResourceServerEndpoint::UserInfo, _) => self.no_service(context.config),
        }
    }

    async fn browser_endpoint(&self, context: RequestContext<'_>, endpoint: BrowserEndpoint, request: PendingRequest<'_>) -> HttpResponse {
        let (parts, body) = request.into_parts();
        let body = match read_body(body).await {
            Ok(body) => body,
            Err(error) => return body_error(&error),
        };
        let query = parts.uri.query().unwrap_or("");
        let request = BrowserRequest {
            app: &self.app,
            http: context.http,
            config: context.config,
            base_url: context.base_url,
            headers: &parts.headers,
            query,
            body,
            source: context.address.source,
        };
        let is_post = parts.method == Method::POST;
        if let Some(refusal) = flow_pages::refusal(&request, is_post) {
            return refusal;
        }
        match endpoint {
            BrowserEndpoint::Login(flow) if is_post => flow_pages::sign_in(&request, &flow).await,
            BrowserEndpoint::Consent(flow) if is_post => flow_pages::submit_consent(&request, &flow).await,
            BrowserEndpoint::Login(flow) | BrowserEndpoint::Consent(flow) => flow_pages::show(&request, &flow).await,
            BrowserEndpoint::Approvals(id) if is_post => Box::pin(approval_pages::submit(&request, id.as_deref())).await,
            BrowserEndpoint::Approvals(id) => Box::pin(approval_pages::show(&request, id.as_deref())).await,
            BrowserEndpoint::LoginCallback(name) => match context.config.idp(&name) {
                Some(active) => idp_pages::callback(&request, active).await,
                None => self.no_service(context.config),
            },
            // The configuration of a running gateway may not have the service yet.
            BrowserEndpoint::UpstreamCallback(ServiceRef::Named(name)) if StoredLogins::is_callback(query.as_bytes()) => {
                stored_login_pages::callback(&request, &name).await
            }
            BrowserEndpoint::UpstreamCallback(service) => match find(context, &service) {
                Some(service_endpoint) => flow_pages::callback(&request, service_endpoint.service).await,
                None => self.no_service(context.config),
            },
            BrowserEndpoint::Authorize(service) => match find_oauth(context, &service) {
                Some(service_endpoint) => flow_pages::authorize(&request, service_endpoint).await,
                None => self.no_service(context.config),
            },
        }
    }

    /// The error for an unknown service, or a missing default service.
    fn no_service(&self, config: &RuntimeConfig) -> HttpResponse {
        let hint = match config.default_service() {
            Some(_) => format!("the MCP endpoint is {}/mcp", self.app.urls().public_url()),
            None => format!("name the service: {}/mcp/{{service}}", self.app.urls().public_url()),
        };
        reply::error(StatusCode::NOT_FOUND, "not_found", &format!("there is nothing here; {hint}"))
    }

    async fn ready(&self) -> HttpResponse {
        match self.app.check_ready().await {
            Ok(()) => reply::json(StatusCode::OK, &json!({ "status": "ready" })),
            Err(error) => {
                tracing::warn!(why = %error, "not ready");
                let document = json!({ "status": "not ready", "error": "temporarily_unavailable" });
                reply::with_retry_after(reply::json(StatusCode::SERVICE_UNAVAILABLE, &document), 1)
            }
        }
    }

    fn misdirected_response(&self) -> HttpResponse {
        let message = format!("this host is not known here; use {}", self.app.urls().public_url());
        reply::error(StatusCode::MISDIRECTED_REQUEST, "misdirected_request", &message)
    }

    fn route_error(&self, error: RouteError, request: &PendingRequest<'_>) -> HttpResponse {
        if guard::match_host(self.app.urls(), request).is_none() {
            return self.misdirected_response();
        }
        match error {
            RouteError::NotFound => {
                let response = self.no_service(&self.app.config());
                reply::with_cors(response, &CorsPolicy::Everyone)
            }
            RouteError::Method(allowed) => {
                let mut response = reply::error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &format!("use {allowed}"));
                response
                    .headers_mut()
                    .insert(header::ALLOW, header::HeaderValue::from_static(allowed));
                response
            }
        }
    }
}

/// The service of a path, with the address and the host that the request used.
fn find<'a>(context: RequestContext<'a>, service: &ServiceRef) -> Option<ServiceEndpoint<'a>> {
    let (active, path) = match service {
        ServiceRef::Default => (context.config.default_service()?, PathStyle::Root),
        ServiceRef::Named(name) => (context.config.find(name)?, PathStyle::Named),
        ServiceRef::Alias(name) => (context.config.find(name)?, PathStyle::Alias),
    };
    Some(ServiceEndpoint {
        base_url: context.base_url,
        service: active,
        path,
    })
}

/// As [`find`], for services with OAuth. Public services and services with API keys have no authorization
/// server.
fn find_oauth<'a>(context: RequestContext<'a>, service: &ServiceRef) -> Option<ServiceEndpoint<'a>> {
    find(context, service).filter(ServiceEndpoint::is_oauth)
}

fn forbidden_origin() -> HttpResponse {
    reply::error(
        StatusCode::FORBIDDEN,
        "forbidden_origin",
        "pages of this origin may not call the MCP endpoint; add the origin to cors.origins",
    )
}

/// Reads the rest of an unread body for up to one second, so that the connection can be reused. After that,
/// `Connection: close` (RFC 9112 §9.6) stops the client from sending its next request on it.
async fn drain_body(mut response: HttpResponse, body: Incoming, expects_continue: bool) -> HttpResponse {
    let is_read = body.is_end_stream() || (!expects_continue && read_limited(body, MAX_BODY_BYTES, DRAIN_TIMEOUT).await.is_ok());
    if !is_read {
        response
            .headers_mut()
            .insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    }
    response
}

/// Whether a user opened the MCP endpoint in a browser.
fn is_navigation(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate")
}
