//! `store export` and `store import`: everything that a gateway has kept, as it lies sealed.

use std::fs::File;
use std::io::{self, BufRead, BufWriter, IsTerminal as _};
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, Runtime};

use crate::base::time::Clock;
use crate::cli::{data, serve, source};
use crate::config::flags::{Kept, Move};
use crate::config::given;
use crate::config::kept::{self, Where};
use crate::store::{Export, Keys, NotMoved, SQLITE_FILE};

/// Where records are kept, and the keys that seal them.
struct At {
    place: Where,
    dir: PathBuf,
    keys: Keys,
}

/// Does what the command line says.
pub fn run(action: &Move) -> Result<(), String> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|why| why.to_string())?;
    match action {
        Move::Export { kept } => export(&runtime, &at(kept)?),
        Move::Import { .. } if io::stdin().is_terminal() => {
            Err("an export is read from standard input\n  run: mcp-oauth-gateway store import < FILE".to_owned())
        }
        Move::Import { kept } => import(&runtime, &at(kept)?, io::stdin().lock()),
    }
}

/// Looks where the operator says. No key is made: a ring of the command line's own would open nothing.
fn at(flags: &Kept) -> Result<At, String> {
    let (place, dir, key_file) = if let Some(path) = &flags.config {
        let checked = source::described(path, flags.data_dir.as_ref())?;
        checked.services().map_err(|why| why.to_string())?;
        (checked.store, checked.data_dir, checked.key_file)
    } else {
        let (mut unbuilt, dir) = (Vec::new(), flags.data_dir.clone().or_else(data::home));
        let place = kept::read(&given::kept(flags), &mut unbuilt).map_err(|why| why.to_string())?;
        let dir = dir.ok_or("there is no home directory to keep data in; say where with --data-dir DIR")?;
        (place, dir, flags.key_file.clone())
    };
    if place == Where::Memory {
        return Err("--store: a store in memory is gone with its gateway, and cannot be moved\n  use --store sqlite or redis".to_owned());
    }
    if place == Where::Nothing {
        return Err("--store: with store = none nothing is kept, and there is nothing to move\n  use --store sqlite or redis".to_owned());
    }
    let key_file = key_file.unwrap_or_else(|| dir.join(data::KEYS));
    if std::env::var_os("MCP_GATEWAY_KEY").is_none() && !key_file.is_file() {
        return Err(format!(
            "the keys that seal the records are not there: {}\n  copy keys.json of the gateway that wrote them, name it with --key-file, or set its MCP_GATEWAY_KEY",
            key_file.display()
        ));
    }
    let keys = Arc::new(ArcSwap::from_pointee(data::keys(&key_file, Clock::System.now())?));
    Ok(At { place, dir, keys })
}

fn export(runtime: &Runtime, at: &At) -> Result<(), String> {
    let mut held = None;
    if at.place == Where::Sqlite {
        if !at.dir.join(SQLITE_FILE).is_file() {
            return Err(format!("--data-dir: no gateway has kept its records in {}", at.dir.display()));
        }
        held = data::take(&at.dir).ok();
    }
    let store = serve::opened(&at.place, &at.dir, &at.keys, &Clock::System)?;
    let mut to = BufWriter::new(io::stdout().lock());
    let records = runtime.block_on(store.export(&mut to)).map_err(|why| failed(&why))?;
    eprintln!("{records} records were exported, sealed as they lie; they open only with the keys of this gateway");
    match (&at.place, held) {
        (Where::Sqlite, Some(lock)) => drop::<File>(lock),
        (Where::Sqlite, None) => eprintln!("a gateway was using {}: what it wrote meanwhile may be missing", at.dir.display()),
        (Where::Redis(_), _) => eprintln!("what a gateway that runs wrote meanwhile may be missing"),
        (Where::Memory | Where::Nothing, _) => {}
    }
    Ok(())
}

fn import(runtime: &Runtime, at: &At, from: impl BufRead) -> Result<(), String> {
    // Before anything is made: an empty Redis would be marked with the wrong keys.
    let export = Export::open(from, &at.keys.load()).map_err(|why| failed(&why))?;
    let mut _held = None;
    if at.place == Where::Sqlite {
        data::prepare(&at.dir)?;
        _held = Some(data::take(&at.dir)?);
    }
    let store = serve::opened(&at.place, &at.dir, &at.keys, &Clock::System)?;
    let done = runtime.block_on(store.import(export)).map_err(|why| failed(&why))?;
    eprintln!(
        "{} records were moved; {} were there already and stay as they are; {} had expired",
        done.moved, done.already_there, done.expired
    );
    match done.foreign {
        0 => Ok(()),
        foreign => Err(format!(
            "{foreign} records were left out: they do not open with these keys\n  use the whole key ring of the gateway that wrote them, and import again: nothing is moved twice"
        )),
    }
}

fn failed(why: &NotMoved) -> String {
    let instead = match why {
        NotMoved::NotAnExport => "give it what `store export` wrote, whole",
        NotMoved::Newer(_) => "use the program that wrote it, or a newer one; nothing was moved",
        NotMoved::OtherKeys => {
            "use the key ring of the gateway that it is from: copy its keys.json, or set its MCP_GATEWAY_KEY; nothing was moved"
        }
        NotMoved::Broken(_) | NotMoved::CutOff(_) => "export again, and import that: nothing is moved twice",
        NotMoved::Io(_) | NotMoved::Store(_) => return why.to_string(),
    };
    format!("{why}\n  {instead}")
}
