//! `approvals`: lists tool calls that wait for a person, and decides about them, even while the gateway
//! runs. A decision asks for the password.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Builder;

use crate::app::approval_admin::{ApprovalAdmin, ApprovalView, Verdict, may_decide};
use crate::base::ids::Id;
use crate::base::time::{Clock, UnixTime};
use crate::cli::decider;
use crate::cli::storage::Storage;
use crate::cli::table::{self, cell, printable};
use crate::cli::terminal::{print_stderr, print_stdout};
use crate::config::approval_flags::{Approvals, DeciderFlags};

/// How often `watch` looks for calls.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Runs `approvals`.
///
/// # Errors
/// A text for the operator.
pub(super) fn run(action: &Approvals, storage: &Storage) -> Result<(), String> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        let admin = open(storage).await?;
        match action {
            Approvals::List { all, json } => list(&admin, *all, *json).await,
            Approvals::Watch { json } => watch(&admin, *json).await,
            Approvals::Approve { ids, decider } => decide(&admin, ids, decider, Verdict::Approve).await,
            Approvals::Deny { ids, decider } => decide(&admin, ids, decider, Verdict::Deny).await,
        }
    })
}

/// Opens the approvals and pins of an existing gateway, which may be running.
///
/// # Errors
/// If there is none, or the keys are not those of the store.
pub(super) async fn open(storage: &Storage) -> Result<ApprovalAdmin, String> {
    let clock = Clock::System;
    let (store, _keys) = storage.open_existing(&clock)?;
    storage.check_keys(&store).await?;
    Ok(ApprovalAdmin::new(store, clock))
}

async fn list(admin: &ApprovalAdmin, all: bool, as_json: bool) -> Result<(), String> {
    let now = admin.now();
    let mut views = admin.list().await.map_err(|error| error.to_string())?;
    views.retain(|view| all || view.is_undecided(now));
    if as_json {
        return views.iter().try_for_each(|view| print_json(&to_json(view, now)));
    }
    let mut rows = vec![["ID", "STATE", "SERVICE", "TOOL", "CALLER", "ARGUMENTS"].map(str::to_owned)];
    rows.extend(views.iter().map(|view| row(view, now)));
    table::print(&rows)
}

async fn watch(admin: &ApprovalAdmin, as_json: bool) -> Result<(), String> {
    let mut seen = HashSet::new();
    loop {
        let now = admin.now();
        let views = admin.list().await.map_err(|error| error.to_string())?;
        seen.retain(|id| views.iter().any(|view| view.id == *id));
        for view in views.iter().filter(|view| view.is_undecided(now)) {
            if !seen.insert(view.id) {
                continue;
            }
            if as_json {
                print_json(&to_json(view, now))?;
            } else {
                print_stdout(&format!("{}\n", row(view, now).join("  ")))?;
            }
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

async fn decide(admin: &ApprovalAdmin, ids: &[String], flags: &DeciderFlags, verdict: Verdict) -> Result<(), String> {
    let mut views = Vec::new();
    for text in ids {
        let unknown = || format!("there is no approval '{}'\n  see: mcp-oauth-gateway approvals list", cell(text));
        let id = Id::parse(text).ok_or_else(unknown)?;
        let view = admin.find(id).await.map_err(|error| error.to_string())?;
        views.push(view.ok_or_else(unknown)?);
    }
    for view in &views {
        show(view);
    }
    let signed_in = decider::sign_in(admin, flags).await?;
    for view in &views {
        if !may_decide(&view.record.tool_call().decider, &signed_in.name, signed_in.is_approver) {
            return Err(format!(
                "the call {} is not for {} to decide; nothing was decided",
                view.id, signed_in.name
            ));
        }
    }
    for view in &views {
        let decided = admin.decide(view.id, verdict, &signed_in.name).await;
        decided.map_err(|error| format!("{}: {error}", view.id))?;
        let word = if verdict == Verdict::Approve { "approved" } else { "denied" };
        print_stderr(format_args!("{} is {word}", view.id));
    }
    Ok(())
}

/// Shows a whole call, for the person who decides: the list shortens the arguments.
fn show(view: &ApprovalView) {
    let call = view.record.tool_call();
    print_stderr(format_args!(
        "{}: {} at {}, from {}, because {}",
        view.id,
        printable(&call.binding.tool),
        printable(&call.binding.service),
        printable(&call.caller_name),
        printable(&call.reason)
    ));
    for line in view.argument_lines() {
        print_stderr(format_args!("  {}", printable(&line)));
    }
}

fn row(view: &ApprovalView, now: UnixTime) -> [String; 6] {
    let call = view.record.tool_call();
    [
        view.id.to_string(),
        view.state(now).to_owned(),
        call.binding.service.clone(),
        cell(&call.binding.tool),
        cell(&call.caller_name),
        match &call.also_sent {
            Some(also_sent) => format!("{}  also sent: {}", cell(&call.arguments), cell(also_sent)),
            None => cell(&call.arguments),
        },
    ]
}

fn to_json(view: &ApprovalView, now: UnixTime) -> Value {
    let call = view.record.tool_call();
    let decision = view.record.decision();
    json!({
        "id": view.id, "state": view.state(now), "service": call.binding.service, "tool": call.binding.tool,
        "caller": call.caller_name, "reason": call.reason, "arguments": call.arguments, "also_sent": call.also_sent, "created": call.created,
        "expires": call.expires, "decided_by": decision.map(|decision| &decision.by), "decided_at": decision.map(|decision| decision.at),
    })
}

/// Prints JSON on one line, without characters that could steer a terminal.
pub(super) fn print_json(value: &Value) -> Result<(), String> {
    let mut text = String::new();
    for c in value.to_string().chars() {
        if c.is_ascii() {
            text.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
    print_stdout(&format!("{text}\n"))
}
