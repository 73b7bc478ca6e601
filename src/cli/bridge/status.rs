//! `status`: the state of the gateway and of each stored credential. It asks no upstream.

use serde_json::{Value, json};

use crate::app::stored::records::{CredentialReport, CredentialState};
use crate::base::time::{Clock, UnixTime};
use crate::cli::bridge::command_context::CommandContext;
use crate::cli::bridge::failure::Failure;
use crate::cli::bridge::local_gateway::LocalGateway;
use crate::cli::grants::print_json;
use crate::cli::healthcheck;
use crate::cli::table::{self, cell};
use crate::cli::terminal::print_stdout;
use crate::flow::pins::{Pinned, ToolPin};
use crate::service::Upstream;

/// Runs `status`.
///
/// # Errors
/// If the file or the store cannot be read, or a service needs a sign-in.
pub fn run(context: &CommandContext) -> Result<(), Failure> {
    let local = LocalGateway::open(context.load()?)?;
    let gateway = gateway(&local);
    let config = local.app.config();
    let stored = config
        .services()
        .iter()
        .filter(|active| matches!(active.service.upstream, Upstream::Stored(_)));
    let (mut rows, mut waiting) = (Vec::new(), Vec::new());
    for active in stored {
        let report = local.block_on(local.app.stored.report(active));
        let report = report.map_err(Failure::from)?;
        let name = &active.service.name;
        let pins = local.block_on(local.app.approvals.admin().pins(name)).map_err(Failure::from)?;
        let tools = pins.as_ref().map(ToolCounts::of);
        if needs_login(&report) {
            waiting.push(name.clone());
        }
        if context.json {
            print_json(&to_json(name, &report, tools))?;
        } else {
            rows.push(row(name, &report, tools));
        }
    }
    let approvals = local.block_on(local.app.approvals.admin().list()).map_err(Failure::from)?;
    let now = Clock::System.now();
    let undecided = approvals.iter().filter(|approval| approval.is_undecided(now)).count();
    let address = local.app.urls().public_url();
    if context.json {
        print_json(&json!({ "gateway": gateway.as_str(), "address": address, "approvals_waiting": undecided }))?;
    } else {
        let waiting = match undecided {
            0 => String::new(),
            count => format!("approvals  {count} to decide: {address}/approvals\n"),
        };
        print_stdout(&format!("gateway    {}\n{waiting}\n", gateway.text(address)))?;
        let header = ["SERVICE", "STATE", "TOKEN ENDS", "REFRESHED", "LAST ERROR", "TOOLS"].map(str::to_owned);
        rows.insert(0, header);
        table::print(&rows)?;
    }
    match waiting.first() {
        None => Ok(()),
        Some(first) => Err(Failure::Act(format!(
            "these services need a sign-in: {}\n  run: mcp-oauth-gateway login {first}",
            waiting.join(", ")
        ))),
    }
}

/// The tools of a service when the gateway last listed them. It lists them only where the service has a
/// tool policy.
#[derive(Clone, Copy, Debug)]
struct ToolCounts {
    count: usize,
    /// The number of new or changed tools that wait for a person.
    to_approve: usize,
}

impl ToolCounts {
    fn of(pins: &Pinned) -> Self {
        let waits = |pin: &&ToolPin| pin.is_quarantined || pin.candidate.is_some() || pin.pinned.is_none();
        Self {
            count: pins.tools().len(),
            to_approve: pins.tools().values().filter(waits).count(),
        }
    }
}

/// Whether the gateway of this data directory runs.
#[derive(Clone, Copy, Debug)]
enum GatewayStatus {
    Ready,
    NotReady,
    Stopped,
}

impl GatewayStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::NotReady => "not ready",
            Self::Stopped => "stopped",
        }
    }

    fn text(self, url: &str) -> String {
        match self {
            Self::Ready => format!("runs, and is ready at {url}"),
            Self::NotReady => format!("runs, and does not answer at {url} that it is ready"),
            Self::Stopped => "does not run; start it: mcp-oauth-gateway start".to_owned(),
        }
    }
}

fn gateway(local: &LocalGateway) -> GatewayStatus {
    if !local.is_gateway_running() {
        return GatewayStatus::Stopped;
    }
    match healthcheck::ask_listeners(&local.validated.start.listen) {
        Ok(()) => GatewayStatus::Ready,
        Err(_) => GatewayStatus::NotReady,
    }
}

fn needs_login(report: &CredentialReport) -> bool {
    match report.state {
        CredentialState::NotSignedIn | CredentialState::OtherUpstream | CredentialState::NeedsLogin => true,
        CredentialState::Usable | CredentialState::Failing => false,
    }
}

/// The state for a person and for scripts. `stored` does not mean that the upstream still accepts it.
fn state_text(report: &CredentialReport) -> &'static str {
    match report.state {
        CredentialState::NotSignedIn => "not signed in",
        CredentialState::OtherUpstream => "of another upstream",
        CredentialState::NeedsLogin => "needs login",
        CredentialState::Failing => "refresh fails",
        CredentialState::Usable if report.is_api_key => "API key stored",
        CredentialState::Usable if has_ended(report) => "token ended, can be refreshed",
        CredentialState::Usable => "token stored",
    }
}

fn has_ended(report: &CredentialReport) -> bool {
    report.ends.is_some_and(|end| end <= Clock::System.now())
}

fn row(name: &str, report: &CredentialReport, tools: Option<ToolCounts>) -> [String; 6] {
    let time = |time: Option<UnixTime>, otherwise: &str| time.map_or_else(|| otherwise.to_owned(), UnixTime::to_rfc3339);
    let failure = report.last_failure.as_ref();
    let has_token = report.obtained_at.is_some() && !report.is_api_key;
    [
        name.to_owned(),
        state_text(report).to_owned(),
        time(report.ends, if has_token { "unknown" } else { "-" }),
        time(report.renewed_at, "never"),
        failure.map_or_else(
            || "none".to_owned(),
            |failure| format!("{} {}", failure.at.to_rfc3339(), cell(&failure.reason)),
        ),
        match tools {
            None => "not tried".to_owned(),
            Some(ToolCounts { count, to_approve: 0 }) => count.to_string(),
            Some(ToolCounts { count, to_approve }) => format!("{count}, {to_approve} to approve"),
        },
    ]
}

/// The line for scripts. Times are seconds since 1970.
fn to_json(name: &str, report: &CredentialReport, tools: Option<ToolCounts>) -> Value {
    let failure = report.last_failure.as_ref();
    json!({
        "service": name,
        "state": state_text(report),
        "needs_login": needs_login(report),
        "api_key": report.is_api_key,
        "issuer": report.issuer,
        "scopes": report.scopes,
        "obtained": report.obtained_at,
        "refreshed": report.renewed_at,
        "expires": report.ends,
        "refreshable": report.is_refreshable,
        "last_error": failure.map(|failure| json!({ "at": failure.at, "reason": failure.reason })),
        "tools": tools.map(|tools| tools.count),
        "tools_to_approve": tools.map(|tools| tools.to_approve),
    })
}
