//! Every request comes through here: guard, route, use case, reply.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Version, header};
use hyper::body::{Body as _, Incoming};
use serde_json::json;

use crate::gateway::at::{At, Path};
use crate::gateway::directory;
use crate::gateway::live::Live;
use crate::gateway::site::As;
use crate::gateway::{Gateway, Lane};
use crate::net::body::{BodyError, read_limited};
use crate::oauth::form::Form;
use crate::web::guard::{self, Readers};
use crate::web::journey;
use crate::web::pages;
use crate::web::provider;
use crate::web::reply::{self, Answer};
use crate::web::route::{NoRoute, Of, Route, Routes};

/// The largest body of an OAuth request, in bytes.
const LARGEST: usize = 64 * 1024;
/// How long such a body may take.
const WITHIN: Duration = Duration::from_secs(15);
/// How long a body that nobody asked for is read on.
const LEFT: Duration = Duration::from_secs(1);
const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// A request whose body is taken by whoever reads it, and left by whoever does not.
type Pending<'a> = Request<&'a mut Option<Incoming>>;

/// The front door. Cheap to clone.
#[derive(Clone)]
pub struct Door {
    gateway: Gateway,
    routes: Arc<Routes>,
}

/// One request to an endpoint of ours, with its body read.
pub struct Asked<'a> {
    /// The name that it used.
    pub called: &'a As,
    /// What stands behind us.
    pub live: &'a Live,
    /// The whole head.
    pub headers: &'a HeaderMap,
    /// The query, undecoded.
    pub query: &'a str,
    /// The body; empty for GET.
    pub body: Bytes,
    /// The caller's address, for waiting times only.
    pub source: IpAddr,
}

impl Door {
    /// The door of this gateway.
    pub fn new(gateway: Gateway) -> Self {
        let routes = Arc::new(Routes::new(gateway.site().prefix()));
        Self { gateway, routes }
    }

    /// Answers one request of `peer`, the other end of the connection.
    pub async fn handle(&self, lane: &Lane, request: Request<Incoming>, peer: IpAddr) -> Answer {
        let (head, body) = request.into_parts();
        let (version, waits) = (head.version, head.headers.contains_key(header::EXPECT));
        let mut body = Some(body);
        let answer = self.answered(lane, Request::from_parts(head, &mut body), peer).await;
        match body {
            Some(body) if version < Version::HTTP_2 => unread_left(answer, body, waits).await,
            Some(_) | None => answer,
        }
    }

    async fn answered(&self, lane: &Lane, request: Pending<'_>, peer: IpAddr) -> Answer {
        let source = guard::source(peer, request.headers(), &self.gateway.site().trusted_proxies);
        let route = match self.routes.find(request.method(), request.uri().path()) {
            Ok(route) => route,
            Err(why) => return self.nowhere(why, &request),
        };
        match route {
            // Health is asked by machines that know no name of ours.
            Route::Live => return reply::json(StatusCode::OK, &json!({ "status": "live" })),
            Route::Ready => return self.ready().await,
            _ => {}
        }
        let Some(called) = guard::called(self.gateway.site(), &request) else {
            return self.misdirected();
        };
        let live = self.gateway.live();
        let readers = match route {
            Route::Mcp(_) => {
                match guard::mcp_readers(self.gateway.site(), live.cors_origins(), &guard::origin(called, request.headers())) {
                    Some(readers) => readers,
                    None => return foreign(),
                }
            }
            _ => Readers::Everyone,
        };
        if request.method() == Method::OPTIONS {
            return reply::preflight(&readers, request.headers());
        }
        match route {
            Route::Mcp(of) => {
                let answer = match find(&live, called, &of) {
                    Some(at) => self.mcp(lane, at, request, source).await,
                    None => self.no_service(&live),
                };
                reply::share(answer, &readers)
            }
            Route::Live | Route::Ready => self.ready().await,
            Route::ProtectedResource(of) => {
                let answer = find_oauth(&live, called, &of).map(|at| reply::document(&at.resource_document()));
                reply::share(answer.unwrap_or_else(|| self.no_service(&live)), &readers)
            }
            Route::AuthorizationServer(of) => {
                let answer = find_oauth(&live, called, &of).map(|at| reply::document(&at.server_document()));
                reply::share(answer.unwrap_or_else(|| self.no_service(&live)), &readers)
            }
            Route::Services(name) => {
                let listed = match name {
                    Some(name) => directory::one(&live, called, &name),
                    None => directory::all(&live, called),
                };
                let answer = listed.map(|document| reply::document(&document));
                reply::share(answer.unwrap_or_else(|| self.no_service(&live)), &readers)
            }
            Route::Keys => {
                let answer = self.gateway.published_keys().map(|keys| reply::document(&keys));
                reply::share(answer.unwrap_or_else(|| self.no_service(&live)), &readers)
            }
            Route::Style => style(),
            Route::Home => journey::home(&self.gateway, &live),
            Route::Token(ref of) | Route::Register(ref of) | Route::Revoke(ref of) => {
                let answer = match find_oauth(&live, called, of) {
                    Some(at) => self.machine(lane, &route, at, request, source).await,
                    None => self.no_service(&live),
                };
                reply::share(answer, &readers)
            }
            Route::Authorize(_) | Route::Login(_) | Route::LoginCallback(_) | Route::Consent(_) | Route::UpstreamCallback(_) => {
                self.person(lane, route, (&live, called), request, source).await
            }
        }
    }

    async fn mcp(&self, lane: &Lane, at: At<'_>, request: Pending<'_>, source: IpAddr) -> Answer {
        if is_navigation(request.headers()) {
            return reply::error(
                StatusCode::NOT_ACCEPTABLE,
                "not_acceptable",
                "this is an MCP endpoint: give its address to an MCP client",
            );
        }
        if guard::is_blind(request.headers()) {
            return foreign();
        }
        match self.gateway.forward(lane, at.running, request, source).await {
            Ok(answer) => answer,
            Err(why) => reply::denied(&why, at),
        }
    }

    async fn machine(&self, lane: &Lane, route: &Route, at: At<'_>, request: Pending<'_>, source: IpAddr) -> Answer {
        let (head, body) = request.into_parts();
        let kind = head.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
        let wanted = if matches!(route, Route::Register(_)) { JSON } else { FORM };
        let is = |wanted: &str| kind.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case(wanted);
        let is_json_token = matches!(route, Route::Token(_)) && is(JSON) && self.gateway.live().json_token();
        if !is(wanted) && !is_json_token {
            return reply::error(StatusCode::BAD_REQUEST, "invalid_request", &format!("the body must be {wanted}"));
        }
        let body = match taken(body).await {
            Ok(body) => body,
            Err(why) => return unread(&why),
        };
        let authorization = head.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        let answer = match route {
            Route::Token(_) => {
                let form = if is_json_token {
                    Form::from_json(&body)
                } else {
                    Form::parse(&body)
                };
                match form {
                    Ok(form) => self.gateway.token(lane, at, authorization, &form).await,
                    Err(why) => Err(why.into()),
                }
                .map(|document| (StatusCode::OK, document))
            }
            Route::Revoke(_) => self
                .gateway
                .revoke(lane, at.running, authorization, &body)
                .await
                .map(|()| (StatusCode::OK, json!({}))),
            _ => self.gateway.register(&body, source).map(|document| (StatusCode::CREATED, document)),
        };
        match answer {
            Ok((status, document)) => {
                let mut answer = reply::json(status, &document);
                answer
                    .headers_mut()
                    .insert(header::PRAGMA, header::HeaderValue::from_static("no-cache"));
                answer
            }
            Err(why) => reply::refusal(&why),
        }
    }

    async fn person(&self, lane: &Lane, route: Route, (live, called): (&Live, &As), request: Pending<'_>, source: IpAddr) -> Answer {
        let (head, body) = request.into_parts();
        let body = match taken(body).await {
            Ok(body) => body,
            Err(why) => return unread(&why),
        };
        let query = head.uri.query().unwrap_or("");
        let asked = Asked {
            called,
            live,
            headers: &head.headers,
            query,
            body,
            source,
        };
        let is_post = head.method == Method::POST;
        if is_post && !guard::is_own_post(called, &head.headers) {
            return journey::forged(&self.gateway);
        }
        match route {
            Route::Login(flow) if is_post => journey::sign_in(&self.gateway, lane, &asked, &flow).await,
            Route::Consent(flow) if is_post => journey::decide(&self.gateway, lane, &asked, &flow).await,
            Route::Login(flow) | Route::Consent(flow) => journey::show(&self.gateway, lane, &asked, &flow).await,
            Route::LoginCallback(name) => match live.idp(&name) {
                Some(running) => provider::callback(&self.gateway, &asked, running).await,
                None => self.no_service(live),
            },
            Route::UpstreamCallback(of) => match find(live, called, &of) {
                Some(at) => journey::callback(&self.gateway, &asked, at.running).await,
                None => self.no_service(live),
            },
            Route::Authorize(of) => match find_oauth(live, called, &of) {
                Some(at) => journey::authorize(&self.gateway, lane, &asked, at).await,
                None => self.no_service(live),
            },
            _ => self.no_service(live),
        }
    }

    /// No service of this name, or none that is the default one.
    fn no_service(&self, live: &Live) -> Answer {
        let hint = match live.default_service() {
            Some(_) => format!("the MCP endpoint is {}/mcp", self.gateway.site().public_url()),
            None => format!("name the service: {}/mcp/{{service}}", self.gateway.site().public_url()),
        };
        reply::error(StatusCode::NOT_FOUND, "not_found", &format!("there is nothing here; {hint}"))
    }

    async fn ready(&self) -> Answer {
        match self.gateway.is_ready().await {
            Ok(()) => reply::json(StatusCode::OK, &json!({ "status": "ready" })),
            Err(why) => {
                tracing::warn!(%why, "not ready");
                let document = json!({ "status": "not ready", "error": "temporarily_unavailable" });
                reply::later(reply::json(StatusCode::SERVICE_UNAVAILABLE, &document), 1)
            }
        }
    }

    fn misdirected(&self) -> Answer {
        let why = format!("this host is not known here; use {}", self.gateway.site().public_url());
        reply::error(StatusCode::MISDIRECTED_REQUEST, "misdirected_request", &why)
    }

    fn nowhere(&self, why: NoRoute, request: &Pending<'_>) -> Answer {
        if guard::called(self.gateway.site(), request).is_none() {
            return self.misdirected();
        }
        match why {
            NoRoute::NotFound => {
                let answer = self.no_service(&self.gateway.live());
                reply::share(answer, &Readers::Everyone)
            }
            NoRoute::Method(allowed) => {
                let mut answer = reply::error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &format!("use {allowed}"));
                answer
                    .headers_mut()
                    .insert(header::ALLOW, header::HeaderValue::from_static(allowed));
                answer
            }
        }
    }
}

/// The service that a path is of, and how it was called.
fn find<'a>(live: &'a Live, called: &'a As, of: &Of) -> Option<At<'a>> {
    let (running, path) = match of {
        Of::Default => (live.default_service()?, Path::Root),
        Of::Named(name) => (live.find(name)?, Path::Named),
        Of::Alias(name) => (live.find(name)?, Path::Alias),
    };
    Some(At { called, running, path })
}

/// The same where clients sign in; a service that takes keys, or nothing, has no authorization server.
fn find_oauth<'a>(live: &'a Live, called: &'a As, of: &Of) -> Option<At<'a>> {
    find(live, called, of).filter(At::is_oauth)
}

fn style() -> Answer {
    let mut answer = reply::with(
        StatusCode::OK,
        "text/css; charset=utf-8",
        Bytes::from_static(pages::STYLE.as_bytes()),
    );
    answer
        .headers_mut()
        .insert(header::CACHE_CONTROL, header::HeaderValue::from_static("public, max-age=300"));
    answer
}

fn foreign() -> Answer {
    reply::error(
        StatusCode::FORBIDDEN,
        "forbidden_origin",
        "pages of this origin may not call the MCP endpoint; add the origin to cors.origins",
    )
}

async fn taken(body: &mut Option<Incoming>) -> Result<Bytes, BodyError> {
    match body.take() {
        Some(body) => read_limited(body, LARGEST, WITHIN).await,
        None => Ok(Bytes::new()),
    }
}

/// The answer came before the body was read, and the client may still be sending it. It is read on for a moment, so that
/// the connection can be used again; else the answer says that it cannot (RFC 9112 §9.6). Without that, a client would send
/// its next request into a connection that we close.
async fn unread_left(mut answer: Answer, body: Incoming, waits: bool) -> Answer {
    let is_read = body.is_end_stream() || (!waits && read_limited(body, LARGEST, LEFT).await.is_ok());
    if !is_read {
        answer
            .headers_mut()
            .insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    }
    answer
}

fn unread(why: &BodyError) -> Answer {
    let status = match why {
        BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::TimedOut => StatusCode::REQUEST_TIMEOUT,
        BodyError::Broken(_) => StatusCode::BAD_REQUEST,
    };
    reply::error(status, "invalid_request", &why.to_string())
}

/// A person opened the MCP address in a browser.
fn is_navigation(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate")
}
