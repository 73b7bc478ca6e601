//! A gateway in this process, configured by the text of a configuration file.

use std::path::Path;

use mcp_gateway_standin::{Canned, Profile, Seen, Standin};
use mcp_oauth_gateway::config::document::{self, Environment};
use mcp_oauth_gateway::config::spanned::Location;
use mcp_oauth_gateway::config::validate::{self, Validated};
use serde_json::{Value, json};

use crate::support::browser::{Browser, Page};
use crate::support::client::{McpClient, Pair};
use crate::support::world::World;

/// Checks a configuration file. No variable is set, and no file can be read.
pub(crate) fn check(text: &str) -> Result<Validated, String> {
    let environment = Environment {
        variable: &|_| None,
        file: &|_: &Path| Err("there is none".to_owned()),
    };
    let document = document::read("gateway.toml", text, environment).map_err(|error| error.to_string())?;
    let location = Location::Flag("--config");
    validate::validate(document, &location, Some("/nowhere".into())).map_err(|error| error.to_string())
}

/// What is wrong with a configuration file.
pub(crate) fn refusal(text: &str) -> String {
    check(text).expect_err(text)
}

/// A gateway with the default service of a file. `text` gets the URL of the upstream.
pub(crate) async fn gateway(profile: Profile, text: impl FnOnce(&str) -> String) -> World {
    World::made(profile, |parts| {
        let upstream = parts.config.services[0].mcp.to_string();
        let text = text(&upstream);
        let checked = check(&text).unwrap_or_else(|error| panic!("{error}\n{text}")).config;
        parts.config.services = checked.services;
        parts.config.idps = checked.idps;
        parts.config.clients = checked.clients;
    })
    .await
}

/// A gateway with one service at the upstream, and these further lines about it.
pub(crate) async fn service(lines: impl FnOnce(&str) -> String) -> World {
    gateway(Profile::Standard, |upstream| {
        let origin = upstream.strip_suffix("/mcp").unwrap();
        format!("[services.default]\nurl = \"{upstream}\"\n{}\n", lines(origin))
    })
    .await
}

/// A gateway whose users sign in at `idp`, and whose upstream gets their identity. `lines` are about the
/// provider.
pub(crate) async fn at_provider(idp: &Standin, lines: &str) -> World {
    let issuer = if lines.contains("issuer") {
        String::new()
    } else {
        format!("issuer = \"{}\"\n", idp.issuer())
    };
    gateway(Profile::Standard, |upstream| {
        format!(
            "[idp.corp]\nclient_id = \"gateway\"\nclient_secret = \"gateway-secret\"\n{issuer}{lines}\n\
            [services.default]\nurl = \"{upstream}\"\nlogin = \"idp:corp\"\nupstream = \"identity\"\n"
        )
    })
    .await
}

/// Signs in once: the pair, or the text of what the browser or the client got instead.
pub(crate) async fn sign_in(world: &World) -> Result<Pair, String> {
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    sign_in_with(&client, &mut browser).await
}

/// As `sign_in`, with this client and browser.
pub(crate) async fn sign_in_with(client: &McpClient, browser: &mut Browser) -> Result<Pair, String> {
    let mut page = client.to_consent(browser).await;
    if page.text.contains("value=\"provider\"") {
        page = browser.decide(&page, "provider").await;
        page = follow(client, browser, page).await;
    }
    if page.text.contains("value=\"approve\"") {
        page = browser.decide(&page, "approve").await;
        page = follow(client, browser, page).await;
    }
    match page.onward().filter(|next| next.starts_with(&client.redirect)) {
        Some(home) if home.contains("code=") => Ok(Pair::of(&client.redeem(&McpClient::code(&home)).await)),
        Some(home) => Err(home),
        None => Err(format!("{} {}", page.status, page.text)),
    }
}

/// Follows redirects until a page, or the redirect to the client.
async fn follow(client: &McpClient, browser: &mut Browser, mut page: Page) -> Page {
    for _ in 0..10 {
        match page.onward() {
            Some(next) if !next.starts_with(&client.redirect) => page = browser.get(&next).await,
            Some(_) | None => break,
        }
    }
    page
}

/// The requests to a path, in order.
pub(crate) fn seen(standin: &Standin, path: &str) -> Vec<Seen> {
    standin.log().into_iter().filter(|seen| seen.path == path).collect()
}

/// A query parameter of a logged request.
pub(crate) fn query(seen: &Seen, name: &str) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(seen.query.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// A fixed answer to every request for a path.
pub(crate) fn canned(path: &str, status: u16, body: &Value) -> Canned {
    Canned {
        path: path.to_owned(),
        status,
        body: body.to_string(),
        ..Canned::default()
    }
}

/// A redirect of a path.
pub(crate) fn redirect(path: &str, status: u16, location: &str) -> Canned {
    Canned {
        headers: vec![("location", location.to_owned())],
        ..canned(path, status, &json!({}))
    }
}
