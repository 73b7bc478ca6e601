//! Reads what the operator said: the flags, or the configuration file that they name, with the files that it names.

use std::path::{Path, PathBuf};

use crate::cli::data;
use crate::config::checked::{self, Checked};
use crate::config::file::{self, Contents, Outside};
use crate::config::flags::{Serve, StoreKind};
use crate::config::given;
use crate::config::kept::Where;
use crate::config::said::Place;
use crate::service::Access;

/// Reads and checks it. `--data-dir` and `--log` win over the file.
pub fn load(flags: &Serve) -> Result<Checked, String> {
    let Some(path) = &flags.config else {
        let at = Place::Flag("--upstream-rs");
        return checked::check(given::spoken(flags), &at, data::home()).map_err(|why| why.to_string());
    };
    given::beside_a_file(flags).map_err(|why| why.to_string())?;
    let mut checked = described(path, flags.data_dir.as_ref())?;
    if let Some(log) = &flags.log {
        checked.log.clone_from(log);
    }
    Ok(checked)
}

/// Where a gateway keeps its keys and records, for whoever keeps house beside it.
#[derive(Debug)]
pub struct Kept {
    /// The data directory.
    pub data_dir: PathBuf,
    /// The key file.
    pub key_file: PathBuf,
    /// The store.
    pub store: StoreKind,
    /// The services and what their callers present, if there is a file that says it.
    pub services: Option<Vec<(String, Access)>>,
}

/// What the configuration file says of it, or the flags where there is none.
pub fn kept(config: Option<&Path>, data_dir: Option<PathBuf>, store: Option<StoreKind>) -> Result<Kept, String> {
    if let Some(path) = config {
        if store.is_some() {
            let what = "--store: it cannot be given beside --config, nor can MCP_GATEWAY_STORE\n  put `kind` into the file, at [store]";
            return Err(what.to_owned());
        }
        let checked = described(path, data_dir.as_ref())?;
        let services = checked.described.iter().map(|one| (one.service.name.clone(), one.service.access));
        return Ok(Kept {
            services: Some(services.collect()),
            key_file: key_file(&checked),
            data_dir: checked.data_dir,
            store: match checked.store {
                Where::Memory => StoreKind::Memory,
                Where::Sqlite => StoreKind::Sqlite,
                Where::Redis(_) => StoreKind::Redis,
                Where::Nothing => StoreKind::None,
            },
        });
    }
    let data_dir = data_dir
        .or_else(data::home)
        .ok_or("there is no home directory to keep data in; say where with --data-dir DIR")?;
    Ok(Kept {
        key_file: data_dir.join(data::KEYS),
        data_dir,
        store: store.unwrap_or(StoreKind::Sqlite),
        services: None,
    })
}

/// The key file of a gateway.
pub fn key_file(checked: &Checked) -> PathBuf {
    checked.key_file.clone().unwrap_or_else(|| checked.data_dir.join(data::KEYS))
}

/// Reads and checks the configuration file at `path`; `data_dir` wins over what it says.
pub fn described(path: &Path, data_dir: Option<&PathBuf>) -> Result<Checked, String> {
    let name = path.display().to_string();
    let Contents { text, open_to_others } =
        contents(path).map_err(|why| format!("--config: {name} cannot be read: {why}\n  name a file that the gateway may read"))?;
    let outside = Outside {
        variable: &|name| std::env::var(name).ok(),
        file: &contents,
    };
    let at = Place::Line {
        file: name.as_str().into(),
        line: 1,
        key: String::new(),
    };
    let mut spoken = file::read(&name, &text, outside).map_err(|why| why.to_string())?;
    if let Some(at) = spoken.written_out.as_ref().filter(|_| open_to_others) {
        let warning = format!("{at}: a secret is written here, and everybody on this machine may read {name}; run: chmod 600 {name}");
        spoken.warnings.push(warning);
    }
    let home = data_dir.cloned().or_else(data::home);
    let mut checked = checked::check(spoken, &at, home).map_err(|why| why.to_string())?;
    if let Some(dir) = data_dir.filter(|_| checked.store != Where::Nothing) {
        checked.data_dir.clone_from(dir);
    }
    Ok(checked)
}

fn contents(path: &Path) -> Result<Contents, String> {
    let text = std::fs::read_to_string(path).map_err(|why| why.to_string())?;
    #[cfg(unix)]
    let open_to_others = {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::metadata(path).is_ok_and(|about| about.permissions().mode() & 0o004 != 0)
    };
    #[cfg(not(unix))]
    let open_to_others = false;
    Ok(Contents { text, open_to_others })
}
