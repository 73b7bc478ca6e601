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
use crate::oauth::metadata::Purpose;
use crate::service::auth_server_config::AuthServerConfig;
use crate::service::{Access, Login, Service, Upstream};
use crate::upstream::discovery::discover;
use crate::upstream::discovery_result::{DiscoveredServer, DiscoveryStep};
use crate::upstream::fetch;
use crate::upstream::idp::Idp;
use crate::upstream::legacy_transport::{self, HTTP_SSE_MESSAGE};
use crate::upstream::provider_discovery;

/// Timeout for one request.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

const MISSING_CLIENT_ID: &str =
    "  MISSING    client_id: this upstream lets no gateway register; create an OAuth app there with the callback URL above\n";

/// Runs `check` and prints a report.
///
/// # Errors
/// If the configuration is invalid, or a check fails.
pub fn run(flags: &Serve, offline: bool) -> Result<(), String> {
    let validated = load_config::load(flags)?;
    let client_tls = serve::client_tls(&validated)?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let client = (!offline).then(|| HttpClient::new(client_tls));
    let (text, local_failed) = check_local::check_local(&validated, flags, &runtime, offline);
    let local = Report {
        text,
        failed: local_failed,
    };
    let Report { text: report_text, failed } = runtime.block_on(report(&validated, client.as_ref(), local));
    let print = |text: &str| std::io::stdout().write_all(text.as_bytes()).map_err(|error| error.to_string());
    print(&report_text)?;
    let problems = failed + validated.missing_features.len();
    match problems {
        0 => print("\neverything is good\n"),
        1 => Err("one check failed, see above".to_owned()),
        count => Err(format!("{count} checks failed, see above")),
    }
}

/// The output of `check`, and the number of failed checks.
struct Report {
    text: String,
    failed: usize,
}

/// Adds services and providers to the local report.
async fn report(validated: &Validated, client: Option<&HttpClient>, local: Report) -> Report {
    let Report {
        text: local_text,
        mut failed,
    } = local;
    let mut out = String::new();
    for warning in &validated.warnings {
        let _ = writeln!(out, "warning: {warning}\n");
    }
    let _ = writeln!(out, "gateway    {}", validated.start.urls.public_url());
    let listen: Vec<String> = validated.start.listen.iter().map(ToString::to_string).collect();
    let _ = writeln!(out, "listen     {}", listen.join(", "));
    out.push_str(&local_text);
    for (service, tokens) in validated.config.services.iter().zip(&validated.token_modes) {
        out.push_str(&report_service(validated, service, *tokens));
        if let Some(client) = client {
            failed += usize::from(!probe(client, service, &mut out).await);
        } else if service.needs_client_id() {
            out.push_str(MISSING_CLIENT_ID);
            failed += 1;
        }
        if service.lacks_client_secret() {
            out.push_str("  WARNING    client_secret: this upstream requires one beside the client_id\n");
        }
    }
    for idp in &validated.config.idps {
        let _ = writeln!(out, "\nidentity provider '{}'", idp.name);
        let _ = writeln!(out, "  register   {}", validated.start.urls.login_callback(&idp.name));
        // A provider without ID tokens has no OpenID configuration.
        if let (Some(client), None) = (client, &idp.plain) {
            failed += usize::from(!check_provider(client, idp, &mut out).await);
        }
    }
    for error in &validated.missing_features {
        let _ = writeln!(out, "\n{error}");
    }
    Report { text: out, failed }
}

fn report_service(validated: &Validated, service: &Service, tokens: ConfiguredTokenMode) -> String {
    let is_default = if service.is_default { " (the default)" } else { "" };
    let mut out = format!("\nservice '{}'{is_default}\n", service.name);
    let _ = writeln!(out, "  for clients {}", validated.start.urls.mcp_endpoint(service));
    if service.is_default {
        let _ = writeln!(out, "           or {}/mcp/{}", validated.start.urls.public_url(), service.name);
    }
    let _ = writeln!(out, "  upstream   {}", service.mcp.without_query());
    if let Upstream::OAuth(config) = &service.upstream {
        let registration = if config.client_id.is_some() || service.needs_client_id() {
            "in the upstream's OAuth app"
        } else {
            "the gateway registers it, if the upstream allows that"
        };
        let _ = writeln!(
            out,
            "  register   {}  ({registration})",
            validated.start.urls.upstream_callback(service)
        );
    }
    let _ = writeln!(out, "  strategy   {}", describe(service, tokens));
    let has_short_tokens = |config: &AuthServerConfig| config.profile.is_some_and(|profile| profile.has_short_tokens);
    if matches!(&service.upstream, Upstream::OAuth(config) if has_short_tokens(config))
        && matches!(tokens, ConfiguredTokenMode::Sealed | ConfiguredTokenMode::Plain)
        && !validated.start.store.is_stateless()
    {
        let _ = writeln!(out, "  advice     {SHORT_TOKENS}");
    }
    out
}

const SHORT_TOKENS: &str = "this upstream's access tokens usually live ten minutes or less, and some clients then refresh before each \
    request;\n             token_mode = \"reference\" spares the upstream that";

/// Describes access, login and upstream credential of a service.
fn describe(service: &Service, token_mode: ConfiguredTokenMode) -> String {
    let callers = match (service.access, &service.login) {
        (Access::Public, _) => "every client may call; ".to_owned(),
        (Access::Key, _) => "callers bring an API key; ".to_owned(),
        (Access::OAuth, Login::Password) => "users sign in here with a password; ".to_owned(),
        (Access::OAuth, Login::Idp(name)) => format!("users sign in at identity provider '{name}'; "),
        (Access::OAuth, Login::None) => "no user signs in here; ".to_owned(),
        (Access::Introspect, _) => "users sign in here, and the server checks the tokens itself; ".to_owned(),
        (Access::Local, _) => "callers bring the local key, or sign in here; ".to_owned(),
    };
    let credential_use = match &service.upstream {
        Upstream::OAuth(_) => "they sign in upstream, and their own upstream token goes on each request",
        Upstream::Paste(_) => "they paste a key of the upstream's, which goes on each request",
        Upstream::Static(_) => "the service's own key goes on each request",
        Upstream::Stored(_) => "the credential that you stored with a command goes on each request",
        Upstream::ServiceToken(_) => "a token that the gateway obtains for itself goes on each request",
        Upstream::Identity(_) => "the backend receives headers with the identity of the caller",
        Upstream::None => "nothing is added to the request",
    };
    let token_note = match token_mode {
        ConfiguredTokenMode::Sealed => "",
        ConfiguredTokenMode::Plain => "; clients can read the upstream's token (plain)",
        ConfiguredTokenMode::Reference => "; tokens are handles (reference)",
        ConfiguredTokenMode::Jwt => "; tokens are JWTs (jwt)",
        ConfiguredTokenMode::Raw => "; clients hold the upstream's token itself (raw)",
    };
    let (access, login) = (access_word(service.access), login_word(&service.login));
    let upstream_kind = upstream::kind(&service.upstream).as_str();
    format!("{callers}{credential_use}{token_note}\n             (access {access}, login {login}, upstream {upstream_kind})")
}

/// Reports whether the upstream can be used: discovery succeeds, or it answers a request.
async fn probe(client: &HttpClient, service: &Service, out: &mut String) -> bool {
    // The steps below report every other failure.
    if legacy_transport::is_http_sse(client, &service.mcp).await == Ok(true) {
        let _ = writeln!(out, "  NOT USABLE {}: {HTTP_SSE_MESSAGE}", service.mcp.without_query());
        return false;
    }
    match &service.upstream {
        Upstream::OAuth(config) => report_discovery(client, service, config, out).await,
        Upstream::ServiceToken(settings) => report_discovery(client, service, &settings.auth_server, out).await,
        Upstream::Stored(settings) => {
            report_discovery(client, service, &settings.auth_server, out).await || check_response(client, &service.mcp, out).await
        }
        Upstream::Paste(_) | Upstream::Static(_) | Upstream::Identity(_) | Upstream::None => {
            check_response(client, &service.mcp, out).await
        }
    }
}

/// Reports the search for the authorization server of a service, with every step. Returns whether the
/// gateway can get a client id there.
pub(in crate::cli) async fn report_discovery(client: &HttpClient, service: &Service, config: &AuthServerConfig, out: &mut String) -> bool {
    match discover(client, &config.discovery_input(&service.mcp, service.upstream.discovery_purpose())).await {
        Ok(result) => {
            report_steps(&result.attempts, out);
            report_server(&result, config, service, out)
        }
        Err(error) => {
            report_steps(&error.attempts, out);
            let _ = writeln!(out, "  NOT FOUND  {error}");
            false
        }
    }
}

/// Reports what discovery found. Returns whether the gateway can get a client id there.
fn report_server(result: &DiscoveredServer, config: &AuthServerConfig, service: &Service, out: &mut String) -> bool {
    let server = &result.server;
    let _ = writeln!(out, "  found      {}  (profile {})", server.issuer, result.profile.name);
    if service.upstream.discovery_purpose() == Purpose::UserSignIn {
        let _ = writeln!(out, "    authorize  {}", server.authorization_endpoint);
    }
    let _ = writeln!(out, "    token      {}", server.token_endpoint);
    if !result.scopes_known.is_empty() {
        let _ = writeln!(out, "    scopes     {}", result.scopes_known.join(" "));
    }
    let signs_in = service.upstream.discovery_purpose() == Purpose::UserSignIn;
    let must_register = signs_in && config.client_id.is_none() && server.registration_endpoint.is_none();
    if must_register {
        out.push_str(MISSING_CLIENT_ID);
    }
    !must_register
}

fn report_steps(steps: &[DiscoveryStep], out: &mut String) {
    for step in steps {
        let _ = writeln!(out, "  looked at  {step}");
    }
}

/// Reports whether an upstream without OAuth answers a request, without a redirect or a server error.
async fn check_response(client: &HttpClient, url: &ExactUrl, out: &mut String) -> bool {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let response = match fetch::post(url, "application/json", body) {
        Ok(request) => fetch::fetch_head(client, request, &AddressPolicy::Anything, CHECK_TIMEOUT).await,
        Err(error) => Err(error),
    };
    let url = url.without_query();
    match response {
        Ok((status, _)) if status.is_redirection() => {
            let _ = writeln!(out, "  MOVED      {url}: {status}; configure the address that it redirects to");
            false
        }
        Ok((status, _)) if status.is_server_error() => {
            let _ = writeln!(out, "  ILL        {url}: {status}");
            false
        }
        Ok((status, _)) => {
            let _ = writeln!(out, "  looked at  {url}: {status}");
            true
        }
        Err(error) => {
            let _ = writeln!(out, "  NO ANSWER  {url}: {error}");
            false
        }
    }
}

/// Reports whether the endpoints of an identity provider are found, as at a sign-in.
async fn check_provider(client: &HttpClient, idp: &Idp, out: &mut String) -> bool {
    let issuer = &idp.issuer;
    match provider_discovery::discover(client, idp).await {
        Ok(found) => {
            let _ = writeln!(out, "  looked at  {issuer}: good");
            let _ = writeln!(out, "    authorize  {}", found.target.authorization_endpoint);
            let _ = writeln!(out, "    token      {}", found.target.token_endpoint);
            true
        }
        Err(error) => {
            let _ = writeln!(out, "  NOT FOUND  {error}");
            false
        }
    }
}
