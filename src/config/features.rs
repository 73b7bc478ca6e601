//! Valid settings that this build does not support. The gateway does not serve with them. To add
//! support for one, remove its check here and pass the checked value on.

use crate::config::keys::service as key;
use crate::config::section::Section;
use crate::config::service::{ConfiguredTokenMode, ParsedService};
use crate::config::spanned::{ConfigError, Spanned};

/// An error for a store that this build lacks.
pub fn check_store(kind: &Spanned<&'static str>, is_built: bool) -> Option<ConfigError> {
    let what = format!(
        "kind = \"{}\" is not in this build: its binary is made with --features {}",
        kind.value, kind.value
    );
    (!is_built).then(|| kind.wrong(what, "use kind = \"sqlite\""))
}

/// Errors for the settings of a service that this build does not support.
pub fn check_service(section: &Section, described: &ParsedService) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    match described.tokens {
        ConfiguredTokenMode::Sealed | ConfiguredTokenMode::Plain | ConfiguredTokenMode::Reference | ConfiguredTokenMode::Jwt => {}
        ConfiguredTokenMode::Raw if cfg!(feature = "raw") => {}
        ConfiguredTokenMode::Raw => {
            let what = "token_mode = \"raw\" is not in this build: its binary is made with --features raw";
            errors.push(section.location(&key::TOKEN_MODE).wrong(what, "use token_mode = \"sealed\""));
        }
    }
    errors
}
