//! What can be said, and is checked, but that no part of this build honours yet: serving is refused then. Whoever builds
//! one takes its line out here, and hands the checked value to where it belongs.

use crate::config::said::Wrong;
use crate::config::section::Section;
use crate::config::service::{Described, Tokens};

/// What of a service cannot be honoured.
pub fn of_service(section: &Section, described: &Described) -> Vec<Wrong> {
    let choice = |key: &str, value: &str, instead: &str| {
        let what = format!("{key} = \"{value}\" is not in this build yet");
        section.place(key).wrong(what, instead)
    };
    let mut found = Vec::new();
    match described.tokens {
        Tokens::Sealed | Tokens::Plain | Tokens::Reference => {}
        Tokens::Jwt => found.push(choice("token_mode", "jwt", "use token_mode = \"sealed\"")),
        Tokens::Raw => found.push(choice("token_mode", "raw", "use token_mode = \"sealed\"")),
    }
    if described.assertion {
        found.push(key(section, "assertion"));
    }
    found
}

/// One key that nobody honours.
pub fn key(section: &Section, name: &str) -> Wrong {
    section.place(name).wrong("this is not in this build yet", "take it out")
}
