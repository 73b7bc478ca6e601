//! The configuration file and the data directory of a command.

use std::path::PathBuf;

use crate::cli::bridge::failure::Failure;
use crate::cli::{config_file, load_config};
use crate::config::bridge_flags::CommonFlags;
use crate::config::flags::Serve;
use crate::config::storage_flags::StorageFlags;
use crate::config::store::StoreConfig;
use crate::config::validate::Validated;

/// The files of a command, and the form of its output.
#[derive(Clone, Debug)]
pub struct CommandContext {
    /// The configuration file, which may not exist.
    pub config: PathBuf,
    /// The data directory, if a flag names one.
    pub data_dir: Option<PathBuf>,
    /// Whether the output is JSON.
    pub json: bool,
}

impl CommandContext {
    /// The files that the flags name, or the default files.
    ///
    /// # Errors
    /// If no flag names a file, and there is no home directory.
    pub fn from_flags(flags: &CommonFlags) -> Result<Self, Failure> {
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

    /// Checks a text that is not yet in the configuration file, as [`CommandContext::load`] does.
    ///
    /// # Errors
    /// If the text is wrong, or its store belongs to one process.
    pub fn load_text(&self, text: &str) -> Result<Validated, Failure> {
        let validated = load_config::load_text(&self.config, text, self.data_dir.as_ref())?;
        validated.check_features().map_err(|error| error.to_string())?;
        let kind = match validated.start.store {
            StoreConfig::Sqlite | StoreConfig::Redis(_) | StoreConfig::Vault(_) => return Ok(validated),
            StoreConfig::Memory => "memory",
            StoreConfig::Stateless => "none",
        };
        let what = format!("with store = {kind}, a credential that a command stores would be lost when the command ends");
        let instead = "use [store] kind = \"sqlite\", which is the default";
        Err(Failure::Act(validated.locations.storage.store.wrong(what, instead).to_string()))
    }
}

/// Applies `--config-dir`. If no flag names a file or the storage, adds the default configuration file,
/// where it exists.
#[must_use]
pub fn add_default_file(mut flags: StorageFlags) -> StorageFlags {
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

/// As [`add_default_file`], for the flags of `serve` and `check`.
#[must_use]
pub fn add_default_file_to_serve(mut flags: Serve) -> Serve {
    if flags.upstream_rs.is_none() {
        flags.storage = add_default_file(flags.storage);
    } else if let Some(dir) = flags.storage.config_dir.take() {
        flags.storage.data_dir.get_or_insert(dir);
    }
    flags
}
