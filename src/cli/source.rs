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
    let mut checked = file(path, flags.data_dir.as_deref())?;
    if let Some(log) = &flags.log {
        checked.log.clone_from(log);
    }
    Ok(checked)
}

/// Reads and checks the configuration file at `path`; `data_dir` wins over what it says.
pub fn file(path: &Path, data_dir: Option<&Path>) -> Result<Checked, String> {
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
    let home = data_dir.map(Path::to_owned).or_else(data::home);
    let mut checked = checked::check(spoken, &at, home).map_err(|why| why.to_string())?;
    if let Some(dir) = data_dir {
        dir.clone_into(&mut checked.data_dir);
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
