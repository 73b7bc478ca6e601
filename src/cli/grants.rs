//! `grants`: lists, shows and ends grants in a gateway's store, even while it runs.

use serde_json::{Value, json};
use tokio::runtime::Builder;

use crate::app::grant_admin::{GrantAdmin, GrantFilter, GrantSummary};
use crate::base::ids::Id;
use crate::base::time::{Clock, UnixTime};
use crate::cli::storage::Storage;
use crate::cli::table::{self, cell};
use crate::cli::terminal::{print_stderr, print_stdout};
use crate::config::flags;
use crate::token::lifetime::Ttl;

/// Runs `grants`.
///
/// # Errors
/// A text for the operator.
pub fn run(action: &flags::Grants, storage: &Storage) -> Result<(), String> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        match action {
            flags::Grants::List { filter, json } => list(&open(storage).await?, &parse_filter(filter, &[])?, *json).await,
            flags::Grants::Show { id, json } => show(&open(storage).await?, id, *json).await,
            flags::Grants::End {
                ids,
                more_ids,
                filter,
                all,
                json,
            } => {
                let filter = parse_filter(filter, &[ids.as_slice(), more_ids].concat())?;
                if filter.is_empty() && !all {
                    return Err("no grant is named\n  name ids, or --user, --client or --service, or --all for all of them".to_owned());
                }
                end(&open(storage).await?, &filter, *json).await
            }
        }
    })
}

/// Opens the store and the key ring of an existing gateway, which may be running.
///
/// # Errors
/// If there is none, or the keys are not those of the store.
pub(super) async fn open(storage: &Storage) -> Result<GrantAdmin, String> {
    let clock = Clock::System;
    let (store, keys) = storage.open_existing(&clock)?;
    storage.check_keys(&store).await?;
    let services = storage.services.as_deref().unwrap_or_default();
    let max_access_ttl = services.iter().map(|service| service.ttl.access).max();
    let max_access_ttl = max_access_ttl.unwrap_or(Ttl::default().access);
    Ok(GrantAdmin::new(store, keys, clock, max_access_ttl))
}

fn parse_filter(filter: &flags::GrantFilter, ids: &[String]) -> Result<GrantFilter, String> {
    Ok(GrantFilter {
        user: filter.user.clone(),
        client: filter.client.clone(),
        service: filter.service.clone(),
        ids: ids.iter().map(|id| parse_id(id)).collect::<Result<_, _>>()?,
    })
}

/// Before an id, so that no id looks like a flag. The log has ids without it.
const ID_PREFIX: &str = "g_";

fn parse_id(text: &str) -> Result<Id, String> {
    Id::parse(text.strip_prefix(ID_PREFIX).unwrap_or(text)).ok_or_else(|| unknown(text))
}

fn show_id(id: Id) -> String {
    format!("{ID_PREFIX}{id}")
}

fn unknown(id: &str) -> String {
    format!(
        "there is no grant '{}'\n  mcp-oauth-gateway grants list names them all",
        id.escape_default()
    )
}

async fn list(admin: &GrantAdmin, filter: &GrantFilter, as_json: bool) -> Result<(), String> {
    let grants = admin.list(filter).await.map_err(|error| error.to_string())?;
    if as_json {
        return grants.iter().try_for_each(|grant| print_json(&to_json(grant)));
    }
    let header = ["ID", "USER", "SERVICE", "CLIENT", "SINCE", "LAST USED", "ENDS", "HOLDERS"].map(str::to_owned);
    let mut rows = vec![header];
    rows.extend(grants.iter().map(row));
    table::print(&rows)
}

fn row(grant: &GrantSummary) -> [String; 8] {
    let data = &grant.data;
    [
        show_id(grant.id),
        cell(data.who.display_name()),
        data.service.clone(),
        cell(grant.client_name.as_deref().unwrap_or(&data.client_id)),
        data.granted_at.to_date(),
        day(grant.last_used()),
        data.refresh_ends().to_date(),
        // Two copies of one refresh token are in use.
        if grant.parallel().is_some() { "parallel" } else { "one" }.to_owned(),
    ]
}

/// A day for a table.
pub(super) fn day(time: Option<UnixTime>) -> String {
    time.map_or_else(|| "never".to_owned(), UnixTime::to_date)
}

async fn show(admin: &GrantAdmin, id: &str, as_json: bool) -> Result<(), String> {
    let filter = GrantFilter {
        ids: vec![parse_id(id)?],
        ..GrantFilter::default()
    };
    let grants = admin.list(&filter).await.map_err(|error| error.to_string())?;
    let grant = grants.first().ok_or_else(|| unknown(id))?;
    if as_json {
        return print_json(&to_json(grant));
    }
    let data = &grant.data;
    let mut rows = [
        ("grant", show_id(grant.id)),
        ("user", cell(&data.who.subject)),
        ("shown as", cell(data.who.display_name())),
        ("service", data.service.clone()),
        ("client", cell(grant.client_name.as_deref().unwrap_or("without a name"))),
        ("client id", data.client_id.clone()),
        ("scopes", cell(&data.scopes.to_string())),
        ("upstream issuer", data.issuer.clone().unwrap_or_else(|| "none".to_owned())),
        ("since", data.granted_at.to_date()),
        ("last used", day(grant.last_used())),
        ("refreshed", format!("{} times", data.generation() - 1)),
        ("ends", data.refresh_ends().to_date()),
        ("two holders since", day(grant.parallel().map(|parallel| parallel.since))),
    ]
    .map(|(name, value)| [name.to_owned(), value])
    .to_vec();
    rows.extend(grant.branches().into_iter().map(|(number, branch, is_abandoned)| {
        let state = if is_abandoned { ", abandoned" } else { "" };
        let (issued, used) = (branch.issued.to_date(), day(branch.used));
        [format!("branch {number}"), format!("issued {issued}, first used {used}{state}")]
    }));
    table::print(&rows)
}

async fn end(admin: &GrantAdmin, filter: &GrantFilter, as_json: bool) -> Result<(), String> {
    let grants = admin.list(filter).await.map_err(|error| error.to_string())?;
    if let Some(missing) = filter.ids.iter().find(|id| grants.iter().all(|grant| grant.id != **id)) {
        return Err(unknown(&show_id(*missing)));
    }
    let mut ended = Vec::new();
    for grant in &grants {
        let has_ended = admin.end(grant.id).await.map_err(|error| {
            format!(
                "{error}\n  {} of {} grants are ended; run the command again",
                ended.len(),
                grants.len()
            )
        })?;
        if has_ended {
            ended.push(show_id(grant.id));
        }
    }
    if as_json {
        return print_json(&json!({ "ended": ended }));
    }
    for id in &ended {
        print_stdout(&format!("{id}\n"))?;
    }
    print_stderr(format_args!(
        "{} ended; a gateway that runs refuses their tokens within two seconds",
        match ended.len() {
            1 => "1 grant is".to_owned(),
            count => format!("{count} grants are"),
        }
    ));
    Ok(())
}

/// A grant for scripts. Times are seconds since 1970.
fn to_json(grant: &GrantSummary) -> Value {
    let data = &grant.data;
    let branches = grant.branches().into_iter().map(|(number, branch, is_abandoned)| {
        json!({ "branch": number, "created": branch.issued, "last_used": branch.used, "abandoned": is_abandoned })
    });
    json!({
        "id": show_id(grant.id),
        "user": data.who.subject,
        "email": data.who.identity.as_ref().and_then(|identity| identity.email.clone()),
        "client_id": data.client_id,
        "client_name": grant.client_name,
        "service": data.service,
        "scopes": data.scopes.list(),
        "upstream_issuer": data.issuer,
        "created": data.granted_at,
        "last_used": grant.last_used(),
        "expires": data.refresh_ends(),
        "generation": data.generation(),
        "parallel": grant.parallel().is_some(),
        "parallel_since": grant.parallel().map(|parallel| parallel.since),
        "branches": branches.collect::<Vec<_>>(),
    })
}

/// Prints a JSON value on one line.
///
/// # Errors
/// If standard output cannot be written.
pub(super) fn print_json(value: &Value) -> Result<(), String> {
    print_stdout(&format!("{value}\n"))
}
