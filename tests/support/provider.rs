//! A gateway whose users log in at identity providers, played by the stand-in.

use mcp_gateway_standin::{CLIENT_ID, CLIENT_SECRET, Profile, Standin};
use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::base::url::ExactUrl;
use mcp_oauth_gateway::service::Login;
use mcp_oauth_gateway::service::config::Config;
use mcp_oauth_gateway::upstream::allow_list::AllowList;
use mcp_oauth_gateway::upstream::idp::{self, Idp, UserApi};

use super::browser::{Browser, Page};
use super::client::{McpClient, Pair};
use super::world::World;

fn secret() -> Secret {
    Secret::from(CLIENT_SECRET)
}

/// The stand-in as a provider of `preset = "oidc"`, which admits every account.
pub(crate) fn oidc(name: &str, standin: &Standin) -> Idp {
    let issuer = ExactUrl::parse(&standin.issuer()).unwrap();
    let mut made = Idp::new(name, &idp::OIDC, Some(issuer), CLIENT_ID, Some(secret())).unwrap();
    made.allow = AllowList::anyone();
    made
}

/// An allow list with these e-mail addresses only.
pub(crate) fn only_emails(emails: &[&str]) -> AllowList {
    AllowList {
        emails: emails.iter().map(|email| (*email).to_owned()).collect(),
        ..AllowList::default()
    }
}

/// The stand-in as GitHub, which admits no account.
pub(crate) fn github(standin: &Standin) -> Idp {
    let at = |path: &str| ExactUrl::parse(&format!("{}{path}", standin.origin())).unwrap();
    let mut made = Idp::new("github", &idp::GITHUB, None, CLIENT_ID, Some(secret())).unwrap();
    made.plain = Some(UserApi {
        authorize: at("/login/oauth/authorize"),
        token: at("/login/oauth/access_token"),
        user: at("/user"),
        emails: at("/user/emails"),
        api: standin.origin(),
    });
    made
}

/// A gateway whose only service uses the login `idp`. Also returns its configuration for changes.
pub(crate) async fn signing_in_at(idp: Idp) -> (World, Config) {
    let mut config = None;
    let world = World::made(Profile::Standard, |parts| {
        parts.config.services[0].login = Login::Idp(idp.name.clone());
        parts.config.idps = vec![idp];
        config = Some(parts.config.clone());
    })
    .await;
    (world, config.unwrap())
}

impl McpClient {
    /// Runs the flow up to the page before the provider.
    pub(crate) async fn to_provider(&self, browser: &mut Browser) -> Page {
        let page = self.to_consent(browser).await;
        assert!(page.text.contains("value=\"provider\""), "{} {}", page.status, page.text);
        page
    }

    /// Runs the flow up to our callback, and returns the callback's URL.
    pub(crate) async fn to_login_callback(&self, browser: &mut Browser) -> String {
        let page = self.to_provider(browser).await;
        let there = browser.decide(&page, "provider").await.onward().expect("on to the provider");
        browser.get(&there).await.onward().expect("back to our callback")
    }

    /// Logs in at the provider. Returns the callback's page, after one redirect in the gateway.
    pub(crate) async fn by_provider(&self, browser: &mut Browser) -> Page {
        let callback = self.to_login_callback(browser).await;
        let page = browser.get(&callback).await;
        match page.onward() {
            Some(next) if next.starts_with(&self.base) => browser.get(&next).await,
            Some(_) | None => page,
        }
    }

    /// Runs a whole flow and redeems the code.
    pub(crate) async fn login_by_provider(&self) -> Pair {
        let mut browser = Browser::default();
        let consent = self.by_provider(&mut browser).await;
        assert!(consent.text.contains("value=\"approve\""), "{} {}", consent.status, consent.text);
        let onward = browser.decide(&consent, "approve").await.onward().expect("on to the upstream");
        let answer = self.follow(&mut browser, onward).await;
        Pair::of(&self.redeem(&Self::code(&answer)).await)
    }
}
