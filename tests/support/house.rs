//! A gateway with a service for each kind of upstream credential, and the upstreams.

use mcp_gateway_standin::{Profile, Seen, Standin};
use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::base::url::ExactUrl;
use mcp_oauth_gateway::service::auth_header::{AuthHeader, PasteSettings};
use mcp_oauth_gateway::service::identity_headers::IdentityHeaders;
use mcp_oauth_gateway::service::static_credential::StaticCredential;
use mcp_oauth_gateway::service::{Login, Service, Upstream};
use mcp_oauth_gateway::token::header::ServiceDigest;

use super::browser::{Browser, Page};
use super::client::{McpClient, Pair};
use super::world::World;

/// The credential of a user for the upstream `legacy`, in `X-Api-Key`.
pub(crate) const KEY: &str = "legacy-key-5d41402abc4b2a76";
/// The static credential for the upstream `weather`.
pub(crate) const FIXED: &str = "weather-key-7d793037a0760186";
/// All services, the default one first.
pub(crate) const SERVICES: [&str; 6] = ["default", "chained", "legacy", "weather", "calculator", "open"];

/// See [the module](self).
pub(crate) struct House {
    pub world: World,
    /// Requires [`KEY`].
    pub legacy: Standin,
    /// Requires [`FIXED`].
    pub weather: Standin,
    /// Requires nothing; behind `calculator` (identity headers) and `open` (no credential).
    pub backend: Standin,
}

/// A pasted credential in the header `X-Api-Key: {credential}`.
pub(crate) fn paste() -> Upstream {
    Upstream::Paste(PasteSettings {
        header: AuthHeader::parse("X-Api-Key", "{credential}").unwrap(),
        hint: "You find it under Settings.".into(),
    })
}

/// A copy of a service with another name, upstream, credential and login.
pub(crate) fn service(from: &Service, name: &str, mcp: &str, upstream: Upstream, login: Login) -> Service {
    Service {
        name: name.into(),
        digest: ServiceDigest::of(name),
        is_default: false,
        mcp: ExactUrl::parse(mcp).unwrap(),
        upstream,
        login,
        ..from.clone()
    }
}

impl House {
    /// Starts the gateway with all [`SERVICES`].
    pub(crate) async fn new() -> Self {
        let [legacy, weather, backend] = [(); 3].map(|()| Standin::start(Profile::Standard));
        legacy.set(|b| b.mcp_key = Some(("x-api-key".into(), KEY.into())));
        weather.set(|b| b.mcp_key = Some(("authorization".into(), format!("Bearer {FIXED}"))));
        backend.set(|b| b.mcp_open = true);
        let fixed = StaticCredential::new(&AuthHeader::bearer(), &Secret::from(FIXED)).unwrap();
        let told = IdentityHeaders::parse(["id", "email", "name", "provider", "avatar"]).unwrap();
        let world = World::with_services(Profile::Standard, |first| {
            let made = |name, mcp: &str, upstream, login| service(first, name, mcp, upstream, login);
            vec![
                first.clone(),
                made("chained", first.mcp.as_str(), first.upstream.clone(), Login::None),
                made("legacy", &legacy.mcp_url(), paste(), Login::None),
                made("weather", &weather.mcp_url(), Upstream::Static(fixed), Login::Password),
                made("calculator", &backend.mcp_url(), Upstream::Identity(told), Login::Password),
                made("open", &backend.mcp_url(), Upstream::None, Login::Password),
            ]
        })
        .await;
        Self {
            world,
            legacy,
            weather,
            backend,
        }
    }

    /// A registered client.
    pub(crate) async fn client(&self) -> McpClient {
        McpClient::register(&self.world.url).await
    }

    /// The last request at an upstream's MCP endpoint.
    pub(crate) fn last(upstream: &Standin) -> Seen {
        upstream.log().into_iter().rfind(|seen| seen.path == "/mcp").expect("nothing came")
    }
}

/// Consents on the page of a service that asks for a key.
pub(crate) async fn paste_key(browser: &mut Browser, consent: &Page, key: &str) -> Page {
    let form = consent.field("form");
    let fields = [("form", form.as_str()), ("credential", key), ("decision", "approve")];
    browser.post(&consent.action(), &fields).await
}

/// Runs the flow at any of the services. Returns the redirect to the client.
pub(crate) async fn browse(client: &McpClient, browser: &mut Browser) -> String {
    let consent = client.to_consent(browser).await;
    let page = paste_key(browser, &consent, KEY).await;
    let onward = page.onward().unwrap_or_else(|| panic!("{} {}", page.status, page.text));
    client.follow(browser, onward).await
}

/// Runs a whole flow and redeems the code.
pub(crate) async fn login(client: &McpClient) -> Pair {
    let answer = browse(client, &mut Browser::default()).await;
    Pair::of(&client.redeem(&McpClient::code(&answer)).await)
}
