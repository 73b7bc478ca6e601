//! `policy`: what the tool policies mean for each known tool.

use serde_json::json;

use crate::cli::approvals::{open, print_json};
use crate::cli::pins::{block_on, status};
use crate::cli::storage::Storage;
use crate::cli::table::{self, cell};
use crate::config::approval_flags::Policy;
use crate::mcp::tool::PinStatus;
use crate::service::tool_policy::PinRule;

/// Runs `policy`.
///
/// # Errors
/// A text for the operator.
pub(super) fn run(action: &Policy, storage: &Storage) -> Result<(), String> {
    let Policy::Show { service: wanted, json } = action;
    let Some(services) = &storage.services else {
        return Err("policies are in the configuration file\n  name it with --config FILE".to_owned());
    };
    if let Some(wanted) = wanted
        && !services.iter().any(|service| service.name == *wanted)
    {
        return Err(format!("there is no service '{}'", cell(wanted)));
    }
    block_on(async {
        let admin = open(storage).await?;
        let mut rows = vec![["SERVICE", "TOOL", "CALLS ARE", "BECAUSE"].map(str::to_owned)];
        let is_wanted = |name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
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
        if *json {
            return rows.iter().skip(1).try_for_each(|[service, tool, rule, why]| {
                print_json(&json!({"service": service, "tool": tool, "rule": rule, "because": why}))
            });
        }
        table::print(&rows)
    })
}
