//! `doctor`: simulates known clients at a server, or at the gateway's own services.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;
use tokio::runtime::Builder;

use crate::agent::clients;
use crate::agent::clients::profile::ClientProfile;
use crate::agent::doctor::report::Report;
use crate::agent::doctor::{self, Examination, Intent, RegistrationLimit};
use crate::base::time::Clock;
use crate::base::url::ExactUrl;
use crate::cli::bridge::command_context::CommandContext;
use crate::cli::bridge::failure::Failure;
use crate::cli::load_config;
use crate::cli::table::{self, cell};
use crate::cli::terminal::{print_stderr, print_stdout};
use crate::config::doctor_flags::{self, DoctorFlags};
use crate::config::listen::TlsSource;
use crate::config::validate::Validated;
use crate::net::http_client::HttpClient;
use crate::net::self_signed;
use crate::net::tls::ClientTls;
use crate::service::{Access, Login, Upstream};

/// Runs `doctor`. Exit code 0: no problem; 1: a person must act; 2: the examination failed.
pub fn run(flags: &DoctorFlags) -> ExitCode {
    let result = if flags.list_clients { list(flags) } else { examine(flags) };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if flags.common.json {
                let _ = print_stdout(&format!("{}\n", json!({ "error": failure.text(), "exit": failure.code() })));
            }
            print_stderr(format_args!("mcp-oauth-gateway: {}", failure.text()));
            ExitCode::from(&failure)
        }
    }
}

/// A server to examine.
struct Target {
    url: ExactUrl,
    intent: Intent,
    /// The gateway's own callbacks, if it is the gateway's own service.
    callbacks: Vec<String>,
}

fn examine(flags: &DoctorFlags) -> Result<u8, Failure> {
    let clients = find_profiles(&flags.clients)?;
    let is_own = flags.url.is_none();
    let (targets, trusted) = if let Some(url) = &flags.url {
        (vec![url_target(url, flags)?], flags.ca.clone())
    } else {
        let validated = load_configuration(flags)?;
        let own_ca = own_ca(&validated);
        (own_services(&validated)?, flags.ca.iter().cloned().chain(own_ca).collect())
    };
    let tls = ClientTls::load(&trusted).map_err(|error| Failure::Act(format!("--ca: {error}\n  name a file with certificates in PEM")))?;
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Broken(error.to_string()))?;
    let registration = match (is_own, flags.register, flags.no_register) {
        (_, _, true) | (false, false, _) => RegistrationLimit::None,
        (true, _, false) => RegistrationLimit::Each,
        (false, true, false) => RegistrationLimit::One,
    };
    let mut code = 0;
    let http = HttpClient::new(tls);
    for target in &targets {
        let examination = Examination {
            url: &target.url,
            clients: &clients,
            registration,
            intent: target.intent,
            callbacks: &target.callbacks,
            is_own,
            now: Clock::System.now(),
        };
        let report = runtime.block_on(doctor::examine(&http, &examination));
        print(&report, flags.common.json)?;
        code = code.max(report.exit_code());
    }
    Ok(code)
}

fn print(report: &Report, as_json: bool) -> Result<(), Failure> {
    let text = if as_json {
        format!("{}\n", report.to_json())
    } else {
        report.to_text()
    };
    Ok(print_stdout(&text)?)
}

fn find_profiles(names: &[String]) -> Result<Vec<&'static ClientProfile>, Failure> {
    if names.is_empty() {
        return Ok(clients::all().collect());
    }
    let find = |name: &String| {
        clients::find(name).ok_or_else(|| {
            let known: Vec<&str> = clients::all().map(|client| client.name).collect();
            Failure::Act(format!(
                "--client: '{}' is not known\n  one of: {}",
                name.escape_default(),
                known.join(", ")
            ))
        })
    };
    names.iter().map(find).collect()
}

fn url_target(url: &str, flags: &DoctorFlags) -> Result<Target, Failure> {
    let parsed = ExactUrl::parse(url)
        .map_err(|error| error.to_string())
        .and_then(|parsed| match parsed.url().scheme() {
            "http" | "https" => Ok(parsed),
            _ => Err("is no http or https URL".to_owned()),
        });
    let wrong = |why: String| {
        Failure::Act(format!(
            "'{}' {why}\n  give the URL of an MCP server, as in https://example.com/mcp",
            url.escape_default()
        ))
    };
    Ok(Target {
        url: parsed.map_err(wrong)?,
        intent: match flags.intent {
            doctor_flags::Intent::Any => Intent::Any,
            doctor_flags::Intent::Oauth => Intent::OAuth,
            doctor_flags::Intent::Key => Intent::Key,
        },
        callbacks: Vec::new(),
    })
}

fn load_configuration(flags: &DoctorFlags) -> Result<Validated, Failure> {
    let context = CommandContext::from_flags(&flags.common)?;
    if !context.config.exists() {
        let shown = context.config.display();
        let text = format!("there is no configuration file at {shown}\n  give the URL of an MCP server, or --config FILE");
        return Err(Failure::Act(text));
    }
    Ok(load_config::load_file(&context.config, context.data_dir.as_ref())?)
}

/// The CA certificate that the gateway created. Its clients trust it.
fn own_ca(validated: &Validated) -> Option<PathBuf> {
    match validated.start.certificate {
        TlsSource::SelfSigned => Some(self_signed::ca_file(&validated.start.data_dir)).filter(|file| file.is_file()),
        TlsSource::None | TlsSource::Files { .. } => None,
    }
}

/// The services of the configuration file, at their public URLs.
fn own_services(validated: &Validated) -> Result<Vec<Target>, Failure> {
    let urls = &validated.start.urls;
    let target = |service| -> Result<Target, Failure> {
        let url = urls.audience(service);
        let parsed = ExactUrl::parse(&url).map_err(|error| Failure::Act(format!("public_url: '{url}' {error}\n  write a whole URL")))?;
        let mut callbacks = Vec::new();
        if matches!(service.upstream, Upstream::OAuth(_)) {
            callbacks.push(urls.upstream_callback(service));
        }
        if let Login::Idp(name) = &service.login {
            callbacks.push(urls.login_callback(name));
        }
        Ok(Target {
            url: parsed,
            intent: match service.access {
                Access::OAuth | Access::Local | Access::Introspect => Intent::OAuth,
                Access::Key => Intent::Key,
                Access::Public => Intent::Any,
            },
            callbacks,
        })
    };
    let targets = validated.config.services.iter().map(target).collect::<Result<Vec<_>, _>>()?;
    if targets.is_empty() {
        return Err(Failure::Act(
            "the configuration file has no service\n  run: mcp-oauth-gateway add NAME URL".to_owned(),
        ));
    }
    Ok(targets)
}

fn list(flags: &DoctorFlags) -> Result<u8, Failure> {
    if flags.common.json {
        for client in clients::all() {
            let ClientProfile {
                name,
                title,
                sources,
                limits,
                ..
            } = client;
            let line = json!({
                "name": name, "title": title, "evidence": client.evidence.as_str(), "sources": sources, "limits": limits,
                "revision": client.revision.as_str(), "redirect_uris": client.registration.redirect_uris,
                "metadata_document": client.document.map(|document| document.url),
            });
            print_stdout(&format!("{line}\n"))?;
        }
        return Ok(0);
    }
    let mut rows = vec![["NAME", "CLIENT", "KNOWN BY", "SOURCE"].map(str::to_owned)];
    rows.extend(clients::all().map(|client| {
        let source = client.sources.first().copied().unwrap_or_default();
        [
            client.name.to_owned(),
            cell(client.title),
            client.evidence.as_str().to_owned(),
            cell(source),
        ]
    }));
    table::print(&rows)?;
    Ok(0)
}
