//! A gateway with two resource servers, `files` (JWT) and `notes` (opaque), beside a proxied service.

use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, header};
use mcp_gateway_standin::Profile;
use mcp_oauth_gateway::app::access_keys::{AccessKeySpec, AccessKeys, CreatedAccessKey};
use mcp_oauth_gateway::base::url::ExactUrl;
use mcp_oauth_gateway::flow::access_key::KeyHolder;
use mcp_oauth_gateway::net::body::RequestBody;
use mcp_oauth_gateway::oauth::scope::Scopes;
use mcp_oauth_gateway::service::{Access, Login, Service, Upstream};
use mcp_oauth_gateway::token::header::TokenMode;
use serde_json::{Value, json};

use crate::support::browser::{Browser, Page, send};
use crate::support::client::{McpClient, Pair};
use crate::support::house::service;
use crate::support::world::{PASSWORD, USER, World};

/// The resource of `files`.
pub(crate) const FILES: &str = "https://files.example.com/mcp";
/// The resource of `notes`.
pub(crate) const NOTES: &str = "https://notes.example.com/mcp";

/// See [the module](self).
pub(crate) struct Servers {
    pub world: World,
    pub keys: AccessKeys,
}

/// How a resource server sends its key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scheme {
    Bearer,
    Basic,
}

fn external(first: &Service, name: &str, resource: &str, mode: TokenMode) -> Service {
    Service {
        access: Access::Introspect,
        mode,
        scopes: Scopes::parse("read"),
        optional_scopes: Scopes::parse("write openid profile email"),
        ..service(first, name, resource, Upstream::None, Login::Password)
    }
}

impl Servers {
    /// Starts the gateway.
    pub(crate) async fn new() -> Self {
        let keys = Mutex::new(None);
        let world = World::made(Profile::Standard, |parts| {
            *keys.lock().unwrap() = Some(AccessKeys::new(parts.store.clone(), parts.clock.clone()));
            let first = parts.config.services[0].clone();
            parts.config.services.extend([
                external(&first, "files", FILES, TokenMode::Jwt),
                external(&first, "notes", NOTES, TokenMode::Sealed),
            ]);
            assert!(ExactUrl::parse(FILES).is_ok());
        })
        .await;
        let keys = keys.into_inner().unwrap().unwrap();
        Self { world, keys }
    }

    /// Makes a key of the server of this service.
    pub(crate) async fn key(&self, service: &str) -> String {
        self.new_key(KeyHolder::Server(service.into()), None).await.key.expose().to_owned()
    }

    /// Makes a key.
    pub(crate) async fn new_key(&self, holder: KeyHolder, ttl: Option<u64>) -> CreatedAccessKey {
        let spec = AccessKeySpec { holder, name: None, ttl };
        self.keys.add(spec).await.unwrap()
    }

    /// A client of a service.
    pub(crate) async fn client(&self, service: &str) -> McpClient {
        McpClient::register(&self.world.url).await.at(service)
    }

    /// Signs the user in at a resource server, with these scopes.
    pub(crate) async fn login(&self, client: &McpClient, scope: &str) -> Pair {
        let resource = if client.behind.ends_with("files") { FILES } else { NOTES };
        let url = client.authorize_url_with(&[("resource", resource), ("scope", scope)]);
        let answer = client.browse_from(&mut Browser::default(), &url).await;
        Pair::of(&client.redeem(&McpClient::code(&answer)).await)
    }

    /// Introspects at the root, with the key as a bearer token.
    pub(crate) async fn introspect(&self, key: &str, token: &str) -> Page {
        self.introspect_with("/introspect", key, Scheme::Bearer, &[("token", token)]).await
    }

    /// Introspects at a path.
    pub(crate) async fn introspect_with(&self, path: &str, key: &str, scheme: Scheme, fields: &[(&str, &str)]) -> Page {
        let authorization = match scheme {
            Scheme::Bearer => format!("Bearer {key}"),
            Scheme::Basic => format!("Basic {}", STANDARD.encode(format!("files:{key}"))),
        };
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.post(path, &authorization, "application/x-www-form-urlencoded", body).await
    }

    /// Posts a body with this `Authorization`; an empty one is left out.
    pub(crate) async fn post(&self, path: &str, authorization: &str, media_type: &str, body: String) -> Page {
        let mut request = Request::post(format!("{}{path}", self.world.url)).header(header::CONTENT_TYPE, media_type);
        if !authorization.is_empty() {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let body = RequestBody::Full(Bytes::from(body));
        send(&Browser::default().client, request.body(body).unwrap()).await
    }

    /// Opens a URL of the gateway with these headers.
    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Page {
        let mut request = Request::get(format!("{}{path}", self.world.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        send(&Browser::default().client, request.body(RequestBody::Empty).unwrap()).await
    }

    /// Opens the consent page of a client.
    pub(crate) async fn consent_page(&self, client: &McpClient, resource: &str) -> Page {
        let mut browser = Browser::default();
        let page = browser.get(&client.authorize_url_with(&[("resource", resource)])).await;
        let next = page.onward().unwrap();
        let login = browser.get(&next).await;
        browser.sign_in(&login, USER, PASSWORD).await
    }
}

/// The response for a token that is not active: exactly this.
pub(crate) fn assert_inactive(page: &Page, what: &str) {
    assert_eq!((page.status.as_u16(), page.text.as_str()), (200, r#"{"active":false}"#), "{what}");
    assert_eq!(page.header("cache-control"), "no-store", "{what}");
}

/// The response for an active token.
pub(crate) fn active(page: &Page) -> Value {
    let body = page.json();
    assert_eq!((page.status.as_u16(), &body["active"]), (200, &json!(true)), "{body}");
    assert_eq!(page.header("cache-control"), "no-store");
    body
}
