//! Reads what the operator said: the flags, or the configuration file that they name, with the files that it names.

use std::path::Path;

use crate::cli::data;
use crate::config::checked::{self, Checked};
use crate::config::file::{self, Contents, Outside};
use crate::config::flags::Serve;
use crate::config::given;
use crate::config::said::Place;

/// Reads and checks it. `--data-dir` and `--log` win over the file.
pub fn load(flags: &Serve) -> Result<Checked, String> {
    let Some(path) = &flags.config else {
        let at = Place::Flag("--upstream-rs");
        return checked::check(given::spoken(flags), &at, data::home()).map_err(|why| why.to_string());
    };
    given::beside_a_file(flags).map_err(|why| why.to_string())?;
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|why| format!("--config: {name} cannot be read: {why}\n  name a file that the gateway may read"))?;
    let outside = Outside {
        variable: &|name| std::env::var(name).ok(),
        file: &contents,
    };
    let at = Place::Line {
        file: name.as_str().into(),
        line: 1,
        key: String::new(),
    };
    let spoken = file::read(&name, &text, outside).map_err(|why| why.to_string())?;
    let home = flags.data_dir.clone().or_else(data::home);
    let mut checked = checked::check(spoken, &at, home).map_err(|why| why.to_string())?;
    if let Some(dir) = &flags.data_dir {
        checked.data_dir.clone_from(dir);
    }
    if let Some(log) = &flags.log {
        checked.log.clone_from(log);
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
