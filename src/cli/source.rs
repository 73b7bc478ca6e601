//! Reads what the operator said: the flags, or the configuration file that they name, with the files that it names.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::cli::data;
use crate::config::checked::{self, Checked};
use crate::config::file::{self, Contents, Outside};
use crate::config::flags::Serve;
use crate::config::given;
use crate::config::said::Place;
use crate::config::site;

/// Reads and checks it. `--data-dir` and `--log` win over the file.
pub fn load(flags: &Serve) -> Result<Checked, String> {
    let Some(path) = &flags.kept.config else {
        let at = Place::Flag("--upstream-rs");
        return checked::check(given::spoken(flags), &at, data::home()).map_err(|why| why.to_string());
    };
    given::beside_a_file(flags).map_err(|why| why.to_string())?;
    let mut checked = described(path, flags.kept.data_dir.as_ref())?;
    if let Some(log) = &flags.log {
        checked.log.clone_from(log);
    }
    if checked.users.is_some() {
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

/// Reads and checks the configuration file at `path`; `data_dir` wins over what it says.
pub fn described(path: &Path, data_dir: Option<&PathBuf>) -> Result<Checked, String> {
    let name = path.display().to_string();
    let Contents { text, open_to_others } = contents(path).map_err(|why| unreadable(&name, &why))?;
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
    if let Some(dir) = data_dir.filter(|_| !checked.store.keeps_nothing()) {
        checked.data_dir.clone_from(dir);
        checked.kept_at.data_dir = Place::Flag("--data-dir");
    }
    Ok(checked)
}

/// Where the gateway of this configuration file listens. Nothing else is judged, and no secret is read: a running gateway is
/// well although its file was changed since, or names what only its user may read.
pub fn listens(path: &Path) -> Result<Vec<SocketAddr>, String> {
    let (name, at) = (path.display().to_string(), Place::Flag("--config"));
    let text = std::fs::read_to_string(path).map_err(|why| unreadable(&name, &why.to_string()))?;
    let unread = |_: &Path| {
        Ok(Contents {
            text: "unread".to_owned(),
            open_to_others: false,
        })
    };
    let outside = Outside {
        variable: &|name| Some(std::env::var(name).unwrap_or_default()),
        file: &unread,
    };
    let listens = file::read(&name, &text, outside).and_then(|mut spoken| site::listens(&spoken.only("", &at).texts("listen")?));
    listens.map_err(|why| why.to_string())
}

fn unreadable(name: &str, why: &str) -> String {
    format!("--config: {name} cannot be read: {why}\n  name a file that the gateway may read")
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
