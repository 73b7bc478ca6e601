//! `check`: checks the configuration and the upstreams, and prints what to register where.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use tokio::runtime::Builder;

use crate::base::url::ExactUrl;
use crate::cli::{check_local, load_config, serve};
use crate::config::choices::{access_word, login_word};
use crate::config::flags::Serve;
use crate::config::service::ConfiguredTokenMode;
use crate::config::upstream;
use crate::config::validate::Validated;
use crate::net::dial::AddressPolicy;
use crate::net::http_client::HttpClient;
use crate::service::auth_server_config::AuthServerConfig;
use crate::service::{Access, Login, Service, Upstream};
use crate::upstream::discovery_result::{DiscoveredServer, DiscoveryInput, DiscoveryStep, discover};
use crate::upstream::fetch;

/// Timeout for one request.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs `check` and prints a report. Fails if the configuration is invalid or a check fails.
pub fn run(flags: &Serve, offline: bool) -> Result<(), String> {
    let checked = load_config::load(flags)?;
    let client_tls = serve::client_tls(&checked)?;
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|why| why.to_string())?;
    let client = (!offline).then(|| HttpClient::new(client_tls));
    let (text, local_failed) = check_local::check_local(&checked, flags, &runtime, offline);
    let local = Report {
        text,
        failed: local_failed,
    };
    let Report { text: said, failed } = runtime.block_on(report(&checked, client.as_ref(), local));
    let print = |text: &str| std::io::stdout().write_all(text.as_bytes()).map_err(|why| why.to_string());
    print(&said)?;
    let troubles = failed + checked.missing_features.len();
    match troubles {
        0 => print("\neverything is good\n"),
        1 => Err("one thing is not good, see above".to_owned()),
        several => Err(format!("{several} things are not good, see above")),
    }
}

/// What `check` prints, and how much of it failed.
struct Report {
    text: String,
    failed: usize,
}

/// Adds services and providers to the local report. Returns the whole.
async fn report(checked: &Validated, client: Option<&HttpClient>, local: Report) -> Report {
    let Report { text: here, mut failed } = local;
    let mut said = String::new();
    for warning in &checked.warnings {
        let _ = writeln!(said, "warning: {warning}\n");
    }
    let _ = writeln!(said, "gateway    {}", checked.start.urls.public_url());
    let listen: Vec<String> = checked.start.listen.iter().map(ToString::to_string).collect();
    let _ = writeln!(said, "listen     {}", listen.join(", "));
    said.push_str(&here);
    for (service, tokens) in checked.config.services.iter().zip(&checked.token_modes) {
        said.push_str(&about(checked, service, *tokens));
        if let Some(client) = client {
            failed += usize::from(!probed(client, service, &mut said).await);
        }
    }
    for idp in &checked.config.idps {
        let _ = writeln!(said, "\nidentity provider '{}'", idp.name);
        let _ = writeln!(said, "  register   {}", checked.start.urls.login_callback(&idp.name));
        // A provider without ID tokens has no OpenID configuration.
        if let (Some(client), None) = (client, &idp.plain) {
            failed += usize::from(!provider(client, &idp.issuer, &mut said).await);
        }
    }
    for wrong in &checked.missing_features {
        let _ = writeln!(said, "\n{wrong}");
    }
    Report { text: said, failed }
}

fn about(checked: &Validated, service: &Service, tokens: ConfiguredTokenMode) -> String {
    let is_default = if service.is_default { " (the default)" } else { "" };
    let mut said = format!("\nservice '{}'{is_default}\n", service.name);
    let _ = writeln!(said, "  for clients {}", checked.start.urls.mcp_endpoint(service));
    if service.is_default {
        let _ = writeln!(said, "           or {}/mcp/{}", checked.start.urls.public_url(), service.name);
    }
    let _ = writeln!(said, "  upstream   {}", service.mcp.without_query());
    if let Upstream::OAuth(given) = &service.upstream {
        let who = if given.client_id.is_some() {
            "in the upstream's OAuth app"
        } else {
            "done by itself"
        };
        let _ = writeln!(said, "  register   {}  ({who})", checked.start.urls.upstream_callback(service));
    }
    let _ = writeln!(said, "  strategy   {}", describe(service, tokens));
    said
}

/// Describes access, login and upstream credential of a service.
fn describe(service: &Service, tokens: ConfiguredTokenMode) -> String {
    let who = match (service.access, &service.login) {
        (Access::Public, _) => "anybody may call; ".to_owned(),
        (Access::Key, _) => "callers bring an API key; ".to_owned(),
        (Access::OAuth, Login::Password) => "users sign in here with a password; ".to_owned(),
        (Access::OAuth, Login::Idp(name)) => format!("users sign in at identity provider '{name}'; "),
        (Access::OAuth, Login::None) => "nobody signs in here; ".to_owned(),
    };
    let how = match &service.upstream {
        Upstream::OAuth(_) => "they sign in upstream, and their own upstream token goes on each request",
        Upstream::Paste(_) => "they paste a key of the upstream's, which goes on each request",
        Upstream::Static(_) => "the service's own key goes on each request",
        Upstream::Identity(_) => "the backend is told who the caller is",
        Upstream::None => "nothing is added to the request",
    };
    let tokens = match tokens {
        ConfiguredTokenMode::Sealed => "",
        ConfiguredTokenMode::Plain => "; clients can read the upstream's token (plain)",
        ConfiguredTokenMode::Reference => "; tokens are handles (reference)",
        ConfiguredTokenMode::Jwt => "; tokens are JWTs (jwt)",
        ConfiguredTokenMode::Raw => "; clients hold the upstream's token itself (raw)",
    };
    let (access, login) = (access_word(service.access), login_word(&service.login));
    let way = upstream::kind(&service.upstream).as_str();
    format!("{who}{how}{tokens}\n             (access {access}, login {login}, upstream {way})")
}

/// Whether the upstream can be used: discovery succeeds, or it answers a request.
async fn probed(client: &HttpClient, service: &Service, said: &mut String) -> bool {
    match &service.upstream {
        Upstream::OAuth(given) => found(client, service, given, said).await,
        Upstream::Paste(_) | Upstream::Static(_) | Upstream::Identity(_) | Upstream::None => answers(client, &service.mcp, said).await,
    }
}

async fn found(client: &HttpClient, service: &Service, given: &AuthServerConfig, said: &mut String) -> bool {
    let wanted = DiscoveryInput {
        mcp: service.mcp.clone(),
        issuer: given.issuer.clone(),
        endpoints: given.authorization_endpoint.clone().zip(given.token_endpoint.clone()),
        profile: given.profile,
        allow_addresses: given.allow_addresses.as_slice().into(),
    };
    match discover(client, &wanted).await {
        Ok(found) => {
            attempts(&found.attempts, said);
            server(&found, given, said)
        }
        Err(why) => {
            attempts(&why.attempts, said);
            let _ = writeln!(said, "  NOT FOUND  {why}");
            false
        }
    }
}

/// Reports what discovery found. Returns whether the gateway can get a client id there.
fn server(found: &DiscoveredServer, given: &AuthServerConfig, said: &mut String) -> bool {
    let server = &found.server;
    let _ = writeln!(said, "  found      {}  (profile {})", server.issuer, found.profile.name);
    let _ = writeln!(said, "    authorize  {}", server.authorization_endpoint);
    let _ = writeln!(said, "    token      {}", server.token_endpoint);
    if !found.scopes_known.is_empty() {
        let _ = writeln!(said, "    scopes     {}", found.scopes_known.join(" "));
    }
    let must_register = given.client_id.is_none() && server.registration_endpoint.is_none();
    if must_register {
        let _ = writeln!(
            said,
            "  MISSING    client_id: this upstream does not let us register; make an OAuth app there with the callback URL above"
        );
    }
    !must_register
}

fn attempts(attempts: &[DiscoveryStep], said: &mut String) {
    for attempt in attempts {
        let _ = writeln!(said, "  looked at  {attempt}");
    }
}

/// Whether an upstream without OAuth answers a request, without a redirect or a server error.
async fn answers(client: &HttpClient, url: &ExactUrl, said: &mut String) -> bool {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let answer = match fetch::post(url, "application/json", body) {
        Ok(request) => fetch::fetch_head(client, request, &AddressPolicy::Anything, CHECK_TIMEOUT).await,
        Err(why) => Err(why),
    };
    let url = url.without_query();
    match answer {
        Ok((status, _)) if status.is_redirection() => {
            let _ = writeln!(said, "  MOVED      {url}: {status}; configure the address that it redirects to");
            false
        }
        Ok((status, _)) if status.is_server_error() => {
            let _ = writeln!(said, "  ILL        {url}: {status}");
            false
        }
        Ok((status, _)) => {
            let _ = writeln!(said, "  looked at  {url}: {status}");
            true
        }
        Err(why) => {
            let _ = writeln!(said, "  NO ANSWER  {url}: {why}");
            false
        }
    }
}

/// Whether an identity provider serves an OpenID configuration with the configured issuer.
async fn provider(client: &HttpClient, issuer: &ExactUrl, said: &mut String) -> bool {
    let place = format!("{}/.well-known/openid-configuration", issuer.as_str().trim_end_matches('/'));
    let answer = match ExactUrl::parse(&place).ok().map(|url| fetch::get(&url)) {
        Some(Ok(request)) => fetch::fetch(client, request, &AddressPolicy::Anything, CHECK_TIMEOUT)
            .await
            .map_err(|why| why.to_string()),
        Some(Err(why)) => Err(why.to_string()),
        None => Err("it is not an address".to_owned()),
    };
    let outcome = match answer {
        Ok(answer) if answer.status.is_success() => issuer_in(&answer.body).map_or_else(
            || Err("no OpenID configuration".to_owned()),
            |said| {
                if said == issuer.as_str() {
                    Ok(())
                } else {
                    Err(format!("it calls itself `{said}`: write that as issuer"))
                }
            },
        ),
        Ok(answer) => Err(answer.status.to_string()),
        Err(why) => Err(why),
    };
    let _ = match &outcome {
        Ok(()) => writeln!(said, "  looked at  {place}: good"),
        Err(why) => writeln!(said, "  NOT FOUND  {place}: {why}"),
    };
    outcome.is_ok()
}

fn issuer_in(body: &[u8]) -> Option<String> {
    let document: serde_json::Value = serde_json::from_slice(body).ok()?;
    document.get("issuer")?.as_str().map(str::to_owned)
}
