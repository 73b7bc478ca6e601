//! A gateway with a service for each way to unlock an upstream, and the upstreams behind them.

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

/// What the upstream `legacy` takes of a user, in `X-Api-Key`.
pub const KEY: &str = "legacy-key-5d41402abc4b2a76";
/// What the upstream `weather` takes of the service.
pub const FIXED: &str = "weather-key-7d793037a0760186";
/// Every service, the default one first.
pub const SERVICES: [&str; 6] = ["default", "chained", "legacy", "weather", "calculator", "open"];

/// See [the module](self).
pub struct House {
    pub world: World,
    /// Takes [`FORM_KEY_BYTES`].
    pub legacy: Standin,
    /// Takes [`FIXED_LEN`].
    pub weather: Standin,
    /// Takes everybody; behind `calculator` (identity) and `open` (nothing).
    pub backend: Standin,
}

/// `X-Api-Key: {credential}`, to be pasted.
pub fn paste() -> Upstream {
    Upstream::Paste(PasteSettings {
        header: AuthHeader::parse("X-Api-Key", "{credential}").unwrap(),
        hint: "You find it under Settings.".into(),
    })
}

/// A service made from another: its name, its upstream, how it is unlocked, and who the user is.
pub fn service(from: &Service, name: &str, mcp: &str, upstream: Upstream, login: Login) -> Service {
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
    /// With all [`SERVICES`].
    pub async fn new() -> Self {
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

    /// A client that registered.
    pub async fn client(&self) -> McpClient {
        McpClient::register(&self.world.url).await
    }

    /// The last request that reached an upstream's MCP endpoint.
    pub fn last(upstream: &Standin) -> Seen {
        upstream.log().into_iter().rfind(|seen| seen.path == "/mcp").expect("nothing came")
    }
}

/// Decides on the consent page of a service that takes a key.
pub async fn paste_key(browser: &mut Browser, consent: &Page, key: &str) -> Page {
    let form = consent.field("form");
    let fields = [("form", form.as_str()), ("credential", key), ("decision", "approve")];
    browser.post(&consent.action(), &fields).await
}

/// The client's answer, whatever the service is unlocked by.
pub async fn browse(client: &McpClient, browser: &mut Browser) -> String {
    let consent = client.to_consent(browser).await;
    let page = paste_key(browser, &consent, KEY).await;
    let onward = page.onward().unwrap_or_else(|| panic!("{} {}", page.status, page.text));
    client.follow(browser, onward).await
}

/// The whole sign-in.
pub async fn login(client: &McpClient) -> Pair {
    let answer = browse(client, &mut Browser::default()).await;
    Pair::of(&client.redeem(&McpClient::code(&answer)).await)
}
