//! Loads the configuration: the flags, or a configuration file and the files that it names.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::cli::data_dir;
use crate::config::document::{self, Environment, FileContents};
use crate::config::flags::Serve;
use crate::config::from_flags;
use crate::config::keys;
use crate::config::listen;
use crate::config::spanned::Location;
use crate::config::validate::{self, Validated};

/// Reads and checks the configuration. `--data-dir` and `--log` take precedence over the file.
pub fn load(flags: &Serve) -> Result<Validated, String> {
    let Some(path) = &flags.kept.config else {
        let at = Location::Flag("--upstream-rs");
        return validate::validate(from_flags::document(flags), &at, data_dir::default_dir()).map_err(|why| why.to_string());
    };
    from_flags::check_conflicts(flags).map_err(|why| why.to_string())?;
    let mut checked = load_file(path, flags.kept.data_dir.as_ref())?;
    if let Some(log) = &flags.log {
        checked.start.log.clone_from(log);
    }
    if !checked.creates_user {
        let password = std::env::var_os("MCP_GATEWAY_PASSWORD").map(|_| "MCP_GATEWAY_PASSWORD");
        for given in flags
            .username
            .as_ref()
            .map(|_| "--username (or MCP_GATEWAY_USERNAME)")
            .into_iter()
            .chain(password)
        {
            let warning = format!("{given}: it has no effect beside the users of the file\n  take it out, or `users` at [login.password]");
            checked.warnings.push(warning);
        }
    }
    Ok(checked)
}

/// Reads and checks the configuration file at `path`. `data_dir` takes precedence over the file.
pub fn load_file(path: &Path, data_dir: Option<&PathBuf>) -> Result<Validated, String> {
    let name = path.display().to_string();
    let FileContents { text, open_to_others } = contents(path).map_err(|why| unreadable(&name, &why))?;
    let outside = Environment {
        variable: &|name| std::env::var(name).ok(),
        file: &contents,
    };
    let at = Location::Line {
        file: name.as_str().into(),
        line: 1,
        key: String::new(),
    };
    let mut spoken = document::read(&name, &text, outside).map_err(|why| why.to_string())?;
    if let Some(at) = spoken.written_out.as_ref().filter(|_| open_to_others) {
        let warning = format!("{at}: a secret is written here, and everybody on this machine may read {name}; run: chmod 600 {name}");
        spoken.warnings.push(warning);
    }
    let home = data_dir.cloned().or_else(data_dir::default_dir);
    let mut checked = validate::validate(spoken, &at, home).map_err(|why| why.to_string())?;
    if let Some(dir) = data_dir.filter(|_| !checked.start.store.is_stateless()) {
        checked.start.data_dir.clone_from(dir);
        checked.locations.storage.data_dir = Location::Flag("--data-dir");
    }
    Ok(checked)
}

/// The addresses in this configuration file. Secrets are not read, and nothing else is checked: a
/// gateway stays healthy if its file changes, or names files that only its own user may read.
pub fn listen_addresses(path: &Path) -> Result<Vec<SocketAddr>, String> {
    let (name, at) = (path.display().to_string(), Location::Flag("--config"));
    let text = std::fs::read_to_string(path).map_err(|why| unreadable(&name, &why.to_string()))?;
    let unread = |_: &Path| {
        Ok(FileContents {
            text: "unread".to_owned(),
            open_to_others: false,
        })
    };
    let outside = Environment {
        variable: &|name| Some(std::env::var(name).unwrap_or_default()),
        file: &unread,
    };
    let listens = document::read(&name, &text, outside)
        .and_then(|mut spoken| listen::listen_addresses(&spoken.only("", &at).get(&keys::top::LISTEN)?));
    listens.map_err(|why| why.to_string())
}

fn unreadable(name: &str, why: &str) -> String {
    format!("--config: {name} cannot be read: {why}\n  name a file that the gateway may read")
}

fn contents(path: &Path) -> Result<FileContents, String> {
    let text = std::fs::read_to_string(path).map_err(|why| why.to_string())?;
    #[cfg(unix)]
    let open_to_others = {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::metadata(path).is_ok_and(|about| about.permissions().mode() & 0o004 != 0)
    };
    #[cfg(not(unix))]
    let open_to_others = false;
    Ok(FileContents { text, open_to_others })
}
