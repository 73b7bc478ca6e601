//! `store export` and `store import`: moves all records of a store, sealed as they are.

use std::fs::File;
use std::io::{self, BufRead, BufWriter, IsTerminal as _};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::runtime::Builder;

use crate::base::time::Clock;
use crate::cli::data_dir;
use crate::cli::storage::Storage;
use crate::cli::terminal::print_stderr;
use crate::config::flags::StoreCommand;
use crate::config::store::StoreConfig;
use crate::store::{Export, SharedKeyRing, TransferError};

/// Runs `store`. An error is a text for the operator.
pub fn run(action: &StoreCommand, storage: &Storage) -> Result<(), String> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    if storage.store == StoreConfig::Memory {
        let instead = "use a store of another kind, such as sqlite";
        let error = storage
            .store_at()
            .wrong("a store in memory is gone with its gateway, and cannot be moved", instead);
        return Err(error.to_string());
    }
    if storage.store.is_stateless() {
        return Err(storage.stateless_error());
    }
    match action {
        StoreCommand::Export => runtime.block_on(export(storage)),
        StoreCommand::Import if io::stdin().is_terminal() => {
            Err("an export is read from standard input\n  run: mcp-oauth-gateway store import < FILE".to_owned())
        }
        StoreCommand::Import => runtime.block_on(import(storage, io::stdin().lock())),
    }
}

/// The keys that sealed the records. None are created, because new keys would open no record.
fn keys(storage: &Storage) -> Result<SharedKeyRing, String> {
    let ring = storage.load_keys()?.ok_or_else(|| {
        let what = format!("the keys that seal the records are not there: {}", storage.key_file().display());
        let instead = "copy keys.json of the gateway that wrote them, name it with --key-file, or set its MCP_GATEWAY_KEY";
        storage.keys_at().wrong(what, instead).to_string()
    })?;
    Ok(Arc::new(ArcSwap::from_pointee(ring)))
}

async fn export(storage: &Storage) -> Result<(), String> {
    let (store, _) = storage.open_existing(&Clock::System)?;
    // An export whose header is sealed with other keys than its records could never be imported.
    storage.check_keys(&store).await?;
    let lock = match storage.store {
        StoreConfig::Sqlite => data_dir::lock(&storage.data_dir, storage.store_at()).ok(),
        StoreConfig::Memory | StoreConfig::Redis(_) | StoreConfig::Vault(_) | StoreConfig::Stateless => None,
    };
    let mut output = BufWriter::new(io::stdout().lock());
    let records = store.export(&mut output).await.map_err(|error| transfer_error(&error))?;
    print_stderr(format_args!(
        "{records} records were exported, sealed as they lie; they open only with the keys of this gateway"
    ));
    match (&storage.store, lock) {
        (StoreConfig::Sqlite, Some(lock)) => drop::<File>(lock),
        (StoreConfig::Sqlite, None) => print_stderr(format_args!(
            "a gateway was using {}: what it wrote meanwhile may be missing",
            storage.data_dir.display()
        )),
        (StoreConfig::Redis(_) | StoreConfig::Vault(_), _) => {
            print_stderr(format_args!("what a gateway that runs wrote meanwhile may be missing"));
        }
        (StoreConfig::Memory | StoreConfig::Stateless, _) => {}
    }
    Ok(())
}

async fn import(storage: &Storage, input: impl BufRead) -> Result<(), String> {
    let keys = keys(storage)?;
    // Before a store is created: an empty one would get the key check of the wrong keys.
    let export = Export::open(input, &keys.load()).map_err(|error| transfer_error(&error))?;
    let mut _lock = None;
    if storage.store == StoreConfig::Sqlite {
        data_dir::prepare(&storage.data_dir, storage.store_at())?;
        _lock = Some(data_dir::lock(&storage.data_dir, storage.store_at())?);
    }
    let store = storage.open(&keys, &Clock::System)?;
    storage.ensure_key_check(&store).await?;
    let summary = store.import(export).await.map_err(|error| transfer_error(&error))?;
    print_stderr(format_args!(
        "{} records were moved; {} were there already and stay as they are; {} had expired",
        summary.moved, summary.already_there, summary.expired
    ));
    match summary.foreign {
        0 => Ok(()),
        foreign => Err(format!(
            "{foreign} records were left out: they do not open with these keys\n  use the whole key ring of the gateway that wrote them, and import again: nothing is moved twice"
        )),
    }
}

fn transfer_error(error: &TransferError) -> String {
    let instead = match error {
        TransferError::NotAnExport => "give it what `store export` wrote, whole",
        TransferError::Newer(_) => "use the program that wrote it, or a newer one; nothing was moved",
        TransferError::OtherKeys => {
            "use the key ring of the gateway that it is from: copy its keys.json, or set its MCP_GATEWAY_KEY; nothing was moved"
        }
        TransferError::Broken(_) | TransferError::CutOff(_) => "export again, and import that: nothing is moved twice",
        TransferError::Io(_) | TransferError::Store(_) => return error.to_string(),
    };
    format!("{error}\n  {instead}")
}
