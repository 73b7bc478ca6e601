//! `policy`: what the tool policies mean for each known tool, and changes of their rules.

use serde_json::json;

use crate::cli::approvals::{open, print_json};
use crate::cli::bridge::command_context;
use crate::cli::bridge::outcome::ReloadOutcome;
use crate::cli::pins::{approver, block_on, status};
use crate::cli::storage::Storage;
use crate::cli::table::{self, cell};
use crate::cli::terminal::print_stderr;
use crate::cli::{config_file, load_config};
use crate::config::approval_flags::{DeciderFlags, Policy, RuleScope};
use crate::config::edit::EditError;
use crate::config::edit_policy::{self, PolicyRule};
use crate::config::storage_flags::StorageFlags;
use crate::mcp::tool::PinStatus;
use crate::service::tool_policy::PinRule;

const NO_FILE: &str = "policies are in the configuration file\n  name it with --config FILE";

/// Runs `policy`.
///
/// # Errors
/// A text for the operator.
pub(super) fn run(action: &Policy, flags: StorageFlags) -> Result<(), String> {
    let flags = command_context::add_default_file(flags);
    let storage = Storage::read(&flags)?;
    match action {
        Policy::Show { service, json } => show(service.as_deref(), *json, &storage),
        Policy::Set {
            service,
            rule,
            scope,
            decider,
        } => {
            let word = rule.as_str();
            let set = |text: &str| edit_policy::set_rule(text, service, to_rule(scope), word);
            change(&flags, &storage, decider, set)?;
            print_stderr(format_args!("{} of {service}: {word}", shown(scope)));
            reload(&storage)
        }
        Policy::Unset { service, scope, decider } => {
            let missing = || EditError::NoRule(service.clone());
            let remove = |text: &str| edit_policy::remove_rule(text, service, to_rule(scope))?.ok_or_else(missing);
            change(&flags, &storage, decider, remove)?;
            print_stderr(format_args!("{} of {service}: no rule", shown(scope)));
            reload(&storage)
        }
    }
}

fn to_rule(scope: &RuleScope) -> PolicyRule<'_> {
    match (&scope.tool, scope.read_only) {
        (Some(name), _) => PolicyRule::Tool(name),
        (None, true) => PolicyRule::ReadOnly,
        (None, false) => PolicyRule::Default,
    }
}

fn shown(scope: &RuleScope) -> String {
    match to_rule(scope) {
        PolicyRule::Tool(name) => format!("tool {}", cell(name)),
        PolicyRule::ReadOnly => "the read-only tools".to_owned(),
        PolicyRule::Default => "the tools without a rule".to_owned(),
    }
}

/// Edits the configuration file for an approver. A file that the gateway would refuse is not written.
fn change(
    flags: &StorageFlags,
    storage: &Storage,
    decider: &DeciderFlags,
    step: impl Fn(&str) -> Result<String, EditError>,
) -> Result<(), String> {
    let path = flags.config.as_ref().ok_or(NO_FILE)?;
    let step = |text: &str| step(text).map_err(|error| format!("{}: {error}; nothing was changed", path.display()));
    let candidate = step(&config_file::read(path)?)?;
    load_config::load_text(path, &candidate, flags.data_dir.as_ref()).map_err(|error| format!("nothing was changed: {error}"))?;
    block_on(async { approver(&open(storage).await?, decider).await.map(drop) })?;
    config_file::edit(path, step)
}

/// Lets the running gateway use the file.
fn reload(storage: &Storage) -> Result<(), String> {
    let gateway = ReloadOutcome::after_change(&storage.data_dir)?;
    print_stderr(format_args!("{}", gateway.text()));
    match gateway {
        ReloadOutcome::Stopped | ReloadOutcome::Reloaded => Ok(()),
        ReloadOutcome::Refused(_) | ReloadOutcome::Silent => {
            Err("the file is changed, and the running gateway does not use it yet".to_owned())
        }
    }
}

fn show(wanted: Option<&str>, as_json: bool, storage: &Storage) -> Result<(), String> {
    let Some(services) = &storage.services else {
        return Err(NO_FILE.to_owned());
    };
    if let Some(wanted) = wanted
        && !services.iter().any(|service| service.name == wanted)
    {
        return Err(format!("there is no service '{}'", cell(wanted)));
    }
    block_on(async {
        let admin = open(storage).await?;
        let mut rows = vec![["SERVICE", "TOOL", "CALLS ARE", "BECAUSE"].map(str::to_owned)];
        let is_wanted = |name: &str| wanted.is_none_or(|wanted| wanted == name);
        for service in services.iter().filter(|service| is_wanted(&service.name)) {
            let Some(policy) = &service.tools else {
                rows.push([service.name.clone(), "*".into(), "allow".into(), "it has no tool policy".into()]);
                continue;
            };
            let known = admin.pins(&service.name).await.map_err(|error| error.to_string())?;
            let known = known
                .iter()
                .flat_map(|pins| pins.tools().iter().map(move |(name, pin)| (name.as_str(), status(pins, name, pin))));
            let status_of = |status| if policy.pin == PinRule::Off { PinStatus::Off } else { status };
            let any = [("(any other tool)", PinStatus::Unlisted)];
            for (tool, status) in known.chain(any) {
                let decision = policy.decide(tool, status_of(status));
                rows.push([
                    service.name.clone(),
                    cell(tool),
                    decision.rule.as_str().to_owned(),
                    policy.explain(decision),
                ]);
            }
        }
        if as_json {
            return rows.iter().skip(1).try_for_each(|[service, tool, rule, why]| {
                print_json(&json!({"service": service, "tool": tool, "rule": rule, "because": why}))
            });
        }
        table::print(&rows)
    })
}
