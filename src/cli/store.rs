//! `store export` and `store import`: moves all records of a store, sealed as they are.

use std::fs::File;
use std::io::{self, BufRead, BufWriter, IsTerminal as _};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::runtime::Builder;

use crate::base::time::Clock;
use crate::cli::data_dir;
use crate::cli::print_stderr;
use crate::cli::storage::Storage;
use crate::config::flags::StoreCommand;
use crate::config::store::StoreConfig;
use crate::store::{Export, SharedKeyRing, TransferError};

/// Runs `store`. An error is a text for the operator.
pub fn run(action: &StoreCommand, at: &Storage) -> Result<(), String> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|why| why.to_string())?;
    if at.store == StoreConfig::Memory {
        let instead = "use a store of another kind, such as sqlite";
        let wrong = at
            .store_at()
            .wrong("a store in memory is gone with its app, and cannot be moved", instead);
        return Err(wrong.to_string());
    }
    if at.store.is_stateless() {
        return Err(at.stateless_error());
    }
    match action {
        StoreCommand::Export => runtime.block_on(export(at)),
        StoreCommand::Import if io::stdin().is_terminal() => {
            Err("an export is read from standard input\n  run: mcp-oauth-gateway store import < FILE".to_owned())
        }
        StoreCommand::Import => runtime.block_on(import(at, io::stdin().lock())),
    }
}

/// The keys that sealed the records. None are created, because new keys would open no record.
fn keys(at: &Storage) -> Result<SharedKeyRing, String> {
    let ring = at.load_keys()?.ok_or_else(|| {
        let what = format!("the keys that seal the records are not there: {}", at.key_file().display());
        let instead = "copy keys.json of the gateway that wrote them, name it with --key-file, or set its MCP_GATEWAY_KEY";
        at.keys_at().wrong(what, instead).to_string()
    })?;
    Ok(Arc::new(ArcSwap::from_pointee(ring)))
}

async fn export(at: &Storage) -> Result<(), String> {
    let (store, _) = at.open_existing(&Clock::System)?;
    // An export whose header is sealed with other keys than its records could never be imported.
    at.check_keys(&store).await?;
    let held = match at.store {
        StoreConfig::Sqlite => data_dir::lock(&at.data_dir, at.store_at()).ok(),
        StoreConfig::Memory | StoreConfig::Redis(_) | StoreConfig::Vault(_) | StoreConfig::Stateless => None,
    };
    let mut to = BufWriter::new(io::stdout().lock());
    let records = store.export(&mut to).await.map_err(|why| transfer_error(&why))?;
    print_stderr(format_args!(
        "{records} records were exported, sealed as they lie; they open only with the keys of this gateway"
    ));
    match (&at.store, held) {
        (StoreConfig::Sqlite, Some(lock)) => drop::<File>(lock),
        (StoreConfig::Sqlite, None) => print_stderr(format_args!(
            "a gateway was using {}: what it wrote meanwhile may be missing",
            at.data_dir.display()
        )),
        (StoreConfig::Redis(_) | StoreConfig::Vault(_), _) => {
            print_stderr(format_args!("what a gateway that runs wrote meanwhile may be missing"));
        }
        (StoreConfig::Memory | StoreConfig::Stateless, _) => {}
    }
    Ok(())
}

async fn import(at: &Storage, from: impl BufRead) -> Result<(), String> {
    let keys = keys(at)?;
    // Before a store is created: an empty one would get the key check of the wrong keys.
    let export = Export::open(from, &keys.load()).map_err(|why| transfer_error(&why))?;
    let mut _held = None;
    if at.store == StoreConfig::Sqlite {
        data_dir::prepare(&at.data_dir, at.store_at())?;
        _held = Some(data_dir::lock(&at.data_dir, at.store_at())?);
    }
    let store = at.open(&keys, &Clock::System)?;
    at.ensure_key_check(&store).await?;
    let done = store.import(export).await.map_err(|why| transfer_error(&why))?;
    print_stderr(format_args!(
        "{} records were moved; {} were there already and stay as they are; {} had expired",
        done.moved, done.already_there, done.expired
    ));
    match done.foreign {
        0 => Ok(()),
        foreign => Err(format!(
            "{foreign} records were left out: they do not open with these keys\n  use the whole key ring of the gateway that wrote them, and import again: nothing is moved twice"
        )),
    }
}

fn transfer_error(why: &TransferError) -> String {
    let instead = match why {
        TransferError::NotAnExport => "give it what `store export` wrote, whole",
        TransferError::Newer(_) => "use the program that wrote it, or a newer one; nothing was moved",
        TransferError::OtherKeys => {
            "use the key ring of the gateway that it is from: copy its keys.json, or set its MCP_GATEWAY_KEY; nothing was moved"
        }
        TransferError::Broken(_) | TransferError::CutOff(_) => "export again, and import that: nothing is moved twice",
        TransferError::Io(_) | TransferError::Store(_) => return why.to_string(),
    };
    format!("{why}\n  {instead}")
}
