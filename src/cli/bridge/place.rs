//! Where the configuration file and the data of the commands are.

use std::path::PathBuf;

use crate::cli::bridge::failure::Failure;
use crate::cli::{config_file, load_config};
use crate::config::bridge_flags::PlaceFlags;
use crate::config::flags::Serve;
use crate::config::storage_flags::StorageFlags;
use crate::config::store::StoreConfig;
use crate::config::validate::Validated;

/// Where the configuration file and the data are.
#[derive(Clone, Debug)]
pub struct Place {
    /// The configuration file, which may not exist.
    pub config: PathBuf,
    /// The data directory, if a flag names one.
    pub data_dir: Option<PathBuf>,
    /// Whether the output is JSON.
    pub json: bool,
}

impl Place {
    /// The place that the flags name, or the default one.
    ///
    /// # Errors
    /// If no flag names a file, and there is no home directory.
    pub fn of(flags: &PlaceFlags) -> Result<Self, Failure> {
        let in_dir = flags.config_dir.as_ref().map(|dir| dir.join(config_file::FILE_NAME));
        let config = flags.config.clone().or(in_dir).or_else(config_file::default_path);
        let no_home = || "there is no home directory with a configuration file; name the file with --config FILE".to_owned();
        Ok(Self {
            config: config.ok_or_else(no_home)?,
            data_dir: flags.data_dir.clone().or_else(|| flags.config_dir.clone()),
            json: flags.json,
        })
    }

    /// Reads and checks the configuration file, which must have a store that other processes share.
    ///
    /// # Errors
    /// If there is no file, it is wrong, or its store belongs to one process.
    pub fn load(&self) -> Result<Validated, Failure> {
        let text = self.text()?;
        self.load_text(&text)
    }

    /// The text of the configuration file.
    ///
    /// # Errors
    /// If there is no file.
    pub fn text(&self) -> Result<String, Failure> {
        if !self.config.exists() {
            let shown = self.config.display();
            return Err(Failure::Act(format!(
                "there is no configuration file at {shown}\n  run: mcp-oauth-gateway init"
            )));
        }
        config_file::read(&self.config).map_err(Failure::Broken)
    }

    /// As [`Place::load`], with a text that the file does not have yet.
    ///
    /// # Errors
    /// As [`Place::load`].
    pub fn load_text(&self, text: &str) -> Result<Validated, Failure> {
        let validated = load_config::load_text(&self.config, text, self.data_dir.as_ref())?;
        validated.check_features().map_err(|error| error.to_string())?;
        let kind = match validated.start.store {
            StoreConfig::Sqlite | StoreConfig::Redis(_) | StoreConfig::Vault(_) => return Ok(validated),
            StoreConfig::Memory => "memory",
            StoreConfig::Stateless => "none",
        };
        let what = format!("with store = {kind}, a credential that a command stores would be lost at once");
        let instead = "use [store] kind = \"sqlite\", which is the default";
        Err(Failure::Act(validated.locations.storage.store.wrong(what, instead).to_string()))
    }
}

/// Applies `--config-dir`. Without a flag that names a file or describes the gateway, the default file
/// is used, if there is one.
#[must_use]
pub fn with_default_file(mut flags: StorageFlags) -> StorageFlags {
    if let Some(dir) = flags.config_dir.take() {
        flags.config.get_or_insert_with(|| dir.join(config_file::FILE_NAME));
        flags.data_dir.get_or_insert(dir);
    }
    let names_storage = flags.store.is_some() || flags.redis_url.is_some() || flags.key_file.is_some() || flags.data_dir.is_some();
    if flags.config.is_none() && !names_storage {
        flags.config = config_file::default_path().filter(|path| path.is_file());
    }
    flags
}

/// As [`with_default_file`], for the flags of a gateway that serves or is checked.
#[must_use]
pub fn serve_flags(mut flags: Serve) -> Serve {
    if flags.upstream_rs.is_none() {
        flags.kept = with_default_file(flags.kept);
    } else if let Some(dir) = flags.kept.config_dir.take() {
        flags.kept.data_dir.get_or_insert(dir);
    }
    flags
}
