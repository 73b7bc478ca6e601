//! `users`: lists the users who have grants in a gateway's store, even while it runs.

use std::collections::BTreeMap;

use serde_json::json;
use tokio::runtime::Builder;

use crate::app::grant_admin::{GrantFilter, GrantSummary};
use crate::base::time::UnixTime;
use crate::cli::grants;
use crate::cli::storage::Storage;
use crate::cli::table::{self, cell};
use crate::config::flags;

/// Runs `users`.
///
/// # Errors
/// A text for the operator.
pub fn run(action: flags::Users, storage: &Storage) -> Result<(), String> {
    let flags::Users::List { json } = action;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let admin = grants::open(storage).await?;
        let all = admin.list(&GrantFilter::default()).await.map_err(|error| error.to_string())?;
        let mut users: BTreeMap<&str, Vec<&GrantSummary>> = BTreeMap::new();
        for grant in &all {
            users.entry(&grant.data.who.subject).or_default().push(grant);
        }
        print(&users, json)
    })
}

fn print(users: &BTreeMap<&str, Vec<&GrantSummary>>, as_json: bool) -> Result<(), String> {
    let last_active = |grants: &[&GrantSummary]| {
        let times = grants.iter().map(|grant| grant.last_refreshed().unwrap_or(grant.data.granted_at));
        times.max().unwrap_or_default()
    };
    if as_json {
        let users = users
            .iter()
            .map(|(subject, grants)| json!({ "user": subject, "grants": grants.len(), "last_active_at": last_active(grants) }));
        return grants::print_json(&users.collect());
    }
    let mut rows = vec![["USER", "SHOWN AS", "GRANTS", "LAST ACTIVE"].map(str::to_owned)];
    rows.extend(users.iter().map(|(subject, grants)| {
        let shown = grants.first().map_or(*subject, |grant| grant.data.who.display_name());
        let last_active: UnixTime = last_active(grants);
        [cell(subject), cell(shown), grants.len().to_string(), last_active.to_date()]
    }));
    table::print(&rows)
}
