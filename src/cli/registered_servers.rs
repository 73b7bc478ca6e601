//! `servers add` and `servers remove`: registers and removes servers as the management API does. A
//! running gateway finds the change in the store.

use std::convert::Infallible;
use std::io::Write as _;

use serde_json::json;

use crate::app::servers::admin::{ServerInput, new_server};
use crate::base::ids::Id;
use crate::base::time::Clock;
use crate::cli::storage::Storage;
use crate::cli::terminal::print_stderr;
use crate::config::server_flags::NewServer;
use crate::flow::resource_server::{RegisteredServer, ServerRecord, parse_service_name, service_name};
use crate::store::{Handle, Store, TransitionError};

/// The number of records in one page of a scan.
const PAGE_SIZE: usize = 500;

/// Opens the store of an existing gateway, which may be running.
///
/// # Errors
/// With a text for the operator.
pub(super) async fn open(storage: &Storage) -> Result<Store, String> {
    let (store, _) = storage.open_existing(&Clock::System)?;
    storage.check_keys(&store).await?;
    Ok(store)
}

/// Registers a server, and prints its id.
///
/// # Errors
/// With a text for the operator.
pub(super) async fn add(store: &Store, flags: NewServer) -> Result<(), String> {
    let input = ServerInput {
        server_url: Some(flags.url),
        server_name: Some(flags.name),
        description: flags.description,
        scopes: Some(flags.scopes),
        token_mode: flags.opaque.then(|| "opaque".to_owned()),
        ..ServerInput::default()
    };
    let owner = flags.owner.unwrap_or_else(|| "operator".to_owned());
    let info = new_server(owner, input, Clock::System.now()).map_err(|error| error.to_string())?;
    let id = Id::random();
    store
        .insert(id, RegisteredServer::new(info))
        .await
        .map_err(|error| error.to_string())?;
    let name = service_name(id);
    let line = if flags.json {
        json!({ "server_id": name }).to_string()
    } else {
        name.clone()
    };
    writeln!(std::io::stdout(), "{line}").map_err(|error| error.to_string())?;
    print_stderr(format_args!(
        "Users sign in at the issuer <public_url>/mcp/{name}. Create its key with: mcp-oauth-gateway servers keys add {name}"
    ));
    Ok(())
}

/// Removes a server: its keys and tokens are then refused.
///
/// # Errors
/// With a text for the operator.
pub(super) async fn remove(store: &Store, name: &str) -> Result<(), String> {
    let unknown = || {
        let name = name.escape_default();
        format!(
            "there is no registered server '{name}'\n  `servers list` names them; a server of the configuration file is removed in that file"
        )
    };
    let handle = Handle::<ServerRecord>::new(parse_service_name(name).ok_or_else(unknown)?);
    let now = Clock::System.now();
    let step = |server: RegisteredServer| Ok::<_, Infallible>((server.removed(now), ()));
    match store.transition(&handle, step).await {
        Ok(_) => print_stderr(format_args!(
            "{name} is removed: its keys and tokens are refused within two seconds"
        )),
        Err(TransitionError::NotFound | TransitionError::WrongState) => return Err(unknown()),
        Err(TransitionError::Store(error)) => return Err(error.to_string()),
        Err(TransitionError::Rejected(never)) => match never {},
    }
    Ok(())
}

/// The registered servers, the oldest first.
///
/// # Errors
/// With a text for the operator.
pub(super) async fn all(store: &Store) -> Result<Vec<(Id, RegisteredServer)>, String> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.scan::<ServerRecord>(cursor, PAGE_SIZE).await;
        let (page, next) = page.map_err(|error| error.to_string())?;
        let servers = page
            .into_iter()
            .filter_map(|(handle, record)| Some((handle.id(), record.registered()?)));
        all.extend(servers);
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    all.sort_by_key(|(id, server)| (server.info().created, *id));
    Ok(all)
}
