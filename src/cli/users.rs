//! `users`: lists the users who have grants in a gateway's store, even while it runs.

use std::collections::BTreeMap;

use serde_json::json;
use tokio::runtime::Builder;

use crate::app::grant_admin::{GrantFilter, GrantSummary};
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
    let last_used = |grants: &[&GrantSummary]| grants.iter().map(|grant| grant.last_used()).max().flatten();
    if as_json {
        return users.iter().try_for_each(|(subject, of_user)| {
            let user = json!({ "user": subject, "grants": of_user.len(), "last_used": last_used(of_user) });
            grants::print_json(&user)
        });
    }
    let mut rows = vec![["USER", "SHOWN AS", "GRANTS", "LAST USED"].map(str::to_owned)];
    rows.extend(users.iter().map(|(subject, of_user)| {
        let shown = of_user.first().map_or(*subject, |grant| grant.data.who.display_name());
        [
            cell(subject),
            cell(shown),
            of_user.len().to_string(),
            grants::day(last_used(of_user)),
        ]
    }));
    table::print(&rows)
}
