//! `pins`: the definitions of tools.

use serde_json::json;
use tokio::runtime::Builder;

use crate::app::approval_admin::ApprovalAdmin;
use crate::base::ids::Digest;
use crate::cli::approvals::{open, print_json};
use crate::cli::decider;
use crate::cli::storage::Storage;
use crate::cli::table::{self, cell};
use crate::cli::terminal::{print_stderr, print_stdout};
use crate::config::approval_flags::Pins;
use crate::flow::pins::{Pinned, PinnedDefinition, ToolPin};
use crate::mcp::tool::PinStatus;

/// Runs `pins`.
///
/// # Errors
/// A text for the operator.
pub(super) fn run(action: &Pins, storage: &Storage) -> Result<(), String> {
    block_on(async {
        let admin = open(storage).await?;
        match action {
            Pins::List { service, json } => list(&pins(&admin, service).await?, *json),
            Pins::Diff { service } => diff(&pins(&admin, service).await?),
            Pins::Approve {
                service,
                tool,
                expect,
                decider,
            } => {
                let expected = Digest::from_hex(expect).ok_or("--expect: a digest has 64 hexadecimal digits, as `pins list` shows them")?;
                pins(&admin, service).await?;
                let by = approver(&admin, decider).await?;
                let approved = admin.approve_pins(service, tool.as_deref(), &expected, &by).await;
                approved.map_err(|error| format!("{error}; nothing was approved\n  see: mcp-oauth-gateway pins diff {service}"))?;
                print_stderr(format_args!("the pins of {service} are approved"));
                Ok(())
            }
            Pins::Reset { service, decider } => {
                approver(&admin, decider).await?;
                admin.reset_pins(service).await.map_err(|error| error.to_string())?;
                print_stderr(format_args!("the next list of the tools of {service} is the first one"));
                Ok(())
            }
        }
    })
}

pub(super) fn block_on(work: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(work)
}

pub(super) async fn approver(admin: &ApprovalAdmin, flags: &crate::config::approval_flags::DeciderFlags) -> Result<String, String> {
    let signed_in = decider::sign_in(admin, flags).await?;
    if !signed_in.is_approver {
        return Err(format!(
            "{} is no approver; nothing was changed\n  list the user in [console] approvers",
            signed_in.name
        ));
    }
    Ok(signed_in.name)
}

async fn pins(admin: &ApprovalAdmin, service: &str) -> Result<Pinned, String> {
    let pins = admin.pins(service).await.map_err(|error| error.to_string())?;
    pins.ok_or_else(|| format!("the gateway has not listed the tools of '{}' yet", cell(service)))
}

pub(super) fn status(pins: &Pinned, name: &str, pin: &ToolPin) -> PinStatus {
    pins.status(name, pin.latest().map(|latest| &latest.digest))
}

fn word(status: PinStatus) -> &'static str {
    match status {
        PinStatus::Off => "off",
        PinStatus::Pinned { .. } => "pinned",
        PinStatus::Quarantined => "quarantined",
        PinStatus::Changed => "changed",
        PinStatus::New => "new",
        PinStatus::Unlisted => "unlisted",
    }
}

fn list(pins: &Pinned, as_json: bool) -> Result<(), String> {
    let all = pins.digest().to_hex();
    let hex = |definition: &PinnedDefinition| definition.digest.to_hex();
    if as_json {
        print_json(&json!({"service": pins.service(), "digest": all}))?;
        return pins.tools().iter().try_for_each(|(name, pin)| {
            print_json(&json!({
                "tool": name, "state": word(status(pins, name, pin)), "pinned": pin.pinned.as_ref().map(hex),
                "latest": pin.latest().map(hex), "approved_by": pin.approved_by,
            }))
        });
    }
    let mut rows = vec![["TOOL", "STATE", "APPROVED BY", "LATEST DEFINITION"].map(str::to_owned)];
    rows.extend(pins.tools().iter().map(|(name, pin)| {
        [
            cell(name),
            word(status(pins, name, pin)).to_owned(),
            pin.approved_by.as_deref().map(cell).unwrap_or_default(),
            pin.latest().map(hex).unwrap_or_default(),
        ]
    }));
    rows.push(["(all tools)".to_owned(), String::new(), String::new(), all]);
    table::print(&rows)
}

fn diff(pins: &Pinned) -> Result<(), String> {
    let mut differs = false;
    for (name, pin) in pins.tools() {
        let Some(candidate) = &pin.candidate else { continue };
        differs = true;
        print_stdout(&format!("{} ({})\n", cell(name), word(status(pins, name, pin))))?;
        if let Some(pinned) = &pin.pinned {
            print_lines('-', pinned)?;
        }
        print_lines('+', candidate)?;
    }
    if !differs {
        print_stderr(format_args!("every definition is the pinned one"));
    }
    Ok(())
}

/// Prints a definition, one member on each line, without characters that could steer a terminal.
fn print_lines(mark: char, definition: &PinnedDefinition) -> Result<(), String> {
    print_stdout(&format!("{mark} digest {}\n", definition.digest.to_hex()))?;
    let Some(text) = &definition.text else {
        return print_stdout(&format!("{mark} (too long to keep)\n"));
    };
    let pretty = crate::mcp::json::parse_answer(text.as_bytes())
        .ok()
        .and_then(|value| serde_json::to_string_pretty(&value).ok());
    let printable = |c: char| {
        if c.is_ascii() && !c.is_ascii_control() {
            c.to_string()
        } else {
            c.escape_unicode().to_string()
        }
    };
    for line in pretty.as_ref().unwrap_or(text).lines() {
        let line: String = line.chars().map(printable).collect();
        print_stdout(&format!("{mark} {line}\n"))?;
    }
    Ok(())
}
