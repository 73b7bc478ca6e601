//! Loads the configuration: the flags, or a configuration file and the files that it names.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::cli::{arguments, data_dir};
use crate::config::document::{self, Environment, FileContents};
use crate::config::flags::Serve;
use crate::config::spanned::Location;
use crate::config::validate::{self, Validated};
use crate::config::{from_flags, keys, listen};

/// Reads and checks the configuration. `--data-dir` and `--log` take precedence over the file.
pub fn load(flags: &Serve) -> Result<Validated, String> {
    let Some(path) = &flags.storage.config else {
        let location = Location::Flag("--upstream-rs");
        return validate::validate(from_flags::document(flags), &location, data_dir::default_dir()).map_err(|error| error.to_string());
    };
    from_flags::check_conflicts(flags).map_err(|error| error.to_string())?;
    let mut validated = load_file(path, flags.storage.data_dir.as_ref())?;
    if let Some(log) = &flags.log {
        validated.start.log.clone_from(log);
    }
    if !validated.creates_user {
        let password = arguments::is_set("MCP_GATEWAY_PASSWORD").then_some("MCP_GATEWAY_PASSWORD");
        for setting in flags
            .username
            .as_ref()
            .map(|_| "--username (or MCP_GATEWAY_USERNAME)")
            .into_iter()
            .chain(password)
        {
            let warning =
                format!("{setting}: it has no effect beside the users of the file\n  take it out, or `users` at [login.password]");
            validated.warnings.push(warning);
        }
    }
    Ok(validated)
}

/// Reads and checks the configuration file at `path`. `data_dir` takes precedence over the file.
pub fn load_file(path: &Path, data_dir: Option<&PathBuf>) -> Result<Validated, String> {
    let contents = contents(path).map_err(|error| unreadable(&path.display().to_string(), &error))?;
    load_contents(path, &contents, data_dir)
}

/// As [`load_file`], with a text that the file does not have yet.
pub fn load_text(path: &Path, text: &str, data_dir: Option<&PathBuf>) -> Result<Validated, String> {
    let contents = FileContents {
        text: text.to_owned(),
        open_to_others: false,
    };
    load_contents(path, &contents, data_dir)
}

fn load_contents(
    path: &Path,
    FileContents { text, open_to_others }: &FileContents,
    data_dir: Option<&PathBuf>,
) -> Result<Validated, String> {
    let name = path.display().to_string();
    let environment = Environment {
        variable: &|name| std::env::var(name).ok(),
        file: &contents,
    };
    let location = Location::Line {
        file: name.as_str().into(),
        line: 1,
        key: String::new(),
    };
    let mut document = document::read(&name, text, environment).map_err(|error| error.to_string())?;
    if let Some(location) = document.written_out.as_ref().filter(|_| *open_to_others) {
        let warning = format!("{location}: a secret is written here, and everybody on this machine may read {name}; run: chmod 600 {name}");
        document.warnings.push(warning);
    }
    let default_data_dir = data_dir.cloned().or_else(data_dir::default_dir);
    let mut validated = validate::validate(document, &location, default_data_dir).map_err(|error| error.to_string())?;
    if let Some(dir) = data_dir.filter(|_| !validated.start.store.is_stateless()) {
        validated.start.data_dir.clone_from(dir);
        validated.locations.storage.data_dir = Location::Flag("--data-dir");
    }
    Ok(validated)
}

/// The addresses in this configuration file. Secrets are not read, and nothing else is checked: a
/// gateway stays healthy if its file changes, or names files that only its own user may read.
pub fn listen_addresses(path: &Path) -> Result<Vec<SocketAddr>, String> {
    let (name, location) = (path.display().to_string(), Location::Flag("--config"));
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(&name, &error.to_string()))?;
    let placeholder = |_: &Path| {
        Ok(FileContents {
            text: "unread".to_owned(),
            open_to_others: false,
        })
    };
    let environment = Environment {
        variable: &|name| Some(std::env::var(name).unwrap_or_default()),
        file: &placeholder,
    };
    let addresses = document::read(&name, &text, environment)
        .and_then(|mut document| listen::listen_addresses(&document.only("", &location).get(&keys::top::LISTEN)?));
    addresses.map_err(|error| error.to_string())
}

fn unreadable(name: &str, error: &str) -> String {
    format!("--config: {name} cannot be read: {error}\n  name a file that the gateway may read")
}

fn contents(path: &Path) -> Result<FileContents, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    #[cfg(unix)]
    let open_to_others = {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
    };
    #[cfg(not(unix))]
    let open_to_others = false;
    Ok(FileContents { text, open_to_others })
}
