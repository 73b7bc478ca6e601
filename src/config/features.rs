//! What can be said, and is checked, but that no part of this build honours yet: serving is refused then. Whoever builds
//! one takes its line out here, and hands the checked value to where it belongs.

use crate::config::section::Section;
use crate::config::service::{ConfiguredTokenMode, Described};
use crate::config::spanned::{ConfigError, Spanned};

/// The store, if this build is without it.
pub fn check_store(kind: &Spanned<&'static str>, is_built: bool) -> Option<ConfigError> {
    let what = format!(
        "kind = \"{}\" is not in this build: its binary is made with --features {}",
        kind.value, kind.value
    );
    (!is_built).then(|| kind.wrong(what, "use kind = \"sqlite\""))
}

/// What of a service cannot be honoured.
pub fn check_service(section: &Section, described: &Described) -> Vec<ConfigError> {
    let mut found = Vec::new();
    match described.tokens {
        ConfiguredTokenMode::Sealed | ConfiguredTokenMode::Plain | ConfiguredTokenMode::Reference | ConfiguredTokenMode::Jwt => {}
        ConfiguredTokenMode::Raw if cfg!(feature = "raw") => {}
        ConfiguredTokenMode::Raw => {
            let what = "token_mode = \"raw\" is not in this build: its binary is made with --features raw";
            found.push(section.location("token_mode").wrong(what, "use token_mode = \"sealed\""));
        }
    }
    found
}
